"""Shards made by a Ray cluster: the same bytes as ever, whatever is lost on the way."""
import json, os, shutil, signal, subprocess, sys, tempfile, threading, time
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
import psutil

from audio_ft_prep import prepare
from audio_ft_prep.audio import Limits
from audio_ft_prep.cluster import run_ray
from audio_ft_prep.engines import Job
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.rows import close_files
from audio_ft_prep.raysession import kill_trees
from audio_ft_prep.run import make_run
from audio_ft_prep.workdir import MARK
from conftest import COMMAND, flags, sentence, until
from test_urls import SETTINGS, config, contents, corpus, s3, same_at, whole

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def calm():
    "Have every Ray say nothing to anybody, and end no worker because others fill the machine's memory."
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_memory_monitor_refresh_ms"): patch.setenv(name, "0")
        yield


def node(cluster, **kw):
    "A machine of a cluster; Ray gives one half a minute to start, which can be too little on a busy machine. What is left of one that didn't make it must not join later."
    running = children()
    for left in reversed(range(4)):
        try:
            made = cluster.add_node(wait=False, object_store_memory=10 ** 8, **kw)
            break
        except Exception:
            kill_trees(children() - running)
            if not left: raise
    cluster._wait_for_node(made, 600)
    return made


def children(): return set(psutil.Process().children())


@pytest.fixture(scope="module")
def cluster(s3):
    "A Ray whose head has no processors, so that nothing is made there."
    from ray.cluster_utils import Cluster
    with TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", d)
        os.mkdir(f"{d}/ray")
        made = Cluster()
        node(made, num_cpus=0, include_dashboard=False)
        yield made
        made.shutdown()


def joined(cluster): return node(cluster, num_cpus=1)


