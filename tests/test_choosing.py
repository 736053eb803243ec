"A sample holds what was asked for as far as the corpus has it, changes little with rows added, and says what it lacks."
import io, json
from collections import Counter

import numpy as np, pyarrow as pa, pyarrow.compute as pc, pytest, soundfile as sf
from hypothesis import assume, example, given, settings, strategies as st

from audio_ft_prep.audio import read_clip
from audio_ft_prep.choosing import choose, longest_first, with_votes
from audio_ft_prep.config import STRATA, PrepConfig
from audio_ft_prep.lengths import HEAD, Lengths, counted_seconds, head_seconds
from audio_ft_prep.rejects import rejects_table
from audio_ft_prep.rows import ROWS, Corpus, Remote, rows_table
from audio_ft_prep.sampled import check_sampled, sampled_list, sampled_notes
from audio_ft_prep.samesentence import sentence_keys
from audio_ft_prep.sampling import Selection, fetch_audio

pytestmark = pytest.mark.light
COLUMNS = ("id", "speaker", "sentence", "gender", "seconds", "up_votes", "down_votes")
quick = settings(deadline=None, max_examples=40)


def table(rows):
    "Rows of train."
    columns = dict(zip(COLUMNS, zip(*rows))) if rows else {name: [] for name in COLUMNS}
    columns = {name: [*values] for name, values in columns.items()}
    return rows_table({**columns, "split": ["train"] * len(rows), "source_split": ["train"] * len(rows)})


row = st.tuples(
    st.text("abcdef", min_size=1, max_size=3),
    st.sampled_from(["", "Ada", "Bo", "Cem"]),
    st.sampled_from(["Yes.", "yes", "No!", "Perhaps", "…"]),
    st.sampled_from(["", "female", "male", "other"]),
    st.sampled_from([0.5, 1.0, 3.0, 7.0, 29.0, 45.0]),
    st.none() | st.integers(0, 4),
    st.none() | st.integers(0, 4),
)
corpora = st.lists(row, max_size=30, unique_by=lambda r: r[0])
ways = st.sampled_from(["first", "random"])
few = st.integers(1, 6)
seeds = st.integers(0, 2**32)


def asked(**settings): return PrepConfig("cv", "it", **settings)
def ids(chosen): return [*chosen.rows["id"].to_pylist()]
def taken(rows, cfg): return {*ids(choose(table(rows), "train", cfg))}


def accounted(rows, chosen):
    "Whether every row was taken or is on record, once."
    return Counter(ids(chosen)) + Counter(chosen.rejects["id"].to_pylist()) == Counter(r[0] for r in rows)


# ---- caps

@quick
@given(corpora, few, few, ways, seeds)
def test_no_speaker_and_no_sentence_is_there_more_often_than_its_cap(rows, speakers, sentences, how, seed):
    chosen = choose(
        table(rows), "train", asked(max_per_speaker=speakers, max_per_sentence=sentences, sampling=how, seed=seed)
    )
    of_speaker = Counter(chosen.rows["speaker"].to_pylist())
    del of_speaker[""]
    assert max(of_speaker.values(), default=0) <= speakers
    of_sentence = Counter(sentence_keys(chosen.rows["sentence"]).to_pylist())
    assert max(of_sentence.values(), default=0) <= sentences
    assert accounted(rows, chosen)
    assert set(chosen.rejects["reason"].to_pylist()) <= {"speaker_cap", "sentence_cap"}


@quick
@given(corpora, few, ways, seeds)
def test_a_cap_leaves_out_no_more_than_it_must_and_no_unknown_speaker(rows, most, how, seed):
    chosen = choose(table(rows), "train", asked(max_per_speaker=most, sampling=how, seed=seed))
    there = Counter(r[1] for r in rows)
    kept = Counter(chosen.rows["speaker"].to_pylist())
    assert kept == Counter({s: n if s == "" else min(n, most) for s, n in there.items()})


