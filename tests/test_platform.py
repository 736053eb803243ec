"""The platform's half through its unmodified SDK: jobs in processes of their own and in this one, against the stand-in core and an S3 server."""
import importlib.util, json, os, re, shutil, signal, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("digitalhub_runtime_python", reason="needs the extra platform-run")
pytest.importorskip("moto", reason="needs moto's S3")
from conftest import until
from layouts import LAYOUTS, utterances
from audio_ft_prep import PrepConfig, load_prepared, prepare
from audio_ft_prep import platform as ours
from audio_ft_prep.artifact import fetch_prepared, get_project, latest_ready
from audio_ft_prep.reading import read_prep
from standin import platform
from standin.pod import run_pod
from standin_hub import StandinHub

pytestmark = pytest.mark.long

# What runs the jobs: this Python, or one that has the package installed and not the checkout
JOB_PYTHON = os.environ.get("AUDIO_FT_PREP_JOB_PYTHON", sys.executable)
SEED = dict(
    artifact_name="audio-dataset",
    model_id="openai/whisper-small",
    dataset_name="sample",
    language_code="it",
    language="Italian",
)
FEW = dict(max_train_samples="12", max_eval_samples="3", num_workers="1")
TOKEN = "hf_thisIsTheSecretOfTheTest"


@pytest.fixture
def core(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("HF_TOKEN", "HF_HOME", ours.WORK): monkeypatch.delenv(name, raising=False)
    with platform("moto") as c: yield c


@pytest.fixture
def project(core): return get_project("audio-training")


@pytest.fixture
def secret(project):
    "A token of the Hub among the project's secrets, and nowhere else."
    import digitalhub as dh
    dh.new_secret(project.name, "HF_TOKEN", secret_value=TOKEN)


@pytest.fixture
def alone(prepared):
    "The folder that one plain run makes of the same settings."
    def get(**settings):
        asked = ours.job_config({k: v for k, v in {**SEED, **FEW, **settings}.items() if k != "artifact_name"})
        return prepared(
            **{
                k: getattr(asked, k)
                for k in ("language_code", "language", "max_train_samples", "max_eval_samples", *settings)
            }
        ).folder
    return get


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
def asked(**more): return {**SEED, **FEW, **more}


def pods(core, *runs, ok=True):
    "Run submitted jobs, two at a time, each in a process of its own."
    path = {k: v for k, v in os.environ.items() if k == "PYTHONPATH" and JOB_PYTHON == sys.executable}
    with ThreadPoolExecutor(2) as side_by_side:
        done = list(side_by_side.map(lambda r: run_pod(core, r.id, python=JOB_PYTHON, **path), runs))
    for run, d in zip(runs, done):
        run.refresh()
        assert (d.returncode == 0, run.status.state) == ((True, "COMPLETED") if ok else (False, "ERROR")), d.stderr[
            -3000:
        ]
    return done


def metrics(core, run): return {name: value for (i, name), value in core.metrics.items() if i == run.id}


# One job

def test_the_seeds_two_steps_make_an_artifact_in_a_job_that_is_what_a_plain_run_makes(
    core, project, secret, alone, tmp_path
):
    func = project.new_function(
        name="create-dataset",
        kind="python",
        python_version="PYTHON3_10",
        handler="preprocess_dataset",
        code=(
            "import audio_ft_prep.platform as p\nprint('run from', p.__file__)\nfrom audio_ft_prep.platform import"
            " preprocess_dataset"
        ),
    )
    run = func.run(
        action="job",
        parameters=asked(),
        secrets=["HF_TOKEN"],
        envs=[{"name": "HF_HOME", "value": str(tmp_path / "huggingface")}],
    )
    done, = pods(core, run)
    checkout = str(Path(ours.__file__).parent)
    assert (checkout in done.stdout) == (JOB_PYTHON == sys.executable), done.stdout
    got = latest_ready(project, "audio-dataset")
    assert run.status.outputs["output_0"] == got.key == project.get_artifact("audio-dataset").key
    folder = fetch_prepared(project, "audio-dataset", tmp_path / "fetched")
    assert files(folder) == files(alone())
    told, counts = metrics(core, run), read_prep(folder)["counts"]
    assert told["train_rows"] == counts["train"]["kept"] > 0 and told["eval_rows"] == counts["eval"]["kept"] == 3
    assert (
        told["train_rejected_truncated"] == counts["train"]["rejects"]["truncated"]
        and told["train_hours"] > 0
        and told["clips_per_second"] > 0
    )
    log = done.stdout + done.stderr
    assert all(w in log for w in ("to be written", "rejected: truncated", "HF_TOKEN: yes")), log
    everything = log.encode() + b"".join(files(folder).values()) + json.dumps([*core.db.values()], default=str).encode()
    assert TOKEN.encode() not in everything
    trains(folder, tmp_path)


def trains(folder, tmp_path):
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.models.whisper.tokenization_whisper import WhisperTokenizer
    from audio_ft_prep import SpeechCollator
    from test_train import whisper
    model = whisper(WhisperTokenizer.from_pretrained(folder / "processor"))
    args = Seq2SeqTrainingArguments(
        str(tmp_path / "model"),
        max_steps=3,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model,
        args,
        train_dataset=load_prepared(folder)["train"],
        data_collator=SpeechCollator(model.config.decoder_start_token_id),
    )
    end = trainer.train()
    assert end.global_step == 3 and 0 < end.training_loss < 20


def test_local_execution_makes_the_same_and_a_trainer_that_isnt_ours_reads_it(core, project, secret, alone, tmp_path):
    from datasets import DatasetDict
    func = ours.create_function(project)
    run = ours.run_job(func, local=True, **asked(storage="padded"))
    assert (
        run.status.state == "COMPLETED"
        and run.status.outputs["output_0"] == latest_ready(project, "audio-dataset").key
    )
    folder = fetch_prepared(project, "audio-dataset", tmp_path / "fetched")
    assert read_prep(folder) == read_prep(alone(storage="padded")) and metrics(core, run)["eval_rows"] == 3
    data = DatasetDict.load_from_disk(str(folder))
    assert data.num_rows.keys() == {"train", "eval"} and {"input_features", "labels", "input_length"} <= set(
        data["train"].column_names
    )
    first = data["train"][0]["input_features"]
    assert (len(first), len(first[0])) == (80, 3000)
    assert not Path("audio-ft-prep-work").exists() and "HF_TOKEN" not in os.environ


def page_code(first):
    "The block of the task page that begins with a line."
    page = Path(__file__).resolve().parents[1] / "nbs/tasks/platform.ipynb"
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells)
    return next(b for b in re.findall(r"```python\n(.*?)```", text, re.S) if b.startswith(first))


