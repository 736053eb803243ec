"A form's state: what was typed, what is wrong with it, what can be started, what runs. No widgets, and nothing heavy."
import json
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

from audio_ft_prep import PrepConfig
from audio_ft_prep.background import Meter, Newest, log_lines
from audio_ft_prep.boxes import as_command, box_kind, form_tabs
from audio_ft_prep.checks import OUT_OF_DATE, Notice
from audio_ft_prep.cli import config_flags, flag_settings
from audio_ft_prep.config import NONE_WORDS, field_types
from audio_ft_prep.configfile import to_yaml
from audio_ft_prep.form import LOOKING, FormState
from audio_ft_prep.job import job_config
from audio_ft_prep.lookup import Found
from audio_ft_prep.progress import go_on
from audio_ft_prep.pipeline import Progress

pytestmark = pytest.mark.light
ROOT = Path(__file__).parents[1]


@pytest.fixture
def form(tmp_path):
    "The state of a form for the sample corpus; nothing is looked at until a test asks for it."
    return FormState(dataset_name="sample", language="Italian", output_dir=str(tmp_path / "out"))


@pytest.fixture
def run(form):
    "Start something that waits for an event, as a plan does that takes its time."
    gate = threading.Event()
    def start(name="plan", result="a plan"):
        def do():
            assert gate.wait(20)
            go_on()
            return result
        form._start(name, lambda: form._followed(do), "Planning …", form.value)
        return gate
    yield start
    gate.set()
    if form.work.thread: form.work.thread.join(20)


def startable(form): return form.checked.enabled["plan"] and form.checked.enabled["prepare"]


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "datasets", "ipywidgets", "IPython"):
            raise ImportError(f"{name} was to be left alone")
