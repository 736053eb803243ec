"""Memory and time on large corpora: planning a million rows, and preparing ten times as many clips with the same workers."""
from __future__ import annotations
import io, random, shutil, tempfile
from json import dumps
from pathlib import Path

import numpy as np, soundfile
from fastcore.script import call_parse

from common import FIELDS, SAMPLE, machine, measure, read_clips, table

RATE_HZ, PER_TAR, LANGUAGE = 8000, 100_000, "it"
SHARES = {"train": 0.9, "dev": 0.05, "test": 0.05}

def tiny_clip(seed: int) -> bytes:
    "A noisy tone of 0.3 s, as small as an MP3 gets: half a kilobyte."
    rng, out, n = np.random.default_rng(seed), io.BytesIO(), int(0.3 * RATE_HZ)
    wave = 0.1 * np.sin(2 * np.pi * (200 + 5 * seed) * np.arange(n) / RATE_HZ) + 0.01 * rng.standard_normal(n)
    with soundfile.SoundFile(
        out, "w", RATE_HZ, 1, "MPEG_LAYER_III", format="MP3", compression_level=0.99, bitrate_mode="CONSTANT"
    ) as f:
        f.write(wave)
    return out.getvalue()

def header(size: int) -> tuple[bytes, int]:
    "The block that stands before a file in a tar, its name and checksum left blank; and the sum of its bytes."
    fields = b"0000644\0" + 2 * b"0000000\0" + f"{size:011o}\0".encode() + b"00000000000\0" + b" " * 8 + b"0"
    block = bytes(100) + fields.ljust(157, b"\0") + b"ustar\0" + b"00" + bytes(247)
    return block, sum(block)

def member(name: str, block: bytes, total: int) -> bytes:
    "That block with a name."
    name = name.encode()
    return name.ljust(100, b"\0") + block[100:148] + b"%06o\0 " % (total + sum(name)) + block[156:]

def write_tar(path: Path, names: list[str], clips: list[bytes]):
    "Write a tar that holds the clips in turn under these names, a thousand at a time."
    ready = [(*header(len(c)), c + bytes(-len(c) % 512)) for c in clips]
    with path.open("wb") as f:
        for start in range(0, len(names), 1000):
            f.write(
                b"".join(
                    part
                    for i, n in enumerate(names[start : start + 1000])
                    for block, total, data in [ready[i % len(ready)]]
                    for part in (member(f"{path.stem}/{n}", block, total), data)
                )
            )
        f.write(bytes(10240))

