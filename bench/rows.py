"""Time and memory of choosing among many rows: leaks by speaker and sentence, caps, shares and hours, new splits, without audio."""
from __future__ import annotations
import random, tempfile
from json import dumps, loads
from pathlib import Path

import numpy as np, pyarrow as pa
from fastcore.script import call_parse

from audio_ft_prep.rows import rows_table
from common import machine, measure, table

EVAL = 0.05  # Share of the rows
SETTINGS = dict(
    max_train_hours=500.0,
    max_per_speaker=200,
    max_per_sentence=3,
    stratify="gender,age,accents",
    stratify_shares="equal",
    min_up_votes=2,
    sampling="random",
    leak_sentences="drop",
)
STEPS = {"leaks": "leaks by speaker and sentence", "choice": "votes, caps, shares, hours", "repair": "splits made anew"}

def sentences(count: int, rng: random.Random) -> list[str]:
    "Sentences of four to fourteen words, most of them read by several, and written in four ways."
    begins, ends = ("ba", "ce", "di", "fo", "gu"), ("lan", "mer", "nis", "por")
    words = [f"{begin}{end}{vowel}" for begin in begins for end in ends for vowel in "aeiou"]
    distinct = [f"{' '.join(rng.choices(words, k=rng.randint(4, 14)))} {i}".capitalize() for i in range(-(-count // 2))]
    return [f"{rng.choice(distinct)}{rng.choice(('.', '!', ' …', ''))}" for _ in range(count)]

def repeated(values: list[str], numbers: np.ndarray) -> pa.DictionaryArray:
    "A column of values by their numbers."
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(values))

def many_rows(count: int, seed: int = 0) -> pa.Table:
    "Rows as a large release has them: a few speakers with many thousands of clips, most with some, and some unknown."
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    speakers = ["", *(rng.randbytes(64).hex() for _ in range(max(10, count // 50)))]
    of_row = np.minimum(numbers.zipf(1.3, count), len(speakers)) - 1
    about = {name: numbers.integers(0, n, len(speakers)) for name, n in (("gender", 3), ("age", 8), ("accents", 40))}
    in_eval = numbers.random(count) < EVAL
    columns = {
        "id": [f"common_voice_xx_{20_000_000 + i}" for i in range(count)],
        "split": repeated(["train", "eval"], in_eval),
        "source_split": repeated(["train", "test"], in_eval),
        "sentence": sentences(count, rng),
        "speaker": repeated(speakers, of_row),
        "seconds": numbers.gamma(6, 0.8, count),
        "up_votes": numbers.integers(0, 6, count),
        "down_votes": numbers.integers(0, 3, count),
        "file": repeated(["clips.tar"], np.zeros(count)),
        "size": numbers.integers(10_000, 60_000, count),
        "offset": np.arange(count) * 60_000,
    }
    for name, of_speaker in about.items():
        values = ["", *(f"{name} {i}" for i in range(1, 1 + of_speaker.max()))]
        columns[name] = repeated(values, of_speaker[of_row])
    return rows_table(columns)

@call_parse
def main(
    rows: int = 1_000_000,  # Rows of train and eval together
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # Some thousand rows: shows that it works, measures nothing
):
    "Measure time and memory of choosing among so many rows."
    if smoke: rows = 3000
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        file, out = Path(tmp, "rows.arrow"), Path(tmp, "out")
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, (made := many_rows(rows)).schema) as writer:
            writer.write_table(made)
        del made
        got = measure("chosen", dict(table=str(file), out=str(out), **SETTINGS))
        steps = loads((out / "steps.json").read_text())
    head = ["", "wall, s", "CPU, s", "peak memory, MB", "rows before", "rows after"]
    said = []
    for step, words in STEPS.items():
        said.append([words, steps[step]["wall_s"], steps[step]["cpu_s"], "", *steps[step]["rows"]])
    left = steps["choice"]["rows"][1]
    said.append(["all, with starting up", got["wall_s"], got["cpu_s"], got["peak_mb"], rows, left])
    print(f"{rows:,} rows, {about['cores']} cores, load {about['load']:.1f} at the start\n")
    print(table(head, said, markdown))
    if json: Path(json).write_text(dumps(dict(about=about, run=got, steps=steps, table=[head, *said]), indent=1))
