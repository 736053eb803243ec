"""What decode, resample, log-mel and write cost alone, one thread, and this package as a multiple of their sum."""
from __future__ import annotations
import os
os.environ["OMP_NUM_THREADS"] = "1"
import io, math, tempfile
from collections import Counter
from json import dumps
from pathlib import Path
from time import process_time

import numpy as np, pyarrow as pa, soundfile, soxr, torch
from audio_ft_prep.models import load_model
from fastcore.script import call_parse
from transformers import WhisperFeatureExtractor

from common import build_corpus, machine, measure, read_clips, table
try: from asrfront.whisper import log_mel as fast_mel
except ImportError: fast_mel = None

RATE_HZ, GROUP = 16_000, 100
PARTS = ("decode", "resample", "log-mel", "float16", "write")

def valid_frames(wave):
    "Frames to keep, the real ones and one of padding, and the samples they see: those of 16 frames at least, as fewer lose the last bit."
    keep = min(math.ceil((len(wave) + 200) / 160) + 1, 3000)
    seen = min((max(keep, 16) - 1) * 160 + 400, 480_000)
    return keep, np.pad(wave[:seen], (0, max(0, seen - len(wave))))

def torch_mel(wave, window, filters):
    "The extractor's own operations on the real frames only."
    keep, seen = valid_frames(wave)
    stft = torch.stft(torch.from_numpy(seen), 400, 160, window=window, return_complex=True)
    power = (stft[:, :min(max(keep, 16), 3000)].abs() ** 2).contiguous()
    mel = torch.clamp(filters @ power, min=1e-10).log10()
    return ((torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0)[:, :keep].numpy()

def asrfront_mel(wave, mels):
    "The same frames by asrfront, within 1e-4 of the extractor's."
    keep, seen = valid_frames(wave)
    return fast_mel(seen, n_mels=mels, pad_or_trim=False)[:, :keep]

def write_group(writer, buffer, ends):
    "Write clips as one record batch over the buffer they lie in, without a copy."
    values = pa.Array.from_buffers(pa.float16(), ends[-1], [None, pa.py_buffer(buffer)])
    writer.write_batch(
        pa.record_batch([pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)], names=["input_features"])
    )

def sync(writer, file):
    "End the file and wait until it is on the disk."
    writer.close()
    file.flush()
    os.fsync(file.fileno())

def one_pass(clips, extractor, out):
    "Take each clip through every part: CPU seconds by part, seconds of audio, and how many of 20 clips are identical to the extractor's."
    cpu = Counter()
    seconds = 0.0
    same = 0
    ends = [0]
    def timed(part, function, *args, **kwargs):
        start = process_time()
        result = function(*args, **kwargs)
        cpu[part] += process_time() - start
        return result
    window, filters = torch.hann_window(400), torch.from_numpy(extractor.mel_filters).to(torch.float32).T
    buffer = np.empty(GROUP * extractor.feature_size * 3000, np.float16)
    with out.open("wb") as file, pa.ipc.new_stream(
        file, pa.schema({"input_features": pa.list_(pa.float16())})
    ) as writer:
        for i, audio in enumerate(clips):
            wave, rate_hz = timed("decode", soundfile.read, io.BytesIO(audio), dtype="float32")
            if wave.ndim > 1: wave = wave.mean(axis=1)
            seconds += len(wave) / rate_hz
            wave = timed("resample", soxr.resample, wave, rate_hz, RATE_HZ, "HQ")
            mel = timed("log-mel", torch_mel, wave, window, filters)
            if fast_mel: timed("log-mel, asrfront", asrfront_mel, wave, extractor.feature_size)
            if i < 20:
                same += int(
                    np.array_equal(extractor(wave, sampling_rate=RATE_HZ).input_features[0][:, : mel.shape[1]], mel)
                )
            ends.append(ends[-1] + mel.size)
            timed("float16", np.copyto, buffer[ends[-2]:ends[-1]].reshape(mel.shape), mel, casting="same_kind")
            if len(ends) > GROUP or i == len(clips) - 1:
                timed("write", write_group, writer, buffer, ends)
                ends = [0]
        timed("write", sync, writer, file)
    return dict(cpu), seconds, f"{same} of {min(20, len(clips))}"

