"""Artifacts on a platform: the SDK as it comes, a core and a store that fail as told, and what is there afterwards."""
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("digitalhub", reason="the platform's SDK isn't installed: pip install 'audio_ft_prep[platform]'")
from audio_ft_prep.artifact import fetch_prepared, get_project, latest_ready, log_croissant, log_prepared, manifest
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.disk import file_sha256
from audio_ft_prep.sdk import etag
from conftest import COMMAND, sentence
from standin import environment, platform, rgw, sdk_level
from standin.s3 import KEY, Fault

pytestmark = pytest.mark.long

FOREVER, SOON = float("inf"), dict(retries=1, wait_s=0.01, batch_bytes=1 << 20, progress=False)
BRISK = {**SOON, "batch_bytes": 2 << 20}
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
    core.s3.renew(KEY)


@pytest.fixture(scope="module")
def folder(prepared): return prepared("it").folder


@pytest.fixture(scope="module")
def other(prepared): return prepared("it", max_train_samples=4).folder


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def sizes(folder): return {n: (folder / n).stat().st_size for n in manifest(read_prep(folder))}


def stored(core, artifact):
    "What the store holds under an artifact's path: name -> bytes."
    prefix = artifact.spec.path.removeprefix(f"s3://{core.s3.bucket}/")
    return {k.removeprefix(prefix): n for k, n in core.s3.objects(prefix).items()}


def whole(core, artifact, folder):
    "Whether an artifact is finished and the store has all of it and nothing else."
    return (
        artifact.status.state == "READY"
        and stored(core, artifact) == sizes(folder)
        and {f["path"] for f in artifact.status.files} == sizes(folder).keys()
    )


def left(core, project):
    "What stands on the platform beside finished artifacts: unfinished ones, and files of none."
    mine = core.all("artifact", project.name)
    paths = [
        e["spec"]["path"].removeprefix(f"s3://{core.s3.bucket}/")
        for e in mine
        if e["status"]["state"] == "READY" and "uploading" not in e["name"]
    ]
    files = [k for k in core.s3.objects(project.name + "/") if not any(k.startswith(p) for p in paths)]
    return [e["name"] for e in mine if e["status"]["state"] != "READY" or "uploading" in e["name"]] + files


def test_a_folder_goes_there_and_comes_back_the_same(core, project, folder, tmp_path):
    told, size = [], sum(sizes(folder).values())
    art = log_prepared(project, NAME, folder, **{**SOON, "progress": lambda *sent: told.append(sent)})
    assert (told[0], told[-1]) == ((0, size), (size, size)) and told == sorted(told)
    assert (
        whole(core, art, folder)
        and art.id == project.get_artifact(NAME).id == latest_ready(project, NAME).id
        and left(core, project) == []
    )
    assert art.spec.path == f"s3://{core.s3.bucket}/{project.name}/artifact/{NAME}/{art.id}/"
    got = fetch_prepared(project, NAME, tmp_path / "v0.3")
    assert tree(got) == {n: (folder / n).read_bytes() for n in sizes(folder)} and verify(got) == []
    assert [p.name for p in tmp_path.iterdir()] == ["v0.3"]


def test_the_platform_keeps_what_a_person_chooses_by(unharmed, project, folder):
    art, prep = log_prepared(project.name, NAME, folder, **SOON), read_prep(folder)
    kept = project.get_artifact(NAME, entity_id=art.id).metadata
    assert {
        "audio_ft_prep",
        "model:openai/whisper-small",
        "corpus:sample",
        "language:it",
        "rows:20+4",
        "hours:0.02",
        "family:whisper",
        f"hash:{prep['hash'][:16]}",
    } <= set(kept.labels)
    assert (
        "20 rows of train" in kept.description
        and "serves models of whisper" in kept.description
        and prep["hash"][:16] in kept.description
        and "Unfinished" not in kept.description
    )
    files = {f["path"]: f for f in art.status.files}
    assert all(
        f["hash"] == f"md5:{etag(folder / n)}" and f["size"] == (folder / n).stat().st_size for n, f in files.items()
    )


