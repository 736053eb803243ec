"Windows of long recordings: what they hold, what their labels say, and what a decoder makes of them."
import io
from dataclasses import replace

import numpy as np, pyarrow as pa, pytest, soundfile as sf
from hypothesis import given, strategies as st

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.models import load_model
from audio_ft_prep.pipeline import merge
from audio_ft_prep.reading import verify
from audio_ft_prep.rows import rows_table
from audio_ft_prep.run import Part
from audio_ft_prep.windows import window_rows
from conftest import SAMPLE, tar_clips

MODEL = load_model("openai/whisper-small")
TOKENIZER = MODEL.family.tokenizer(MODEL, "it", "transcribe")
FORM = MODEL.family.windows(MODEL, TOKENIZER)
ZERO, START, END = FORM.no_times + 1, 50258, 50257
ALWAYS = dict(timestamps=1.0, previous=0.0, no_speech=0.0)


def config(**settings): return PrepConfig("c", "it", windows="captions", **{**ALWAYS, **settings})


def rows_of(captions, file="talk.flac"):
    "Rows of captions: start, end and sentence each."
    n = len(captions)
    return rows_table(
        {
            "id": [f"{file}_{i}" for i in range(n)], "split": ["train"] * n, "source_split": ["train"] * n,
            "file": [file] * n, "offset": [0] * n, "size": [1] * n, "sentence": [c[2] for c in captions],
            "locale": ["it"] * n, "speaker": ["ada"] * n, "start": [c[0] for c in captions],
            "seconds": [c[1] - c[0] for c in captions],
        }
    )


def windows_of(captions, known=None, **settings):
    rows = rows_of(captions)
    return window_rows(rows, rows if known is None else known, config(**settings), FORM).to_pylist()


def shown(label):
    "A label as text, times in brackets."
    parts = []
    for i in label:
        if i >= ZERO: parts.append(f"[{(i - ZERO) * 0.02:.2f}]")
        elif i < END: parts.append(MODEL.tokenizer.backend_tokenizer.decode([i]))
    return "".join(parts)


@pytest.mark.parametrize(
    "captions, want",
    [
        ([(0, 30.0, "a")], [(0, 30, "[0.00] a[30.00]")]),
        ([(0, 10, "a"), (10, 20, "b")], [(0, 20, "[0.00] a[10.00][10.00] b[20.00]")]),
        ([(0, 28, "a"), (29.98, 33, "b")], [(0, 30, "[0.00] a[28.00][29.98]"), (29.98, 33, "[0.00] b[3.02]")]),
        ([(0, 28, "a"), (30.0, 33, "b")], [(0, 30, "[0.00] a[28.00]"), (30, 33, "[0.00] b[3.00]")]),
        ([(0, 5, "a"), (62, 65, "b")], [(0, 30, "[0.00] a[5.00]"), (60, 65, "[2.00] b[5.00]")]),
        ([(0, 5, "a"), (6, 40, "b"), (41, 44, "c")], [(0, 5, None), (6, 40, None), (41, 44, None)]),
    ],
    ids=["ends at 30.00", "no gap", "begins at 29.98", "begins at 30.00", "after a pause", "longer than a window"],
)
def test_a_caption_at_a_boundary_is_where_it_belongs(captions, want):
    made = windows_of(captions)
    spans = [(w["start"], pytest.approx(w["start"] + w["seconds"])) for w in made]
    assert spans == [(a, b) for a, b, _ in want]
    for window, (*_, text) in zip(made, want):
        if text: assert shown(window["labels"]) == text
    assert [name for window in made for name in window["members"]] == [f"talk.flac_{i}" for i in range(len(captions))]


def test_what_is_one_label_over_the_budget_begins_the_next_window():
    captions = [(i * 1.0, i + 1.0, "a " * 40) for i in range(20)]
    made = windows_of(captions)
    assert len(made) > 1 and all(len(w["labels"]) - 1 <= MODEL.max_labels for w in made)
    first, second = made[:2]
    assert first["labels"][-2] == ZERO + round((second["start"] - first["start"]) / 0.02)
    more = len(FORM.pieces(["a " * 40])[0]) + 2
    assert len(first["labels"]) - 1 + more > MODEL.max_labels, "and no sooner"


