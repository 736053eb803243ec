"""What a plan forecasts and what then happens: bytes, time and memory, for several languages, numbers of workers and storages."""
from __future__ import annotations
import json as js, shutil, tempfile
from pathlib import Path

from audio_ft_prep import PrepConfig, plan
from fastcore.script import call_parse

from common import SAMPLE, machine, measure, table

STORED = {
    "features": {},
    "float32": dict(feature_dtype="float32"),
    "audio": dict(storage="audio"),
    "padded": dict(storage="padded"),
}

def settings(corpus: str, language: str, workers: int, stored: str, out: Path) -> PrepConfig:
    "The config of a run."
    return PrepConfig(corpus, language, output_dir=str(out / "prepared"), num_workers=workers, **STORED[stored])

def happened(cfg: PrepConfig, out: Path) -> dict:
    "Prepare in a program of its own: seconds, bytes of the shards, memory."
    given = {k: getattr(cfg, k) for k in ("train_splits", "eval_splits", "storage")}
    got = measure(
        "ours",
        dict(
            corpus=cfg.dataset_name,
            out=str(out),
            model=cfg.model_id,
            language=cfg.language_code,
            workers=cfg.num_workers,
            dtype=cfg.feature_dtype,
            **given
        ),
    )
    prep = js.loads((out / "prepared/prep.json").read_text(encoding="utf-8"))
    return got | dict(bytes=sum(s["bytes"] for s in prep["shards"]))

def compare(cfg: PrepConfig, out: Path, label: str) -> dict:
    "Plan a run, then make it."
    planned = plan(cfg).forecast
    got = happened(cfg, out)
    shutil.rmtree(out)
    return {
        "run": label,
        "MB written": (planned.bytes / 1e6, got["bytes"] / 1e6),
        "MB of memory": (planned.memory / 1e6, got["peak_mb"]),
        "s": (planned.seconds.low, planned.seconds.high, got["wall_s"]),
        "cpu": (planned.cpu_s, got["cpu_s"]),
    }

HEAD = [
    "", "MB written: forecast", "happened", "off", "MB of memory: forecast", "happened", "off",
    "s: from", "to", "happened",
]
def row(run: dict) -> list:
    "A row of the table: forecast, what happened and how they compare."
    cells = [run["run"]]
    for what in ("MB written", "MB of memory"):
        planned, got = run[what]
        cells += [planned, got, f"{planned / got - 1:+.0%}"]
    return [*cells, *run["s"]]

@call_parse
def main(
    corpus: str = "",  # Folder in the Common Voice layout; left out: the sample corpus of the package
    language: str = "",  # Its languages, with commas; left out: all
    workers: str = "1,2",  # Numbers of worker processes, with commas
    stored: str = "features,float32,audio,padded",  # What is stored, with commas
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # One run: shows that it works, measures nothing
):
    "Plan and make one run after the other."
    source = Path(corpus) if corpus else SAMPLE
    languages = [s for s in language.split(",") if s] or sorted(
        p.name for p in (source / "transcript").iterdir() if p.is_dir()
    )
    kinds = [(lang, int(n), kind) for lang in languages for n in workers.split(",") for kind in stored.split(",")]
    if smoke: kinds = kinds[:1]
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        runs = [
            compare(
                settings(str(source), lang, n, kind, Path(tmp, "out")),
                Path(tmp, "out"),
                f"{lang}, {n} worker{'s' * (n > 1)}, {kind}",
            )
            for lang, n, kind in kinds
        ]
    print(f"{about['cores']} cores, load {about['load']:.1f} at the start\n")
    print(table(HEAD, [row(run) for run in runs], markdown))
    if json: Path(json).write_text(js.dumps(dict(about=about, runs=runs, table=[HEAD, *map(row, runs)]), indent=1))
