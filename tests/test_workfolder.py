"""The folder of a run's records is the run's own: nobody else's is taken up, followed, written or removed."""
import os, pickle, shutil, stat

import pytest

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.pipeline import merge
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.shards import ShardKey
from audio_ft_prep.workdir import MARK, check_work, clear_work, make_work, work_alone


SMALL = dict(dataset_name="sample", language_code="it", log_mel="fast", num_workers=1)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root only")


def contents(folder):
    return {
        str(p.relative_to(folder)): (stat.S_IMODE(p.lstat().st_mode), p.read_bytes() if p.is_file() else b"")
        for p in sorted(folder.rglob("*"))
    }
def refused(out, what):
    with pytest.raises(ValueError, match=what): prepare(PrepConfig(**SMALL, output_dir=str(out)), progress=False)


def notes(work):
    (work / "notes").mkdir(parents=True)
    (work / "notes/thesis.txt").write_text("precious")
def a_plan(work):
    work.mkdir(parents=True)
    (work / "plan.json").write_text("{}")
def records_without_mark(work):
    work.mkdir(parents=True)
    (work / "train-00000.json").write_text("{}")
def a_file(work):
    work.parent.mkdir()
    work.write_text("precious")
def a_link(work):
    notes(work.parent.parent / "elsewhere")
    work.parent.mkdir()
    work.symlink_to(work.parent.parent / "elsewhere")
def a_link_to_an_empty_folder(work):
    (work.parent.parent / "empty").mkdir()
    work.parent.mkdir()
    work.symlink_to(work.parent.parent / "empty")
def a_link_to_nothing(work):
    work.parent.mkdir()
    work.symlink_to(work.parent.parent / "nothing")
def marked_with_a_stranger(work):
    make_work(work)
    (work / "thesis.txt").write_text("precious")
def marked_and_open_to_all(work):
    make_work(work)
    work.chmod(0o777)
def open_to_a_group(work):
    make_work(work)
    work.chmod(0o770)


STRANGERS = {
    notes: "holds 'notes', which no run",
    a_plan: "was not made by a run of this release",
    records_without_mark: "was not made by a run of this release",
    a_file: "is a link or a file",
    a_link: "is a link or a file",
    a_link_to_an_empty_folder: "is a link or a file",
    a_link_to_nothing: "is a link or a file",
    marked_with_a_stranger: "holds 'thesis.txt', which no run",
    marked_and_open_to_all: "may be written by other users",
    open_to_a_group: "may be written by other users",
}


@pytest.mark.parametrize("plant", STRANGERS, ids=lambda f: f.__name__)
def test_a_work_folder_that_no_run_of_this_user_made_is_refused_and_left_as_it_was(tmp_path, plant):
    plant(tmp_path / "out/.work")
    before = contents(tmp_path)
    refused(tmp_path / "out", STRANGERS[plant])
    assert contents(tmp_path) == before


@as_root
@pytest.mark.parametrize("holds", ["nothing", "what a run makes"])
def test_a_work_folder_of_another_user_is_refused(tmp_path, holds):
    work = tmp_path / "out/.work"
    if holds == "nothing": work.mkdir(parents=True)
    else: make_work(work)
    os.chown(work, 12345, 12345)
    before = contents(tmp_path)
    refused(tmp_path / "out", "belongs to user 12345, and what this run makes belongs to user 0")
    assert contents(tmp_path) == before


def test_a_disk_that_gives_all_to_one_user_with_one_mode_is_no_hindrance(tmp_path, monkeypatch):
    "As a file server that makes root nobody: what is made there now belongs to the same."
    work = tmp_path / "out/.work"
    make_work(work)
    work.chmod(0o777)
    made = os.stat
    def all_alike(path, **kw):
        about = list(made(path, **kw))
        if ".probe-" in str(path): about[0] |= 0o777
        return os.stat_result(about)
    monkeypatch.setattr(os, "stat", all_alike)
    check_work(work)
    assert not [p for p in work.parent.iterdir() if p != work]


def test_an_empty_work_folder_is_made_private_and_used(tmp_path):
    work = tmp_path / "out/.work"
    work.mkdir(parents=True)
    work.chmod(0o777)
    with work_alone(work): assert stat.S_IMODE(work.stat().st_mode) == 0o700 and {MARK, "lock"} == set(os.listdir(work))


