"What is done to the sound of a clip is what was asked for, by measurement, at any level and of any clip."
import json
from functools import lru_cache

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings, strategies as st

from audio_ft_prep.augment import Augment, clip_rng
from audio_ft_prep.effects import CODECS, change_speed, change_tempo, clip_share, in_room, limit_band, made_room
from audio_ft_prep.effects import over_telephone, white_noise
from audio_ft_prep.steps import (
    STEPS, Band, Clipping, Gain, Noise, Room, Scene, Speed, Telephone, Tempo, slowest, step_dict, step_of)

RATE = 16000
few = settings(max_examples=12)


@lru_cache
def speech():
    "Two seconds that come and go in syllables, with a pause and a faint hiss."
    rng = np.random.default_rng(7)
    t = np.arange(2 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 30)) * np.abs(np.sin(2 * np.pi * 2 * t))
    voice[RATE:RATE + RATE // 3] = 0
    return (voice / 8 + rng.normal(0, 1e-4, len(t))).astype(np.float32)


def tone(hz, seconds=1.0): return np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * hz / RATE).astype(np.float32) / 2


def pitch(samples):
    "The strongest frequency, between bins by a parabola."
    size = 1 << 17
    strength = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size)) + 1e-20)
    k = int(strength.argmax())
    a, b, c = strength[k - 1:k + 2]
    return (k + (a - c) / (a - 2 * b + c) / 2) * RATE / size


