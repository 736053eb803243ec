"""The same model fine-tuned on this package's folder and on the usual recipe's data: losses step by step, and WER on the test split."""
from __future__ import annotations
import io, os, tempfile, time
from json import dumps
from pathlib import Path

from fastcore.script import call_parse

from common import machine, read_clips, table

SPLITS = {"train": ["train", "dev"], "eval": ["test"]}  # as `prepare` takes them by default

def prepared(corpus, language, model, storage, dtype, workers, out):
    "Our folder, opened."
    from audio_ft_prep import PrepConfig, load_prepared, prepare
    how = dict(storage=storage, feature_dtype=dtype, num_workers=workers)
    prepare(PrepConfig(corpus, language, model_id=model, output_dir=str(out), **how), progress=False)
    return load_prepared(out)

def reference(corpus, language, processor, rows):
    "The usual recipe's data over the same rows: `map` one example at a time through extractor and tokenizer."
    import datasets, soundfile, soxr
    extractor, tokenizer = processor.feature_extractor, processor.tokenizer
    clips = {
        name: (audio, row["sentence"])
        for split in sum(SPLITS.values(), [])
        for name, audio, row in read_clips(Path(corpus), language, split)
    }

    def examples(ids):
        for name in ids: yield {"id": name, "audio": clips[name][0], "sentence": clips[name][1]}

    def example(row):
        wave, own_hz = soundfile.read(io.BytesIO(row["audio"]), dtype="float32", always_2d=True)
        wave = soxr.resample(wave.mean(axis=1), own_hz, extractor.sampling_rate, "HQ")
        features = extractor(wave, sampling_rate=extractor.sampling_rate).input_features[0]
        return {"input_features": features, "labels": tokenizer(row["sentence"]).input_ids}

    made = {}
    for split in SPLITS:
        data = datasets.Dataset.from_generator(examples, gen_kwargs=dict(ids=list(rows[split]["id"])), split=split)
        made[split] = data.map(example, remove_columns=["audio"])
    return made

def usual_collator(processor, start):
    "The usual recipe's collator."
    def collate(items):
        features = [{"input_features": i["input_features"]} for i in items]
        batch = processor.feature_extractor.pad(features, return_tensors="pt")
        text = processor.tokenizer.pad([{"input_ids": i["labels"]} for i in items], return_tensors="pt")
        labels = text["input_ids"].masked_fill(text.attention_mask.ne(1), -100)
        batch["labels"] = labels[:, 1:] if (labels[:, 0] == start).all() else labels
        return batch
    return collate

def lora(model_id, language, seed, dtype):
    "The model, with small matrices beside its decoder's attention that learn; the same ones for a seed."
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import WhisperForConditionalGeneration, set_seed
    set_seed(seed)
    model = WhisperForConditionalGeneration.from_pretrained(model_id, dtype=getattr(torch, dtype))
    model.generation_config.language, model.generation_config.task = language, "transcribe"
    where = r".*decoder.*\.(q_proj|v_proj)"
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=where))

def of_dtype(collate, dtype):
    "A collator whose features have the number type of the model."
    import torch
    def collated(items):
        batch = collate(items)
        return {**batch, "input_features": batch["input_features"].to(getattr(torch, dtype))}
    return collated

def trained(side, data, collate, model, processor, settings, seed, out):
    "Evaluate, train, evaluate: losses of all steps, WER before and after, what was written of each test clip."
    from audio_ft_prep.metrics import speech_metrics
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
    metrics = speech_metrics(processor, data=data["eval"])
    args = Seq2SeqTrainingArguments(
        str(out),
        **settings,
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        predict_with_generate=True,
        generation_max_length=128,
        generation_num_beams=1,
        label_names=["labels"],
        remove_unused_columns=False,
    )
    trainer = Seq2SeqTrainer(
        model, args, train_dataset=data["train"], eval_dataset=data["eval"], data_collator=collate,
        compute_metrics=metrics,
    )
    started = time.perf_counter()
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
    return dict(
        side=side, before=before, after=after, losses=losses, clips=metrics.clips.to_pylist(),
        seconds=time.perf_counter() - started,
    )

