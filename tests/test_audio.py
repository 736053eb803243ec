"""Clips of every kind are read whole or refused with a reason; nothing is lost without a word."""
import gc, io, os, random, struct, sys, tarfile, time
from pathlib import Path
import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings, strategies as st
from audio_ft_prep.audio import Clip, Limits, read_clip
from audio_ft_prep.container import read_container
from audio_ft_prep.decoding import ForwardFile, decode
from audio_ft_prep.measures import Utterance, clipped, measured
from audio_ft_prep.mpeg import audio_span, frame_at, made_up_header, walk_frames
from audio_ft_prep.rejects import BadClip
from fixtures.make_audio import AUDIO, FILES, SECONDS, recording

FIXTURES = {name: (AUDIO / name).read_bytes() for name in FILES}
NO_HEADER = [n for n in FILES if "no_header" in n or n == "ffmpeg_vbr_pipe.mp3"]
REASONS = {"empty_audio", "undecodable", "truncated", "corrupt", "not_finite", "silent", "too_short", "too_long"}
ID3V2 = b"ID3\4\0\0\0\0\0\x0aTIT2\0\0\0\0\0\0"
ID3V1 = b"TAG".ljust(128, b" ")
APE = b"tags" + b"APETAGEX" + struct.pack("<IIII", 2000, 36, 0, 0) + bytes(8)
APE_WITH_HEADER = bytes(32) + b"tags" + b"APETAGEX" + struct.pack("<IIII", 2000, 36, 0, 1 << 31) + bytes(8)


def encode(x, rate, format, **kwargs):
    sf.write(buf := io.BytesIO(), x, rate, format=format, **kwargs)
    return buf.getvalue()

def refusal(data, given_seconds=None, start=None, **limits):
    "The `BadClip` that `data` ends in, or nothing."
    try: read_clip(data, Limits(**limits), given_seconds, start)
    except BadClip as e: return e

def reason(data, **kwargs): return getattr(refusal(data, **kwargs), "reason", None)

def bare(mp3):
    "An MP3 without the frame that holds its header."
    return mp3[frame_at(mp3[:4]).size:]

def said(clip):
    "A clip and a sentence."
    return Utterance(clip, "Ciao, mondo.", 4)

def resampled(x, rate=48000): return soxr.resample(x, rate, 16000, quality="HQ")

def best_match(x, y):
    "Correlation of all of `x` with `y`, at the delay where it is highest."
    n = 2 * len(y)
    fit = np.fft.irfft(np.fft.rfft(y, n) * np.fft.rfft(x, n).conj(), n)
    delay = fit[:len(y) - len(x) + 1].argmax()
    return np.corrcoef(x, y[delay:delay + len(x)])[0, 1]


# --- every format, rate and channel count

KINDS = [("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")] + [
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("RF64", "PCM_16"), ("WAVEX", "PCM_16")]

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
CASES = [(f, s, r, c) for f, s in KINDS for r in RATES for c in (1, 2, 6)
         if (f != "MP3" or c <= 2) and (s != "OPUS" or r in (8000, 16000, 24000, 48000))]

@pytest.mark.parametrize("format, subtype, rate, channels", CASES)
def test_every_format_rate_and_channel_count_is_mixed_and_resampled(format, subtype, rate, channels):
    data = encode(recording(rate, channels, 0.5), rate, format, subtype=subtype)
    clip = read_clip(data)
    native, _ = sf.read(io.BytesIO(data), dtype="float32", always_2d=True)
    want = soxr.resample(native.mean(axis=1), rate, 16000, quality="HQ") if rate != 16000 else native.mean(axis=1)
    np.testing.assert_allclose(clip.samples, want, atol=1e-6)
    assert clip.samples.dtype == np.float32 and clip.samples.ndim == 1
    assert (clip.rate, clip.native_rate, clip.channels) == (16000, rate, channels)
    assert clip.format == {"RF64": "wav", "WAVEX": "wav"}.get(format, format.lower())
    assert clip.peak == pytest.approx(np.abs(native).max())

