"Error rates are jiwer's, of text that each kind of model wrote, and every clip's counts are kept."
import json, logging
from types import SimpleNamespace

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep.metrics import COUNTS, error_rate, score_texts, speech_metrics, text_normalizer

WORDS = st.lists(st.sampled_from(["ciao", "Ciao,", "è", "e", "già", "a b", "", "…"]), max_size=5).map(" ".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_a_corpus_has_jiwers_error_rates(pairs):
    said, written = map(list, zip(*pairs))
    score = score_texts(said, written, "it")
    plain = text_normalizer("it")
    for rate, measure, texts in (
        (score.wer, jiwer.wer, [list(map(plain, t)) for t in (said, written)]),
        (score.cer, jiwer.cer, [list(map(plain, t)) for t in (said, written)]),
        (score.wer_raw, jiwer.wer, [said, written]),
    ):
        if any(t.split() for t in texts[0]): assert rate == pytest.approx(measure(*texts), abs=1e-12)
        else: assert np.isnan(rate)


@settings(max_examples=40)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_the_counts_of_clips_add_up_to_jiwers(pairs):
    said, written = map(list, zip(*pairs))
    counts = score_texts(said, written, "it").counts("raw")
    whole = jiwer.process_words(said, written)
    assert counts.sum(axis=0).tolist() == [getattr(whole, name) for name in COUNTS]
    assert counts[:, :3].sum(axis=1).tolist() == [len(s.split()) for s in said]


def test_empty_texts_are_counted_and_nothing_ends_the_evaluation():
    got = score_texts(["", "…", "sì", "no"], ["", "grazie mille", "", "no"], "it").metrics
    assert got["empty_references"] == 2 and got["empty_hypotheses"] == 2
    assert got["words"] == 2 and got["wer"] == 1.5  # two put in, one left out, of two that were said
    nothing = score_texts([], [], "it").metrics
    assert nothing["clips"] == nothing["words"] == 0 and np.isnan(nothing["wer"])


@pytest.mark.parametrize(
    "language, name, text",
    [
        ("en", "EnglishTextNormalizer without spellings", "it will not cost $5"),
        ("English", "EnglishTextNormalizer without spellings", "it will not cost $5"),
        ("de-DE", "BasicTextNormalizer", "it won t cost 5"),
        ("", "BasicTextNormalizer", "it won t cost 5"),
        ("zh-CN", "BasicTextNormalizer(split_letters=True)", "i t w o n t c o s t 5"),
    ],
)
def test_the_normaliser_follows_the_language_and_is_named(language, name, text):
    normalizer = text_normalizer(language)
    assert normalizer.name == name and normalizer("It won't cost [cough] $5") == text
    assert score_texts(["a"], ["a"], language).metrics["normalizer"] == name


def test_british_spelling_is_levelled_where_the_processor_brings_the_list():
    tokenizer = SimpleNamespace(
        batch_decode=None, pad_token_id=0, language="english", english_spelling_normalizer={"colour": "color"}
    )
    metrics = speech_metrics(SimpleNamespace(tokenizer=tokenizer))
    assert metrics.normalizer.name == "EnglishTextNormalizer" and metrics.normalizer("Colour") == "color"


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    "A CTC tokenizer of a few letters, whose padding, the blank, isn't its first."
    from transformers import Wav2Vec2CTCTokenizer
    folder = tmp_path_factory.mktemp("letters")
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(["a", "b", "c", "|", "<unk>", "<pad>"])}))
    return Wav2Vec2CTCTokenizer(
        folder / "vocab.json", bos_token=None, eos_token=None, unk_token="<unk>", pad_token="<pad>"
    )


def as_logits(rows, tokenizer, width):
    "Numbers for each token and frame, of which the given ones are the best; what is behind them as a trainer fills it."
    logits = np.full((len(rows), width, len(tokenizer)), -100, np.float32)
    for row, ids in zip(logits, rows):
        row[:len(ids)] = -1
        row[np.arange(len(ids)), ids] = 1
    return logits


def test_ctc_logits_are_read_as_the_tokenizer_reads_the_best_tokens(letters):
    import torch
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 6, n) for n in (30, 12, 1)]
    for ids in rows: ids[-1] = 1  # not the token that a trainer's padding would be taken for
    logits = as_logits(rows, letters, 30)
    labels = np.array([[0, 0, 3, 1], [2, -100, -100, -100], [4, -100, -100, -100]])
    want = [letters.decode(ids).replace("<unk>", "").strip() for ids in rows]
    assert want[0] != letters.decode(rows[0], skip_special_tokens=True)  # which leaves out blanks before it groups
    metrics = speech_metrics(letters)
    metrics(SimpleNamespace(predictions=logits, label_ids=labels))
    assert metrics.clips["hypothesis"].to_pylist() == want
    assert metrics.clips["reference"].to_pylist() == ["aa b", "c", ""]  # repeated letters of a label stay
    ids = metrics.preprocess_logits((torch.from_numpy(logits), None), None)
    assert ids.shape == (3, 30) and not ids.is_floating_point()
    metrics(SimpleNamespace(predictions=ids.numpy(), label_ids=labels))
    assert metrics.clips["hypothesis"].to_pylist() == want


def test_letters_that_a_vocabulary_lacks_count_where_the_data_is_given(letters):
    data = {"id": ["x"], "sentence": ["abc z"]}
    labels = np.array([[0, 1, 2, 3, 4]])
    logits = as_logits([[0, 1, 2]], letters, 3)
    prediction = SimpleNamespace(predictions=logits, label_ids=labels)
    assert speech_metrics(letters)(prediction)["wer"] == 0
    assert speech_metrics(letters, data=data)(prediction)["wer"] == 0.5


def test_clips_in_another_order_than_the_data_get_no_ids(letters, caplog):
    data = {"id": ["x", "y"], "sentence": ["a", "b"]}
    metrics = speech_metrics(letters, data=data)
    for labels, ids in (([[0], [1]], ["x", "y"]), ([[1], [0]], ["0", "1"]), ([[1]], ["0"])):
        prediction = SimpleNamespace(predictions=np.array(labels), label_ids=np.array(labels))
        with caplog.at_level(logging.WARNING): metrics(prediction)
        assert metrics.clips["id"].to_pylist() == ids and metrics.score.wer == 0
    assert caplog.text.count("have numbers in place of ids") == 2


def test_a_rate_is_of_all_words_not_a_mean_of_clips():
    counts = score_texts(["uno", "uno due tre"], ["due", "uno due tre"]).counts()
    assert error_rate(counts) == 0.25


def test_what_pads_labels_and_ids_is_no_text():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    words = Tokenizer(models.WordLevel({"<pad>": 0, "uno": 1, "due": 2}, unk_token="<pad>"))
    metrics = speech_metrics(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"))
    ids = np.array([[1, 2, -100], [2, -100, -100]])
    assert metrics(SimpleNamespace(predictions=ids, label_ids=ids))["wer"] == 0
    assert metrics.clips["reference"].to_pylist() == ["uno due", "due"]
