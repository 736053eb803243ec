"The form and the browser of clips, without a browser: turned as a program turns them. One test does so in a kernel of its own."
import ast
from html import unescape
import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: pip install 'audio_ft_prep[lab]'")
import typer
from hypothesis import given, settings, strategies as st

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.browser import KEPT, PAGE, REJECTED, ClipBrowser, corpus_clips, find_clips, prepared_clips
from audio_ft_prep.cli import app, flag_settings
from audio_ft_prep.config import GROUPS, check_field, config_from, field_types
from audio_ft_prep.configfile import load_config, to_yaml
from audio_ft_prep.pipeline import Progress
from audio_ft_prep import hub as hub_module
from audio_ft_prep.unpacked import unpack
from audio_ft_prep.tarindex import index_tar
from audio_ft_prep.tsv import read_tsv
from audio_ft_prep.load import corpus_path, load_rows
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.progress import go_on, stoppable
from audio_ft_prep.sampling import select
from audio_ft_prep.background import Background
from audio_ft_prep.lookup import Found
from audio_ft_prep.widgets import PrepForm, as_command, as_python, form_folds, form_tabs
from conftest import SAMPLE, tar_clips, until, write_corpus
from layouts import mdc_archive, put_parquet, served, tar_tree, utterances

BAD = {
    "dataset_name": " ",
    "language_code": "Italian!",
    "model_id": " ",
    "output_dir": " ",
    "max_train_samples": "0",
    "max_eval_samples": "a few",
    "min_seconds": 31.0,
    "max_seconds": 4500.0,
    "seed": -1,
    "shard_rows": -5,
    "num_workers": -1,
    "ray_address": "ray://head:10001",
}
MORE_BAD = {
    **dict.fromkeys(["timestamps", "previous", "no_speech"], 1.5),
    **dict.fromkeys(["validation_size", "test_size"], "60%"),
    **dict.fromkeys(["max_train_hours", "max_eval_hours", "max_train_share", "max_eval_share"], 0.0),
    **dict.fromkeys(["max_per_speaker", "max_per_sentence", "min_up_votes"], 0),
    **dict.fromkeys(["flag_low_snr", "flag_telephone", "flag_edges", "flag_gap", "flag_rate", "max_down_votes"], -1),
    **dict.fromkeys(["flag_clipped", "flag_dc", "flag_script", "min_score"], 1.5),
    "flag_quiet": 3.0,
    "keep_out": "a\na",
    "audio_rate_hz": 24,
    "ctc_least_count": 0,
    **dict.fromkeys(["stratify", "reject", "clean"], "no such name"),
}


@pytest.fixture
def form(tmp_path):
    "The form for the sample corpus, ready to be prepared, and no platform."
    return PrepForm(dataset_name="sample", language="Italian", output_dir=str(tmp_path / "out"), num_workers=1)


@pytest.fixture
def light_form(tmp_path):
    "The same, whose workers need no torch: for what is done around a run."
    out = str(tmp_path / "out")
    return PrepForm(dataset_name="sample", language="Italian", output_dir=out, storage="audio", num_workers=1)


@pytest.fixture(autouse=True)
def no_platform(monkeypatch):
    for k in [k for k in os.environ if k.startswith("DHCORE_")]: monkeypatch.delenv(k)
    monkeypatch.setenv("DH_CONFIG", os.devnull)


def settled(form):
    "The form, when all that was to be looked at has been."
    form.state.settle()
    return form


def found(form): return settled(form).notes["dataset_name"].value


def held(form, name="_on_clips", clips=0):
    "A gate at which runs of a form wait: where clips are counted, once so many are done, or where bytes are (`_on_fetch`)."
    gate, count = threading.Event(), getattr(form.state, name)
    def wait(*progress):
        if name != "_on_clips" or progress[0].clips >= clips: assert gate.wait(60)
        count(*progress)
    setattr(form.state, name, wait)
    return gate


def rows_within(part):
    "The rows of fields that a part of the form holds, also those in its folds."
    if "prep-field" in getattr(part, "_dom_classes", ()): return [part]
    return [row for child in getattr(part, "children", ()) for row in rows_within(child)]


def test_no_field_of_the_config_is_forgotten():
    form = PrepForm()
    shown = [n for names in form_tabs().values() for n in names]
    assert sorted(shown) == sorted(field_types()) == sorted(form.inputs) and len(shown) == len(set(shown))
    assert all(box.description == name for name, box in form.inputs.items())
    for tab, names in zip(form.tabs.children, form_tabs().values()):
        assert [name for row in rows_within(tab) for name, box in form.inputs.items() if box in row.children] == [
            name for folded in form_folds(names).values() for name in folded
        ]
    assert list(form.tabs.titles) == list(form_tabs()) == [group.title() for group in GROUPS]
    assert all(
        set(GROUPS[g]) == set(names) for g, names in zip(GROUPS, form_tabs().values())
    ), "a field that no group names"


def test_a_fold_says_how_many_of_its_fields_are_set_and_opens_where_one_is_to_be_mended():
    form = PrepForm(dataset_name="sample", language="Italian", shard_rows=9)
    fold = form.folds["Shards, workers and cluster"]
    assert fold.description == "Shards, workers and cluster (1 set)" and not fold.value
    form.inputs["ray_address"].value = "local"
    assert fold.value and fold.description.endswith("(2 set)") and form.faults().keys() == {"ray_address"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(
            max_train_samples=7,
            sampling="random",
            lower_case=True,
            min_seconds=0.5,
            storage="audio",
            eval_splits="",
            shard_rows=9,
        ),
    ],
)
def test_a_form_holds_the_config_it_is_made_from(settings):
    cfg = PrepConfig("sample", "it", **settings)
    assert PrepForm(cfg).value == cfg
    assert PrepForm(cfg, seed=7).value == replace(cfg, seed=7)
    with pytest.raises(TypeError, match="speed is no field of PrepConfig"): PrepForm(cfg, speed=1)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_beside_its_field_in_the_configs_own_sentence(form, name):
    good = form.inputs[name].value
    form.inputs[name].value = BAD[name]
    with pytest.raises((TypeError, ValueError)) as said: config_from(form.settings)
    assert form.faults()[name] == str(said.value).replace("or null", "or all")
    assert (
        f"{name} must" in form.notes[name].value
        and "prep-bad" in form.notes[name].value
        and f"{name} must" in form.message.value
    )
    assert sum("(1 to mend)" in t for t in form.tabs.titles) == 1
    assert form.buttons["plan"].disabled and form.buttons["prepare"].disabled
    with pytest.raises((TypeError, ValueError)): form.prepare()
    form.inputs[name].value = good
    assert form.faults() == {} and not form.buttons["prepare"].disabled and "prep-bad" not in form.message.value