@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_a_clip_comes_at_the_rate_asked_for(rate):
    clip = read_clip(encode(recording(24000), 24000, "WAV"), Limits(rate))
    assert clip.rate == rate
    assert abs(len(clip.samples) - SECONDS*rate) <= 1
    assert clip.seconds == pytest.approx(SECONDS, abs=1e-3)

@pytest.mark.parametrize("name", sorted(FILES))
def test_all_of_the_recording_is_there_whatever_the_encoder(name):
    rate, _ = FILES[name]
    data = FIXTURES[name]
    x, native = decode(read_container(data))
    mono = x if x.ndim == 1 else x[:, 0]
    want = recording(rate)
    if native != rate: want = soxr.resample(want, rate, native, quality="HQ")
    assert len(mono) > SECONDS*native - 50                          # an encoder may round down by a few samples
    assert best_match(want[:-round(0.03*native)], mono) > 0.98      # and layer II pushes out what its delay adds
    assert read_clip(data, given_seconds=SECONDS).seconds < SECONDS + 0.25

@pytest.mark.parametrize("name", sorted(FILES))
def test_the_same_bytes_give_the_same_samples(name):
    a, b = read_clip(FIXTURES[name]), read_clip(bytes(bytearray(FIXTURES[name])))
    assert np.array_equal(a.samples, b.samples) and measured(said(a)) == measured(said(b))

def test_samples_are_libsndfiles_to_the_bit_where_it_reads_the_file():
    for name in ("ffmpeg_cbr_header.mp3", "lame_header_tags.mp3", "ffmpeg_vorbis.ogg", "ffmpeg_pipe.wav", "layer2.mp3"):
        x, rate = sf.read(io.BytesIO(FIXTURES[name]), dtype="float32")
        assert np.array_equal(decode(read_container(FIXTURES[name]))[0], x), name


# --- the two traps of libsndfile

@pytest.mark.parametrize("name", NO_HEADER)
def test_no_frame_of_an_mp3_without_header_is_lost(name):
    data = FIXTURES[name]
    start, stop = audio_span(data)
    first = frame_at(data[start:start + 4])
    frames = walk_frames(data, start, stop, first).frames
    x, rate = decode(read_container(data))
    assert len(x) == frames*first.samples - 529
    assert len(x) >= SECONDS*rate

@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_losing_the_header_loses_no_audio(mode, rate, channels):
    mp3 = encode(recording(rate, channels), rate, "MP3", bitrate_mode=mode, compression_level=0.5)
    with_header, without = decode(read_container(mp3))[0], decode(read_container(bare(mp3)))[0]
    delay = 576                                       # of LAME, which only its header tells
    assert np.array_equal(with_header, without[delay:delay + len(with_header)])

def test_flac_from_a_pipe_is_read_to_its_end():
    x, rate = decode(read_container(FIXTURES["ffmpeg_pipe.flac"]))
    np.testing.assert_allclose(x, recording(rate), atol=1.01/2**15)

@pytest.mark.parametrize("channels", [1, 2])
def test_flac_without_a_length_equals_flac_with_one(channels):
    flac = encode(recording(16000, channels), 16000, "FLAC")
    piped = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    assert ForwardFile(io.BytesIO(piped)).frames > 1 << 62
    assert np.array_equal(read_clip(piped).samples, read_clip(flac).samples)


# --- cut files

SMALL = recording(16000, seconds=0.4)
CUTTABLE = {
    "mp3": encode(SMALL, 16000, "MP3"),
    "mp3 of constant bit rate": encode(SMALL, 16000, "MP3", bitrate_mode="CONSTANT", compression_level=0.8),
    "mp3 in stereo": encode(np.stack([SMALL, SMALL], axis=1), 16000, "MP3"),
    "mp3 with a tag": ID3V2 + encode(SMALL, 16000, "MP3"),
    "mp3 with frame checksums": FIXTURES["lame_header_crc.mp3"],
    "wav": encode(SMALL, 16000, "WAV"),
    "wav of odd length": encode(SMALL[:4001], 16000, "WAV", subtype="PCM_U8")[:-1],
    "aiff": encode(SMALL, 16000, "AIFF"),
    "au": encode(SMALL, 16000, "AU"),
    "flac": encode(SMALL, 16000, "FLAC"),
    "vorbis": encode(SMALL, 16000, "OGG"),
    "opus": FIXTURES["ffmpeg_opus_pipe.ogg"],
}

