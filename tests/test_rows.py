"""Clips are read where they lie, by as many threads as there are."""
import os, threading

import pytest

from audio_ft_prep.rows import close_files, read_bytes

pytestmark = pytest.mark.light


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
    opened = lambda: [p for p in (os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{n}")) if p == str(clip)]
    assert in_a_thread(lambda: (read_bytes(str(clip), 0, 2), len(opened()))) == (b"la", 1)
    assert opened() == []