def test_each_rule_of_the_config_has_a_bad_value_here():
    from audio_ft_prep.config import RULES
    bad = BAD | MORE_BAD
    assert RULES.keys() <= bad.keys(), "add a bad value for the new rule"
    for name, value in bad.items():
        with pytest.raises((TypeError, ValueError)): check_field(name, value, field_types()[name])


@pytest.mark.parametrize(
    "first, name, value, says",
    [
        ({}, "eval_splits", "train", "must share no split, got train in both"),
        ({}, "train_splits", "test", "must share no split, got test in both"),
        ({"min_seconds": 5.0}, "max_seconds", 3.0, "min_seconds must be below max_seconds (3.0), got 5.0"),
        ({"max_seconds": 3.0}, "min_seconds", 5.0, "min_seconds must be below max_seconds (3.0), got 5.0"),
        ({"storage": "audio"}, "log_mel", "fast", "log_mel must be exact with storage audio"),
        ({"log_mel": "fast"}, "storage", "audio", "log_mel must be exact with storage audio"),
        ({"eval_splits": ""}, "train_splits", "", "both empty"),
        ({}, "ray_address", "head:6379", "ray_address is for engine ray"),
    ],
)
def test_what_two_fields_say_together_is_refused_in_red_beside_the_one_that_was_changed(first, name, value, says):
    form = PrepForm(dataset_name="sample", language="Italian", **first)
    form.inputs[name].value = value
    assert says in form.faults()[name] and len(form.faults()) == 1
    assert (
        "prep-bad" in form.notes[name].value
        and "prep-bad" in form.message.value
        and "To begin" not in form.message.value
    )
    assert sum("(1 to mend)" in t for t in form.tabs.titles) == 1


@pytest.mark.parametrize("splits", [{"train_splits": "seed+seed"}, {"train_splits": "seed", "eval_splits": "seed"}])
def test_a_split_that_is_called_like_a_field_is_no_fault_of_that_field(splits):
    form = PrepForm(dataset_name="sample", language="Italian")
    for name, value in {**splits, "seed": 8}.items(): form.inputs[name].value = value
    assert list(form.faults()) == [list(splits)[-1]]


def test_a_mistake_is_told_before_what_is_still_to_be_filled_in():
    form = PrepForm()
    form.inputs["max_seconds"].value = 4500
    assert "prep-bad" in form.message.value and "max_seconds must be" in form.message.value


@pytest.mark.parametrize(
    "setting, error, says",
    [
        ({"storage": "bogus"}, ValueError, "storage must be one of features, audio, source, padded, got 'bogus'"),
        ({"max_seconds": "twenty"}, TypeError, "max_seconds must be a number, got 'twenty'"),
        ({"seed": None}, TypeError, "seed must be a whole number, got None"),
        ({"language": None}, TypeError, "language must be text"),
    ],
)
def test_what_no_box_can_hold_is_refused_in_the_configs_own_sentence(setting, error, says):
    with pytest.raises(error, match=f"^{says}"): PrepForm(dataset_name="sample", **setting)


def test_a_name_in_the_place_of_a_config_is_told_where_it_goes():
    with pytest.raises(
        TypeError, match="^config must be a PrepConfig, got 'sample': a corpus is named by dataset_name=...$"
    ):
        PrepForm("sample")


def test_blanks_around_names_are_left_out(tmp_path):
    form = PrepForm(
        dataset_name=" sample ", language=" Italian", output_dir=f" {tmp_path} ", text_column=" what is said "
    )
    assert form.value == PrepConfig("sample", "it", "Italian", output_dir=str(tmp_path), text_column=" what is said ")


def test_an_empty_form_says_how_to_begin_and_accuses_nobody():
    form = PrepForm()
    assert "To begin: dataset_name must name a folder or a Hub data set" in form.message.value
    assert not any("prep-bad" in note.value for note in form.notes.values())
    assert form.buttons["plan"].disabled and form.buttons["cancel"].disabled and form.buttons["upload"].disabled


def test_to_look_without_a_name_is_told_that_one_is_needed():
    form = settled(PrepForm())
    form.buttons["look"].click()
    for part in (form.notes["dataset_name"], settled(form).message):
        assert "prep-bad" in part.value and "dataset_name must name a folder or a Hub data set" in part.value


def test_a_language_chosen_by_name_brings_its_code_unless_another_was_typed():
    form = PrepForm(dataset_name="sample")
    for name, code in (("Italian", "it"), ("english", "en"), ("Klingon", "en"), ("Castilian", "es")):
        form.inputs["language"].value = name
        assert form.inputs["language_code"].value == code
    form.inputs["language_code"].value = "it-IT"
    form.inputs["language"].value = "Italian"
    assert form.inputs["language_code"].value == "it-IT"
    form = PrepForm(PrepConfig("sample", "it", "Italian"))
    form.inputs["language"].value = "English"
    assert form.inputs["language_code"].value == "en"