def test_without_timestamps_audio_ends_before_the_caption_that_does_not_fit():
    first, second = windows_of([(0, 20, "a"), (25, 35, "b")], timestamps=0.0)
    assert (first["start"], first["seconds"]) == (0, 25) and second["start"] == 25
    assert first["labels"] == [*FORM.prefix, FORM.no_times, *FORM.pieces(["a"])[0], END]


def test_speech_that_no_row_has_is_in_no_window():
    captions = [(i * 3.0, i * 3.0 + 2, f"frase {i}") for i in range(10)]
    known = rows_of(captions)
    rows = known.filter(pa.array([i != 4 for i in range(10)]))
    made = window_rows(rows, known, config(), FORM).to_pylist()
    assert [(w["start"], w["start"] + w["seconds"]) for w in made] == [(0, 11), (15, 29)]


def test_a_prompt_is_the_text_before_and_is_not_learnt():
    made = windows_of([(0, 20, "uno"), (25, 35, "due"), (50, 60, "tre")], previous=1.0)
    labels = [w["labels"] for w in made]
    batch = MODEL.family.label_batch(labels, MODEL)
    for label, window, learnt, given in zip(labels, made, batch["labels"], batch["decoder_input_ids"]):
        assert label.index(START) == window["prompt"]
        assert list(learnt[learnt != -100]) == label[window["prompt"] + 1:]
        assert list(given[:len(label) - 1]) == label[:-1]
    assert shown(labels[1])[:8] == " uno[0.0"


def segments(label):
    "What openai-whisper makes of a window's tokens: segments, and where it goes on, in 0.02 s; none for 30 s."
    tokens = [i for i in label[label.index(START) + len(FORM.prefix):] if i != END]
    times = [i >= ZERO for i in tokens]
    pairs = [i + 1 for i in range(len(tokens) - 1) if times[i] and times[i + 1]]
    single = times[-2:] == [False, True]
    if not pairs: return [(0, tokens)], None
    cuts = pairs + [len(tokens)] * single
    pieces = [tokens[a:b] for a, b in zip([0, *cuts], cuts)]
    return [(p[0] - ZERO, p) for p in pieces], None if single else tokens[cuts[-1] - 1] - ZERO


captions_anywhere = st.lists(st.tuples(st.floats(0, 20), st.floats(0.5, 12)), min_size=1, max_size=40)


@given(captions_anywhere)
def test_a_decoder_that_says_each_label_visits_all_speech_and_leaves_out_none(gaps):
    at, captions = 0.0, []
    for gap, seconds in gaps:
        at = round(at + gap, 2)
        captions.append((at, round(at + seconds, 2), "ecco"))
        at = captions[-1][1]
    made = windows_of(captions)
    assert [n for w in made for n in w["members"]] == [f"talk.flac_{i}" for i in range(len(captions))]
    for window, after in zip(made, [*made[1:], None]):
        parts, seek = segments(window["labels"])
        assert len(parts) == len(window["members"])
        if after is None: continue
        reached = window["start"] + (30 if seek is None else seek * 0.02)
        assert reached <= after["start"] + 0.02, "nothing of the next window is left out"
        ends = [c[1] for c in captions if c[0] < after["start"] - 1e-6]
        assert reached >= max(ends) - 0.03, "nothing that was said is decoded twice"


def test_without_the_begin_of_a_caption_that_is_cut_a_decoder_leaves_out_audio():
    first, second = windows_of([(0, 28, "a"), (28.5, 33, "b")])
    _, seek = segments(first["labels"])
    assert seek == 1400, "it goes on where the last whole caption ended"
    without = [i for i in first["labels"] if i != ZERO + 1425]
    assert segments(without)[1] is None, "it goes on at 30 s, in the middle of the next"


def test_times_never_go_back():
    (made,) = windows_of([(2.0, 6.0, "a"), (6.69, 7.21, "b"), (7.21, 15.81, "c"), (15.81, 18.01, "d")])
    times = [i for i in made["labels"] if i >= ZERO]
    assert times == sorted(times)


