"Which rows are prepared depends on the corpus, the config and the seed, and on nothing else; what leaves is on record."
from collections import Counter
from functools import lru_cache

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.load import load_rows
from audio_ft_prep.rows import Corpus, rows_table
from audio_ft_prep.rejects import REJECTS, reason_counts, rejects_table
from audio_ft_prep.sampling import drop, labelled, sample, select, with_sentences, within_budget, without_leaks

light = pytest.mark.light       # module by module elsewhere; here some tests need a tokenizer


def rows_of(ids, split="train", sentences=None):
    n = len(ids)
    places = {"file": ["a.tar"] * n, "offset": range(n), "size": [1] * n, "locale": ["it"] * n}
    split = [split] * n if isinstance(split, str) else split
    return rows_table(
        {
            "id": ids,
            "split": split,
            "source_split": split,
            "sentence": sentences or ["Il treno parte."] * n,
            **places,
        }
    )


def ids_of(table): return table["id"].to_pylist()


ids = st.lists(st.text(max_size=6), max_size=30, unique=True)
maxima = st.none() | st.integers(1, 35)
seeds = st.integers(0, 2**32)
ways = st.sampled_from(["first", "random"])


# ---- a maximum

@light
@settings(deadline=None, max_examples=60)
@given(ids, maxima, ways, seeds)
def test_a_sample_and_its_rejects_are_the_rows(names, most, how, seed):
    rows = rows_of(names)
    kept, left = sample(rows, most, how, seed)
    assert len(kept) == (len(names) if most is None else min(most, len(names)))
    assert (
        Counter(ids_of(kept)) + Counter(ids_of(left)) == Counter(names)
        and kept.schema == rows.schema
        and left.schema == REJECTS
    )
    assert {*left["reason"].to_pylist()} <= {"not_sampled"} and {*left["split"].to_pylist()} <= {"train"}
    assert ids_of(kept) == [n for n in names if n in {*ids_of(kept)}]


@light
@settings(deadline=None, max_examples=60)
@given(ids, st.integers(1, 35), ways, seeds)
def test_the_same_seed_takes_the_same_rows(names, most, how, seed):
    assert sample(rows_of(names), most, how, seed)[0].equals(sample(rows_of(names), most, how, seed)[0])


@light
@settings(deadline=None, max_examples=60)
@given(ids, st.integers(1, 35), st.integers(1, 35), ways, seeds)
def test_a_larger_maximum_contains_the_smaller(names, a, b, how, seed):
    few, more = ({*ids_of(sample(rows_of(names), n, how, seed)[0])} for n in sorted((a, b)))
    assert few <= more


@light
@settings(deadline=None, max_examples=60)
@given(ids.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))), st.integers(1, 35), seeds)
def test_the_order_of_rows_does_not_matter_for_random(orders, most, seed):
    a, b = (ids_of(sample(rows_of([*o]), most, "random", seed)[0]) for o in orders)
    assert {*a} == {*b} and b == [n for n in orders[1] if n in {*a}]


@light
@settings(deadline=None, max_examples=60)
@given(ids, st.text(max_size=6), st.integers(1, 35), seeds)
def test_one_more_row_changes_a_random_sample_by_one_row_at_most(names, new, most, seed):
    assume(new not in names)
    before, after = ({*ids_of(sample(rows_of(o), most, "random", seed)[0])} for o in (names, [*names, new]))
    assert after - before <= {new} and len(before - after) <= 1


@light
@settings(deadline=None, max_examples=60)
@given(ids, st.integers(1, 35), seeds)
def test_first_takes_the_first_rows_in_their_order_whatever_the_seed(names, most, seed):
    assert ids_of(sample(rows_of(names), most, "first", seed)[0]) == names[:most]


@light
def test_another_seed_takes_other_rows_and_every_row_is_taken_by_some_seed():
    names = [f"common_voice_it_{i}" for i in range(20)]
    taken = [frozenset(ids_of(sample(rows_of(names), 5, "random", s)[0])) for s in range(200)]
    assert len({*taken}) > 190
    often = Counter(n for t in taken for n in t)
    assert {*often} == {*names} and 25 <= min(often.values()) and max(often.values()) <= 80       # 50 of 200 is the mean


# ---- dropping, sentences, leaks

@light
@settings(deadline=None, max_examples=60)
@given(ids, st.data())
def test_dropping_keeps_the_others_in_order_and_says_why(names, data):
    places = data.draw(st.lists(st.sampled_from(range(len(names))), unique=True) if names else st.just([]))
    stay, gone = drop(rows_of(names), {i: ("leak", f"seen {i}") for i in places})
    assert ids_of(stay) == [n for i, n in enumerate(names) if i not in places]
    assert list(zip(ids_of(gone), gone["reason"].to_pylist(), gone["detail"].to_pylist())) == [
        (names[i], "leak", f"seen {i}") for i in sorted(places)
    ]