def test_the_box_says_what_it_found_or_why_not(form, tmp_path):
    assert "read as commonvoice: it holds a folder transcript. it: train 21 clips of 4 speakers" in found(form)
    form.inputs["dataset_name"].value = str(tmp_path / "gone")
    assert f"no corpus at {tmp_path / 'gone'}" in found(form) and "prep-bad" in found(form)
    form.inputs["dataset_name"].value = str(SAMPLE)
    form.inputs["language_code"].value = ""
    assert "read as commonvoice; languages: de, en, it" in found(form)
    for name in ("nowhere", "nothing", "sample"): form.inputs["dataset_name"].value = name
    form.inputs["language_code"].value = "en"
    assert "en: train" in found(form)
    for name, says in (
        ("~nobody-here/cv", "must begin with a home folder that is known here"),
        ("a" * 300, "got 300 characters, and no name is so long"),
    ):
        form.inputs["dataset_name"].value = name
        assert says in found(form) and "prep-bad" in found(form)
        with pytest.raises(ValueError, match=says): corpus_path(name)


def test_a_disk_that_does_not_answer_holds_up_nobody_and_what_is_named_last_counts(monkeypatch):
    gate, looked = threading.Event(), []
    def slow(dataset_name, language_code="", **settings):
        looked.append(dataset_name)
        gate.wait(20)
        go_on()
        return Found(f"found {dataset_name}")
    monkeypatch.setattr("audio_ft_prep.form.look_at", slow)
    form = PrepForm(dataset_name="first", language="Italian")
    until(lambda: looked)
    threads = threading.active_count()
    for name in "abcd": form.inputs["dataset_name"].value = name
    form.inputs["seed"].value = 7
    assert (
        "looking" in form.notes["dataset_name"].value
        and looked == ["first"]
        and threading.active_count() <= threads + 1
    )
    gate.set()
    assert "found d" in found(form) and looked == ["first", "d"]


@pytest.mark.parametrize(
    "settings, name, says",
    [
        (
            {"language": "Klingon", "language_code": "it"},
            "language",
            "openai/whisper-small has no language Klingon: set language",
        ),
        ({"language_code": "xx"}, "language_code", "openai/whisper-small has no language xx"),
        ({"language": "Italian", "model_id": "openai/whisper-small.en"}, "language", "knows English only"),
        ({"language": "Italian", "model_id": "nowhere"}, "model_id", "no folder nowhere: model_id names"),
    ],
)
def test_what_the_model_refuses_stands_beside_the_field_before_anything_is_started(settings, name, says):
    form = settled(PrepForm(dataset_name="sample", **settings))
    assert (
        says in form.faults()[name]
        and says in form.notes[name].value
        and "prep-bad" in form.notes[name].value
        and form.buttons["plan"].disabled
    )
    form.inputs["language"].value, form.inputs["language_code"].value, form.inputs["model_id"].value = (
        "Italian",
        "it",
        "openai/whisper-small",
    )
    assert form.faults() == {} and not settled(form).buttons["plan"].disabled


def test_a_model_on_the_hub_is_asked_for_when_the_button_is_pressed_and_not_before(hub):
    form = settled(PrepForm(dataset_name="sample", language="Italian", model_id="somebody/whisper-of-mine"))
    assert form.faults() == {} and hub.log == []


def test_what_a_model_on_the_hub_was_refused_for_stands_until_it_is_asked_again(hub):
    form = settled(PrepForm(dataset_name="sample", language="Italian", model_id="somebody/whisper-of-mine"))
    form.buttons["look"].click()
    said = settled(form).faults()
    assert said.keys() == {"model_id"} and "somebody/whisper-of-mine" in said["model_id"]
    for seed in (-1, 7):
        form.inputs["seed"].value = seed
        settled(form)
    assert form.faults() == said and form.buttons["plan"].disabled and "prep-bad" in form.notes["model_id"].value
    form.inputs["model_id"].value = "openai/whisper-small"
    assert settled(form).faults() == {} and not form.buttons["plan"].disabled
    form.inputs["model_id"].value = "somebody/whisper-of-another"
    assert settled(form).faults() == {}


def test_the_hub_is_asked_when_the_button_is_pressed_and_not_before(form, hub, tmp_path):
    tar_tree(served(tmp_path / "x", "voices/few"), utterances())
    asked = len(hub.log)
    form.inputs["dataset_name"].value = "voices/few"
    assert "a data set on the Hub: Look asks for it" in found(form) and len(hub.log) == asked
    form.buttons["look"].click()
    assert "read as commonvoice: it holds transcripts and tars on the Hub" in found(form) and len(hub.log) > asked


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
named = text.filter(lambda t: t.strip())
configs = st.builds(
    PrepConfig,
    dataset_name=named,
    language_code=st.sampled_from(["it", "zh-CN", "nan-tw"]),
    language=text,
    model_id=named,
    output_dir=named,
    audio_column=text,
    dataset_config=text,
    max_train_samples=st.none() | st.integers(1, 10**9),
    sampling=st.sampled_from(["first", "random"]),
    seed=st.integers(0, 2**63),
    min_seconds=st.floats(0, 9),
    max_seconds=st.floats(10, 30),
    eval_splits=st.sampled_from(["test", "", "other+validated"]),
    lower_case=st.booleans(),
    storage=st.sampled_from(["features", "audio", "source", "padded"]),
    num_workers=st.integers(0, 64),
)
PREPARE = typer.main.get_command(app).commands["prepare"]


@given(configs)
@settings(max_examples=150, deadline=None)
def test_the_command_shown_makes_the_same_config(cfg):
    program, command, *args = shlex.split(as_command(cfg))
    given = PREPARE.make_context("prepare", args).params
    assert (program, command) == ("audio-ft-prep", "prepare")
    assert config_from(flag_settings({k: v for k, v in given.items() if k in field_types()})) == cfg


@given(configs)
@settings(max_examples=150, deadline=None)
def test_the_python_shown_makes_the_same_config(cfg):
    tree = ast.parse(as_python(cfg))
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and n.func.id == "PrepConfig"]
    assert eval(compile(ast.Expression(call), "shown", "eval"), {"PrepConfig": PrepConfig}) == cfg


@given(configs)
@settings(max_examples=50, deadline=None)
def test_the_file_shown_makes_the_same_config(tmp_path_factory, cfg):
    path = tmp_path_factory.getbasetemp() / "run.yaml"
    path.write_text(f"# a comment\n{to_yaml(cfg)}", encoding="utf-8")
    assert load_config(path) == cfg


