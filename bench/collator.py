"""What a batch costs: our collator beside the usual way, for three kinds of models; what loaders bring; a first batch from disk and from S3."""
from __future__ import annotations
import os
os.environ["OMP_NUM_THREADS"] = "1"
import sys, tempfile, time
from itertools import islice
from json import dumps
from pathlib import Path

import torch
from fastcore.script import call_parse
from torch.utils.data import DataLoader

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.collator import ArrowRows
from common import HERE, SAMPLE, machine, table

sys.path.insert(0, str(HERE.parent / "tests"))
from standin.s3 import KEY, SECRET, store
from tinymodels import tiny_folder

START = 50258  # Whisper's start token
WHISPER = "openai/whisper-small"
WORKERS = (0, 1, 2)
STORED = {
    "float16": dict(feature_dtype="float16"),
    "float32": dict(feature_dtype="float32"),
    "FLAC": dict(storage="audio"),
    "source": dict(storage="source"),
    "padded": dict(storage="padded"),
}
OTHERS = {"wav2vec2": "wav2vec2", "w2v-BERT": "wav2vec2-bert"}

def folders(corpus: str, code: str, clips: int, workers: int, out: Path) -> dict:
    "The same clips, stored in each way for Whisper, and as inputs of each other model."
    ways = {name: dict(model_id=WHISPER, **how) for name, how in STORED.items()}
    for name, kind in OTHERS.items():
        ways[name] = dict(model_id=str(tiny_folder(kind, out / "models")), feature_dtype="float32")
    made = {}
    for name, how in ways.items():
        cfg = PrepConfig(
            corpus, code, output_dir=str(out / name), max_train_samples=clips, eval_splits="", num_workers=workers,
            **how)
        prepare(cfg, progress=False)
        made[name] = load_prepared(out / name)["train"]
    return made

def usual(processor, column: str, start: int):
    "The usual collator, over inputs that are stored: the extractor pads them, and the tokenizer the labels."
    def collate(items):
        inputs = [{column: item[column]} for item in items]
        batch = processor.feature_extractor.pad(inputs, padding=True, return_tensors="pt")
        text = processor.tokenizer.pad([{"input_ids": item["labels"].tolist()} for item in items], return_tensors="pt")
        batch["labels"] = text["input_ids"].masked_fill(text.attention_mask.ne(1), -100)[:, start:]
        return batch
    return collate

def all_ways(made: dict, out: Path) -> dict:
    "Each way to a batch: rows, and a collator."
    from transformers import AutoProcessor
    of_sound = SpeechCollator.of(WHISPER, out / "FLAC")
    processor = AutoProcessor.from_pretrained(out / "float32/processor")
    ways = {
        "Whisper: usual, padded float32": (made["padded"], usual(processor, "input_features", 1)),
        "Whisper: features, float16": (made["float16"], SpeechCollator(START)),
        "Whisper: features, float16, as tables": (ArrowRows(made["float16"]), SpeechCollator(START)),
        "Whisper: features, float32": (made["float32"], SpeechCollator(START)),
        "Whisper: FLAC": (made["FLAC"], of_sound),
        "Whisper: source": (made["source"], of_sound),
    }
    for name, kind in OTHERS.items():
        model, rows = str(out / "models" / kind), made[name]
        column = "input_values" if "input_values" in rows.column_names else "input_features"
        processor = AutoProcessor.from_pretrained(out / name / "processor")
        ways[f"{name}: usual, float32"] = rows, usual(processor, column, 0)
        ways[f"{name}: inputs, float32"] = rows, SpeechCollator.of(model, rows)
        ways[f"{name}: inputs, float32, as tables"] = ArrowRows(rows), SpeechCollator.of(model, rows)
        ways[f"{name}: FLAC"] = made["FLAC"], SpeechCollator.of(model, made["FLAC"])
    return ways

def cpu_ms(work) -> float:
    "Milliseconds that this process computes."
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)

def batch_times(ways: dict, batch: int, passes: int) -> dict:
    "Milliseconds to read a batch and to collate it, for each way: the cheapest of several passes, all ways in turn."
    best = {}
    for _ in range(passes + 1):  # The first loads what is needed
        for name, (rows, collate) in ways.items():
            numbers = list(range(min(batch, len(rows))))
            items = rows.__getitems__(numbers)
            took = [cpu_ms(lambda: rows.__getitems__(numbers)), cpu_ms(lambda: collate(items))]
            best[name] = [min(pair) for pair in zip(took, best.get(name, took))]
    return best

