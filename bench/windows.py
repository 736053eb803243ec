"""How long an hour of captions takes to become windows, beside decoding the hour alone; and how much memory that takes.

    python bench/windows.py [--format flac|wav|mp3|ogg] [--minutes 60] [--captions 900]

The recording is made here: tones and pauses at 48 kHz. Both sides run in turn, three times; the cheapest counts.
"""
import argparse, resource, sys, tempfile, time
from pathlib import Path
import numpy as np, soundfile as sf
from audio_ft_prep import PrepConfig
from audio_ft_prep.audio import Limits, read_clip
from audio_ft_prep.run import make_run

RATE = 48000


def stamp(t):
    "A time as SubRip has it."
    return f"{int(t // 3600):02d}:{int(t % 3600 // 60):02d}:{int(t % 60):02d},{int(t % 1 * 1000):03d}"


def make_recording(folder, ending, minutes, captions):
    "Write a recording and its captions."
    rng = np.random.default_rng(0)
    each = minutes * 60 / captions
    lines = []
    with sf.SoundFile(folder / f"hour.{ending}", "w", RATE, 1) as f:
        for i in range(captions):
            n = int(RATE * each)
            t = np.arange(n) / RATE
            loud = (np.sin(2 * np.pi * 3 * t) > -0.5) * (t < each * 0.9)
            f.write((0.2 * loud * np.sin(2 * np.pi * (200 + i % 50) * t) + rng.normal(0, 1e-4, n)).astype(np.float32))
            lines.append(f"{i + 1}\n{stamp(i * each)} --> {stamp(i * each + each * 0.9)}\nFrase numero {i}.\n")
    (folder / "hour.srt").write_text("\n".join(lines), encoding="utf-8")
    return folder / f"hour.{ending}"


def cpu_s(step):
    "CPU seconds of a step."
    start = time.process_time()
    step()
    return time.process_time() - start


def decode_all(path):
    "Decode a recording in blocks, and do nothing with it."
    with sf.SoundFile(path) as f:
        for _ in f.blocks(RATE * 30, dtype="float32"): pass


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--format", default="flac")
    ask.add_argument("--minutes", type=int, default=60)
    ask.add_argument("--captions", type=int, default=900)
    asked = ask.parse_args()
    with tempfile.TemporaryDirectory() as d:
        path = make_recording(Path(d), asked.format, asked.minutes, asked.captions)
        cfg = PrepConfig(d, "it", train_splits="train", eval_splits="", windows="captions", storage="audio")
        run = make_run(cfg)
        rows = [row for shard in run.shards for row in shard().table().to_pylist()]
        run.maker(rows[0])  # what is imported then
        decoding, making = [], []
        for _ in range(3):
            decoding.append(cpu_s(lambda: decode_all(path)))
            making.append(cpu_s(lambda: [run.maker(row) for row in rows]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{asked.minutes} min of {asked.format}, {asked.captions} captions in {len(rows)} windows")
        ratio = min(making) / min(decoding)
        print(f"decoding alone {min(decoding):.2f} s CPU, windows as FLAC {min(making):.2f} s CPU, {ratio:.1f}x")
        print(f"this process had {peak:.0f} MB at most")


if __name__ == "__main__": main()
