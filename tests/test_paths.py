"""What a run leaves on this machine for a URL, and a URL's lock."""
import errno, fcntl, os, subprocess, sys, tempfile, threading
from types import SimpleNamespace

import fsspec, pytest
from filelock import Timeout
from fsspec.implementations.memory import MemoryFileSystem

from audio_ft_prep import locks, paths
from audio_ft_prep.errors import explained_errors
from audio_ft_prep.paths import Url, atomic_folder, atomic_link, atomic_write, fetched, scratch, work_dir
from audio_ft_prep.locks import held
from conftest import until

BEAT_S = 0.05


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    "A folder for temporary files."
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Store(MemoryFileSystem):
    "A store that can be out of reach, or not answer."
    protocol, store, pseudo_dirs = "shaky", {}, [""]
    gone = False
    answers = threading.Event()
    asked = 0
    after_create = staticmethod(lambda path: None)

    def _ask(self):
        if Store.gone: raise ConnectionError("no route to host")
        Store.asked += not Store.answers.is_set()
        Store.answers.wait(600)
    def pipe_file(self, path, value, mode="overwrite", **kw):
        self._ask()
        super().pipe_file(path, value, mode=mode, **kw)
        if mode == "create": Store.after_create(path)
    def cat_file(self, path, **kw): self._ask(); return super().cat_file(path, **kw)
    def rm_file(self, path): self._ask(); super().rm_file(path)


@pytest.fixture
def lock(monkeypatch):
    fsspec.register_implementation("shaky", Store, clobber=True)
    Store.answers.set()
    for name in ("gone", "asked", "after_create"): monkeypatch.setattr(Store, name, vars(Store)[name])
    Store.store.clear()
    yield Url("shaky://speech/prepared/.work/lock")
    Store.answers.set()


def put(lock, data):
    "Have something there, whatever was there before and whatever state the store is in."
    fs, path = fsspec.url_to_fs(lock.url)
    MemoryFileSystem.pipe_file(fs, path, data)


# Temporary files

@pytest.mark.parametrize(
    "use",
    [lambda url: atomic_write(url), lambda url: fetched(url), lambda url: work_dir(url), lambda url: scratch()],
    ids=["atomic_write", "fetched", "work_dir", "scratch"],
)
def test_a_folder_that_another_takes_for_a_dead_ones_before_it_is_locked_is_made_again(
    temporary, monkeypatch, lock, use
):
    put(lock, b"a file")
    real, done = fcntl.flock, []
    def flock(f, how):
        if how == fcntl.LOCK_EX and not done:
            done.append(f)
            paths._sweep()  # as another worker does at this moment
        real(f, how)
    monkeypatch.setattr(fcntl, "flock", flock)
    with use(lock) as got:
        if hasattr(got, "write"): got.write(b"all of it")
    assert done and [*temporary.iterdir()] == []


LEAVES = """import os, signal
from audio_ft_prep.paths import Url, work_dir, scratch
with scratch() as one, work_dir(Url("memory://speech/.work")) as two:
    for d in (one, two): (d/"train-00000.rows").write_bytes(b"rows")
    print("there", flush=True)
    signal.pause()"""


def test_what_a_killed_run_left_goes_and_what_is_at_work_or_a_strangers_stays(temporary):
    (temporary / "audio_ft_prep-main" / "thesis").mkdir(parents=True)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVES], env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for r in runs: assert r.stdout.readline() == b"there\n"
        assert len([*temporary.glob("*/*.rows")]) == 4
        runs[0].kill()
        runs[0].wait()
        with scratch(): assert len([*temporary.glob("*/*.rows")]) == 2 and len([*temporary.iterdir()]) == 4
        assert (temporary / "audio_ft_prep-main" / "thesis").is_dir()
    finally:
        for r in runs: r.kill(); r.communicate()


# A URL's lock

def test_ctrl_c_is_not_replaced_by_a_store_that_has_gone(lock):
    with pytest.raises(KeyboardInterrupt), held(lock, BEAT_S):
        Store.gone = True
        raise KeyboardInterrupt