def test_the_pages_training_job_fetches_the_artifact_trains_and_logs_the_model(core, project, prepared, tmp_path):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    from audio_ft_prep.artifact import log_prepared
    from test_training import whisper_folder
    made = prepared("it", max_train_samples=4, max_eval_samples=2).folder
    log_prepared(project, "audio-dataset", made, progress=False)
    code = page_code("# train.py").replace("generation_max_length=225", "generation_max_length=20")
    Path("train.py").write_text(code, encoding="utf-8")
    model = whisper_folder(tmp_path / "whisper", made / "processor")
    names = dict(artifact_name="audio-dataset", model_name="whisper-small-it", model_id=str(model))
    asks = page_code("from audio_ft_prep.platform import job_requirements").partition("wait_for([run])")[0]
    asks = re.sub(r"parameters=dict\(.*?\)\)", "parameters=parameters)", asks, flags=re.S)
    here = dict(project=project, package="none", parameters=dict(names, max_steps="2", batch_size="2"))
    exec(asks, here)
    run = here["run"]
    assert core.db[("run", run.id)]["spec"]["profile"] == "1xa100"
    pods(core, run)
    told = metrics(core, run)
    assert told.keys() == {"wer_before", "wer", "loss"} and 0 < told["loss"] < 12
    logged = project.get_model("whisper-small-it")
    assert run.status.outputs["output_0"] == logged.key and logged.kind == "huggingface"
    at = logged.download(str(tmp_path / "back"))
    assert WhisperForConditionalGeneration.from_pretrained(at).config.d_model == 32
    assert WhisperProcessor.from_pretrained(at).tokenizer.language in ("it", "italian")


