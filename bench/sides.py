"""The two sides as programs: `python bench/sides.py reference|ours '{"corpus": …}'`."""
from __future__ import annotations
import json, sys
from pathlib import Path

def torchcodec_works() -> bool:
    "Whether `datasets` can decode audio here."
    try: import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError): return False
    return True

def reference(corpus: str, out: str, model: str, language: str, workers: int, decoder: str):
    "The usual recipe: `map` one example at a time through the extractor and the tokenizer, filter, `save_to_disk`."
    import io
    import datasets, soundfile, soxr, transformers
    from common import read_clips

    def clips():
        for name, audio, row in read_clips(Path(corpus), language):
            yield {"id": name, "sentence": row["sentence"], "audio": {"bytes": audio, "path": f"{name}.mp3"}}

    extractor = transformers.WhisperFeatureExtractor.from_pretrained(model)
    tokenizer = transformers.WhisperTokenizer.from_pretrained(model, language=language, task="transcribe")
    rate_hz = extractor.sampling_rate
    rows = datasets.Dataset.from_generator(clips, cache_dir=f"{out}/cache")
    if decoder == "torchcodec": rows = rows.cast_column("audio", datasets.Audio(sampling_rate=rate_hz))

    def samples(audio):
        if decoder == "torchcodec": return audio["array"]
        wave, own_hz = soundfile.read(io.BytesIO(audio["bytes"]), dtype="float32", always_2d=True)
        return soxr.resample(wave.mean(axis=1), own_hz, rate_hz, "HQ")

    def example(row):
        wave = samples(row["audio"])
        return {"input_features": extractor(wave, sampling_rate=rate_hz).input_features[0],
                "input_length": len(wave), "labels": tokenizer(row["sentence"]).input_ids}

    done = rows.map(example, remove_columns=["sentence", "audio"], num_proc=workers)
    done = done.filter(lambda n: 0 < n < 30 * rate_hz, input_columns=["input_length"], num_proc=workers)
    datasets.DatasetDict(train=done).save_to_disk(f"{out}/prepared")

def ours(corpus: str, out: str, model: str, language: str, workers: int, dtype: str, **settings):
    "This package, as its user runs it."
    from audio_ft_prep import PrepConfig, prepare
    prepare(
        PrepConfig(
            **{
                "dataset_name": corpus,
                "language_code": language,
                "model_id": model,
                "output_dir": f"{out}/prepared",
                "train_splits": "train",
                "eval_splits": "",
                "num_workers": workers,
                "feature_dtype": dtype,
                **settings,
            }
        )
    )

def planned(corpus: str, out: str, language: str, workers: int):
    "What this package forecasts."
    from audio_ft_prep import PrepConfig, plan
    print(
        plan(
            PrepConfig(
                dataset_name=corpus, language_code=language, output_dir=f"{out}/prepared", num_workers=workers
            )
        )
    )

def chosen(table: str, out: str, **settings):
    "What this package chooses among rows, and how long each step takes."
    import time
    import pyarrow as pa, pyarrow.compute as pc
    from audio_ft_prep.choosing import choose, with_votes
    from audio_ft_prep.config import PrepConfig
    from audio_ft_prep.leaks import OtherSet, leak_modes, mark_leaks
    from audio_ft_prep.repair import made_anew
    cfg = PrepConfig(dataset_name="rows", language_code="en", **settings)
    rows = pa.ipc.open_file(pa.memory_map(table)).read_all()
    train, evaluation = (rows.filter(pc.equal(rows["split"].cast(pa.string()), split)) for split in ("train", "eval"))
    steps = {}

    def timed(name, work, rows):
        start = time.perf_counter(), time.process_time()
        after = work(rows)
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        steps[name] = dict(wall_s=spent[0], cpu_s=spent[1], rows=[len(rows), len(after)])
        return after

    modes, others = leak_modes(cfg), [OtherSet("eval", evaluation, "no files here")]
    train = timed("leaks", lambda rows: mark_leaks(rows, others, modes)[0], train)
    timed("choice", lambda rows: choose(with_votes(rows, cfg)[0], "train", cfg).rows, train)
    anew = PrepConfig("rows", "en", splits="repair", train_splits="train", test_size="5%", validation_size="5%")
    timed("repair", lambda rows: made_anew(rows, anew).rows, rows)
    Path(out, "steps.json").write_text(json.dumps(steps))

if __name__ == "__main__":
    {"reference": reference, "ours": ours, "planned": planned, "chosen": chosen}[sys.argv[1]](**json.loads(sys.argv[2]))
