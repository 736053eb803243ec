"Sentences get times from what was heard, whatever happens in between; what doesn't fit is marked, and each file accounted for."
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep import hearing
from audio_ft_prep.align import align
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.hearing import hear_recording, mono_blocks, window_cuts
from audio_ft_prep.hypotheses import Hypothesis, Transcriber
from audio_ft_prep.load import load_rows
from audio_ft_prep.segments import segments_of
from audio_ft_prep.sentences import MOST_TEXT_BYTES, read_text, split_sentences, spoken_words
from audio_ft_prep.timing import Pauses, Window, heard_words, pauses, timed_sentences, unwritten
from audio_ft_prep.wordmatch import match_words

pytestmark = pytest.mark.light
RATE_HZ = 8000
LETTERS = "abdegiklmnoprstuvz"


def a_word(rng): return "".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 9)))


def made(sentences, seed=0):
    "A recording of tones with the words of some sentences: samples, start and end of each sentence, timed words."
    rng, parts, truth, words, at = random.Random(seed), [np.zeros(RATE_HZ)], [], [], 1.0
    for sentence in sentences:
        start = at
        for word in sentence.split():
            seconds = round(0.05 + 0.06 * len(word), 2)
            words.append((f" {word}", at, at + seconds, 0.9))
            parts.append(0.3 * np.sin(np.arange(round(seconds * RATE_HZ))))
            at += seconds
        truth.append((start, at))
        pause = round(rng.uniform(0.3, 1.5), 2)
        parts.append(np.zeros(round(pause * RATE_HZ)))
        at += pause
    samples = np.concatenate(parts)
    return (samples + 1e-4 * np.random.default_rng(seed).normal(size=len(samples))).astype(np.float32), truth, words


def a_text(n, seed=0):
    "Sentences of words that come again and again, as words do."
    rng = random.Random(seed)
    words = [a_word(rng) for _ in range(300)]
    def one(): return " ".join(rng.choice(words) for _ in range(rng.randint(4, 14))).capitalize() + "."
    return [one() for _ in range(n)]


class Ears(Transcriber):
    "Hears the words of a made recording with the faults that models have; a window is known by its place."
    rate_hz = RATE_HZ

    def __init__(self, words, samples, stop_after=None):
        self.words, self.data = words, samples.astype(np.float32).tobytes()
        self.asked, self.stop_after = 0, stop_after

    def place(self, clip):
        "Where a clip is in the recording."
        at = self.data.find(clip.tobytes())
        assert at >= 0 and at % 4 == 0
        return at // 4

    def transcribe(self, clips, language, words=False):
        self.asked += len(clips)
        if self.stop_after is not None and self.asked > self.stop_after: raise KeyboardInterrupt
        return [self.of(self.place(clip) / RATE_HZ, len(clip) / RATE_HZ) for clip in clips]

    def of(self, start, seconds):
        heard = []
        for k, (word, a, b, p) in enumerate(self.words):
            if not start <= (a + b) / 2 < start + seconds: continue
            rng = random.Random(k)
            if rng.random() < 0.04: continue   # not heard
            if rng.random() < 0.06: word = " " + a_word(rng)   # heard wrongly
            early = 0.3 * rng.random() if not heard or heard[-1][2] < a - start - 0.2 else 0
            heard.append((word, max(0.0, a - start - early), b - start, p))
        return Hypothesis("".join(word[0] for word in heard), -0.2, 0.0, 1.0, "en", words=tuple(heard))


def written(folder, samples, name="session.flac"):
    sf.write(folder / name, samples, RATE_HZ)
    return folder


def lines_of(folder): return [json.loads(line) for line in (folder / "aligned.jsonl").read_text().splitlines()]


def test_sentences_are_where_they_are_said(tmp_path):
    sentences = a_text(60)
    samples, truth, words = made(sentences)
    written(tmp_path, samples)
    (tmp_path / "session.txt").write_text("\n".join(sentences), encoding="utf-8")
    ears = Ears(words, np.concatenate(list(mono_blocks(tmp_path / "session.flac", RATE_HZ))))
    done = align(str(tmp_path), str(tmp_path), "ears", "en", 0.0, transcriber=ears, show_progress=False)
    found = json.loads((tmp_path / "alignment/session.flac.json").read_text())["sentences"]
    assert [s["text"] for s in found] == sentences and done.recordings[0].sentences == 60
    times = [(9, 9) if s["start"] is None else (s["start"], s["end"]) for s in found]
    errors = [max(abs(a - b) for a, b in zip(*pair)) for pair in zip(times, truth)]
    scores = [s["score"] for s in found]
    assert np.mean(np.array(errors) <= 0.3) >= 0.95
    assert all(score < 0.6 for error, score in zip(errors, scores) if error > 1)
    rows = load_rows(PrepConfig(str(tmp_path), "en", eval_splits="")).rows
    assert len(rows) == done.recordings[0].kept and {*rows["sentence"].to_pylist()} <= {*sentences}
    assert {*rows["file"].to_pylist()} == {str(tmp_path / "session.flac")}


