"""How many planted faults are found, kind by kind, and how many clean clips have a finding that they shouldn't."""
from __future__ import annotations
import io, sys, tempfile
from collections import Counter, defaultdict
from json import dumps
from pathlib import Path

import pyarrow.parquet as pq, soundfile as sf
from fastcore.script import call_parse

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.audio import read_clip
from audio_ft_prep.cliptable import clip_table
from audio_ft_prep.flags import FLAGS, RATE
from audio_ft_prep.levels import even, levels_of
from common import HERE, SAMPLE, plain_clips, table

sys.path.insert(0, str(HERE.parent / "tests"))
from planted import KINDS, LEAKS, TEXT_KINDS, Clip, write_leaks, write_planted

ALL_KINDS = KINDS | TEXT_KINDS

def config_of(source: Path, language: str, out: Path) -> PrepConfig:
    "All of a corpus as train."
    return PrepConfig(str(source), language, output_dir=str(out), eval_splits="", storage="audio")

def clean_clips(source: Path, languages: list[str], work: Path) -> list:
    "Train clips that a run keeps, each as its file and as samples with a sentence."
    clean = []
    for language in languages:
        prepare(config_of(source, language, work / language), progress=False)
        kept = set(clip_table(work / language)["id"].to_pylist())
        for name, audio, row, _ in plain_clips(source, [language]):
            wave, rate_hz = sf.read(io.BytesIO(audio), dtype="float32", always_2d=True)
            if name in kept: clean.append((audio, Clip(wave.mean(axis=1), rate_hz, row["sentence"], row["client_id"])))
    return clean

def findings(folder: Path) -> dict[str, set]:
    "What was found of each clip, by its id: the reason why it isn't kept, or its flags."
    found = defaultdict(set)
    for reject in pq.read_table(folder / "rejects.parquet").to_pylist(): found[reject["id"]].add(reject["reason"])
    for clip in clip_table(folder).select(["id", "flags"]).to_pylist(): found[clip["id"]].update(clip["flags"])
    return found

def rates(kind_of: dict[str, str], found: dict[str, set], kinds: dict = KINDS) -> list:
    "For each kind what should be found, of how many of its clips it was, how many there are, and the least share."
    of_kind = defaultdict(list)
    for name, kind in kind_of.items(): of_kind[kind].append(found.get(name, set()))
    right = {name: sum(kind.finding in got for got in of_kind[name]) for name, kind in kinds.items()}
    return [[name, kind.finding, right[name], len(of_kind[name]), kind.least] for name, kind in kinds.items()]

def false_findings(kind_of: dict[str, str], found: dict[str, set], kinds: dict = KINDS) -> set[tuple[str, str]]:
    "Clips in which nothing was planted, each with a finding that `kinds` are about."
    about = {kind.finding for kind in kinds.values()}
    about -= {name for name in about if name in FLAGS and FLAGS[name].kind == "text"}  # digits of a clean clip are digits
    clean = [name for name, kind in kind_of.items() if not kind]
    return {(name, finding) for name in clean for finding in found.get(name, set()) & about}