def rows_of(cpu, seconds, runs):
    "The parts, their sum, and ours over the sum; then the same with the fast log-mel."
    def row(label, cpu_s, floor=None):
        return [label, cpu_s / seconds * 1000, seconds / cpu_s, f"{cpu_s / floor:.2f}x" if floor else ""]
    def side(name, floor):
        for n, figures in runs[name].items():
            yield row(f"{name}, {n} worker(s): CPU", min(f["cpu_s"] for f in figures), floor)
            yield row(f"{name}, {n} worker(s): wall x workers", min(f["wall_s"] for f in figures) * n, floor)
    floor = sum(cpu[p] for p in PARTS)
    rows = [*(row(p, cpu[p]) for p in PARTS), row("floor", floor, floor), *side("ours", floor)]
    if not fast_mel: return rows
    fast = floor - cpu["log-mel"] + cpu["log-mel, asrfront"]
    return [
        *rows,
        row("log-mel, asrfront", cpu["log-mel, asrfront"]),
        row("floor with it", fast, fast),
        *side("ours fast", fast),
    ]

def ours_in_turn(settings, workers, out):
    "Run ours with each number of workers, exact and fast: what each took."
    kinds = {"ours": "exact", **({"ours fast": "fast"} if fast_mel else {})}
    return {
        name: {
            n: measure("ours", settings | dict(out=str(out / f"{name}{n}"), workers=n, log_mel=kind), memory=False)
            for n in workers
        }
        for name, kind in kinds.items()
    }

@call_parse
def main(
    corpus: str = "",  # Folder in the Common Voice layout; left out: the sample corpus of the package
    language: str = "",  # Its language folders, with commas; left out: all
    clips: int = 2000,  # Clips to prepare: the source's train clips are repeated
    workers: str = "1,2",  # Numbers of workers to run ours with
    passes: int = 3,  # Passes over the clips, and runs of ours; the cheapest counts, of each part and of ours
    model_id: str = "openai/whisper-small",  # Model to prepare for: a folder or a Hub id
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one pass, one worker: shows that it works, measures nothing
):
    "Measure the parts alone and this package end to end on the same clips."
    if smoke: clips, passes, workers = 12, 1, "1"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        work = Path(tmp)
        made, about = build_corpus(work / "corpus", corpus, language, clips), machine()
        fixed = dict(corpus=made["folder"], language=made["language"], model=model_id, dtype="float16")
        extractor = WhisperFeatureExtractor(**load_model(model_id).extractor.to_dict())
        audio = [audio for _, audio, _ in read_clips(Path(made["folder"]), made["language"])]
        got = []
        for i in range(passes):
            with tempfile.TemporaryDirectory(dir=work) as out:
                ours = ours_in_turn(fixed, [int(n) for n in workers.split(",")], Path(out))
            got.append((ours, *one_pass(audio, extractor, work / "floor.arrow")))
    (_, _, seconds, same), cpu = got[0], {part: min(g[1][part] for g in got) for part in got[0][1]}
    runs = {name: {n: [g[0][name][n] for g in got] for n in by_workers} for name, by_workers in got[0][0].items()}
    head, rows = ["", "CPU ms / s of audio", "audio-h / CPU-h", "of the floor"], rows_of(cpu, seconds, runs)
    print(
        f"{clips} clips, {seconds / 3600:.2f} h, one thread, cheapest of {passes} pass(es), {about['cores']} cores,"
        f" load {about['load']:.1f} at the start; log-mel identical to the extractor's for {same} clips looked at\n"
    )
    print(table(head, rows, markdown))
    if json:
        Path(json).write_text(
            dumps(
                dict(about=about | made, cpu=cpu, seconds=seconds, same=same, runs=runs, table=[head, *rows]),
                indent=1,
            )
        )
