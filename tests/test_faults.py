"""Whatever happens to a run, the same command goes on and ends with the same bytes.

By default a few faults of each kind are tried; AUDIO_FT_PREP_FAULTS=200 kills that many runs."""
import logging, os, random, re, shutil, signal, subprocess, threading, time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import multiprocessing as mp
import psutil
import pytest
from filelock import FileLock, Timeout

import audio_ft_prep.shards as shards_module
from audio_ft_prep import PrepConfig, load_prepared, local, pipeline, prepare, workers
from audio_ft_prep.engines import Job
from audio_ft_prep.local import run_local
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.pipeline import Part, merge
from audio_ft_prep.reading import PreparedFolder, verify
from audio_ft_prep.run import make_run
from audio_ft_prep.shards import prepare_shard
from audio_ft_prep.workers import Workers
from conftest import COMMAND, SAMPLE, flags, halted, read_all, sentence, tar_clips, until, write_corpus, written

pytestmark = pytest.mark.long

KILLS, A_ROUND = int(os.environ.get("AUDIO_FT_PREP_FAULTS") or 4), 4
LONG = KILLS >= 30
STRACE = shutil.which("strace")
def at_length(*cases):
    return [
        pytest.param(*c if isinstance(c, tuple) else (c,), marks=[only_long] * (i > 0))
        for i, c in enumerate(dict.fromkeys(cases))
    ]
only_long = pytest.mark.skipif(not LONG, reason="a few faults are tried: AUDIO_FT_PREP_FAULTS=30 and above tries all")
needs_strace = pytest.mark.skipif(not STRACE, reason="strace, which has a system call fail, is not installed")


def settings_of(corpus, out, **more):
    "Settings of a run whose workers begin at once: they need no torch."
    return (
        dict(
            dataset_name=str(corpus),
            language_code="it",
            train_splits="train",
            shard_rows=3,
            num_workers=2,
            log_mel="fast",
            output_dir=str(out),
        )
        | more
    )


def contents(out): return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
def shards(out): return len([*out.glob("*/data-*.arrow")])
def records(out): return len([*out.glob(".work/*-00*.json")])


AN_INSTANT = 0.0003


def soon(happens, run, pause_s=0.004):
    "Wait until something is so, or for the run's end; what lasts an instant only needs short pauses."
    end = time.monotonic() + 600
    while not happens() and run.alive(): assert time.monotonic() < end; time.sleep(pause_s)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "120 clips of train and 8 of test: the sample's Italian ones, good and bad, under new names."
    source = [data for _, data in sorted(tar_clips(SAMPLE, "it", "train").items())]
    repeat = lambda split, n: [(f"{split}_{i:03d}", source[i % len(source)], f"la frase {i}") for i in range(n)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), {"train": repeat("train", 120), "test": repeat("test", 8)})


@pytest.fixture(scope="module")
def whole(corpus, start, tmp_path_factory):
    "The corpus, prepared without disturbance: its folder, the bytes in it, and how long it took."
    out, begun = tmp_path_factory.mktemp("whole") / "out", time.monotonic()
    run = start("prepare", *flags(**settings_of(corpus, out)))
    assert run.wait().code == 0
    return SimpleNamespace(out=out, bytes=contents(out), seconds=time.monotonic() - begun)


@pytest.fixture
def completes(start, whole):
    "Run the command until its end, and hold what it made against the undisturbed run."
    def check(*args):
        end = start("prepare", *args).wait()
        assert end.code == 0, end.err
        same(Path(args[args.index("--output-dir") + 1]), whole.bytes)
        return end
    return check


def same(out, wanted):
    made = contents(out)
    assert sorted(n for n in made.keys() | wanted.keys() if made.get(n) != wanted.get(n)) == verify(out) == []


def not_taken_for_whole(out):
    "A folder that isn't finished is nobody's data set; one that has its account is whole."
    if (out / "prep.json").exists():
        assert verify(out) == []
        return load_prepared(out)
    for opens in (load_prepared, verify):
        with pytest.raises(FileNotFoundError, match="no prepared data set"): opens(out)


# Kills