def test_whoever_looks_into_a_run_from_outside_sees_nothing(tmp_path):
    work, mask = tmp_path / "out/.work", os.umask(0)
    try: make_work(work)
    finally: os.umask(mask)
    assert stat.S_IMODE(work.stat().st_mode) == 0o700 and stat.S_IMODE((work / MARK).stat().st_mode) == 0o600


def test_in_the_end_only_what_a_run_makes_is_removed(tmp_path):
    work = tmp_path / "out/.work"
    make_work(work)
    for name in (
        "plan.json",
        "train-00000.json",
        ".train-00001.7-a.part",
        "processor/vocab.json",
        "thesis.txt",
        "train-00000.json.bak",
    ):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("x")
    (work / "eval-00000.json").symlink_to(tmp_path / "outside/kept")
    clear_work(work)
    assert sorted(os.listdir(work)) == ["thesis.txt", "train-00000.json.bak"] and (tmp_path / "outside/kept").exists()


@pytest.mark.parametrize("plant", [notes, a_link, marked_and_open_to_all], ids=lambda f: f.__name__)
def test_a_finished_folder_keeps_a_work_folder_that_isnt_its_own(tmp_path, plant):
    first = prepare(PrepConfig(**SMALL, output_dir=str(tmp_path / "a/out")), progress=False)
    (tmp_path / "b").mkdir()
    plant(tmp_path / "b/out/.work")
    shutil.copytree(first.folder, tmp_path / "b/out", dirs_exist_ok=True)
    before = contents(tmp_path / "b")
    assert prepare(PrepConfig(**SMALL, output_dir=str(tmp_path / "b/out")), progress=False).hash == first.hash
    assert contents(tmp_path / "b") == before


def test_a_record_without_the_runs_token_is_not_believed(tmp_path):
    def stop(now):
        if [*tmp_path.glob(".work/*-00*.json")]: raise KeyError("stop")
    with pytest.raises(KeyError): prepare(PrepConfig(**SMALL, shard_rows=3, output_dir=str(tmp_path)), progress=stop)
    folder = OutputFolder.of(tmp_path)
    token, record = folder.token, next(folder.work.glob("*-00*.json"))
    key = ShardKey(record.stem.partition("-")[0], int(record.stem.partition("-")[2]))
    assert len(token) == 32 and folder.done(key, token) and not folder.done(key, "0" * 32) and not folder.done(key, "")
    for odd in ("[]", "7", "null", '{"token": 7}', record.read_text().replace(token, "")):
        record.write_text(odd)
        assert folder.done(key, token) is None
    assert prepare(PrepConfig(**SMALL, shard_rows=3, output_dir=str(tmp_path)), progress=False).hash


class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (self.path,)


def test_a_run_leaves_nothing_in_its_folder_that_is_unpickled(tmp_path):
    "A neighbour of the same user that swaps every file there for a pickle of its own runs nothing."
    out, ran = tmp_path / "out", tmp_path / "ran"
    evil, seen = pickle.dumps(Evil(str(ran))), set()
    def swap(now):
        for p in out.glob(".work/*"):
            seen.add(p.name)
            if p.is_file() and p.name not in ("lock", MARK, "plan.json"): p.write_bytes(evil)
        if len(seen) > 4: raise KeyError("stop")
    with pytest.raises((KeyError, RuntimeError)):
        prepare(PrepConfig(**SMALL, shard_rows=3, output_dir=str(out)), progress=swap)
    assert not ran.exists() and not [n for n in seen if n.endswith((".pickle", ".rows", ".pkl"))]
    prepare(PrepConfig(**SMALL, shard_rows=3, output_dir=str(out)), progress=False)
    assert not ran.exists()


def test_merging_refuses_a_strangers_work_folder_too(tmp_path):
    from audio_ft_prep.pipeline import Part
    for i in range(2):
        prepare(
            PrepConfig(**SMALL, shard_rows=8, output_dir=str(tmp_path / f"part{i}")), progress=False, part=Part(i, 2)
        )
    notes(tmp_path / "out/.work")
    with pytest.raises(ValueError, match="holds 'notes', which no run"):
        merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "out")
    assert (tmp_path / "out/.work/notes/thesis.txt").read_text() == "precious"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    work, victim = tmp_path / "out/.work", tmp_path / "victim"
    victim.write_text("precious")
    make_work(work)
    (work / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="can't be kept for this run alone"):
        prepare(PrepConfig(**SMALL, output_dir=str(tmp_path / "out")), progress=False)
    assert victim.read_text() == "precious"
