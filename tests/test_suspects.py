"Rejected and flagged clips: listed with what was measured, exported as files to listen to, whatever the corpus calls them."
import csv
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.cli import run
from audio_ft_prep.exported import export_clips
from audio_ft_prep.rows import close_files
from audio_ft_prep.suspects import suspects
from conftest import SAMPLE, tar_clips, tsv_rows

HOSTILE = "<img src=x onerror=alert(1)> *a*\t|\x1b[31m\u202egnp\x07\r\n# x"
LOUD = dict(storage="audio", flag_quiet=-16.0, flag_telephone=7500.0)  # thresholds that clips of the sample are beyond


def lines_of(folder):
    "The lines of an export's table, as dicts."
    text = (folder / "clips.tsv").read_text(encoding="utf-8")
    head, *body = text.removesuffix("\n").split("\n")
    return [dict(zip(head.split("\t"), line.split("\t"))) for line in body]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    "A folder made of a corpus whose ids, sentences and speakers are out to do harm: of two clips one is rejected."
    root = tmp_path_factory.mktemp("hostile")
    corpus = root / "corpus"
    (corpus / "in").mkdir(parents=True)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype("float32")
    speech = noise * (np.arange(16_000) % 4_000 < 2_000)
    names = ["in/..;<b>one", "in/$(two) \x1b[31m"]
    for name, samples in zip(names, (speech, speech * 0)): sf.write(corpus / f"{name}.wav", samples, 16_000)
    lines = [{"audio_filepath": f"{name}.wav", "text": f"la frase {HOSTILE}", "speaker": HOSTILE} for name in names]
    (corpus / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = dict(train_splits="train", eval_splits="", num_workers=1, flag_quiet=0.0)
    return prepare(PrepConfig(str(corpus), "it", output_dir=str(root / "out"), **settings), progress=False)


def test_every_reject_is_listed_with_the_sentence_that_the_corpus_has_for_it(prepared):
    made = prepared()
    found = suspects(made)
    rejects = pq.read_table(made.folder / "rejects.parquet").to_pylist()
    listed = [clip for clip in found.table.to_pylist() if clip["kind"] == "rejected"]
    on_record = {(r["reason"], r["id"], r["detail"]) for r in rejects}
    assert {(c["why"], c["id"], c["measured"]) for c in listed} == on_record
    assert found.rejects == {r: {"train": n, "eval": 0} for r, n in made.counts["train"]["rejects"].items()}
    sentences = {row["path"].removesuffix(".mp3"): row["sentence"] for row in tsv_rows(SAMPLE, "it", "train")}
    known = [c for c in listed if c["why"] in ("silent", "truncated", "undecodable")]
    assert len(known) == 3 and all(c["sentence"] == sentences[c["id"]] for c in known)


def test_the_clips_with_a_flag_are_listed_worst_first(prepared):
    found = suspects(prepared(**LOUD), flag="quiet")
    values = found.table["value"].to_pylist()
    assert len(values) == sum(count["clips"] for count in found.flags["quiet"].values()) > 3
    assert values == sorted(values) and values[-1] < -16 and set(found.table["why"].to_pylist()) == {"quiet"}


def test_rows_that_were_not_sampled_are_counted_and_listed_only_when_asked_for(prepared):
    made = prepared(language_code="en", train_splits="dev", eval_splits="", max_train_samples=2)
    n = made.counts["train"]["rejects"]["not_sampled"]
    assert suspects(made).rejects["not_sampled"]["train"] == n
    assert not [c for c in suspects(made).table["why"].to_pylist() if c == "not_sampled"]
    assert len(suspects(made, reason="not_sampled")) == n > 0


def test_an_export_holds_the_corpus_own_files(prepared, tmp_path):
    found = suspects(prepared())
    exported = export_clips(found, tmp_path / "listen")
    clips, lines = tar_clips(SAMPLE, "it", "train"), lines_of(tmp_path / "listen")
    rejected = [line for line in lines if line["kind"] == "rejected"]
    assert len(rejected) == sum(prepared().counts["train"]["rejects"].values())
    written = [line for line in rejected if line["file"]]
    assert len(written) == 5 and {line["file"] for line in lines} - {""} == set(exported.files)
    assert all((tmp_path / "listen" / line["file"]).read_bytes() == clips[line["id"]] for line in written)
    missing = {line["id"]: line["note"] for line in lines if not line["file"]}
    assert dict(exported.missing) == missing and len(missing) == 3 and all(missing.values())


def test_a_flagged_clip_of_storage_audio_is_exported_as_it_is_trained_on(prepared, tmp_path):
    made = prepared(**LOUD)
    export_clips(suspects(made, flag="quiet"), tmp_path / "listen")
    stored = {}
    for path in sorted(made.folder.glob("*/data-*.arrow")):
        with pa.ipc.open_stream(path.read_bytes()) as stream: table = stream.read_all()
        stored |= dict(zip(table["id"].to_pylist(), (audio["bytes"] for audio in table["audio"].to_pylist())))
    lines = lines_of(tmp_path / "listen")
    assert lines and all((tmp_path / "listen" / line["file"]).read_bytes() == stored[line["id"]] for line in lines)


def test_a_clip_with_two_flags_is_exported_once_with_both(prepared, tmp_path):
    found = suspects(prepared(**LOUD))
    export_clips(found, tmp_path / "listen")
    flagged = [line for line in lines_of(tmp_path / "listen") if line["kind"] == "flagged"]
    assert len(flagged) == len({line["id"] for line in flagged})
    assert any(line["why"] == "quiet,telephone" and line["measured"].count(";") == 1 for line in flagged)


def test_names_of_a_corpus_lead_nowhere_and_act_nowhere(hostile, tmp_path):
    found = suspects(hostile)
    assert set(found.table["kind"].to_pylist()) == {"rejected", "flagged"}
    (tmp_path / "out").mkdir()
    exported = export_clips(found, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").rglob("*"))
    assert names == sorted([*exported.files, "clips.tsv"]) and [p.name for p in tmp_path.iterdir()] == ["out"]
    assert len(exported.files) == 2 and not any(set(name) & set("/\\<>$ ;\x1b") for name in exported.files)
    text = (tmp_path / "out" / "clips.tsv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(text.splitlines()) == 3 and not set(text) & set("\x1b\u202e\x07\r")
    assert all(line["sentence"].startswith("la frase <img") and line["speaker"] for line in lines)


def test_hostile_text_only_shows_in_a_terminal_and_a_notebook(hostile, capsys):
    assert run(["rejects", str(hostile.folder)]) == 0
    said = capsys.readouterr().out
    assert "\\x1b[31m" in said and not set(said) & set("\x1b\u202e\x07\r")
    assert len(said.splitlines()) == len(repr(suspects(hostile)).splitlines())
    shown = suspects(hostile)._repr_markdown_()
    assert "\\<img src=x" in shown and not set(shown) & set("\x1b\u202e\x07\r") and "<b>one" not in shown


def test_nothing_is_exported_into_a_prepared_folder(prepared):
    done = prepared()
    with pytest.raises(ValueError, match="in a prepared one: name another"): export_clips(done, done.folder / "listen")
    assert not (done.folder / "listen").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(prepared, tmp_path):
    (tmp_path / "mine").write_text("mine")
    found = suspects(prepared(), reason="silent")
    with pytest.raises(ValueError, match="new or an empty folder"): export_clips(found, tmp_path)
    with pytest.raises(ValueError, match="new or an empty folder"): export_clips(found, tmp_path / "mine")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("mine", "mine")]


def test_an_export_that_is_stopped_leaves_nothing(prepared, tmp_path, monkeypatch):
    found = suspects(prepared())
    def stop(*paths, **where): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(os, "replace", stop)
        export_clips(found, tmp_path / "listen")
    assert list(tmp_path.iterdir()) == []


def test_without_the_corpus_each_clip_says_why_it_has_no_audio(prepared, tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "corpus")
    cfg = PrepConfig(str(tmp_path / "corpus"), "it", output_dir=str(tmp_path / "out"), num_workers=1, eval_splits="")
    made = prepare(cfg, progress=False)
    close_files()
    shutil.rmtree(tmp_path / "corpus")
    found = suspects(made)
    exported = export_clips(found, tmp_path / "listen")
    assert exported.files == [] and [p.name for p in (tmp_path / "listen").iterdir()] == ["clips.tsv"]
    assert len(exported.missing) == len(lines_of(tmp_path / "listen")) > 0
    assert all("the corpus it was made of is not on this machine" in why for _, why in exported.missing)
    assert "sentences of rejected clips are missing" in repr(found)


def test_the_command_lists_exports_and_prints_json(prepared, tmp_path, capsys):
    folder = str(prepared().folder)
    assert run(["rejects", folder, "--reason", "silent", "--export", str(tmp_path / "listen"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [clip["why"] for clip in found["clips"]] == ["silent"]
    assert found["rejects"] == {"silent": {"train": 1, "eval": 0}}
    assert found["export"]["files"] == [p.name for p in (tmp_path / "listen").iterdir() if p.suffix != ".tsv"]
    wrong = {
        "reason must be one of missing_audio": ["--reason", "loud"],
        "flag must be one of low_snr": ["--flag", "silent"],
        "there is no such clip to export": ["--reason", "too_long", "--export", str(tmp_path / "other")],
        "make it first": ["--reason", "silent", "--export", str(tmp_path / "no" / "other")],
    }
    for sentence, flags in wrong.items():
        assert run(["rejects", folder, *flags]) == 2
        assert sentence in capsys.readouterr().err
    assert run(["rejects", str(tmp_path)]) == 2 and "no prepared data set in" in capsys.readouterr().err