@pytest.mark.parametrize("kind", CUTTABLE)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_found(kind, share):
    data = CUTTABLE[kind]
    k = int(share * len(data))
    assert (
        reason(data[:k]) == "truncated"
        if k >= 12
        else reason(data[:k]) in ("empty_audio", "undecodable", "truncated")
    )

@pytest.mark.parametrize("kind", CUTTABLE)
def test_a_cut_in_the_headers_is_found(kind):
    assert {reason(CUTTABLE[kind][:k]) for k in range(12, 120)} == {"truncated"}

@pytest.mark.parametrize("kind", ["vorbis", "opus"])
def test_a_cut_between_two_pages_is_seen_by_the_duration_that_the_corpus_gives_alone(kind):
    data = CUTTABLE[kind] if kind == "opus" else FIXTURES["ffmpeg_vorbis.ogg"]
    borders = [k for k in range(1, len(data)) if data[k:k + 4] == b"OggS"]
    seconds = read_clip(data).seconds
    for k in borders:
        assert reason(data[:k], given_seconds=seconds) == "truncated" or read_clip(data[:k]).seconds > seconds - 0.1
    assert {reason(data[:k]) for k in borders[:2]} == {"truncated"}            # headers alone

@pytest.mark.parametrize("kind", CUTTABLE)
def test_one_missing_byte_is_found_and_none_missing_is_no_alarm(kind):
    assert reason(CUTTABLE[kind][:-1]) == "truncated"
    assert reason(CUTTABLE[kind]) is None

@pytest.mark.parametrize("name", [n for n in NO_HEADER if "8k" not in n])
def test_cuts_of_an_mp3_without_header_are_found_unless_between_two_frames(name):
    data = FIXTURES[name]
    start, stop = audio_span(data)
    borders = {start}
    while start < stop: borders.add(start := start + frame_at(data[start:start + 4]).size)
    for k in random.Random(0).sample(range(min(borders) + 4, len(data)), 150):
        assert bool(read_container(data[:k]).cut) == (k not in borders), k

