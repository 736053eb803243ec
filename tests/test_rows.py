"""Clips are read where they lie, by as many threads as there are."""
import os, threading, time

import pytest

from audio_ft_prep import rows
from audio_ft_prep.rows import check_unchanged, close_files, read_bytes
from audio_ft_prep.rejects import BadClip

pytestmark = pytest.mark.light


@pytest.fixture(autouse=True)
def no_file_stays_open():
    yield
    close_files()


def in_a_thread(do):
    "What `do` gives in a thread that ends with it."
    got = []
    thread = threading.Thread(target=lambda: got.append(do()))
    thread.start()
    thread.join()
    return got[0]


def test_no_thread_closes_what_another_reads(tmp_path):
    (clip := tmp_path / "clip").write_bytes(b"la frase")
    assert read_bytes(str(clip), 3, 5) == b"frase"
    clip.unlink()  # only who has it open can read it now
    in_a_thread(close_files)
    assert read_bytes(str(clip), 3, 5) == b"frase"
    close_files()
    with pytest.raises(OSError, match="is gone"): read_bytes(str(clip), 3, 5)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux lists open files there")
def test_a_threads_files_are_closed_with_it(tmp_path):
    (clip := tmp_path / "clip").write_bytes(b"la frase")
    opened = lambda: [
        p
        for p in (
            os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if os.path.islink(f"/proc/self/fd/{n}")
        )
        if p == str(clip)
    ]
    assert in_a_thread(lambda: (read_bytes(str(clip), 0, 2), len(opened()))) == (b"la", 1)
    assert opened() == []


# ---- recordings of gigabytes

def sparse(path, size, head=b""):
    "A file that claims a size and takes no room."
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(size)
    return str(path)


def test_more_than_one_call_can_give_is_read_whole(tmp_path, monkeypatch):
    data = os.urandom(1000)
    (clip := tmp_path / "clip").write_bytes(data)
    monkeypatch.setattr(rows, "_PIECE", 64)
    assert read_bytes(str(clip), 3, 900) == data[3:903]
    with pytest.raises(OSError, match="was to hold 2000 bytes at 0, and holds 1000"): read_bytes(str(clip), 0, 2000)


@pytest.mark.parametrize("size", [(1 << 32) + 1, 1 << 40, 1 << 43])
def test_a_recording_that_no_memory_holds_costs_itself_at_once(size, tmp_path):
    with pytest.raises(BadClip, match="undecodable: a recording of .* bytes, at most .* can be read here"):
        read_bytes(sparse(tmp_path / "clip", size), 0, size)


def test_a_recording_larger_than_half_the_memory_costs_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "memory_bytes", lambda: 1 << 29)
    with pytest.raises(BadClip, match="at most 268,435,456 can be read here"):
        read_bytes(sparse(tmp_path / "clip", 300_000_000), 0, 300_000_000)


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip")
    with pytest.raises(OSError): read_bytes(str(tmp_path / "clip"), 0, 5)


# ---- files that change

def read_once(path, data=b"la frase"):
    "A clip that was indexed and read: its path, and when."
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    settle()
    since = time.time_ns()
    assert read_bytes(str(path), 0, len(data)) == data
    settle()
    return str(path), since


def settle():
    "Wait until a file that is changed now has a later time than one that was."
    time.sleep(0.02)


HARMLESS = {
    "nothing": lambda p: None,
    "other rights": lambda p: p.chmod(0o640),
    "a hard link elsewhere": lambda p: os.link(p, p.parent.parent / "backup"),
    "a hard link beside it": lambda p: os.link(p, p.with_name("backup")),
    "its times set again": lambda p: os.utime(p, (1_000_000_000, 1_000_000_000)),
    "the folder renamed and back": lambda p: (
        p.parent.rename(p.parent.with_name("x")),
        p.parent.with_name("x").rename(p.parent),
    ),
    "a neighbour written": lambda p: p.with_name("other").write_bytes(b"x"),
}
CHANGED = {
    "another text": lambda p: p.write_bytes(b"un testo"),
    "longer": lambda p: p.write_bytes(b"la frase intera"),
    "shorter": lambda p: p.write_bytes(b"la"),
    "gone": lambda p: p.unlink(),
    "as long, and its time set back": lambda p: (
        p.write_bytes(b"un testo"),
        os.utime(p, (1_000_000_000, 1_000_000_000)),
    ),
    "another file in its place, as old": lambda p: replaced(p, b"la frase"),
    "another text in its place, as old": lambda p: replaced(p, b"un testo"),
    "linked, and then written over": lambda p: (
        os.link(p, p.with_name("backup")),
        p.write_bytes(b"un testo"),
        os.utime(p, (0, 0)),
    ),
}


def replaced(path, data):
    other = path.with_name("other")
    other.write_bytes(data)
    os.utime(other, (1_000_000_000, 1_000_000_000))
    os.replace(other, path)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_leaves_the_bytes_as_they_are_is_no_change(what, tmp_path):
    path, since = read_once(tmp_path / "corpus/clip")
    HARMLESS[what](tmp_path / "corpus/clip")
    check_unchanged([path], since)


@pytest.mark.parametrize("what", CHANGED)
def test_other_bytes_are_a_change_whatever_their_times_say(what, tmp_path):
    path, since = read_once(tmp_path / "corpus/clip")
    CHANGED[what](tmp_path / "corpus/clip")
    with pytest.raises(OSError, match="changed while it was read"): check_unchanged([path], since)
