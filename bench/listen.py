"""How well a model that listens finds wrong transcripts: faults are planted in a corpus, and what is found is counted.

    python bench/listen.py --corpus cv-corpus/ --language en --model whisper-base/ --work /tmp/listen [--speed]

Real voices and a real model are needed, so this is run by hand. 5 % of the clips have another clip's sentence, 5 % are cut to
half, 2 % are noise that rises and falls, 2 % another language, 3 % are said twice. `--speed` compares clips per second of
faster-whisper with those of transformers in float32.
"""
import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import soundfile as sf

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.agreement import FINDINGS, Thresholds, agreement
from audio_ft_prep.audio import stored_samples
from audio_ft_prep.heard import read_heard
from audio_ft_prep.listen import listen
from audio_ft_prep.train import stored_rows
from audio_ft_prep.reading import PreparedFolder

SHARES = {"swapped": 0.05, "half": 0.05, "noise": 0.02, "foreign": 0.02, "twice": 0.03}
FOUND_BY = {"swapped": "other_sentence", "half": "missing_end", "noise": "nothing_heard", "foreign": "other_language",
            "twice": "added_words"}
RATE = 16_000


def clips_of(corpus, language, folder, splits="train"):
    "Clips of a corpus, decoded: id, sentence, samples."
    cfg = PrepConfig(str(corpus), language, model_id="openai/whisper-base", storage="audio", train_splits=splits,
                     eval_splits="", output_dir=str(folder))
    prepare(cfg)
    rows = stored_rows(PreparedFolder.of(folder))["train"].with_format("arrow")[:]
    samples = [stored_samples(file, RATE) for file in rows["audio"].to_pylist()]
    return list(zip(rows["id"].to_pylist(), rows["sentence"].to_pylist(), samples))


def rising_noise(n, rng):
    "Noise that rises and falls four times a second, as syllables do."
    times = np.arange(n) / RATE
    return (0.1 * rng.standard_normal(n) * (0.55 + 0.45 * np.sin(8 * np.pi * times))).astype(np.float32)


