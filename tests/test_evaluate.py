"""How good a model is: jiwer's numbers, intervals that hold, groups that add up, and a folder that was heard."""
import json
from html.parser import HTMLParser

import jiwer
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.evaluate import Measured, evaluate, group_section, paired_section, total_section
from audio_ft_prep.intervals import Rates, Resamples, made_corpus, sums_by, unit_codes
from audio_ft_prep.metrics import score_texts, text_normalizer
from audio_ft_prep.output import DataSet, OutputFolder
from audio_ft_prep.reading import PreparedFolder
from audio_ft_prep.run import make_run
from audio_ft_prep.scored import Scored, frequent_edits, group_names
from audio_ft_prep.shards import prepare_shard


def scored(said, written, speakers, genders, seconds=None):
    n = len(said)
    score = score_texts(said, written)
    clips = pa.table({
        "id": [f"c{i}" for i in range(n)],
        "speaker": speakers,
        "gender": genders,
        "seconds": pa.array(seconds or [3.0] * n, pa.float64()),
        "dynamics_db": pa.array([20.0] * n, pa.float64()),
        "flags": pa.array([[] for _ in range(n)], pa.list_(pa.string())),
    })
    return Scored(clips, said, written, score.counts(), score.counts("characters"), score.counts("raw"), "none")


WORDS = st.lists(st.sampled_from(["casa", "sole", "mare", "il", "la"]), min_size=1, max_size=6).map(" ".join)
CLIPS = st.lists(
    st.tuples(WORDS, WORDS | st.just(""), st.sampled_from(["", "ada", "bo", "cy"]), st.sampled_from(["", "f", "m"])),
    min_size=1,
    max_size=25,
)


@settings(max_examples=15)
@given(CLIPS)
def test_wer_is_jiwers_and_groups_add_up_to_the_whole(clips):
    said, written, speakers, genders = map(list, zip(*clips))
    measured = Measured(scored(said, written, speakers, genders))
    total = total_section(measured).data
    assert total["wer"]["value"] == pytest.approx(jiwer.wer(said, written), abs=1e-6)
    assert total["cer"]["value"] == pytest.approx(jiwer.cer(said, written), abs=1e-6)
    for by in ("gender", "speaker", "duration"):
        groups = group_section(measured, by).data["groups"]
        assert sum(g["clips"] for g in groups) == len(clips)
        assert sum(g["words"] for g in groups) == total["words"]
        wrong = sum(g["wer"]["value"] * g["words"] for g in groups)
        assert wrong == pytest.approx(total["wer"]["value"] * total["words"], abs=1e-3)


@settings(max_examples=15)
@given(CLIPS)
def test_edits_are_those_that_are_counted(clips):
    said, written, speakers, genders = map(list, zip(*clips))
    one = scored(said, written, speakers, genders)
    edits = frequent_edits(one, most=10_000)
    counted = [sum(edit[-1] for edit in edits[kind]) for kind in ("substitutions", "deletions", "insertions")]
    assert counted == one.words[:, 1:].sum(axis=0).tolist()


@pytest.mark.parametrize("speakers", [30, 80])
def test_the_interval_covers_the_truth_of_93_to_97_percent_of_1000_corpora(speakers):
    rng = np.random.default_rng(11)
    resamples = Resamples(speakers, draws=600)
    corpora = [made_corpus(rng, speakers) for _ in range(1000)]
    errors, words = (np.concatenate([corpus[i] for corpus in corpora], axis=1) for i in (0, 1))
    rates = Rates(errors, words, resamples)  # a corpus as a group: the draws are the same, the corpora aren't
    found = [rates.interval(i) for i in range(1000)]
    assert 0.93 <= np.mean([one.low <= 0.2 <= one.high for one in found]) <= 0.97


def test_clips_of_one_speaker_are_drawn_together():
    errors, words = np.repeat([[9.0], [1.0]] * 10, 12, axis=0), np.full((240, 1), 10.0)
    speakers = np.repeat([f"s{i}" for i in range(20)], 12)
    units, known, alone = unit_codes(speakers)
    zeros = np.zeros(240, np.int64)
    sums = [sums_by(x[:, 0], units, zeros, (known, 1)) for x in (errors, words)]
    by_speaker = Rates(*sums, Resamples(known)).interval(0)
    by_clip = Rates(errors, words, Resamples(240)).interval(0)
    assert (known, alone) == (20, 0) and by_speaker.value == by_clip.value
    assert by_speaker.high - by_speaker.low > 3 * (by_clip.high - by_clip.low)


