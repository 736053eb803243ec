"""Log-mel over the real frames, refilled, is what the model's own extractor computes over 30 s."""
import pickle, subprocess, sys
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from transformers import WhisperFeatureExtractor

from audio_ft_prep.audio import read_clip
from audio_ft_prep.features import Extractor, FastLogMel, LogMel, as_stored, valid_frames, pad_frames
from audio_ft_prep.models import load_model
from conftest import SAMPLE, readme_table, tar_clips

pytestmark = pytest.mark.usefixtures("one_thread")
RATE_HZ, MOST, MELS = 16000, 480_000, (80, 128)
EXTRACTORS = {m: WhisperFeatureExtractor(feature_size=m) for m in MELS}
OURS = {
    80: LogMel(load_model("openai/whisper-small").extractor),
    128: LogMel(load_model("openai/whisper-large-v3").extractor),
}
SAME = Counter()  # signals compared, and how many were identical


@pytest.fixture(scope="module", autouse=True)
def identical_signals_are_counted(figure):
    yield
    if SAME["all"]:
        figure(
            f"log-mel against WhisperFeatureExtractor: {SAME['identical']} of {SAME['all']} identical to the bit,"
            f" largest difference {SAME['worst']:g}"
        )


@pytest.mark.parametrize("mels", MELS)
def test_mel_filters_are_the_extractors(mels):
    assert np.array_equal(OURS[mels].filters, EXTRACTORS[mels].mel_filters) and OURS[mels].filters.shape == (201, mels)


@lru_cache
def speech():
    "Clips of the sample that are kept, decoded."
    odd = {w["clip"] for w in readme_table("Warts") if w["expected"] not in ("kept", "duplicate_row")}
    found = [tar_clips(SAMPLE, lang, split) for lang in ("it", "en") for split in ("train", "dev", "test")]
    return [read_clip(data).samples for clips in found for name, data in sorted(clips.items()) if name not in odd]


