"""The usual recipe and this package, in turn, on the same corpus with the same number of workers."""
from __future__ import annotations
import shutil, tempfile
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from statistics import median

from fastcore.script import call_parse

from common import build_corpus, machine, measure, table
from sides import torchcodec_works

AGAINST = ("as run", "1 thread")
OURS = {"ours": "exact", **({"ours fast": "fast"} if find_spec("asrfront") else {})}
ROWS = {"wall, s": "wall_s", "CPU, s": "cpu_s", "clips/s": "clips_s", "output, MB": "output_mb",
        "cache beside it, MB": "cache_mb", "peak memory, MB": "peak_mb", "of which anonymous memory, MB": "anon_mb"}

def folder_mb(folder):
    "Size of the files under a folder."
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6

def lay_out_processor(model_id, folder):
    "Write the processor where the reference reads it, as a Hub cache would hold it."
    from audio_ft_prep.families import save_processor
    from audio_ft_prep.models import load_model
    model = load_model(model_id)
    save_processor(folder, model, model.tokenizer)

def one_run(name, settings, out, clips):
    "Run one side into a fresh folder and add what it left on disk."
    shutil.rmtree(out, ignore_errors=True)
    got = measure("ours" if name in OURS else "reference", settings | dict(out=str(out)), pinned=name == "1 thread")
    return got | dict(
        side=name,
        clips_s=clips / got["wall_s"],
        output_mb=folder_mb(out / "prepared"),
        cache_mb=folder_mb(out / "cache"),
    )

def compare(ours: Path, theirs: Path, dtype: str) -> dict:
    "Count the clips whose features and labels are the same, bit by bit, on both sides."
    import numpy as np
    from datasets import load_from_disk
    from audio_ft_prep import load_prepared
    from audio_ft_prep.features import pad_frames
    mine, other = load_prepared(ours)["train"], load_from_disk(theirs)["train"]
    where = {name: i for i, name in enumerate(mine.data["id"].to_pylist())}
    got = dict(ours=len(mine), reference=len(other), both=0, features=0, labels=0, furthest=0.0)
    for row in other.with_format("numpy"):
        if row["id"] not in where: continue
        item = mine[where[row["id"]]]
        b = np.asarray(row["input_features"], "float32").astype(dtype)
        a = pad_frames(item["input_features"], b.shape[1]).astype(dtype)
        got["both"] += 1
        got["features"] += int(np.array_equal(a, b))
        got["labels"] += int(list(item["labels"]) == row["labels"].tolist())
        got["furthest"] = max(got["furthest"], float(np.abs(a.astype("float32") - b).max()))
    return got

def summary(runs, against):
    "A header and a row a figure: each side's median, and how many times better ours is."
    pairs = [(s, mine) for mine in OURS for s in against]
    table = [["", *(f"reference {s}" for s in against), *OURS, *(f"{s} / {mine}" for s, mine in pairs)]]
    for label, key in ROWS.items():
        of = {s: median(r[key] for r in runs if r["side"] == s) for s in (*against, *OURS)}
        times = [
            (of[mine] / of[s] if key == "clips_s" else of[s] / of[mine]) if of[mine] else None for s, mine in pairs
        ]
        table.append([label, *of.values(), *("" if t is None else f"{t:.1f}x" for t in times)])
    return table

def same_words(name, same, dtype):
    "Say how much of one of ours is the reference's, bit by bit."
    return (
        f"rows: reference {same['reference']}, {name} {same['ours']}, both {same['both']}; identical in {dtype}:"
        f" features {same['features']} of {same['both']} (furthest apart {same['furthest']:.2g}), labels"
        f" {same['labels']} of {same['both']}"
    )

@call_parse
def main(
    corpus: str = "",  # Folder in the Common Voice layout; left out: the sample corpus of the package
    language: str = "",  # Its language folders, with commas; left out: all
    clips: int = 2000,  # Clips to prepare: the source's train clips are repeated
    workers: int = 2,  # Processes of each side
    against: str = "as run,1 thread",  # How the reference is run
    repeats: int = 1,  # Turns; the table has medians
    model_id: str = "openai/whisper-small",  # Model to prepare for: a folder or a Hub id
    feature_dtype: str = "float16",  # Number type in which ours is stored: float16, float32
    decoder: str = "auto",  # Of the reference: torchcodec, soundfile (the same samples as ours), auto: torchcodec where it works
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one turn, one worker: shows that it works, measures nothing
):
    "Measure the reference recipe, as people run it and with one thread a process, and this package."
    if smoke: clips, repeats, workers = 12, 1, 1
    sides = against.split(",")
    if unknown := set(sides) - set(AGAINST):
        raise ValueError(f"against must name 'as run', '1 thread' or both, got {unknown.pop()!r}")
    if decoder == "auto": decoder = "torchcodec" if torchcodec_works() else "soundfile"
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        work = Path(tmp)
        made, about = build_corpus(work / "corpus", corpus, language, clips), machine() | dict(
            workers=workers, model=model_id, dtype=feature_dtype, decoder=decoder
        )
        lay_out_processor(model_id, work / "processor")
        fixed = dict(corpus=made["folder"], language=made["language"], workers=workers)
        # Ours goes first: what the first run of a turn pays for a cold disk is ours to pay.
        settings = {
            name: fixed | dict(model=model_id, dtype=feature_dtype, log_mel=log_mel)
            for name, log_mel in OURS.items()
        }
        settings |= {s: fixed | dict(model=str(work / "processor"), decoder=decoder) for s in reversed(sides)}
        place = {s: work / s.replace(" ", "-") for s in settings}
        runs = [one_run(s, settings[s], place[s], clips) for _ in range(repeats) for s in settings]
        same = {name: compare(place[name] / "prepared", place[sides[0]] / "prepared", feature_dtype) for name in OURS}
    head, *rows = summary(runs, sides)
    print(
        f"{clips} clips, {made['hours']:.2f} h, {workers} workers, {repeats} turn(s), {about['cores']} cores, load"
        f" {about['load']:.1f} at the start; the reference decodes with"
        f" {'torchcodec' if decoder == 'torchcodec' else 'soundfile and soxr HQ'}\n"
    )
    print(table(head, rows, markdown))
    print("", *(same_words(name, s, feature_dtype) for name, s in same.items()), sep="\n")
    if decoder == "torchcodec":
        print(
            "torchcodec resamples with FFmpeg, so its samples differ from soxr's: --decoder soundfile compares like"
            " with like"
        )
    if json:
        Path(json).write_text(
            dumps(dict(about=about, corpus=made, runs=runs, same=same, table=[head, *rows]), indent=1)
        )