def test_what_is_shown_is_of_what_is_filled_in(form):
    form.inputs["seed"].value = 7
    assert (
        "--seed 7" in form.recipes["Command"].value
        and "seed=7" in form.recipes["Python"].value
        and "seed: 7" in form.recipes["YAML"].value
    )
    form.inputs["seed"].value = -7
    assert all("when the form is filled in" in r.value for r in form.recipes.values())


def test_a_form_prepares_what_the_same_config_prepares(form, prepared):
    form.plan()
    told = form.wait()
    assert "to be written" in form.output.outputs[0]["data"]["text/markdown"] and told.splits["train"]["selected"] == 24
    form.prepare()
    assert form.wait() is form.result and form.result.hash == prepared("it", language="Italian").hash
    assert "rows in" in form.output.outputs[0]["data"]["text/markdown"] and "Done" in form.status.value
    assert ClipBrowser(form).clips.table["reason"].null_count == 24


def test_a_run_that_is_cancelled_goes_on_and_ends_as_if_nothing_had_been(long_corpus, tmp_path):
    cfg = PrepConfig(
        str(long_corpus), "it", train_splits="train", output_dir=str(tmp_path / "out"), storage="audio", shard_rows=40,
        num_workers=1
    )
    form = PrepForm(cfg)
    gate = held(form, clips=40)
    form.prepare()
    until(lambda: list((tmp_path / "out" / ".work").glob("train-*.json")))
    assert form.buttons["prepare"].disabled and not form.buttons["cancel"].disabled
    form.buttons["cancel"].click()
    gate.set()
    with pytest.raises(KeyboardInterrupt, match="of 312 clips"): form.wait(60)
    assert "Stopped at" in form.status.value and "prep-bad" not in form.status.value and form.result is None
    assert (
        (tmp_path / "out" / ".work").is_dir()
        and not (tmp_path / "out" / "prep.json").exists()
        and not form.buttons["prepare"].disabled
    )
    seen = []
    form.bar.observe(lambda change: seen.append(change["new"]), "value")
    form.buttons["prepare"].click()
    whole = prepare(replace(cfg, output_dir=str(tmp_path / "plain")), progress=False)
    assert form.wait(120).hash == whole.hash and form.result.counts == whole.counts
    assert seen == sorted(seen) and seen[-1] == 312


def test_what_progress_raises_ends_the_run_and_the_folder_is_gone_on_from(long_corpus, tmp_path):
    cfg = PrepConfig(
        str(long_corpus),
        "it",
        train_splits="train",
        output_dir=str(tmp_path / "out"),
        storage="audio",
        shard_rows=100,
        max_train_samples=200,
        num_workers=2,
    )
    told = []
    def stop(now):
        told.append(now)
        if now.clips >= 100: raise ZeroDivisionError("enough")
    with pytest.raises(ZeroDivisionError, match="enough"): prepare(cfg, progress=stop)
    made = prepare(cfg, progress=told.append)
    assert told[0] == Progress(0, 212, 0.0, 0, {}) and all(a.total == 212 for a in told)
    counts, last = made.counts, told[-1]
    assert last.clips == 212 and last.rejects == sum(last.reasons.values()) == 212 - sum(
        c["kept"] for c in counts.values()
    )
    assert last.seconds == pytest.approx(sum(c["samples"] for c in counts.values()) / 16000)


def slow_hub(hub, tmp_path, monkeypatch, build):
    "A corpus on a Hub that takes seconds to give a clip's audio, and a form for it, its tables known."
    build(served(tmp_path / "x", "voices/slow"), utterances())
    monkeypatch.setattr(hub_module, "BLOCK", 8_000)
    light = dict(storage="audio", num_workers=1)
    form = PrepForm(dataset_name="voices/slow", language="Italian", output_dir=str(tmp_path / "out"), **light)
    return settled(form), PrepConfig("voices/slow", "it", output_dir=str(tmp_path / "plain"), **light)


@pytest.mark.parametrize("build, slow", [(tar_tree, "*.tar"), (put_parquet, "*.parquet")])
def test_a_run_that_is_cancelled_while_it_fetches_stops_there_and_goes_on_from_what_came(
    hub, tmp_path, monkeypatch, build, slow
):
    form, cfg = slow_hub(hub, tmp_path, monkeypatch, build)
    load_rows(cfg)
    hub.clear()
    hub.fault(slow, times=None, rate=20_000)
    said = []
    form.status.observe(lambda change: said.append(change["new"]), "value")
    form.prepare()
    until(lambda: form.bar.value >= 16_000)
    assert "kB of about" in form.status.value and form.bar.value < form.bar.max
    form.buttons["cancel"].click()
    assert any("Stopping" in s for s in said) and form.buttons["cancel"].disabled
    with pytest.raises(KeyboardInterrupt, match="^Stopped. What was fetched stays, and Prepare goes on from there.$"):
        form.wait(20)
    came, need = hub.bytes_served(slow), load_rows(cfg).remote.fetch_bytes(load_rows(cfg).rows.slice(0, 1), False)
    assert (
        "prep-bad" not in form.status.value
        and form.bar.layout.display == "none"
        and not form.buttons["prepare"].disabled
    )
    assert (
        came < form.bar.max
        and not (tmp_path / "out" / "prep.json").exists()
        and not list((tmp_path / "home").rglob("*.part"))
    )
    hub.clear()
    form.prepare()
    assert form.wait(60).hash == prepare(cfg, progress=False).hash
    if build is tar_tree:
        assert (
            hub.bytes_served(slow) + came
            <= sum(p.stat().st_size for p in (tmp_path / "served").rglob("*.tar")) + 8_000
        )


def test_a_plan_can_be_cancelled(hub, tmp_path, monkeypatch):
    form, _ = slow_hub(hub, tmp_path, monkeypatch, put_parquet)
    hub.fault("*.parquet", times=None, rate=2_000)
    form.plan()
    until(lambda: hub.requests_for("data/train-00000-of-00001.parquet") or "parquet" in form.status.value)
    form.cancel()
    with pytest.raises(KeyboardInterrupt, match="Plan goes on from there"): form.wait(20)