def test_a_notebook_calls_the_handler_with_a_projects_name_and_the_labels_have_the_corpuss_language(
    core, project, alone, tmp_path
):
    got = ours.preprocess_dataset(
        "audio-training",
        "by-hand",
        *[SEED[k] for k in ("model_id", "dataset_name")],
        "en",
        max_train_samples=12,
        max_eval_samples=3,
        num_workers=1
    )
    assert got.status.state == "READY" and got.key == project.get_artifact("by-hand").key
    folder = fetch_prepared(project, "by-hand", tmp_path / "fetched")
    assert read_prep(folder) == read_prep(alone(language_code="en", language=""))
    from audio_ft_prep import load_prepared
    from audio_ft_prep.models import load_model
    assert {ids[1] for ids in load_prepared(folder)["train"]["labels"]} == {
        load_model("openai/whisper-small").tokenizer.convert_tokens_to_ids("<|en|>")
    }


WRONG = {
    "a number that is none": (
        dict(max_train_samples="many"),
        "max_train_samples must be a whole number or null, got 'many'",
    ),
    "a field that is none": (
        dict(feature_type="float32"),
        "'feature_type' is no field of PrepConfig: did you mean feature_dtype?",
    ),
    "a value out of range": (dict(max_seconds="4500"), "max_seconds must be above 0, and 1200 at most, got 4500.0"),
    "a folder of its own": (dict(output_dir="mine"), "say where with work_dir"),
    "a name that the platform has not": (dict(artifact_name="my data"), "artifact_name must be made of letters"),
    "a corpus that isn't there": (dict(dataset_name="nowhere"), "no corpus at nowhere"),
    "half of a share": (dict(shard="1"), "both shard and num_shards"),
    "a share too many": (dict(shard="4", num_shards="4"), "shard must lie in 0 to 3"),
    "a place for parts of nothing": (dict(parts_dir="parts"), "give shard and num_shards too"),
    "more jobs than shards": (dict(shard="0", num_shards="9"), "ask for 2 jobs at most"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_parameter_ends_in_one_sentence_that_stands_in_the_log(project, caplog, what):
    given, says = WRONG[what]
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=re.escape(says)):
        ours.preprocess_dataset(project, **asked(**given))
    assert [r.levelname for r in caplog.records if says in r.message] == ["ERROR"] and not list(Path(".").iterdir())


# The Hub's settings

HOMES = {
    "a relative one": ("data/huggingface", "HF_HOME must be an absolute path, got data/huggingface"),
    "one that can't be written": (
        "/proc/huggingface",
        "HF_HOME must be a folder that can be written, got /proc/huggingface",
    ),
}


@pytest.mark.parametrize("what", HOMES)
def test_an_hf_home_that_wont_do_is_found_out_before_anything_is_read(project, monkeypatch, caplog, what):
    home, says = HOMES[what]
    monkeypatch.setenv("HF_HOME", home)
    with pytest.raises(RuntimeError, match=says): ours.preprocess_dataset(project, **asked(dataset_name="nowhere"))
    assert not list(Path(".").iterdir()) and says in caplog.text


def test_a_work_dir_that_wont_do_is_found_out_before_anything_is_read(project):
    for where in (dict(work_dir="/proc/work"), dict(parts_dir="/proc/work", shard="0", num_shards="2")):
        with pytest.raises(RuntimeError, match=rf"{[*where][0]} must be a folder that can be written, got /proc/work"):
            ours.preprocess_dataset(project, **asked(dataset_name="nowhere", **where))


def test_a_disk_that_is_too_small_is_found_out_before_a_clip_is_stored_and_what_is_done_already_is_not_counted_again(
    project, monkeypatch, tmp_path, caplog
):
    every = dict(max_train_samples="", max_eval_samples="", storage="padded", shard_rows="2", num_workers="1")
    cfg = ours.job_config({k: v for k, v in asked(**every).items() if k != "artifact_name"})
    told, real = ours.plan(cfg), shutil.disk_usage
    place = ours.work_path(tmp_path, "audio-dataset", cfg, told.source)
    disk = lambda: monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda p: real(p)._replace(
            free=round(1.2 * told.written) - sum(f.stat().st_size for f in tmp_path.rglob("*.arrow"))
        ),
    )
    def stop(now):
        if now.clips >= 16: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): ours.prepare(ours.replace(cfg, output_dir=str(place)), progress=stop)
    disk()
    assert shutil.disk_usage(tmp_path).free < 0.9 * told.written
    other = dict(every, shard_rows="3")
    with pytest.raises(RuntimeError, match="are to be written, and .* are free where"):
        ours.preprocess_dataset(project, **asked(**other, work_dir=str(tmp_path)))
    assert "To do: give the job a larger disk, such as resources=" in caplog.text
    assert ours.preprocess_dataset(project, **asked(**every, work_dir=str(tmp_path))).status.state == "READY"