def plant(clips, others, seed=0):
    "Plant faults; give (id, sentence, samples, fault, whose sentence it is)."
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips)).tolist()
    kinds, planted = [""] * len(clips), []
    for kind, share in SHARES.items():
        n = round(share * len(clips) / 2) * 2 if kind == "swapped" else round(share * len(clips))
        for _ in range(n):
            fits = [i for i in order if kind != "twice" or len(clips[i][2]) < 12 * RATE]
            kinds[fits[0]] = kind
            order.remove(fits[0])
    swapped = [i for i, kind in enumerate(kinds) if kind == "swapped"]
    partner = dict(zip(swapped, swapped[1:] + swapped[:1]))
    for i, (name, sentence, samples) in enumerate(clips):
        owner = ""
        if kinds[i] == "swapped": sentence, owner = clips[partner[i]][1], name  # it is heard as its own old sentence
        if kinds[i] == "half": samples = samples[:len(samples) // 2]
        if kinds[i] == "noise": samples = rising_noise(len(samples), rng)
        if kinds[i] == "foreign": samples = others[i % len(others)][2]
        if kinds[i] == "twice": samples = np.concatenate([samples, np.zeros(RATE // 4, np.float32), samples])
        planted.append((name, sentence, samples, kinds[i], owner))
    return planted


def write_corpus(planted, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow(["file_name", "sentence"])
        for name, sentence, samples, _, _ in planted:
            sf.write(folder / f"{name}.flac", samples, RATE)
            out.writerow([f"{name}.flac", sentence])


def rates(heard, truth, column="findings"):
    "Detection of each fault by its finding and by any, and how many clean clips have each finding."
    found = {row["id"]: row[column] for row in heard.to_pylist()}
    lines = {}
    for kind, finding in FOUND_BY.items():
        names = [name for name, t in truth.items() if t["fault"] == kind and name in found]
        own = sum(finding in found[name] for name in names)
        whatever = sum(bool(set(found[name]) - {"numbers_otherwise"}) for name in names)
        lines[kind] = {"clips": len(names), "finding": finding, "by it": own, "by any": whatever}
    clean = [name for name, t in truth.items() if not t["fault"] and name in found]
    alarms = {finding: sum(finding in found[name] for name in clean) for finding in FINDINGS}
    return lines, {"clips": len(clean), **alarms}


def named_rightly(heard, truth):
    "Of swapped clips that are found, how many have the right sentence's clip named."
    rows = [r for r in heard.to_pylist() if truth[r["id"]]["fault"] == "swapped" and "other_sentence" in r["findings"]]
    texts = {t["sentence"]: name for name, t in truth.items()}
    owners = [truth[r["match_id"]]["sentence"] for r in rows]
    right = sum(truth[r["id"]]["own"] == sentence for r, sentence in zip(rows, owners))
    return right, len(rows), len(texts)


def curve(heard, truth):
    "Detection and false alarms by threshold of CER, of all faults together."
    bad = [truth[name]["fault"] not in ("", None) for name in heard["id"].to_pylist()]
    cer = np.array(heard["cer"].to_pylist())
    bad = np.array(bad)
    return [(t, round(float((cer[bad] > t).mean()), 3), round(float((cer[~bad] > t).mean()), 3))
            for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)]


def speed(folder, model, n=16):
    "Clips per second of both ways on the same clips, with two threads each."
    import torch
    from audio_ft_prep.cliphearer import stored_clip
    from audio_ft_prep.hypotheses import Asked
    from audio_ft_prep.netlisteners import NetTranscriber
    from audio_ft_prep.transcribers import transcriber_for
    torch.set_num_threads(2)
    rows = stored_rows(PreparedFolder.of(folder))["train"].with_format("arrow")[:n]
    asked = [Asked(name, stored_clip(rows, i, RATE), "en") for i, name in enumerate(rows["id"].to_pylist())]
    took = {}
    hearers = {"faster-whisper int8": transcriber_for(model, "cpu", 2), "transformers fp32": NetTranscriber(model)}
    for name, hearer in hearers.items():
        hearer.hear(asked[:2])
        wall, cpu = time.perf_counter(), time.process_time()
        for first in range(0, n, 8): hearer.hear(asked[first:first + 8])
        took[name] = n / (time.perf_counter() - wall), n / (time.process_time() - cpu)
    return took


def main():
    p = argparse.ArgumentParser()
    for name in ("--corpus", "--model", "--work"): p.add_argument(name, required=True)
    p.add_argument("--language", default="en")
    p.add_argument("--other", default="es")
    p.add_argument("--speed", action="store_true")
    a = p.parse_args()
    work = Path(a.work)
    if not (work / "truth.json").exists():
        clips = clips_of(a.corpus, a.language, work / "clips")
        others = clips_of(a.corpus, a.other, work / "others", "dev")
        planted = plant(clips, others)
        write_corpus(planted, work / "corpus")
        own = {name: sentence for name, sentence, _ in clips}
        truth = {name: dict(fault=kind, sentence=sentence, own=own[name]) for name, sentence, _, kind, _ in planted}
        (work / "truth.json").write_text(json.dumps(truth))
    truth = json.loads((work / "truth.json").read_text())
    cfg = PrepConfig(str(work / "corpus"), a.language, model_id="openai/whisper-base", eval_splits="",
                     train_splits="train", output_dir=str(work / "prepared"), storage="audio")
    print(prepare(cfg))
    print(listen(work / "prepared", a.model, device="cpu"))
    heard = read_heard(work / "prepared")
    lines, alarms = rates(heard, truth)
    for kind, line in lines.items(): print(kind, line)
    print("clean clips", alarms)
    print("swapped named rightly: {} of {}".format(*named_rightly(heard, truth)))
    for line in curve(heard, truth):
        print("CER over {}: {:.1%} of faults, {:.1%} of clean clips".format(*line))
    if a.speed:
        for name, (wall, cpu) in speed(work / "prepared", a.model).items():
            print(f"{name}: {wall:.2f} clips a second, {cpu:.2f} of processor time")


if __name__ == "__main__": main()
