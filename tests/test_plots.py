"Plots that can be read: labelled axes with units, nothing outside the figure, colours that stand apart, the same bytes each time."
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.decoding import over_limit
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.pipeline import Prepared
from audio_ft_prep.planning import plan
from audio_ft_prep.paths import Url
from audio_ft_prep.clips import label_pieces, player, plot_clip, stored_player, tokens_html
from audio_ft_prep.figures import CARD, COLOURS, INK, WIDE
from audio_ft_prep.plots import (
    clip_numbers, plot_durations, plot_labels, plot_rejects, plot_speakers, plot_speech_rate, plot_splits,
    speaker_shares)
from audio_ft_prep.views import ClipView, PreparedClips, corpus_view, row_view
from audio_ft_prep.rows import Corpus, rows_table
from audio_ft_prep.rejects import REASONS, SPARE, rejects_table
from audio_ft_prep.sampling import labelled, select
from audio_ft_prep.whisper import labels_of, language_tokenizer
from layouts import LAYOUTS, tar_tree, utterances

pytestmark = pytest.mark.long

WHOLE = dict(
    durations=plot_durations, rate=plot_speech_rate, labels=plot_labels, speakers=plot_speakers, splits=plot_splits
)


@pytest.fixture(scope="module")
def clips(prepared): return PreparedClips(prepared())


@pytest.fixture(scope="module")
def small(): return load_model("openai/whisper-small")


def many_rows():
    "Rows that crowd a figure: long names of reasons, large counts, hundreds of speakers, clips up to 30 s."
    rng = np.random.default_rng(5)
    n = 3000
    split = np.where(np.arange(n) % 9 == 0, "eval", "train")
    rows = rows_table(
        dict(
            id=[f"c{i}" for i in range(n)],
            split=split.tolist(),
            source_split=split.tolist(),
            sentence=["parole " * int(k) for k in rng.integers(1, 60, n)],
            size=[1] * n,
            offset=[0] * n,
            speaker=[f"s{int(k)}" for k in rng.pareto(1, n) * 5],
            seconds=rng.uniform(0.4, 30, n).tolist(),
        )
    )
    return Corpus(
        rows,
        rejects_table(("train", "train", f"x{i}", r, "") for i, r in enumerate(list(REASONS) * 40)),
        {"kind": "folder"},
    )


def drawn(plot):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    return plot.figure, canvas.get_renderer()


def texts(figure):
    from matplotlib.text import Text
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def assert_readable(plot):
    "Six inches wide, every axis labelled, every text inside the figure and in ink, no text over another."
    figure, renderer = drawn(plot)
    assert figure.get_figwidth() == WIDE == 6
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert all(
        ax.get_xlabel() or not any(t.get_visible() for t in ax.get_xticklabels()) for ax in axes
    ), "an axis with numbers and no label"
    assert any(ax.get_xlabel() for ax in axes) and not any(ax.get_title() for ax in axes)
    hidden = set(beyond(figure))
    shown = [t for t in texts(figure) if id(t) not in hidden]
    boxes = [t.get_window_extent(renderer) for t in shown]
    whole = figure.bbox
    out = [
        t.get_text()
        for t, b in zip(shown, boxes)
        if b.x0 < whole.x0 - 1 or b.y0 < whole.y0 - 1 or b.x1 > whole.x1 + 1 or b.y1 > whole.y1 + 1
    ]
    assert out == []
    over = [
        (a.get_text(), b.get_text())
        for i, (a, x) in enumerate(zip(shown, boxes))
        for b, y in zip(shown[i + 1 :], boxes[i + 1 :])
        if x.shrunk(0.9, 0.8).overlaps(y.shrunk(0.9, 0.8))
    ]
    assert over == []
    assert {t.get_color() for t in shown} <= {INK} and figure.get_facecolor()[:3] == rgb(CARD)


