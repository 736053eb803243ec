"""The command, as a process: what it prints where, its exit code, and one sentence for what a user got wrong."""
import json, os, re, shutil, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import COMMAND, flags, sentence
from layouts import LAYOUTS, utterances

CORPUS = dict(dataset_name="sample", language_code="it")


def call(*args, cwd=None, **env):
    "Run the command and wait for it."
    return subprocess.run(
        [COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, **env},
        timeout=600,
    )


def at_once(start, *args):
    "Run the command in a process that has imported everything already."
    got = start(*args).wait()
    return SimpleNamespace(returncode=got.code, stdout=got.out, stderr=got.err)


@pytest.mark.light
def test_help_names_every_subcommand_and_every_setting():
    got, prep = call("--help"), call("prepare", "--help", COLUMNS="200")
    assert (got.returncode, got.stderr, prep.returncode, prep.stderr) == (0, "", 0, "")
    assert all(f"  {c} " in got.stdout for c in ("demo", "plan", "prepare", "inspect", "verify", "report", "rejects"))
    from audio_ft_prep.config import field_types
    assert all(f"--{name.replace('_', '-')}" in prep.stdout for name in (*field_types(), "config", "json"))


FILES = {
    "unknown.yaml": "lanugage_code: it\n",
    "kind.yaml": "seed: many\n",
    "broken.yaml": "a: [1\n",
    "broken.json": "{",
    "list.json": "[1]",
    "settings.txt": "seed: 1\n",
    "rule.json": '{"max_seconds": 4500}',
}
WRONG = {  # what was asked, and what the sentence says of it
    "an unknown command": (["prepear"], "prepear"),
    "an unknown flag": (["prepare", *flags(**CORPUS), "--no-such", "1"], "--no-such"),
    "a flag without its value": (["plan", "--dataset-name"], "--dataset-name"),
    "a stray argument": (["verify", "a", "b"], "b"),
    "no folder to verify": (["verify"], "folder"),
    "no folder to upload": (
        ["upload", "nowhere", "--project", "speech", "--artifact-name", "data"],
        "no prepared data set in nowhere",
    ),
    "nowhere to upload to": (["upload", "nowhere", "--artifact-name", "data"], "--project"),
    "an artifact without a proper name": (
        ["upload", "nowhere", "--project", "speech", "--artifact-name", "my data"],
        "artifact_name must be made of",
    ),
    "nothing to prepare": (["prepare", "--language-code", "it"], "dataset_name is missing"),
    "no language": (["plan", "--dataset-name", "sample"], "language_code is missing"),
    "a word for a number": (["prepare", *flags(**CORPUS, max_train_samples="many")], "--max-train-samples"),
    "a number out of range": (
        ["prepare", *flags(**CORPUS, max_seconds=4500)],
        "max_seconds must be above 0, and 1200 at most, got 4500.0",
    ),
    "a value that is none of the choices": (
        ["plan", *flags(**CORPUS, storage="tape")],
        "storage must be one of features, audio, source, padded, got 'tape'",
    ),
    "no such locale": (
        ["plan", *flags(dataset_name="sample", language_code="Italian!")],
        "language_code must be a locale such as it",
    ),
    "a split in both": (["plan", *flags(**CORPUS, eval_splits="train")], "must share no split, got train in both"),
    "a config that isn't there": (["plan", "--config", "nowhere.yaml"], "no config file nowhere.yaml"),
    "a config with an unknown field": (["plan", "--config", "unknown.yaml"], "did you mean language_code?"),
    "a config with a word for a number": (
        ["plan", *flags(**CORPUS), "--config", "kind.yaml"],
        "seed must be a whole number, got 'many'",
    ),
    "a config that breaks a rule": (
        ["plan", *flags(**CORPUS), "--config", "rule.json"],
        "max_seconds must be above 0, and 1200 at most, got 4500",
    ),
    "a config that isn't YAML": (["plan", "--config", "broken.yaml"], "broken.yaml is not valid YAML"),
    "a config that isn't JSON": (["plan", "--config", "broken.json"], "broken.json is not valid JSON"),
    "a config of no fields": (["plan", "--config", "list.json"], "must hold fields and values"),
    "a config of another kind": (
        ["plan", "--config", "settings.txt"],
        "ends in .json, .yaml or .yml, got settings.txt",
    ),
    "a corpus that isn't there": (["inspect", "nowhere"], "no corpus at nowhere"),
    "a folder that is no corpus": (["inspect", "."], "is no corpus"),
    "columns of a corpus that has its own": (
        ["inspect", "sample", "--text-column", "words"],
        "is read as commonvoice: leave it out",
    ),
    "a list that is none": (
        ["inspect", "rule.json"],
        "rule.json has no column for the audio: its columns are max_seconds; name it with audio_column",
    ),
    "a language that the corpus lacks": (
        ["inspect", "sample", "--language-code", "fr"],
        "set language_code to one of de, en, it",
    ),
}