# What is there for a moment only, or from some moment on
MOMENTS = {
    "as the plan is there": lambda out: (out / ".work/plan.json").exists(),
    "before a rename": lambda out: any(out.glob(".work/.*.part")),
    "between a shard and its record": lambda out: shards(out) > records(out),
    "half-way": lambda out: shards(out) >= 15,
    "near the end": lambda out: shards(out) >= 38,
    "at the account of rejects": lambda out: (out / "rejects.parquet").exists(),
    "at the processor": lambda out: (out / "processor").exists(),
    "when the splits are described": lambda out: (out / "train/dataset_info.json").exists(),
    "at the last account": lambda out: any(out.glob(".prep.json.*.part")),
    "as it cleans up": lambda out: (out / "prep.json").exists(),
}
VICTIMS = ("parent", "group", "worker")


def strike(run, out, rng, length):
    "Kill parent, group or a worker at some moment; give who and when, and whether there was anybody to kill."
    who, when = rng.choice(VICTIMS), rng.choice([None, *MOMENTS])
    if when: soon(lambda: MOMENTS[when](out), run, AN_INSTANT)
    else: time.sleep(rng.uniform(0, length))
    if who == "worker": soon(run.workers, run)
    found = run.workers() if who == "worker" else [run] * run.alive()
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        if found and who == "parent": os.kill(run.pid, signal.SIGKILL)  # its workers are to leave by themselves
        if found and who == "group": run.signal(signal.SIGKILL)
        if found and who == "worker": rng.choice(found).kill()
    return who, when or "at any time", bool(found)


