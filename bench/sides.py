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

if __name__ == "__main__":
    {"reference": reference, "ours": ours, "planned": planned}[sys.argv[1]](**json.loads(sys.argv[2]))
