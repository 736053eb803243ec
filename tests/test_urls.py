"""Outputs at a URL: the same bytes as in a folder, and as safe from other runs and from being killed."""
import os, signal, subprocess
from functools import partial

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
from audio_ft_prep import PrepConfig, load_prepared, prepare, workdir
from audio_ft_prep.artifact import log_prepared
from audio_ft_prep.pipeline import Part, merge
from audio_ft_prep.paths import as_path
from audio_ft_prep.locks import held
from audio_ft_prep.reading import verify
from conftest import COMMAND, SAMPLE, flags, tar_clips, until, write_corpus
from standin.s3 import KEY, SECRET, store

pytestmark = pytest.mark.long

BUCKET = "speech"
SETTINGS = dict(language_code="it", language="Italian", train_splits="train", shard_rows=10)


@pytest.fixture(scope="module")
def s3():
    "A bucket, and an environment in which clients find it."
    env = dict(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1")
    with store("moto", BUCKET) as made, pytest.MonkeyPatch.context() as patch:
        for k, v in {**env, "AWS_ENDPOINT_URL": made.conf["endpoint_url"]}.items(): patch.setenv(k, v)
        yield made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "150 clips of train and 6 of test, in a tar each."
    source = [(data, f"la frase {name[-2:]}") for name, data in tar_clips(SAMPLE, "it", "train").items()]
    repeat = lambda split, n: [(f"{split}_{i:03d}", *source[i % len(source)]) for i in range(n)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), {"train": repeat("train", 150), "test": repeat("test", 6)})


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    "The data set as this machine's own processes make it in a folder."
    return prepare(config(corpus, tmp_path_factory.mktemp("local") / "out", num_workers=2), progress=False)


@pytest.fixture
def heartbeat(monkeypatch):
    "Have runs of this process give a sign of life at their URL every so many seconds, and so wait less long for those of others."
    return lambda beat_s: monkeypatch.setattr(workdir, "held", partial(held, beat_s=beat_s))


def config(corpus, out, **settings): return PrepConfig(str(corpus), output_dir=str(out), **{**SETTINGS, **settings})
def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def objects(s3, prefix):
    "Name -> bytes of what stands under a prefix."
    return {
        k.removeprefix(prefix): s3.direct.get_object(Bucket=BUCKET, Key=k)["Body"].read() for k in s3.objects(prefix)
    }


def same_at(name, s3, corpus, whole, **settings):
    "Prepare to a URL, and hold what is there against the folder; nothing is made again, and nothing by another config."
    done = prepare(config(corpus, f"s3://{BUCKET}/{name}", **settings), progress=False)
    assert done.hash == whole.hash and str(done.folder) == f"s3://{BUCKET}/{name}"
    assert objects(s3, f"{name}/") == contents(whole.folder)
    assert prepare(config(corpus, f"s3://{BUCKET}/{name}"), progress=False).prep == whole.prep
    with pytest.raises(
        ValueError, match="holds a data set that another config made: shard_rows is 10 there and 11 here"
    ):
        prepare(config(corpus, f"s3://{BUCKET}/{name}", shard_rows=11), progress=False)


def test_what_is_written_to_s3_is_what_is_written_to_a_folder(s3, corpus, whole):
    same_at("local", s3, corpus, whole, num_workers=2)


def test_a_data_set_on_s3_is_verified_and_read_there(s3, corpus, whole):
    url = f"s3://{BUCKET}/read"
    prepare(config(corpus, url, num_workers=2), progress=False)
    assert verify(url) == []
    there, here = load_prepared(url), load_prepared(whole.folder)
    assert all(
        there[s]["id"] == here[s]["id"] and (there[s][0]["input_features"] == here[s][0]["input_features"]).all()
        for s in here
    )
    key = next(k for k in s3.objects("read/") if k.endswith(".arrow"))
    data = bytearray(s3.direct.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    s3.direct.put_object(Bucket=BUCKET, Key=key, Body=bytes(data))
    assert verify(url) == [f"{key.removeprefix('read/')} has another SHA-256 than when it was written"]


def test_a_run_to_s3_that_was_killed_goes_on(s3, corpus, whole, heartbeat):
    args = flags(dataset_name=corpus, output_dir=f"s3://{BUCKET}/killed", num_workers=1, **SETTINGS)
    with subprocess.Popen(
        [COMMAND, "prepare", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as run:
        records = lambda: [k for k in s3.objects("killed/.work/train-")]
        until(lambda: run.poll() is not None or records(), 600)
        assert run.poll() is None, run.stderr.read()
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    when = lambda: {
        o["Key"]: o["LastModified"]
        for o in s3.direct.list_objects_v2(Bucket=BUCKET, Prefix="killed/train/data-").get("Contents", [])
    }
    before = {k: v for k, v in when().items() if f"killed/.work/train-{k.split('-')[1]}.json" in records()}
    assert before and not any(k.endswith("prep.json") for k in s3.objects("killed/"))
    heartbeat(0.5)
    assert prepare(config(corpus, f"s3://{BUCKET}/killed", num_workers=2), progress=False).hash == whole.hash
    assert {k: v for k, v in when().items() if k in before} == before
    assert objects(s3, "killed/") == contents(whole.folder)


def test_a_second_run_to_the_same_url_says_so_and_stops(s3, corpus, heartbeat):
    heartbeat(1)
    url = f"s3://{BUCKET}/twice"
    with held(as_path(url) / ".work" / "lock", 0.2), pytest.raises(
        RuntimeError, match=f"another run is writing {url}: wait for it, or set output_dir to another folder"
    ):
        prepare(config(corpus, url), progress=False)


def test_a_bucket_that_is_not_there_and_a_key_that_is_refused_are_told_in_a_sentence(s3, corpus, monkeypatch):
    with pytest.raises(FileNotFoundError, match="s3://nowhere/.* there is no such bucket: make it first"):
        prepare(config(corpus, "s3://nowhere/prepared"), progress=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    with pytest.raises(
        OSError,
        match=f"s3://{BUCKET}/mine.* can't be read or written: .*; see that it is right, and that the credentials",
    ):
        prepare(config(corpus, f"s3://{BUCKET}/mine"), progress=False)


def test_what_takes_a_folder_refuses_a_url(corpus, tmp_path):
    with pytest.raises(ValueError, match="one job's share of a run is written to a folder, got s3://b/x"):
        prepare(config(corpus, "s3://b/x"), part=Part(0, 2))
    with pytest.raises(ValueError, match="parts are merged in a folder, got s3://b/x"): merge([tmp_path], "s3://b/x")
    with pytest.raises(ValueError, match="what is logged is a folder, got s3://b/x: fetch it first"):
        log_prepared("speech", "data", "s3://b/x")
    with pytest.raises(
        ValueError, match="dataset_name can't be a URL, got s3://b/cv: fetch the corpus first, or mount it"
    ):
        prepare(config("s3://b/cv", tmp_path))
