"""Workers: how many, how they are started, and what a start leaves behind when it is disturbed."""
import multiprocessing as mp, os, shutil, signal, sys, threading, time
from contextlib import closing, contextmanager
from multiprocessing import popen_spawn_posix, resource_tracker

import pytest

from audio_ft_prep import machine
from audio_ft_prep.config import ENGINES, PrepConfig
from audio_ft_prep.engines import Engine, Job, open_engine
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.run import make_run
from audio_ft_prep.shards import prepare_shard
from audio_ft_prep.workers import Workers
from conftest import until


@contextmanager
def heeding(number, handler):
    "Have a signal handled so while a block runs."
    before = signal.signal(number, handler)
    try: yield
    finally: signal.signal(number, before)


V1 = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
V1_JOB = {"cpu/jobs/7/cpu.cfs_quota_us": "250000", "cpu/jobs/7/cpu.cfs_period_us": "100000"}
GROUPS = {  # what /proc/self/cgroup says, files of the groups, cores
    "no limit": ("0::/", {"cpu.max": "max 100000"}, None),
    "a container's own": ("0::/", {"cpu.max": "300000 100000"}, 3),
    "less than a core": ("0::/", {"cpu.max": "50000 100000"}, 1),
    "a service's": ("0::/system.slice/job.service", {"system.slice/job.service/cpu.max": "250000 100000"}, 2),
    "the slice is stricter than the service": (
        "0::/a/b",
        {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"},
        2,
    ),
    "the service is stricter than the slice": (
        "0::/a/b",
        {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000", "cpu.max": "100000 100000"},
        1,
    ),
    "a path from outside the container": ("0::/kubepods/pod7", {"cpu.max": "400000 100000"}, 4),
    "a path that leaves the tree": ("0::/../..", {"cpu.max": "400000 100000"}, 4),
    "another's group": ("0::/a", {"b/cpu.max": "100000 100000"}, None),
    "version 1 without limit": ("5:cpu,cpuacct:/\n1:memory:/", V1, None),
    "version 1": ("7:memory:/jobs/9\n5:cpu,cpuacct:/jobs/7\n0::/init", V1 | V1_JOB, 2),
    "a file of another kind": ("0::/", {"cpu.max": "many"}, None),
}


@pytest.mark.light
@pytest.mark.parametrize("what", GROUPS)
def test_cores_are_those_that_the_control_groups_grant(tmp_path, what):
    listed, files, cores = GROUPS[what]
    (tmp_path / "listed").write_text(f"{listed}\n")
    for name, text in files.items():
        (path := tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert machine._quota(tmp_path / "listed", tmp_path / "groups") == cores
    assert machine._quota(tmp_path / "no such list") is None


@pytest.mark.light
@pytest.mark.parametrize("asked", ["soon", "0", "-1", "nan", "inf", "1e12"])
def test_a_limit_that_is_no_number_of_seconds_is_refused(monkeypatch, asked):
    monkeypatch.setenv("AUDIO_FT_PREP_STUCK_SECONDS", asked)
    with pytest.raises(
        ValueError,
        match=(
            f"AUDIO_FT_PREP_STUCK_SECONDS must be a number of seconds above 0 and at most 86400, a day, got {asked}"
        ),
    ):
        Workers(1, int)


def test_a_process_of_a_pool_is_told_to_leave_it_to_the_main_program():
    with mp.get_context("spawn").Pool(1) as pool, pytest.raises(
        RuntimeError, match="call prepare from the main program"
    ):
        pool.apply(Workers, (1, int))


def test_runs_that_start_at_the_same_time_leave_the_main_script_in_its_place(monkeypatch):
    main, gate, begun, made, launch = (
        sys.modules["__main__"],
        threading.Barrier(2),
        [],
        [],
        popen_spawn_posix.Popen._launch,
    )
    def slowly(self, process):
        begun.append(self)
        time.sleep(0.2 * len(begun))  # so that the second, if it is let in, ends last
        launch(self, process)
    monkeypatch.setattr(popen_spawn_posix.Popen, "_launch", slowly)
    def go():
        gate.wait()
        made.append(Workers(1, int))
    threads = [threading.Thread(target=go) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    for w in made: w.close()
    assert sys.modules["__main__"] is main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_as_a_worker_starts_leaves_no_process(monkeypatch, number):
    import psutil
    def stop(*_): raise KeyboardInterrupt
    launch, over = popen_spawn_posix.Popen._launch, threading.Event()
    def stopped(self, process):
        launch(self, process)
        os.kill(os.getpid(), number)
    monkeypatch.setattr(popen_spawn_posix.Popen, "_launch", stopped)
    resource_tracker.ensure_running()
    before = psutil.Process().children()
    threading.Thread(target=over.wait, daemon=True).start()  # which hears of the signal where the main thread is deaf
    with heeding(number, stop), pytest.raises(KeyboardInterrupt) as e: Workers(1, int)
    over.set()
    assert set(psutil.Process().children()) <= set(before) and e  # whose stack may keep what was started


# The contract of an engine, held by each of ENGINES

def job_of(settings, out):
    "A run of the sample's Italian clips, and the job to make its shards in a folder."
    run = make_run(
        PrepConfig(
            "sample",
            "it",
            train_splits="train",
            eval_splits="",
            shard_rows=4,
            log_mel="fast",
            num_workers=2,
            **settings
        )
    )
    folder = OutputFolder(out)
    folder.start(run.manifest, run.splits)
    return run, Job(run.maker, run.schema, folder)


def sums_of(results):
    rejects = sum(len(r.rejects) for r in results)
    return sum(r.rows for r in results) + rejects, sum(r.samples for r in results), rejects


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    "SHA-256 of each shard, as this process makes it."
    run, job = job_of({}, tmp_path_factory.mktemp("wanted") / "out")
    return {r.file: r.sha256 for r in (prepare_shard(make(), job.maker, job.schema, job.folder) for make in run.shards)}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.long] * (name != "local")) for name in ENGINES])