def test_the_corpus_duration_finds_the_cut_that_the_container_hides():
    data = FIXTURES["lame_cbr_no_header.mp3"]
    cut = data[:len(data) // 192 // 2 * 192]
    assert not read_container(cut).cut
    e = refusal(cut, given_seconds=SECONDS)
    assert e.reason == "truncated" and "1.20 s that the corpus gives" in e.detail
    assert reason(data, given_seconds=SECONDS) is None

def test_a_wav_of_unknown_size_is_no_alarm():
    data = FIXTURES["ffmpeg_pipe.wav"]
    assert data.find(b"data\xff\xff\xff\xff") > 0
    assert reason(data) is None
    assert reason(data[:len(data) // 2], given_seconds=SECONDS) == "truncated"

@pytest.mark.parametrize(
    "behind",
    [bytes(4096), b"<html>" * 300, ID3V1, APE, APE_WITH_HEADER, APE + ID3V1, b"second", bytes(range(256)) * 20],
    ids=lambda b: repr(b[:8]),
)
@pytest.mark.parametrize("name", ["ffmpeg_cbr_header.mp3", "lame_cbr_no_header.mp3", "lame_vbr_no_header.mp3"])
def test_what_stands_behind_an_mp3_is_no_alarm_and_no_audio(name, behind):
    data = FIXTURES[name]
    assert np.array_equal(read_clip(data + behind).samples, read_clip(data).samples)

@pytest.mark.parametrize("name", ["ffmpeg_cbr_header.mp3", "lame_cbr_no_header.mp3", "lame_vbr_no_header.mp3"])
def test_four_bytes_behind_an_mp3_that_look_like_a_frame_are_no_frame(name):
    data = FIXTURES[name]
    start, _ = audio_span(data)
    behind = bytes(50) + data[start:start + 4] + bytes(30)
    assert np.array_equal(read_clip(data + behind).samples, read_clip(data).samples)

@pytest.mark.parametrize(
    "tag", [ID3V1, APE, APE_WITH_HEADER, APE + ID3V1], ids=["id3v1", "ape", "ape with header", "both"]
)
@pytest.mark.parametrize("name", ["ffmpeg_cbr_header.mp3", "lame_cbr_no_header.mp3", "lame_vbr_no_header.mp3"])
def test_a_tag_behind_a_cut_does_not_hide_it(name, tag):
    start, stop = audio_span(FIXTURES[name])
    for k in (1, 20, 90): assert reason(FIXTURES[name][:stop - k] + tag) == "truncated"

TWO = encode(recording(48000, seconds=0.7), 48000, "MP3")
GLUED = {
    "of the same kind": TWO,
    "with a tag": ID3V2 + TWO,
    "behind a tag of the first": ID3V1 + TWO,
    "behind two tags": APE + ID3V1 + ID3V2 + TWO,
    "without a header": bare(TWO),
    "of another encoder": FIXTURES["ffmpeg_vbr_pipe.mp3"],
    "thrice": TWO + TWO + bare(TWO),
}
ADDED = {"of another encoder": SECONDS, "thrice": 2.1}

@pytest.mark.parametrize("second", GLUED)
@pytest.mark.parametrize("name", ["ffmpeg_cbr_header.mp3", "lame_cbr_no_header.mp3", "lame_vbr_no_header.mp3"])
def test_mp3s_that_were_joined_are_one_clip_with_the_audio_of_all(name, second):
    clip = read_clip(FIXTURES[name] + GLUED[second])
    assert SECONDS + ADDED.get(second, 0.7) <= clip.seconds < SECONDS + ADDED.get(second, 0.7) + 0.3
    assert best_match(resampled(recording(48000, seconds=0.65)), clip.samples[round(1.2*16000):]) > 0.97

@pytest.mark.parametrize(
    "second",
    [
        FIXTURES["lame_vbr_no_header_24k.mp3"],
        encode(recording(48000, 2), 48000, "MP3"),
        ID3V2 + encode(recording(16000), 16000, "MP3"),
        FIXTURES["layer2.mp3"],
    ],
    ids=["of another rate", "in stereo", "of another rate behind a tag", "of another layer"],
)
@pytest.mark.parametrize("name", ["ffmpeg_cbr_header.mp3", "lame_cbr_no_header.mp3"])
def test_mp3s_of_two_kinds_that_were_joined_are_refused_by_name(name, second):
    e = refusal(FIXTURES[name] + second)
    assert e.reason == "undecodable" and "are joined in it" in e.detail and "48,000 Hz mono" in e.detail

@pytest.mark.parametrize("k", [1, 40, 300])
def test_a_cut_in_any_of_the_files_that_were_joined_is_found(k):
    assert reason(TWO[:-k] + TWO) == reason(TWO + TWO[:-k]) == reason(TWO + bare(TWO)[:-k]) == "truncated"

@pytest.mark.parametrize("counted", [1, 5, 20])
def test_a_header_that_counts_too_few_frames_cuts_nothing(counted):
    at, first = TWO.find(b"Xing") + 8 if b"Xing" in TWO[:200] else TWO.find(b"Info") + 8, frame_at(TWO[:4])
    for size in (TWO[at + 4:at + 8], struct.pack(">I", 5000), bytes(4)):
        clip = read_clip(TWO[:at] + struct.pack(">I", counted) + size + TWO[at + 8:])
        assert 0.7 <= clip.seconds < 0.85

@pytest.mark.parametrize("kind", ["wav", "vorbis"])
def test_zeros_behind_other_formats_are_no_alarm(kind):
    assert np.array_equal(read_clip(CUTTABLE[kind] + bytes(4096)).samples, read_clip(CUTTABLE[kind]).samples)

def test_tags_change_no_sample():
    mp3 = CUTTABLE["mp3"]
    for data in (ID3V2 + mp3, ID3V2*2 + mp3 + ID3V1, mp3 + APE, ID3V2 + mp3 + APE + ID3V1):
        assert np.array_equal(read_clip(data).samples, read_clip(mp3).samples)
    assert np.array_equal(read_clip(ID3V2 + CUTTABLE["flac"]).samples, read_clip(CUTTABLE["flac"]).samples)

def test_a_header_that_is_wrong_about_its_bytes_only_is_no_alarm():
    mp3 = CUTTABLE["mp3"]
    at = mp3.find(b"Xing") + 12
    lying = mp3[:at] + struct.pack(">I", len(mp3) + 5000) + mp3[at + 4:]
    assert np.array_equal(read_clip(lying).samples, read_clip(mp3).samples)

def test_a_header_without_a_byte_count_tells_by_its_frames():
    mp3 = CUTTABLE["mp3"]
    at = mp3.find(b"Xing") + 4
    frames_only = mp3[:at] + struct.pack(">II", 1, struct.unpack_from(">I", mp3, at + 4)[0]) + mp3[at + 8:]
    assert reason(frames_only) is None
    e = refusal(frames_only[:-1])
    assert e.reason == "truncated" and "frames that its header promises" in e.detail

def test_an_id3_footer_is_skipped():
    tag = bytearray(ID3V2)
    tag[5] |= 0x10
    for kind in ("mp3", "flac"):
        box = read_container(bytes(tag) + b"3DI" + ID3V2[3:10] + CUTTABLE[kind])
        assert (box.format, box.payload) == (kind, CUTTABLE[kind])

def test_a_hole_inside_is_found():
    mp3, rng = encode(recording(16000), 16000, "MP3"), random.Random(0)
    for _ in range(40):
        k = rng.randrange(500, len(mp3) - 3000)
        assert reason(mp3[:k] + mp3[k + 700:]) == "truncated"
        assert reason(mp3[:k] + bytes(2000) + mp3[k + 2000:]) == "corrupt"

@pytest.mark.parametrize("how", [dict(bitrate_mode="CONSTANT"), dict(bitrate_mode="VARIABLE")], ids=["CBR", "VBR"])
@pytest.mark.parametrize("behind", [b"", bytes(4096), ID3V1, APE])
def test_one_changed_bit_is_found_where_the_encoder_left_a_checksum(how, behind):
    mp3, rng = encode(recording(16000), 16000, "MP3", **how), random.Random(0)
    first = frame_at(mp3[:4]).size
    assert reason(mp3 + behind) is None
    for _ in range(60):
        flipped = bytearray(mp3)
        flipped[rng.randrange(first, len(mp3))] ^= 1 << rng.randrange(8)
        assert reason(bytes(flipped) + behind) == "corrupt"

def test_a_file_whose_volume_was_turned_and_a_sum_of_zero_are_not_judged():
    mp3 = bytearray(CUTTABLE["mp3"])
    lame = mp3.find(b"LAME")
    mp3[-100] ^= 1
    assert reason(bytes(mp3)) == "corrupt"
    undo = b"MP3GAIN_UNDO".ljust(20)                                              # as an item of an APEv2 tag
    tag = undo + b"APETAGEX" + struct.pack("<IIII", 2000, 52, 1, 0) + bytes(8)
    assert reason(bytes(mp3) + tag) is None
    assert reason(bytes(mp3[:lame + 25] + b"\3" + mp3[lame + 26:])) is None       # what mp3gain leaves in the tag
    assert reason(bytes(mp3[:lame + 32] + bytes(2) + mp3[lame + 34:])) is None    # no sum

def test_a_damaged_frame_is_found_without_a_checksum():
    mp3, rng = encode(recording(16000), 16000, "MP3", bitrate_mode="CONSTANT"), random.Random(0)
    lame = mp3.find(b"LAME")
    bare = mp3[:lame + 32] + bytes(2) + mp3[lame + 34:]
    for _ in range(20):
        k = rng.randrange(500, len(mp3) - 3000)
        assert reason(bare) is None and reason(bare[:k] + rng.randbytes(2000) + bare[k + 2000:]) == "truncated"

def test_good_and_cut_files_leave_the_terminal_alone(capfd, monkeypatch):
    gc.collect()                                                   # what others left is not seen here
    ignored = []                                                   # exceptions that end in a callback of libsndfile
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    for data in FIXTURES.values(): read_clip(data)
    for data in CUTTABLE.values():
        for share in (0.1, 0.5, 0.9): refusal(data[:int(len(data)*share)])
    read_clip(FIXTURES["lame_cbr_no_header.mp3"] + bytes(4096))
    read_clip(FIXTURES["ffmpeg_cbr_header.mp3"] + bytes(4096))
    aiff = encode(SMALL, 16000, "AIFF", subtype="FLOAT")
    check(aiff.replace(b"COMM\0", b"COMM\x7f"))                 # libsndfile then seeks to before the first byte
    out = capfd.readouterr()
    assert (out.out, out.err, ignored) == ("", "", [])


# --- any bytes at all

def check(data):
    "A clip that holds its promises, or a `BadClip` that does."
    try: clip = read_clip(data)
    except BadClip as e:
        assert e.reason in REASONS and e.detail and "object at 0x" not in e.detail
        return e.reason
    assert isinstance(clip, Clip) and clip.samples.dtype == np.float32 and clip.samples.ndim == 1
    assert 0 < len(clip.samples) <= 480_000 and np.isfinite(clip.samples).all() and clip.peak > 0

SEEDS = list(CUTTABLE.values()) + list(FIXTURES.values()) + [bare(CUTTABLE["mp3"])]
STARTS = [
    b"",
    b"ID3\4\0\0",
    b"ID3\4\0\0\0\0\0\0",
    b"\xff\xfb\x94\xc4",
    b"\xff\xf3\x54\xc4",
    b"RIFF\xff\xff\0\0WAVE",
    b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0",
    b"fLaC",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"FORM\0\0\0\0AIFF",
    b".snd\0\0\0\x18",
]

@settings(max_examples=400, deadline=None)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=3000))
def test_any_bytes_give_a_clip_or_a_reason(start, rest): check(start + rest)

@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from(SEEDS),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=60), st.booleans()), max_size=4
    ),
)
def test_damaged_files_give_a_clip_or_a_reason(data, edits):
    for share, gone, new, in_head in edits:
        k = int(share * (80 if in_head else len(data)))
        data = data[:k] + new + data[k + gone:]
    check(data)

