"What is measured of a clip, and what is found by it, among faults that were planted in clean clips."
import io, sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.audio import Limits, read_clip
from audio_ft_prep.cliptable import clip_table
from audio_ft_prep.levels import Levels, levels_of, silences, unmodulated
from audio_ft_prep.measures import MEASURES, Utterance, characters, measured
from conftest import SAMPLE, USED, tar_clips, tsv_rows
from planted import KINDS, Clip, write_planted

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
from detection import false_findings, findings, rates

sys.path.pop(0)

HZ = 16000
EACH = 20
# Rates of speech are judged by a corpus, and most clips here have a fault: what bench/detection.py finds is more
OF_FEW_CLIPS = {
    "a quarter of the clip, all of its sentence": 0.5,
    "half of the clip, all of its sentence": 0.05,
    "another clip's sentence": 0.05,
}


def clean_clips(prepared):
    "Clips of the sample that are kept, at 16 kHz."
    kept = set(clip_table(prepared("it").folder)["id"].to_pylist())
    clips = []
    for split in USED:
        data = tar_clips(SAMPLE, "it", split)
        for row in tsv_rows(SAMPLE, "it", split):
            name = row["path"].removesuffix(".mp3")
            if name not in kept: continue
            kept.remove(name)
            wave, rate_hz = sf.read(io.BytesIO(data[name]), dtype="float32", always_2d=True)
            clips.append(Clip(soxr.resample(wave.mean(axis=1), rate_hz, HZ), HZ, row["sentence"], row["client_id"]))
    return clips


@pytest.fixture(scope="module")
def planted_folder(prepared, tmp_path_factory):
    "A folder of planted faults, prepared: the kind of each clip, and what was found of it."
    root = tmp_path_factory.mktemp("planted")
    clean = clean_clips(prepared)
    originals = [(encoded_flac(clip), "flac", clip.sentence, clip.speaker) for clip in clean]
    kind_of = write_planted(root / "corpus", clean, EACH, suffix="flac", originals=originals)
    cfg = PrepConfig(
        str(root / "corpus"), "it", output_dir=str(root / "out"), eval_splits="", storage="audio", num_workers=1
    )
    prepare(cfg, progress=False)
    return kind_of, findings(root / "out")


def encoded_flac(clip):
    sf.write(out := io.BytesIO(), clip.wave, clip.rate_hz, format="FLAC", subtype="PCM_16")
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_is_found_as_often_as_was_measured(planted_folder, kind):
    (_, finding, found, of, least), = rates(*planted_folder, {kind: KINDS[kind]})
    assert of == EACH
    assert found >= OF_FEW_CLIPS.get(kind, least) * of, f"{finding}: {found} of {of}"


def test_no_clean_clip_has_a_finding(planted_folder):
    kind_of, found = planted_folder
    assert sum(not kind for kind in kind_of.values()) == 24
    assert false_findings(kind_of, found) == set()


def said(x, hz=HZ): return Utterance(clip_of(x, hz), "Ciao, mondo.", 4)


def clip_of(x, hz=HZ):
    sf.write(out := io.BytesIO(), x, hz, format="WAV", subtype="FLOAT")
    return read_clip(out.getvalue(), Limits(hz))


def noise(seconds, rms=0.01, hz=HZ):
    return np.random.default_rng(0).normal(0, rms, round(seconds * hz)).astype(np.float32)


def speechlike(seconds=3.0, hz=HZ):
    at = np.arange(round(seconds * hz)) / hz
    return (noise(seconds, 0.1, hz) * np.sin(np.pi * at) ** 2 + noise(seconds, 1e-4, hz)).astype(np.float32)


@pytest.mark.parametrize("gain", [1e-7, 1e-3, 1.0, 1e4])
def test_noise_is_noise_and_speech_is_speech_however_loud(gain):
    assert unmodulated(levels_of(gain * noise(3), HZ)) and not unmodulated(levels_of(gain * speechlike(), HZ))


@pytest.mark.parametrize("offset", [0.0, 0.02, 0.3])
def test_a_constant_part_hides_no_pause(offset):
    with_it, without = measured(said(speechlike() + np.float32(offset))), measured(said(speechlike()))
    assert with_it["dynamics_db"] == pytest.approx(without["dynamics_db"], abs=0.5)
    assert with_it["dc"] == pytest.approx(offset, abs=1e-3)
    assert with_it["bandwidth_hz"] == without["bandwidth_hz"]


def test_a_short_word_in_a_long_recording_is_no_noise_and_a_click_is():
    x = noise(10, 1e-3)
    x[80000:84000] += noise(0.25, 0.1)
    assert not unmodulated(levels_of(x, HZ))
    x = noise(10, 1e-3)
    x[80000:80200] += 0.5
    assert unmodulated(levels_of(x, HZ))


def test_a_clip_of_a_second_is_not_judged():
    assert not unmodulated(levels_of(noise(1.49), HZ)) and unmodulated(levels_of(noise(1.5), HZ))


@pytest.mark.parametrize("hz", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("samples", [1, 2, 100, 319, 320, 321, 1000, 50_000])
def test_every_clip_has_a_number_for_every_measure(hz, samples):
    numbers = measured(said(np.resize(speechlike(1.0, hz) + np.float32(1e-3), samples), hz))
    assert list(numbers) == list(MEASURES) and np.isfinite(list(numbers.values())).all()
    assert all(np.isfinite(np.float32(value)) for value in numbers.values())


def test_the_bandwidth_follows_the_rate_of_the_model():
    assert measured(said(speechlike(2.0, 24000), 24000))["bandwidth_hz"] > 11_500
    assert measured(said(speechlike(2.0, 8000), 8000))["bandwidth_hz"] > 3_800


COUNTED = [("", 0), ("...", 0), ("Sì, è così!", 7), ("e\u0301", 1), ("日本 8", 3), ("نعم", 3)]


@pytest.mark.parametrize("sentence, n", COUNTED)
def test_letters_and_digits_are_counted_in_any_script(sentence, n): assert characters(sentence) == n


def frames(*db): return np.repeat(np.array(db, np.float64), 15)


def test_noise_is_what_stays_within_six_decibels():
    for apart, is_noise in ((5.9, True), (6.1, False)):
        assert unmodulated(Levels(frames(-40, -40, -40, -40, -40 + apart), 1.5)) == is_noise
        assert unmodulated(Levels(frames(-40 + apart, -40, -40, -40, -40), 1.5)) == is_noise


def test_silences_are_measured_to_the_frame():
    loud, quiet = [-20.0], [-80.0]
    levels = Levels(np.array(quiet * 7 + loud * 20 + quiet * 60 + loud * 20 + quiet * 3), 110 * 0.02)
    assert silences(levels) == pytest.approx((0.14, 0.06, 1.2))
    assert silences(Levels(np.array(loud * 10), 0.2)) == pytest.approx((0, 0, 0))