@quick
@given(corpora, row, few, few, seeds)
def test_a_row_more_changes_a_capped_corpus_by_a_row_for_each_cap_at_most(rows, new, speakers, sentences, seed):
    assume(new[0] not in {r[0] for r in rows})
    cfg = asked(max_per_speaker=speakers, max_per_sentence=sentences, sampling="random", seed=seed)
    before, after = taken(rows, cfg), taken([*rows, new], cfg)
    assert len(before - after) <= 2 and len(after - before - {new[0]}) <= 1


# ---- groups

def groups_of(chosen_rows): return Counter(chosen_rows["gender"].to_pylist())


@quick
@given(corpora, st.integers(1, 35), ways, seeds)
def test_each_group_has_its_share_of_the_rows_rounded(rows, most, how, seed):
    "There is one factor by which every group's size, times it, rounds to what the group has."
    chosen = choose(table(rows), "train", asked(max_train_samples=most, stratify="gender", sampling=how, seed=seed))
    have, there = groups_of(chosen.rows), Counter(r[3] for r in rows)
    assert len(chosen.rows) == min(most, len(rows)) and accounted(rows, chosen)
    lowest = max(((have[g] - 0.5) / n for g, n in there.items()), default=0)
    highest = min(((have[g] + 0.5) / n for g, n in there.items()), default=1)
    assert lowest <= highest + 1e-12


@quick
@given(corpora, st.integers(1, 35), ways, seeds)
def test_equal_shares_are_equal_as_far_as_groups_last(rows, most, how, seed):
    cfg = asked(max_train_samples=most, stratify="gender", stratify_shares="equal", sampling=how, seed=seed)
    chosen = choose(table(rows), "train", cfg)
    have, there = groups_of(chosen.rows), Counter(r[3] for r in rows)
    known = {g: n for g, n in there.items() if g}
    largest = max((have[g] for g in known), default=0)
    assert all(have[g] == n or have[g] >= largest - 1 for g, n in known.items())
    assert not have[""] or all(have[g] == n for g, n in known.items())


@quick
@given(corpora, row, st.integers(1, 20), st.sampled_from(["equal", "proportional"]), seeds)
def test_a_row_more_changes_a_divided_sample_by_one_row_at_most(rows, new, most, shares, seed):
    assume(new[0] not in {r[0] for r in rows})
    cfg = asked(max_train_samples=most, stratify="gender", stratify_shares=shares, sampling="random", seed=seed)
    before, after = taken(rows, cfg), taken([*rows, new], cfg)
    assert len(before - after) <= 1 and len(after - before) <= 1


@quick
@given(corpora, few, few, st.sampled_from(["", "gender", "gender,speaker"]), ways, seeds)
def test_a_larger_maximum_contains_a_smaller_one_in_groups_too(rows, a, b, by, how, seed):
    small, large = (
        taken(rows, asked(max_train_samples=n, stratify=by, sampling=how, seed=seed)) for n in sorted((a, b))
    )
    assert small <= large


@quick
@given(corpora.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), few, seeds)
def test_the_order_of_the_corpus_changes_no_random_choice(orders, most, seed):
    cfg = asked(
        max_train_samples=3 * most, max_per_speaker=most, max_per_sentence=most, stratify="gender", sampling="random",
        seed=seed,
    )
    assert len({frozenset(taken([*rows], cfg)) for rows in orders}) == 1


def test_a_sample_can_be_divided_by_every_column_that_is_named():
    rows = table([("a", "Ada", "Yes.", "female", 1.0, 1, 0), ("b", "Bo", "No.", "male", 1.0, 1, 0)])
    for column in STRATA:
        assert column in ROWS.names
        about = choose(rows, "train", asked(max_train_samples=1, stratify=column)).about
        assert about["groups"]["by"] == [column] and about["taken"] == 1


# ---- shares and hours

@quick
@given(corpora, st.floats(0.01, 1), ways, seeds)
def test_a_share_is_that_share_of_the_rows_and_one_at_least(rows, share, how, seed):
    chosen = choose(table(rows), "train", asked(max_train_share=share, sampling=how, seed=seed))
    assert len(chosen.rows) <= max(1, share * len(rows)) < len(chosen.rows) + 1 or not rows
    assert accounted(rows, chosen)