def test_draws_in_blocks_are_as_many_and_as_wide(monkeypatch):
    from audio_ft_prep import intervals
    errors, words = made_corpus(np.random.default_rng(3), 50)
    whole = Rates(errors, words, Resamples(50)).interval(0)
    monkeypatch.setattr(intervals, "_AT_ONCE", 50 * 64)
    blocks = Resamples(50)
    parts = Rates(errors, words, blocks)
    assert len(parts.drawn) == blocks.draws
    assert parts.interval(0).low == pytest.approx(whole.low, abs=0.01)


def test_a_small_difference_between_two_models_is_seen_in_pairs():
    rng = np.random.default_rng(2)
    errors, words = made_corpus(rng, 40)
    resamples = Resamples(40)
    ours, theirs = Rates(errors * 0.9, words, resamples), Rates(errors, words, resamples)
    difference = ours.minus(theirs)
    assert difference.high < 0  # though their intervals overlap
    assert ours.interval(0).high > theirs.interval(0).low


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    "A folder, two tables of texts for it, and what is said in it."
    at = tmp_path_factory.mktemp("heard")
    run = make_run(PrepConfig("sample", "it", train_splits="test", eval_splits="train"))
    folder = OutputFolder(at / "prepared")
    folder.start(run.manifest, run.splits)
    results = [prepare_shard(shard(), run.maker, run.schema, folder) for shard in run.shards]
    folder.finalize(DataSet.of(run, results))
    clips = pa.concat_tables(PreparedFolder(folder.at).clip_groups()).to_pylist()
    said = {clip["id"]: clip["sentence"] for clip in clips if clip["split"] == "eval"}
    good = {name: text.upper() for name, text in said.items()}
    bad = {name: f"<script>alert(1)</script> {text}" for name, text in said.items()}
    for name, texts in (("good", good), ("bad", bad)): (at / f"{name}.json").write_text(json.dumps(texts))
    return at, said, bad


def test_a_folder_is_heard_once_and_evaluated_as_jiwer_would(heard):
    at, said, bad = heard
    found = evaluate(at / "prepared", str(at / "bad.json"), by="speaker,gender", num_workers=1, show_progress=False)
    normalize = text_normalizer("it")
    references, written = ([normalize(texts[name]) for name in said] for texts in (said, bad))
    assert found.wer == pytest.approx(jiwer.wer(references, written), abs=1e-6)
    assert found.metrics["clips"] == len(said)
    assert not [t for t in (at / "prepared" / "heard").rglob("train-*.parquet")]
    again = evaluate(at / "prepared", found.about["heard"]["name"], by="speaker,gender")
    assert again.to_dict()["rates"] == found.to_dict()["rates"]


def test_two_models_are_compared_on_the_same_clips(heard):
    at, said, _ = heard
    found = evaluate(
        at / "prepared", str(at / "good.json"), by="gender", other=str(at / "bad.json"), num_workers=1,
        show_progress=False)
    first = found.to_dict()["paired"][0]
    assert found.wer == 0 and first["group"] == "all clips"
    assert first["difference"]["value"] == pytest.approx(-first["theirs"]["value"], abs=1e-6)


def test_what_a_model_wrote_is_text_on_the_page(heard):
    at, _, _ = heard
    page = evaluate(at / "prepared", str(at / "bad.json"), num_workers=1, show_progress=False).html()
    tags = []
    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs): tags.append(tag)
    Tags().feed(page)
    assert "script" not in tags and "table" in tags
    assert json.loads(json.dumps(evaluate(at / "prepared", str(at / "bad.json")).to_dict(), allow_nan=False))


def test_a_group_that_nothing_is_known_by_is_refused(heard):
    at, _, _ = heard
    with pytest.raises(ValueError, match="by must name some of speaker.*got 'height'"):
        evaluate(at / "prepared", str(at / "bad.json"), by="height")
    assert {"gender", "duration", "low_snr"} <= set(group_names())