@pytest.mark.parametrize("seed", range(-(-KILLS // A_ROUND)))
def test_killed_again_and_again_a_run_goes_on_and_ends_with_the_same_bytes(
    corpus, whole, completes, start, figure, tmp_path, seed
):
    rng = random.Random(seed)
    out = tmp_path / "0"
    made = {}
    ends = []
    for i in range(A_ROUND):
        run = start("prepare", *flags(**settings_of(corpus, out)))
        who, when, struck = strike(run, out, rng, whole.seconds)
        end = run.wait()
        until(run.gone)
        assert end.code in (0, -signal.SIGKILL), end.err
        if end.code == 0: same(out, whole.bytes)
        elif out.exists(): not_taken_for_whole(out)
        assert written(out, made) == made, "a shard that was done was made again"
        made |= read_all(out)
        ends.append(f"{who} {when}: {'killed' if end.code else 'went on' if struck else 'was over before'}")
        if end.code == 0: out, made = tmp_path / f"{i + 1}", {}
    completes(*flags(**settings_of(corpus, out)))
    assert written(out, made) == made
    figure(f"round {seed}: {'; '.join(ends)}")


@only_long
def test_killed_at_one_moment_after_the_other_a_run_ends_with_the_same_bytes(corpus, whole, completes, start, tmp_path):
    out, rng, made = tmp_path / "out", random.Random(4), {}
    moments = [lambda: (out / ".work/plan.json").exists(), *(lambda n=n: shards(out) >= n for n in (1, 20)),
               lambda: (out / "rejects.parquet").exists(), lambda: (out / "dataset_dict.json").exists()]
    for i, moment in enumerate(moments):
        run = start("prepare", *flags(**settings_of(corpus, out)))
        soon(moment, run)
        time.sleep(rng.choice([0, 0.01, 0.05]))
        if i % 2: os.kill(run.pid, signal.SIGKILL)  # its workers are to leave by themselves
        else: run.signal(signal.SIGKILL)
        assert run.wait().code in (0, -signal.SIGKILL)
        until(run.gone)
        assert written(out, made) == made, "a shard that was done was made again"
        made |= read_all(out)
    completes(*flags(**settings_of(corpus, out)))


CALLS = ",".join(
    f"?{c}" for c in ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "fsync")
)


def traced(pid, *rules):
    "Have strace tamper with the system calls of a process from here on."
    tracer = subprocess.Popen(
        [STRACE, "-qq", "-o", os.devnull, "-p", str(pid), *rules], stderr=subprocess.PIPE, text=True
    )
    def attached():
        if tracer.poll() is not None: return "over"
        try: return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError): return "over"
    if until(attached) == "over" and "not permitted" in tracer.stderr.read(): pytest.skip("strace may not be used here")
    return tracer


@pytest.fixture(scope="module")
def made(corpus, start, tmp_path_factory):
    "A run of which nothing is left to do but the bookkeeping."
    out = tmp_path_factory.mktemp("made") / "out"
    run = start("prepare", *flags(**settings_of(corpus, out)))
    soon(lambda: (out / "rejects.parquet").exists(), run, AN_INSTANT)
    run.signal(signal.SIGKILL)
    run.wait()
    return out


@needs_strace
@pytest.mark.parametrize("n", range(1, 120, 3) if LONG else [40])
def test_killed_at_a_step_of_the_bookkeeping_a_run_is_finished_by_the_next(corpus, made, completes, start, tmp_path, n):
    out = shutil.copytree(made, tmp_path / "out")
    run = start("prepare", *flags(**settings_of(corpus, out)))
    tracer = traced(run.pid, "-e", f"trace={CALLS}", "-e", f"inject={CALLS}:signal=SIGKILL:when={n}")
    end = run.wait()
    tracer.wait(600)
    assert end.code in (0, -signal.SIGKILL), end.err
    not_taken_for_whole(out)
    completes(*flags(**settings_of(corpus, out)))


# Stopped by a person or by the machine

STOPS = {
    "while it plans": lambda out, run: True,
    "as workers start": lambda out, run: run.workers(),
    "at work": lambda out, run: shards(out) >= 5,
    "at the bookkeeping": lambda out, run: (out / "rejects.parquet").exists(),
}


@pytest.fixture
def halted_at(corpus, start, tmp_path):
    "A run that stands still at one of these moments: it, its arguments, its folder and the seconds until then. One that was too quick to be seen there is begun anew."
    def get(when):
        for i in range(5):
            out, begun = tmp_path / f"out{i}", time.monotonic()
            args = flags(**settings_of(corpus, out))
            run = start("prepare", *args)
            soon(lambda: STOPS[when](out, run), run, AN_INSTANT)
            if halted(run) and not (out / "prep.json").exists(): return run, args, out, time.monotonic() - begun
            run.signal(signal.SIGCONT)
            run.wait()
        pytest.fail(f"no run could be stopped {when}")
    return get


@pytest.mark.parametrize(
    "how, when",
    at_length(
        ("SIGINT", "at work"),
        ("SIGTERM", "at the bookkeeping"),
        *((h, w) for h in ("SIGINT", "SIGTERM") for w in STOPS)
    ),
)
def test_ctrl_c_and_sigterm_end_in_one_sentence_and_leave_no_process(halted_at, completes, figure, how, when):
    run, args, out, until_then_s = halted_at(when)
    begun = time.monotonic()
    if how == "SIGINT": run.signal(signal.SIGINT)
    else: os.kill(run.pid, signal.SIGTERM)
    run.signal(signal.SIGCONT)
    end = run.wait()
    until(run.gone)
    took_s = time.monotonic() - begun
    figure(f"{how} {when}: over after {took_s:.2f} s")
    assert took_s < max(10, 3 * until_then_s), "two seconds are promised, and a busy machine is given more"
    assert end.code == {"SIGINT": 130, "SIGTERM": 143}[how] and "the same command goes on from here" in sentence(
        end.err
    )
    assert not any(out.glob("**/.*.part")) and (not out.exists() or not_taken_for_whole(out) is None)
    completes(*args)


def test_a_stopped_worker_is_noticed_and_its_shard_made_by_another(corpus, whole, start, tmp_path):
    out = tmp_path / "out"
    run = start("prepare", *flags(**settings_of(corpus, out)), env={"AUDIO_FT_PREP_STUCK_SECONDS": "4"})
    soon(lambda: shards(out) >= 3, run)
    assert halted(run)
    reads = lambda p: any(f.path.startswith(str(corpus)) for f in p.open_files())  # another may still be importing, and is given longer
    stopped = next(filter(reads, run.workers()))
    for p in [psutil.Process(run.pid), *run.workers()]:
        if p != stopped: p.resume()
    end = run.wait()
    assert end.code == 0 and re.search(
        "its (worker died|own died before it began): timed out after 4 s", end.err
    ), "on a shard, or as it was to begin the next"
    same(out, whole.bytes)


def folder_of_clips(root, n):
    "A corpus of one file a clip."
    (root / "clips").mkdir(parents=True)
    good = sorted(tar_clips(SAMPLE, "it", "train").items())
    lines = ["file_name,text"]
    for i in range(n):
        (root / f"clips/c{i:03d}.mp3").write_bytes(good[i % len(good)][1])
        lines.append(f"clips/c{i:03d}.mp3,la frase {i}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def clips(tmp_path, start):
    "A folder of clips with the flags that prepare it, what an undisturbed run makes of it, and a run that stands still while something is changed under it."
    root, out = folder_of_clips(tmp_path / "clips", 60), tmp_path / "out"
    args = lambda out: flags(
        dataset_name=root,
        language_code="it",
        output_dir=out,
        eval_splits="",
        shard_rows=4,
        num_workers=1,
        log_mel="fast",
    )
    def undisturbed():
        assert (end := start("prepare", *args(tmp_path / "undisturbed")).wait()).code == 0, end.err
        return contents(tmp_path / "undisturbed")
    def changed(change, **kw):
        run = start("prepare", *args(out), **kw)
        soon(lambda: shards(out) >= 1, run)
        assert halted(run)
        change()
        run.signal(signal.SIGCONT)
        return run.wait()
    return SimpleNamespace(
        root=root, out=out, args=args(out), undisturbed=undisturbed, changed=changed, last=root / "clips/c059.mp3"
    )


@only_long
def test_a_worker_that_stands_still_again_and_again_ends_the_run_in_a_sentence_that_names_the_clip(clips, start):
    wanted, over = clips.undisturbed(), threading.Event()
    run = start("prepare", *clips.args, env={"AUDIO_FT_PREP_STUCK_SECONDS": "4"})
    soon(lambda: shards(clips.out) >= 1, run)
    def freeze():
        while not over.wait(0.05):
            for p in run.workers():
                with suppress(psutil.Error): p.suspend()
    freezing = threading.Thread(target=freeze)
    freezing.start()
    end = run.wait()
    over.set()
    freezing.join()
    assert end.code == 1 and re.search(
        r"a worker died 3 times .*timed out after .*AUDIO_FT_PREP_STUCK_SECONDS", sentence(end.err)
    )
    assert start("prepare", *clips.args).wait().code == 0
    same(clips.out, wanted)


# Reads that fail, and a corpus that changes

def test_a_clip_that_is_gone_is_no_bad_clip_and_the_run_goes_on_when_it_is_back(clips, start, tmp_path):
    wanted, aside = clips.undisturbed(), tmp_path / "aside.mp3"
    end = clips.changed(lambda: os.rename(clips.last, aside))
    assert end.code == 1 and f"{clips.last} is gone" in sentence(end.err)
    os.rename(aside, clips.last)
    assert start("prepare", *clips.args).wait().code == 0
    same(clips.out, wanted)


@pytest.mark.parametrize("how", at_length("replaced", "written over", "cut short"))
def test_a_clip_that_changes_under_a_run_ends_it(clips, how):
    def change():
        data, other = clips.last.read_bytes(), clips.root / "other"
        if how == "cut short": os.truncate(clips.last, len(data) // 2)
        if how == "written over": clips.last.write_bytes(data[::-1])
        if how == "replaced":
            other.write_bytes(data[::-1])
            os.utime(other, (0, 0))
            os.replace(other, clips.last)
    end = clips.changed(change)
    assert (
        end.code == 1
        and f"{clips.last} " in (said := sentence(end.err))
        and ("changed during the run" in said or "changed while it was read" in said)
    )
    not_taken_for_whole(clips.out)


def test_a_backup_that_makes_hard_links_under_a_run_changes_nothing(clips):
    wanted = clips.undisturbed()
    end = clips.changed(lambda: [os.link(f, f"{f}.bak") for f in clips.root.glob("clips/*.mp3")])
    assert end.code == 0, end.err
    same(clips.out, wanted)


@only_long
def test_a_corpus_that_changed_between_a_run_and_its_resumption_is_refused(corpus, start, tmp_path):
    corpus, out = shutil.copytree(corpus, tmp_path / "copy"), tmp_path / "out"
    run = start("prepare", *flags(**settings_of(corpus, out)))
    soon(lambda: shards(out) >= 5, run)
    run.signal(signal.SIGKILL)
    run.wait()
    tar = corpus / "audio/it/train/it_train_0.tar"
    with open(tar, "r+b") as f:
        f.seek(3000)
        f.write(b"other bytes")
    end = start("prepare", *flags(**settings_of(corpus, out))).wait()
    assert end.code == 2 and sentence(end.err).startswith(f"{tar} has changed since {out} was begun")


@needs_strace
@pytest.mark.parametrize(
    "call, error, says",
    at_length(
        ("pread64", "EIO", "can't be read or written (Input/output error): see to its disk"),
        ("fsync", "EIO", "can't be read or written"),
        ("rename", "EROFS", "Read-only file system"),
        ("openat", "EMFILE", "too many files are open"),
    ),
)
def test_a_call_that_fails_in_a_worker_ends_the_run_in_a_sentence_and_makes_no_clip_a_bad_one(
    corpus, completes, start, tmp_path, call, error, says
):
    out = tmp_path / "out"
    args = flags(**settings_of(corpus, out, num_workers=1))
    run = start("prepare", *args)
    soon(lambda: shards(out) >= 2, run)
    assert halted(run)
    tracer = traced(
        run.workers()[0].pid,
        "-f",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}:when={'3+' if call == 'pread64' else '1+'}",
    )
    run.signal(signal.SIGCONT)
    end = run.wait()
    tracer.wait(600)
    assert end.code == 1 and says in sentence(end.err)
    if call == "pread64": assert str(corpus) in sentence(end.err)
    not_taken_for_whole(out)
    completes(*args)


# Room and limits

@pytest.fixture
def small_disk(tmp_path):
    "A disk of 120 MB, which can be filled up but for some bytes."
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("a small disk can be mounted by root only")
    def leave(n):
        (disk / "ballast").unlink(missing_ok=True)
        with open(disk / "ballast", "wb") as f:
            os.posix_fallocate(f.fileno(), 0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - n)
    yield SimpleNamespace(at=disk, leave=leave)
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("share", at_length(0.4, 0.1, 0.97, 0.99))
def test_a_disk_that_fills_up_ends_the_run_in_a_sentence_and_with_room_it_goes_on(
    corpus, whole, completes, small_disk, start, share
):
    out, total = small_disk.at / "out", sum(map(len, whole.bytes.values()))
    args = flags(**settings_of(corpus, out))
    run = start("prepare", *args)
    soon(lambda: shards(out) >= 2, run)
    small_disk.leave(
        max(0, int(share * total) - sum(p.stat().st_size for p in out.glob("*/data-*.arrow"))) // 4096 * 4096
    )
    end = run.wait()
    assert end.code == 1 and f"no room is left for {out} (No space left on device): make room" in sentence(end.err)
    assert not any(out.glob("**/.*.part")), "what can't be finished gives its room back"
    not_taken_for_whole(out)
    (small_disk.at / "ballast").unlink()
    completes(*args)


@pytest.mark.parametrize("files", at_length(14, 10, 18))
def test_too_few_file_handles_end_in_a_sentence_and_with_more_the_run_goes_on(
    corpus, completes, start, tmp_path, files
):
    args = flags(**settings_of(corpus, tmp_path / "out", num_workers=4))
    end = start("prepare", *args, limits={"NOFILE": files}).wait()
    assert end.code == 1 and f"too many files are open, {files} are allowed: allow more (ulimit -n)" in sentence(
        end.err
    )
    completes(*args)


# Memory, threads and streams

@pytest.mark.parametrize(
    "limit, mb, says",
    at_length(
        ("AS", 700, "700 MB of address space (ulimit -v), and a run needs 1024 MB"),
        ("DATA", 300, "300 MB of data (ulimit -d)"),
        *(("AS", mb, f"{mb} MB of address space") for mb in (500, 600, 650, 750, 1000)),
    ),
)
def test_a_run_that_is_allowed_too_little_memory_says_so_before_it_begins(
    corpus, completes, start, tmp_path, limit, mb, says
):
    args = flags(**settings_of(corpus, tmp_path / "out"))
    begun = time.monotonic()
    end = start("prepare", *args, limits={limit: mb << 20}).wait()
    assert end.code == 1 and f"each process may have {says}" in sentence(end.err) and time.monotonic() - begun < 60
    assert not (tmp_path / "out").exists()
    completes(*args)


@pytest.mark.parametrize("limit", ["AS", "DATA"])
@pytest.mark.parametrize("mb", [50, 120, 250])
def test_a_command_that_may_not_even_load_its_libraries_says_so(limit, mb):
    import resource
    what = getattr(resource, f"RLIMIT_{limit}")
    end = subprocess.run(
        [COMMAND, "prepare"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(what, (mb << 20, mb << 20)),
    )
    assert (end.returncode, end.stdout) == (1, "") and f"this process may have {mb} MB of memory" in sentence(
        end.stderr
    )


WITHOUT = {  # what a process of Python meets as it starts, and where it ends
    "threads": ("_thread.start_new_thread = refused", 'RuntimeError("can\'t start new thread")'),
    "room for a library": (
        "sys.meta_path.insert(0, Finder())",
        'ImportError("libsoxr.so: failed to map segment from shared object")',
    ),
    "memory": ("sys.meta_path.insert(0, Finder())", "MemoryError()"),
}
SITE = """
import _thread, sys
if any("spawn_main" in a for a in sys.orig_argv):
    def refused(*args, **kw): raise {error}
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "soxr": refused()
    {do}
"""


@pytest.mark.parametrize("what", WITHOUT)
def test_a_worker_that_gets_no_memory_or_thread_ends_the_run_in_a_sentence(corpus, tmp_path, what):
    do, error = WITHOUT[what]
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE.format(do=do, error=error))
    args = flags(**settings_of(corpus, tmp_path / "out", num_workers=1))
    end = subprocess.run(
        [COMMAND, "prepare", *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert (
        end.returncode == 1
        and "memory or threads ran out: give the run more, or fewer workers (num_workers)" in sentence(end.stderr)
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("libx.so: failed to map segment from shared object"),
        type("PanicException", (BaseException,), {})("out of memory"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_want_of_memory_in_the_parent_is_told_in_a_sentence_wherever_it_is_met(tmp_path, monkeypatch, error):
    def fail(*a, **kw): raise error
    for name in ("read_corpus", "make_run", "_make_shards", "_finalize"):
        with monkeypatch.context() as patch, pytest.raises(
            RuntimeError,
            match="ran out: give the run more, or fewer workers .num_workers., and run it again to go on",
        ):
            patch.setattr(pipeline, name, fail)
            prepare(
                PrepConfig("sample", "it", output_dir=str(tmp_path / name), num_workers=1, log_mel="fast"),
                progress=False,
            )
    assert not mp.active_children()


@pytest.mark.parametrize("closed", at_length("2>&-", "<&- >&- 2>&-", "<&-", ">&- 2>&-"))
def test_closed_streams_are_closed_for_workers_too_and_nothing_they_say_lands_in_a_file(
    corpus, whole, tmp_path, closed
):
    "A decoder that warns writes to stream 2, whatever file has that number."
    out, seen = tmp_path / "out", set()
    args = flags(**settings_of(corpus, out))
    run = subprocess.Popen(
        ["sh", "-c", f'exec "$0" "$@" {closed}', COMMAND, "prepare", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while run.poll() is None:
        with suppress(psutil.Error, OSError):
            for p in psutil.Process(run.pid).children():
                seen |= {os.readlink(f"/proc/{p.pid}/fd/2")} if "spawn_main" in " ".join(p.cmdline()) else set()
        time.sleep(0.01)
    assert run.wait() == 0 and seen == {
        os.devnull if "2>" in closed else os.readlink(f"/proc/self/fd/{run.stderr.fileno()}")
    }
    same(out, whole.bytes)


@pytest.mark.parametrize("signals", at_length("TERM TERM", "TERM INT HUP", "INT TERM TERM TERM", "HUP HUP INT"))
def test_stops_that_follow_each_other_end_in_one_sentence(halted_at, completes, signals):
    run, args, out, _ = halted_at("at work")
    run.signal(signal.SIGCONT)
    for s in signals.split():
        with suppress(ProcessLookupError): os.kill(run.pid, getattr(signal, f"SIG{s}"))
        time.sleep(0.01)
    end = run.wait()
    until(run.gone)
    assert end.code in (129, 130, 143) and "the same command goes on from here" in sentence(end.err)
    completes(*args)


# Others at the same folder

@only_long
def test_a_merge_into_a_folder_that_a_run_writes_says_so_and_stops(start, tmp_path):
    cfg = dict(dataset_name="sample", language_code="it", shard_rows=3)
    for i in range(2):
        prepare(
            PrepConfig(**cfg, output_dir=str(tmp_path / f"part{i}"), num_workers=1), progress=False, part=Part(i, 2)
        )
    run = start("prepare", *flags(**cfg, output_dir=tmp_path / "out"))
    soon(lambda: shards(tmp_path / "out") >= 1, run)
    run.signal(signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="another run is writing"):
        merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "out")
    run.signal(signal.SIGCONT)
    assert run.wait().code == 0 and verify(tmp_path / "out") == []


def test_a_folder_that_cant_be_locked_is_not_written(tmp_path):
    (tmp_path / "out/.work/lock").mkdir(parents=True)
    with pytest.raises(
        OSError,
        match="can't be kept for this run alone .*: set output_dir to a folder where files can be made and locked",
    ):
        prepare(PrepConfig("sample", "it", output_dir=str(tmp_path / "out")), progress=False)
    assert [p.name for p in (tmp_path / "out").rglob("*")] == [".work", "lock"]


# The engine, called as a program does

@pytest.fixture
def sample(tmp_path):
    "The sample's train split, ready for `run_local`."
    cfg = PrepConfig(
        "sample",
        "it",
        train_splits="train",
        eval_splits="",
        shard_rows=2,
        log_mel="fast",
        output_dir=str(tmp_path / "out"),
    )
    run, folder = make_run(cfg), OutputFolder.of(cfg.output_dir)
    folder.start(run.manifest, run.splits)
    return SimpleNamespace(cfg=cfg, out=folder.at, makers=run.shards, job=Job(run.maker, run.schema, folder))


def test_an_error_of_who_looks_on_stops_the_workers_and_the_run_goes_on_from_there(sample):
    before, looks = set(mp.active_children()), []
    def look(*seen):
        looks.append(seen)
        if seen[0] > 6: raise KeyError("the form is gone")
    with pytest.raises(KeyError, match="the form is gone"): [*run_local(sample.makers, sample.job, 1, look)]
    assert set(mp.active_children()) <= before and looks == sorted(looks)
    assert 0 < records(sample.out) < len(sample.makers)
    assert prepare(sample.cfg, progress=False).hash and verify(sample.out) == []


def test_workers_can_be_there_before_their_work_and_end_without_any(sample):
    before = set(mp.active_children())
    with Workers(2, sample.job.maker.preload) as early:
        mine = set(mp.active_children()) - before
        mine.pop().kill()  # before anybody has looked
        assert sorted(r.file for r in run_local(sample.makers, sample.job, early)) == sorted(
            m().file for m in sample.makers
        )
        assert len(set(mp.active_children()) - before) == 2, "the caller closes them"
    with Workers(2, sample.job.maker.preload): pass
    assert set(mp.active_children()) <= before


def test_a_run_of_which_only_some_results_are_wanted_leaves_no_process(sample):
    before = set(mp.active_children())
    for _ in (results := run_local(sample.makers, sample.job, 2)): break
    results.close()
    assert set(mp.active_children()) <= before


@pytest.fixture
def frozen(monkeypatch):
    "Have a process be beyond reach, as one that waits for a disk: it stands still, and to kill it does nothing."
    kill, held = mp.process.BaseProcess.kill, []
    def freeze(worker):
        os.kill(worker.process.pid, signal.SIGSTOP)
        held.append(worker.process.pid)
    monkeypatch.setattr(mp.process.BaseProcess, "kill", lambda p: None if p.pid in held else kill(p))
    monkeypatch.setenv("AUDIO_FT_PREP_STUCK_SECONDS", "300")
    monkeypatch.setattr(workers, "STUCK_SECONDS", 1.)
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.5)
    yield freeze
    for pid in held: os.kill(pid, signal.SIGKILL)


def test_a_worker_that_nothing_can_end_is_given_up_and_its_shard_made_by_another(sample, frozen):
    before, pids = set(mp.active_children()), set()
    with Workers(1, sample.job.maker.preload) as crew:
        assert len([*run_local(sample.makers[:1], sample.job, crew)]) == 1
        crew.limit_s = 1.
        crew.grow(2)
        crew.limit_s = 300.  # what takes its place may be slow to begin
        pids = {w.process.pid for w in crew.all}
        frozen(crew.all[1])
        assert len([*run_local(sample.makers[1:], sample.job, crew)]) == len(sample.makers) - 1
        lost = pids - {w.process.pid for w in crew.all}
    assert [psutil.Process(pid).status() for pid in lost] == [psutil.STATUS_STOPPED] and set(
        mp.active_children()
    ) <= before, "Python would wait for it at its end"


def test_a_worker_that_nothing_can_end_before_it_began_is_told_as_that(sample, frozen):
    with Workers(0, int) as crew:
        crew.limit_s = 0.1
        crew.grow(1)
        frozen(crew.all[0])
        with pytest.raises(
            RuntimeError,
            match=(
                "a worker died 1 times before it began, timed out after 1 s .and can't be ended.: see that the disk"
                " with Python's packages answers"
            ),
        ):
            [*run_local(sample.makers, sample.job, crew, tries=1)]


def test_a_dead_worker_is_seen_where_the_system_tells_nothing_of_children(sample, caplog):
    caplog.set_level(logging.WARNING)
    before, struck = signal.signal(signal.SIGCHLD, signal.SIG_IGN), []
    def look(*seen):
        assert time.monotonic() < end
        if not struck and crew.all[0].begun(): struck.append(crew.all[0].process.kill())
    try:
        with Workers(1, sample.job.maker.preload) as crew:
            end = time.monotonic() + 600
            assert len([*run_local(sample.makers, sample.job, crew, look)]) == len(sample.makers)
    finally: signal.signal(signal.SIGCHLD, before)
    assert struck


MAKERS = """
import os
from audio_ft_prep.rejects import BadClip
class Maker:
    storage = "features"
    def __init__(self, ends): self.ends = ends
    def of_split(self, split): return self
    def __call__(self, row):
        if self.ends: os._exit(1)
        raise BadClip("silent")
class Never:
    def __lt__(self, other):
        while True: pass
    __ge__ = __lt__
"""


@pytest.fixture
def makers(tmp_path, monkeypatch):
    "A module, for workers too, with a maker that ends its process, and a moment in time that can't be compared."
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/odd_makers.py").write_text(MAKERS)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    import odd_makers
    return odd_makers


def test_a_worker_that_leaves_with_code_1_is_not_said_to_have_timed_out(sample, makers):
    with Workers(1, int) as crew, pytest.raises(
        RuntimeError,
        match=r"a worker died 1 times while train-00000 was made, ended with code 1 at clip \S+: take that clip out",
    ):
        [*run_local(sample.makers[:1], replace(sample.job, maker=makers.Maker(True)), crew, tries=1)]


def test_a_worker_that_times_out_after_its_last_clip_is_none_of_the_corpus_s_fault(sample, makers, monkeypatch):
    monkeypatch.setenv("AUDIO_FT_PREP_STUCK_SECONDS", "4")
    with Workers(1, int) as crew, pytest.raises(
        RuntimeError,
        match=(
            "timed out after 4 s past its last clip: see that output_dir's disk or store answers, or allow it more"
            " than 4 s"
        ),
    ):
        [
            *run_local(
                sample.makers[:1],
                replace(sample.job, maker=makers.Maker(False), since_ns=makers.Never()),
                crew,
                tries=1,
            )
        ]


def test_a_shard_gives_signs_of_life_while_it_is_sent_and_waits_for_its_disk_on_the_way(sample, monkeypatch):
    shard, syncs, told, fsync = sample.makers[0](), [], [], os.fsync
    job = sample.job
    monkeypatch.setattr(os, "fsync", lambda fd: (syncs.append(fd), fsync(fd)))
    monkeypatch.setattr(shards_module, "_UNSYNCED", 10_000)
    made = prepare_shard(shard, job.maker, job.schema, job.folder)
    assert len(syncs) > 4, "two files and their folders, and the shard on the way"
    sent = prepare_shard(
        shard,
        job.maker,
        job.schema,
        PreparedFolder.of("memory://signs/out"),
        lambda tally: told.append(tally.rows + len(tally.rejects)),
    )
    assert sent.sha256 == made.sha256 and told[-2:] == [len(shard.table())] * 2 and len(told) > len(shard.table())


def test_no_other_run_has_the_folder_before_the_workers_are_gone(tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    class Watched(Workers):
        def close(self):
            if self.all:
                with pytest.raises(Timeout), FileLock(out / ".work/lock", timeout=0): pass
                seen.append(len(self.all))
            super().close()
    monkeypatch.setattr(local, "Workers", Watched)
    def stop(now): raise KeyError("stop")
    with pytest.raises(KeyError, match="stop"):
        prepare(PrepConfig("sample", "it", num_workers=1, output_dir=str(out)), progress=stop)
    assert seen == [1]
