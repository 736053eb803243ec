"""The platform's half, through its unmodified SDK: jobs in processes of their own and in this one, against the stand-in core and a real S3 protocol."""
import json, logging, os, shutil, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("digitalhub_runtime_python", reason="needs the extra platform-run")
pytest.importorskip("moto", reason="needs moto's S3")
from audio_ft_prep import PrepConfig, load_prepared, prepare
from audio_ft_prep import platform as ours
from audio_ft_prep.artifact import fetch_prepared, get_project, latest_ready
from audio_ft_prep.store import read_prep, verify
from standin import platform
from standin.pod import run_pod

SEED = dict(artifact_name="audio-dataset", model_id="openai/whisper-small", dataset_name="sample", language_code="it", language="Italian")
SMALL = dict(num_workers="1", max_train_samples="12", max_eval_samples="3")
TOKEN = "hf_thisIsTheSecretOfTheTest"


@pytest.fixture
def core(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HF_HOME", ours.WORK): monkeypatch.delenv(name, raising=False)
    with platform("moto") as c: yield c


@pytest.fixture
def project(core): return get_project("audio-training")


def with_secret(project):
    import digitalhub as dh
    dh.new_secret(project.name, "HF_TOKEN", secret_value=TOKEN)
    return project


def files(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def pod(core, run, ok=True):
    done = run_pod(core, run.id)
    run.refresh()
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    assert run.status.state == ("COMPLETED" if ok else "ERROR")
    return done


def single(tmp_path, **settings):
    return prepare(ours.job_config({**{k: v for k, v in SEED.items() if k != "artifact_name"}, **settings}).__class__(**{}), progress=False)


def test_the_seed_as_a_job(core, project, tmp_path):
    with_secret(project)
    func = ours.create_function(project, "create-dataset")
    run = ours.run_job(func, **SEED, **SMALL)
    done = pod(core, run)
    print(done.stdout[-2000:], done.stderr[-5000:])
    print(core.metrics)
    print(os.listdir("."))