def test_what_is_only_in_the_text_or_only_said_is_marked_and_the_others_are_right():
    sentences = a_text(120, 1)
    samples, truth, words = made(sentences, 1)
    rng = random.Random(1)
    other = iter(a_text(50, 99))
    kept = [(next(other) if rng.random() < 0.1 else s, t) for s, t in zip(sentences, truth) if rng.random() > 0.05]
    db = 20 * np.log10(np.maximum(np.abs(samples[:len(samples) // 80 * 80]).reshape(-1, 80).max(1), 1e-6))
    ears = Ears(words, samples)
    heard = heard_words(ears.of(0, 1e6).words, "en")
    timed = timed_sentences(spoken_words([s for s, _ in kept], "en"), heard, Pauses(pauses(db)))
    for (sentence, (start, end)), at in zip(kept, timed):
        if sentence not in sentences: assert at.score < 0.5
        elif at.score >= 0.6: assert abs(at.start - start) < 0.5 and abs(at.end - end) < 0.5
    right = [at.score >= 0.5 for (sentence, _), at in zip(kept, timed) if sentence in sentences]
    assert np.mean(right) > 0.8   # a word in ten is wrong or missing
    ends = [at.end for at in timed if at.start is not None]
    starts = [at.start for at in timed if at.start is not None]
    assert all(b >= a for a, b in zip(ends, starts[1:]))
    gone = [t for s, t in zip(sentences, truth) if s not in {s for s, _ in kept}]
    marked = unwritten(timed, heard)
    low = [at for at in timed if at.start is not None and at.score < 0.6]
    def covers(stretches, start, end): return any(s.start < end and s.end > start for s in stretches)
    assert all(covers([*marked, *low], start, end) for start, end in gone)


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(hearing, "_AT_ONCE", 2)
    sentences = a_text(24, 2)
    samples, _, words = made(sentences, 2)
    for name in ("once", "stopped"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, samples)
    decoded = np.concatenate(list(mono_blocks(tmp_path / "once/session.flac", RATE_HZ)))
    ears = Ears(words, decoded)
    align(str(tmp_path / "once"), "", "ears", "en", transcriber=ears, show_progress=False)
    stopped = Ears(words, decoded, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        align(str(tmp_path / "stopped"), "", "ears", "en", transcriber=stopped, show_progress=False)
    rest = Ears(words, decoded)
    align(str(tmp_path / "stopped"), "", "ears", "en", transcriber=rest, show_progress=False)
    assert rest.asked == ears.asked - 2 > 0
    again = Ears(words, decoded)
    align(str(tmp_path / "stopped"), "", "ears", "en", transcriber=again, show_progress=False)
    assert again.asked == 0
    for name in ("aligned.jsonl", "alignment/session.flac.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
    (tmp_path / "stopped/alignment/session.flac.json").write_text('{"about": [[[[')
    (tmp_path / "stopped/alignment/heard/session.flac.json").write_text("null")
    align(str(tmp_path / "stopped"), "", "ears", "en", transcriber=again, show_progress=False)
    assert again.asked == ears.asked and lines_of(tmp_path / "once") == lines_of(tmp_path / "stopped")


def test_one_bad_recording_or_text_costs_itself(tmp_path):
    sentences = a_text(5, 3)
    samples, _, words = made(sentences, 3)
    good = "gò od\n\u202e.flac"
    written(tmp_path, samples, good)
    (tmp_path / good.replace(".flac", ".txt")).write_text(" ".join(sentences), encoding="utf-8")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "noise.mp3").write_bytes(random.Random(0).randbytes(5000))
    (tmp_path / "latin.flac").write_bytes((tmp_path / good).read_bytes())
    (tmp_path / "latin.txt").write_bytes("così".encode("latin-1"))
    (tmp_path / "huge.flac").write_bytes((tmp_path / good).read_bytes())
    with open(tmp_path / "huge.txt", "wb") as f: f.truncate(MOST_TEXT_BYTES + 1)
    for name in ("empty.txt", "noise.txt"): (tmp_path / name).write_text("One.")
    (tmp_path / "linked.flac").symlink_to("/etc/hostname")
    with open(tmp_path.as_posix().encode() + b"/\xff.wav", "wb") as f: f.write(b"RIFF")
    decoded = np.concatenate(list(mono_blocks(tmp_path / good, RATE_HZ)))
    done = align(str(tmp_path), str(tmp_path), "ears", "en", transcriber=Ears(words, decoded), show_progress=False)
    errors = {r.recording: r.error for r in done.recordings}
    assert errors.pop(good) == "" and all(errors.values()) and len(errors) in (5, 6)
    assert "UTF-8" in errors["latin.flac"] and "32 MiB" in errors["huge.flac"] and "empty" in errors["empty.wav"]
    assert "\u202e" not in str(done) and len(lines_of(tmp_path)) == sum(r.kept for r in done.recordings) > 0


def test_all_failed_is_a_failed_run_and_wrong_requests_are_sentences(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is there"): align(str(tmp_path / "no"))
    with pytest.raises(ValueError, match="must hold recordings"): align(str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(RuntimeError, match="none of 1 recordings"):
        align(str(tmp_path), transcriber=Ears([], np.zeros(1)), show_progress=False)
    with pytest.raises(ValueError, match="min_score"): align(str(tmp_path), min_score=2.0)
    with pytest.raises(FileNotFoundError, match="text must be"): align(str(tmp_path), str(tmp_path / "no.txt"))


def test_windows_cover_all_of_a_recording_once_and_end_in_pauses():
    samples, truth, words = made(a_text(80, 4), 4)
    db = 20 * np.log10(np.maximum(np.abs(samples[:len(samples) // 80 * 80]).reshape(-1, 80).max(1), 1e-6))
    cuts = window_cuts(db, len(samples) / RATE_HZ)
    assert cuts[0] == 0 and cuts[-1] == len(samples) / RATE_HZ and np.diff(cuts).max() <= 29.5
    assert not [c for c in cuts[1:-1] for _, a, b, _ in words if a + 0.02 < c < b - 0.02]


@pytest.mark.parametrize("n, m", [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_lists_without_words_have_no_pairs_in_common(n, m):
    assert match_words(["a"] * n, ["a"] * m).shape == (min(n, m), 2)


def test_nothing_in_common_and_one_word_a_thousand_times_end_soon():
    assert len(match_words(["aaaa"] * 3000, ["zzzz"] * 3000)) == 0
    pairs = match_words(["no"] * 1500, ["no"] * 1500)
    assert len(pairs) == 1500 and (np.diff(pairs, axis=0) > 0).all()


def test_a_recording_goes_into_one_split(tmp_path):
    lines = []
    for k in range(12):
        written(tmp_path, np.full(RATE_HZ * 2, 0.1, np.float32), f"{k}.flac")
        line = {"audio_filepath": f"{k}.flac", "duration": 0.5, "text": "Yes.", "lang": "en"}
        lines += [json.dumps({**line, "offset": at}) for at in (0.0, 0.5, 1.0)]
    (tmp_path / "aligned.jsonl").write_text("\n".join(lines))
    rows = load_rows(PrepConfig(str(tmp_path), "en", train_splits="train", eval_splits="validation+test")).rows
    splits = {}
    for row in rows.to_pylist(): splits.setdefault(row["file"], set()).add(row["split"])
    assert len(splits) == 12 and all(len(s) == 1 for s in splits.values())
    assert set.union(*splits.values()) == {"train", "eval"}


def test_flagged_hypotheses_have_no_score():
    def window(text, start, **measures):
        words = [(f" {w}", start + 0.4 * k, start + 0.4 * k + 0.3, 0.9) for k, w in enumerate(text.split())]
        return Window(start, start + 20, text, -0.3, 0.0, 1.2, "en", tuple(words))
    good = window("The session is open.", 0)
    windows = [good, window("Thanks for watching!", 20), window("so " * 20, 40), window("I see. I see. I see.", 60),
        replace(window("Hm.", 80), no_speech=0.9, logprob=-1.5)]
    found = segments_of(windows, Pauses(np.zeros((0, 2))), "en")
    assert [s.score > 0 for s in found] == [True] + [False] * (len(found) - 1)
    assert {flag for s in found for flag in s.flags} == {"phantom", "loop", "silence"}


def test_texts_of_any_origin_are_sentences_or_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe" + "Ciao. Sì.".encode("utf-16-le"))
    assert [s.text for s in split_sentences(read_text(path), "it")] == ["Ciao.", "Sì."]
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="must hold a text"): read_text(path)
    assert max(len(s.text) for s in split_sentences("x. y. " * 20_000 + "word " * 20_000, "en")) <= 300
    assert split_sentences("a" * 100_000, "en")