@pytest.fixture(scope="module")
def odd_package(tmp_path_factory):
    "The environment of a machine on which another version of soxr is installed."
    about = tmp_path_factory.mktemp("other") / "soxr-0.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: soxr\nVersion: 0.0.1\n")
    return {"PYTHONPATH": os.pathsep.join([str(about.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(scope="module")
def machines(cluster, odd_package):
    "Two machines with a processor each; a test that takes one away brings another. A third has no room for a worker, so that what is installed there doesn't matter."
    node(cluster, num_cpus=1, memory=10 ** 8, env_vars=odd_package)
    return [joined(cluster), joined(cluster)]


@pytest.fixture(scope="module")
def quick(corpus, tmp_path_factory):
    "SHA-256 of each shard of the task below, as this machine's own processes make it."
    return hashes(
        prepare(
            config(corpus, tmp_path_factory.mktemp("quick") / "out", num_workers=2, log_mel="fast"), progress=False
        )
    )


def hashes(done): return {s["file"]: s["sha256"] for s in done.prep["shards"]}


def task(corpus, out, **maker):
    "The shards of a corpus, and the job to make them, as `prepare` has them; its workers begin at once, for they need no torch."
    cfg = config(corpus, out, log_mel="fast")
    run, folder = make_run(cfg), OutputFolder.of(out)
    folder.start(run.manifest, run.splits)
    close_files()
    job = Job(run.maker, run.schema, folder)
    for k, v in maker.items(): object.__setattr__(job.maker, k, v)
    return run.shards, job


@pytest.fixture
def gate(tmp_path):
    "A file, and a way to have every clip of eval wait, once it is reached, for as long as the file is there."
    file = tmp_path / "gate"
    class Waiting:  # of this function, so that Ray sends it as it is
        def __init__(self, maker, gate): self.maker, self.gate = maker, str(gate)
        def __getattr__(self, name):
            if name.startswith("__") or "maker" not in self.__dict__: raise AttributeError(name)  # asked for as it is unpickled
            return getattr(self.maker, name)
        def of_split(self, split): return type(self)(self.maker.of_split(split), self.gate)
        def __call__(self, row):
            while "_test_" in os.path.basename(row["file"]) and os.path.exists(self.gate): time.sleep(0.05)
            return self.maker(row)
    def close(job):
        file.touch()
        return replace(job, maker=Waiting(job.maker, file))
    return file, close


def makers_of(shard):
    "Processes that make a shard now: Ray names them by their task."
    found = []
    for p in psutil.process_iter():
        try: found += [p] * (p.cmdline()[:1] == [f"ray::{shard}"])
        except psutil.Error: pass
    return found


def meanwhile(do):
    "Have something done while the test goes on; to be joined."
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


# Without a machine that could work

def test_a_cluster_that_can_make_no_shard_is_refused_before_any_is_given_to_it(cluster, corpus, tmp_path):
    with pytest.raises(
        RuntimeError,
        match=(
            "no machine of the Ray cluster can make shards, which takes 1 processor and 0.7 GB of Ray's memory"
            " resource; what they have is 0 processors"
        ),
    ):
        list(run_ray(*task(corpus, tmp_path / "out"), address=cluster.address))


def test_without_ray_one_sentence_says_what_to_install(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'audio_ft_prep\[ray\]', or set engine to local"):
        prepare(config(corpus, tmp_path / "out", engine="ray"), progress=False)


# Two machines

STATE = """
import os, resource, signal, sys
from audio_ft_prep import PrepConfig, prepare
few = dict(train_splits="test", max_train_samples=2, eval_splits="")
def state(): return dict(os.environ), list(sys.path), sys.excepthook, sys.stdout, signal.getsignal(signal.SIGTERM), resource.getrlimit(resource.RLIMIT_NOFILE)
local = prepare(PrepConfig("sample", "it", output_dir=os.path.abspath("local"), num_workers=1, **few), progress=False)
assert not {"ray", "s3fs", "fsspec.implementations.memory"} & sys.modules.keys()
before = state()
by_ray = prepare(PrepConfig("sample", "it", output_dir=os.path.abspath("by-ray"), engine="ray", ray_address=sys.argv[1], **few), progress=False)
assert "ray" in sys.modules and by_ray.hash == local.hash
assert state() == before, (state(), before)
"""


def test_the_local_engine_never_imports_ray_and_after_ray_a_process_is_what_it_was(cluster, machines, tmp_path):
    subprocess.run(
        [sys.executable, "-c", STATE, cluster.address],
        check=True,
        timeout=600,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")},
    )


def test_a_run_that_loses_a_machine_ends_with_the_local_runs_bytes_and_clean_json(
    cluster, machines, corpus, whole, tmp_path
):
    out = tmp_path / "out"
    args = flags(dataset_name=corpus, output_dir=out, engine="ray", ray_address=cluster.address, **SETTINGS)
    with subprocess.Popen(
        [COMMAND, "prepare", *args, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        until(lambda: run.poll() is not None or list((out / ".work").glob("train-*.json")), 600)
        assert run.poll() is None, run.stderr.read()
        cluster.remove_node(machines.pop(), allow_graceful=False)
        said, err = run.communicate(timeout=600)
    machines.append(joined(cluster))
    assert run.returncode == 0, err[-3000:]
    assert json.loads(said)["hash"] == whole.hash
    assert contents(out) == contents(whole.folder)


def test_a_shard_whose_worker_is_killed_once_is_made_again(cluster, machines, corpus, gate, quick, tmp_path):
    file, close = gate
    makers, job = task(corpus, tmp_path / "out")
    job = close(job)
    def kill():
        at_work = until(lambda: makers_of("eval-00000"), 600)
        file.unlink()
        for p in at_work: p.kill()
    killing = meanwhile(kill)
    made = {r.file: r.sha256 for r in run_ray(makers, job, address=cluster.address)}
    killing.join()
    assert made == quick


def test_a_shard_that_always_hangs_is_left_out_and_named_and_the_others_are_made(
    cluster, machines, corpus, gate, tmp_path, monkeypatch
):
    _, close = gate
    makers, job = task(corpus, tmp_path / "out")
    job = close(job)
    monkeypatch.setenv("AUDIO_FT_PREP_STUCK_SECONDS", "4")
    made, seen = [], []
    with pytest.raises(
        RuntimeError,
        match=(
            r"^1 shard could not be made \(eval-00000: a worker died 3 times while it was made\); the others are"
            r" done, and the same command tries it again$"
        ),
    ):
        for r in run_ray(makers, job, on_progress=lambda *n: seen.append(n), address=cluster.address): made.append(r)
    assert sorted(r.file for r in made) == sorted(m().file for m in makers[:-1])
    assert seen[-1] == (
        sum(r.rows + len(r.rejects) for r in made),
        sum(r.samples for r in made),
        sum(len(r.rejects) for r in made),
    )
    assert seen[0] == (0, 0, 0) and len(seen) > len(made) + 1, "whoever waits is heard while nothing ends"


def test_a_machine_that_freezes_holds_up_only_what_it_has(cluster, machines, corpus, quick, tmp_path):
    frozen = []
    def freeze(parent):
        for p in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                p.suspend()
                frozen.append(p)
    (raylet,) = (psutil.Process(i.process.pid) for i in machines[-1].all_processes["raylet"])
    made = {}
    try:
        for r in run_ray(*task(corpus, tmp_path / "out"), address=cluster.address, stall_s=20):
            made[r.file] = r.sha256
            if not frozen: freeze(raylet)
    finally:
        for p in frozen:
            with suppress(psutil.NoSuchProcess): p.resume()
    assert made == quick


def test_what_machines_write_to_s3_is_what_is_written_to_a_folder(cluster, machines, s3, corpus, whole):
    same_at("ray", s3, corpus, whole, engine="ray", ray_address=cluster.address)


def test_an_error_in_the_code_ends_the_run_with_its_own_words(cluster, machines, corpus, tmp_path):
    with pytest.raises(TypeError, match="not supported between instances of"):
        list(run_ray(*task(corpus, tmp_path / "out", limits=Limits(min_seconds="many")), address=cluster.address))


def test_a_corpus_that_shrinks_is_named_by_every_shard_it_fails(cluster, machines, corpus, tmp_path):
    mine = shutil.copytree(corpus, tmp_path / "corpus")
    makers, job = task(mine, tmp_path / "out")
    os.truncate(next((mine / "audio/it/test").glob("*.tar")), 1000)
    with pytest.raises(
        RuntimeError, match="1 shard could not be made .eval-00000: .* was to hold .*: it changed during the run"
    ):
        list(run_ray(makers, job, address=cluster.address))


def test_an_output_that_is_lost_ends_the_run_before_every_shard_has_been_tried(cluster, machines, corpus, tmp_path):
    makers, job = task(corpus, tmp_path / "out")
    os.rmdir(tmp_path / "out/train")
    with pytest.raises(
        RuntimeError,
        match=(
            r"^8 shards in a row could not be made \(.*No such file or directory.*\), so the others were not tried;"
            r" when that is mended, the same command goes on from here$"
        ),
    ):
        list(run_ray(makers, job, workers=1, address=cluster.address))


def test_a_full_disk_ends_the_run_at_once(cluster, machines, corpus, tmp_path):
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], capture_output=True
        ).returncode
    ):
        pytest.skip("a small disk can be mounted by root only")
    try:
        with pytest.raises(
            OSError,
            match=(
                f"^no room is left for {tmp_path / 'out'} .No space left on device.: make room, and run it again to"
                " go on$"
            ),
        ):
            list(run_ray(*task(corpus, tmp_path / "out"), address=cluster.address))
    finally: subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_machine_with_another_package_is_refused_by_name(cluster, machines, corpus, tmp_path, odd_package):
    odd = node(cluster, num_cpus=1, env_vars=odd_package)
    try:
        with pytest.raises(
            RuntimeError, match="of the Ray cluster can't make the same shards: soxr is 0.0.1 there and .* here"
        ):
            list(run_ray(*task(corpus, tmp_path / "out"), address=cluster.address))
    finally: cluster.remove_node(odd, allow_graceful=False)
    assert sorted(os.listdir(tmp_path / "out/.work")) == [MARK, "plan.json"]


def test_a_run_that_is_interrupted_ends_its_own_ray_and_goes_on_later(corpus, quick, tmp_path):
    out = tmp_path / "out"
    args = flags(dataset_name=corpus, output_dir=out, engine="ray", num_workers=1, log_mel="fast", **SETTINGS)
    with TemporaryDirectory(prefix="t") as temporary:
        with subprocess.Popen(
            [COMMAND, "prepare", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": temporary},
        ) as run:
            until(lambda: run.poll() is not None or list((out / ".work").glob("train-*.json")), 600)
            mine = psutil.Process(run.pid).children(recursive=True)
            run.send_signal(signal.SIGINT)
            said, err = run.communicate(timeout=600)
        assert (run.returncode, said) == (130, "") and sentence(err) == "stopped; the same command goes on from here"
        until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in mine))
        assert len(mine) > 3 and os.listdir(temporary) == []
    assert hashes(prepare(config(corpus, out, num_workers=2, log_mel="fast"), progress=False)) == quick


SECRETS = dict(
    HF_TOKEN="hf_notforyou",
    AWS_SECRET_ACCESS_KEY="aws-notforyou",
    DHCORE_ACCESS_TOKEN="dh-notforyou",
    MDC_API_KEY="mdc-notforyou",
)


def held_in(folder):
    "What files below a folder hold."
    for at, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError), open(os.path.join(at, name), "rb") as f:
                if os.path.isfile(f.name): yield f.read()


def test_a_ray_of_the_runs_own_is_this_users_alone_and_knows_no_credentials(corpus, quick, tmp_path, monkeypatch):
    for name, value in SECRETS.items(): monkeypatch.setenv(name, value)
    before, running = dict(os.environ), children()
    with TemporaryDirectory(prefix="t") as temporary, monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", temporary)
        run = run_ray(*task(corpus, tmp_path / "out"), workers=1)
        first = next(run)
        (private,) = os.listdir(temporary)
        assert (
            os.stat(os.path.join(temporary, private)).st_mode & 0o077 == 0
        ), "whatever Ray opens to all lies below a folder that nobody else may enter"
        rays = [q for p in children() - running for q in [p, *p.children(recursive=True)]]
        listening = [c.laddr.ip for p in rays for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening and {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
        for value in SECRETS.values():
            assert not [p for p in rays if value in " ".join(p.cmdline()) or value in p.environ().values()]
            assert not [1 for data in held_in(temporary) if value.encode() in data]
        made = {r.file: r.sha256 for r in (first, *run)}
        assert os.listdir(temporary) == []
    assert made == quick and dict(os.environ) == before


class Told(BaseException): "What a handler of SIGTERM raises here."


@pytest.fixture
def told():
    "A handler of SIGTERM."
    def tell(*_): raise Told
    before = signal.signal(signal.SIGTERM, tell)
    yield tell
    signal.signal(signal.SIGTERM, before)


def test_a_process_can_have_rays_of_its_own_one_at_a_time_and_none_is_left(
    cluster, machines, corpus, quick, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # longer than the names of Ray's sockets may be
    state = lambda: (dict(os.environ), list(sys.path), sys.excepthook, sys.stdout, signal.getsignal(signal.SIGTERM))
    one = lambda n, where="": run_ray(
        *(x[-1:] if isinstance(x, list) else x for x in task(corpus, tmp_path / f"out{n}")), workers=1, address=where
    )
    before, running = state(), children()
    def as_before():
        assert state() == before
        until(lambda: not children() - running)
    def begins(p):
        with suppress(psutil.Error): return p.name() == "gcs_server"
    def end_it():
        until(lambda: any(map(begins, children() - running)))
        os.kill(os.getpid(), signal.SIGTERM)
    ending = meanwhile(end_it)
    with pytest.raises(Told): list(one("", ""))  # while it starts
    ending.join()
    as_before()
    for n, where in enumerate(["", "", cluster.address]):
        run = one(n, where)
        result = next(run)
        assert result.sha256 == quick[result.file]
        with pytest.raises(
            RuntimeError, match="^another run of this process uses Ray: wait for it, or set engine to local$"
        ):
            next(one(n, where))
        assert list(run) == []
        as_before()