class Gate(BaseHTTPRequestHandler):
    "A Hub that knows one gated model, and lets nobody in."
    def do_HEAD(self):
        self.server.seen.append(self.headers.get("Authorization"))
        self.send_response(403)
        for k, v in (
            ("X-Error-Code", "GatedRepo"),
            ("X-Error-Message", "Access to model someone/whisper-gated is restricted."),
            ("Content-Length", "0"),
        ):
            self.send_header(k, v)
        self.end_headers()
    do_GET = do_HEAD
    def log_message(self, *args): pass


def test_the_projects_token_is_what_the_hub_gets_and_a_closed_gate_is_explained_without_it(core, project, secret):
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    hub.seen = []
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    envs = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_DISABLE_TELEMETRY": "1"}
    run = ours.run_job(ours.create_function(project), secrets=(), envs=envs, **asked(model_id="someone/whisper-gated"))
    done, = pods(core, run, ok=False)
    hub.shutdown()
    assert f"Bearer {TOKEN}" in hub.seen
    assert "preprocess_dataset failed: no speech processor at someone/whisper-gated" in done.stderr
    assert (
        "HF_TOKEN is set, so its owner must be given access on the page of sample or someone/whisper-gated on"
        " the Hub"
        in done.stderr
    )
    assert TOKEN not in done.stdout + done.stderr + json.dumps([*core.db.values()], default=str)


def test_a_private_data_set_of_the_hub_becomes_an_artifact_by_the_projects_token(core, project, secret, tmp_path):
    name = LAYOUTS["hub_tar_tree"](tmp_path / "corpus", utterances())
    with StandinHub(tmp_path / "served", token=TOKEN, lfs_min_bytes=10_000) as hub:
        hub.deny(name, "private")
        envs = {k: v for k, v in hub.env(tmp_path / "home").items() if k != "HF_TOKEN"}
        (done,) = pods(
            core,
            ours.run_job(
                ours.create_function(project),
                secrets=(),
                envs=envs,
                **asked(dataset_name=name, max_train_samples="", max_eval_samples="")
            ),
        )
    got = read_prep(fetch_prepared(project, SEED["artifact_name"], tmp_path / "back"))
    assert {s: (c["rows"], c["kept"]) for s, c in got["counts"].items()} == {"train": (9, 9), "eval": (3, 3)}
    assert TOKEN not in done.stdout + done.stderr + json.dumps(got)


def test_a_secret_in_an_errors_own_words_goes_no_further(project, monkeypatch, caplog):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(FileNotFoundError) as plain: prepare(PrepConfig(f"./at/{TOKEN}", "it"))
    assert TOKEN in str(plain.value)
    with pytest.raises(FileNotFoundError, match=r"no corpus at at/\*\*\*") as told:
        ours.preprocess_dataset(project, **asked(dataset_name=f"./at/{TOKEN}"))
    assert TOKEN not in str(told.value) + caplog.text and told.value.__cause__ is None


# Going on

CALL = (
    "import json, sys; from audio_ft_prep.platform import preprocess_dataset; preprocess_dataset('audio-training',"
    " **json.loads(sys.argv[1]))"
)


def test_a_job_that_was_killed_goes_on_and_another_run_in_between_neither_takes_nor_hurts_what_it_left(
    project, alone, monkeypatch, tmp_path, caplog
):
    volume, every = tmp_path / "volume", dict(max_train_samples="", max_eval_samples="", shard_rows="2")
    monkeypatch.setenv(ours.WORK, str(volume))
    first = subprocess.Popen(
        [sys.executable, "-c", CALL, json.dumps(asked(**every))], start_new_session=True, stderr=subprocess.DEVNULL
    )
    until(lambda: [*volume.glob("*/.work/train-*.json")] or first.poll() is not None)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    with pytest.raises(LookupError): latest_ready(project, "audio-dataset")
    ours.preprocess_dataset(project, **asked())
    assert read_prep(fetch_prepared(project, "audio-dataset", tmp_path / "other")) == read_prep(alone())
    with caplog.at_level("INFO", "audio_ft_prep"): ours.preprocess_dataset(project, **asked(**every))
    assert "going on" in caplog.text or "finished already" in caplog.text
    assert read_prep(fetch_prepared(project, "audio-dataset", tmp_path / "same")) == read_prep(alone(**every))
    assert not list(volume.iterdir())


