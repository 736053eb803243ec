"""Faults that are put into clean clips, kind by kind, with what should find them: for tests and for bench/detection.py.

A kind is a line of `KINDS`: what is done to a clip, the reason or the flag that should come of it, and the least share of its clips for which it should come."""
import csv, io, re
from itertools import chain
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import soundfile as sf
import soxr


class Clip(NamedTuple):
    "A recording and its sentence."
    wave: np.ndarray  # mono
    rate_hz: int
    sentence: str
    speaker: str = ""


def swelling(n, rate_hz):
    "What makes a held tone come and go, as speech does: twice a second, by 20 dB."
    return 0.55 + 0.45 * np.cos(2 * np.pi * 2 * np.arange(n) / rate_hz)


# ---- what is done to the sound

def on_wave(change):
    "A fault of samples alone: `change(wave, rate_hz, rng)`."
    return lambda clip, rng, others: clip._replace(wave=change(clip.wave, clip.rate_hz, rng))


def level(wave): return np.sqrt(np.mean(np.square(wave, dtype=np.float64)))


def white(n, rng, rms): return rng.normal(0, rms, n).astype(np.float32)


def hum(n, rate_hz, peak): return (peak * np.sin(2 * np.pi * 50 * np.arange(n) / rate_hz)).astype(np.float32)


def judged(x, hz): return max(len(x), 2 * hz)  # a clip of less than a second and a half is never called noise


def noise_only(db): return on_wave(lambda x, hz, rng: white(judged(x, hz), rng, 10 ** (db / 20)))


def hum_only(db):
    return on_wave(lambda x, hz, rng: hum(judged(x, hz), hz, 10 ** (db / 20)) + white(judged(x, hz), rng, 1e-5))


def clipped(db): return on_wave(lambda x, hz, rng: np.clip(x / np.abs(x).max() * 10 ** (db / 20), -1, 1))


def offset(by): return on_wave(lambda x, hz, rng: 0.8 * x + by)


def peak_at(db): return on_wave(lambda x, hz, rng: x / np.abs(x).max() * 10 ** (db / 20))


def through_8_khz(x, hz, rng): return soxr.resample(soxr.resample(x, hz, 8000), 8000, hz)


