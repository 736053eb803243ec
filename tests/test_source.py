"""Storage source keeps each clip's own file, and reading it back gives what preparing saw; FLAC has a rate of its own."""
import io, json, os, shutil, signal
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from audio_ft_prep.audio import Limits, read_clip, stored_samples
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.families import MOST_FILE, SourceMaker, flac_bytes
from audio_ft_prep.pipeline import Part, merge, prepare
from audio_ft_prep.planning import plan
from audio_ft_prep.reading import PreparedFolder, verify
from audio_ft_prep.train import load_prepared
from conftest import SAMPLE, flags, halted, tar_clips, until

FIXTURES = Path(__file__).parent / "fixtures" / "audio"
KINDS = {
    "wav8k": dict(format="WAV", rate=8000),
    "wav24k_stereo": dict(format="WAV", rate=24000, subtype="PCM_24", stereo=True),
    "wav44k_float": dict(format="WAV", rate=44100, subtype="FLOAT"),
    "mp3_48k": dict(format="MP3", rate=48000),
    "mp3_44k_stereo": dict(format="MP3", rate=44100, stereo=True),
    "mp3_24k": dict(format="MP3", rate=24000),
    "flac48k_stereo": dict(format="FLAC", rate=48000, stereo=True),
    "ogg44k": dict(format="OGG", rate=44100),
    "opus48k": dict(format="OGG", rate=48000, subtype="OPUS"),
    "opus24k_stereo": dict(format="OGG", rate=24000, subtype="OPUS", stereo=True),
}


def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}



