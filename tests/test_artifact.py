"""Artifacts on a platform: the SDK as it comes, a core and a store that fail as told, and what is there afterwards."""
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("digitalhub", reason="the platform's SDK isn't installed: pip install 'audio_ft_prep[platform]'")
from audio_ft_prep.artifact import batches, etag, fetch_prepared, get_project, latest_ready, log_croissant, log_prepared, manifest
from audio_ft_prep.store import read_prep, verify
from conftest import COMMAND, sentence
from standin import environment, platform, rgw, sdk_level
from standin.s3 import Fault

FOREVER, SOON = float("inf"), dict(retries=1, wait_s=0.01, batch_bytes=1 << 20, progress=False)
NAME, numbers = "audio-dataset", count()
SDK = f"SDK {sdk_level()}"


@pytest.fixture(scope="module", params=["moto", "radosgw"])
def core(request):
    "A platform for the tests of this file; with radosgw as its store where that is installed."
    if request.param == "radosgw" and rgw.missing(): pytest.skip(f"radosgw isn't installed: no {rgw.missing()[0]}")
    with platform(request.param) as made:
        os.environ["AWS_MAX_ATTEMPTS"] = "2"
        yield made


@pytest.fixture(scope="module")
def moto():
    "A platform whose store is moto's."
    with platform() as made:
        os.environ["AWS_MAX_ATTEMPTS"] = "2"
        yield made


@pytest.fixture
def project():
    "A project of a test's own."
    return get_project(f"speech-{next(numbers)}")


@pytest.fixture
def unharmed(request):
    "A platform without faults, before and after."
    core = request.getfixturevalue("moto")
    for faults in (core.faults, core.s3.faults): faults.clear(); faults.asked.clear()
    yield core
    for faults in (core.faults, core.s3.faults): faults.clear()


@pytest.fixture(scope="module")
def folder(prepared): return prepared("it").folder


@pytest.fixture(scope="module")
def other(prepared): return prepared("it", max_train_samples=4).folder