def lines(first: int, count: int, words: list[str], speakers: list[str]):
    "Yield the lines of a transcript: names and sentences of their own, speakers who read fifty in a row, as Common Voice has them."
    rng = random.Random(first)
    for i in range(first, first + count):
        said = f"{' '.join(rng.choices(words, k=rng.randint(4, 14)))} {i}.".capitalize()
        row = {
            "client_id": speakers[i // 50 % len(speakers)],
            "path": f"common_voice_{LANGUAGE}_{20_000_000 + i}.mp3",
            "sentence": said,
            "up_votes": "2",
            "down_votes": "0",
            "age": ("", "twenties", "fourties")[i % 3],
            "locale": LANGUAGE,
        }
        yield row["path"], "\t".join(row.get(k, "") for k in FIELDS)

def make_corpus(out: Path, rows: int) -> int:
    "Write a corpus of so many rows, all of them good; give its bytes."
    clips = [tiny_clip(i) for i in range(20)]
    words = sorted(
        {
            w.strip(".,;:!?\"«»")
            for _, _, row in read_clips(SAMPLE, LANGUAGE)
            for w in row["sentence"].lower().split()
        }
        - {""}
    )
    speakers = [random.Random(i).randbytes(64).hex() for i in range(-(-rows // 50))]
    first, counts = 0, {s: round(rows * share) for s, share in SHARES.items()}
    counts["train"] = rows - counts["dev"] - counts["test"]
    for split, count in counts.items():
        tars, text = out / f"audio/{LANGUAGE}/{split}", out / f"transcript/{LANGUAGE}/{split}.tsv"
        for folder in (tars, text.parent): folder.mkdir(parents=True, exist_ok=True)
        with text.open("w", encoding="utf-8") as f:
            f.write("\t".join(FIELDS) + "\n")
            for n, start in enumerate(range(first, first + count, PER_TAR)):
                names, text_lines = zip(*lines(start, min(PER_TAR, first + count - start), words, speakers))
                f.writelines(line + "\n" for line in text_lines)
                write_tar(tars / f"{LANGUAGE}_{split}_{n}.tar", names, clips)
        first += count
    return sum(p.stat().st_size for p in out.rglob("*") if p.is_file())

def corpus(work: Path, rows: int) -> Path:
    "Make a corpus where there is room for it and for what is made of it; leave one that is there."
    out, need = work / f"corpus-{rows}", 1700 * rows + 60_000 * min(rows, 50_000)
    if (out / "made").exists(): return out
    if (free := shutil.disk_usage(work).free) < need:
        raise RuntimeError(
            f"{rows:,} rows need about {need/1e9:.1f} GB and {free/1e9:.1f} GB are free in {work}: name a folder"
            " with room by --folder"
        )
    shutil.rmtree(out, ignore_errors=True)
    make_corpus(out, rows)
    (out / "made").touch()
    return out

def run(side: str, folder: Path, work: Path, rows: int, **settings) -> dict:
    "Measure a side, and throw away what it wrote."
    out = work / f"{side}-{rows}"
    shutil.rmtree(out, ignore_errors=True)
    try: got = measure(side, dict(corpus=str(folder), out=str(out), language=LANGUAGE, **settings))
    finally: shutil.rmtree(out, ignore_errors=True)
    return dict(side=side, rows=rows, **got)

def planned(folder: Path, work: Path, rows: int, workers: int) -> dict:
    "Plan a corpus of so many rows."
    return run("planned", folder, work, rows, workers=workers)

def prepared(folder: Path, work: Path, rows: int, workers: int) -> dict:
    "Prepare a corpus of so many rows."
    return run(
        "ours",
        folder,
        work,
        rows,
        workers=workers,
        model="openai/whisper-small",
        dtype="float16",
        train_splits="train+validation",
        eval_splits="test",
    )

def growth(runs: list[dict]) -> list[str]:
    "Say how memory grows between the smallest and the largest run that prepared."
    few, many = runs[0], runs[-1]
    more = many["rows"] - few["rows"]
    return (
        [
            (
                f"a worker: {many['worker_mb'] / few['worker_mb'] - 1:+.1%} at {many['rows'] / few['rows']:.0f}"
                " times the clips"
            ),
            f"the parent: {(many['parent_mb'] - few['parent_mb']) * 1e6 / more:,.0f} bytes for each clip more",
        ]
        if more
        else []
    )

@call_parse
def main(
    rows: int = 1_000_000,  # Rows of the corpus that is planned; 0 for none
    clips: str = "5000,50000",  # Clips of the corpora that are prepared, with commas; empty for none
    workers: int = 2,  # Worker processes
    folder: str = "",  # Where corpora and outputs go; corpora made there are kept and used again. Left out: a temporary folder
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # Some hundred rows, one worker: shows that it works, measures nothing
):
    "Measure memory and time of `plan` on many rows, and of `prepare` on some and on ten times as many clips."
    if smoke: rows, clips, workers = 1000, "200,400", 1
    about = machine() | dict(workers=workers)
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        work = Path(folder or tmp)
        work.mkdir(parents=True, exist_ok=True)
        runs = [planned(corpus(work, rows), work, rows, workers)] if rows else []
        many = [prepared(corpus(work, n), work, n, workers) for n in sorted(int(n) for n in clips.split(",") if n)]
    head = ["", "rows", "wall, s", "CPU, s", "peak memory, MB", "the parent", "a worker"]
    said = [
        [
            "plan" if r["side"] == "planned" else "prepare",
            r["rows"],
            r["wall_s"],
            r["cpu_s"],
            r["peak_mb"],
            r["parent_mb"],
            r["worker_mb"],
        ]
        for r in runs + many
    ]
    print(f"{workers} workers, {about['cores']} cores, load {about['load']:.1f} at the start\n")
    print("\n".join([table(head, said, markdown), "", *(growth(many) if many else [])]))
    if json:
        Path(json).write_text(
            dumps(
                dict(about=about, runs=runs + many, growth=growth(many) if many else [], table=[head, *said]),
                indent=1,
            )
        )