def encoded(x, format, rate, subtype=None, stereo=False):
    y = soxr.resample(x, 48000, rate) * np.float32(0.7)
    if stereo: y = np.stack([y, y / 3], axis=1)
    sf.write(buf := io.BytesIO(), y, rate, format=format, subtype=subtype)
    return buf.getvalue()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Files of many kinds, and a recording of which two parts are clips."
    folder = tmp_path_factory.mktemp("kinds")
    name = sorted(tar_clips(SAMPLE, "it", "test"))[0]
    x = read_clip(tar_clips(SAMPLE, "it", "test")[name], Limits(48000)).samples
    files = {f"{k}.{how['format'].lower()}": encoded(x, **how) for k, how in KINDS.items()}
    files |= {p.name: p.read_bytes() for p in FIXTURES.glob("lame_*.mp3") if "no_header" in p.name}
    files["long.wav"] = encoded(np.tile(x, 3), "WAV", 44100)
    for n, data in files.items(): (folder / n).write_bytes(data)
    lines = [{"audio_filepath": n, "text": f"la frase {i}"} for i, n in enumerate(files) if n != "long.wav"]
    seconds = len(x) / 48000
    part = {"audio_filepath": "long.wav", "duration": seconds}
    lines += [part | {"offset": k * seconds, "text": f"parte {k}"} for k in (0, 1)]
    (folder / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder, files


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    return prepare(PrepConfig(str(corpus[0]), "it", train_splits="train", eval_splits="", storage="source",
                              output_dir=str(out), num_workers=1), progress=False)


def stored(done):
    "The file that a folder holds of each clip."
    data = load_prepared(done.folder)["train"].with_format("arrow")[:]
    return dict(zip(data["id"].to_pylist(), data["input_features"].to_pylist()))


def test_a_files_bytes_are_kept_and_sound_as_preparing_heard_them(corpus, made):
    folder, files = corpus
    got = stored(made)
    whole = {Path(n).stem: (n, data) for n, data in files.items() if n != "long.wav"}
    parts = [n for n in got if n not in whole]
    assert len(got) == len(files) + 1 and len(parts) == 2 and len(whole) >= 14, made.counts
    for name, (file, data) in whole.items():
        assert got[name]["bytes"] == data and got[name]["path"] == f"{name}.{Path(file).suffix[1:]}"
        for rate_hz in (16000, 24000):
            heard = read_clip(data, Limits(rate_hz)).samples
            assert np.array_equal(stored_samples(got[name], rate_hz), heard), (name, rate_hz)
    seconds = read_clip(files["wav8k.wav"]).seconds
    for name in parts:
        x, rate_hz = sf.read(io.BytesIO(got[name]["bytes"]), dtype="float32")
        assert rate_hz == 16000 and got[name]["path"] == f"{name}.flac" and abs(len(x) / 16000 - seconds) < 0.02


def test_nothing_is_decoded_twice_and_the_plan_knows_the_bytes(corpus, made, monkeypatch):
    from audio_ft_prep import audio
    from audio_ft_prep.example import example_maker
    from audio_ft_prep.models import load_model
    cfg = PrepConfig(str(corpus[0]), "it", train_splits="train", eval_splits="", storage="source")
    size = sum(shard["bytes"] for shard in made.prep["shards"])
    assert plan(cfg).splits["train"]["bytes"] == pytest.approx(size, rel=0.35)
    decoded = []
    monkeypatch.setattr(audio, "decode", lambda box, *a, real=audio.decode: decoded.append(box) or real(box, *a))
    path = corpus[0] / "mp3_48k.mp3"
    row = dict(id="a", file=str(path), offset=0, size=path.stat().st_size, start=None, seconds=None, sentence="a",
               speaker="", labels=[1], source_split="train")
    example = example_maker(cfg, load_model("openai/whisper-small"))(row)
    assert example["audio"] == path.read_bytes() and len(decoded) == 1


def test_a_clip_whose_end_was_cut_or_whose_file_is_far_too_large_becomes_flac():
    data = (FIXTURES / "lame_cbr_no_header.mp3").read_bytes()
    whole = read_clip(data)
    cut = read_clip(data, Limits(16000, 0.0, whole.seconds - 0.01))
    maker = SourceMaker(16000)
    assert maker.of_clip(whole, data) == {"audio": data} and cut.is_part
    for clip, file in ((cut, data), (whole, None), (whole, bytes(MOST_FILE + 1))):
        assert maker.of_clip(clip, file) == {"audio": flac_bytes(clip.samples, 16000)}


def test_the_card_and_the_folder_say_what_is_stored_and_verify_finds_a_flipped_bit(made, tmp_path):
    assert verify(made.folder) == []
    card = (made.folder / "README.md").read_text()
    assert "the clip's own file as the corpus has it; of a part of a recording, FLAC, mono, 16 bit, 16000 Hz" in card
    croissant = json.loads((made.folder / "croissant.json").read_text())
    fields = {f["name"]: f for s in croissant["recordSet"] if s["name"] == "examples" for f in s["field"]}
    assert fields["audio"]["dataType"] == "sc:AudioObject" and "FLAC" in fields["audio"]["description"]
    out = shutil.copytree(made.folder, tmp_path / "out")
    shard = out / made.prep["shards"][0]["file"]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert any(shard.name in fault for fault in verify(out))


def test_a_folder_of_anybodys_bytes_gives_samples_or_one_sentence():
    nan = io.BytesIO()
    sf.write(nan, np.full(8000, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    good = flac_bytes(np.ones(8000, np.float32) / 2, 16000)
    for data in (b"x", good[:60], b"RIFF" + bytes(40), nan.getvalue(), os.urandom(4000), b"OggS" + bytes(90)):
        with pytest.raises(ValueError, match="'a.flac' can't be read back") as e:
            stored_samples({"bytes": data, "path": "a.flac"}, 16000)
        assert "\n" not in str(e.value) and len(str(e.value)) < 400
    for odd in ({"bytes": None, "path": "/etc/passwd"}, {"path": "a"}, None, "a.flac", {"bytes": b""}):
        with pytest.raises(ValueError, match="stored audio must be a file's bytes"): stored_samples(odd, 16000)


@pytest.mark.long
def test_two_workers_parts_and_a_run_that_was_killed_write_the_same_bytes(prepared, tmp_path, start):
    settings = dict(storage="source", shard_rows=3)
    one = prepared("it", **settings)
    assert one.hash == prepared("it", storage="source").hash
    for i in range(2):
        cfg = PrepConfig("sample", "it", output_dir=str(tmp_path / f"{i}"), num_workers=1, **settings)
        prepare(cfg, progress=False, part=Part(i, 2))
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(one.folder)
    assert contents(one.folder) == contents(prepared("it", **settings | {"num_workers": 2}).folder)
    out = tmp_path / "out"
    args = flags(dataset_name="sample", language_code="it", output_dir=out, num_workers=1, **settings)
    run = start("prepare", *args)
    until(lambda: len([*out.glob("*/*.arrow")]) >= 2 or not run.alive())
    assert halted(run)
    run.signal(signal.SIGKILL)
    run.wait()
    assert start("prepare", *args).wait().code == 0 and contents(out) == contents(one.folder)


def test_flac_at_24_khz_is_what_a_model_at_24_khz_would_store_and_16_khz_is_near(prepared):
    done = prepared("it", storage="audio", audio_rate_hz=24000)
    clips = {n: data for split in ("train", "dev", "test") for n, data in tar_clips(SAMPLE, "it", split).items()}
    data = load_prepared(done.folder)["train"].with_format("arrow")[:3]
    errors = []
    for name, length, file in zip(*(data[c].to_pylist() for c in ("id", "input_length", "input_features"))):
        heard = {rate: read_clip(clips[name], Limits(rate)).samples for rate in (16000, 24000)}
        assert file["bytes"] == flac_bytes(heard[24000], 24000) and length == len(heard[16000])
        back = stored_samples(file, 16000)
        n = min(len(back), length)
        errors.append(10 * np.log10(np.mean((back[:n] - heard[16000][:n]) ** 2) / np.mean(heard[16000] ** 2)))
        assert abs(len(back) - length) <= 1
    assert max(errors) < -55, errors
    features = load_prepared(done.folder)["train"].features["input_features"]
    assert features.sampling_rate == 24000 and PreparedFolder.of(done.folder).prep["model"]["rate_hz"] == 16000


def test_a_rate_below_the_models_is_refused_before_anything_is_written(tmp_path):
    cfg = PrepConfig("sample", "it", storage="audio", audio_rate_hz=8000, output_dir=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="must be at least 16000, the rate of openai/whisper-small, got 8000"):
        prepare(cfg, progress=False)
    assert not (tmp_path / "out").exists()