def test_what_is_not_audio_is_named_by_how_it_begins():
    for data in (
        b"<!DOCTYPE html>",
        b"version https://git-lfs.github.com/spec/v1",
        b"PK\3\4" + bytes(50),
        bytes(5000),
        b"\x1aE\xdf\xa3 webm",
    ):
        e = refusal(data)
        assert e.reason == "undecodable" and repr(data[:8]) in e.detail

def test_an_mp3_that_holds_only_its_header_is_refused():
    mp3 = CUTTABLE["mp3"]
    size, at = frame_at(mp3[:4]).size, mp3.find(b"Xing") + 4
    assert reason(mp3[:size]) == "truncated"
    assert check(mp3[:at] + bytes(12) + mp3[at + 12:size]) in ("empty_audio", "undecodable")


# --- limits and levels

def test_limits_belong_to_what_is_kept():
    wav = encode(np.tile(SMALL, 100)[:480_000], 16000, "WAV")
    assert len(read_clip(wav).samples) == 480_000
    assert reason(encode(np.tile(SMALL, 100)[:480_001], 16000, "WAV")) == "too_long"
    assert reason(wav, min_seconds=30) is None and reason(wav, min_seconds=30.001, max_seconds=40) == "too_short"

@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000])
def test_thirty_seconds_stay_thirty_seconds_without_a_header(rate):
    mp3 = encode(recording(rate, seconds=30), rate, "MP3")
    native = decode(read_container(bare(mp3)), max_seconds=40)[0]
    assert len(native) > 30*rate
    for data in (mp3, bare(mp3)): assert len(read_clip(data).samples) == 480_000
    longer = encode(recording(rate, seconds=30.5), rate, "MP3")
    assert reason(longer) == reason(bare(longer)) == "too_long"