def tree(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def sizes(folder): return {n: (folder / n).stat().st_size for n in manifest(folder, read_prep(folder))}


def stored(core, artifact):
    "What the store holds under an artifact's path: name -> bytes."
    prefix = artifact.spec.path.removeprefix(f"s3://{core.s3.bucket}/")
    return {k.removeprefix(prefix): n for k, n in core.s3.objects(prefix).items()}


def whole(core, artifact, folder):
    "Whether an artifact is finished and the store has all of it and nothing else."
    return artifact.status.state == "READY" and stored(core, artifact) == sizes(folder) and {f["path"] for f in artifact.status.files} == sizes(folder).keys()


def left(core, project):
    "What stands on the platform beside finished artifacts: unfinished ones, and files of none."
    mine = core.all("artifact", project.name)
    paths = [e["spec"]["path"].removeprefix(f"s3://{core.s3.bucket}/") for e in mine if e["status"]["state"] == "READY" and "uploading" not in e["name"]]
    files = [k for k in core.s3.objects(project.name + "/") if not any(k.startswith(p) for p in paths)]
    return [e["name"] for e in mine if e["status"]["state"] != "READY" or "uploading" in e["name"]] + files


def test_a_folder_goes_there_and_comes_back_the_same(core, project, folder, tmp_path):
    art = log_prepared(project, NAME, folder, **SOON)
    assert whole(core, art, folder) and art.id == project.get_artifact(NAME).id == latest_ready(project, NAME).id and left(core, project) == []
    assert art.spec.path == f"s3://{core.s3.bucket}/{project.name}/artifact/{NAME}/{art.id}/"
    got = fetch_prepared(project, NAME, tmp_path / "v0.3")
    assert tree(got) == {n: (folder / n).read_bytes() for n in sizes(folder)} and verify(got) == []
    assert [p.name for p in tmp_path.iterdir()] == ["v0.3"]


def test_the_platform_keeps_what_a_person_chooses_by(unharmed, project, folder):
    art, prep = log_prepared(project.name, NAME, folder, **SOON), read_prep(folder)
    kept = project.get_artifact(NAME, entity_id=art.id).metadata
    assert {"audio_ft_prep", "model:openai/whisper-small", "corpus:sample", "language:it", "rows:20+4", "hours:0.02", f"hash:{prep['hash'][:16]}"} <= set(kept.labels)
    assert "20 rows of train" in kept.description and prep["hash"][:16] in kept.description and "Unfinished" not in kept.description
    files = {f["path"]: f for f in art.status.files}
    assert all(f["hash"] == f"md5:{etag(folder / n)}" and f["size"] == (folder / n).stat().st_size for n, f in files.items())


def test_only_the_data_set_is_sent(unharmed, project, folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    for stray in (".env", "notes.txt", "processor/token", "train/backup.arrow"): (mine / stray).write_text("hf_secret")
    (mine / "README.md").write_text("card")
    art = log_prepared(project, NAME, mine, **SOON)
    assert stored(unharmed, art).keys() == sizes(folder).keys() | {"README.md"}


def test_the_same_data_set_is_not_sent_twice(unharmed, project, folder, other):
    first = log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.faults.asked.clear()
    assert log_prepared(project, NAME, folder, **SOON).id == first.id
    assert [m for m, _ in unharmed.s3.faults.asked if m in ("PUT", "POST")] == []
    second = log_prepared(project, NAME, other, **SOON)
    third = log_prepared(project, NAME, folder, **SOON)
    assert len({first.id, second.id, third.id}) == 3 and latest_ready(project, NAME).id == third.id and left(unharmed, project) == []


def test_a_version_that_lost_a_file_is_sent_again(unharmed, project, folder):
    first = log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.direct.delete_object(Bucket=unharmed.s3.bucket, Key=next(k for k in unharmed.s3.objects(project.name) if k.endswith(".arrow")))
    assert whole(unharmed, log_prepared(project, NAME, folder, **SOON), folder) and latest_ready(project, NAME).id != first.id


def test_a_folder_that_is_not_a_whole_data_set_stays_at_home(unharmed, project, folder, tmp_path):
    half, hurt = tmp_path / "half", shutil.copytree(folder, tmp_path / "hurt")
    (half / ".work").mkdir(parents=True)
    (hurt / "processor/tokenizer.json").write_text("{}")
    unharmed.faults.asked.clear()
    with pytest.raises(FileNotFoundError, match="was not finished, run it again"): log_prepared(project, NAME, half, **SOON)
    with pytest.raises(RuntimeError, match="tokenizer.json has another SHA-256.*prepare it again"): log_prepared(project, NAME, hurt, **SOON)
    with pytest.raises(ValueError, match="a project's name"): log_prepared("My Project", NAME, folder, **SOON)
    assert unharmed.faults.asked == []


def test_latest_ready_says_that_there_is_none(unharmed, project):
    with pytest.raises(LookupError, match="has no finished artifact nothing: upload one"): latest_ready(project, "nothing")
    with pytest.raises(LookupError, match="has no finished artifact nothing: upload one"): fetch_prepared(project, "nothing")


def test_an_unfinished_version_of_the_sdks_own_is_passed_over(unharmed, project, folder):
    good = log_prepared(project, NAME, folder, **SOON)
    with pytest.raises(Exception): project.log_artifact(name=NAME, kind="artifact", source=str(folder / "nowhere"))
    project.new_artifact(name=NAME, kind="artifact", path=f"s3://{unharmed.s3.bucket}/elsewhere/")
    assert project.get_artifact(NAME).status.state != "READY" and latest_ready(project, NAME).id == good.id


# fetching


def test_what_is_in_the_folder_is_never_overwritten(unharmed, project, folder, other, tmp_path):
    log_prepared(project, NAME, folder, **SOON)
    thesis, hurt, theirs = tmp_path / "thesis", shutil.copytree(folder, tmp_path / "hurt"), shutil.copytree(other, tmp_path / "theirs")
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years of work")
    (hurt / "rejects.parquet").write_bytes(b"")
    for there in (thesis, hurt, theirs, thesis / "thesis.txt"):
        before = tree(tmp_path)
        with pytest.raises(ValueError, match="name a new folder"): fetch_prepared(project, NAME, there)
        assert tree(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert verify(fetch_prepared(project, NAME, tmp_path / "empty")) == []
    unharmed.s3.faults.asked.clear()
    assert fetch_prepared(project, NAME, tmp_path / "empty") == tmp_path / "empty" and unharmed.s3.faults.asked == []


def test_a_file_that_changed_in_the_store_is_found_out(unharmed, project, folder, tmp_path):
    log_prepared(project, NAME, folder, **SOON)
    key = next(k for k in unharmed.s3.objects(project.name) if k.endswith(".arrow"))
    unharmed.s3.direct.put_object(Bucket=unharmed.s3.bucket, Key=key, Body=b"x" * unharmed.s3.objects()[key])
    with pytest.raises(RuntimeError, match="damaged in the store: .*another SHA-256.*upload it again"): fetch_prepared(project, NAME, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_of_something_else_is_no_data_set(unharmed, project, tmp_path):
    (tmp_path / "a").mkdir()
    for n in ("one", "two"): (tmp_path / "a" / n).write_text(n)
    project.log_artifact(name="notes", kind="artifact", source=str(tmp_path / "a"))
    with pytest.raises(RuntimeError, match="artifact notes holds no prepared data set"): fetch_prepared(project, "notes", tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("what", [503, "cut"])
def test_a_download_that_fails_leaves_nothing_that_looks_done(unharmed, project, folder, tmp_path, what):
    log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.faults.append(Fault("GET", r"eval/", what, times=FOREVER))
    with pytest.raises(RuntimeError, match="could not be fetched: .*run it again"): fetch_prepared(project, NAME, tmp_path / "got", retries=1, wait_s=0.01)
    assert list(tmp_path.iterdir()) == []
    unharmed.s3.faults.clear()
    unharmed.s3.faults.append(Fault("GET", r"eval/", what, times=3))
    assert verify(fetch_prepared(project, NAME, tmp_path / "got", retries=2, wait_s=0.01)) == []


# faults

PUT = dict(method="PUT", path=r"/artifact/.*(arrow|parquet|json)")
STORE = {
    "store: 500, once": dict(PUT, what=500),
    "store: 500 for good": dict(PUT, what=500, times=FOREVER, skip=2),
    "store: 503, twice": dict(PUT, what=503, times=2, skip=3),
    "store: 503 for good": dict(PUT, what=503, times=FOREVER),
    "store: reset in the middle of a file, once": dict(PUT, what="reset", skip=1),
    "store: reset in the middle of every file": dict(PUT, what="reset", times=FOREVER, skip=1),
    "store: no answer, twice": dict(PUT, what="cut", times=2, skip=1),
    "store: gone after the third file": dict(method=".*", path="", what="cut", times=FOREVER, skip=6),
    "store: slow": dict(method=".*", path="", what="slow", times=FOREVER),
    "store: denied": dict(method=".*", path="", what=403, times=FOREVER),
    "store: denied for one file": dict(method="PUT", path="tokenizer.json", what=403, times=FOREVER),
    "store: no such bucket": dict(method=".*", path=r"^/datalake", what=404, times=FOREVER),
    "store: can't be listed": dict(method="GET", path="list-type", what=403, times=FOREVER),
    "store: loses a file that it took": dict(method="GET", path="list-type", what="lose"),
}
CORE = {
    "core: 503, once": [503, 1],
    "core: 503 from then on": [503, FOREVER],
    "core: no answer, once": ["cut", 1],
    "core: gone from then on": ["cut", FOREVER],
}


def lose(core, project):
    "Delete an object behind everyone's back."
    def now():
        for key in [k for k in core.s3.objects(project.name) if "/train/data-" in k and core.lost in k]: core.s3.direct.delete_object(Bucket=core.s3.bucket, Key=key)
    return now


@pytest.fixture(scope="module")
def ends():
    "How each fault ended: (fault, end) -> times."
    return Counter()


@pytest.fixture(scope="module", autouse=True)
def shown(ends, figure):
    "Have the ends shown as a table."
    yield
    for (fault, end), times in ends.items(): figure(f"{SDK}  {fault:46} {times:3} x {end}")
    kinds = Counter()
    for (_, end), times in ends.items(): kinds[end.split(",")[0]] += times
    if ends: figure(f"{SDK}  {sum(ends.values())} faults: " + ", ".join(f"{n} {k}" for k, n in kinds.items()))


def end_of(core, project, folder, before, call):
    "Upload under a fault; what is there afterwards must be whole, the new version or the one before."
    try: art, said = call(), ""
    except RuntimeError as e: art, said = None, str(e)
    for faults in (core.faults, core.s3.faults): faults.clear()
    seen, ready = project.get_artifact(NAME), latest_ready(project, NAME)
    assert seen.id == ready.id
    if art is not None:
        assert art.id == seen.id and whole(core, seen, folder)
        return "READY"
    assert said.startswith(f"artifact {NAME} could not be uploaded: ") and "\n" not in said
    if seen.id != before.id:
        assert whole(core, seen, folder)
        return "READY, though the answer was lost"
    return "the version before, " + ("nothing left" if left(core, project) == [] else "the rest kept for the next call")


def go_on(core, project, folder):
    "The same call, all being well again."
    art = log_prepared(project, NAME, folder, **SOON)
    assert whole(core, art, folder) and left(core, project) == []


@pytest.mark.parametrize("fault", STORE)
def test_a_store_that_fails_never_leaves_half_a_version(unharmed, project, folder, other, ends, fault):
    before, what = log_prepared(project, NAME, other, **SOON), dict(STORE[fault])
    unharmed.s3.faults.clear()
    if what["what"] == "lose": unharmed.lost, what["what"] = "", lose(unharmed, project)
    unharmed.s3.faults.append(Fault(**what))
    end = end_of(unharmed, project, folder, before, lambda: log_prepared(project, NAME, folder, **SOON))
    ends[fault, end] += 1
    assert end == "READY" or end.endswith("nothing left")
    go_on(unharmed, project, folder)


@pytest.fixture(scope="module")
def conversation(moto, folder, other):
    "What an upload asks the core, one after the other."
    project = get_project(f"speech-{next(numbers)}")
    log_prepared(project, NAME, other, **SOON)
    moto.faults.asked.clear()
    log_prepared(project, NAME, folder, **SOON)
    return list(moto.faults.asked)


@pytest.mark.parametrize("fault", CORE)
def test_a_core_that_fails_at_any_request_never_leaves_half_a_version(unharmed, conversation, folder, other, ends, fault):
    what, times = CORE[fault]
    for k in range(len(conversation)):
        project = get_project(f"speech-{next(numbers)}")
        before = log_prepared(project, NAME, other, **SOON)
        unharmed.faults.append(Fault(".*", "", what, times=times, skip=k))
        ends[fault, end_of(unharmed, project, folder, before, lambda: log_prepared(project, NAME, folder, **SOON))] += 1
        if times == FOREVER and k % 5 == 0: go_on(unharmed, project, folder)