@pytest.mark.light
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_ends_with_2_and_one_sentence(tmp_path, what):
    for name, text in FILES.items(): (tmp_path / name).write_text(text)
    args, says = WRONG[what]
    got = call(*args, cwd=tmp_path)
    assert (got.returncode, got.stdout) == (2, "") and says in sentence(got.stderr)
    assert len(got.stderr.splitlines()) == 1 and {p.name for p in tmp_path.iterdir()} == FILES.keys()


LATER = {  # found when the model and the corpus are looked at
    "a corpus that isn't there": (dict(dataset_name="nowhere", language_code="it"), "no corpus at nowhere"),
    "a language that the corpus lacks": (
        dict(dataset_name="sample", language_code="fr"),
        "set language_code to one of de, en, it",
    ),
    "a split that the corpus lacks": (dict(**CORPUS, eval_splits="other"), "no transcript of split other"),
    "a language that no model has": (dict(**CORPUS, language="Klingon"), "has no language Klingon"),
    "a language that this model lacks": (dict(**CORPUS, language="yue"), "has no language yue"),
    "a model of English for Italian": (dict(**CORPUS, model_id="openai/whisper-tiny.en"), "knows English only"),
    "a model that isn't there": (dict(**CORPUS, model_id="./nowhere"), "no folder ./nowhere"),
    "a folder that is no model": (dict(**CORPUS, model_id="."), "no speech processor at ."),
}


@pytest.mark.parametrize("what,command", [(w, ("plan", "prepare")[i % 2]) for i, w in enumerate(LATER)])
def test_a_request_that_the_corpus_or_the_model_cant_meet_ends_with_2_and_one_sentence(start, tmp_path, what, command):
    settings, says = LATER[what]
    end = start(command, *flags(**settings, output_dir=tmp_path / "out")).wait()
    assert (end.code, end.out) == (2, "") and says in sentence(end.err) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "holds", ["nothing there", "nothing", "other things", "half a run", "an empty account", "a damaged account"]
)
def test_verify_of_what_is_no_prepared_folder_ends_with_2_and_one_sentence(tmp_path, holds):
    folder = tmp_path / "out"
    if holds != "nothing there": folder.mkdir()
    if holds == "other things": (folder / "notes.txt").write_text("mine")
    if holds == "half a run": (folder / ".work").mkdir()
    if holds in ("an empty account", "a damaged account"):
        (folder / "prep.json").write_text("{}" if holds == "an empty account" else '{"config": {')
    got = call("verify", folder)
    assert (got.returncode, got.stdout) == (2, "") and str(folder) in sentence(got.stderr)


def test_demo_needs_neither_hub_nor_ffmpeg_nor_cache_and_leaves_a_folder_that_opens(tmp_path):
    got = call(
        "demo", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"), PATH=str(Path(COMMAND).parent)
    )
    assert got.returncode == 0, got.stderr
    lines = got.stdout.splitlines()
    assert ["rows in", "28", "4"] in [" ".join(l.split()).rsplit(" ", 2) for l in lines] and ["kept", "20", "4"] in [
        l.split() for l in lines
    ]
    assert {p.name for p in tmp_path.iterdir()} <= {"demo", "cache"} and not [*(tmp_path / "cache").rglob("*.arrow")]
    from datasets import DatasetDict
    assert DatasetDict.load_from_disk(str(tmp_path / "demo")).num_rows == {"train": 20, "eval": 4}


def test_a_corpus_is_inspected_planned_prepared_and_verified_with_the_same_numbers(start, prepared, tmp_path):
    out = tmp_path / "out"
    looked = json.loads(at_once(start, "inspect", "sample", "--language-code", "it", "--json").stdout)
    assert {s: d["rows"] for s, d in looked["languages"]["it"].items()} == {"train": 24, "validation": 4, "test": 4}
    told = start("plan", *flags(**CORPUS, output_dir=out), "--json").wait()
    told = json.loads(told.out)
    assert not out.exists() and {s: d["rows"] for s, d in told["splits"].items()} == {"train": 28, "eval": 4}
    made = start("prepare", *flags(**CORPUS, output_dir=out, num_workers=1), "--json").wait()
    assert made.code == 0, made.err
    made, want = json.loads(made.out), prepared("it", feature_dtype="float16")
    assert (made["hash"], made["counts"], made["folder"]) == (want.hash, want.counts, str(out))
    assert made["bytes"] == sum(p.stat().st_size for p in out.rglob("*.arrow"))
    good = at_once(start, "verify", out, "--json")
    assert (good.returncode, json.loads(good.stdout)) == (0, {"folder": str(out), "hash": want.hash, "faults": []})
    again = start("prepare", *flags(**CORPUS, output_dir=out), "--json").wait()
    assert again.code == 0 and json.loads(again.out) == made and "finished already" in again.err