def test_long_reads_ask_whether_to_go_on(tmp_path):
    def stops(do):
        asked = []
        def listen(fetched, need):
            asked.append(fetched)
            raise KeyboardInterrupt
        with stoppable(listen), pytest.raises(KeyboardInterrupt): do()
        assert len(asked) == 1
    cfg, corpus = PrepConfig("sample", "it"), load_rows(PrepConfig("sample", "it"))
    archive = mdc_archive(tmp_path, utterances())
    stops(lambda: index_tar(next((SAMPLE / "audio/it/train").glob("*.tar"))))
    stops(lambda: read_tsv(SAMPLE / "transcript/it/train.tsv"))
    stops(lambda: select(corpus, cfg, None, None))
    stops(lambda: load_rows(cfg))
    stops(lambda: unpack(archive, {"train"}))
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_run_logs_is_told_also_after_a_plan(light_form):
    form = light_form
    logging.getLogger("audio_ft_prep.load").isEnabledFor(logging.INFO)
    settled(form)
    form.plan()
    form.wait()
    said = []
    form.status.observe(lambda change: said.append(change["new"]), "value")
    form.prepare()
    form.wait()
    assert any("sample is read as commonvoice" in s for s in said)


def test_two_forms_at_once_are_both_heard_and_leave_the_log_as_it_was(form):
    log, other, said = logging.getLogger("audio_ft_prep"), PrepForm(form.value), []
    before, gates = log.level, [held(form, "_on_fetch"), held(other, "_on_fetch")]
    other.status.observe(lambda change: said.append(change["new"]), "value")
    for f in (form, other):
        f.plan()
        until(lambda: len(log.handlers) > 0 and log.isEnabledFor(logging.INFO))
    until(lambda: sum(type(h).__name__ == "_Lines" for h in log.handlers) == 2)
    for f, gate in zip((form, other), gates):
        gate.set()
        f.wait()
    assert any("sample is read as commonvoice" in s for s in said) and log.level == before


def test_what_a_run_tells_before_it_counts_as_started_is_shown(form):
    told, start = threading.Event(), form.state.work.start
    def read():
        form.state._on_fetch(0, 1000)
        told.set()
        assert gate.wait(20)
        form.state._on_fetch(100, None)
    def slow_start(*args):
        started = start(*args)
        assert told.wait(20)
        return started
    gate, form.state.work.start, form.state._show_plan = threading.Event(), slow_start, lambda made: None
    form.state._start("plan", read, "Planning …", form.value)
    gate.set()
    form.wait()
    assert (form.bar.value, form.bar.max) == (100, 1000)


