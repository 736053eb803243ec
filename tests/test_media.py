"Recordings that libsndfile doesn't read: each kind gives the same words, and no damage does harm."

import io
import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from audio_ft_prep import container
from audio_ft_prep.audio import Limits, read_clip
from audio_ft_prep.captions import read_captions
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.container import read_container
from audio_ft_prep.decoding import RecordingFile, decode, decode_segment, recording_container
from audio_ft_prep.example import row_sound
from audio_ft_prep.hearing import mono_blocks
from audio_ft_prep.media import MediaFile
from audio_ft_prep.rejects import BadClip

av = pytest.importorskip("av", reason="the extra media is not installed")

KINDS = {  # Name of the kind, container, codec, rate
    "m4a": ("mp4", "ipod", "aac", 44100),
    "mp4": ("mp4", "mp4", "aac", 48000),
    "webm": ("webm", "webm", "libopus", 48000),
    "mkv": ("webm", "matroska", "libmp3lame", 16000),
    "mka": ("webm", "matroska", "pcm_s16le", 22050),
    "wma": ("wma", "asf", "wmav2", 44100),
    "aac": ("aac", "adts", "aac", 44100),
}
BEEPS = ((0.5, 300), (2.0, 500), (3.25, 900))  # Seconds and Hz


def beeps(rate, seconds=5):
    "Three beeps of a quarter of a second in silence."
    t = np.arange(seconds * rate) / rate
    x = np.zeros(len(t), np.float32)
    for start, hz in BEEPS:
        x += np.float32(0.3) * np.sin(2 * np.pi * hz * t) * ((t >= start) & (t < start + 0.25))
    return x.astype(np.float32)


def encoded(x, form, codec, rate, layout="mono", options=None):
    "Samples as the bytes of a file."
    with av.open(buffer := io.BytesIO(), "w", format=form, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if "wma" in codec: stream.bit_rate = 64000
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x.reshape(1, -1)), "flt", layout)
        frame.sample_rate = rate
        frame.time_base, frame.pts = Fraction(1, rate), 0
        for part in resampler.resample(frame):
            for packet in stream.encode(part): out.mux(packet)
        for packet in stream.encode(None): out.mux(packet)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files():
    return {name: encoded(beeps(rate), form, codec, rate) for name, (_, form, codec, rate) in KINDS.items()}


def energies(x, rate):
    "How loud each tenth of a second is."
    n = rate // 10
    return np.sqrt((x[: len(x) // n * n].reshape(-1, n) ** 2).mean(axis=1))


@pytest.mark.parametrize("name", KINDS)
def test_sound_of_each_kind_is_where_it_was(files, name):
    box = read_container(files[name])
    x, rate = decode(box)
    assert (box.format, rate) == (KINDS[name][0], KINDS[name][3]) and abs(len(x) / rate - 5) < 0.1
    late = 0.06 if name in ("wma", "aac") else 0.005  # both count the encoder's own delay as sound
    loud = np.flatnonzero(np.abs(x) > 0.1) / rate
    begins = loud[np.flatnonzero(np.diff(loud, prepend=-1) > 0.3)]
    assert np.abs(begins - [start for start, _ in BEEPS]).max() < late


@pytest.mark.parametrize("name", KINDS)
def test_a_part_is_what_the_whole_has_there(files, name, tmp_path):
    whole, rate = decode(read_container(files[name]))
    path = tmp_path / "recording"
    path.write_bytes(b"...." + files[name])
    with RecordingFile(str(path), 4, len(files[name])) as recording:
        part, _ = decode_segment(recording_container(recording), 3.0, 1.0)
    assert len(part) == rate
    assert np.abs(energies(part, rate) - energies(whole[3 * rate : 4 * rate], rate)).max() < 0.03  # Matroska counts milliseconds


def test_a_clip_of_two_channels_is_mixed(files):
    x = np.stack([beeps(48000), np.zeros(5 * 48000, np.float32)], axis=1)
    clip = read_clip(encoded(x, "webm", "libopus", 48000, "stereo"), Limits(16000))
    assert (clip.channels, clip.rate, clip.format) == (2, 16000, "webm") and abs(clip.seconds - 5) < 0.05


@pytest.mark.parametrize("name", KINDS)
def test_half_a_file_is_a_reject_or_shorter(files, name):
    data = files[name]
    for size in (len(data) // 2, 60, 20):
        try: x, rate = decode(read_container(data[:size]))
        except BadClip as e: assert e.reason in ("undecodable", "truncated", "empty_audio")
        else: assert len(x) / rate < 3 and name in ("wma", "aac")


@pytest.mark.parametrize("name", KINDS)
def test_damaged_bytes_neither_hang_nor_crash(files, name):
    rng = np.random.default_rng(7)
    begun = time.process_time()
    for _ in range(25):
        data = bytearray(files[name])
        for at in rng.integers(8, len(data), 20): data[at] = rng.integers(256)
        for start in (None, 3.0):
            try: read_clip(bytes(data), Limits(16000), None, start)
            except BadClip: pass
    assert time.process_time() - begun < 10


def test_what_is_too_long_is_refused_and_takes_no_memory(files):
    long = encoded(np.zeros(16000 * 120, np.float32), "matroska", "libmp3lame", 16000)
    with pytest.raises(BadClip, match="too_long"): decode(read_container(long), 5)
    part, rate = decode_segment(read_container(long), 110, 5)
    tracemalloc.start()
    with MediaFile(io.BytesIO(long), "webm") as f:
        blocks = 0
        while len(f.read(16000)): blocks += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(part) == 5 * rate and blocks in (120, 121) and peak < 1e6


def test_captions_of_a_video_are_rows_that_are_read(files, tmp_path):
    (tmp_path / "council.webm").write_bytes(files["webm"])
    times = [f"00:00:0{i},000 --> 00:00:0{i},900\nThis is beep {i}." for i in (0, 2, 3)]
    (tmp_path / "council.srt").write_text("\n\n".join(f"{n}\n{t}" for n, t in enumerate(times, 1)))
    corpus = read_captions(PrepConfig(str(tmp_path), "it", train_splits="train", eval_splits=""), tmp_path)
    sounds = [row_sound(row, Limits(16000))[0] for row in corpus.rows.to_pylist()]
    assert [round(clip.seconds, 2) for clip in sounds] == [0.9] * 3
    assert all(np.abs(clip.samples).max() > 0.2 for clip in sounds)
    assert abs(sum(map(len, mono_blocks(tmp_path / "council.webm", 16000))) / 16000 - 5) < 0.05


def test_amr_of_telephones_is_read():
    frame = bytes([0x3C]) + bytes(31)  # 20 ms of 12.2 kbit/s (RFC 4867)
    x, rate = decode(read_container(b"#!AMR\n" + 50 * frame))
    assert (len(x), rate) == (8000, 8000)


def test_a_place_behind_the_end_is_no_sound(files):
    for name in KINDS:
        with pytest.raises(BadClip, match="truncated|undecodable"):
            decode_segment(read_container(files[name]), 50, 1)


def test_without_pyav_the_reject_names_the_extra(files, monkeypatch):
    monkeypatch.setattr(container, "has_media", lambda: False)
    with pytest.raises(BadClip, match=r"an MP4 file .*audio_ft_prep\[media\]"): read_clip(files["m4a"])


def test_a_list_of_other_files_is_not_followed(tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    playlist = f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.wav\n".encode()
    with pytest.raises(BadClip, match="undecodable"): read_clip(playlist)
    with pytest.raises(BadClip, match="undecodable"): MediaFile(io.BytesIO(b"\x1aE\xdf\xa3" + playlist), "webm")