sys.meta_path.insert(0, Refuse())
from audio_ft_prep.form import FormState
form = FormState(dataset_name="sample", language="Italian", output_dir=sys.argv[1])
form.look()
form.settle()
form.plan()
print(form.wait().splits["train"]["selected"], form.checked.enabled["prepare"])
"""


def test_a_form_is_filled_in_looked_at_and_planned_without_widgets_and_without_anything_heavy(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["24", "True"], run.stderr


def test_every_field_of_the_config_has_a_box_in_one_tab():
    in_tabs = [name for names in form_tabs().values() for name in names]
    assert sorted(in_tabs) == sorted(field_types()) == sorted(FormState().typed)
    assert {box_kind(name) for name in in_tabs} >= {"search", "choice", "switch", "text"}


def test_an_empty_form_says_how_to_begin_and_marks_nothing():
    form = FormState()
    assert form.checked.message.text.startswith("To begin: dataset_name must name") and not form.checked.message.fault
    assert form.checked.wrong == () and not startable(form) and form.checked.cfg is None


def test_what_was_typed_is_read_and_a_fault_is_shown_at_its_field_until_it_is_mended(form):
    form.fill("max_seconds", "2,5")
    assert form.value.max_seconds == 2.5 and form.checked.notes["max_seconds"].text.startswith("read as 2.5; ")
    form.fill("max_seconds", "4500")
    sentence = "max_seconds must be above 0, and 1200 at most, got 4500.0"
    assert form.checked.wrong == ("max_seconds",) and form.checked.notes["max_seconds"] == Notice(sentence, fault=True)
    assert form.checked.message.text == sentence and not startable(form) and form.checked.cfg is None
    form.fill("max_seconds", "20")
    assert form.checked.wrong == () and startable(form) and form.checked.cfg == form.value


def test_what_two_fields_say_together_is_shown_at_the_one_that_was_filled_last(form):
    form.fill("min_seconds", "5")
    form.fill("max_seconds", "3")
    assert form.checked.wrong == ("max_seconds",)
    form.fill("min_seconds", "4")
    assert form.checked.wrong == ("min_seconds",)


def test_a_language_brings_its_code_unless_another_was_typed(form):
    assert form.fill("language", "english") == ["language", "language_code"] and form.value.language_code == "en"
    form.fill("language_code", "it-IT")
    assert form.fill("language", "Italian") == ["language"] and form.value.language_code == "it-IT"


def test_a_filled_form_is_the_command_that_says_the_same(form):
    form.fill("seed", "7")
    form.fill("output_dir", "prepared")
    assert as_command(form.checked.cfg) == (
        "audio-ft-prep prepare --dataset-name sample --language-code it --language Italian --seed 7")


def test_what_the_corpus_lacks_is_marked_once_it_was_looked_at(form):
    form.look()
    form.fill("train_splits", "train+other")
    form.settle()
    assert form.checked.wrong == ("train_splits",) and not startable(form)
    assert "must name splits that the corpus has (train, validation, test)" in form.faults()["train_splits"]


def test_only_the_corpus_that_was_named_last_is_shown_and_looking_holds_up_nothing(form, monkeypatch):
    gate, names = threading.Event(), []
    begun = threading.Event()
    def slow(dataset_name, **settings):
        names.append(dataset_name)
        begun.set()
        assert gate.wait(20)
        go_on()
        return Found(f"found {dataset_name}")
    monkeypatch.setattr("audio_ft_prep.form.look_at", slow)
    form.look()
    assert begun.wait(20)
    for name in "abcd": form.fill("dataset_name", name)
    assert form.checked.notes["dataset_name"] == LOOKING and names == ["sample"]
    gate.set()
    form.settle()
    assert form.checked.notes["dataset_name"].text == "found d" and names == ["sample", "d"]


def test_a_corpus_that_cannot_be_read_is_a_fault_and_a_disk_that_fails_is_none_of_the_settings(form, monkeypatch):
    def fails(error):
        def look_at(dataset_name, **settings): raise error
        monkeypatch.setattr("audio_ft_prep.form.look_at", look_at)
        form.look()
        form.settle()
    fails(FileNotFoundError("no corpus at nowhere"))
    assert form.checked.wrong == ("dataset_name",) and not startable(form)
    fails(OSError("the disk is away"))
    assert form.checked.wrong == () and startable(form)
    assert form.checked.notes["dataset_name"] == Notice("the disk is away", fault=True)


def test_while_something_runs_it_alone_can_be_cancelled_and_afterwards_all_is_as_before(form, run):
    shown = []
    form.on_change = lambda: shown.append((form.status.text, form.checked.enabled["cancel"]))
    gate = run()
    assert form.checked.enabled == {"plan": False, "prepare": False, "cancel": True, "look": True, "upload": False}
    with pytest.raises(RuntimeError, match="plan is still under way: wait for it, or cancel it"): form.prepare()
    form.cancel()
    assert form.status.text == "Stopping …" and not form.checked.enabled["cancel"]
    with pytest.raises(RuntimeError, match="plan is being stopped"): form.plan()
    gate.set()
    with pytest.raises(KeyboardInterrupt, match="Stopped. What was fetched stays, and Plan goes on from there."):
        form.wait(20)
    assert form.status == Notice("Stopped. What was fetched stays, and Plan goes on from there.") and startable(form)
    assert ("Planning …", True) in shown and shown[-1] == (form.status.text, False) and form.bar is None


def test_a_result_is_shown_spoken_and_out_of_date_as_soon_as_a_field_is_changed(form, run):
    run().set()
    assert (
        form.wait(20) == "a plan"
        and form.shown == {"text/plain": "'a plan'"}
        and form.spoken == "The plan is ready."
    )
    form.fill("seed", "7")
    assert form.checked.stale == OUT_OF_DATE
    form.fill("seed", "42")
    assert form.checked.stale == ""


def test_a_run_with_other_settings_is_refused_and_the_fields_may_change_meanwhile(form, run):
    gate = run()
    form.fill("seed", "7")
    assert form.checked.stale.startswith("What is under way goes on")
    with pytest.raises(RuntimeError, match="still under way with other settings"): form.plan()
    gate.set()
    assert form.wait(20) == "a plan"


def test_what_a_run_refuses_marks_its_field_until_the_settings_are_others(form):
    def refuse(): raise ValueError("output_dir must be a folder of its own, got /")
    form._start("plan", refuse, "Planning …", form.value)
    with pytest.raises(ValueError, match="a folder of its own"): form.wait(20)
    assert form.checked.wrong == ("output_dir",) and startable(form)
    assert form.status.fault and isinstance(form.status.error, ValueError)
    form.fill("seed", "7")
    assert form.checked.wrong == () and form.status == Notice()


def test_a_result_that_cannot_be_shown_is_an_error_in_its_place(form, run):
    class Unshown:
        def __repr__(self): raise ZeroDivisionError("it has no words")
    run(result=Unshown()).set()
    form.wait(20)
    assert form.status.text == "it has no words" and form.status.fault and startable(form)


def test_an_upload_asks_for_a_folder_and_for_names(form):
    with pytest.raises(ValueError, match="prepare first"): form.upload("speech", "italian")
    form.result = object()
    with pytest.raises(ValueError, match="project and artifact must be named"): form.upload("", "italian")


def test_bytes_are_counted_first_and_then_clips():
    meter = Meter("clips.tar")
    assert meter.fetch(0, 4_000) is None
    step = meter.fetch(1_000, None)
    assert (step.done, step.total, step.words) == (1_000, 4_000, "clips.tar: 1.0 kB of about 4.0 kB")
    assert meter.fetch(1_000, None) is None, "five times a second at most"
    step = meter.clips(Progress(3, 24, 8.2, 1, {"silent": 1}))
    assert (step.done, step.total) == (3, 24) and step.words.startswith(
        "3 of 24 clips, 8.2 s kept, 1 rejected (1 silent)"
    )


def test_lines_of_another_thread_are_not_shown_and_the_log_is_as_it_was():
    import logging
    log, lines = logging.getLogger("audio_ft_prep"), []
    level = log.level
    with log_lines(lines.append):
        other = threading.Thread(target=log.info, args=("of another run",))
        other.start()
        other.join()
        log.info("of this run")
    assert lines == ["of this run"] and log.level == level and not any(h.level == logging.INFO for h in log.handlers)


def test_what_was_replaced_before_it_began_is_left_out():
    done, begun, gate, newest = [], threading.Event(), threading.Event(), Newest()
    def first():
        begun.set()
        gate.wait()
    newest.ask(first)
    assert begun.wait(60)
    for i in range(100): newest.ask(lambda i=i: done.append(i))
    gate.set()
    newest.wait()
    assert done == [99]


@pytest.mark.parametrize("settings, error, sentence", [
    ({"speed": 1}, TypeError, "speed is no field of PrepConfig"),
    ({"storage": "bogus"}, ValueError, "storage must be one of features, audio, source, padded"),
    ({"config": "sample"}, TypeError, "config must be a PrepConfig"),
])
def test_what_no_form_can_hold_is_refused_when_it_is_made(settings, error, sentence):
    with pytest.raises(error, match=f"^{sentence}"): FormState(**settings)


def test_a_form_holds_the_config_it_is_made_from():
    cfg = PrepConfig("sample", "it", max_train_samples=7, lower_case=True, storage="audio", eval_splits="")
    assert FormState(cfg).value == cfg and FormState(cfg, seed=7).value.seed == 7


def test_every_setting_is_in_the_form_the_command_the_file_the_handler_and_the_page_of_settings():
    cfg = PrepConfig("sample", "it")
    names = set(field_types())
    given = {name: value for name, value in asdict(cfg).items() if name != "output_dir"}
    flags = {flag.name for flag in config_flags()} - {"config"}
    page = json.loads((ROOT / "nbs/settings.ipynb").read_text(encoding="utf-8"))
    tables = "".join(str(out) for cell in page["cells"] for out in cell.get("outputs", []))
    assert names == set(FormState().typed) == flags == set(yaml.safe_load(to_yaml(cfg)))
    assert names == set(re.findall(r'<span id="(\w+)">', tables))
    assert job_config({name: "" if value is None else str(value) for name, value in given.items()}) == cfg
    assert {f.name for f in fields(PrepConfig) if f.name in NONE_WORDS} == names


@pytest.mark.parametrize("name", [name for name, typ in field_types().items() if type(None) in get_args(typ)])
def test_a_number_is_left_out_by_its_word_in_form_command_and_handler(form, name):
    word, cfg = NONE_WORDS[name], PrepConfig("sample", "it", **{name: None})
    form.fill(name, word)
    assert getattr(form.value, name) is None and form.checked.wrong == ()
    assert flag_settings({name: word}) == {name: None} and job_config(
        {"dataset_name": "sample", "language_code": "it", name: word}) == cfg
    words = shlex.split(as_command(cfg))
    is_default = cfg == PrepConfig("sample", "it")
    assert (f"--{name.replace('_', '-')}" in words) != is_default and (word in words) != is_default


def test_several_outside_sets_are_typed_one_a_line_and_given_one_by_one(form):
    form.fill("keep_out", "  benchmark:test \n\n other\n")
    cfg = form.value
    assert cfg.keep_out == "benchmark:test\nother" and box_kind("keep_out") == "lines"
    assert "--keep-out benchmark:test --keep-out other" in as_command(cfg)
    assert flag_settings({"keep_out": ("benchmark:test", "other")}) == {"keep_out": cfg.keep_out}