@quick
@given(corpora, st.floats(0.5, 200), ways, st.sampled_from(["", "gender"]), seeds)
@example([("a", "", "No!", "", 45.0, None, None)], 1.0, "first", "", 0)
def test_hours_are_never_exceeded_and_one_row_more_would(rows, seconds, how, by, seed):
    cfg = asked(max_train_hours=seconds / 3600, stratify=by, sampling=how, seed=seed)
    chosen = choose(table(rows), "train", cfg)
    kept = [s for s in chosen.rows["seconds"].to_pylist() if s <= cfg.max_seconds]  # the others will be rejected
    assert sum(kept) <= seconds + 1e-3 and accounted(rows, chosen)
    assert chosen.about["hours"]["seconds"] == pytest.approx(sum(kept))
    if len(chosen.rows) < len(rows): assert sum(kept) + 29 > seconds


@quick
@given(corpora, row, st.floats(0.5, 200), seeds)
def test_a_row_more_brings_no_other_row_into_a_sample_by_hours(rows, new, seconds, seed):
    assume(new[0] not in {r[0] for r in rows})
    cfg = asked(max_train_hours=seconds / 3600, sampling="random", seed=seed)
    assert taken([*rows, new], cfg) - taken(rows, cfg) <= {new[0]}


@quick
@given(corpora, st.floats(0.5, 200), few, st.floats(0.01, 1), seeds)
def test_of_several_maxima_all_hold(rows, seconds, most, share, seed):
    one = [
        taken(rows, asked(sampling="random", seed=seed, **maximum))
        for maximum in (
            dict(max_train_hours=seconds / 3600), dict(max_train_samples=most), dict(max_train_share=share)
        )
    ]
    cfg = asked(
        max_train_hours=seconds / 3600, max_train_samples=most, max_train_share=share, sampling="random", seed=seed
    )
    assert taken(rows, cfg) == min(one, key=len)


@settings(deadline=None, max_examples=25)
@given(corpora, st.floats(0.5, 200), st.sampled_from(["", "gender"]), seeds)
def test_hours_of_audio_that_is_elsewhere_are_those_of_a_corpus_that_gives_them(rows, seconds, by, seed):
    "What is fetched is measured, and the choice made again, until nothing in it is a guess."
    cfg = asked(max_train_hours=seconds / 3600, stratify=by, sampling="random", seed=seed)
    all_rows = table(rows)
    without = all_rows.set_column(all_rows.column_names.index("seconds"), "seconds", pa.nulls(len(rows), pa.float64()))
    fetched = []

    class Elsewhere(Remote):
        def fetch_bytes(self, chosen, whole): return 0
        def fetch(self, chosen, whole):
            "As if the headers of what is fetched said how long it lasts."
            fetched.append(len(chosen))
            there = all_rows.take(pc.index_in(chosen["id"], value_set=all_rows["id"].combine_chunks()))
            return chosen.set_column(chosen.column_names.index("seconds"), "seconds", there["seconds"]), []

    def selected(corpus):
        choice = choose(corpus.rows, "train", cfg)
        counts = {"train": len(corpus.rows), "eval": 0}
        return Selection(choice.rows, none, choice.rejects, counts, sampling={"train": choice.about})

    none = all_rows.slice(0, 0)
    got = fetch_audio(Corpus(without, rejects_table([]), {}, Elsewhere()), selected)
    assert {*got.train["id"].to_pylist()} == taken(rows, cfg)
    assert "guesses" not in got.sampling["train"]["hours"]["from"] and len(fetched) <= len(rows) + 2


# ---- votes, the longest first