# Many jobs

def test_four_jobs_two_of_them_side_by_side_and_a_merge_make_what_one_job_makes(core, project, alone, tmp_path):
    whole = dict(max_train_samples="", max_eval_samples="", shard_rows="5", log_mel="fast")
    func, join = ours.create_function(project), ours.create_function(project, handler="merge_shards")
    submitted = ours.submit_shards(func, 4, **asked(**whole))
    assert [r.spec.parameters["shard"] for r in submitted] == [0, 1, 2, 3]
    pods(core, *submitted[:2])
    runs = submitted[:2] + [ours.run_job(func, local=True, **r.spec.parameters) for r in submitted[2:]]
    assert ours.wait_for(runs) == runs
    parts = [latest_ready(project, f"audio-dataset-{i}-of-4") for i in range(4)]
    run = ours.run_job(join, artifact_name="audio-dataset", num_shards=4)
    pods(core, run)
    folder = fetch_prepared(project, "audio-dataset", tmp_path / "fetched")
    assert files(folder) == files(alone(**whole)) and len(read_prep(folder)["shards"]) == 6
    assert metrics(core, run)["train_rows"] == 20 == sum(metrics(core, r).get("train_rows", 0) for r in runs)
    assert not [k for k in core.s3.objects("") if "-of-4/" in k] and not [
        e for e in core.db.values() if e["id"] in {a.id for a in parts}
    ]


def test_jobs_that_share_a_volume_leave_their_parts_there_for_the_merge(project, alone, tmp_path, caplog):
    whole, shared = dict(max_train_samples="", max_eval_samples="", shard_rows="10", log_mel="fast"), dict(
        parts_dir=str(tmp_path / "volume")
    )
    merge = lambda: ours.merge_shards(
        project, "audio-dataset", "2", work_dir=str(tmp_path / "volume" / "work"), **shared
    )
    assert ours.preprocess_dataset(project, **asked(**whole, **shared, shard="1", num_shards="2")) is None
    with pytest.raises(LookupError, match="no complete set of 2 parts"): merge()
    ours.preprocess_dataset(project, **asked(**whole, **shared, shard="0", num_shards="2"))
    merge()
    assert files(fetch_prepared(project, "audio-dataset", tmp_path / "fetched")) == files(alone(**whole))
    assert not [p for p in (tmp_path / "volume").rglob("*") if p.is_file()]


def test_parts_that_make_no_whole_are_refused_by_name(project, tmp_path):
    given = dict(max_train_samples="", max_eval_samples="", shard_rows="10", num_shards="2", log_mel="fast")
    ours.preprocess_dataset(project, **asked(**given, shard="0"))
    with pytest.raises(LookupError, match="audio-dataset-1-of-2"): ours.merge_shards(project, "audio-dataset", 2)
    ours.preprocess_dataset(project, **asked(**given, shard="1", lower_case="true"))
    with pytest.raises(ValueError, match="are parts of different runs: lower_case is"):
        ours.merge_shards(project, "audio-dataset", 2)
    with pytest.raises(LookupError): latest_ready(project, "audio-dataset")


def test_a_failed_job_of_many_is_named(core, project):
    func = ours.create_function(project)
    run = ours.run_job(func, **asked(dataset_name="nowhere"))
    done, = pods(core, run, ok=False)
    assert "preprocess_dataset failed: no corpus at nowhere" in done.stderr
    with pytest.raises(RuntimeError, match=f"of 1 jobs, 1 failed: {run.id} .ERROR."): ours.wait_for([run])


@pytest.fixture
def engine(project, monkeypatch):
    pytest.importorskip("digitalhub_runtime_hera", reason="needs digitalhub-runtime-hera[local]")
    pytest.importorskip("hera", reason="needs digitalhub-runtime-hera[local]")
    monkeypatch.setenv("PROJECT_NAME", project.name)
    monkeypatch.setenv("DHCORE_WORKFLOW_IMAGE", "registry/step:1")