@light
def test_a_reason_that_is_none_of_ours_is_refused():
    with pytest.raises(KeyError, match="a reason is one of"): drop(rows_of(["a"]), {0: ("because", "")})


@light
def test_rows_without_text_leave_and_the_others_are_clean():
    sentences = ["Ciao.", "", None, " \t", "Perche\u0301  no?", "\u2028\u00a0", "NA", "-"]
    names = [f"c{i}" for i in range(len(sentences))]
    rows, empty = with_sentences(rows_of(names, sentences=sentences))
    assert dict(zip(ids_of(rows), rows["sentence"].to_pylist())) == {
        "c0": "Ciao.",
        "c4": "Perché no?",
        "c6": "NA",
        "c7": "-",
    }
    assert ids_of(empty) == ["c1", "c2", "c3", "c5"] and {*empty["reason"].to_pylist()} == {"empty_sentence"}
    assert with_sentences(rows_of(["a"], sentences=["Il Treno"]), lower_case=True)[0]["sentence"].to_pylist() == [
        "il treno"
    ]


def test_a_sentence_beyond_any_label_leaves_before_it_is_tokenized():
    sentences = [
        "Ciao.",
        "e" + "\u0301\u0323" * 500_000,
        "uno " * 300_000,
        "\u200b" * 1_000_000,
        "a" * 20_000,
        "\u200b",
    ]
    names = [f"c{i}" for i in range(len(sentences))]
    rows, gone = with_sentences(rows_of(names, sentences=sentences))
    assert ids_of(rows) == ["c0", "c4"] and len(rows) + len(gone) == len(sentences)
    reasons = dict(zip(ids_of(gone), gone["reason"].to_pylist()))
    assert reasons == {"c1": "label_too_long", "c2": "label_too_long", "c3": "label_too_long", "c5": "empty_sentence"}
    assert "1,199,999 characters, 20,000 at most are tokenized" in gone["detail"].to_pylist()


@light
@settings(deadline=None, max_examples=80)
@given(st.lists(st.text("abcd", max_size=2), max_size=12), st.lists(st.text("abcd", max_size=2), max_size=12))
@example([], [])
@example(["a"], [])
@example([], ["a"])
def test_a_clip_of_eval_is_no_clip_of_train(train, evaluation):
    stay, leaks = without_leaks(rows_of(train), rows_of(evaluation, "eval"))
    assert ids_of(stay) == [n for n in train if n not in evaluation]
    assert ids_of(leaks) == [n for n in train if n in evaluation] and {*leaks["reason"].to_pylist()} <= {"leak"}


# ---- all of it

@lru_cache(maxsize=1)
def whisper():
    "A model and its Italian tokenizer."
    from audio_ft_prep.models import load_model
    from audio_ft_prep.whisper import language_tokenizer
    model = load_model("openai/whisper-small")
    return model, language_tokenizer(model, "it")


LONG = "a" + " a" * 444         # 450 labels with the start token: one too many
FITS = "a" + " a" * 443


def test_labels_within_the_budget_stay_and_longer_ones_leave_uncut():
    model, tokenizer = whisper()
    rows, over = within_budget(rows_of(["fits", "over", "short"], sentences=[FITS, LONG, "Sì."]), model, tokenizer)
    rows = labelled(rows, model, tokenizer, chunk=2)
    assert ids_of(rows) == ["fits", "short"] and [len(l) for l in rows["labels"].to_pylist()][0] == 449
    assert over.to_pylist() == [
        {
            "split": "train",
            "source_split": "train",
            "id": "over",
            "reason": "label_too_long",
            "detail": "449 labels, 448 at most",
        }
    ]
    assert rows["labels"].to_pylist() == tokenizer([FITS, "Sì."]).input_ids


def test_rows_within_the_budget_are_those_whose_labels_are():
    model, tokenizer = whisper()
    rows = rows_of(["fits", "over", "short", "bytes"], sentences=[FITS, LONG, "Sì.", "\U0001f600" * 200])
    kept, gone = within_budget(rows, model, tokenizer)
    lengths = [len(labels) for labels in labelled(rows, model, tokenizer)["labels"].to_pylist()]
    fits = [name for name, n in zip(ids_of(rows), lengths) if n - 1 <= model.max_labels]
    assert len(gone) and ids_of(kept) == fits


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.sampled_from(["Ciao.", "Il treno parte alle otto.", "<|it|> no", "", FITS, LONG]), max_size=8),
    st.sampled_from([1, 3, 10_000]),
)
def test_labels_do_not_depend_on_how_many_are_made_at_a_time(sentences, chunk):
    model, tokenizer = whisper()
    rows = rows_of([f"c{i}" for i in range(len(sentences))], sentences=sentences)
    one, many = (labelled(rows, model, tokenizer, chunk=n) for n in (chunk, 10_000))
    assert one["labels"].to_pylist() == many["labels"].to_pylist()