@quick
@given(corpora, st.none() | few, st.none() | st.integers(0, 3))
def test_rows_without_votes_stay_and_the_others_have_enough(rows, least, most):
    cfg = asked(min_up_votes=least, max_down_votes=most)
    stay, gone = with_votes(table(rows), cfg)
    good = [
        r[0]
        for r in rows
        if not (least is not None and r[5] is not None and r[5] < least)
        and not (most is not None and r[6] is not None and r[6] > most)
    ]
    assert stay["id"].to_pylist() == good and len(good) + len(gone) == len(rows)
    assert all(detail for detail in gone["detail"].to_pylist())


@quick
@given(corpora, few, seeds)
def test_the_longest_come_first_and_they_are_the_same_rows(rows, most, seed):
    cfg = asked(max_train_samples=most, sampling="random", seed=seed)
    chosen = choose(table(rows), "train", asked(max_train_samples=most, sampling="random", seed=seed, order="longest"))
    assert {*ids(chosen)} == taken(rows, cfg)
    seconds = chosen.rows["seconds"].to_pylist()
    assert seconds == sorted(seconds, reverse=True)
    assert longest_first(chosen.rows)["id"].to_pylist() == ids(chosen)


# ---- lengths

def written(**kind):
    "A noisy second and a half as a file."
    out = io.BytesIO()
    wave = np.random.default_rng(1).normal(0, 0.1, 24_000).astype("float32")
    sf.write(out, wave, 16_000, **kind)
    return out.getvalue()