def test_only_the_data_set_is_sent(unharmed, project, folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    for stray in (".env", "notes.txt", "processor/token", "train/backup.arrow"): (mine / stray).write_text("hf_secret")
    art = log_prepared(project, NAME, mine, **SOON)
    assert (
        stored(unharmed, art).keys() == sizes(folder).keys()
        and {"README.md", "croissant.json"} <= sizes(folder).keys()
    )


def test_the_same_data_set_is_not_sent_twice(unharmed, project, folder, other):
    first = log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.faults.asked.clear()
    assert log_prepared(project, NAME, folder, **SOON).id == first.id
    assert [m for m, _ in unharmed.s3.faults.asked if m in ("PUT", "POST")] == []
    second = log_prepared(project, NAME, other, **SOON)
    third = log_prepared(project, NAME, folder, **SOON)
    assert (
        len({first.id, second.id, third.id}) == 3
        and latest_ready(project, NAME).id == third.id
        and left(unharmed, project) == []
    )


def test_a_version_that_lost_a_file_is_sent_again(unharmed, project, folder):
    first = log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.direct.delete_object(
        Bucket=unharmed.s3.bucket, Key=next(k for k in unharmed.s3.objects(project.name) if k.endswith(".arrow"))
    )
    assert (
        whole(unharmed, log_prepared(project, NAME, folder, **SOON), folder)
        and latest_ready(project, NAME).id != first.id
    )


def test_a_folder_that_is_not_a_whole_data_set_stays_at_home(unharmed, project, folder, tmp_path):
    half, hurt = tmp_path / "half", shutil.copytree(folder, tmp_path / "hurt")
    (half / ".work").mkdir(parents=True)
    (hurt / "processor/tokenizer.json").write_text("{}")
    unharmed.faults.asked.clear()
    with pytest.raises(FileNotFoundError, match="was not finished, run it again"):
        log_prepared(project, NAME, half, **SOON)
    with pytest.raises(RuntimeError, match="tokenizer.json has another SHA-256.*prepare it again"):
        log_prepared(project, NAME, hurt, **SOON)
    with pytest.raises(ValueError, match="a project's name"): log_prepared("My Project", NAME, folder, **SOON)
    assert unharmed.faults.asked == []


def test_latest_ready_says_that_there_is_none(unharmed, project):
    with pytest.raises(LookupError, match="has no finished artifact nothing: upload one"):
        latest_ready(project, "nothing")
    with pytest.raises(LookupError, match="has no finished artifact nothing: upload one"):
        fetch_prepared(project, "nothing")


def test_an_unfinished_version_of_the_sdks_own_is_passed_over(unharmed, project, folder):
    good = log_prepared(project, NAME, folder, **SOON)
    with pytest.raises(Exception): project.log_artifact(name=NAME, kind="artifact", source=str(folder / "nowhere"))
    project.new_artifact(name=NAME, kind="artifact", path=f"s3://{unharmed.s3.bucket}/elsewhere/")
    assert project.get_artifact(NAME).status.state != "READY" and latest_ready(project, NAME).id == good.id


# fetching


def test_what_is_in_the_folder_is_never_overwritten(unharmed, project, folder, other, tmp_path):
    log_prepared(project, NAME, folder, **SOON)
    thesis, hurt, theirs = (
        tmp_path / "thesis",
        shutil.copytree(folder, tmp_path / "hurt"),
        shutil.copytree(other, tmp_path / "theirs"),
    )
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
    with pytest.raises(RuntimeError, match="damaged in the store: .*another SHA-256.*upload it again"):
        fetch_prepared(project, NAME, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_of_something_else_is_no_data_set(unharmed, project, tmp_path):
    (tmp_path / "a").mkdir()
    for n in ("one", "two"): (tmp_path / "a" / n).write_text(n)
    project.log_artifact(name="notes", kind="artifact", source=str(tmp_path / "a"))
    with pytest.raises(RuntimeError, match="artifact notes holds no prepared data set"):
        fetch_prepared(project, "notes", tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("what", [503, "cut"])
def test_a_download_that_fails_leaves_nothing_that_looks_done(unharmed, project, folder, tmp_path, what):
    log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.faults.append(Fault("GET", r"eval/", what, times=FOREVER))
    with pytest.raises(RuntimeError, match="could not be fetched: .*run it again"):
        fetch_prepared(project, NAME, tmp_path / "got", retries=1, wait_s=0.01)
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
    "core: 503, once": (503, 1),
    "core: its answer is lost, once": ("lost", 1),
    "core: gone from then on": ("cut", FOREVER),
}  # at each of its requests


def lose(core, project):
    "Delete a file of the newest upload behind everyone's back."
    def now():
        newest = core.all("artifact", project.name)[-1]["spec"]["path"].removeprefix(f"s3://{core.s3.bucket}/")
        core.s3.direct.delete_object(Bucket=core.s3.bucket, Key=newest + "rejects.parquet")
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
    assert "\n" not in said
    if said.startswith(f"artifact {NAME} is uploaded, and can't be read back: "):
        assert whole(core, seen, folder)
        return "READY, and the call says that it could not read it back"
    assert said.startswith(f"artifact {NAME} could not be uploaded: ") and seen.id == before.id
    return "the version before, " + ("nothing left" if left(core, project) == [] else "the rest kept for the next call")


def go_on(core, project, folder):
    "The same call, all being well again."
    art = log_prepared(project, NAME, folder, **SOON)
    assert whole(core, art, folder) and left(core, project) == []


@pytest.mark.parametrize("fault", STORE)
def test_a_store_that_fails_never_leaves_half_a_version(unharmed, project, folder, other, ends, fault):
    before, what = log_prepared(project, NAME, other, **SOON), dict(STORE[fault])
    unharmed.s3.faults.clear()
    if what["what"] == "lose": what.update(what=lose(unharmed, project), times=FOREVER)
    unharmed.s3.faults.append(Fault(**what))
    end = end_of(unharmed, project, folder, before, lambda: log_prepared(project, NAME, folder, **SOON))
    ends[fault, end] += 1
    assert end == "READY" or end.endswith("nothing left")
    go_on(unharmed, project, folder)


@pytest.fixture(scope="module")
def conversation(moto, folder):
    "What an upload asks the core, one after the other."
    project = get_project(f"speech-{next(numbers)}")
    earlier(moto, project)
    moto.faults.asked.clear()
    log_prepared(project, NAME, folder, **BRISK)
    return list(moto.faults.asked)


def earlier(core, project):
    "A finished version that is there already."
    made = dict(
        name=NAME,
        kind="artifact",
        spec={"path": f"s3://{core.s3.bucket}/{project.name}/earlier/"},
        status={"state": "READY"},
    )
    return SimpleNamespace(**core.create("artifact", project.name, made))


@pytest.mark.parametrize("fault", CORE)
def test_a_core_that_fails_at_any_request_never_leaves_half_a_version(unharmed, conversation, folder, ends, fault):
    what, times = CORE[fault]
    for k in range(list(CORE).index(fault) % 2, len(conversation), 2):  # the faults take turns, so that together they meet every request
        project = get_project(f"speech-{next(numbers)}")
        before = earlier(unharmed, project)
        unharmed.faults.append(Fault(".*", "", what, times=times, skip=k))
        end = end_of(unharmed, project, folder, before, lambda: log_prepared(project, NAME, folder, **BRISK))
        ends[fault, end] += 1
        assert end == "READY" or times == FOREVER, f"{conversation[k]} ended in {end}"
        if times == FOREVER and k % 6 == 0: go_on(unharmed, project, folder)


# an upload that was stopped


CHILD = """
import json, os, sys
import digitalhub
from audio_ft_prep.artifact import log_prepared
for line in sys.stdin:
    if not (pid := os.fork()): log_prepared(**json.loads(line)); os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


@pytest.fixture(scope="module")
def child(moto):
    "Upload in a process of its own, and kill it when a request comes; give whether it was killed."
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    def upload(faults, fault, **given):
        reached, pid = threading.Event(), queue.Queue()
        def kill():
            os.kill(pid.get(timeout=600), signal.SIGKILL)
            reached.set()
            return "cut"
        faults.append(Fault(**fault, what=kill))
        server.stdin.write(json.dumps(given) + "\n")
        server.stdin.flush()
        pid.put(int(server.stdout.readline()))
        assert server.stdout.readline() == "gone\n"
        return reached.is_set()
    yield upload
    server.stdin.close()
    server.wait(120)


def put(core):
    return Counter(
        p.split("/uploads")[0].split("?")[0] for m, p in core.s3.faults.asked if m == "PUT" and "/artifact/" in p
    )


@pytest.mark.parametrize("when", ["a file is sent", "the core is asked"])
def test_killed_at_any_time_and_run_again_it_sends_only_what_the_store_lacks(
    unharmed, conversation, child, folder, ends, when
):
    faults, fault = (
        (unharmed.s3.faults, PUT) if when == "a file is sent" else (unharmed.faults, dict(method=".*", path=""))
    )
    for k in range(0, 99, 3):
        project = get_project(f"speech-{next(numbers)}")
        before = earlier(unharmed, project)
        if not child(
            faults, dict(fault, skip=k), project=project.name, artifact_name=NAME, folder=str(folder), **BRISK
        ):
            break
        faults.clear()
        seen, there = project.get_artifact(NAME), unharmed.s3.objects(f"{project.name}/artifact/")
        assert seen.id == before.id or whole(unharmed, seen, folder)
        ends[f"killed as {when}", "the version before" if seen.id == before.id else "READY"] += 1
        unharmed.s3.faults.asked.clear()
        go_on(unharmed, project, folder)
        assert [n for n in put(unharmed) if n.removeprefix(f"/{unharmed.s3.bucket}/") in there] == []
        assert len(latest_ready(project, NAME).status.files) == len(sizes(folder))
    assert k > 3, "the upload was over before it could be killed"


def test_a_failed_upload_is_kept_where_asked_for(unharmed, project, folder):
    unharmed.s3.faults.append(Fault("PUT", "rejects.parquet", 403, times=FOREVER))
    with pytest.raises(RuntimeError, match=f"kept as {NAME}.uploading-.*goes on from there"):
        log_prepared(project, NAME, folder, keep_failed=True, **SOON)
    with pytest.raises(LookupError): latest_ready(project, NAME)
    unharmed.s3.faults.clear()
    unharmed.s3.faults.asked.clear()
    go_on(unharmed, project, folder)
    assert not any("train/data-" in n for n in put(unharmed)) and any("rejects" in n for n in put(unharmed))


def test_another_data_set_does_not_go_on_from_this_one(unharmed, project, folder, other):
    unharmed.s3.faults.append(Fault("PUT", "rejects.parquet", 403, times=FOREVER))
    with pytest.raises(RuntimeError, match="kept as"): log_prepared(project, NAME, folder, keep_failed=True, **SOON)
    unharmed.s3.faults.clear()
    assert whole(unharmed, log_prepared(project, NAME, other, **SOON), other)
    assert whole(unharmed, log_prepared(project, NAME, folder, **SOON), folder) and left(unharmed, project) == []


@pytest.fixture(scope="module")
def large(folder, tmp_path_factory):
    "A prepared folder with a file that is sent in parts."
    mine, size = shutil.copytree(folder, tmp_path_factory.mktemp("large") / "mine"), (100 << 20) + 5
    with open(mine / "processor/large.json", "wb") as f: f.truncate(size)
    prep = json.loads((mine / "prep.json").read_text())
    prep["files"]["processor/large.json"] = file_sha256(mine / "processor/large.json")
    (mine / "prep.json").write_text(json.dumps(prep))
    return mine


def test_a_reset_in_the_middle_of_a_part_is_made_good(unharmed, project, large, ends):
    unharmed.s3.faults.append(Fault("PUT", "partNumber=7", "reset", times=3))
    log_prepared(project, NAME, large, **SOON)
    ends["store: reset in the middle of a part, three times", "READY"] += 1
    assert whole(unharmed, latest_ready(project, NAME), large)
    key = next(k for k in unharmed.s3.objects(project.name) if k.endswith("large.json"))
    assert unharmed.s3.direct.head_object(Bucket=unharmed.s3.bucket, Key=key)["ETag"].strip('"') == etag(
        large / "processor/large.json"
    )


# credentials


def expiring(core, project, faults, **fault):
    "A platform whose token and key end at a request."
    def now(): core.expire()
    faults.append(Fault(**fault, what=now))


@pytest.mark.parametrize("where", ["between two files", "before the store is listed", "before the core is asked"])
def test_a_token_that_ends_is_renewed(unharmed, folder, ends, where):
    name = f"speech-{next(numbers)}"
    fault = {
        "between two files": (unharmed.s3.faults, dict(PUT, skip=4)),
        "before the store is listed": (unharmed.s3.faults, dict(method="GET", path="list-type")),
        "before the core is asked": (unharmed.faults, dict(method="PUT", path="/artifacts/", skip=2)),
    }[where]
    with environment(**unharmed.token_env(), AWS_MAX_ATTEMPTS="2"):
        project = get_project(name)
        expiring(unharmed, project, fault[0], **fault[1])
        art = log_prepared(project, NAME, folder, **SOON)
        assert whole(unharmed, art, folder) and left(unharmed, project) == [] and not [f for f in fault[0] if f.times]
    ends[f"token: ends {where}", "READY"] += 1


def test_a_wrong_secret_is_refused(core, folder, request):
    if request.node.callspec.params["core"] == "moto":
        pytest.skip("moto takes any credentials: radosgw alone checks them")
    name = f"speech-{next(numbers)}"
    for wrong in (dict(AWS_SECRET_ACCESS_KEY="another-secret"), dict(AWS_ACCESS_KEY_ID="AKIASTANDIN2")):
        with environment(**{**core.env(), **wrong}, AWS_MAX_ATTEMPTS="2"):
            with pytest.raises(
                RuntimeError,
                match=(
                    "could not be uploaded: .*(SignatureDoesNotMatch|InvalidAccessKeyId).*; what was sent is removed"
                ),
            ):
                log_prepared(name, NAME, folder, **SOON)
            assert left(core, get_project(name)) == []


def test_a_platform_that_is_not_there_is_named(unharmed, folder):
    for wrong, says in ((dict(DHCORE_ENDPOINT="http://127.0.0.1:9"), "127.0.0.1"), (dict(DHCORE_PASSWORD="guess"), "")):
        with environment(**{**unharmed.env(), **wrong}):
            with pytest.raises(
                RuntimeError, match=f"project speech-none can't be opened: .*{says}.*; see that the platform answers"
            ):
                log_prepared("speech-none", NAME, folder, **SOON)


# Croissant

def test_croissant_metadata_is_logged_where_the_sdk_can(unharmed, project, folder):
    art, here = log_prepared(project, NAME, folder, **SOON), os.getcwd()
    if sdk_level() < "15":
        with pytest.raises(RuntimeError, match="can't log Croissant metadata: 0.15 or newer can"):
            log_croissant(project, NAME, folder)
        return
    item = log_croissant(project, NAME, folder)
    assert (
        item.status.state == "READY"
        and os.getcwd() == here
        and stored(unharmed, item).keys() == {"metadata.json", "prep.json"}
    )
    body = unharmed.s3.direct.get_object(
        Bucket=unharmed.s3.bucket, Key=item.spec.path.split("/", 3)[3] + "metadata.json"
    )["Body"].read()
    told = {o["@id"]: o["contentUrl"] for o in json.loads(body)["distribution"] if "contentUrl" in o}
    assert told.pop("prep.json") == "prep.json" and told.keys() == sizes(folder).keys() - {
        "prep.json",
        "README.md",
        "croissant.json",
    }
    assert all(address == art.spec.path + name for name, address in told.items())


def test_croissant_metadata_that_cannot_be_logged_leaves_nothing(unharmed, project, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no croissant.json in"): log_croissant(project, NAME, tmp_path)
    if sdk_level() < "15": pytest.skip("this SDK has no log_croissant")
    log_prepared(project, NAME, folder, **SOON)
    here = os.getcwd()
    unharmed.s3.faults.append(Fault("PUT", "dataitem", 403, times=FOREVER))
    with pytest.raises(RuntimeError, match="Croissant metadata of audio-dataset could not be logged: .*run it again"):
        log_croissant(project, NAME, folder)
    assert os.getcwd() == here and project.get_dataitem_versions(NAME) == []


# the command


def call(*args): return subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, timeout=600)


def test_the_command_uploads_and_says_where(unharmed, project, folder):
    got = call("upload", folder, "--project", project.name, "--artifact-name", NAME, "--json")
    assert (
        got.returncode == 0
        and json.loads(got.stdout)["id"] == latest_ready(project, NAME).id
        and "Traceback" not in got.stderr
    )
    got = call("upload", folder, "--project", project.name, "--artifact-name", NAME)
    assert (
        got.returncode == 0
        and got.stdout == f"{folder} is {latest_ready(project, NAME).key}\n"
        and "is on the platform already: nothing to do" in got.stderr
    )


def test_the_command_ends_with_1_and_one_sentence_when_the_platform_is_gone(unharmed, folder):
    with environment(DHCORE_ENDPOINT="http://127.0.0.1:9", DHCORE_USER="a", DHCORE_PASSWORD="b"):
        got = call("upload", folder, "--project", "speech", "--artifact-name", NAME)
    assert got.returncode == 1 and "project speech can't be opened" in sentence(got.stderr)


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("digitalhub", "boto3"): raise ImportError(f"no {name} here")
sys.meta_path.insert(0, Refuse())
import audio_ft_prep, audio_ft_prep.artifact
from audio_ft_prep.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_without_the_sdk_everything_else_works_and_the_extra_is_named(folder):
    bare = lambda *args: subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, args)], capture_output=True, text=True, timeout=600
    )
    assert bare("verify", folder).returncode == 0
    got = bare("upload", folder, "--project", "speech", "--artifact-name", NAME)
    assert got.returncode == 2 and "pip install 'audio_ft_prep[platform]'" in sentence(got.stderr)


# an artifact of somebody else's

HIDDEN = {
    "a name above": ("../../thesis.txt", b"x"),
    "an absolute name": ("/etc/thesis.txt", b"x"),
    "code": ("processor/tokenization.py", b"x"),
    "a pickle": ("pytorch_model.bin", b"x"),
    "a hidden file": (".env", b"x"),
    "a folder of its own": ("notes/thesis.txt", b"x"),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_an_artifact_with_other_names_is_not_fetched(unharmed, project, folder, tmp_path, what):
    art = log_prepared(project, NAME, folder, **SOON)
    name, data = HIDDEN[what]
    unharmed.s3.direct.put_object(
        Bucket=unharmed.s3.bucket, Key=art.spec.path.removeprefix(f"s3://{unharmed.s3.bucket}/") + name, Body=data
    )
    (tmp_path / "in").mkdir()
    before = tree(tmp_path)
    with pytest.raises(RuntimeError, match="holds no prepared data set"):
        fetch_prepared(project, NAME, tmp_path / "in/got", retries=0)
    assert tree(tmp_path) == before and [p.name for p in (tmp_path / "in").iterdir()] == []


def test_a_file_on_no_list_is_not_fetched(unharmed, project, folder, tmp_path):
    art = log_prepared(project, NAME, folder, **SOON)
    unharmed.s3.direct.put_object(
        Bucket=unharmed.s3.bucket,
        Key=art.spec.path.removeprefix(f"s3://{unharmed.s3.bucket}/") + "processor/chat_template.jinja",
        Body=b"{{ x }}",
    )
    with pytest.raises(RuntimeError, match="chat_template.jinja is not named in prep.json"):
        fetch_prepared(project, NAME, tmp_path / "got", retries=0)
    assert [*tmp_path.iterdir()] == []


def test_what_lies_beside_the_folder_to_be_fetched_is_left(unharmed, project, folder, tmp_path):
    "Folders that are called as an unfinished download might be, and links to what is somebody's."
    art = log_prepared(project, NAME, folder, **SOON)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    (tmp_path / f".got.{art.id[:8]}").symlink_to(tmp_path / "home")
    (tmp_path / "audio_ft_prep-main").mkdir()
    (tmp_path / "audio_ft_prep-main/.audio_ft_prep.lock").symlink_to(tmp_path / "home/thesis.txt")
    before = tree(tmp_path)
    assert verify(fetch_prepared(project, NAME, tmp_path / "got", retries=0)) == []
    assert (
        before.items() <= tree(tmp_path).items()
        and (tmp_path / "audio_ft_prep-main/.audio_ft_prep.lock").is_symlink()
    )
