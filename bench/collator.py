"""What a batch costs: our collator beside the usual way, from features, FLAC and a clip's own file; and what loaders bring."""
from __future__ import annotations
import os
os.environ["OMP_NUM_THREADS"] = "1"
import tempfile, time
from json import dumps
from pathlib import Path

import torch
from fastcore.script import call_parse
from torch.utils.data import DataLoader

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.collator import ArrowRows
from common import SAMPLE, machine, table

START = 50258  # Whisper's start token
STORED = {
    "float16": dict(feature_dtype="float16"),
    "float32": dict(feature_dtype="float32"),
    "FLAC": dict(storage="audio"),
    "source": dict(storage="source"),
    "padded": dict(storage="padded"),
}

def folders(corpus: str, code: str, clips: int, workers: int, out: Path) -> dict:
    "The same clips, stored in each way."
    made = {}
    for name, how in STORED.items():
        cfg = PrepConfig(
            corpus, code, model_id="openai/whisper-small", output_dir=str(out / name), max_train_samples=clips,
            eval_splits="", num_workers=workers, **how)
        prepare(cfg, progress=False)
        made[name] = load_prepared(out / name)["train"]
    return made

def usual(processor):
    "The usual collator, over padded features that are stored."
    def collate(items):
        batch = processor.feature_extractor.pad(
            [{"input_features": item["input_features"]} for item in items], return_tensors="pt")
        text = processor.tokenizer.pad([{"input_ids": item["labels"].tolist()} for item in items], return_tensors="pt")
        batch["labels"] = text["input_ids"].masked_fill(text.attention_mask.ne(1), -100)[:, 1:]
        return batch
    return collate

def cheapest(passes: int, work) -> float:
    "Milliseconds of the cheapest of several passes."
    taken = []
    for _ in range(passes):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)

def batch_times(rows, collate, batch: int, passes: int) -> tuple[float, float]:
    "Milliseconds to read a batch, and to collate it."
    numbers = list(range(min(batch, len(rows))))
    items = rows.__getitems__(numbers)
    collate(items)
    return cheapest(passes, lambda: rows.__getitems__(numbers)), cheapest(passes, lambda: collate(items))

def clips_a_second(rows, collate, batch: int, workers: int) -> float:
    "Clips that a loader brings in a second, after its first batch."
    start, seen = 0.0, 0
    for i, one in enumerate(DataLoader(rows, batch, collate_fn=collate, num_workers=workers)):
        if i: seen += len(one["labels"])
        else: start = time.perf_counter()
    return seen / (time.perf_counter() - start)

def first_batch(folder: Path, batch: int) -> float:
    "Milliseconds from opening a folder to its first batch."
    def work():
        rows = load_prepared(folder)["train"]
        SpeechCollator(START)(rows.__getitems__(list(range(min(batch, len(rows))))))
    return cheapest(1, work)

@call_parse
def main(
    corpus: str = "",  # A folder in the Common Voice layout; empty: the sample corpus of the package
    language: str = "it",  # Its language folder
    clips: int = 400,  # How many of its train clips
    batch: int = 16,  # Clips in a batch
    passes: int = 20,  # Of which the cheapest counts
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one pass: shows that it works, measures nothing
):
    "Measure batches for Whisper, and loaders with no, one and two workers."
    from transformers import WhisperProcessor
    if smoke: clips, batch, passes = 12, 4, 1
    torch.set_num_threads(1)
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        made = folders(corpus or str(SAMPLE), language, clips, 2, Path(tmp))
        processor = WhisperProcessor.from_pretrained(f"{tmp}/float32/processor")
        of_sound = SpeechCollator.of("openai/whisper-small", Path(tmp) / "FLAC")
        ways = {
            "usual, padded float32": (made["padded"], usual(processor)),
            "features, float16": (made["float16"], SpeechCollator(START)),
            "features, float16, as tables": (ArrowRows(made["float16"]), SpeechCollator(START)),
            "features, float32": (made["float32"], SpeechCollator(START)),
            "FLAC": (made["FLAC"], of_sound),
            "source": (made["source"], of_sound),
        }
        ms = {name: batch_times(*way, batch, passes) for name, way in ways.items()}
        workers = (0, 1, 2)
        speed = {name: [clips_a_second(*way, batch, n) for n in workers] for name, way in ways.items()}
        opened = first_batch(Path(tmp) / "float16", batch)
    head = ["of a batch, ms", "reading", "collating", *[f"clips / s, {n} workers" for n in workers]]
    rows = [[name, *ms[name], *speed[name]] for name in ways]
    print(f"batches of {batch} clips, {about['cores']} cores, load {about['load']:.1f} at the start\n")
    print(table(head, rows, markdown))
    print(f"\nfrom opening a folder to its first batch: {opened:.0f} ms")
    figures = dict(about=about, ms=ms, clips_per_second=speed, first_batch_ms=opened)
    if json: Path(json).write_text(dumps(figures, indent=1))