def beyond(figure):
    "Tick labels outside an axis's limits, which are not drawn."
    for axis in (a for ax in figure.axes for a in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9: yield from (id(tick.label1), id(tick.label2))


def rgb(colour):
    from matplotlib.colors import to_rgb
    return to_rgb(colour)


def contrast(a, b):
    "WCAG's contrast of two colours."
    light = lambda c: sum(
        w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
        for w, v in zip((0.2126, 0.7152, 0.0722), rgb(c))
    )
    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", WHOLE)
def test_a_plot_of_a_folder_is_readable(clips, name): assert_readable(WHOLE[name](clips))


@pytest.mark.parametrize("name", ["durations", "rate", "speakers"])
def test_a_plot_of_a_large_corpus_is_readable(name): assert_readable(WHOLE[name](many_rows()))


def test_every_reason_has_room_in_the_plot_of_rejects(clips):
    for what in (clips, many_rows()): assert_readable(plot_rejects(what))
    labels = [t.get_text() for t in drawn(plot_rejects(many_rows()))[0].axes[0].get_yticklabels()]
    assert labels == [r for r in REASONS if r not in SPARE]


@pytest.mark.parametrize("count", [4, 123_456_789])
def test_rows_beyond_a_maximum_are_counted_beside_the_bars(count):
    "They would leave no room for the others; numbers are written as elsewhere."
    made = Prepared(
        None,
        {
            "counts": {
                "train": {"rejects": {"not_sampled": count, "silent": count // 2}},
                "eval": {"rejects": {"not_sampled": 1}},
            }
        },
    )
    plot = plot_rejects(made)
    assert_readable(plot)
    axis = plot.figure.axes[0]
    assert axis.get_xlabel() == f"clips not kept; {count + 1:,} beside them not sampled" and axis.get_xlim()[1] < count
    assert [t.get_text() for t in axis.get_xticklabels()] == [
        f"{v:,.0f}" for v in axis.get_xticks()
    ] and f"{count:,} not_sampled" in plot.says
    spare = plot_rejects(Prepared(None, {"counts": {"train": {"rejects": {"not_sampled": count}}}}))
    assert (
        "nothing was rejected" in [t.get_text() for t in texts(spare.figure)]
        and f"{count:,}" in spare.figure.axes[0].get_xlabel()
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_clip_is_readable_with_and_without_sound(clips, whole):
    view = clips("train", 0)
    for v in (view, replace(view, samples=None)): assert_readable(plot_clip(v, whole=whole))


def test_units_stand_on_the_axes(clips):
    figure, _ = drawn(plot_clip(clips("train", 0)))
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "amplitude\n(full scale is 1)",
        "pitch (Hz, 80 mel bands)",
        "log-mel (model's units)",
    ] and figure.axes[1].get_xlabel() == "time (s)"
    assert [drawn(WHOLE[n](clips))[0].axes[0].get_xlabel() for n in ("durations", "rate")] == [
        "duration (s)",
        "speech rate (characters per second)",
    ]


def test_a_few_clips_far_out_do_not_flatten_the_rest():
    far = many_rows().rows.set_column(
        10, "seconds", pa.array([*np.random.default_rng(1).normal(5, 1, 2990).clip(1, 9), *[4000.0] * 10])
    )
    axis = drawn(plot_durations(Corpus(far, many_rows().rejects, {})))[0].axes[0]
    assert axis.get_xlim()[1] < 20 and axis.get_xlabel() == "duration (s); 10 beyond, counted at the edge"
    assert all(sum(stairs.get_data().values) == pytest.approx(100) for stairs in axis.patches)


def test_text_and_splits_stand_out_from_the_card():
    assert contrast(INK, CARD) > 7 and all(contrast(c, CARD) > 3 for c in COLOURS.values())


def test_what_is_behind_the_clips_end_is_shaded(clips):
    view = clips("train", 0)
    figure, _ = drawn(plot_clip(view, whole=True))
    for ax in figure.axes[:2]:
        spans = [p.get_extents().transformed(ax.transData.inverted()) for p in ax.patches]
        assert [(round(s.x0, 2), round(s.x1, 2)) for s in spans] == [(round(view.seconds, 2), 30.0)]
    longest = ClipView("long", "train", "", "", [], 16000, features=np.zeros((80, 3000), np.float32), seconds=30.0)
    assert not drawn(plot_clip(longest))[0].axes[0].patches


def test_bands_are_drawn_at_the_pitch_they_hear(small):
    "A tone of 1,000 Hz is brightest at 1,000 Hz."
    from audio_ft_prep.features import LogMel, pad_frames
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    view = ClipView("tone", "train", "", "", [], 16000, tone, pad_frames(LogMel(small.extractor)(tone)), 1.0)
    mesh = next(c for c in plot_clip(view).figure.axes[1].collections if hasattr(c, "get_coordinates"))
    hz = mesh.get_coordinates()[:, 0, 1]
    brightest = int(mesh.get_array().reshape(80, -1)[:, 50].argmax())
    assert hz[brightest] < 1000 < hz[brightest + 1]


def test_pictures_are_the_same_each_time_and_small(clips):
    for draw in (*WHOLE.values(), plot_rejects, lambda c: plot_clip(c("train", 0))):
        first = draw(clips)
        assert first.png() == draw(clips).png() and first.svg() == draw(clips).svg() and len(first.png()) < 80_000
        assert first._repr_png_().startswith(b"\x89PNG") and len(repr(first)) < 300


def test_a_svg_takes_the_colours_of_the_page(clips):
    svg = plot_durations(clips).svg()
    assert (
        svg.startswith("<svg")
        and "currentColor" in svg
        and INK not in svg
        and "var(--train, " in svg
        and "<metadata>" not in svg
    )


def test_a_users_own_style_changes_nothing(clips):
    import matplotlib
    first = plot_durations(clips).png()
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "black", "text.color": "red"}):
        assert plot_durations(clips).png() == first


# what is shown is what is there


@pytest.mark.parametrize("storage", ["features", "audio", "source", "padded"])
def test_a_prepared_clip_has_the_samples_it_was_made_of(prepared, small, storage):
    clips, rows = PreparedClips(prepared(storage=storage)), load_rows(PrepConfig("sample", "it")).rows.to_pylist()
    view = clips("eval", 1)
    from_row = row_view(next(r for r in rows if r["id"] == view.id), small)
    assert np.abs(view.samples - from_row.samples).max() <= 1 / 32768 and view.features.shape == (80, 3000)
    assert np.abs(view.features - from_row.features).max() < (0.05 if storage == "audio" else 1e-3)


def test_a_corpus_that_is_gone_or_changed_leaves_features_and_says_so(prepared, monkeypatch):
    clips = PreparedClips(prepared())
    clips.prep = {**clips.prep, "source": {**clips.prep["source"], "identity": "another"}}
    assert clips("train", 0).samples is None and clips("train", 0).note == "no audio: sample has changed since"
    clips = PreparedClips(prepared())
    clips.prep = {**clips.prep, "config": {**clips.prep["config"], "dataset_name": "someone/elses"}}
    assert clips("train", 0).features is not None and "not on this machine" in clips("train", 0).note
    assert_readable(plot_clip(clips("train", 0)))


def test_rejects_can_be_looked_at(clips):
    found = {clips.rejects["reason"][i].as_py(): clips.reject(i) for i in range(len(clips.rejects))}
    assert all(v.reason == r and v.why.startswith(f"{r}: ") for r, v in found.items())
    assert found["duplicate_row"].samples is not None and found["truncated"].samples is None
    with pytest.raises(ValueError, match="there is nothing to draw of common_voice_it_41000004: truncated: "):
        plot_clip(found["truncated"])
    again = found["duplicate_row"]
    assert (again.sentence, again.speaker, again.labels) == (
        "",
        "",
        [],
    ) and "not on record" in again.note, "the row that was kept is another"
    view = found["silent"]
    assert "".join(text for text, control in label_pieces(view.labels, clips.tokenizer) if not control) == view.sentence


# what is decoded is what prepare would decode


def test_a_row_is_looked_at_with_the_settings_of_the_run(small):
    cfg = PrepConfig("sample", "it", max_seconds=3.0, min_seconds=2.7, lower_case=True)
    rows, tokenizer = load_rows(cfg).rows.to_pylist(), language_tokenizer(small, "it")
    good = [v for v in (row_view(r, small, tokenizer, cfg) for r in rows if r["sentence"]) if v.samples is not None]
    reason = lambda v: "too_short" if v.seconds < 2.7 else "too_long" if v.seconds > 3 else ""
    assert [v.reason for v in good] == [reason(v) for v in good] and {v.reason for v in good} == {
        "",
        "too_short",
        "too_long",
    }
    assert all(v.features is not None and v.sentence == v.sentence.lower() for v in good) and not any(
        row_view(r, small).reason in ("too_short", "too_long") for r in rows
    )
    assert {v.detail for v in good if v.reason == "too_long"} == {
        over_limit(v.seconds, 3) for v in good if v.reason == "too_long"
    }


def test_a_reject_of_a_folder_is_looked_at_with_the_settings_of_its_run(prepared):
    clips = PreparedClips(prepared(max_seconds=2.0, lower_case=True))
    view = next(v for v in map(clips.reject, range(len(clips.rejects))) if v.reason == "too_long")
    assert (
        view.samples is not None
        and view.labels
        and view.sentence == view.sentence.lower()
        and view.detail.endswith("s over max_seconds 2")
    )


def test_what_cannot_be_decoded_is_played_as_it_is_stored(clips, small, tmp_path):
    import soundfile as sf
    found = {v.reason: v for v in map(clips.reject, range(len(clips.rejects)))}
    for reason in ("truncated", "silent"):
        got = stored_player(found[reason].stored)
        assert got.mimetype == "audio/mpeg" and got.data == found[reason].stored and len(got.data) > 1000
    assert found["duplicate_row"].stored is None and found["missing_audio"].stored is None
    sf.write(tmp_path / "long.wav", np.sin(np.arange(8000 * 31) / 9), 8000)
    row = {
        **load_rows(PrepConfig("sample", "it")).rows.slice(0, 1).to_pylist()[0],
        "file": str(tmp_path / "long.wav"),
        "offset": 0,
        "size": (tmp_path / "long.wav").stat().st_size,
    }
    long = row_view(row, small)
    assert (long.reason, long.samples, stored_player(long.stored).mimetype) == ("too_long", None, "audio/wav")
    assert row_view({**row, "start": 0.0}, small).stored is None, "a segment is not its whole recording"


# audio that is elsewhere


@pytest.mark.parametrize("layout", ["hub_tar_tree", "hub_parquet"])
def test_a_clip_on_the_hub_is_no_bad_clip_and_plays_once_it_is_here(hub, tmp_path, small, layout):
    cfg = PrepConfig(
        LAYOUTS[layout](tmp_path / "x", utterances()), "it", output_dir=str(tmp_path / "out"), num_workers=1
    )
    corpus, sent = load_rows(cfg), hub.bytes_served()
    view = corpus_view(corpus, corpus.rows.slice(0, 1), small, None, cfg)
    assert (view.reason, view.note, view.samples) == (
        "",
        "its audio has not been fetched yet",
        None,
    ) and hub.bytes_served() == sent
    made = prepare(cfg, progress=False)
    asked = len(hub.log)
    assert corpus_view(corpus, corpus.rows.slice(0, 1), small).samples is not None
    assert (
        all(clips("train", i).samples is not None for clips in [PreparedClips(made)] for i in range(3))
        and len(hub.log) == asked
    )
    (tmp_path / "home").rename(tmp_path / "cleared")
    left = PreparedClips(made)("train", 0)
    assert (
        (left.note, left.samples) == ("no audio: it would have to be fetched again", None)
        and left.features is not None
        and len(hub.log) == asked
    )


def test_a_folder_of_the_hubs_plays_the_commit_it_was_made_of(hub, tmp_path):
    root = tar_tree(tmp_path / "served/datasets/voices/twelve", utterances())
    made = prepare(PrepConfig("voices/twelve", "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    (root / "NEWS.md").write_text("a commit later")
    load_rows(PrepConfig("voices/twelve", "it"))
    assert PreparedClips(made)("train", 0).samples is not None


def test_a_clip_in_a_parquet_file_here_is_brought(hub, tmp_path, small):
    corpus = load_rows(PrepConfig(str(LAYOUTS["parquet_folder"](tmp_path / "x", utterances())), "it"))
    assert row_view(corpus.rows.slice(0, 1).to_pylist()[0], small).note == "its audio has not been fetched yet"
    assert len(corpus_view(corpus, corpus.rows.slice(0, 1), small).samples)


def test_a_row_whose_file_is_gone_has_a_note_and_no_reason(tmp_path, small):
    from audio_ft_prep.rows import close_files
    root = tar_tree(tmp_path / "corpus", utterances())
    corpus = load_rows(PrepConfig(str(root), "it"))
    close_files()
    root.rename(tmp_path / "gone")
    view = corpus_view(corpus, corpus.rows.slice(0, 1), small)
    assert view.reason == "" and "is gone" in view.note


def test_a_folder_at_a_url_is_looked_at_as_one_that_is_here(prepared):
    made = prepared()
    for at in (url := f"local://{made.folder}", Url(url), Prepared(Url(url), made.prep)):
        clips = PreparedClips(at)
        assert clips("train", 0).samples is not None and len(clips.reject(0).labels) == len(
            PreparedClips(made).reject(0).labels
        )
    assert (
        plot_durations(url).says == plot_durations(made).says
        and plot_rejects(url).says == plot_rejects(made).says
        and plot_labels(url).says == plot_labels(made).says
    )


def test_a_corpus_that_has_moved_is_used_where_it_is_said_to_be_and_is_the_same(tmp_path):
    root = tar_tree(tmp_path / "corpus", utterances())
    made = prepare(PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    root.rename(tmp_path / "moved")
    assert "if it has moved, corpus says where it is" in PreparedClips(made)("train", 0).note
    assert PreparedClips(made, tmp_path / "moved")("train", 0).samples is not None
    other = tar_tree(tmp_path / "other", utterances()[:-1])
    with pytest.raises(
        ValueError, match="corpus must be the one that .*out was made of, got .*other: .*other has changed since"
    ):
        PreparedClips(made, other)
    with pytest.raises(
        ValueError, match="corpus must be the one .*nowhere: the corpus it was made of is not on this machine"
    ):
        PreparedClips(made, tmp_path / "nowhere")


def test_numbers_are_those_of_the_columns(clips):
    got = clip_numbers(clips)
    data = clips.data["train"].select_columns(["input_length", "labels", "sentence"])[:]
    assert got["train"]["seconds"].tolist() == [n / 16000 for n in data["input_length"]] and got["train"][
        "characters"
    ].tolist() == [len(s) for s in data["sentence"]]
    assert got["train"]["labels"].tolist() == [len(l) - 1 for l in data["labels"]]


def test_rows_and_selections_are_plotted_as_far_as_they_know(small):
    cfg = PrepConfig("sample", "it")
    corpus = load_rows(cfg)
    italian = language_tokenizer(small, "it")
    chosen = select(corpus, cfg, small, italian)
    with_labels = replace(chosen, train=labelled(chosen.train, small, italian))
    assert (
        plot_labels(with_labels).says.startswith("train: median")
        and plot_rejects(plan(cfg)).says == plot_rejects(chosen).says
    )
    for draw in (plot_durations, plot_speech_rate, plot_speakers):
        with pytest.raises(ValueError, match="the corpus gives no durations: give a folder that prepare wrote"):
            draw(corpus)
    with pytest.raises(ValueError, match="rows of a corpus have no labels yet"): plot_labels(corpus)


def rows_of(seconds, sentence="parole sparse"):
    n = len(seconds)
    return rows_table(
        dict(
            id=[f"c{i}" for i in range(n)],
            split=["train"] * n,
            source_split=["train"] * n,
            sentence=[sentence] * n,
            size=[1] * n,
            offset=[0] * n,
            speaker=["a"] * n,
            seconds=seconds,
        )
    )


@pytest.mark.parametrize("seconds", [[0.0, 2.0, 3.0], [None, 2.0, 3.0]], ids=["zero", "unknown"])
def test_a_clip_without_a_duration_is_left_out_and_told(seconds):
    plot = plot_speech_rate(Corpus(rows_of(seconds), rejects_table([]), {}))
    assert_readable(plot)
    assert plot.says == "train: median 5.4/s, nine in ten from 4.4 to 6.4; train: 1 of 3 without a duration"
    assert [t.get_text() for t in plot.figure.axes[0].get_legend().get_texts()] == ["train, 2 of 3 clips"]
    known = Corpus(rows_of(seconds), rejects_table([]), {})
    for draw in (plot_durations, plot_speakers):
        assert ("1 of 3 without a duration" in draw(known).says) == (seconds[0] is None)


def test_a_split_without_durations_and_a_row_without_a_sentence_are_no_faults():
    rows = pa.concat_tables(
        [rows_of([2.0, 3.0]), rows_of([None]).set_column(1, "split", pa.array(["eval"]).dictionary_encode())]
    )
    rows = rows.set_column(6, "sentence", pa.array([None, "sei", "a"]))
    for draw in (plot_durations, plot_speech_rate, plot_speakers):
        assert "eval: 1 of 1 without a duration" in draw(Corpus(rows, rejects_table([]), {})).says
    assert clip_numbers(Corpus(rows, rejects_table([]), {}))["train"]["characters"].tolist() == [0, 3]


def test_the_limit_that_is_drawn_is_the_models(prepared):
    made = prepared()
    drawn_for = lambda what: [t.get_text() for t in texts(plot_labels(what).figure) if "limit" in t.get_text()]
    assert made.prep["model"]["max_labels"] == 448 and drawn_for(made) == ["limit: 448 →"]
    clips = PreparedClips(made)
    clips.max_labels = 100
    assert drawn_for(clips) == ["limit: 100 →"]
    old = {**made.prep, "model": {k: v for k, v in made.prep["model"].items() if k != "max_labels"}}
    assert old != made.prep and PreparedClips(Prepared(made.folder, old)).max_labels == 448


@pytest.mark.parametrize(
    "most, named, beyond", [(448, "limit: 448 →", True), (30, "limit: 30", False), (5, "limit: 5", False)]
)
def test_a_limit_far_from_all_clips_does_not_squeeze_them(prepared, most, named, beyond):
    plot = plot_labels(prepared(), most)
    (ax,) = plot.figure.axes
    longest = max(n["labels"].max() for n in clip_numbers(prepared()).values())
    assert named in [t.get_text() for t in texts(plot.figure)] and (ax.get_xlim()[1] < most) == beyond
    assert ax.get_xlim()[0] == 0 and longest < ax.get_xlim()[1] < 3 * longest
    assert_readable(plot)


def test_the_point_and_the_line_of_speakers_are_named(clips):
    said = " ".join(t.get_text() for t in texts(plot_speakers(clips).figure))
    assert "more than half: 3 of 6,\n67 % of the time" in said and said.count("straight line: all as much") == 2


def test_few_speakers_that_make_half_are_counted():
    speakers, seconds = np.array(["a"] * 5 + ["b"] * 3 + list("cdefgh") + [""] * 4), np.ones(18)
    shares, half = speaker_shares(speakers, seconds)
    assert (len(shares), half) == (8, 2) and shares[0] == 5 / 14
    assert speaker_shares(np.array([""]), np.ones(1))[1] == 0
    assert "speakers make half of train's" in plot_speakers(many_rows()).says


def test_pieces_spell_the_sentence(small):
    sentences = ["Perché no?", "火车晚点了", "<|endoftext|> is text", "tag <b>&amp;</b>", "emoji 🦄 too"]
    tokenizer = language_tokenizer(small, "it")
    for s, labels in zip(sentences, labels_of(sentences, tokenizer)):
        pieces = label_pieces(labels, tokenizer)
        assert [c for _, c in pieces] == [True] * 4 + [False] * (len(pieces) - 5) + [True]
        as_bytes = b"".join(
            bytes.fromhex(t) if tokenizer.decode([i]).count("\ufffd") else t.encode()
            for i, (t, c) in zip(labels, pieces)
            if not c
        )
        assert as_bytes.decode() == s
        shown = tokens_html(labels, tokenizer)
        assert "<b>" not in shown and shown.count("<span") == len(labels)


def test_labels_run_as_their_sentence_does(small):
    "The control tokens, which are Latin, don't decide the direction."
    labels = labels_of(["\u0645\u0631\u062d\u0628\u0627"], language_tokenizer(small, "ar"))[0]
    shown = tokens_html(labels, small.tokenizer)
    assert shown.startswith('<div dir="auto"') and shown.count("<span dir=ltr") == 5 < shown.count("<span")


def test_a_player_plays_what_was_recorded(clips):
    import soundfile as sf
    view = clips("train", 0)
    got = player(view.samples, view.rate_hz)
    x, rate = sf.read(io.BytesIO(got.data), dtype="float32")
    assert rate == 16000 and np.abs(x - np.clip(view.samples, -1, 1)).max() <= 1 / 32768
    assert (
        'type="audio/flac"' in got._repr_html_()
        and got._repr_html_() == player(view.samples, view.rate_hz)._repr_html_()
    )


def test_importing_the_modules_draws_nothing():
    packages = ("matplotlib", "librosa", "IPython", "PIL")
    code = f"import sys, audio_ft_prep.clips, audio_ft_prep.plots; print(*(m for m in {packages} if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


MISSING = """
import sys
import numpy as np
from audio_ft_prep.pipeline import Prepared
from audio_ft_prep.clips import player, plot_clip
from audio_ft_prep.plots import plot_rejects
from audio_ft_prep.views import ClipView
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == sys.argv[1]: raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
todo = {"librosa": lambda: plot_clip(ClipView("a", "train", "", "", [], 16000, features=np.zeros((80, 3000), np.float32), seconds=1.0)),
        "PIL": lambda: plot_rejects(Prepared(None, {"counts": {"train": {"rejects": {}}}})).png(), "IPython": lambda: player(np.zeros(9, np.float32), 16000)}
try: todo[sys.argv[1]]()
except ImportError as e: print(e)
"""


@pytest.mark.parametrize("package", ["librosa", "PIL", "IPython"])
def test_a_package_that_is_missing_is_named_with_what_to_install(package):
    said = subprocess.run([sys.executable, "-c", MISSING, package], capture_output=True, text=True, check=True).stdout
    assert said.endswith(': pip install "audio_ft_prep[lab]"\n') and "No module" not in said and said.count("\n") == 1
