"""What augmentation costs: CPU time of each step for a clip, beside what decoding the clip and its log-mel cost."""
from __future__ import annotations
import os
os.environ["OMP_NUM_THREADS"] = "1"
import io
from json import dumps
from pathlib import Path
from time import process_time

import numpy as np
import soundfile as sf
import torch
from fastcore.script import call_parse

from audio_ft_prep.audio import read_clip
from audio_ft_prep.augment import clip_rng
from audio_ft_prep.features import LogMel
from audio_ft_prep.models import load_model
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.steps import STEPS, Noise, Scene
from common import SAMPLE, machine, plain_clips, table

RATE_HZ = 16000

def whole(files: list, most: int) -> list:
    "Samples of the first clips that a run keeps."
    decoded = []
    for audio in files:
        try: decoded.append(read_clip(audio).samples)
        except BadClip: continue
        if len(decoded) == most: break
    return decoded

def cheapest(passes: int, work) -> float:
    "CPU seconds of the cheapest of several passes."
    taken = []
    for _ in range(passes):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return min(taken)

def steps_of(voices: list) -> dict:
    "Every step with its defaults, and each kind of made noise by itself; a folder's noises cost what reading it costs."
    scene = Scene(RATE_HZ, 30 * RATE_HZ, lambda rng: voices[int(rng.integers(0, len(voices)))])
    steps = {name: kind(chance=1) for name, kind in STEPS.items() if name != "noise"}
    steps |= {f"noise, {of}": Noise(of, chance=1) for of in ("white", "pink", "babble")}
    return {name: lambda clip, rng, step=step: step(clip, scene, rng) for name, step in steps.items()}

@call_parse
def main(
    corpus: str = "",  # A folder in the Common Voice layout; empty: the sample corpus of the package
    language: str = "it",  # Its language folders, with commas
    clips: int = 100,  # How many of its clips
    passes: int = 3,  # Of which the cheapest counts
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one pass: shows that it works, measures nothing
):
    "Measure what each step costs a clip."
    if smoke: clips, passes = 12, 1
    torch.set_num_threads(1)
    good = plain_clips(Path(corpus) if corpus else SAMPLE, language.split(","))
    decoded = whole([audio for _, audio, _, _ in good], clips)
    files = []
    for samples in decoded:
        flac = io.BytesIO()
        sf.write(flac, samples, RATE_HZ, format="FLAC")
        files.append(flac.getvalue())
    mel = LogMel(load_model("openai/whisper-small").extractor)
    works = {
        "decoding FLAC": lambda: [sf.read(io.BytesIO(file), dtype="float32") for file in files],
        "log-mel": lambda: [mel(samples) for samples in decoded],
    }
    for name, step in steps_of(decoded).items():
        works[name] = lambda step=step: [step(s, clip_rng(1, 0, str(i))) for i, s in enumerate(decoded)]
    for work in works.values(): work()  # imports, and first calls
    cpu = {name: cheapest(passes, work) / len(decoded) * 1000 for name, work in works.items()}
    usual = cpu["decoding FLAC"] + cpu["log-mel"]
    rows = [[name, ms, f"{100 * ms / usual:.0f} %"] for name, ms in cpu.items()]
    head = ["", "ms of CPU a clip", "of decoding and log-mel"]
    seconds = float(np.mean([len(samples) for samples in decoded])) / RATE_HZ
    about = machine()
    print(f"{len(decoded)} clips of {seconds:.1f} s, one thread, load {about['load']:.1f} at the start\n")
    print(table(head, rows, markdown))
    if json: Path(json).write_text(dumps(dict(about=about, seconds=seconds, cpu_ms=cpu, table=[head, *rows]), indent=1))
