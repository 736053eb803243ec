"Plots that can be read: labelled axes with units, nothing outside the figure, colours that stand apart, the same bytes each time."
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from audio_ft_prep import PrepConfig
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.pipeline import plan
from audio_ft_prep.plots import (CARD, COLOURS, INK, WIDE, ClipView, PreparedClips, clip_numbers, label_pieces, player, plot_clip, plot_durations, plot_labels, plot_rejects, plot_speakers,
                                 plot_speech_rate, plot_splits, row_view, speaker_shares, tokens_html)
from audio_ft_prep.rows import REASONS, Corpus, rejects_table, rows_table
from audio_ft_prep.sampling import select
from audio_ft_prep.text import labels_of, language_tokenizer

WHOLE = dict(durations=plot_durations, rate=plot_speech_rate, labels=plot_labels, speakers=plot_speakers, splits=plot_splits)


@pytest.fixture(scope="module")
def clips(prepared): return PreparedClips(prepared())


@pytest.fixture(scope="module")
def small(): return load_model("openai/whisper-small")


def many_rows():
    "Rows that crowd a figure: long names of reasons, large counts, hundreds of speakers, clips up to 30 s."
    rng = np.random.default_rng(5)
    n = 3000
    split = np.where(np.arange(n) % 9 == 0, "eval", "train")
    rows = rows_table(dict(id=[f"c{i}" for i in range(n)], split=split.tolist(), source_split=split.tolist(), sentence=["parole " * int(k) for k in rng.integers(1, 60, n)], size=[1] * n, offset=[0] * n,
                           speaker=[f"s{int(k)}" for k in rng.pareto(1, n) * 5], seconds=rng.uniform(0.4, 30, n).tolist()))
    return Corpus(rows, rejects_table(("train", "train", f"x{i}", r, "") for i, r in enumerate(list(REASONS) * 40)), {"kind": "folder"})


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
    assert all(ax.get_xlabel() or not any(t.get_visible() for t in ax.get_xticklabels()) for ax in axes), "an axis with numbers and no label"
    assert any(ax.get_xlabel() for ax in axes) and not any(ax.get_title() for ax in axes)
    hidden = set(beyond(figure))
    shown = [t for t in texts(figure) if id(t) not in hidden]
    boxes = [t.get_window_extent(renderer) for t in shown]
    whole = figure.bbox
    out = [t.get_text() for t, b in zip(shown, boxes) if b.x0 < whole.x0 - 1 or b.y0 < whole.y0 - 1 or b.x1 > whole.x1 + 1 or b.y1 > whole.y1 + 1]
    assert out == []
    over = [(a.get_text(), b.get_text()) for i, (a, x) in enumerate(zip(shown, boxes)) for b, y in zip(shown[i + 1:], boxes[i + 1:]) if x.shrunk(0.9, 0.8).overlaps(y.shrunk(0.9, 0.8))]
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
    light = lambda c: sum(w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for w, v in zip((0.2126, 0.7152, 0.0722), rgb(c)))
    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", WHOLE)
def test_a_plot_of_a_folder_is_readable(clips, name): assert_readable(WHOLE[name](clips))


@pytest.mark.parametrize("name", ["durations", "rate", "speakers"])
def test_a_plot_of_a_large_corpus_is_readable(name): assert_readable(WHOLE[name](many_rows()))


def test_every_reason_has_room_in_the_plot_of_rejects(clips):
    for what in (clips, many_rows()): assert_readable(plot_rejects(what))
    labels = [t.get_text() for t in drawn(plot_rejects(many_rows()))[0].axes[0].get_yticklabels()]
    assert labels == list(REASONS)


@pytest.mark.parametrize("whole", [False, True])
def test_a_clip_is_readable_with_and_without_sound(clips, whole):
    view = clips("train", 0)
    for v in (view, replace(view, samples=None)): assert_readable(plot_clip(v, whole=whole))


