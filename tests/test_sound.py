"The audio that is kept is all the audio of its file, or the file is refused with a reason; nothing good is lost to a header, a tag or a duration."
import io, os, struct, time
from pathlib import Path
import numpy as np
import pytest
import soundfile as sf
from hypothesis import assume, given, settings, strategies as st
from audio_ft_prep.audio import Limits, read_clip, to_mono
from audio_ft_prep.container import read_container
from audio_ft_prep.decoding import RecordingFile, decode, decode_segment, over_limit, recording_container, under_limit
from audio_ft_prep.example import row_clip
from audio_ft_prep.mpeg import frame_at, walk_frames
from audio_ft_prep.ogg import marked_as_last, ogg_pages
from audio_ft_prep.rejects import BadClip
from fixtures.make_audio import AUDIO

RATE = 16000


def tone(hz, seconds=1.0, rate=RATE, channels=1):
    t = np.arange(round(seconds * rate)) / rate
    x = (0.3 * np.sin(2 * np.pi * hz * t)).astype("float32")
    return x if channels == 1 else np.stack([x] * channels, axis=1)

def encode(x, rate=RATE, format="WAV", **kwargs):
    sf.write(buf := io.BytesIO(), x, rate, format=format, **kwargs)
    return buf.getvalue()

def refusal(data, given_seconds=None, start=None, **limits):
    "The `BadClip` that `data` ends in, or nothing."
    try: read_clip(data, Limits(**limits), given_seconds, start)
    except BadClip as e: return e

def reason(data, **kwargs): return getattr(refusal(data, **kwargs), "reason", None)
def bare(mp3): return mp3[frame_at(mp3[:4]).size:]
def hertz(x): return np.abs(np.fft.rfft(x)).argmax() * RATE / len(x)