def groups(kinds: dict, each: int, clean: int) -> list[tuple[dict, list[int]]]:
    "Kinds that share a corpus, and clips of each in its rounds; a rate of speech is judged by its corpus, of which most must be clean."
    alone = [name for name, kind in kinds.items() if kind.finding == RATE]
    shared = {name: kind for name, kind in kinds.items() if name not in alone}
    most = max(2, clean // 20)
    rounds = [most] * (each // most) + [each % most] * (each % most > 0)
    return [(shared, [each]), *(({name: kinds[name]}, rounds) for name in alone)]

def measure(clean: list, kinds: dict, rounds: list[int], language: str, work: Path) -> tuple[list, set]:
    "Rows of the table for kinds that share a corpus, and findings of clean clips; in each round other clips have the faults."
    originals = [(audio, "mp3", clip.sentence, clip.speaker) for audio, clip in clean]
    rows, false = [[name, kind.finding, 0, 0, kind.least] for name, kind in kinds.items()], set()
    for seed, each in enumerate(rounds):
        root = work / str(seed)
        kind_of = write_planted(
            root / "corpus", [clip for _, clip in clean], each, kinds, originals=originals, seed=seed
        )
        prepare(config_of(root / "corpus", language, root / "out"), progress=False)
        found = findings(root / "out")
        false |= false_findings(kind_of, found, kinds)
        for row, (_, _, right, of, _) in zip(rows, rates(kind_of, found, kinds)):
            row[2] += right
            row[3] += of
    return rows, false

def measure_leaks(clean: list, leaks: dict, each: int, language: str, work: Path) -> tuple[list, set]:
    "Rows of the table of leaks, and clean clips that were dropped as one."
    rows, dropped = [], set()
    for number, (name, leak) in enumerate(leaks.items()):
        root = work / f"leaks{number}"
        write_leaks(root, [clip for _, clip in clean], each, leak)
        cfg = PrepConfig(
            str(root / "corpus"), language, output_dir=str(root / "out"), storage="audio", train_splits="train",
            keep_out=f"{root / 'outside'}:test", **leak.settings
        )
        prepare(cfg, progress=False)
        got = pq.read_table(root / "out/rejects.parquet").to_pylist()
        right = {r["id"] for r in got if leak.finding == r["reason"] or leak.finding in r["detail"]}
        places = {"in eval": range(each), "in an outside set": range(each, 2 * each)}
        if leak.finding == "sentence_cap":
            pairs = [len(right & {f"leak{i}", f"other{i}"}) == 1 for i in range(2 * each)]
            rows.append([name, leak.finding, sum(pairs), len(pairs), leak.least])
            places = {}
        for where, which in places.items():
            found = sum(f"leak{i}" in right for i in which)
            rows.append([f"{name} {where}", "leak", found, len(which), leak.least])
        wrong = [r for r in got if r["id"].startswith("clean") and r["reason"] in ("leak", "sentence_cap")]
        dropped |= {(f"{number} {r['id']}", r["reason"]) for r in wrong}
    return rows, dropped

def pieces_called_noise(clean: list) -> list:
    "How many pieces of clean clips would be called noise if clips so short were judged: a row for each length."
    rows = []
    for seconds in (0.5, 1.0, 1.5, 2.0):
        pieces, noise = 0, 0
        for audio, _ in clean:
            clip = read_clip(audio)
            n = int(seconds * clip.rate)
            for start in range(0, len(clip.samples) - n + 1, n):
                levels = levels_of(clip.samples[start:start + n], clip.rate)
                if levels.loud < -60: continue  # a pause without any noise
                pieces, noise = pieces + 1, noise + even(levels)
        rows.append([f"{seconds:g} s", noise, pieces])
    return rows

@call_parse
def main(
    corpus: str = "",  # Folder in the Common Voice layout; left out: the sample corpus of the package
    language: str = "en",  # Its language folders, with commas; the first is what all is labelled as
    each: int = 100,  # Clips of each kind
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    pieces: bool = False,  # Instead: cut clean clips into short pieces, and count those that would be called noise
    only: str = "",  # Kinds whose names have this in them; left out: all
    smoke: bool = False,  # Two clips of a kind: shows that it works, measures nothing
):
    "Plant faults into clean clips, and leaks between sets of them, prepare them, and count what is found."
    if smoke: each = 2
    languages = language.split(",")
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        work = Path(tmp)
        clean = clean_clips(Path(corpus) if corpus else SAMPLE, languages, work)
        if pieces: return print(table(["length", "called noise", "of"], pieces_called_noise(clean), markdown))
        rows = []
        false = set()
        for i, (kinds, rounds) in enumerate(groups(ALL_KINDS, each, len(clean))):
            kinds = {name: kind for name, kind in kinds.items() if only in name}
            if not kinds: continue
            of_kinds, wrong = measure(clean, kinds, rounds, languages[0], work / f"group{i}")
            rows += of_kinds
            false |= wrong
        leaks = {name: leak for name, leak in LEAKS.items() if only in name}
        of_leaks, wrong = measure_leaks(clean, leaks, min(each, len(clean) // 5), languages[0], work)
        rows += of_leaks
        false |= wrong
    head = ["planted", "finding", "found", "of", "at least"]
    print(table(head, [[*row[:4], f"{row[4]:.0%}"] for row in rows], markdown))
    counted = Counter(finding for _, finding in false)
    flagged = len({clip for clip, _ in false})
    named = ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "none"
    print(f"\n{flagged} of {len(clean)} clean clips have a finding: {named}")
    figures = dict(table=[head, *rows], false=counted, flagged=flagged, clean=len(clean))
    if json: Path(json).write_text(dumps(figures, indent=1))