def test_the_workflow_of_the_platforms_engine_is_valid_and_its_steps_make_what_one_job_makes(
    core, project, engine, alone, tmp_path
):
    import base64, yaml
    from digitalhub_runtime_hera.utils.functions import run_hera_build
    from hera.workflows import Workflow
    funcs = {f.key: f for f in (ours.create_function(project), ours.create_function(project, handler="merge_shards"))}
    how = dict(parallel=2, parameters={"shard_rows": "10", "num_workers": "1"}, volume=ours.job_volume("prep", "10Gi"))
    stored = ours.create_workflow(project, 2, **how)
    module = {}
    exec(base64.b64decode(core.db[("workflow", stored.id)]["spec"]["source"]["base64"]).decode(), module)
    text = base64.b64decode(run_hera_build(module["pipeline"])["workflow"]).decode()
    rendered = yaml.safe_load(text)
    assert Workflow.from_yaml(text).to_dict() == rendered and rendered["spec"]["parallelism"] == 2
    templates = {t["name"]: t for t in rendered["spec"]["templates"]}
    shard, merge = templates["dag"]["dag"]["tasks"]
    assert shard["withItems"] == [0, 1] and merge["depends"] == shard["name"]
    values = {p["name"]: p.get("value") for p in rendered["spec"]["arguments"]["parameters"]} | {
        k: v for k, v in SEED.items()
    }

    def step(task, item=""):
        "What the engine has a step run: the placeholders filled in, every value a string."
        args = templates[task["template"]]["container"]["args"]
        fill = lambda m: (
            str(item)
            if m[1] == "inputs.parameters.shard"
            else str(values[m[1].removeprefix("workflow.parameters.")] or "")
        )
        given = json.loads(re.sub(r"\{\{([\w.]+)\}\}", fill, args[args.index("--kwargs") + 1]))
        assert (
            given["secrets"] == ["HF_TOKEN"]
            and given["volumes"][0]["mount_path"] == "/data"
            and {"name": "HF_HOME", "value": "/data/huggingface"} in given["envs"]
        )
        return funcs[args[args.index("--entity") + 1]].run(
            action=given["action"], local_execution=True, parameters=given["parameters"]
        )

    runs = [step(shard, i) for i in shard["withItems"]] + [step(merge)]
    assert [r.status.state for r in runs] == ["COMPLETED"] * 3
    assert files(fetch_prepared(project, "audio-dataset", tmp_path / "fetched")) == files(
        alone(max_train_samples="", max_eval_samples="", shard_rows="10")
    )


# What is defined

def test_a_function_asks_for_ranges_and_never_for_the_sdk(core, project):
    func = ours.create_function(project, package="audio_ft_prep @ https://example.org/audio_ft_prep-1.zip")
    spec = core.db[("function", func.id)]["spec"]
    assert spec["python_version"] == "PYTHON3_10" and spec["source"]["handler"] == "preprocess_dataset"
    names = {re.match(r"[\w-]+", r)[0] for r in spec["requirements"]}
    assert {"audio_ft_prep", "datasets", "transformers", "torch", "soundfile", "soxr"} <= names and not {
        "digitalhub",
        "boto3",
        "nbdev",
        "ray",
    } & names
    assert all(re.search(r"[<>=@]", r) and "git+" not in r and not re.search(r"\+cpu", r) for r in spec["requirements"])


def test_a_job_asks_for_what_the_plan_needs(core, project):
    told = ours.plan(PrepConfig("sample", "it"))
    func = ours.create_function(project)
    run = ours.run_job(
        func,
        volume=ours.job_volume("prep", "100Gi"),
        resources=ours.job_resources(told, workers=2),
        envs={"HF_HOME": "/elsewhere"},
        **asked()
    )
    spec = core.db[("run", run.id)]["spec"]
    assert (
        spec["resources"]["cpu"] == "2"
        and re.fullmatch(r"\d+Gi", spec["resources"]["disk"])
        and spec["secrets"] == ["HF_TOKEN"]
    )
    assert spec["volumes"][0]["volume_type"] == "persistent_volume_claim" and spec["volumes"][0]["spec"] == {
        "size": "100Gi"
    }
    assert {e["name"]: e["value"] for e in spec["envs"]} == {ours.WORK: "/data/work", "HF_HOME": "/elsewhere"}
    assert spec["parameters"]["max_train_samples"] == "12"
    with pytest.raises(ValueError, match="handler must be"): ours.create_function(project, handler="prepare")


@pytest.mark.parametrize("name", ["preprocess_dataset", "merge_shards"])
def test_the_file_for_running_from_a_repository_has_the_handlers(name):
    path = Path(__file__).resolve().parents[1] / "src" / "handlers.py"
    spec = importlib.util.spec_from_file_location("main", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert getattr(module, name) is getattr(ours, name) and not hasattr(getattr(module, name), "__wrapped__")