def test_ctrl_c_does_not_wait_for_a_store_that_gives_no_answer(lock):
    with pytest.raises(KeyboardInterrupt), held(lock, BEAT_S):
        Store.answers.clear()
        until(lambda: Store.asked)
        raise KeyboardInterrupt
    assert not Store.answers.is_set() and [
        t for t in threading.enumerate() if t.name.endswith("(_keep)")
    ], "the beat still waits for its answer"


def test_of_two_that_take_a_dead_runs_lock_the_later_goes_on(lock):
    put(lock, b"left by a run that was killed")
    Store.after_create = lambda path: put(lock, b"another that found it, too, a moment later")
    with pytest.raises(Timeout), held(lock, BEAT_S): pass
    assert lock.read_bytes() == b"another that found it, too, a moment later"


def test_a_dead_runs_lock_is_taken_and_let_go(lock, monkeypatch):
    put(lock, b"left by a run that was killed")
    with held(lock, BEAT_S), pytest.raises(Timeout):
        before = lock.read_bytes()
        monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=lambda s: until(lambda: lock.read_bytes() != before)))
        with held(lock, BEAT_S): pass
    assert not lock.exists()


def test_a_run_that_lost_its_lock_says_so_and_leaves_the_other_its_own(lock, caplog):
    with held(lock, BEAT_S):
        until(lambda: put(lock, b"another") or "was taken by another run" in caplog.text)  # a beat may come between
    assert lock.read_bytes() == b"another"


def test_a_file_and_its_folder_are_on_the_disk_when_it_appears(tmp_path, monkeypatch):
    target = tmp_path / "prep.json"
    synced, real = [], os.fsync
    def sync(fd):
        real(fd)
        synced.append((os.fstat(fd).st_ino, target.exists()))
    monkeypatch.setattr(os, "fsync", sync)
    with atomic_write(target) as f: f.write(b"{}")
    assert synced == [(target.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError), atomic_folder(tmp_path / "made") as part:
        (part / "half").write_bytes(b"half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "made").mkdir()
    with atomic_folder(tmp_path / "made", 0o700) as part:
        (part / "sub").mkdir()
        (part / "sub/file").write_bytes(b"whole")
        assert list((tmp_path / "made").iterdir()) == []
    assert (tmp_path / "made/sub/file").read_bytes() == b"whole" and list(tmp_path.iterdir()) == [tmp_path / "made"]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_holds_something_is_never_replaced(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_bytes(b"kept")
    with pytest.raises(OSError), atomic_folder(tmp_path / "kept") as part: (part / "file").write_bytes(b"new")
    assert (tmp_path / "kept/file").read_bytes() == b"kept" and list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_a_file_is_linked_through_no_link(tmp_path):
    (tmp_path / "from").write_bytes(b"shard")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train").symlink_to(tmp_path / "elsewhere")
    with open(tmp_path / "from", "rb") as f:
        with pytest.raises(ValueError, match="train must be a plain folder"):
            atomic_link(f, tmp_path / "out/train/x", tmp_path / "out")
        assert atomic_link(f, tmp_path / "out/x", tmp_path / "out")
    assert (tmp_path / "out/x").samefile(tmp_path / "from") and list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("error, says", [
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "no room is left for out (Disk quota exceeded): make room"),
    (OSError(errno.EMFILE, "Too many open files"), "too many files are open"),
    (OSError(errno.EIO, "Input/output error", "clip.mp3"), "clip.mp3 can't be read or written"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory or threads ran out"),
    (RuntimeError("can't start new thread"), "memory or threads ran out"),
])
def test_an_error_is_explained_once_however_deep(error, says):
    with pytest.raises((OSError, RuntimeError)) as e, explained_errors("everything"), explained_errors("out"):
        raise error
    assert (
        says in str(e.value)
        and str(e.value).endswith("and run it again to go on")
        and str(e.value).count("run it again") == 1
    )