def test_units_stand_on_the_axes(clips):
    figure, _ = drawn(plot_clip(clips("train", 0)))
    assert [ax.get_ylabel() for ax in figure.axes] == ["amplitude\n(full scale is 1)", "pitch (Hz, 80 mel bands)", "log-mel (model's units)"] and figure.axes[1].get_xlabel() == "time (s)"
    assert [drawn(WHOLE[n](clips))[0].axes[0].get_xlabel() for n in ("durations", "rate")] == ["duration (s)", "speech rate (characters per second)"]


def test_a_few_clips_far_out_do_not_flatten_the_rest():
    far = many_rows().rows.set_column(10, "seconds", pa.array([*np.random.default_rng(1).normal(5, 1, 2990).clip(1, 9), *[4000.0] * 10]))
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
    from audio_ft_prep.features import LogMel, refill
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    view = ClipView("tone", "train", "", "", [], 16000, tone, refill(LogMel(small.extractor)(tone)), 1.0)
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
    assert svg.startswith("<svg") and "currentColor" in svg and INK not in svg and "var(--train, " in svg and "<metadata>" not in svg


def test_a_users_own_style_changes_nothing(clips):
    import matplotlib
    first = plot_durations(clips).png()
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "black", "text.color": "red"}): assert plot_durations(clips).png() == first


# what is shown is what is there


@pytest.mark.parametrize("storage", ["features", "audio", "padded"])
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
    assert all(v.note.startswith(r) for r, v in found.items())
    assert found["duplicate_row"].samples is not None and found["truncated"].samples is None
    with pytest.raises(ValueError, match="there is nothing to draw of common_voice_it_41000004: truncated: "): plot_clip(found["truncated"])


def test_numbers_are_those_of_the_columns(clips):
    got = clip_numbers(clips)
    data = clips.data["train"].select_columns(["input_length", "labels", "sentence"])[:]
    assert got["train"]["seconds"].tolist() == [n / 16000 for n in data["input_length"]] and got["train"]["characters"].tolist() == [len(s) for s in data["sentence"]]
    assert got["train"]["labels"].tolist() == [len(l) - 1 for l in data["labels"]]


def test_rows_and_selections_are_plotted_as_far_as_they_know(small):
    cfg = PrepConfig("sample", "it")
    corpus = load_rows(cfg)
    chosen = select(corpus, cfg, small, language_tokenizer(small, "it"))
    assert plot_labels(chosen).says.startswith("train: median") and plot_rejects(plan(cfg)).says == plot_rejects(chosen).says
    for draw in (plot_durations, plot_speech_rate, plot_speakers):
        with pytest.raises(ValueError, match="the corpus gives no durations: give a folder that prepare wrote"): draw(corpus)
    with pytest.raises(ValueError, match="rows of a corpus have no labels yet"): plot_labels(corpus)


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
        as_bytes = b"".join(bytes.fromhex(t) if tokenizer.decode([i]).count("\ufffd") else t.encode() for i, (t, c) in zip(labels, pieces) if not c)
        assert as_bytes.decode() == s
        shown = tokens_html(labels, tokenizer)
        assert "<b>" not in shown and shown.count("<span") == len(labels)


def test_a_player_plays_what_was_recorded(clips):
    import soundfile as sf
    view = clips("train", 0)
    got = player(view.samples, view.rate_hz)
    x, rate = sf.read(io.BytesIO(got.data), dtype="float32")
    assert rate == 16000 and np.abs(x - np.clip(view.samples, -1, 1)).max() <= 1 / 32768
    assert 'type="audio/flac"' in got._repr_html_() and got._repr_html_() == player(view.samples, view.rate_hz)._repr_html_()


def test_importing_the_module_draws_nothing():
    code = "import sys, audio_ft_prep.plots; print(*(m for m in ('matplotlib', 'librosa', 'IPython', 'PIL') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