def heard(data, *hz, seconds=1.0, slack=0.15, **kwargs):
    "Whether a file is kept with these tones one after the other, each as long."
    clip = read_clip(data, **kwargs)
    n = len(clip.samples) // len(hz)
    assert len(hz) * seconds - 0.02 <= clip.seconds <= len(hz) * (seconds + slack)
    assert all(abs(hertz(clip.samples[i*n + n//4:(i + 1)*n - n//4]) - f) < 5 for i, f in enumerate(hz))
    return clip


# ---- tags and strays around an MP3

MP3 = encode(tone(440), RATE, "MP3")
APE_ITEM = b"\x04\0\0\0\0\0\0\0Title\0Ciao"
APE_FRONT = (
    b"APETAGEX"
    + struct.pack("<IIII", 2000, len(APE_ITEM) + 32, 1, 0xA0000000)
    + bytes(8)
    + APE_ITEM
    + b"APETAGEX"
    + struct.pack("<IIII", 2000, len(APE_ITEM) + 32, 1, 0x80000000)
    + bytes(8)
)
LYRICS3 = b"LYRICSBEGININD0000200LYR00004Ciao"
LYRICS3 += f"{len(LYRICS3):06d}LYRICS200".encode()
ID3V2, ID3V1 = b"ID3\4\0\0\0\0\0\x0aTIT2\0\0\0\0\0\0", b"TAG".ljust(128, b" ")
FRONTS = {
    "APEv2": APE_FRONT,
    "zeros": bytes(700),
    "many zeros": bytes(100_000),
    "zeros and ID3": bytes(16) + ID3V2,
    "APEv2 and ID3": APE_FRONT + ID3V2,
    "a little garbage": bytes(range(1, 120)),
    "line feeds": b"\r\n\r\n",
}
BEHINDS = {
    "ID3v1": ID3V1,
    "Lyrics3": LYRICS3 + ID3V1,
    "old Lyrics3": b"LYRICSBEGIN la la LYRICSEND" + ID3V1,
    "APEv2": APE_FRONT,
    "ID3v1 enhanced": b"TAG+".ljust(227, b" ") + ID3V1,
    "all": APE_FRONT + LYRICS3 + ID3V1,
}

@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("mp3", [MP3, bare(MP3)], ids=["header", "no header"])
def test_what_stands_in_front_of_an_mp3_changes_no_sample(front, mp3):
    assert np.array_equal(read_clip(FRONTS[front] + mp3).samples, read_clip(mp3).samples)

@pytest.mark.parametrize("behind", BEHINDS)
@pytest.mark.parametrize("mp3", [MP3, bare(MP3)], ids=["header", "no header"])
def test_tags_behind_an_mp3_change_no_sample_and_hide_no_cut(behind, mp3):
    assert np.array_equal(read_clip(mp3 + BEHINDS[behind]).samples, read_clip(mp3).samples)
    assert reason(mp3[:-5] + BEHINDS[behind]) == "truncated"

@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF"])
def test_zeros_and_tags_in_front_of_other_formats_change_no_sample(format):
    data = encode(tone(440), RATE, format)
    for front in (bytes(64), ID3V2, ID3V2 + bytes(10)):
        assert np.array_equal(read_clip(front + data).samples, read_clip(data).samples)

def test_a_vbri_header_is_no_audio_and_its_count_finds_a_cut():
    first = frame_at(MP3[:4])
    n = walk_frames(MP3, first.size, len(MP3), first).frames
    header = MP3[:4].ljust(36, b"\0") + b"VBRI\0\1\0\0\0\0" + struct.pack(">II", len(MP3), n + 1)
    vbri = header.ljust(first.size, b"\0") + bare(MP3)
    assert read_container(vbri).frames == n and heard(vbri, 440, slack=0.2)
    third = vbri[:first.size]
    rest = bare(MP3)
    at = 0
    for _ in range(n - 4): at += frame_at(rest[at:at + 4]).size
    assert reason(third + rest[:at]) == "truncated"


# ---- lengths that a decoder estimates

@pytest.mark.parametrize(
    "name",
    [
        "layer2.mp3",
        "layer2_44k.mp2",
        "lame_free_format.mp3",
        "lame_free_format_header.mp3",
        "lame_cbr_no_header_8k.mp3",
    ],
)
def test_a_whole_file_is_kept_whatever_length_its_decoder_estimates(name):
    data = (AUDIO / name).read_bytes()
    assert 1.19 < read_clip(data).seconds < 1.45
    assert reason(data[:-3]) == "truncated"
    assert reason(data[:len(data)//2], given_seconds=1.2) == "truncated"

def test_layer_two_of_a_bit_rate_that_grows_is_decoded_to_its_end():
    low, high = (AUDIO / "layer2_44k.mp2").read_bytes(), bytearray()
    at = 0
    while at < len(low):                                          # the same frames, each with room for nothing behind it
        f = frame_at(low[at:at + 4])
        frame = low[at:at + f.size]
        big = bytes([frame[0], frame[1], 0x80 | frame[2] & 0x0F, frame[3]])
        high += big + frame[4:] + bytes(frame_at(big).size - f.size)
        at += f.size
    grown = low[:frame_at(low[:4]).size] + bytes(high)
    n = walk_frames(grown, 0, len(grown), frame_at(low[:4])).frames
    assert len(decode(read_container(grown))[0]) >= (n - 2) * 1152


# ---- durations that a corpus gives

RATES = [8000, 11025, 12000, 16000, 22050, 32000, 44100, 48000]

def mpeg_seconds(mp3, header=0):
    first = frame_at(mp3[:4])
    return (
        (walk_frames(mp3, first.size if header else 0, len(mp3), first).frames + (header == 2))
        * first.samples
        / first.rate_hz
    )

@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [0.8, 1.7, 2.31, 3.333])
def test_a_duration_that_counts_an_encoders_silence_is_no_sign_of_a_cut(rate, seconds):
    mp3 = encode(tone(440, seconds, rate), rate, "MP3")
    frames, samples = mpeg_seconds(mp3, 1), frame_at(mp3[:4]).samples / rate
    for given in (seconds, frames, frames + samples, frames - 529/rate, frames - 1105/rate, round(frames, 2)):
        assert reason(mp3, given_seconds=given) is None
    for given in (seconds, frames, frames - 529/rate): assert reason(bare(mp3), given_seconds=given) is None

@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("missing", [0.3, 0.5, 1.0])
def test_a_clip_that_lacks_three_tenths_of_a_second_is_found_by_its_duration(rate, missing):
    for format in ("WAV", "FLAC"):
        data = encode(tone(440, 2.0, rate), rate, format)
        assert reason(data, given_seconds=2.0 + missing) == "truncated" and reason(data, given_seconds=2.08) is None
    mp3, f = encode(tone(440, 2.0, rate), rate, "MP3"), None
    rest, at, f = bare(mp3), 0, frame_at(mp3[:4])
    whole = mpeg_seconds(rest)
    keep = int((whole - missing) * rate / f.samples)
    for _ in range(keep): at += frame_at(rest[at:at + 4]).size
    assert reason(rest[:at], given_seconds=whole) == "truncated"
    assert reason(mp3, given_seconds=2.0 + missing + 0.2) == "truncated"


# ---- Ogg: chains, streams side by side, ends without a mark

OGG = {
    s: [encode(tone(hz, rate=48000), 48000, "OGG", subtype=s) for hz in (440, 880, 1320)] for s in ("VORBIS", "OPUS")
}
def with_serial(ogg, serial):
    out = b""
    for page in ogg_pages(ogg):
        body = ogg[page.start:page.start + 14] + struct.pack("<I", serial) + ogg[page.start + 18:page.stop]
        last = bool(page.flags & 4)
        marked = marked_as_last(body)                             # makes the checksum
        out += marked if last else checked(marked[:5] + bytes([page.flags]) + marked[6:])
    return out
def checked(page):
    from audio_ft_prep.ogg import page_checksum
    blank = page[:22] + bytes(4) + page[26:]
    return blank[:22] + struct.pack("<I", page_checksum(blank)) + blank[26:]
def unmarked(ogg):
    *_, last = ogg_pages(ogg)
    return ogg[:last.start] + checked(ogg[last.start:last.start + 5] + bytes([last.flags & ~4]) + ogg[last.start + 6:])

@pytest.mark.parametrize("kind", OGG)
def test_streams_that_follow_each_other_are_heard_to_the_last(kind):
    a, b, c = OGG[kind]
    heard(a + b, 440, 880)
    heard(a + b + c, 440, 880, 1320)
    heard(unmarked(a) + unmarked(b), 440, 880)
    assert reason(a + b[:-1]) == "truncated" and reason(a + b[:list(ogg_pages(b))[1].stop]) == "truncated"
    assert reason(a + a * 40) == "too_long"

@pytest.mark.parametrize("kind", OGG)
def test_an_ogg_stream_needs_no_mark_at_its_end(kind):
    for i, hz in enumerate((440, 880)): heard(unmarked(OGG[kind][i]), hz)
    assert np.array_equal(read_clip(unmarked(OGG[kind][0])).samples, read_clip(OGG[kind][0]).samples)
    assert reason(unmarked(OGG[kind][0])[:-1]) == reason(unmarked(OGG[kind][0]), given_seconds=1.4) == "truncated"

def test_streams_of_two_kinds_are_refused():
    other = encode(tone(880, rate=44100), 44100, "OGG")
    e = refusal(OGG["VORBIS"][0] + other)
    assert e.reason == "undecodable" and "48,000 Hz" in e.detail and "44,100 Hz" in e.detail
    assert "follow each other" in refusal(OGG["VORBIS"][0] + OGG["OPUS"][0]).detail
    two = encode(tone(880, rate=48000, channels=2), 48000, "OGG")
    assert reason(OGG["VORBIS"][0] + two) == "undecodable"

@pytest.mark.parametrize("kind", OGG)
def test_the_one_audio_stream_is_taken_from_those_beside_it_and_two_are_refused(kind):
    a, b = OGG[kind][0], with_serial(OGG[kind][1], 77)
    pages, others = list(ogg_pages(a)), list(ogg_pages(b))
    mixed = a[:pages[0].stop] + b[:others[0].stop] + a[pages[0].stop:] + b[others[0].stop:]
    e = refusal(mixed)
    assert e.reason == "undecodable" and "2 audio streams" in e.detail
    index = checked(b[:others[0].start + 28] + b"fishead\0".ljust(others[0].stop - 28, b"\0"))
    more = checked(b"OggS\0\0" + bytes(8) + struct.pack("<I", 77) + bytes(8) + b"\1\x04abcd")
    assert np.array_equal(read_clip(index + a[:pages[0].stop] + more + a[pages[0].stop:]).samples, read_clip(a).samples)

def test_flac_in_ogg_is_flac():
    data = (AUDIO / "ffmpeg_flac.oga").read_bytes()
    clip = read_clip(data, given_seconds=1.2)
    assert clip.format == "flac" and abs(clip.seconds - 1.2) < 1e-3
    assert reason(data[:-1]) == reason(data[:-3000]) == "truncated"

def test_what_else_is_in_ogg_is_named():
    page = lambda first: checked(b"OggS\0\2" + bytes(16) + bytes(4) + bytes([1, len(first)]) + first)
    for first, name in (
        (b"Speex   1.2" + bytes(60), "Speex"),
        (b"\x80theora" + bytes(40), "Theora"),
        (b"whatever", "an unknown kind"),
    ):
        e = refusal(page(first) + page(first).replace(b"\0\2", b"\0\4", 1))
        assert e.reason == "undecodable" and name in e.detail


# ---- WAV and its relatives

WAV = encode(tone(440))
def sized(wav, data, riff=None):
    wav = wav[:40] + struct.pack("<I", data) + wav[44:]
    return wav if riff is None else wav[:4] + struct.pack("<I", riff) + wav[8:]

N = len(WAV) - 44
SLIPS = {
    "+8": (N + 8,),
    "+36": (N + 36,),
    "+44": (N + 44,),
    "0": (0,),
    "unknown": (0xFFFFFFFF, 0xFFFFFFFF),
    "unknown to sox": (0x7FFFFFFF - 36, 0x7FFFFFFF),
    "RIFF 0": (N, 0),
    "RIFF +8": (N, N + 44),
    "RIFF -8": (N, N + 28),
    "RIFF half": (N, N // 2),
    "both": (N + 8, N + 36),
}

@pytest.mark.parametrize("slip", SLIPS)
def test_a_wav_that_is_off_by_its_own_header_is_read_to_its_end(slip):
    clip = read_clip(sized(WAV, *SLIPS[slip]), given_seconds=1.0)
    assert len(clip.samples) == RATE and np.array_equal(clip.samples, read_clip(WAV).samples)
    assert bool(clip.note) == (slip in ("+8", "+36", "+44", "0", "both"))

@pytest.mark.parametrize("more", [46, 1000, 100_000, 2**30])
def test_a_wav_that_promises_much_more_is_truncated(more):
    for riff in (None, N + 36 + more): assert reason(sized(WAV, N + more, riff)) == "truncated"
    assert reason(WAV[:-more % len(WAV)]) == "truncated"

def test_an_odd_number_of_bytes_is_no_alarm_with_or_without_its_pad():
    eight = encode(tone(440)[:15999], subtype="PCM_U8")
    for data in (eight, eight[:-1] if len(eight) % 2 == 0 else eight): assert len(read_clip(data).samples) == 15999

CHUNK = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"
@pytest.mark.parametrize("where", ["before", "behind", "both"])
def test_other_chunks_change_no_sample(where):
    data = WAV[:36] + CHUNK * (where != "behind") + WAV[36:] + CHUNK * (where != "before")
    for d in (data, data[:4] + struct.pack("<I", len(data) - 8) + data[8:]):
        assert np.array_equal(read_clip(d).samples, read_clip(WAV).samples)
    if where == "behind": assert len(read_clip(sized(WAV, 0) + CHUNK).samples) >= RATE
    assert reason(encode(tone(440)[:0]) + CHUNK) == "empty_audio"

@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF"])
def test_files_that_were_joined_are_heard_to_the_last(format):
    a, b = encode(tone(440), RATE, format), encode(tone(880), RATE, format)
    heard(a + b, 440, 880)
    heard(a + b + a, 440, 880, 440)
    assert "joined" in read_clip(a + b).note
    assert (
        reason(a + encode(tone(880, rate=8000), 8000, format))
        == reason(a + encode(tone(880, channels=2), RATE, format))
        == "undecodable"
    )
    assert reason(a + b[:-200]) == "truncated"

EVERY = {
    "WAV": {},
    "AIFF": {},
    "AU": {},
    "CAF": {},
    "W64": {},
    "RF64": {},
    "WAVEX": {},
    "NIST": {},
    "FLAC": {},
    "OGG": {},
    "MP3": {},
}
@pytest.mark.parametrize("second", EVERY)
@pytest.mark.parametrize("first", EVERY)
def test_two_files_in_one_are_heard_both_or_refused(first, second):
    data = encode(tone(440), RATE, first, subtype="PCM_16" if first not in ("OGG", "MP3") else None) + encode(
        tone(880), RATE, second, subtype="PCM_16" if second not in ("OGG", "MP3") else None
    )
    if (e := refusal(data)) is None: assert heard(data, 440, 880)
    else: assert e.reason in ("undecodable", "truncated"), e

BETWEEN = {
    "a page": b"<!DOCTYPE html><html>503 Service Unavailable</html>\n",
    "a part of a form": b"\r\n--x\r\nContent-Type: audio/mpeg\r\n\r\n",
    "a JSON text": b'{"error": "quota"}',
    "a picture": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9,
    "zeros": bytes(900),
    "a tag": ID3V1 + ID3V2,
}
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("first", EVERY)
def test_a_file_behind_another_is_found_whatever_lies_between(first, between):
    sound = {
        hz: {f: encode(tone(hz), RATE, f, subtype="PCM_16" if f not in ("OGG", "MP3") else None) for f in EVERY}
        for hz in (440, 880)
    }
    for second in EVERY:
        data = sound[440][first] + BETWEEN[between] + sound[880][second]
        if (e := refusal(data)) is None: assert heard(data, 440, 880)
        else: assert e.reason in ("undecodable", "truncated"), e

@pytest.mark.parametrize("second", EVERY)
@pytest.mark.parametrize("first", ["WAV", "AIFF", "CAF", "W64", "AU", "NIST", "MP3", "FLAC"])
def test_a_file_that_fills_the_hole_of_another_is_never_taken_for_its_samples(first, second):
    if second == "MP3" and first != "FLAC" and first != "MP3":
        pytest.skip("frames of MPEG aren't looked for among samples")
    whole, other = (encode(tone(hz), RATE, f) for hz, f in ((440, first), (880, second)))
    assert reason(whole[:len(whole) * 2 // 3] + other) in ("undecodable", "truncated")

def test_a_file_is_not_seen_in_what_looks_like_none():
    noise = np.random.default_rng(0).integers(-2**15, 2**15, 200_000, dtype="int16")
    heard_as = [
        read_clip(encode(noise, RATE, f), Limits(max_seconds=20)).seconds
        for f in ("WAV", "FLAC", "AIFF", "AU", "CAF", "W64")
    ]
    assert heard_as == [12.5] * 6

@pytest.mark.parametrize(
    "format, subtype",
    [
        ("W64", "PCM_16"),
        ("W64", "PCM_24"),
        ("RF64", "PCM_16"),
        ("WAVEX", "PCM_16"),
        ("CAF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("NIST", "PCM_16"),
        ("NIST", "ULAW"),
        ("NIST", "ALAW"),
        ("AIFF", "PCM_16"),
        ("AIFF", "ALAW"),
        ("AU", "PCM_16"),
        ("AU", "ULAW"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
    ],
)
def test_relatives_of_wav_are_read_whole_and_their_cuts_are_found(format, subtype):
    data = encode(tone(440, rate=16000), 16000, format, subtype=subtype)
    clip = heard(data, 440, given_seconds=1.0)
    assert clip.format == {"NIST": "sphere", "RF64": "wav", "WAVEX": "wav"}.get(format, format.lower())
    if subtype != "ALAC_16":
        assert {reason(data[:int(len(data) * share)]) for share in (0.4, 0.7, 0.9)} == {"truncated"}

def test_an_mp3_in_a_wav_is_an_mp3():
    fmt = struct.pack("<HHIIHHH", 0x55, 1, RATE, 8000, 1, 0, 12) + struct.pack("<HIHHH", 1, 2, 216, 1, 1393)
    wrap = (
        lambda mp3: b"RIFF"
        + struct.pack("<I", len(mp3) + 28 + len(fmt))
        + b"WAVEfmt "
        + struct.pack("<I", len(fmt))
        + fmt
        + b"data"
        + struct.pack("<I", len(mp3))
        + mp3
    )
    for mp3 in (MP3, bare(MP3)):
        assert np.array_equal(read_clip(wrap(mp3)).samples, read_clip(mp3).samples)
        assert reason(wrap(mp3)[:-200]) == "truncated"

def test_sphere_that_shorten_made_smaller_is_refused_by_name():
    head = (
        b"NIST_1A\n   1024\nsample_count -i 16000\nchannel_count -i 1\nsample_n_bytes -i 2\nsample_coding -s26"
        b" pcm,embedded-shorten-v2.00\nend_head\n".ljust(1024)
    )
    e = refusal(head + b"ajkg\2" + bytes(3000))
    assert e.reason == "undecodable" and "shorten" in e.detail

NAMED = {
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
    "HTML": b"\n <!DOCTYPE html><html>",
    "MP4": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "WebM": b"\x1aE\xdf\xa3\x9fB\x86\x81",
    "AMR": b"#!AMR\n\x3c",
    "WMA": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa",
    "zip": b"PK\3\4\x14\0\0\0",
    "gzip": b"\x1f\x8b\x08\0",
    "JSON": b'{"error": "not found"}',
    "XML": b"<?xml version='1.0'?><Error>",
    "AAC": b"\xff\xf1\x50\x80\x02\x1f",
    "AVI": b"RIFF\0\1\0\0AVI LIST",
    "zeros": bytes(5000),
    "git-annex": b"/annex/objects/SHA256E-s12--4d7a.mp3\n",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "Parquet": b"PAR1\x15\4",
}
@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_audio_that_is_read_is_called_by_its_name(name):
    for data in (NAMED[name], NAMED[name] + os.urandom(4000)):
        if name == "zeros" and data is not NAMED[name]: continue
        e = refusal(data)
        assert e.reason == "undecodable" and name in e.detail and repr(data[:8])[:8] in e.detail
    assert refusal(b"").reason == "empty_audio"


# ---- what a header claims

CLAIMS = {
    "2^16 channels": (22, "<H", 0xFFFF),
    "65 channels": (22, "<H", 65),
    "no channels": (22, "<H", 0),
    "no rate": (24, "<I", 0),
    "a rate of 10^9": (24, "<I", 10**9),
    "no bits": (34, "<H", 0),
    "2^31 bytes": (40, "<I", 2**31 - 2**17),
}
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_checked_before_it_costs_anything(claim):
    at, form, value = CLAIMS[claim]
    data, t = WAV[:at] + struct.pack(form, value) + WAV[at + struct.calcsize(form):], time.process_time()
    assert reason(data) in ("undecodable", "truncated", "too_long", "empty_audio") and time.process_time() - t < 1

def test_frames_and_channels_beyond_number_are_refused_in_no_time():
    flac, au = encode(tone(440), RATE, "FLAC"), encode(tone(440), RATE, "AU", subtype="PCM_16")
    billions = flac[:21] + bytes([flac[21] & 0xF0 | 0x0F]) + b"\xff\xff\xff\xff" + flac[26:]
    channels = au[:20] + struct.pack(">I", 2**31) + au[24:]
    caf = encode(tone(440), RATE, "CAF", subtype="PCM_16").replace(struct.pack(">d", RATE), struct.pack(">d", 1e9), 1)
    t = time.process_time()
    assert (
        reason(billions) == "too_long"
        and reason(channels) == "undecodable"
        and reason(caf) in ("undecodable", "truncated")
    )
    assert time.process_time() - t < 1

def test_bytes_that_could_all_begin_a_frame_are_searched_for_a_bounded_time():
    t = time.process_time()
    for data in (
        b"\xff" * 3_000_000,
        MP3 + b"\xff" * 3_000_000,
        bare(MP3) + b"\xff\xfb" * 1_000_000,
        b"\x01" + b"\xff\xfb\x90" * 500_000,
        ID3V2 * 50_000,
    ):
        refusal(data)
    assert time.process_time() - t < 5

def test_a_clip_that_takes_more_memory_than_there_is_is_refused(monkeypatch):
    def full(data): raise MemoryError
    monkeypatch.setattr("audio_ft_prep.audio.read_container", full)
    assert refusal(WAV).reason == "undecodable" and "more memory" in refusal(WAV).detail


# ---- two channels

@pytest.mark.parametrize("noise", [0, 1/32768, 0.001])
@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_cancel_each_other_out_are_found_by_level(noise, channels):
    x, rng = tone(440), np.random.default_rng(0)
    both = np.stack([x, -x] * (channels // 2), axis=1) + noise * rng.standard_normal((RATE, channels))
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        e = refusal(encode(both, subtype=subtype))
        assert e.reason == "silent" and "cancel each other out" in e.detail
    assert reason(encode(np.stack([x, -0.98*x + 0.01], axis=1))) == "silent"

def test_stereo_of_every_other_kind_is_no_alarm():
    rng = np.random.default_rng(0)
    x, other, noise = tone(440), tone(620), 0.1 * rng.standard_normal(RATE).astype("float32")
    quarter = np.roll(x, 9)
    for left, right in (
        (x, x),
        (x, 0 * x),
        (0 * x, x),
        (x, other),
        (x, noise),
        (x, -0.5 * x),
        (x, quarter),
        (noise, np.roll(noise, 40)),
        (x / 1000, 0 * x),
        (x + noise, noise - 0.9 * x),
    ):
        assert reason(encode(np.stack([left, right], axis=1), subtype="PCM_24")) is None
    many = np.zeros((RATE, 32), "float32")
    many[:, 7] = x
    assert np.allclose(to_mono(many), x / 32)


# ---- limits

@pytest.mark.parametrize(
    "samples, says",
    [
        (480_002, "30.0001 s, 0.0001 s over max_seconds 30"),
        (480_001, "30.00006 s, 0.00006 s over max_seconds 30"),
        (480_160, "30.010 s, 0.010 s over max_seconds 30"),
        (512_000, "32.000 s, 2.000 s over max_seconds 30"),
    ],
)
def test_a_clip_that_is_too_long_says_by_how_much(samples, says):
    assert refusal(encode(np.resize(tone(440), samples))).detail == says

def test_a_clip_that_is_too_short_says_by_how_much():
    assert refusal(encode(tone(440)[:15_999]), min_seconds=1).detail == "0.99994 s, 0.00006 s under min_seconds 1"
    assert (
        under_limit(0.25, 0.3) == "0.250 s, 0.050 s under min_seconds 0.3"
        and over_limit(3600.5, 30) == "3,600.500 s, 3,570.500 s over max_seconds 30"
    )


# ---- long recordings

def row(path, start, seconds, offset=0):
    return {
        "file": str(path),
        "offset": offset,
        "size": path.stat().st_size - offset,
        "start": start,
        "seconds": seconds,
    }

@pytest.mark.parametrize(
    "format, subtype",
    [
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("W64", "PCM_16"),
        ("CAF", "PCM_16"),
        ("NIST", "PCM_16"),
        ("RF64", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("CAF", "ALAC_16"),
    ],
)
def test_a_part_of_a_long_recording_is_the_same_from_its_file_as_from_its_bytes(format, subtype, tmp_path):
    sound = np.concatenate([tone(hz, 1.0) for hz in range(300, 1500, 20)])
    data = encode(sound, RATE, format, subtype=subtype)
    (path := tmp_path / "a").write_bytes(b"front" + data)
    for start, seconds in ((0.0, 1.0), (17.3, 2.0), (59.5, None)):
        with RecordingFile(str(path), 5, len(data)) as recording:
            part, _ = decode_segment(recording_container(recording), start, seconds)
        whole, _ = decode_segment(read_container(data), start, seconds)
        assert np.array_equal(part, whole) and 0 <= len(part) - round((seconds or 0.5) * RATE) < (
            100 if subtype == "IMA_ADPCM" else 1
        )
        clip = row_clip(row(path, start, seconds, 5), Limits(RATE))
        assert abs(hertz(clip.samples[:4000]) - (300 + 20*int(start))) < 10
    assert [reason_of(row(path, *t, 5)) for t in ((59.5, 2.0), (61.0, 1.0))] == ["truncated"] * 2

def reason_of(row):
    try: row_clip(row, Limits(RATE))
    except BadClip as e: return e.reason

def test_parts_of_a_recording_of_gigabytes_are_read_alone(tmp_path, monkeypatch):
    n = 2_500_000_000
    with open(path := tmp_path / "long.wav", "wb") as f:
        f.write(sized(WAV, n, n + 36))
        f.truncate(n + 44)
    monkeypatch.setattr("audio_ft_prep.example.read_bytes", None)               # whoever reads it all fails
    t = time.process_time()
    assert abs(hertz(row_clip(row(path, 0.25, 0.5), Limits(RATE)).samples) - 440) < 5
    assert reason_of(row(path, 70_000.0, 2.0)) == "silent" and reason_of(row(path, 90_000.0, 2.0)) == "truncated"
    assert reason_of(row(path, None, None)) == "too_long" and time.process_time() - t < 2
    path.write_bytes(bytes(100))
    with open(path, "ab") as f: f.truncate(n)
    assert reason_of(row(path, 1.0, 2.0)) == "undecodable"

def test_a_long_recording_whose_header_was_never_filled_in_is_read_in_parts(tmp_path):
    (path := tmp_path / "a.wav").write_bytes(sized(encode(np.resize(tone(440), 60*RATE)), 0, 0))
    assert row_clip(row(path, 40.0, 1.0), Limits(RATE)).seconds == 1

def test_a_recording_that_is_gone_or_shrank_ends_the_run_with_a_sentence(tmp_path):
    (path := tmp_path / "a.wav").write_bytes(encode(np.resize(tone(440), 60*RATE)))
    told = row(path, 1.0, 1.0)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(OSError, match="changed during the run"): row_clip(told, Limits(RATE))
    path.unlink()
    with pytest.raises(OSError, match="is gone"): row_clip(told, Limits(RATE))


# ---- files cut, glued, padded and renamed, in any order

BLOCKS = {
    f"{format}{hz}": encode(tone(hz, 0.5), RATE, format)
    for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF")
    for hz in (440, 880)
}
BLOCKS |= {f"bare{hz}": bare(BLOCKS[f"MP3{hz}"]) for hz in (440, 880)}
HURTS = {
    "nothing": lambda b: b,
    "ID3v2": lambda b: ID3V2 + b,
    "ID3v1": lambda b: b + ID3V1,
    "zeros behind": lambda b: b + bytes(300),
    "zeros in front": lambda b: bytes(300) + b,
    "a third is missing": lambda b: b[: len(b) * 2 // 3],
    "a page behind": lambda b: b + b"<html>" * 40,
    "a hole": lambda b: b[: len(b) // 2] + b[len(b) // 2 + 500 :],
}

@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(BLOCKS)), st.sampled_from(sorted(HURTS))), min_size=1, max_size=3))
def test_what_is_kept_is_the_audio_of_the_file_or_nothing_is(parts):
    names = [name for name, _ in parts]
    damage = ("a page behind", "a hole", "a third is missing")
    assume(all(hurt not in damage for _, hurt in parts[:-1]))                  # what follows may fill a hole: no header can tell
    data = b"".join(HURTS[hurt](BLOCKS[name]) for name, hurt in parts)
    try: clip = read_clip(data)
    except BadClip as e:
        assert e.detail and e.reason in ("undecodable", "truncated", "too_long", "empty_audio", "not_finite", "silent")
        assert (
            len(parts) > 1
            or parts[0][1] not in ("nothing", "ID3v2", "zeros in front")
            and parts[0][1] in ("a third is missing", "a hole", "a page behind", "ID3v1", "zeros behind")
        )
        return
    wanted = [int(name[-3:]) for name, _ in parts]
    assert len(wanted) * 0.42 < clip.seconds < len(wanted) * 0.5 + 0.15 * len(wanted)
    n = len(clip.samples) / len(wanted)
    for i, hz in enumerate(wanted): assert abs(hertz(clip.samples[round((i + 0.35)*n):round((i + 0.65)*n)]) - hz) < 10
