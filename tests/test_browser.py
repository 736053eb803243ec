"The browser of clips: what is wrong with a clip is said with what to do, and nothing that goes wrong leaves another clip in its place."
import logging, re, time, unicodedata
from html import unescape

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("ipywidgets", reason="ipywidgets is not installed")

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.browser import (
    KEPT, UNFLAGGED, ClipBrowser, ClipList, clip_html, corpus_clips, find_clips, findings_html, prepared_clips)
from audio_ft_prep.browsing import Browsing, bars_of
from audio_ft_prep.flags import FLAGS
from audio_ft_prep.views import ClipView, PreparedClips
from audio_ft_prep.report import clips_at_the_edges
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.widgets import PrepForm
from conftest import SAMPLE, tar_clips, write_corpus
from layouts import LAYOUTS, tar_tree, utterances


def test_a_speaker_is_found_alone_and_the_beginning_of_a_name_where_there_is_none_of_it():
    names = ["19", "198", "1988", None]
    table = pa.table(
        {
            "split": ["train"] * 4,
            "id": list("abcd"),
            "speaker": names,
            "sentence": ["x"] * 4,
            "reason": pa.nulls(4, pa.string()),
            "detail": [""] * 4,
            "seconds": [1.0] * 4,
        }
    )
    assert [list(find_clips(table, speaker=s)) for s in ("19", "198", "1", "2")] == [[0], [1], [0, 1, 2], []]


def test_words_are_found_however_their_accents_are_written_and_whatever_blanks_are_around_them():
    said = [unicodedata.normalize(form, "Perch\u00e9 no?") for form in ("NFC", "NFD")]
    table = pa.table(
        {
            "split": ["train"] * 2,
            "id": list("ab"),
            "speaker": [""] * 2,
            "sentence": said,
            "reason": pa.nulls(2, pa.string()),
            "detail": [""] * 2,
            "seconds": [1.0] * 2,
        }
    )
    for words in (*said, " perch\u00e9 ", "perche\u0301"): assert list(find_clips(table, words=words)) == [0, 1]


def test_a_sentence_of_thousands_of_labels_is_shown_by_its_beginning_and_nobody_complains(tmp_path):
    (data, *_) = tar_clips(SAMPLE, "it", "train").values()
    root, heard = (
        write_corpus(tmp_path / "corpus", {"train": [("good", data, "una frase"), ("long", data, "parola " * 700)]}),
        [],
    )
    cfg = PrepConfig(
        str(root), "it", train_splits="train", eval_splits="", output_dir=str(tmp_path / "out"), num_workers=1
    )
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("transformers").addHandler(listener)
    try:
        for clips in (corpus_clips(cfg), prepared_clips(prepare(cfg, progress=False))):
            at = int(find_clips(clips.table, reason="label_too_long")[0])
            shown = clip_html(clips, at)
            assert f" and {len(clips.open(at).labels) - 450:,} more" in shown and shown.count("<span") < 460
            assert " more</div>" not in clip_html(clips, int(find_clips(clips.table, words="una frase")[0]))
    finally: logging.getLogger("transformers").removeHandler(listener)
    assert heard == []


def test_a_fault_that_is_found_on_opening_has_its_remedy():
    clips = corpus_clips(PrepConfig("sample", "it", max_seconds=2.0))
    first = next(
        i
        for i in range(len(clips))
        if clips.table["reason"][i].as_py() is None and clips.open(i).reason == "too_long"
    )
    shown = clip_html(clips, first)
    assert (
        "Rejected: too long." in shown
        and "s over max_seconds 2" in shown
        and REASONS["too_long"].remedy in shown
        and "<audio" in shown
        and "<img" in shown
    )


def test_a_reject_that_cannot_be_decoded_plays_as_it_is_and_has_its_labels(prepared):
    clips = prepared_clips(prepared())
    for reason in ("truncated", "silent"):
        shown = clip_html(clips, int(find_clips(clips.table, reason=reason)[0]))
        assert '<audio' in shown and "data:audio/mpeg" in shown and "<img" not in shown and "&lt;|it|&gt;" in shown
    assert "<audio" not in clip_html(clips, int(find_clips(clips.table, reason="missing_audio")[0]))


def test_a_row_that_names_a_kept_clip_again_is_not_shown_with_that_clips_words(prepared):
    clips = prepared_clips(prepared())
    (i,) = find_clips(clips.table, reason="duplicate_row")
    listed, opened = clips.table.slice(int(i), 1).to_pylist()[0], clips.open(int(i))
    kept = next(r for r in clips.table.to_pylist() if r["id"] == listed["id"] and r["reason"] is None)
    assert (
        (listed["sentence"], listed["speaker"], opened.sentence, opened.labels) == (None, None, "", [])
        and kept["sentence"]
        and kept["speaker"]
    )
    assert "not on record" in clip_html(clips, int(i)) and "<audio" in clip_html(clips, int(i))