def test_an_error_is_one_sentence_and_its_traceback_is_folded(form, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    form.buttons["prepare"].click()
    with pytest.raises(ValueError, match="is not empty and holds no prepared data set"): form.wait()
    said, _, folded = form.status.value.partition("<details>")
    assert (
        "is not empty and holds no prepared data set" in said
        and "Traceback" not in said
        and "Traceback" in folded
        and not form.buttons["prepare"].disabled
    )
    form.state.work.start("plan", lambda: int("<b>"), lambda value, error: form.state._after("plan", value, error))
    with pytest.raises(ValueError): form.wait()
    assert "&lt;b&gt;" in form.status.value and "<b>" not in form.status.value


def test_one_thing_is_done_at_a_time(form):
    reading = held(form, "_on_fetch")
    form.plan()
    form.plan()
    with pytest.raises(RuntimeError, match="plan is still under way"): form.prepare()
    reading.set()
    form.wait()
    gate = threading.Event()
    form.state.work.start("plan", gate.wait)
    with pytest.raises(TimeoutError, match="plan is still under way after 0.01 s"): form.wait(0.01)
    gate.set()
    form.wait()


def test_a_run_with_other_settings_is_refused_while_one_is_under_way(light_form):
    form = light_form
    gate = held(form)
    form.prepare()
    form.prepare()
    form.inputs["seed"].value = 7
    with pytest.raises(RuntimeError, match="prepare is still under way with other settings: wait for it, or cancel it"):
        form.prepare()
    gate.set()
    assert form.wait(120).prep["config"]["seed"] == 42


def test_what_is_being_stopped_is_not_started_again_and_nothing_is_stopped_for_ever(light_form):
    form = light_form
    form.cancel()
    assert form.status.value == "" and not form.state.work.stop.is_set()
    gate = threading.Event()
    form.state.work.start("prepare", gate.wait, of=form.value)
    form.cancel()
    with pytest.raises(RuntimeError, match="prepare is being stopped: wait for that, and start again"): form.prepare()
    assert form.state.work.stop.is_set() and "Stopping" in form.status.value
    gate.set()
    form.state.work.wait()
    form.prepare()
    assert form.wait(60) is form.result


def test_what_has_ended_is_told_before_another_thing_may_start():
    seen, gate = [], threading.Event()
    job = Background(lambda: seen.append(job.busy))
    def after(value, error):
        seen.append((job.busy, value, type(error)))
        gate.wait(0.1)
    job.start("a sum", lambda: 1 / 0, after)
    job.thread.join(60)
    assert seen == [(True, None, ZeroDivisionError), False]
    with pytest.raises(ZeroDivisionError): job.wait()


def test_what_cannot_be_shown_is_told_and_the_form_lives_on(form):
    form.state._show_plan = lambda made: 1 / 0
    form.plan()
    form.wait()
    assert (
        "division by zero" in form.status.value
        and "<details>" in form.status.value
        and not form.buttons["plan"].disabled
    )


def test_what_stands_below_is_marked_when_the_settings_have_changed_since(form):
    form.plan()
    form.wait()
    assert form.stale.value == "" and "prep-stale" not in form.output._dom_classes
    form.inputs["max_seconds"].value = 4500
    assert "of the settings before they were changed" in form.stale.value and "prep-stale" in form.output._dom_classes
    form.inputs["max_seconds"].value = 30
    assert form.stale.value == "" and "prep-stale" not in form.output._dom_classes


def test_after_a_run_that_failed_there_is_nothing_to_upload(light_form):
    form = light_form
    form.prepare()
    form.wait()
    form.inputs["seed"].value = 7
    form.prepare()
    with pytest.raises(ValueError, match="another config made"): form.wait()
    assert form.result is None and form.buttons["upload"].disabled
    with pytest.raises(ValueError, match="prepare first"): form.upload()


def test_a_folder_that_these_settings_made_before_is_at_hand(prepared):
    made = prepared("it", language="Italian")
    form = settled(PrepForm(PrepConfig("sample", "it", "Italian", output_dir=str(made.folder))))
    assert (
        form.result.hash == made.hash
        and "rows in" in form.output.outputs[0]["data"]["text/markdown"]
        and "can be looked at" in form.status.value
    )
    assert len(ClipBrowser(form).places) == sum(c["rows"] for c in made.counts.values())
    other = settled(PrepForm(form.value, seed=7))
    assert other.result is None and other.output.outputs == ()
    other.inputs["seed"].value = 42
    assert settled(other).result.hash == made.hash


def test_what_came_of_a_plan_stands_when_another_setting_has_a_folder_already(prepared):
    made = prepared("it", language="Italian")
    form = settled(PrepForm(PrepConfig("sample", "it", "Italian", output_dir=str(made.folder)), seed=5))
    form.plan()
    form.wait()
    shown = form.output.outputs
    form.inputs["seed"].value = 42
    assert (
        settled(form).result.hash == made.hash
        and form.output.outputs == shown
        and "before they were changed" in form.stale.value
    )
    form.inputs["seed"].value = 5
    assert settled(form).output.outputs == shown and form.stale.value == ""


def test_a_folder_that_is_no_longer_there_is_not_at_hand(prepared, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(prepared("it", language="Italian").folder, folder)
    form = settled(PrepForm(PrepConfig("sample", "it", "Italian", output_dir=str(folder))))
    assert form.result and "can be looked at" in form.status.value
    folder.rename(tmp_path / "elsewhere")
    form.buttons["look"].click()
    assert settled(form).result is None and (form.status.value, form.output.outputs) == ("", ())
    (tmp_path / "elsewhere").rename(folder)
    form.look()
    assert settled(form).result and "can be looked at" in form.status.value and form.output.outputs


def test_a_browser_of_a_form_shows_what_its_fields_say(light_form):
    form = light_form
    form.prepare()
    form.wait()
    ids = lambda: {i[:15] for i in ClipBrowser(form).clips.table["id"].to_pylist()}
    form.inputs["language"].value = "English"
    assert ids() == {"common_voice_en"}
    form.inputs["language"].value = "Italian"
    assert ids() == {"common_voice_it"} and "samples, all zero" in str(
        ClipBrowser(form).clips.table["detail"].to_pylist()
    ), "the folder, whose rejects were found by decoding"


def test_without_ipywidgets_a_sentence_names_what_to_install():
    code = "import sys; sys.modules['ipywidgets'] = None; import audio_ft_prep.widgets"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (
        got.stderr.splitlines()[-1]
        == "ImportError: a form needs ipywidgets, which is not installed: pip install 'audio_ft_prep[lab]'"
    )


def test_upload_is_offered_where_a_platform_is_configured(light_form, capfd):
    form = light_form
    pytest.importorskip("digitalhub", reason="the platform's SDK isn't installed")
    from standin import platform
    assert (
        settled(form).buttons["upload"].disabled
        and "No platform is configured: run dhcli login" in form.upload_note.value
    )
    assert all(box.layout.display == "none" for box in form.target.values())
    form.prepare()
    form.wait()
    with platform():
        form.look()
        settled(form)
        assert (
            "of the folder" in form.upload_note.value
            and not form.buttons["upload"].disabled
            and all(box.layout.display is None for box in form.target.values())
        )
        form.buttons["upload"].click()
        assert "project and artifact must be named" in form.status.value
        form.target["project"].value, form.target["artifact"].value = "speech", "audio-dataset"
        bars, table = [], form.output.outputs
        form.bar.observe(lambda change: bars.append(change["new"]), "value")
        capfd.readouterr()
        form.buttons["upload"].click()
        key = form.wait(60).key
        size = sum(p.stat().st_size for p in form.result.folder.rglob("*") if p.is_file())
        assert (
            bars[-1] == form.bar.max == size
            and form.bar.layout.display == "none"
            and "B/s" not in capfd.readouterr().err
        )
        form.buttons["look"].click()
        assert key in settled(form).status.value and form.output.outputs == table and form.stale.value == ""


def test_elsewhere_than_in_a_kernel_a_form_is_the_same_page_each_time():
    pages = [PrepForm(dataset_name="sample", language="Italian")._repr_mimebundle_() for _ in range(2)]
    assert pages[0] == pages[1] and pages[0].keys() == {"text/plain", "text/html"}
    assert all(f"<td style=\"text-align:left\">{name}</td>" in pages[0]["text/html"] for name in field_types())
    assert repr(PrepForm()).startswith("PrepForm: ")


KERNEL = """
from audio_ft_prep.widgets import PrepForm
import threading
form = PrepForm(dataset_name={corpus!r}, language="Italian", train_splits="train", output_dir="out", shard_rows=40, storage="audio", num_workers=1)
gate, count = threading.Event(), form.state._on_clips
def held(now):
    count(now)
    if now.clips:
        assert gate.wait(100)
        count(now)
form.state._on_clips = held
form.prepare()
"""


def test_a_kernel_stays_free_while_a_form_prepares(long_corpus, tmp_path, prepared):
    manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    km, kc = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    def run(code):
        said = []
        reply = kc.execute_interactive(code, timeout=120, output_hook=said.append)["content"]
        assert reply["status"] == "ok", reply.get("traceback")
        return reply, [m["content"]["data"]["text/plain"] for m in said if m["msg_type"] == "execute_result"]
    try:
        run(KERNEL.format(corpus=str(long_corpus)))
        assert run("form.state.work.busy, sum(range(1000))")[1] == ["(True, 499500)"]
        run("import time\nwhile not form.bar.value: time.sleep(.05)")
        run("form.cancel()\ngate.set()\ntry: form.wait(60)\nexcept KeyboardInterrupt as e: stopped = str(e)")
        assert "Prepare goes on from there" in run("stopped")[1][0] and not (tmp_path / "out" / "prep.json").exists()
        run("gate.clear()\nform.prepare()")
        assert run("form.state.work.busy")[1] == ["True"]
        run("gate.set()")
        assert run("form.wait(120).counts['train']['rows'], form.bar.value")[1] == ["(300, 312)"]
        run("data = form._repr_mimebundle_()")
        assert run(
            "'application/vnd.jupyter.widget-view+json' in data, data['text/html'].count('<tr>') > 20,"
            " data['text/plain'][:9]"
        )[1] == ["(True, True, 'PrepForm(')"]
    finally:
        kc.stop_channels()
        km.shutdown_kernel(now=True)


def test_kept_clips_and_rejects_are_listed_with_what_is_known_of_them(prepared):
    made = prepared("it")
    before, after = corpus_clips(PrepConfig("sample", "it")), prepared_clips(made)
    rejects = sum(sum(c["rejects"].values()) for c in made.counts.values())
    assert (
        len(after) == sum(c["rows"] for c in made.counts.values()) == len(before)
        and len(find_clips(after.table, reason=REJECTED)) == rejects
    )
    for clips in (before, after):
        rows = clips.table.to_pylist()
        assert [clips.open(i).id for i in range(len(clips))] == [r["id"] for r in rows]
        assert all(clips.open(int(i)).features is not None for i in find_clips(clips.table, reason=KEPT)[:3])
        assert {r["reason"] for r in rows} - {None} <= REASONS.keys()
    silent = after.table.to_pylist()[find_clips(after.table, reason="silent")[0]]
    assert silent["sentence"] and silent["speaker"] and "samples, all zero" in silent["detail"]


def test_filters_find_what_they_name(prepared):
    table = prepared_clips(prepared("it")).table
    rows = table.to_pylist()
    speaker, word = rows[0]["speaker"], rows[0]["sentence"].split()[0]
    assert set(find_clips(table)) == set(range(len(rows)))
    assert list(find_clips(table, "eval")) == [i for i, r in enumerate(rows) if r["split"] == "eval"]
    assert list(find_clips(table, speaker=speaker[:8])) == [
        i for i, r in enumerate(rows) if (r["speaker"] or "").startswith(speaker[:8])
    ]
    assert list(find_clips(table, words=word.upper())) == [
        i for i, r in enumerate(rows) if word.lower() in (r["sentence"] or "").lower()
    ]
    assert list(find_clips(table, words="41000004")) == [i for i, r in enumerate(rows) if "41000004" in r["id"]]
    assert len(find_clips(table, "eval", REJECTED)) == 0


def test_a_browser_turns_pages_and_shows_the_clip_that_is_chosen(long_corpus):
    browser = ClipBrowser(PrepConfig(str(long_corpus), "it", train_splits="train"))
    assert len(browser.list.options) == PAGE and browser.count.value == "1 to 50 of 312" and browser.back.disabled
    browser.on.click()
    assert browser.count.value == "51 to 100 of 312" and browser.list.value == 50
    browser.turn(99)
    assert browser.count.value == "301 to 312 of 312" and browser.on.disabled
    browser.list.index = 1
    shown = browser.shown.value
    assert (
        browser.clips.table["id"][301].as_py() in shown
        and "<audio" in shown
        and "data:image/png;base64," in shown
        and "&lt;|it|&gt;" in shown
    )
    browser.filters["whole"].value = True
    assert browser.list.index == 1 and browser.shown.value != shown
    browser.filters["words"].value = "no such word"
    assert browser.count.value == "no clip answers this" and browser.shown.value == "" and browser.list.options == ()


def test_a_reject_is_shown_with_its_reason_in_words_and_its_sound_where_there_is_any(prepared):
    browser = ClipBrowser(prepared("it"))
    def chosen(reason):
        browser.filters["reason"].value = reason
        return browser.shown.value
    assert (
        "Rejected: truncated." in chosen("truncated")
        and "11,664 of 19,440 bytes" in chosen("truncated")
        and "What to do: fetch the clip again" in chosen("truncated")
        and "data:audio/mpeg" in chosen("truncated")
    )
    assert "Rejected: duplicate row." in chosen("duplicate_row") and "<audio" in chosen("duplicate_row")
    assert "Rejected: missing audio." in chosen("missing_audio")


def test_a_folder_whose_corpus_is_gone_is_still_leafed_through(tmp_path):
    items = utterances()
    root = tar_tree(tmp_path / "corpus", items)
    made = prepare(PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    root.rename(tmp_path / "elsewhere")
    browser = ClipBrowser(str(tmp_path / "out"))
    assert (
        "no audio: the corpus it was made of is not on this machine" in browser.shown.value
        and "data:image/png" in browser.shown.value
        and "<audio" not in browser.shown.value
    )
    assert len(browser.places) == sum(c["rows"] for c in made.counts.values())


def test_a_page_of_the_browser_is_the_same_each_time(prepared):
    pages = [ClipBrowser(prepared("it"))._repr_mimebundle_() for _ in range(2)]
    assert (
        pages[0] == pages[1]
        and "<table>" in pages[0]["text/html"]
        and "common_voice_it_41000001" in pages[0]["text/html"]
    )


# What was typed, what was read, and what a run says

def clips_of_a_split(n):
    return [
        (f"clip_{i}", data, f"la frase {i}")
        for i, data in enumerate(list(tar_clips(SAMPLE, "it", "train").values())[:n])
    ]


@pytest.mark.parametrize(
    "name, text, value, says",
    [
        ("min_seconds", "0,5", 0.5, "read as 0.5"),
        ("seed", "1 000", 1000, "read as 1000"),
        ("seed", "\uff11\uff12", 12, "read as 12"),
        ("max_train_samples", "none", None, "read as all"),
        ("max_train_samples", "1e3", 1000, "read as 1000"),
        ("seed", "", 42, ""),
        ("max_seconds", "20", 20.0, ""),
        ("language_code", "italiano", "it", "read as it"),
    ],
)
def test_what_was_typed_is_understood_and_what_was_understood_is_said(form, name, text, value, says):
    form.inputs[name].value = text
    assert getattr(form.value, name) == value and form.faults() == {}
    assert ("read as" in form.notes[name].value) == bool(says) and says in form.notes[name].value


@pytest.mark.parametrize(
    "name, text",
    [
        ("seed", "0.5"),
        ("seed", "1,000"),
        ("shard_rows", "1e-3"),
        ("min_seconds", "5 s"),
        ("max_eval_samples", "some"),
        ("num_workers", "two"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_form_and_wherever_its_value_is_asked_for(form, name, text):
    form.inputs[name].value = text
    assert (
        repr(text) in unescape(form.notes[name].value)
        and form.buttons["plan"].disabled
        and "prep-wrong" in form.rows[name]._dom_classes
    )
    with pytest.raises(ValueError, match=f"^{name} must be "): form.value
    assert f"{name} must be" in repr(form)


@pytest.mark.parametrize(
    "name, code",
    [("italiano", "it"), ("Deutsch", "de"), ("ita", "it"), ("fran\u00e7ais", "fr"), ("\u65e5\u672c\u8a9e", "ja")],
)
def test_a_language_by_its_own_name_or_a_longer_code_brings_its_code(name, code):
    form = PrepForm(dataset_name="sample", language=name)
    assert form.inputs["language_code"].value == code and "language" not in settled(form).faults()


def test_a_language_that_nobody_knows_is_told_at_the_field_though_there_is_no_code():
    form = settled(PrepForm(dataset_name="sample", language="Italain"))
    assert "did you mean Italian (it)?" in form.notes["language"].value and "prep-bad" in form.notes["language"].value
    assert {"Italian", "italiano", "Deutsch"} <= set(form.inputs["language"].options)


@pytest.mark.parametrize(
    "splits, asked, wrong",
    [
        (("dev", "test"), {}, "train_splits"),
        (("train", "dev"), {}, "eval_splits"),
        (("train", "test"), {"train_splits": "train+other"}, "train_splits"),
        (("train", "test"), {"train_splits": "train"}, ""),
    ],
)
def test_a_split_that_the_corpus_does_not_have_marks_its_field_before_a_plan(tmp_path, splits, asked, wrong):
    root = write_corpus(tmp_path / "corpus", {s: clips_of_a_split(4) for s in splits})
    form = settled(PrepForm(dataset_name=str(root), language="Italian", **asked))
    assert list(form.faults()) == [wrong] * bool(wrong) and form.buttons["plan"].disabled == bool(wrong)
    if not wrong: return
    assert (
        "must name splits that the corpus has" in form.notes[wrong].value
        and "Selection (1 to mend)" in form.tabs.titles
    )
    form.inputs["train_splits"].value, form.inputs["eval_splits"].value = splits[0], splits[1]
    assert settled(form).faults() == {} and not form.buttons["plan"].disabled


def test_without_a_corpus_nothing_can_be_started(form, tmp_path):
    for name in (str(tmp_path / "gone"), str(tmp_path)):
        form.inputs["dataset_name"].value = name
        assert (
            "no corpus" in settled(form).faults()["dataset_name"]
            and form.buttons["plan"].disabled
            and form.buttons["prepare"].disabled
        )
    form.inputs["dataset_name"].value = "sample"
    form.inputs["language_code"].value = "fr"
    assert "no language fr" in settled(form).notes["language_code"].value and form.buttons["plan"].disabled


def test_progress_is_not_greyed_when_fields_are_changed_meanwhile(form):
    gate = held(form)
    form.prepare()
    form.inputs["seed"].value = 7
    assert "prep-stale" not in form.status._dom_classes and "goes on with the settings" in form.stale.value
    gate.set()
    form.wait(120)
    assert "prep-stale" in form.output._dom_classes and "before they were changed" in form.stale.value


def test_a_refusal_marks_its_field_and_goes_when_the_settings_are_others(form):
    form.prepare()
    form.wait()
    form.inputs["seed"].value = 7
    form.prepare()
    with pytest.raises(ValueError, match="another config made"): form.wait()
    assert (
        "another config made" in form.notes["output_dir"].value
        and "Output (1 to mend)" in form.tabs.titles
        and not form.buttons["prepare"].disabled
    )
    form.inputs["seed"].value = 8
    assert (
        form.status.value == ""
        and "prep-bad" not in form.notes["output_dir"].value
        and form.stale.value == ""
        and "Output" in form.tabs.titles
    )


def test_a_run_that_keeps_nothing_is_not_called_done(form):
    form.inputs["max_seconds"].value = "0.1"
    form.prepare()
    with pytest.raises(RuntimeError, match="nothing was kept"): form.wait(120)
    assert (
        "Done" not in form.status.value
        and "nothing was kept" in form.status.value
        and form.buttons["upload"].disabled
    )


def test_what_begins_and_what_ends_is_read_aloud(form):
    said = []
    form.voice.observe(lambda change: said.append(change["new"]), "value")
    form.plan()
    form.wait()
    assert said == ["Planning \u2026", "The plan is ready."]


HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp\x07"
@pytest.mark.parametrize(
    "name",
    ["dataset_name", "language", "model_id", "output_dir", "train_splits", "audio_column", "ray_address", "seed"],
)
def test_markup_and_signs_that_act_are_shown_and_do_nothing(name):
    form = PrepForm(dataset_name="sample", language="Italian")
    form.inputs[name].value = HOSTILE
    settled(form)
    shown = [note.value for note in form.notes.values()] + [
        form.message.value,
        form.status.value,
        form._repr_mimebundle_()["text/html"],
        *(r.value for r in form.recipes.values()),
    ]
    assert not any("<img" in s or set(s) & set("\x1b\u202e\x07") for s in shown) and any("&lt;img" in s for s in shown)


def test_a_saved_form_says_what_to_do_to_use_it():
    page = PrepForm(dataset_name="sample", language="Italian")._repr_mimebundle_()["text/html"]
    assert "Run the cell again" in page and page.count("<tr>") > 20
