"What a test is over is said wherever eval is shown, and keep_eval leaves out nothing that can be heard."
import io
import logging

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, plan, prepare
from audio_ft_prep.evalof import can_be_kept, eval_words
from audio_ft_prep.pipeline import merge
from audio_ft_prep.prepjson import check_prep
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.run import Part
from conftest import SAMPLE, tar_clips, write_corpus

LONG_S, SHORT_S = 31, 0.4  # a clip beyond what the model hears at once, and a very short one
SENTENCE = "una frase qualunque"


def flac(x):
    out = io.BytesIO()
    sf.write(out, x, 16000, format="FLAC")
    return out.getvalue()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Good speech, and in each split a long clip, a short one, a sentence beyond any label, noise, and silence."
    good = next(data for name, data in tar_clips(SAMPLE, "it", "test").items())
    speech, rate = sf.read(io.BytesIO(good), dtype="float32")
    speech = speech[::rate // 16000]
    noise = np.random.default_rng(0).normal(0, 0.01, 32000).astype(np.float32)
    cut = {s: flac(np.resize(speech, int(s * 16000))) for s in (LONG_S, SHORT_S)}
    def clips(split):
        return [
            (f"{split}_good_0", good, SENTENCE),
            (f"{split}_good_1", good, SENTENCE),
            (f"{split}_long", cut[LONG_S], SENTENCE),
            (f"{split}_short", cut[SHORT_S], SENTENCE),
            (f"{split}_words", good, "uno " * 500),
            (f"{split}_noise", flac(noise), SENTENCE),
            (f"{split}_silent", flac(np.zeros(16000, np.float32)), SENTENCE),
        ]
    return write_corpus(tmp_path_factory.mktemp("of") / "corpus", {s: clips(s) for s in ("train", "test")})


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    "Prepare that corpus, once for each set of settings."
    done = {}
    def get(**settings):
        key = tuple(sorted(settings.items()))
        if key not in done:
            out = str(tmp_path_factory.mktemp("made") / "out")
            done[key] = prepare(config(corpus, out, **settings), progress=False)
        return done[key]
    return get


def config(corpus, out, **settings):
    return PrepConfig(
        str(corpus), "it", output_dir=out, train_splits="train", num_workers=1, min_seconds=1, **settings
    )


def ids(prepared, split): return {name.partition("_")[2] for name in load_prepared(prepared.folder)[split]["id"]}


def test_rows_of_the_official_test_that_are_missing_are_said_wherever_eval_is_shown(made, corpus, tmp_path, caplog):
    prepared = made()
    test = prepared.prep["eval_of"]["splits"]["test"]
    assert (test["rows"], test["kept"], sum(test["rejects"].values())) == (7, 2, 5)
    reasons = "1 label_too_long, 1 silent, 1 no_modulation, 1 too_short, 1 too_long"
    words = f"eval is 2 of 7 rows of the official test ({reasons})"
    assert words in repr(prepared)
    assert "not comparable with published figures" in repr(prepared)
    card = (prepared.folder / "README.md").read_text(encoding="utf-8")
    assert words[1:].replace("_", "\\_") in card.replace("\\_", "_").replace("_", "\\_")
    assert "## What the test is over" in card
    planned = "eval is 6 of 7 rows of the official test (1 label_too_long), less what can't be decoded"
    assert any(planned in note for note in plan(config(corpus, str(tmp_path / "out"))).notes)
    with caplog.at_level(logging.WARNING): load_prepared(prepared.folder)
    assert sum(words in record.getMessage() for record in caplog.records) == 1


def test_a_whole_test_is_said_to_be_whole_and_warned_of_by_none(prepared, caplog):
    sample = prepared()
    assert not sample.counts["eval"]["rejects"]
    assert f"eval is all {sample.counts['eval']['rows']} rows of the official test" in repr(sample)
    with caplog.at_level(logging.WARNING): load_prepared(sample.folder)
    assert not [record for record in caplog.records if "eval is" in record.getMessage()]


def test_keep_eval_keeps_every_row_that_can_be_heard_and_train_stays_what_it_was(made):
    strict = dict(reject="low_snr,edges", max_per_sentence=1, min_up_votes=1)
    kept = made(keep_eval=True, storage="audio", **strict)
    assert ids(kept, "eval") == {"good_0", "good_1", "long", "short", "words", "noise"}
    assert ids(kept, "train") == {"good_0"}
    rows = {row["id"]: row for row in load_prepared(kept.folder)["eval"]}
    assert rows["test_long"]["input_length"] == LONG_S * 16000
    batch = SpeechCollator(50258, n_frames=LONG_S * 100)([rows["test_long"]])
    assert batch["input_features"].shape == (1, 80, LONG_S * 100)
    assert rows["test_words"]["sentence"] == ("uno " * 500).strip()
    assert len(rows["test_words"]["labels"]) > 500


@pytest.mark.long
def test_where_features_are_stored_a_long_clip_is_a_reject_and_the_sentence_says_what_to_do(made):
    kept = made(keep_eval=True)
    assert ids(kept, "eval") == {"good_0", "good_1", "short", "words", "noise"}
    assert "a clip that is too long is kept whole with storage audio" in repr(kept)
    assert "keep_eval keeps every row" in repr(made()) and "keep_eval keeps every row" not in repr(kept)


def test_what_no_model_can_be_trained_with_is_warned_of_and_refused_in_a_batch(made, caplog):
    folder = made(keep_eval=True, storage="audio", reject="low_snr,edges", max_per_sentence=1, min_up_votes=1).folder
    with caplog.at_level(logging.WARNING): data = load_prepared(folder)["eval"]
    assert "1 clip longer than 30 s and 1 sentence of more than 448 labels" in caplog.text
    items = [data[i] for i in range(len(data))]
    collate = SpeechCollator(50258)
    with pytest.raises(ValueError, match="3000 frames at most.*got 3100.*n_frames=3100"): collate(items)
    short = data.filter(lambda n: n <= 480000, input_columns="input_length")
    assert collate([short[i] for i in range(len(short))])["input_features"].shape == (5, 80, 3000)
    assert SpeechCollator(50258, n_frames=3100)(items)["input_features"].shape == (6, 80, 3100)
    wide = SpeechCollator.of("openai/whisper-small", data, n_frames=3100)
    assert wide(items[:1] + items[2:])["input_features"].shape[2] == 3100


@pytest.mark.long
def test_parts_together_say_what_one_run_says(made, corpus, tmp_path):
    for i in range(2): prepare(config(corpus, str(tmp_path / f"{i}"), shard_rows=2), progress=False, part=Part(i, 2))
    whole = merge([tmp_path / "0", tmp_path / "1"], tmp_path / "whole")
    assert whole.prep["eval_of"] == made().prep["eval_of"]


def test_keep_eval_and_a_maximum_contradict_each_other():
    with pytest.raises(ValueError, match="keep_eval keeps every row of eval, got max_eval_samples 5"):
        PrepConfig("sample", "it", keep_eval=True, max_eval_samples=5)


@pytest.mark.parametrize("change", [
    {"official": 1, "splits": {}},
    {"official": True, "splits": []},
    {"official": True, "splits": {"test": {"rows": 6, "kept": 2, "rejects": {}}}},
    {"official": True, "splits": {"test": {"rows": 8, "kept": 3, "rejects": {"silent": 5}}}},
    {"official": True, "splits": {"test": {"rows": 7, "kept": 2, "rejects": {"<b>": 5}}}},
    [],
])
def test_a_claim_that_does_not_add_up_is_refused_in_a_sentence(made, change):
    with pytest.raises(ValueError, match="describes no prepared data set, eval_of"):
        check_prep({**made().prep, "eval_of": change})


def test_the_name_of_a_split_is_shown_as_text(made):
    from audio_ft_prep.card import data_card
    from audio_ft_prep.pipeline import Prepared
    prep = dict(made().prep)
    name = "<b>\x1b[31m[x](http://a.b)"
    prep["eval_of"] = {"official": True, "splits": {name: prep["eval_of"]["splits"]["test"]}}
    shown = check_prep(prep) and Prepared("out", prep)
    for text in (repr(shown), shown._repr_markdown_(), data_card(prep)): assert "\x1b" not in text
    for text in (shown._repr_markdown_(), data_card(prep)): assert "official <b>" not in text


def test_only_rows_that_can_be_heard_and_have_a_sentence_are_said_to_be_kept_by_keep_eval():
    kept = {reason for reason in REASONS if can_be_kept(reason)}
    unheard = {"empty_audio", "undecodable", "truncated", "corrupt", "not_finite", "silent", "empty_sentence"}
    assert unheard <= REASONS.keys() and not kept & unheard
    assert {"too_long", "too_short", "no_modulation", "low_snr", "not_sampled"} <= kept
    assert not kept & {"missing_audio", "no_row", "bad_row", "unsafe_path"}


@pytest.mark.parametrize("kept", [5, 4])
def test_a_whole_official_test_is_comparable_and_one_that_lacks_a_row_is_not(kept):
    lost = {"truncated": 5 - kept} if kept < 5 else {}
    entry = {"official": True, "splits": {"test": {"rows": 5, "kept": kept, "rejects": lost}}}
    words = eval_words(entry, {})
    assert ("WER on this is not comparable with published figures" in words) == (kept < 5)
    assert ("all 5 rows of the official test" in words) == (kept == 5)
