"""What the benchmarks share: a corpus, a program measured from outside, a table."""
from __future__ import annotations
import csv, io, json, os, platform, subprocess, sys, tarfile, threading, time
from importlib.metadata import version
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "audio_ft_prep" / "data" / "sample"
NOT_PASSED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")  # an installed package is compiled once
FIELDS = (
    "client_id",
    "path",
    "sentence",
    "up_votes",
    "down_votes",
    "age",
    "gender",
    "accents",
    "variant",
    "locale",
    "segment",
)
csv.field_size_limit(1 << 24)

def read_clips(root: Path, language: str, split: str = "train"):
    "Yield the clips of one split of a Common Voice layout that have a row and audio: name, bytes, row."
    text, rows = root / "transcript" / language, {}
    for tsv in sorted([*text.glob(f"{split}.tsv"), *text.glob(f"{split}/*.tsv")]):
        with tsv.open(encoding="utf-8", newline="") as f:
            for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
                rows[Path(row["path"]).name.removesuffix(".mp3")] = row
    for tar in sorted((root / "audio" / language / split).glob("*.tar")):
        with tarfile.open(tar) as t:
            for member in t:
                name = Path(member.name).stem
                if member.isfile() and member.size and name in rows and rows[name]["sentence"].strip():
                    yield name, t.extractfile(member).read(), rows[name]

def plain_clips(source: Path, languages: list[str]) -> list:
    "Give the train clips that soundfile decodes, with their seconds: the reference recipe ends at the first it can't."
    import soundfile as sf
    good = []
    for language in languages:
        for name, audio, row in read_clips(source, language):
            try: samples, rate_hz = sf.read(io.BytesIO(audio), dtype="float32")
            except (sf.LibsndfileError, ValueError): continue
            if len(samples): good.append((name, audio, row, len(samples) / rate_hz))
    if not good:
        raise ValueError(
            f"no train clip with a sentence in {source} for {', '.join(languages)}: give --corpus and --language"
        )
    return good

def build_corpus(
    out: Path,  # Folder to make
    corpus: str,  # A folder in the Common Voice layout; empty: the sample corpus of the package
    language: str,  # Its language folders, with commas; empty: all. The first names the new corpus
    clips: int,  # Number of clips wanted
) -> dict: # folder, language, clips, hours, MB of audio
    "Write a corpus whose train split repeats the source's train clips, under new names, until there are enough."
    source = Path(corpus) if corpus else SAMPLE
    if not (source / "transcript").is_dir():
        raise FileNotFoundError(
            f"no transcript folder in {source}: --corpus takes a folder in the Common Voice layout (audio/,"
            " transcript/)"
        )
    languages = [s for s in language.split(",") if s] or sorted(
        p.name for p in (source / "transcript").iterdir() if p.is_dir()
    )
    good = plain_clips(source, languages)
    lang = languages[0]
    seconds = 0
    size = 0
    tar, tsv = out / f"audio/{lang}/train/{lang}_train_0.tar", out / f"transcript/{lang}/train.tsv"
    for file in (tar, tsv): file.parent.mkdir(parents=True)
    with tarfile.open(tar, "w") as t, tsv.open("w", encoding="utf-8", newline="") as f:
        f.write("\t".join(FIELDS) + "\n")
        for i in range(clips):
            name, audio, row, length = good[i % len(good)]
            row = {**row, "path": f"{name}{i // len(good):03d}.mp3", "locale": lang}
            f.write("\t".join(row.get(k) or "" for k in FIELDS) + "\n")
            member = tarfile.TarInfo(f"{tar.stem}/{row['path']}")
            member.size = len(audio)
            t.addfile(member, io.BytesIO(audio))
            seconds, size = seconds + length, size + len(audio)
    return dict(folder=str(out), language=lang, clips=clips, hours=seconds / 3600, audio_mb=size / 1e6)