def settings_of(steps, batch, rate):
    "What a trainer is given, the same on all sides."
    return dict(
        max_steps=steps,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        learning_rate=rate,
        warmup_steps=steps // 10,
        lr_scheduler_type="linear",
    )

def same_rows(ours, theirs):
    "How many labels and features are the same on both sides, to the bit."
    import numpy as np
    same = dict(rows=0, labels=0, features=0)
    for split in ours:
        for a, b in zip(ours[split], theirs[split].with_format("numpy")):
            frames = np.asarray(a["input_features"])
            same["rows"] += 1
            same["labels"] += int(list(a["labels"]) == list(b["labels"]))
            same["features"] += int(np.array_equal(frames, b["input_features"][:, :frames.shape[1]]))
    return same

def rows_of(runs):
    "A row a figure, a column a side."
    at = lambda when, key: [100 * r[when][f"eval_{key}"] for r in runs]
    rows = [[f"{key} {when}, %", *at(when, key)] for when in ("before", "after") for key in ("wer", "cer", "wer_raw")]
    for words, step in (("first", 0), ("last", -1)):
        rows.append([f"loss of {words} step", *(r["losses"][step] for r in runs)])
    rows += [[f"eval loss {when}", *(r[when]["eval_loss"] for r in runs)] for when in ("before", "after")]
    return rows + [["minutes", *(r["seconds"] / 60 for r in runs)]]

@call_parse
def main(
    model: str,  # A folder of a Whisper model, or a Hub id
    corpus: str,  # A folder in the Common Voice layout
    code: str = "es",  # Its language folder
    language: str = "spanish",  # What Whisper calls it
    storage: str = "features",  # Of our folder
    feature_dtype: str = "float32",  # Of our folder: the recipe's own, so that losses can be equal
    dtype: str = "float32",  # Number type of the model's weights: float32, bfloat16
    steps: int = 100,  # Steps of training
    batch: int = 8,  # Clips a step
    rate: float = 1e-3,  # Learning rate
    seed: int = 0,  # Of the first weights of LoRA and of the order of clips
    workers: int = 2,  # Processes that prepare
    sides: str = "ours,reference",  # Which of them are trained
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
):
    "Train with LoRA on our folder and on the usual recipe's data, from one seed, and print WER before and after."
    from audio_ft_prep import SpeechCollator
    from transformers import WhisperProcessor
    processor = WhisperProcessor.from_pretrained(model, language=language, task="transcribe")
    start = processor.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    about, runs = machine(), []
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        os.environ["HF_DATASETS_CACHE"] = f"{tmp}/cache"
        ours = prepared(corpus, code, model, storage, feature_dtype, workers, Path(tmp, "prepared"))
        theirs = reference(corpus, code, processor, ours)
        same = same_rows(ours, theirs) if storage == "features" else {}
        data = {"ours": (ours, SpeechCollator(start)), "reference": (theirs, usual_collator(processor, start))}
        for side in sides.split(","):
            rows, collate = data[side]
            net = lora(model, language, seed, dtype)
            how = settings_of(steps, batch, rate)
            collate = of_dtype(collate, dtype)
            runs.append(trained(side, rows, collate, net, processor, how, seed, Path(tmp, side)))
            if json: Path(json).write_text(dumps(dict(about=about, same=same, runs=runs), indent=1, default=str))
    print(f"{len(ours['train'])} clips of train, {len(ours['eval'])} of eval; {steps} steps of {batch}, seed {seed}\n")
    print(table(["", *(r["side"] for r in runs)], rows_of(runs), markdown))
    if same:
        print(f"\nof {same['rows']} rows the same to the bit: features {same['features']}, labels {same['labels']}")
    if len(runs) == 2:
        apart = max(abs(a - b) for a, b in zip(*(r["losses"] for r in runs)))
        print(f"losses of all steps: {apart:.2g} apart at most")