def active_db(samples):
    "Level of the frames of 20 ms that are within 30 dB of the 95th percentile."
    frames = (samples - samples.mean())[:len(samples) // 320 * 320].reshape(-1, 320).astype(float)
    power = (frames ** 2).mean(axis=1)
    return 10 * np.log10(power[power > np.percentile(power, 95) / 1000].mean())


def scene(most=0, **more): return Scene(RATE, most, **more)
def rng(seed=0): return np.random.default_rng(seed)


@few
@given(st.floats(0.5, 2), st.sampled_from([300, 440, 1000, 1777]))
def test_speed_is_the_speed_asked_for(factor, hz):
    changed = change_speed(tone(hz), RATE, factor)
    assert abs(pitch(changed) / (hz * factor) - 1) < 1e-3
    assert abs(len(changed) * factor / RATE - 1) < 1e-3


@few
@given(st.floats(0.5, 2), st.sampled_from([100, 220, 440, 1000, 1777]))
def test_tempo_keeps_the_pitch_and_changes_the_length(factor, hz):
    changed = change_tempo(tone(hz), RATE, factor)
    assert abs(pitch(changed) / hz - 1) < 1e-2
    assert abs(len(changed) - RATE / factor) <= 1
    middle = np.abs(changed[2000:-2000]).reshape(-1)
    assert 0.45 < middle.max() < 0.55


def folder_of(path, count=3):
    "Recordings of noise, in two rates and lengths, one of them in stereo."
    path.mkdir(exist_ok=True)
    for i in range(count):
        noise = rng(i).normal(0, 0.1, ((i + 1) * 9000, 1 + i % 2)).cumsum(axis=0)
        sf.write(path / f"{i}.wav", noise / np.abs(noise).max() / 2, (16000, 22050)[i % 2])
    return path


@pytest.fixture(scope="module")
def noises(tmp_path_factory): return str(folder_of(tmp_path_factory.mktemp("noises") / "own"))


def test_the_ratio_of_speech_to_noise_is_the_one_asked_for(noises):
    @settings(max_examples=30)
    @given(st.sampled_from(["white", "pink", "babble", noises]), st.floats(-10, 40), st.floats(-60, 0), st.integers(0))
    def holds(of, snr_db, level_db, seed):
        clip = speech() * np.float32(10 ** (level_db / 20))
        around = scene(voice=lambda rng: np.roll(speech(), int(rng.integers(0, RATE))))
        noisy, drawn = Noise(of, snr_db=snr_db, chance=1)(clip, around, rng(seed))
        added = noisy.astype(float) - clip
        assert abs(active_db(clip) - 10 * np.log10(np.mean(added ** 2)) - snr_db) < 0.5
        assert drawn["of"] == of and len(noisy) == len(clip)
    holds()


def test_the_ratio_is_kept_when_a_clip_is_turned_down(noises):
    clip = speech() / np.abs(speech()).max()
    out = Augment(Noise("white", snr_db=3, chance=1))(clip, RATE, "a")
    scale = float(out @ clip / (clip @ clip))   # white noise and speech have nothing in common
    added = out.astype(float) - scale * clip
    assert np.abs(out).max() <= 1 and scale < 0.95
    assert abs(active_db(scale * clip) - 10 * np.log10(np.mean(added ** 2)) - 3) < 0.5


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [16000, 24000])
def test_a_telephone_leaves_nothing_above_its_band(codec, rate):
    hiss = white_noise(2 * rate, rng()) / 10
    call = over_telephone(hiss, rate, codec)
    power = (np.abs(np.fft.rfft(call * np.hanning(len(call)))) ** 2).astype(float)
    def level(first, last): return 10 * np.log10(power[2 * first:2 * last].mean())
    assert level(500, 3200) - level(3990, 4010) > 40
    assert level(500, 3200) - level(3600, rate // 2) > 40
    assert level(500, 3200) - level(0, 150) > 40
    assert len(call) == len(hiss)
    lag = np.correlate(call[8000:12000], hiss[7900:12100], "valid").argmax() - 100
    assert lag == 0 or codec == "gsm" and abs(lag) <= 1


@few
@given(st.floats(100, 2000), st.floats(2500, 7500))
def test_a_band_ends_where_it_should(low_hz, high_hz):
    hiss = white_noise(RATE, rng())
    power = np.abs(np.fft.rfft(limit_band(hiss, RATE, low_hz, high_hz) * np.hanning(RATE))) ** 2
    inside = power[int(low_hz) + 110:int(high_hz) - 110].mean()
    above = power[int(high_hz) + 110:]
    assert above.mean() < 1e-5 * inside if len(above) else True
    assert power[:max(int(low_hz) - 110, 1)].mean() < 1e-4 * inside


@few
@given(st.floats(0.0005, 0.4), st.integers(0, 99))
def test_the_share_of_clipped_samples_is_the_one_asked_for(share, seed):
    clip = speech() + rng(seed).normal(0, 1e-3, len(speech())).astype(np.float32)
    flat = clip_share(clip, share)
    assert abs(np.mean(np.abs(flat) >= np.abs(flat).max() * (1 - 1e-6)) - share) < 1e-3
    assert np.isclose(np.abs(flat).max(), np.abs(clip).max(), rtol=1e-5)


@few
@given(st.floats(0.05, 1.5), st.floats(-3, 20), st.integers(0, 3000), st.sampled_from([1, -1]), st.integers(0, 99))
def test_a_room_leaves_the_direct_sound_at_its_time(rt60, direct_db, delay, sign, seed):
    response = made_room(RATE, rt60, direct_db, rng(seed))
    assert abs(10 * np.log10(1 / np.sum(response[1:].astype(float) ** 2)) - direct_db) < 0.01
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.5
    wet = in_room(click, np.concatenate([np.zeros(delay, np.float32), sign * response]), RATE)
    assert wet.argmax() == 5000 and not np.abs(wet[:4999]).max() > 1e-6
    spoken = in_room(speech(), response, RATE)
    assert len(spoken) == len(speech()) and abs(active_db(spoken) - active_db(speech())) < 0.1


def test_the_sound_of_a_made_room_falls_by_sixty_decibels_in_its_time():
    for rt60 in (0.2, 0.5, 1.0):
        energy = np.cumsum(made_room(RATE, rt60, 0, rng())[:0:-1].astype(float) ** 2)[::-1]
        fall = 10 * np.log10(energy / energy[0])
        first, last = np.searchsorted(-fall, [5, 25])
        assert abs((last - first) / RATE * 3 / rt60 - 1) < 0.1


def test_a_measured_room_is_read_from_its_folder(tmp_path):
    response = np.concatenate([np.zeros(500), made_room(RATE, 0.3, 6, rng())])
    sf.write(tmp_path / "hall.wav", response / 2, RATE, subtype="FLOAT")
    wet, drawn = Room(folder=str(tmp_path))(speech(), scene(), rng())
    assert drawn["file"].endswith("hall.wav")
    assert np.allclose(wet, in_room(speech(), made_room(RATE, 0.3, 6, rng()), RATE), atol=1e-4)


ODD = dict(
    speech=speech(), silence=np.zeros(RATE, np.float32), one=np.float32([0.3]), three=np.float32([0, 1, -1]),
    short=speech()[8000:8250], full=np.sign(speech()), offset=np.full(RATE, 0.4, np.float32), soft=speech() / 10_000,
    loud=speech() * 40, click=np.eye(1, RATE, 5000, dtype=np.float32)[0])


@pytest.mark.parametrize("name", ODD)
def test_no_clip_comes_out_wrong_whatever_is_done_to_it(name):
    clip, before = ODD[name], ODD[name].copy()
    for kind in [*STEPS.values(), None]:
        some = [kind(chance=1)] if kind else [kind(chance=0.7) for kind in STEPS.values()]
        for i in range(3):
            augmented = Augment(*some, seed=i).change(clip, RATE, name)
            out = augmented.samples
            assert out.dtype == np.float32 and out.ndim == 1 and len(out) and np.isfinite(out).all()
            assert not augmented.done or np.abs(out).max() <= 1
            assert augmented.seconds == len(out) / RATE and augmented.seconds_before == len(clip) / RATE
            assert [entry["step"] for entry in augmented.done] or out is clip
    assert np.array_equal(clip, before)


@settings(max_examples=15)
@given(st.floats(0.3, 2.4), st.floats(0.5, 1), st.sampled_from([Speed, Tempo]))
def test_a_clip_is_slowed_no_more_than_the_model_has_room_for(seconds, factor, kind):
    clip = tone(440, seconds)
    changed, drawn = kind(factor)(clip, scene(2 * RATE), rng())
    assert len(changed) <= max(2 * RATE, len(clip))
    assert drawn["factor"] == max(factor, slowest(len(clip), scene(2 * RATE))) <= 1
    assert abs(len(changed) - len(clip) / drawn["factor"]) <= 1   # nothing is cut
    assert abs(pitch(changed) / (440 * (drawn["factor"] if kind is Speed else 1)) - 1) < 0.01


def test_steps_are_plain_data_that_makes_the_same_steps(noises, tmp_path):
    steps = [kind(chance=0.25) for kind in STEPS.values()] + [Noise(("white", noises), 5), Room(folder=noises)]
    augment = Augment(*steps, seed=3)
    again = Augment.from_dict(json.loads(json.dumps(augment.to_dict())))
    assert again == augment and again.steps == augment.steps and eval(repr(augment)) == augment
    assert [step_of(step_dict(step)) for step in steps] == steps
    assert np.array_equal(again(speech(), RATE, "a"), augment(speech(), RATE, "a"))


def test_a_step_that_is_added_changes_nothing_of_those_before_it():
    one, two = Augment(Speed(chance=1)), Augment(Speed(chance=1), Gain(chance=1))
    assert one.change(speech(), RATE, "a").done == two.change(speech(), RATE, "a").done[:1]


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_a_step_comes_as_often_as_its_chance(chance):
    augment = Augment(Gain(chance=chance))
    changed = [bool(augment.change(tone(440, 0.01), RATE, str(i)).done) for i in range(1000)]
    assert abs(np.mean(changed) - chance) < 0.05


REFUSED = {
    "factor of Speed": lambda: Speed(0.1), "from 0.5 to 2": lambda: Tempo((1.1, 0.9)), "db of Gain": lambda: Gain("loud"),
    "chance of Gain": lambda: Gain(chance=2), "codec of Telephone": lambda: Telephone("mp3"),
    "share of Clipping": lambda: Clipping(0.9), "snr_db of Noise": lambda: Noise(snr_db=float("nan")),
    "brown is no folder": lambda: Noise("brown"), "of of Noise": lambda: Noise(()), "rt60_seconds": lambda: Room(0),
    "low_hz of Band": lambda: Band((0, 1500), (1200, 3000)), "or more of Speed": lambda: Augment("speed"),
    "seed of Augment": lambda: Augment(Gain(), seed="a"), "must name one of": lambda: step_of({"step": "echo"}),
    "gain has db": lambda: step_of({"step": "gain", "loud": 1}), "a list of steps": lambda: Augment.from_dict([]),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_means_nothing_is_refused_in_a_sentence(said):
    with pytest.raises((ValueError, FileNotFoundError), match=said): REFUSED[said]()


def test_a_folder_without_recordings_and_a_file_that_is_none_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match="must hold recordings"): Noise(str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="bad.wav can't be read as a recording"):
        Noise(str(tmp_path / "sub"))(speech(), scene(), rng())


def test_what_needs_filters_says_which_extra_has_them(monkeypatch):
    monkeypatch.setattr("audio_ft_prep.steps.find_spec", lambda name: None)
    for kind in (Room, Band, Telephone):
        with pytest.raises(ImportError, match=r"needs scipy: pip install audio_ft_prep\[augment\]"): kind()
    assert Speed() and Noise() and Clipping()


def test_a_clip_has_its_own_numbers_in_each_epoch():
    draws = {clip_rng(seed, epoch, clip).random() for seed in (1, 2) for epoch in (0, 1) for clip in ("a", "b")}
    assert len(draws) == 8