def engine(request, tmp_path):
    "An engine, with its run and its job; its packages may be missing. Nothing of it is left when it was closed."
    import psutil
    if request.param == "ray": pytest.importorskip("ray", reason="ray is not installed")
    resource_tracker.ensure_running()
    before = psutil.Process().children(recursive=True)
    run, job = job_of(dict(engine=request.param), tmp_path / "out")
    with open_engine(run.cfg, run.maker.preload) as opened: yield opened, run, job
    begun = time.monotonic()
    opened.close()  # once more, which does nothing
    assert time.monotonic() - begun < 10
    until(lambda: set(psutil.Process().children(recursive=True)) <= set(before), 60)


def test_an_engine_yields_each_shard_once_with_the_same_bytes_and_says_how_far_it_is(engine, wanted):
    opened, run, job = engine
    assert isinstance(opened, Engine)
    opened.start()
    progress = []
    results = [*opened.run(run.shards, job, lambda *sums: progress.append(sums))]
    assert len(results) == len(run.shards) and {r.file: r.sha256 for r in results} == wanted
    assert {job.folder.record(r.key, job.token).sha256 for r in results} == set(
        wanted.values()
    ), "what was yielded is on disk"
    assert progress == sorted(progress) and progress[-1] == sums_of(results)
    assert [*opened.run([], job)] == []


def test_an_engine_ends_when_its_caller_does_and_another_goes_on(engine, wanted):
    opened, run, job = engine
    def stop(clips, samples, rejects):
        if clips: raise KeyError("the form is gone")
    with pytest.raises(KeyError, match="the form is gone"), closing(opened.run(run.shards, job, stop)) as results:
        list(results)
    for result in (results := opened.run(run.shards, job)): break
    results.close()
    assert wanted[result.file] == result.sha256


def test_what_goes_wrong_in_an_engines_worker_is_a_sentence(engine):
    opened, run, job = engine
    shutil.rmtree(job.folder.at / "train")
    with pytest.raises((OSError, RuntimeError), match="No such file or directory"), closing(
        opened.run(run.shards, job)
    ) as results:
        list(results)