def loaded(rows, collate, batch: int, workers: int) -> tuple[float, float]:
    "Clips that a loader brings in a second, after its first batch; and what a batch costs the main process in ms."
    loader = iter(DataLoader(rows, batch, collate_fn=collate, num_workers=workers))
    next(loader)
    start, cpu, seen, batches = time.perf_counter(), time.process_time(), 0, 0
    for one in loader:
        seen += len(one["labels"])
        batches += 1
    return seen / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / batches

def loader_figures(ways: dict, batch: int, rounds: int) -> tuple[dict, dict]:
    "The best of several rounds, all ways in turn, for each number of workers: clips a second, and ms of the main process."
    speed, main = {}, {}
    for _ in range(rounds):
        for name, way in ways.items():
            got = [loaded(*way, batch, n) for n in WORKERS]
            speed[name] = [max(pair) for pair in zip((g[0] for g in got), speed.get(name, [0] * 3))]
            main[name] = [min(pair) for pair in zip((g[1] for g in got), main.get(name, [1e9] * 3))]
    return speed, main

def first_batch(folder: Path | str, batch: int, streaming: bool) -> float:
    "Milliseconds from opening a folder to its first batch."
    start = time.perf_counter()
    rows = load_prepared(folder, streaming=streaming)["train"]
    SpeechCollator(START)(list(islice(rows, batch)) if streaming else rows[:batch])
    return 1000 * (time.perf_counter() - start)

def first_batches(folder: Path, batch: int, rounds: int) -> dict:
    "The time to a first batch from disk and from an S3 on this machine: the best of several, all in turn."
    best = {}
    with store("moto", "speech") as s3:
        env = dict(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1")
        os.environ.update(env, AWS_ENDPOINT_URL=s3.conf["endpoint_url"])
        for path in folder.rglob("*"):
            if path.is_file(): s3.direct.upload_file(str(path), "speech", path.relative_to(folder).as_posix())
        ways = {"disk": (folder, False), "disk, streamed": (folder, True), "S3, streamed": ("s3://speech", True)}
        for _ in range(rounds):
            for name, (at, streaming) in ways.items():
                best[name] = min(first_batch(at, batch, streaming), best.get(name, 1e9))
    return best

@call_parse
def main(
    corpus: str = "",  # A folder in the Common Voice layout; empty: the sample corpus of the package
    language: str = "it",  # Its language folder
    clips: int = 400,  # How many of its train clips
    batch: int = 16,  # Clips in a batch
    passes: int = 20,  # Of which the cheapest counts
    rounds: int = 3,  # Of loaders and first batches, of which the best counts
    markdown: bool = False,  # Print the tables as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one pass: shows that it works, measures nothing
):
    "Measure batches for Whisper, wav2vec2 and w2v-BERT, loaders with no, one and two workers, and first batches."
    if smoke: clips, batch, passes, rounds = 12, 4, 1, 1
    torch.set_num_threads(1)
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        out = Path(tmp)
        made = folders(corpus or str(SAMPLE), language, clips, 2, out)
        ways = all_ways(made, out)
        ms = batch_times(ways, batch, passes)
        speed, main_ms = loader_figures(ways, batch, rounds)
        opened = first_batches(out / "float16", batch, rounds)
    print(f"batches of {batch} clips, {about['cores']} cores, load {about['load']:.1f} at the start\n")
    head = ["CPU ms of a batch", "reading", "collating", *[f"main process, {n} workers" for n in WORKERS]]
    print(table(head, [[name, *ms[name], *main_ms[name]] for name in ways], markdown))
    head = ["clips a second", *[f"{n} workers" for n in WORKERS]]
    print("\n" + table(head, [[name, *speed[name]] for name in ways], markdown))
    print("\n" + table(["to the first batch", "ms"], [[name, took] for name, took in opened.items()], markdown))
    figures = dict(about=about, ms=ms, main_ms=main_ms, clips_per_second=speed, first_batch_ms=opened)
    if json: Path(json).write_text(dumps(figures, indent=1))