def test_a_look_at_a_list_of_ones_own_shows_layout_splits_columns_and_rows(start, tmp_path):
    items = utterances()
    place = LAYOUTS["tsv_tables"](tmp_path, items)
    seen, told = at_once(start, "inspect", place), json.loads(
        at_once(start, "inspect", place, "--language-code", "it", "--json").stdout
    )
    assert (seen.returncode, seen.stderr) == (
        0,
        "",
    ) and f"{place} is read as folder: it has a table, dev.tsv, test.tsv, train.tsv" in seen.stdout
    assert (
        ["train", "5", "5"] in [l.split()[:3] for l in seen.stdout.splitlines()]
        and "columns: path, text, speaker" in seen.stdout
        and f"{items[0].id}: {items[0].sentence}" in seen.stdout
    )
    assert told["kind"] == "folder" and {s: d["rows"] for s, d in told["languages"]["it"].items()} == {
        "train": 5,
        "validation": 4,
        "test": 3,
    }


def test_what_a_person_reads_has_the_counts_too(start, prepared):
    done = prepared("it", feature_dtype="float16")
    seen = at_once(start, "inspect", "sample", "--language-code", "it")
    assert (seen.returncode, seen.stderr) == (0, "") and all(
        f"train: 1 {r}" in seen.stdout for r in ("missing_audio", "no_row", "duplicate_row")
    )
    told = start("plan", *flags(**CORPUS)).wait()
    assert told.code == 0 and ["train", "28", "24", "4"] in [l.split()[:4] for l in told.out.splitlines()]
    whole = at_once(start, "verify", done.folder)
    assert (whole.returncode, whole.stderr) == (0, "") and done.hash[:16] in whole.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_verify_of_a_corrupted_shard_ends_with_1_and_names_it(start, prepared, tmp_path, as_json):
    folder = shutil.copytree(prepared("it", feature_dtype="float16").folder, tmp_path / "out")
    shard = next((folder / "train").glob("*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    got = at_once(start, "verify", folder, *["--json"] * as_json)
    assert got.returncode == 1 and f"train/{shard.name}" in sentence(got.stderr)
    if as_json: assert [f"train/{shard.name}" in f for f in json.loads(got.stdout)["faults"]] == [True]
    else: assert got.stdout == ""


@pytest.mark.light
def test_the_command_is_also_there_as_a_module():
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^audio-ft-prep = "(.*)"$', pyproject, re.M)[1] == "audio_ft_prep.__main__:main"
    got = subprocess.run([sys.executable, "-m", "audio_ft_prep", "--help"], capture_output=True, text=True)
    assert (got.returncode, got.stderr, got.stdout) == (0, "", call("--help").stdout)


PRESS = """import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == "typer": os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Press())
from audio_ft_prep.__main__ import main
main()"""


@pytest.mark.light
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_while_the_command_is_imported_ends_it_in_one_sentence(number, code):
    got = subprocess.run([sys.executable, "-c", PRESS, str(int(number))], capture_output=True, text=True)
    assert (got.returncode, got.stdout) == (code, "") and "the same command goes on from here" in sentence(got.stderr)


@pytest.mark.parametrize("name", ["run.yaml", "run.json"])
def test_flags_go_before_the_file_and_the_file_before_the_defaults(start, tmp_path, name):
    given = dict(**CORPUS, lower_case=True, seed=7, max_train_samples=9)
    (tmp_path / name).write_text(
        json.dumps(given) if name == "run.json" else "".join(f"{k}: {json.dumps(v)}\n" for k, v in given.items())
    )
    def config(*more):
        return json.loads(start("plan", "--config", tmp_path / name, "--json", *more).wait().out)["config"]
    plain, changed = config(), config("--seed", 8, "--no-lower-case", "--max-train-samples", 5)
    pick = lambda c: (c["dataset_name"], c["seed"], c["lower_case"], c["max_train_samples"], c["storage"])
    assert pick(plain) == ("sample", 7, True, 9, "features") and pick(changed) == ("sample", 8, False, 5, "features")