@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_thirty_seconds_at_other_rates_are_never_a_sample_too_many(rate):
    for format in ("WAV", "FLAC", "OGG"):
        assert len(read_clip(encode(recording(rate, seconds=30), rate, format)).samples) == 480_000

def test_a_clip_of_hours_is_refused_undecoded():
    one = bare(CUTTABLE["mp3"])
    frame = one[:frame_at(one[:4]).size]
    body = frame * 200_000
    t = time.process_time()
    e = refusal(made_up_header(frame[:4], 200_000, len(body)) + body)
    assert e.reason == "too_long" and "7,200.0" in e.detail.replace("7,199.9", "7,200.0")
    assert time.process_time() - t < 2

def test_a_flac_that_does_not_know_its_length_is_refused_at_the_limit():
    flac = encode(np.tile(SMALL, 10), 16000, "FLAC")
    piped = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    assert reason(piped, max_seconds=3.9) == "too_long" and reason(piped, max_seconds=4) is None

@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("channels", [1, 2])
def test_numbers_that_are_no_sound_are_refused(value, channels):
    x = recording(16000, channels).astype(np.float32)
    x[len(x) // 2] = value
    assert reason(encode(x, 16000, "WAV", subtype="FLOAT")) == "not_finite"

@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recorder_has_is_refused(rate):
    wav = CUTTABLE["wav"]
    e = refusal(wav[:24] + struct.pack("<I", rate) + wav[28:])
    assert e.reason == "undecodable" and f"{rate:,} Hz" in e.detail

def test_digital_silence_is_refused_and_a_whisper_is_not():
    for format in ("WAV", "FLAC", "MP3"): assert reason(encode(np.zeros(8000), 16000, format)) == "silent"
    assert reason(encode(np.stack([SMALL, -SMALL], axis=1), 16000, "WAV", subtype="FLOAT")) == "silent"
    assert read_clip(encode(SMALL / 2000, 16000, "FLAC")).peak < 0.001

def test_empty_audio_is_refused():
    assert refusal(b"").detail == "0 bytes"
    for format in ("WAV", "AIFF"): assert reason(encode(SMALL[:0], 16000, format)) == "empty_audio"
    assert reason(encode(SMALL[:1], 48000, "WAV")) == "empty_audio"
    assert len(read_clip(encode(SMALL[:160], 16000, "WAV")).samples) == 160

def test_clipping_is_measured_before_resampling():
    loud = np.clip(recording(48000) * 10, -1, 1)
    clip = read_clip(encode(loud, 48000, "WAV"))
    assert clip.peak >= 0.999 and clipped(said(clip)) == pytest.approx(np.mean(np.abs(loud) >= 0.999), abs=1e-3)
    assert clipped(said(read_clip(encode(loud, 48000, "MP3")))) > 0.003
    assert clipped(said(read_clip(encode(recording(48000), 48000, "MP3")))) == 0


# --- a corpus at hand

CORPORA = os.environ.get("AUDIO_FT_PREP_CORPORA")

@pytest.mark.skipif(not CORPORA, reason="AUDIO_FT_PREP_CORPORA names no folder in the Common Voice layout")
def test_a_corpus_raises_no_false_alarm_and_hides_no_cut():
    rng, clips, missed = random.Random(0), 0, []
    for tar in sorted(Path(CORPORA).glob("audio/*/*/*.tar")):
        with tarfile.open(tar) as f:
            for member in filter(tarfile.TarInfo.isfile, f):
                data, clips = f.extractfile(member).read(), clips + 1
                x, rate = decode(read_container(data), max_seconds=3600)
                if read_container(data).header != "made up":
                    assert np.array_equal(x, sf.read(io.BytesIO(data), dtype="float32")[0]), member.name
                cut = data[:rng.randrange(1, len(data))]
                if read_container(data).header == "own" and not refusal(cut, max_seconds=3600):
                    missed.append(member.name)
    assert clips and not missed