@pytest.mark.parametrize("layout", ["hub_tar_tree", "hub_parquet", "parquet_folder"])
def test_a_corpus_whose_audio_is_elsewhere_has_no_bad_clips_for_it(hub, tmp_path, layout):
    clips = corpus_clips(PrepConfig(str(LAYOUTS[layout](tmp_path / "x", utterances())), "it"))
    views = [clips.open(i) for i in range(len(clips))]
    assert [v.reason for v in views] == [""] * 12 and all(v.labels for v in views)
    assert {v.note for v in views} == ({""} if layout == "parquet_folder" else {"its audio has not been fetched yet"})


def test_a_clip_that_cannot_be_shown_says_so_in_its_place(prepared):
    clips = prepared_clips(prepared())
    def opened(i):
        if i == 1: raise OSError("the disk <is> away")
        return clips.open(i)
    browser = ClipBrowser(ClipList(clips.table, opened, clips.tokenizer))
    before = browser.shown.value
    browser.list.index = 1
    assert (
        "This clip can&#x27;t be shown: the disk &lt;is&gt; away" in browser.shown.value
        and clips.table["id"][0].as_py() not in browser.shown.value
    )
    browser.list.index = 0
    assert browser.shown.value == before


def test_a_folder_at_a_url_and_one_whose_corpus_has_moved_are_leafed_through(tmp_path):
    root = tar_tree(tmp_path / "corpus", utterances())
    made = prepare(PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    assert ClipBrowser(f"local://{made.folder}").shown.value == ClipBrowser(made).shown.value
    root.rename(tmp_path / "moved")
    assert (
        "<audio" not in ClipBrowser(made).shown.value
        and "<audio" in ClipBrowser(made, corpus=tmp_path / "moved").shown.value
    )
    with pytest.raises(
        ValueError,
        match=(
            "corpus is for a prepared folder whose corpus has moved, got elsewhere beside a PrepConfig: leave it out"
        ),
    ):
        ClipBrowser(PrepConfig("sample", "it"), corpus="elsewhere")


def test_a_sentence_runs_its_own_way_and_the_whole_is_as_long_as_the_model_sees():
    view = ClipView("a", "train", "\u0645\u0631\u062d\u0628\u0627 <b>", "", [], 16000)
    table = pa.table(
        {
            "split": ["train"],
            "id": ["a"],
            "speaker": [""],
            "sentence": [view.sentence],
            "reason": pa.nulls(1, pa.string()),
            "detail": [""],
            "seconds": [1.0],
        }
    )
    browser = ClipBrowser(ClipList(table, lambda i: view, None, 20.0))
    assert f'<div dir="auto" style="font-size: 1.15em">{view.sentence[:-3]}&lt;b&gt;</div>' in browser.shown.value
    assert (
        browser.filters["whole"].description == "draw all 20 s that the model sees"
        and '<td dir="auto"' in browser._repr_mimebundle_()["text/html"]
    )


def test_a_saved_page_says_how_many_of_how_many_it_lists_and_by_which_filters(prepared):
    browser = ClipBrowser(prepared_clips(prepared()))
    said = lambda: browser._repr_mimebundle_()["text/html"]
    total = len(browser.places)
    assert (
        f"<p>1 to 8 of {total} clips (filters: split: train and eval; show: every clip ({total}); flag: flagged or"
        " not; speaker: any; words: any)</p>"
        in said()
        and said().count("<tr>") == 9
    )
    heads = re.findall(r"<th [^>]*>(.*?)</th>", said())
    assert heads == ["clip", "split", "kept or why not", "sentence"]
    browser.filters["reason"].value = "truncated"
    assert "<p>1 to 1 of 1 clips" in said() and "show: truncated (1)" in said() and ">truncated</td>" in said()
    browser.filters["words"].value = "<nobody> says this"
    assert (
        "<p>no clip answers this (filters: " in said()
        and "words: &lt;nobody&gt; says this)" in said()
        and "<td" not in said()
    )


def test_clips_that_were_chosen_come_first_with_what_is_special_about_them(prepared):
    edges = clips_at_the_edges(prepared())
    browser = ClipBrowser(prepared(), clips=edges)
    assert len(browser.places) == len(edges) and browser.filters["reason"].label == f"chosen ({len(edges)})"
    (split, number), words = next(iter(edges.items()))
    first = PreparedClips(prepared())(split, number).id
    assert any(line.startswith(first) and words in line for line, _ in browser.list.options)
    browser.filters["reason"].value = KEPT
    assert len(browser.places) > len(edges)
    by_id = ClipBrowser(prepared(), clips=[first])
    assert [by_id.clips.table["id"][int(i)].as_py() for i in by_id.places] == [first]
    for wrong in (["nobody"], {("train", 9999): "far"}, [("dev", 0)]):
        with pytest.raises(ValueError, match="clips must name clips that are listed"):
            ClipBrowser(prepared(), clips=wrong)


def test_what_is_loading_is_said_and_what_stands_there_is_marked_until_then(prepared):
    browser, seen = ClipBrowser(prepared()), []
    name = lambda: browser.clips.table["id"][int(browser.places[1])].as_py()
    look = browser.clips.open
    def slow(i):
        seen.append((browser.sign.value, "prep-stale" in browser.shown._dom_classes))
        return look(i)
    object.__setattr__(browser.clips, "open", slow)
    browser.list.index = 1
    assert (
        seen == [(f"<i>Loading {name()} \u2026</i>", True)]
        and browser.sign.value == ""
        and "prep-stale" not in browser.shown._dom_classes
    )
    browser.filters["split"].value = "eval"
    assert len(seen) == 2 and seen[1][1] and browser.sign.value == ""
    browser.filters["words"].value = "nobody says this"
    assert browser.shown.value == "" and browser.sign.value == ""


def test_rows_beyond_a_maximum_are_not_shown_as_rejected():
    clips = corpus_clips(PrepConfig("sample", "it", max_train_samples=3))
    shown = clip_html(clips, int(find_clips(clips.table, reason="not_sampled")[0]))
    assert "Not chosen." in shown and "Rejected" not in shown and "prep-bad" not in shown and "<audio" in shown


def test_a_reject_whose_corpus_has_moved_says_why_sound_and_sentence_are_missing(tmp_path):
    root = tar_tree(tmp_path / "corpus", utterances())
    (root / "audio/it/train").mkdir(exist_ok=True)
    made = prepare(
        PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1, max_train_samples=1),
        progress=False,
    )
    root.rename(tmp_path / "moved")
    clips = prepared_clips(made)
    shown = clip_html(clips, int(find_clips(clips.table, reason="not_sampled")[0]))
    assert "no sound and no sentence: the corpus it was made of is not on this machine" in shown
    again = prepared_clips(made, tmp_path / "moved")
    assert "<audio" in clip_html(again, int(find_clips(again.table, reason="not_sampled")[0]))


HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp\x07"
@pytest.mark.parametrize("field", ["id", "speaker", "sentence", "detail", "note"])
def test_text_of_a_corpus_is_shown_and_does_nothing(field):
    said = {
        "id": "a",
        "split": "train",
        "sentence": "frase",
        "speaker": "s",
        "detail": "d",
        "note": "n",
        field: HOSTILE,
    }
    view = ClipView(**said, labels=[], rate_hz=16000, reason="truncated")
    table = pa.table(
        {
            **{k: [said[k]] for k in ("split", "id", "speaker", "sentence", "detail")},
            "reason": ["truncated"],
            "seconds": [1.0],
        }
    )
    browser = ClipBrowser(ClipList(table, lambda i: view, None))
    shown = [browser.shown.value, browser._repr_mimebundle_()["text/html"], *(line for line, _ in browser.list.options)]
    assert (
        not any(set(s) & set("\x1b\u202e\x07") for s in shown)
        and not any("<img" in s for s in shown[:2])
        and "&lt;img" in shown[0]
    )
    assert all(s == "s" for s in browser.filters["speaker"].options)


def test_a_saved_browser_says_what_to_do_to_use_it_and_players_have_names(prepared):
    browser = ClipBrowser(prepared())
    page = browser._repr_mimebundle_()["text/html"]
    first = browser.clips.table["id"][int(browser.places[0])].as_py()
    assert "Run the cell again" in page and f'<audio aria-label="sound of {first}"' in browser.shown.value


def measured_list(n=200, open=lambda i: ClipView(f"c{i}", "train", "frase", "s", [], 16000)):
    "Clips with a measure that rises, every tenth of them flagged, and a reject of which nothing was measured."
    flags = [["low_snr", "gap"] if i % 10 == 0 else [] for i in range(n)] + [None]
    text = {name: ["train"] * (n + 1) for name in ("split", "speaker", "sentence")}
    table = pa.table({
        **text,
        "id": [f"c{i}" for i in range(n + 1)],
        "reason": pa.array([None] * n + ["silent"], pa.string()),
        "detail": [""] * (n + 1),
        "seconds": [2.0] * n + [None],
        "dynamics_db": pa.array([*map(float, range(n)), None], pa.float32()),
        "flags": pa.array(flags, pa.list_(pa.string())),
    })
    return ClipList(table, open, None, 30.0, {"flag_low_snr": 15.0})