FORMATS = {
    "wav": dict(format="WAV"),
    "wav, 24 bits": dict(format="WAV", subtype="PCM_24"),
    "wav, float": dict(format="WAV", subtype="FLOAT"),
    "wav, extensible": dict(format="WAVEX"),
    "wav, u-law": dict(format="WAV", subtype="ULAW"),
    "flac": dict(format="FLAC"),
    "aiff": dict(format="AIFF"),
    "w64": dict(format="W64"),
    "au": dict(format="AU"),
    "ogg": dict(format="OGG"),
    "opus": dict(format="OGG", subtype="OPUS"),
    "mp3": dict(format="MP3"),
    "mp3, variable": dict(format="MP3", bitrate_mode="VARIABLE"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_clip_lasts_as_long_as_it_says_before_it_is_decoded(kind, tmp_path):
    data = written(**FORMATS[kind])
    (tmp_path / "clips").write_bytes(b"before" + data)
    rows = rows_table({"id": ["a"], "file": [str(tmp_path / "clips")], "offset": [6], "size": [len(data)]})
    lengths = Lengths(rows)
    decoded = read_clip(data).seconds
    assert lengths.of(np.arange(1))[0] == pytest.approx(decoded, abs=1e-3)
    assert lengths.sources(np.arange(1)) == {"headers": 1}


@quick
@given(st.sampled_from([*FORMATS]).map(lambda kind: written(**FORMATS[kind])), st.data())
def test_no_bytes_whatever_they_are_end_the_look_at_lengths(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    broken = draw.draw(st.sampled_from([data[:at], data[at:], data[:at] + b"\xff\xff" + data[at + 2 :], b""]))
    assert isinstance(head_seconds(broken[:HEAD], len(broken)), float)
    assert isinstance(counted_seconds(broken), float)


def test_what_says_nothing_is_estimated_by_its_size(tmp_path):
    data = written(format="WAV")
    (tmp_path / "clips").write_bytes(data + bytes(len(data) // 2))
    file = [str(tmp_path / "clips")] * 2
    rows = rows_table({"id": ["a", "b"], "file": file, "offset": [0, len(data)], "size": [len(data), len(data) // 2]})
    lengths = Lengths(rows)
    assert lengths.of(np.arange(2)) == pytest.approx([1.5, 0.75], abs=0.01)
    assert lengths.sources(np.arange(2)) == {"headers": 1, "sizes": 1}


# ---- what is written down

ODD = "<script>*bold*\n\x1b[31m | `x`"


def test_what_could_not_be_met_is_said_and_no_value_of_a_corpus_is_markup():
    rows = [(f"c{i}", "", "Yes.", ODD if i else "male", 2.0, None, None) for i in range(9)]
    cfg = asked(max_train_samples=6, stratify="gender", stratify_shares="equal", min_up_votes=2, max_train_hours=9)
    about = {"train": choose(table(rows), "train", cfg).about}
    check_sampled(json.loads(json.dumps(about)))
    notes = " ".join(sampled_notes(about))
    assert "of 3 rows each, gender male has 1" in notes and "no more" not in notes
    assert "6 rows of train give no votes" in notes
    assert "of the 9.00 h of train asked for, 12.0 s were chosen (clips" in notes
    rows = [(f"c{i}", "", "Yes.", "male" if i else ODD, 2.0, None, None) for i in range(9)]
    about = {"train": choose(table(rows), "train", asked(**{**FOUR, "max_train_samples": 6})).about}
    card = sampled_list(about)
    assert "\x1b" not in card and "<script>" not in card and "*bold*" not in card and card.count("\n") == 0
    assert all("\n" not in note and "\x1b" not in note for note in sampled_notes(about))


FOUR = dict(stratify="gender", stratify_shares="equal")


@pytest.mark.parametrize(
    "change",
    [
        {"taken": -1},
        {"rows": True},
        {"rows": 1 << 60},
        {"more": 1},
        {"hours": {"asked": "many"}},
        {"hours": 3},
        {"groups": []},
        {"voteless": 1.5},
    ],
)
def test_a_folder_says_nothing_of_its_sample_that_no_run_wrote(change):
    rows = [(f"c{i}", "", "Yes.", "male", 2.0, None, None) for i in range(9)]
    about = choose(table(rows), "train", asked(max_train_hours=0.001, **FOUR)).about
    check_sampled({"train": about})
    with pytest.raises(ValueError, match="^sampling.train must be"): check_sampled({"train": about | change})
    for wrong in ([], "x", {"test": about}, None):
        with pytest.raises(ValueError, match="^sampling must be"): check_sampled(wrong)


# ---- a run

@pytest.mark.long
def test_workers_and_jobs_choose_the_same_rows_and_write_the_same_folder(tmp_path):
    from audio_ft_prep import prepare
    from audio_ft_prep.pipeline import merge
    from audio_ft_prep.run import Part
    settings = dict(
        max_train_hours=0.012, stratify="gender,age", stratify_shares="equal", max_per_speaker=4, min_up_votes=2,
        sampling="random", storage="audio", shard_rows=4,
    )
    folders = {}
    for name, workers, part in (("one", 1, None), ("two", 2, None), ("a", 1, Part(0, 2)), ("b", 1, Part(1, 2))):
        cfg = PrepConfig("sample", "it", output_dir=str(tmp_path / name), num_workers=workers, **settings)
        folders[name] = prepare(cfg, progress=False, part=part).folder
    merged = merge([folders["a"], folders["b"]], tmp_path / "merged").folder
    preps = [json.loads((folder / "prep.json").read_text()) for folder in (folders["one"], folders["two"], merged)]
    assert preps[0]["sampling"]["train"]["hours"]["seconds"] <= 0.012 * 3600
    for other in preps[1:]:
        assert other["hash"] == preps[0]["hash"] and other["sampling"] == preps[0]["sampling"]
        assert other["counts"] == preps[0]["counts"]
    assert "## Sampling" in (merged / "README.md").read_text()


@quick
@given(corpora, few)
def test_eval_keeps_rows_whatever_their_votes_where_it_is_asked_to(rows, least):
    split = pa.array(["eval"] * len(rows), pa.string()).cast(ROWS.field("split").type)
    of_eval = table(rows).set_column(ROWS.get_field_index("split"), ROWS.field("split"), split)
    stay, gone = with_votes(of_eval, asked(min_up_votes=least, keep_eval=True))
    assert len(stay) == len(rows) and not len(gone)
    assert len(with_votes(table(rows), asked(min_up_votes=least, keep_eval=True))[1]) == sum(
        r[5] is not None and r[5] < least for r in rows)