@st.composite
def corpora(draw):
    "Rows of both splits, some without text, some too long, some in both, and rejects that a reader found."
    clip = st.tuples(
        st.sampled_from([f"c{i}" for i in range(12)]), st.sampled_from(["Ciao.", "Il treno.", " ", LONG, "A <|it|>"])
    )
    parts = {s: draw(st.lists(clip, max_size=10, unique_by=lambda c: c[0])) for s in ("train", "eval")}
    flat = [(s, *c) for s, part in parts.items() for c in part]
    faults = draw(
        st.lists(
            st.tuples(st.sampled_from(["train", "eval"]), st.sampled_from(["missing_audio", "no_row", "bad_row"])),
            max_size=5,
        )
    )
    rows = rows_of([c for _, c, _ in flat], [s for s, _, _ in flat], [t for _, _, t in flat])
    return Corpus(rows, rejects_table([(s, s, f"x{i}", r, "") for i, (s, r) in enumerate(faults)]), {}), parts, faults


@settings(deadline=None, max_examples=60)
@given(corpora(), maxima.map(lambda n: n and min(n, 6)), maxima.map(lambda n: n and min(n, 6)), ways, seeds)
def test_counts_balance_in_each_split_whatever_leaves(made, train, evaluation, how, seed):
    corpus, parts, faults = made
    cfg = PrepConfig("cv", "it", max_train_samples=train, max_eval_samples=evaluation, sampling=how, seed=seed)
    got = select(corpus, cfg, *whisper())
    for split in ("train", "eval"):
        counts = reason_counts(got.rejects, split)
        assert (
            got.rows_in[split]
            == len(parts[split]) + sum(s == split for s, _ in faults)
            == len(got[split]) + sum(counts.values())
        )
        assert {*got[split]["split"].to_pylist()} <= {split}
        texts = Counter(t for _, t in parts[split])
        assert (counts.get("empty_sentence", 0), counts.get("label_too_long", 0)) == (texts[" "], texts[LONG])
        good = [n for n, t in parts[split] if t not in (" ", LONG)]
        if split == "train": good = [n for n in good if n not in {m for m, t in parts["eval"] if t not in (" ", LONG)}]
        most = train if split == "train" else evaluation
        assert len(got[split]) == min(len(good), most or len(good)) and {*ids_of(got[split])} <= {*good}
        assert how == "random" or ids_of(got[split]) == good[:most]
    assert not {*ids_of(got.train)} & {*ids_of(got.eval)}


def test_a_split_that_is_left_out_is_empty_and_balances():
    for kw, empty in ((dict(train_splits=""), "train"), (dict(eval_splits=""), "eval")):
        got = select(load_rows(cfg := PrepConfig("sample", "it", **kw)), cfg, *whisper())
        assert len(got[empty]) == got.rows_in[empty] == 0
        other = {"train": "eval", "eval": "train"}[empty]
        assert got.rows_in[other] == len(got[other]) + sum(reason_counts(got.rejects, other).values()) > 0


def test_labels_of_the_sample_corpus_are_the_tokenizers_own():
    cfg = PrepConfig("sample", "it")
    model, tokenizer = whisper()
    got = select(load_rows(cfg), cfg, model, tokenizer)
    for split in ("train", "eval"):
        sentences = got[split]["sentence"].to_pylist()
        labels = labelled(got[split], model, tokenizer)["labels"].to_pylist()
        assert sentences and labels == [tokenizer(s).input_ids for s in sentences]


@pytest.mark.parametrize("keep_eval", [False, True])
def test_rows_of_eval_with_a_flag_are_on_record_or_kept(keep_eval):
    split = ["train", "train", "eval", "eval"]
    rows = rows_of(["a", "b", "c", "d"], split, ["Uno.", "Sono 12.", "Due.", "Sono 13."])
    corpus = Corpus(rows, rejects_table([]), {"identity": "1"})
    cfg = PrepConfig("cv", "it", reject="digits", keep_eval=keep_eval)
    chosen = select(corpus, cfg, *whisper())
    assert ids_of(chosen.train) == ["a"] and ids_of(chosen.eval) == (["c", "d"] if keep_eval else ["c"])
    assert sorted(ids_of(chosen.rejects)) == (["b"] if keep_eval else ["b", "d"])
    assert chosen.rows_in == {"train": 2, "eval": 2}