def snr(db):
    "White noise, against the louder half of the samples; as loud as if it filled 24 kHz."
    def change(x, hz, rng):
        loud = np.sort(np.abs(x))[len(x) // 2:]
        rms = level(loud) * 10 ** (-db / 20) * np.sqrt(hz / 48000)
        return x + white(len(x), rng, rms)
    return on_wave(change)


def noise_in_front(seconds):
    return on_wave(lambda x, hz, rng: np.concatenate([white(int(seconds * hz), rng, floor(x, hz)), x]))


def floor(x, hz):
    "The level of the clip's quietest tenth of a second, or a little where that is digital silence."
    n = hz // 10
    return max(1e-4, min(level(x[i:i + n]) for i in range(0, len(x) - n, n)))


def zeros_behind(seconds): return on_wave(lambda x, hz, rng: np.pad(x, (0, int(seconds * hz))))


def gap(seconds):
    def change(x, hz, rng):
        middle = int(len(x) * rng.uniform(0.4, 0.6))
        return np.concatenate([x[:middle], np.zeros(int(seconds * hz), x.dtype), x[middle:]])
    return on_wave(change)


def begin_only(share): return on_wave(lambda x, hz, rng: x[:int(len(x) * share)])


# ---- what is done to the sentence, or to the bytes

def on_sentence(change): return lambda clip, rng, others: clip._replace(sentence=change(clip.sentence, rng))


def beside(text): return on_sentence(lambda sentence, rng: f"{sentence} {text}")


_LOOK = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхижклмнопярстувщхыз")
_ALIKE = str.maketrans("aceopx", "асеорх")  # To letters of Cyrillic that look the same


def one_letter_alike(sentence, rng):
    "One letter of the sentence, or of a word put behind it, is one of Cyrillic that looks the same."
    text = f"{sentence} casa"
    places = [found.start() for found in re.finditer("[aceopx](?=[a-z])", text)]
    at = places[rng.integers(len(places))]
    return text[:at] + text[at].translate(_ALIKE) + text[at + 1:]


def quote_alone(sentence, rng): return sentence.replace('"', "") + ' "Oh'


def soft_hyphen(sentence, rng):
    at = int(rng.integers(1, len(sentence)))
    return f"{sentence[:at]}\u00ad{sentence[at:]}"


def others_sentence(clip, rng, others):
    "The sentence of another clip."
    return clip._replace(sentence=others[rng.integers(len(others))].sentence)


def cut_off(data, rng): return data[:int(len(data) * rng.uniform(0.25, 0.97))]


def damaged(data, rng):
    "A hundred bytes in the middle are others."
    at = int(len(data) * rng.uniform(0.3, 0.7))
    return data[:at] + rng.bytes(100) + data[at + 100:]


class Kind(NamedTuple):
    "A fault, and what should come of it."
    fault: Callable  # (clip, rng, other clips) -> clip
    finding: str  # a reason or a flag
    least: float  # share of clips for which it should come, as facts of the first measurement say
    to_bytes: Callable = lambda data, rng: data


def one_bit(data, rng):
    "One bit of the audio behind an MP3's header is another."
    changed = bytearray(data)
    changed[rng.integers(1500, len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


whole = lambda clip, rng, others: clip


def at_48_khz(clip, rng, others):
    "At lower rates frames are too short for the header with the checksum."
    return clip._replace(wave=soxr.resample(clip.wave, clip.rate_hz, 48000), rate_hz=48000)

KINDS = {
    "cut off, with a header": Kind(whole, "truncated", 1.0, cut_off),
    "one bit flipped": Kind(at_48_khz, "corrupt", 1.0, one_bit),
    "100 bytes overwritten": Kind(at_48_khz, "corrupt", 1.0, damaged),
    "digital silence": Kind(on_wave(lambda x, hz, rng: 0 * x), "silent", 1.0),
    "noise only, -40 dB": Kind(noise_only(-40), "no_modulation", 1.0),
    "noise only, -60 dB": Kind(noise_only(-60), "no_modulation", 1.0),
    "hum only": Kind(hum_only(-50), "no_modulation", 1.0),
    "clipped by 3 dB": Kind(clipped(3), "clipped", 0.5),
    "clipped by 6 dB": Kind(clipped(6), "clipped", 0.95),
    "clipped by 12 dB": Kind(clipped(12), "clipped", 1.0),
    "offset of 0.02": Kind(offset(0.02), "dc", 1.0),
    "8 kHz, resampled": Kind(on_wave(through_8_khz), "telephone", 1.0),
    "SNR 0 dB": Kind(snr(0), "low_snr", 1.0),
    "SNR 5 dB": Kind(snr(5), "low_snr", 0.95),
    "SNR 10 dB": Kind(snr(10), "low_snr", 0.0),
    "3 s of noise in front": Kind(noise_in_front(3), "edges", 0.95),
    "5 s of zeros behind": Kind(zeros_behind(5), "edges", 1.0),
    "2 s of zeros inside": Kind(gap(2), "gap", 0.95),
    "peak at -50 dB": Kind(peak_at(-50), "quiet", 0.5),
    "peak at -60 dB": Kind(peak_at(-60), "quiet", 1.0),
    "a quarter of the clip, all of its sentence": Kind(begin_only(0.25), "rate", 0.9),
    "half of the clip, all of its sentence": Kind(begin_only(0.5), "rate", 0.2),
    "another clip's sentence": Kind(others_sentence, "rate", 0.1),
}

TEXT_KINDS = {
    "digits": Kind(beside("1984."), "digits", 1.0),
    "a symbol": Kind(beside("%."), "symbols", 1.0),
    "a unit": Kind(beside("km."), "abbreviations", 1.0),
    "an address": Kind(beside("www.example.com"), "urls", 1.0),
    "a remark in brackets": Kind(beside("[ahem]"), "brackets", 1.0),
    "a letter four times": Kind(beside("Nooooo!"), "repeated_characters", 1.0),
    "capitals": Kind(on_sentence(lambda sentence, rng: f"{sentence} oh yes".upper()), "capitals", 1.0),
    "a quotation mark alone": Kind(on_sentence(quote_alone), "quotes", 1.0),
    "another alphabet": Kind(on_sentence(lambda sentence, rng: sentence.lower().translate(_LOOK)), "script", 1.0),
    "one letter of another alphabet": Kind(on_sentence(one_letter_alike), "mixed_alphabets", 1.0),
    "a soft hyphen": Kind(on_sentence(soft_hyphen), "control", 1.0),
    "a special token": Kind(beside("<|endoftext|>"), "special_tokens", 1.0),
}


# ---- a corpus of them

def encoded(clip, suffix):
    "A clip as a file: 64 kbit/s for MP3, 16 bit for others."
    out = io.BytesIO()
    how = dict(bitrate_mode="CONSTANT", compression_level=0.875) if suffix == "mp3" else dict(subtype="PCM_16")
    samples = np.clip(clip.wave, -1, 1).astype(np.float32)
    sf.write(out, samples, clip.rate_hz, format={"mp3": "MP3", "flac": "FLAC"}[suffix], **how)
    return out.getvalue()


def planted(clean, each, kinds=KINDS, suffix="mp3", seed=0):
    "Clips with faults: name, kind, file, sentence, speaker of `each` clips a kind."
    for number, (name, kind) in enumerate(kinds.items()):
        rng = np.random.default_rng([seed, number])
        for i, at in enumerate(rng.permutation(np.arange(max(each, len(clean))) % len(clean))[:each]):
            clip = kind.fault(clean[at], rng, clean)
            ending = "mp3" if kind.to_bytes in (cut_off, damaged, one_bit) else suffix
            data = kind.to_bytes(encoded(clip, ending), rng)
            yield f"fault{number:02d}_{i:04d}.{ending}", name, data, clip.sentence, clip.speaker


def write_planted(root, clean, each, kinds=KINDS, suffix="mp3", originals=(), seed=0):
    "A folder of clean clips and of some with faults, for `audio-ft-prep prepare`; give the kind of each clip by its id."
    root.mkdir(parents=True)
    kind_of = {}
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as f:
        lines = csv.writer(f)
        lines.writerow(["file_name", "text", "speaker"])
        files = [(f"clean_{i:05d}.{end}", "", data, *rest) for i, (data, end, *rest) in enumerate(originals)]
        for name, kind, data, sentence, speaker in chain(files, planted(clean, each, kinds, suffix, seed)):
            (root / name).write_bytes(data)
            lines.writerow([name, sentence, speaker])
            kind_of[Path(name).stem] = kind
    return kind_of


# ---- leaks: a clip of train, and what eval or an outside set has of it

class Leak(NamedTuple):
    "What of a clip of train is in another set, and what a run says of it."
    copy: Callable  # (clip of train, its file, another recording) -> file, sentence and speaker in the other set
    finding: str  # words of the reject's detail; a reason where both clips are in train
    settings: dict  # what drops it
    least: float = 1.0  # share of clips for which it should be found


def ogg(wave, rate_hz):
    sf.write(out := io.BytesIO(), wave, rate_hz, format="OGG", subtype="VORBIS")
    return out.getvalue()


def near_copy(gain_db, cut_seconds, encode):
    "The recording at another level and in another encoding, without its first moment; by the same speaker."
    def copy(clip, file, other):
        wave = clip.wave[int(cut_seconds * clip.rate_hz):] * 10 ** (gain_db / 20)
        return encode(wave, clip.rate_hz), f"{other.sentence} of a copy", clip.speaker
    return copy


def as_mp3(wave, rate_hz): return encoded(Clip(wave, rate_hz, ""), "mp3")


def said_again(clip): return f"\u00ab{clip.sentence.rstrip('.?!').upper()}\u00bb!"


def mp3_of(clip): return encoded(clip, "mp3")


NEAR = dict(near=True, leak_near="drop")
LEAKS = {
    "the same speaker": Leak(
        lambda clip, file, other: (mp3_of(other), f"{other.sentence} of another", clip.speaker),
        "the same speaker", dict(leak_speakers="drop")),
    "the same sentence": Leak(
        lambda clip, file, other: (mp3_of(other), said_again(clip), ""), "the same sentence",
        dict(leak_sentences="drop")),
    "the same file": Leak(
        lambda clip, file, other: (file, f"{other.sentence} of a copy", ""), "the same file, byte by byte",
        dict(leak_audio="drop")),
    "the same samples in another container": Leak(
        lambda clip, file, other: (unpacked(file), f"{other.sentence} of a copy", ""), "the same audio once decoded",
        dict(leak_audio="drop")),
    "encoded again, 12 dB lower": Leak(near_copy(-12, 0, as_mp3), "the same audio, nearly", NEAR),
    "as Ogg Vorbis, 20 dB lower, 0.1 s cut off": Leak(near_copy(-20, 0.1, ogg), "the same audio, nearly", NEAR),
    "the sentence said twice in train": Leak(
        lambda clip, file, other: (mp3_of(other), said_again(clip), ""), "sentence_cap", dict(max_per_sentence=1)),
}


def unpacked(file):
    "A file's samples as float WAV: the decoder's own, to the bit."
    wave, rate_hz = sf.read(io.BytesIO(file), dtype="float32")
    sf.write(out := io.BytesIO(), wave, rate_hz, format="WAV", subtype="FLOAT")
    return out.getvalue()


def write_leaks(root, clean, each, leak):
    "In `corpus`, `each` clips of train of which eval has something, as many of which `outside` has, and clean ones."
    train, others, alone = clean[:2 * each], clean[2 * each:4 * each], clean[4 * each:]
    rows = {"train": [], "test": [], "outside": []}
    for i, (clip, other) in enumerate(zip(train, others)):
        clip = clip._replace(speaker=f"T{i}", sentence=f"{clip.sentence} number {i}")
        file = mp3_of(clip)
        to = "train" if leak.finding == "sentence_cap" else "test" if i < each else "outside"
        rows["train"].append((f"leak{i}", file, clip.sentence, clip.speaker))
        rows[to].append((f"other{i}", *leak.copy(clip, file, other)))
    for i, clip in enumerate(alone):
        split = ("test", "outside", "train")[min(i % 6, 2)]
        rows[split].append((f"clean{i}", mp3_of(clip), f"{clip.sentence} clean {i}", f"A{i}"))
    for split, of_split in rows.items():
        _write_split(root / ("outside/test" if split == "outside" else f"corpus/{split}"), of_split)


def _write_split(folder, rows):
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as f:
        lines = csv.writer(f)
        lines.writerow(["file_name", "text", "speaker"])
        for name, data, sentence, speaker in rows:
            ending = {b"OggS": "ogg", b"RIFF": "wav"}.get(data[:4], "mp3")
            (folder / f"{name}.{ending}").write_bytes(data)
            lines.writerow([f"{name}.{ending}", sentence, speaker])