def memory_of(p: psutil.Process) -> tuple[float, float]:
    "MB of a process, in all and not mapped from files: proportional set size, or unique where there is none."
    if sys.platform != "linux": return (p.memory_full_info().uss / 1e6,) * 2
    lines = Path(f"/proc/{p.pid}/smaps_rollup").read_text().splitlines()[1:]
    kb = {k: int(v.split()[0]) for k, v in (line.split(":") for line in lines)}
    return kb["Pss"] * 1024 / 1e6, kb["Pss_Anon"] * 1024 / 1e6

def tree_memory(root: psutil.Process) -> list[float]:
    "MB of a process and its descendants, in all and not mapped from files; of the process alone, and of the largest descendant."
    found = {}
    for p in [root, *root.children(recursive=True)]:
        try: found[p.pid] = memory_of(p)
        except (OSError, KeyError, psutil.Error): continue  # it has just ended
    return [
        sum(t for t, _ in found.values()),
        sum(a for _, a in found.values()),
        *(
            max((t for pid, (t, _) in found.items() if (pid == root.pid) == own), default=0.0)
            for own in (True, False)
        ),
    ]

def watch(pid: int, peak: list, done: threading.Event):
    "Keep the highest memory of a process tree until it is done, looking every 0.2 s (less often where looking is slow)."
    root, pause = psutil.Process(pid), 0.2
    while not done.wait(pause):
        start = time.perf_counter()
        try: peak[:] = map(max, peak, tree_memory(root))
        except psutil.NoSuchProcess: return
        pause = max(0.2, 10 * (time.perf_counter() - start))

def measure(
    side: str,  # A function of sides.py
    settings: dict,  # Its arguments
    pinned: bool = False,  # One thread a process, by OMP_NUM_THREADS
    memory: bool = True,  # Watch its memory, which costs up to a tenth of a core
) -> dict: # wall_s, cpu_s; peak_mb, anon_mb, parent_mb, worker_mb
    "Run a side as a program; its CPU seconds are those of all its processes, ended ones too."
    env = {k: v for k, v in os.environ.items() if k not in NOT_PASSED} | {
        "HF_DATASETS_CACHE": f"{settings['out']}/cache"
    }
    if pinned: env["OMP_NUM_THREADS"] = "1"
    Path(settings["out"]).mkdir(parents=True)
    log, peak, done = Path(settings["out"], "log.txt"), [0.0] * 4, threading.Event()
    with log.open("w") as f:
        start = time.perf_counter()
        proc = subprocess.Popen(
            [sys.executable, str(HERE / "sides.py"), side, json.dumps(settings)], env=env, stdout=f, stderr=f
        )
        if memory: threading.Thread(target=watch, args=(proc.pid, peak, done), daemon=True).start()
        _, status, usage = os.wait4(proc.pid, 0)
        wall_s, proc.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
        done.set()
    if proc.returncode:
        raise RuntimeError(
            f"{side} ended with code {proc.returncode}:\n" + "\n".join(log.read_text().splitlines()[-15:])
        )
    return dict(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        **dict(zip(("peak_mb", "anon_mb", "parent_mb", "worker_mb"), peak))
    )

def machine() -> dict:
    "Say what the figures were measured with: cores, load, versions."
    names = ("torch", "transformers", "datasets", "pyarrow", "soundfile", "soxr", "numpy")
    return dict(
        cores=os.cpu_count(),
        load=os.getloadavg()[0],
        python=platform.python_version(),
        **{n: version(n) for n in names}
    )

def figure(x) -> str:
    "Write a number with about three digits; text stays."
    return (
        x
        if isinstance(x, str)
        else f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 1 else f"{x:.3f}"
    )

def table(head: list[str], rows: list[list], markdown: bool = False) -> str:
    "Lay out a label and figures a row, for a terminal or as Markdown."
    cells = [head] + [[figure(c) for c in row] for row in rows]
    if markdown:
        return "\n".join(
            "| " + " | ".join(row) + " |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *cells[1:]]
        )
    wide = [max(map(len, col)) for col in zip(*cells)]
    lines = ["  ".join([row[0].ljust(wide[0])] + [c.rjust(w) for c, w in zip(row[1:], wide[1:])]) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