def ids(browser): return [browser.clips.table["id"][int(i)].as_py() for i in browser.places]


def test_clips_are_found_by_flag_ordered_by_a_measure_and_parted_by_a_threshold():
    browser = ClipBrowser(measured_list())
    labels = [label for label, _ in browser.filters["flag"].options]
    assert labels == ["flagged or not", "any flag (20)", "no flag (180)", "gap (20)", "low snr (20)"]
    browser.filters["flag"].value = "low_snr"
    assert ids(browser) == [f"c{i}" for i in range(0, 200, 10)] and "low_snr gap" in browser.list.options[0][0]
    browser.filters["flag"].value = UNFLAGGED
    assert len(browser.places) == 180
    browser.filters["flag"].value = ""
    browser.measuring["measure"].value = "dynamics_db"
    assert browser.measuring["threshold"].value == 15.0 and browser.state.words == (
        "15 clips (30.0 s) below 15, 185 clips (6.2 min) from 15 up, 1 not measured"
    )
    browser.measuring["order"].value = "highest first"
    assert ids(browser)[0] == "c199" and ids(browser)[-1] == "c200", "what was not measured comes last"
    browser.measuring["only"].value = "below"
    browser.measuring["slider"].value = 3.0
    assert ids(browser) == ["c2", "c1", "c0"] and browser.count.value == "1 to 3 of 3"
    browser.measuring["threshold"].value = 500.0
    assert browser.measuring["slider"].max >= 500 and len(browser.places) == 200
    browser.measuring["measure"].value = ""
    assert len(browser.places) == 201 and browser.spread.layout.display == "none"


def test_a_threshold_is_written_into_the_form_and_what_the_form_refuses_is_said():
    form = PrepForm(dataset_name="sample", language="Italian")
    browser = ClipBrowser(measured_list(), form=form)
    browser.look_at("dynamics_db")
    browser.part(22.5)
    (button,) = browser.setters.children
    button.click()
    assert form.value.flag_low_snr == 22.5 and "flag_low_snr is 22.5 in the form now" in browser.set_note.value
    browser.look_at("seconds")
    assert [b.description for b in browser.setters.children] == [
        "Set max_seconds in the form", "Set min_seconds in the form"
    ]
    browser.part(4500.0)
    browser.set_threshold("max_seconds")
    assert "max_seconds must be above 0, and 1200 at most" in browser.set_note.value
    alone = ClipBrowser(measured_list())
    alone.look_at("dynamics_db")
    assert alone.setters.children == () and "--flag-low-snr=15" in alone.sides.value
    with pytest.raises(ValueError, match="there is no form to write into"): alone.set_threshold("flag_low_snr")


def test_sides_are_those_of_the_flags_and_a_million_clips_are_parted_at_once():
    values = np.random.default_rng(0).integers(0, 500, 1_000_000) / 10
    table = pa.table({"dynamics_db": pa.array(values), "seconds": pa.array(np.full(len(values), 3.6))})
    state = Browsing(table)
    state.look_at("dynamics_db")
    began = time.process_time()
    for at in np.linspace(0, 50, 100):
        parted = state.spread.sides(at, "below")
        assert parted.clips + parted.clips_above == 1_000_000
    assert time.process_time() - began < 5
    state.part(25.0)
    state.only = "below"
    assert len(state.numbers) == (values < 25.0).sum() == state.spread.sides(25.0, "below").clips
    assert (values <= 25.0).sum() == state.spread.sides(25.0, "above").clips
    assert bars_of(state.spread, -7.0).counts.sum() == 1_000_000


@pytest.mark.parametrize("values", [[], [None], [3.0], [3.0, 3.0], [float("nan"), 1.0], [-0.2, 0.1]])
def test_a_measure_of_few_values_is_drawn_or_left_out(values):
    table = pa.table({"dc": pa.array(values, pa.float32()), "seconds": pa.array([1.0] * len(values), pa.float64())})
    state = Browsing(table)
    for measure in state.measures:
        state.look_at(measure)
        reach = state.reach
        assert reach.first < reach.last and reach.step > 0 and len(state.numbers) == len(values)
        assert "clip" in state.words and ("<span" in state.picture) == bool(len(state.spread))


def test_flags_of_another_release_are_shown_as_text():
    shown = findings_html({"flags": [HOSTILE, "gap"], "peak": 0.5, "dc": 0.25})
    assert "<img" not in shown and "&lt;img" in shown and "\x1b" not in shown
    assert FLAGS["gap"].remedy in unescape(shown) and "peak 0.5; dc 0.25" in shown