def noise(n, seed, level): return np.random.default_rng(seed).standard_normal(n) * level
def tone(n, seed, level): return np.sin(np.arange(n) * (2 * np.pi * (50 + 379 * seed % 7900) / RATE_HZ)) * level
def clicks(n, seed, level):
    x = np.zeros(n)
    x[np.random.default_rng(seed).integers(0, n, 1 + n // 4000)] = level
    return x
def voice(n, seed, level): return np.resize(speech()[seed % len(speech())], n) * level
def zeros(n, seed, level): return np.zeros(n)
SIGNALS = {f.__name__: f for f in (noise, tone, clicks, voice, zeros)}


def holds(x, mels):
    "Hold one signal's features against the extractor's."
    want = EXTRACTORS[mels](x, sampling_rate=RATE_HZ, return_tensors="np").input_features[0]
    stored = OURS[mels](x)
    got, last = pad_frames(stored), stored.shape[1] - 1
    worst = float(np.abs(got - want).max())
    SAME.update(all=1, identical=int(np.array_equal(got, want)))
    SAME["worst"] = max(SAME["worst"], worst)
    assert got.shape == want.shape == (mels, 3000) and got.dtype == np.float32 and got.flags["C_CONTIGUOUS"]
    assert worst <= 1e-6
    assert stored.shape == (mels, valid_frames(len(x)))
    assert (want[:, last:] == want[0, last]).all() or stored.shape[
        1
    ] == 3000, "the extractor has more than padding where we store nothing"
    assert (got[:, last:] == got[:, last, None]).all()
    half = pad_frames(as_stored(stored, "float16"))
    assert half.dtype == np.float16 and np.array_equal(half, got.astype(np.float16))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(sorted(SIGNALS)),
    mels=st.sampled_from(MELS),
    seed=st.integers(0, 99),
    level=st.sampled_from([1.0, 0.3, 1e-2, 1e-5]),
    n=st.one_of(st.integers(160, 3000), st.integers(160, 100_000), st.integers(100_000, MOST + 20_000)),
)
def test_features_of_any_length_and_signal_are_the_extractors(kind, mels, seed, level, n):
    holds(SIGNALS[kind](n, seed, level).astype(np.float32), mels)


EDGES = sorted(
    {
        160 * k + shift + d
        for k in (1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 500, 2997, 2998, 2999, 3000)
        for shift in (0, -40)
        for d in (-1, 0, 1)
    }
    | {1, 2, 199, 200, 201, 240, MOST - 200, MOST - 199, MOST + 160, MOST + 20_000}
)


@pytest.mark.parametrize("mels", MELS)
def test_features_at_every_edge_of_a_frame_are_the_extractors(mels):
    for i, n in enumerate(EDGES): holds((noise if i % 2 else voice)(n, i, 0.3).astype(np.float32), mels)


@pytest.mark.parametrize("kind", ["noise", "tone", "voice", "clicks", "zeros"])
@pytest.mark.parametrize("level", [1.0, 1e-5])
def test_features_of_loud_and_nearly_silent_signals_are_the_extractors(kind, level):
    for mels in MELS: holds(SIGNALS[kind](52_017, 3, level).astype(np.float32), mels)


@pytest.mark.parametrize("mels", MELS)
def test_features_of_every_sample_clip_are_the_extractors(mels):
    assert len(speech()) == 43
    for x in speech(): holds(x, mels)


def test_frames_stored_are_those_that_hold_sound_and_one_of_padding():
    starts = np.arange(3000) * 160 - 200  # first sample that each frame looks at
    lengths = np.r_[1:3000, 160:MOST + 20_000:37, MOST - 400:MOST + 400]
    sound = np.searchsorted(starts, np.minimum(lengths, MOST))
    assert [valid_frames(int(n)) for n in lengths] == [*np.minimum(sound + 1, 3000)]
    assert valid_frames(5 * RATE_HZ) == -(-(5 * RATE_HZ + 200) // 160) + 1 == 503


def test_what_is_beyond_30_seconds_changes_nothing():
    x = noise(MOST + 20_000, 1, 0.1).astype(np.float32)
    assert np.array_equal(OURS[80](x), OURS[80](x[:MOST]))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("frames", [1, 2, 502, 2999, 3000])
def test_refilling_repeats_the_last_frame_whatever_the_number_type(dtype, frames):
    stored = (np.random.default_rng(0).standard_normal((80, frames)) * 50).astype(dtype)
    got = pad_frames(stored)
    assert got.dtype == stored.dtype and got.shape == (80, 3000) and got.flags["C_CONTIGUOUS"]
    assert np.array_equal(got[:, :frames], stored) and (got[:, frames:] == stored[:, -1:]).all()


def test_features_in_a_worker_are_those_here():
    sent = pickle.loads(pickle.dumps(OURS[128]))
    for x in speech()[:3]: assert np.array_equal(sent(x), OURS[128](x))


def test_the_samples_given_are_left_as_they_were():
    x = speech()[0].copy()
    OURS[80](x)
    assert np.array_equal(x, speech()[0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(0, np.float32),
        np.zeros((2, 100), np.float32),
        np.zeros((100, 2), np.float32),
        np.zeros(100),
        np.zeros(100, np.int16),
    ],
)
def test_samples_that_would_give_wrong_features_are_refused(wrong):
    with pytest.raises(ValueError, match="samples must be mono float32 and not empty, got "): OURS[80](wrong)


# The fast log-mel

FAST = {m: FastLogMel(Extractor(m)) for m in MELS}


def holds_fast(x, mels, most=1.5e-4):
    "Hold one signal's fast features against the exact ones: both have errors of single precision, which may add up in a bin far below the loudest."
    exact, fast = OURS[mels](x), FAST[mels](x)
    assert fast.shape == exact.shape and fast.dtype == np.float32
    apart = np.abs(fast - exact)
    SAME[f"fast {mels}"] = max(SAME[f"fast {mels}"], float(apart.max()))
    assert apart.max() <= most and np.abs(apart[:, -1]).max() <= 1e-4
    assert (
        fast.shape[1] == 3000 or (fast[:, -1] == fast[0, -1]).all()
    ), "the last frame is padding, and the same in every band"
    return Counter(bins=apart.size, beyond=int((apart > 1e-4).sum()))


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(sorted(SIGNALS)),
    mels=st.sampled_from(MELS),
    seed=st.integers(0, 99),
    level=st.sampled_from([1.0, 0.3, 1e-2, 1e-5]),
    n=st.one_of(st.integers(1, 3000), st.integers(160, 100_000), st.integers(100_000, MOST + 20_000)),
)
def test_fast_features_of_any_length_and_signal_are_those_of_the_exact_ones_within_their_precision(
    kind, mels, seed, level, n
):
    holds_fast(SIGNALS[kind](n, seed, level).astype(np.float32), mels, most=1e-3)  # what single precision allows eight decades below the loudest; a pure tone was seen to be 3.1e-4 away


@pytest.mark.parametrize("mels", MELS)
def test_fast_features_at_every_edge_and_of_every_sample_clip_are_within_1e_4_in_all_but_single_bins(mels, figure):
    edges = ((noise if i % 2 else voice)(n, i, 0.3).astype(np.float32) for i, n in enumerate(EDGES))
    seen = sum((holds_fast(x, mels) for x in (*edges, *speech())), Counter())
    assert seen["beyond"] <= 1e-5 * seen["bins"]
    figure(
        f"fast log-mel against the exact one, {mels} mels: {seen['beyond']} of {seen['bins']} numbers more than 1e-4"
        f" apart, largest difference {SAME[f'fast {mels}']:g}"
    )


def test_the_loudest_samples_that_are_read_have_fast_features_too():
    holds_fast((noise(20_000, 1, 0.2) * 1e14).astype(np.float32), 80)


def test_fast_features_are_made_and_rounded_without_torch():
    code = (
        "import sys, numpy as np; from audio_ft_prep.features import Extractor, FastLogMel,"
        " as_stored\nfast = FastLogMel(Extractor()); fast.preload(); x ="
        " np.sin(np.arange(9000, dtype=np.float32))\nsys.stdout.buffer.write(as_stored(fast(x),"
        " 'float16').tobytes()); assert 'torch' not in sys.modules"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert got.returncode == 0, got.stderr
    import torch  # with it, rounding takes another path
    assert got.stdout == as_stored(FAST[80](np.sin(np.arange(9000, dtype=np.float32))), "float16").tobytes()


@pytest.mark.parametrize(
    "other",
    [dict(feature_size=64), dict(n_fft=512), dict(hop_length=80), dict(chunk_length=20), dict(sampling_rate=8000)],
)
def test_an_extractor_that_the_fast_log_mel_isnt_made_for_is_refused(other):
    with pytest.raises(
        ValueError, match="log_mel fast is made for Whisper's own settings, got .*: leave log_mel at exact"
    ):
        FastLogMel(Extractor(**other))
