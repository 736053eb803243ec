"""What all measures of a clip cost, against the time that a clip takes without them; and each of them alone, in turn."""
from __future__ import annotations
import os
os.environ["OMP_NUM_THREADS"] = "1"
from collections import Counter
from json import dumps
from pathlib import Path
from time import process_time

import torch
from fastcore.script import call_parse

from audio_ft_prep import PrepConfig
from audio_ft_prep.audio import read_clip
from audio_ft_prep.example import example_maker
from audio_ft_prep.measures import MEASURES, Utterance, check_modulation, measured
from audio_ft_prep.models import load_model
from audio_ft_prep.rejects import BadClip
from common import SAMPLE, machine, plain_clips, table

def timed(cpu: Counter, part: str, work):
    "Do something, and add the CPU seconds that it takes."
    start = process_time()
    result = work()
    cpu[part] += process_time() - start
    return result

def without_measures(audio: bytes, sentence: str, make):
    "What a run does with a clip, but for its measures."
    clip = read_clip(audio, make.limits)
    make.input(clip.samples)
    return clip

def with_measures(audio: bytes, sentence: str, make):
    "What a run does with a clip."
    clip = read_clip(audio, make.limits)
    utterance = Utterance(clip, sentence, 12)
    check_modulation(utterance)
    make.input(clip.samples)
    measured(utterance)
    return clip

def one_pass(clips: list, make) -> tuple[Counter, float]:
    "CPU seconds by part, and seconds of audio: each clip without measures and with them, in turn first."
    cpu = Counter()
    seconds = 0.0
    sides = [("without", without_measures), ("with", with_measures)]
    for audio, sentence in clips:
        for side, work in sides: clip = timed(cpu, side, lambda: work(audio, sentence, make))
        sides.reverse()
        utterance = Utterance(clip, sentence, 12)
        timed(cpu, "levels", lambda: utterance.levels)
        for name, measure in MEASURES.items(): timed(cpu, name, lambda: measure.of(utterance))
        seconds += clip.seconds
    return cpu, seconds

def kept(clips: list, make) -> list:
    "Clips that a run keeps: the others are never measured to the end."
    good = []
    for _, audio, row, _ in clips:
        try: check_modulation(Utterance(read_clip(audio, make.limits), row["sentence"], 0))
        except BadClip: continue
        good.append((audio, row["sentence"]))
    return good

@call_parse
def main(
    corpus: str = "",  # Folder in the Common Voice layout; left out: the sample corpus of the package
    language: str = "it,en",  # Its language folders, with commas
    clips: int = 500,  # Clips at most
    passes: int = 5,  # Passes over the clips; of each part the cheapest counts
    markdown: bool = False,  # Print the table as Markdown
    json: str = "",  # File to write every figure to
    smoke: bool = False,  # A dozen clips, one pass: shows that it works, measures nothing
):
    "Measure what the measures cost, with the exact log-mel and storage features."
    if smoke: clips, passes = 12, 1
    torch.set_num_threads(1)
    cfg, about = PrepConfig("sample", "it"), machine()
    make = example_maker(cfg, load_model(cfg.model_id))
    source = Path(corpus) if corpus else SAMPLE
    good = kept(plain_clips(source, language.split(",")), make)[:clips]
    one_pass(good[:3], make)  # what is done once
    got = [one_pass(good, make) for _ in range(passes)]
    seconds = got[0][1]
    cpu = {part: min(pass_cpu[part] for pass_cpu, _ in got) for part in got[0][0]}
    without = cpu["without"]
    cpu["all measures"] = cpu["with"] - without
    rows = [[part, 1e6 * spent / seconds, 100 * spent / without] for part, spent in cpu.items()]
    head = ["", "CPU us / s of audio", "% of the time without measures"]
    print(
        f"{len(good)} clips, {seconds / 3600:.2f} h, one thread, cheapest of {passes} pass(es), {about['cores']} cores,"
        f" load {about['load']:.1f} at the start\n"
    )
    print(table(head, rows, markdown))
    share = cpu["all measures"] / without
    if json: Path(json).write_text(dumps(dict(about=about, seconds=seconds, cpu=cpu, share=share), indent=1))
