"""What a plan foretells beside what then happens: bytes, time and memory, for several languages, numbers of workers and storages."""
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
    told, got = plan(cfg).forecast, happened(cfg, out)
    shutil.rmtree(out)
    pairs = {
        "MB written": (told.bytes / 1e6, got["bytes"] / 1e6),
        "s": (told.seconds, got["wall_s"]),
        "MB of memory": (told.memory / 1e6, got["peak_mb"]),
    }
    return dict(run=label, **pairs, cpu=(told.cpu_s, got["cpu_s"]))

def rows(runs: list[dict]) -> list[list]:
    "A row a run: foretold, happened and how they compare, for each thing foretold."
    return [
        [
            r["run"],
            *(
                cell
                for told, got in (r[k] for k in ("MB written", "s", "MB of memory"))
                for cell in (told, got, f"{told / got - 1:+.0%}")
            ),
        ]
        for r in runs
    ]

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
    "Foretell and make one run after the other."
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
    head = [
        "",
        *(cell for what in ("MB written", "s", "MB of memory") for cell in (f"{what}: foretold", "happened", "off")),
    ]
    print(f"{about['cores']} cores, load {about['load']:.1f} at the start\n")
    print(table(head, rows(runs), markdown))
    if json: Path(json).write_text(js.dumps(dict(about=about, runs=runs, table=[head, *rows(runs)]), indent=1))
