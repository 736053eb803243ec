"""A recording of any length whose words and times are known: espeak-ng speaks, pauses and music are drawn."""
from __future__ import annotations
import argparse, ctypes, ctypes.util, json
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-us+f2")
PARTS = dict(
    opening="In the morning|After a short break|Before the vote|During the winter|At the end of the day|Last Tuesday|"
    "To my surprise|As you may know|For the first time|Without any doubt|Later that evening|In spite of the rain|"
    "According to the report|On the other hand|Two years ago|Near the old harbor".split("|"),
    who="the mayor|our neighbor|a young teacher|the chairman|my grandmother|the new doctor|one of the farmers|the "
    "committee|a careful driver|the museum|the minister of health|an old sailor|the students|the fire department|"
    "a famous painter|the owner of the bakery|her younger brother|the local newspaper".split("|"),
    did="opened|described|forgot about|paid for|talked about|promised to repair|wanted to sell|asked questions about|"
    "wrote a letter about|could not find|remembered|looked after|complained about|voted against|made a drawing of|"
    "took pictures of|refused to discuss|was proud of".split("|"),
    what="the wooden bridge|a bottle of water|the railway station|seven boxes of oranges|the garden behind the church|"
    "a broken window|the budget for schools|the price of bread|a small yellow boat|the public library|the river bank|"
    "an empty house|the weather in the mountains|a basket of apples|the football match|the road to the airport|"
    "the history of the town|a piece of paper".split("|"),
    how="with great care|in front of everyone|for almost an hour|because nobody else would|and then went home|"
    "without a single word|before the sun came up|while the others were waiting|at the request of the council|"
    "as quickly as possible|for the second time this year|in a very quiet voice|on the way to the market|"
    "until the lights went out|but nothing happened|in the middle of the night".split("|"),
)

class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("number", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]
_CALLED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))

class Speaker:
    "espeak-ng's library, which says when each word begins."
    def __init__(self):
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try: self.lib = ctypes.CDLL(name)
        except OSError: raise SystemExit("espeak-ng makes the speech, and isn't here: apt install espeak-ng") from None
        self.rate_hz = self.lib.espeak_Initialize(2, 0, None, 0)   # 2: synchronous, samples to a callback
        self.called = _CALLED(self._take)
        self.lib.espeak_SetSynthCallback(self.called)

    def _take(self, samples, n, events):
        if n and samples: self.samples.append(np.ctypeslib.as_array(samples, (n,)).astype(np.float32) / 32768)
        i = 0
        while events[i].type:
            if events[i].type == 1: self.starts.append((events[i].text_position - 1, events[i].audio_ms / 1000))
            i += 1
        return 0

    def say(self, text, voice, words_per_minute):
        "Samples, and (word, start, end) in seconds from the first of them; silence at the ends is cut."
        self.samples, self.starts = [], []
        self.lib.espeak_SetVoiceByName(voice.encode())
        self.lib.espeak_SetParameter(1, words_per_minute, 0)
        data = text.encode()
        self.lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)   # from its start, to its end, UTF-8
        x = np.concatenate(self.samples)
        loud = np.flatnonzero(np.abs(x) > 0.005)
        first, last = loud[0], loud[-1] + 1
        at = {position: start - first / self.rate_hz for position, start in self.starts}
        words, position, begin = [], 0, 0.0
        for word in text.split():
            begin = max(0.0, at.get(position, begin))
            words.append([word, begin])
            position += len(word) + 1
        ends = [w[1] for w in words[1:]] + [(last - first) / self.rate_hz]
        return x[first:last], [(w, s, max(s, e)) for (w, s), e in zip(words, ends)]

def sentence(rng):
    "A sentence of five parts, each drawn."
    drawn = {name: values[rng.integers(len(values))] for name, values in PARTS.items()}
    kind = rng.integers(4)
    text = f"{drawn['who']} {drawn['did']} {drawn['what']}"
    if kind != 1: text = f"{text} {drawn['how']}"
    if kind != 2: text = f"{drawn['opening']}, {text}"
    return text[0].upper() + text[1:] + "."

def music(rng, seconds, rate_hz):
    "A few chords."
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.choice([220, 262, 330, 392, 440, 523], 3, replace=False))
    return (0.05 * tones * np.minimum(1, np.minimum(t, t[::-1]) / 0.2)).astype(np.float32)

def recording(seconds, seed=0, rate_hz=16_000):
    "Samples, and the sentences with what is said and when: a list of dicts with start, end, text, words."
    rng, speaker = np.random.default_rng(seed), Speaker()
    parts, sentences, at, said = [], [], 0.0, set()
    def add(x):
        nonlocal at
        parts.append(x)
        at += len(x) / rate_hz
    add(np.zeros(round(1.3 * rate_hz), np.float32))
    while at < seconds:
        voice, speed = VOICES[rng.integers(len(VOICES))], int(rng.integers(140, 175))
        for _ in range(rng.integers(2, 7)):   # a speaker's turn
            while (text := sentence(rng)) in said: pass
            said.add(text)
            x, words = speaker.say(text, voice, speed)
            x = soxr.resample(x, speaker.rate_hz, rate_hz, quality="HQ").astype(np.float32)
            timed = [(w, round(at + s, 3), round(at + e, 3)) for w, s, e in words]
            sentences.append(dict(start=round(at, 3), end=round(at + len(x) / rate_hz, 3), text=text, words=timed))
            add(x)
            add(np.zeros(round(rng.uniform(0.3, 1.2) * rate_hz), np.float32))
        drawn = rng.uniform()
        if drawn < 0.1: add(music(rng, rng.uniform(4, 12), rate_hz))
        if drawn < 0.4: add(np.zeros(round(rng.uniform(1, 4) * rate_hz), np.float32))
    x = np.concatenate(parts)
    x += rng.normal(0, 10 ** (-60 / 20), len(x)).astype(np.float32)   # a room at -60 dBFS
    return x, sentences

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new folder: hour.flac, hour.txt, truth.json")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    x, sentences = recording(args.seconds, args.seed)
    sf.write(args.folder / "hour.flac", x, 16_000, "PCM_16")
    paragraphs = [" ".join(s["text"] for s in sentences[i:i + 5]) for i in range(0, len(sentences), 5)]
    (args.folder / "hour.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    (args.folder / "truth.json").write_text(json.dumps(sentences), encoding="utf-8")
    print(f"{args.folder}: {len(x) / 16_000:,.0f} s, {len(sentences)} sentences")

if __name__ == "__main__": main()