def test_a_prompt_is_no_text_from_before_speech_that_no_row_has():
    known = rows_of([(i * 3.0, i * 3.0 + 2, f"frase {i}") for i in range(10)])
    rows = known.filter(pa.array([i != 4 for i in range(10)]))
    first, second = window_rows(rows, known, config(previous=1.0), FORM).to_pylist()
    assert (first["prompt"], second["prompt"]) == (0, 0)


def test_a_model_without_timestamps_gets_the_text_of_its_windows():
    tokenizer = MODEL.family.tokenizer(MODEL, "it", "transcribe")
    from audio_ft_prep.windowlabels import PlainWindows
    rows = rows_of([(0, 5, "uno"), (6, 9, "due")])
    (made,) = window_rows(rows, rows, config(), PlainWindows(MODEL.family, MODEL, tokenizer)).to_pylist()
    assert made["labels"] == MODEL.family.labels(["uno due"], tokenizer)[0] and made["sentence"] == "uno due"


@pytest.mark.parametrize("settings", [dict(max_seconds=20.0), dict(language_column="lang")])
def test_what_windows_cannot_be_made_with_is_refused(settings):
    with pytest.raises(ValueError, match="windows"): config(**settings)


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    "Two recordings of about two minutes with subtitles, of the sample's clips."
    folder = tmp_path_factory.mktemp("talks")
    files = filter(is_audio, tar_clips(SAMPLE, "it", "train").values())
    clips = [sf.read(io.BytesIO(clip), dtype="float32") for clip in files]
    voices = [x for x, rate in clips if x.ndim == 1 and rate == 48000 and len(x) > rate and np.abs(x).max() > 0.01]
    rng = np.random.default_rng(0)
    for n in range(2):
        parts, lines, at = [], [], 0.0
        for i in range(24):
            pause = rng.normal(0, 1e-4, int(48000 * rng.choice([0.2, 2.0, 20.0], p=[0.6, 0.3, 0.1]))).astype(np.float32)
            voice = voices[(i + n) % len(voices)]
            parts += [pause, voice]
            begin = at + len(pause) / 48000
            at = begin + len(voice) / 48000
            lines.append(f"{i + 1}\n{stamp(begin)} --> {stamp(at)}\nFrase {i}.\n")
        sf.write(folder / f"talk{n}.flac", np.concatenate(parts), 48000)
        (folder / f"talk{n}.srt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def is_audio(data):
    try: sf.info(io.BytesIO(data))
    except sf.LibsndfileError: return False
    return True


def stamp(t): return f"00:{int(t // 60):02d}:{int(t % 60):02d},{round(t % 1 * 1000) % 1000:03d}"


def made(talks, out, **settings):
    cfg = PrepConfig(str(talks), "it", train_splits="train", eval_splits="", windows="captions")
    return replace(cfg, output_dir=str(out), no_speech=0.3, shard_rows=4, **settings)


@pytest.mark.long
def test_windows_are_the_same_for_any_workers_and_parts_and_each_row_is_counted(talks, tmp_path):
    one = prepare(made(talks, tmp_path / "one", num_workers=1), progress=False)
    two = prepare(made(talks, tmp_path / "two", num_workers=2), progress=False)
    parts = [tmp_path / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts): prepare(made(talks, part, num_workers=1), progress=False, part=Part(i, 2))
    whole = merge(parts, tmp_path / "whole")
    assert one.hash == two.hash == whole.hash
    assert [s["sha256"] for s in one.prep["shards"]] == [s["sha256"] for s in two.prep["shards"]]
    for prepared in (one, two, whole):
        count = prepared.counts["train"]
        assert (count["rows"], count["held"], count["rejects"]) == (48, 48, {}) and count["kept"] < 20
        assert verify(prepared.folder) == []


def test_a_folder_of_windows_makes_batches_with_its_own_labels(talks, tmp_path):
    prepare(made(talks, tmp_path / "out", num_workers=1, previous=1.0), progress=False)
    data = load_prepared(tmp_path / "out")["train"]
    batch = SpeechCollator.of("openai/whisper-small", tmp_path / "out")([data[i] for i in range(4)])
    assert batch["decoder_input_ids"].shape == batch["labels"].shape
    stored = [int(i) for i in data[1]["labels"]]
    learnt = batch["labels"][1]
    assert learnt[learnt != -100].tolist() == stored[stored.index(START) + 1:]
