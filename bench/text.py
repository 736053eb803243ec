"""Time of flagging and cleaning many sentences, one process, without audio."""
from __future__ import annotations
import random, time
from json import dumps
from pathlib import Path

import pyarrow as pa
from fastcore.script import call_parse

from audio_ft_prep.cleaning import clean_rows
from audio_ft_prep.textrules import text_flags
from common import machine, table

WORDS = {
    "it": "Nel corso del Novecento l'industria crebbe molto perché non vieni con noi dott. 42 Rossi % ecc. dell’uso",
    "en": "The quick brown fox doesn't jump over the lazy dog at www.example.com while it's raining [laughs] (again)",
    "ru": "Где мой зонт я не знаю но думаю что он остался дома вчера вечером т. е. iPhone",
    "zh": "我们 今天 去 公园 散步 吧 天气 很 好 哈哈哈哈 12",
}
CLEANING = "zero_width,apostrophes,quotes,outer_quotes,dashes,ellipsis"

def many_sentences(count: int, seed: int = 0) -> pa.Table:
    "Sentences of four to sixteen words in four languages."
    rng, columns = random.Random(seed), {"sentence": [], "locale": []}
    for i in range(count):
        language = list(WORDS)[i % len(WORDS)]
        words = rng.choices(WORDS[language].split(), k=rng.randint(4, 16))
        columns["sentence"].append(" ".join(words) + ".")
        columns["locale"].append(language)
    return pa.table({"sentence": columns["sentence"], "locale": pa.array(columns["locale"]).dictionary_encode()})

def timed(step) -> tuple[float, float]:
    "Seconds that a step takes, by the clock and of the CPU."
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu

@call_parse
def main(
    rows: int = 1_000_000,  # Sentences
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # Some thousand sentences: shows that it works, measures nothing
):
    "Measure how long it takes to flag and to clean so many sentences."
    if smoke: rows = 3000
    about = machine()
    made = many_sentences(rows)
    steps = {
        "all flags of text": lambda: text_flags(made, "it"),
        "cleaning, as every run does": lambda: clean_rows(made, "", "it"),
        f"cleaning, with {CLEANING}": lambda: clean_rows(made, CLEANING, "it"),
    }
    got = {name: timed(step) for name, step in steps.items()}
    lines = [["", "wall, s", "CPU, s"], *([name, f"{wall:.1f}", f"{cpu:.1f}"] for name, (wall, cpu) in got.items())]
    print(f"{rows:,} sentences, {about['cores']} cores, load {about['load']:.1f} at the start\n")
    print(table(lines[0], lines[1:], markdown))
    if json: Path(json).write_text(dumps(dict(about=about, steps=got, table=lines), indent=1))
