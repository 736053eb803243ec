"""A prepared folder in another toolkit's form, read back by that toolkit: the same clips, sound, splits, speakers, measures."""
import io, json, os, re, shutil, signal, sys, tarfile, types
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep import PrepConfig, export as export_module
from audio_ft_prep.export import export_prepared
from audio_ft_prep.exports import EXPORT, EXPORTS
from audio_ft_prep.hubexport import hub_files
from audio_ft_prep.load import load_rows
from audio_ft_prep.reading import PreparedFolder
from audio_ft_prep.soundrows import sound_rows
from conftest import sentence, until


@pytest.fixture(scope="module")
def folder(prepared):
    "A prepared folder of several shards."
    return PreparedFolder.of(prepared("it", storage="audio", shard_rows=5).folder)


@pytest.fixture(scope="module")
def rows(folder): return list(sound_rows(folder))


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    "The folder of an export, written once."
    made = {}
    def get(to):
        if to not in made:
            made[to] = tmp_path_factory.mktemp("exported") / to
            export_prepared(folder, to, made[to], progress=False)
        return made[to]
    return get


def of_split(rows, split): return [row for row in rows if row.split == {"train": "train", "test": "eval"}[split]]


def same_numbers(measures, values):
    for name, value in measures.items(): assert values[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name


def lines(path): return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(folder): return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("split", ["train", "test"])
def test_nemo_finds_each_clip_by_the_rules_of_its_parser(exported, rows, split):
    "Those of `item_iter` and `get_full_path` in nemo/collections/common/parts/preprocessing/manifest.py."
    out, wanted = exported("nemo"), of_split(rows, split)
    manifest = out / f"{split}_manifest.json"
    items = lines(manifest)
    assert len(items) == len(wanted) > 0
    for item, row in zip(items, wanted):
        path = item["audio_filepath"]
        assert not os.path.isabs(path) and len(path) < 255 and "/" in path and path[0] != "~"
        assert isinstance(item["duration"], float) and isinstance(item["text"], str)
        sound = manifest.parent / path
        assert sound.read_bytes() == row.data and item["duration"] == pytest.approx(sf.info(sound).duration)
        assert (item["text"], item["lang"], item.get("speaker", ""), item["clip_id"], item["flags"]) == (
            row.sentence, row.language, row.speaker, row.id, row.flags
        )
        same_numbers(row.measures, item)


@pytest.mark.parametrize("split", ["train", "test"])
def test_lhotse_reads_cuts_with_the_same_sound(exported, rows, split):
    lhotse = pytest.importorskip("lhotse")
    out, wanted = exported("lhotse"), of_split(rows, split)
    cuts = list(lhotse.CutSet.from_file(out / f"cuts_{split}.jsonl"))
    recordings = list(lhotse.RecordingSet.from_file(out / f"recordings_{split}.jsonl"))
    supervisions = list(lhotse.SupervisionSet.from_file(out / f"supervisions_{split}.jsonl"))
    assert [c.recording for c in cuts] == recordings and [c.supervisions[0] for c in cuts] == supervisions
    assert len(cuts) == len(wanted) > 0
    for cut, row in zip(cuts, wanted):
        lhotse.qa.validate(cut)
        samples, rate = sf.read(io.BytesIO(row.data), dtype="float32")
        assert np.array_equal(cut.load_audio()[0], samples) and cut.sampling_rate == rate
        assert Path(cut.recording.sources[0].source).read_bytes() == row.data
        said = cut.supervisions[0]
        assert (said.text, said.language, said.speaker or "") == (row.sentence, row.language, row.speaker)
        assert said.duration == cut.duration and said.custom["clip_id"] == row.id and said.custom["flags"] == row.flags
        same_numbers(row.measures, said.custom)


@pytest.mark.parametrize("split", ["train", "test"])
def test_webdataset_reads_the_same_samples(exported, rows, split):
    wds = pytest.importorskip("webdataset")
    out, wanted = exported("webdataset"), of_split(rows, split)
    tars = sorted(map(str, out.glob(f"{split}-*.tar")))
    samples = list(wds.WebDataset(tars, shardshuffle=False))
    assert len(samples) == len(wanted) > 0
    for sample, row in zip(samples, wanted):
        about = json.loads(sample["json"])
        assert sample["flac"] == row.data and sample["txt"].decode() == row.sentence == about["text"]
        assert (about["id"], about["speaker"], about["language"], about["flags"]) == (
            row.id, row.speaker, row.language, row.flags
        )
        assert "." not in sample["__key__"]
        assert about["duration"] == pytest.approx(sf.info(io.BytesIO(row.data)).duration)
        same_numbers(row.measures, about)


def test_tars_are_the_same_bytes_each_time(exported, folder, tmp_path):
    export_prepared(folder, "webdataset", tmp_path / "again", progress=False)
    first, again = (sorted(at.glob("*.tar")) for at in (exported("webdataset"), tmp_path / "again"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again] != []
    with tarfile.open(first[0]) as t: assert {(m.mtime, m.uid, m.uname) for m in t} == {(0, 0, "")}


@pytest.mark.parametrize("split", ["train", "test"])
def test_datasets_reads_the_audiofolder(exported, rows, split, monkeypatch, tmp_path):
    "`datasets` imports torchcodec for a path, too, and does nothing with it as long as nothing is decoded."
    from datasets import Audio, load_dataset
    for name in ("torchcodec", "torchcodec.encoders", "torchcodec.decoders"):
        module = types.ModuleType(name)
        module.AudioEncoder = module.AudioDecoder = type("Unused", (), {})
        monkeypatch.setitem(sys.modules, name, module)
    data = load_dataset("audiofolder", data_dir=str(exported("audiofolder")), cache_dir=str(tmp_path))
    assert set(data) == {"train", "test"}
    items, wanted = data[split].cast_column("audio", Audio(decode=False)), of_split(rows, split)
    by_id = {item["clip_id"]: item for item in items}
    assert len(items) == len(by_id) == len(wanted) > 0
    for row in wanted:
        item = by_id[row.id]
        assert Path(item["audio"]["path"]).read_bytes() == row.data
        assert (item["sentence"], item["speaker"], item["language"]) == (row.sentence, row.speaker, row.language)
        assert item["flags"].split() == row.flags
        same_numbers(row.measures, item)


def kaldi_file(path):
    "Lines of a file of Kaldi as (key, rest), checked as check_sorted_and_uniq of utils/validate_data_dir.sh does."
    data = path.read_bytes()
    assert data.endswith(b"\n")
    pairs = [line.split(b" ", 1) for line in data[:-1].split(b"\n")]
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys)), path
    return [(key.decode(), rest.decode()) for key, rest in pairs]


def check_kaldi(folder):
    "The rules of utils/validate_data_dir.sh and utils/validate_text.pl for a folder without features."
    utt2spk = kaldi_file(folder / "utt2spk")
    assert all(re.fullmatch(r"\S+", speaker) for _, speaker in utt2spk)
    by_speaker = sorted(utt2spk, key=lambda pair: (pair[1].encode(), pair[0].encode()))
    assert by_speaker == utt2spk, "utt2spk isn't sorted by speaker, too"
    spk2utt = kaldi_file(folder / "spk2utt")
    assert [(utt, speaker) for speaker, utts in spk2utt for utt in utts.split(" ")] == utt2spk
    ids = [utt for utt, _ in utt2spk]
    for name in ("text", "wav.scp", "utt2dur", "utt2lang"):
        assert [utt for utt, _ in kaldi_file(folder / name)] == ids, name
    for _, text in kaldi_file(folder / "text"):
        assert text.split() == text.split(" ") and text and not re.search(r"(?<!\w)(</?s>|#0)(?!\w)", text)
    for _, path in kaldi_file(folder / "wav.scp"): assert path[0] != "~" and not re.search(r"\s|\|", path)
    assert all(float(seconds) > 0 for _, seconds in kaldi_file(folder / "utt2dur"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_kaldi_has_valid_directories_which_our_own_reader_reads(exported, rows, split):
    from audio_ft_prep.kaldi import kaldi_lines
    at, wanted = exported("kaldi") / split, of_split(rows, split)
    check_kaldi(at)
    clip_of = {entry["utterance"]: entry for entry in lines(at / "clips.jsonl")}
    row_of = {row.id: row for row in wanted}
    found = list(kaldi_lines(at, split))
    assert len(found) == len(wanted) > 0 and not any(line.reason for line in found)
    speakers = {}
    for line in found:
        entry = clip_of[line.name]
        row = row_of.pop(entry["clip_id"])
        assert Path(line.path).read_bytes() == row.data and line.sentence == row.sentence
        assert line.seconds == pytest.approx(sf.info(line.path).duration, abs=1e-5) and entry["speaker"] == row.speaker
        assert speakers.setdefault(line.speaker, row.speaker) == row.speaker
        same_numbers(row.measures, entry)


@pytest.mark.parametrize("to", ["nemo", "webdataset", "audiofolder"])
def test_a_corpus_of_our_own_can_be_made_of_an_export(exported, rows, to):
    corpus = load_rows(PrepConfig(str(exported(to)), "it", train_splits="train", eval_splits="test"))
    assert not len(corpus.rejects), corpus.rejects.to_pylist()[:2]
    told = {(r["id"], r["split"], r["sentence"], r["speaker"] or "") for r in corpus.rows.to_pylist()}
    assert told == {(r.id, r.split, r.sentence, r.speaker) for r in rows}


# What clips and speakers may be called

HOSTILE = ["../../../etc/passwd", "a/b", "A/B", "a b", "a\nb", ".hidden", "", "x" * 300, "con", "Con", "è", "ok", "OK",
           "ok--1", "a|b", "~root", "-rf", "\u202eflac.exe", "a.b.c", "ok"]


def hostile_rows(rows):
    speakers = ["", "a", "ab", "a b", "Ann/../", "unknown_1", "a-b", "spk", "p225"]
    return [
        rows[0]._replace(number=i, id=name, speaker=speakers[i % 9], sentence=f"frase  numero\u2028{i}")
        for i, name in enumerate(HOSTILE)
    ]


@pytest.mark.parametrize("to", EXPORTS)
def test_names_lead_nowhere_and_each_clip_has_its_own(to, folder, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "sound_rows", lambda folder: iter(hostile_rows(rows)))
    for n in "12": export_prepared(folder, to, tmp_path / n / "out", progress=False)
    assert sorted(os.listdir(tmp_path)) == ["1", "2"] and os.listdir(tmp_path / "1") == ["out"]
    first, second = (files(tmp_path / n / "out") for n in "12")
    assert list(first) == list(second)
    sounds = [name for name in first if name.endswith((".flac", ".tar"))]
    if to == "webdataset":
        with tarfile.open(first[sounds[0]]) as t: sounds = [name for name in t.getnames() if name.endswith(".flac")]
    assert len({name.lower() for name in sounds}) == len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9_/-]+\.flac", name) and ".." not in name for name in sounds)
    if to == "kaldi": check_kaldi(tmp_path / "1/out/train")
    texts = b"".join(first[name].read_bytes() for name in first)
    assert texts.count(json.dumps(HOSTILE[3]).encode()) >= 1  # the id is kept beside the name


def test_kaldi_refuses_a_sentence_with_its_own_signs(folder, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "sound_rows", lambda folder: iter([rows[0]._replace(sentence="di <s> ora")]))
    with pytest.raises(ValueError, match="keeps <s>, </s> and #0 for itself"):
        export_prepared(folder, "kaldi", tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == []


def test_kaldi_sorts_in_runs_of_bounded_length(folder, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("audio_ft_prep.exports._RUN_ROWS", 3)
    export_prepared(folder, "kaldi", tmp_path / "out", progress=False)
    check_kaldi(tmp_path / "out/train")
    assert len(kaldi_file(tmp_path / "out/train/text")) == len(of_split(rows, "train"))
    assert not list((tmp_path / "out").rglob(".run*"))


def test_what_a_target_does_not_read_is_decoded_and_counted(folder, rows, tmp_path, monkeypatch):
    wav, ogg = io.BytesIO(), io.BytesIO()
    samples, rate = sf.read(io.BytesIO(rows[0].data), dtype="float32")
    sf.write(wav, samples, rate, format="WAV")
    sf.write(ogg, samples, rate, format="OGG")
    own = [rows[0]._replace(number=i, id=f"clip{i}", data=f.getvalue()) for i, f in enumerate((wav, ogg))]
    monkeypatch.setattr(export_module, "sound_rows", lambda folder: iter(own))
    kaldi = export_prepared(folder, "kaldi", tmp_path / "kaldi", progress=False)
    nemo = export_prepared(folder, "nemo", tmp_path / "nemo", progress=False)
    assert kaldi.notes == ["1 clip decoded and written as FLAC, the others as they are stored"] and nemo.notes == []
    paths = [p for _, p in kaldi_file(tmp_path / "kaldi/train/wav.scp")]
    assert sorted(Path(p).suffix for p in paths) == [".flac", ".wav"]
    kept = {Path(p["audio_filepath"]).suffix: p for p in lines(tmp_path / "nemo/train_manifest.json")}
    assert (tmp_path / "nemo" / kept[".ogg"]["audio_filepath"]).read_bytes() == ogg.getvalue()
    assert (tmp_path / "nemo" / kept[".wav"]["audio_filepath"]).read_bytes() == wav.getvalue()


def test_the_clips_own_files_are_exported_as_they_are(prepared, tmp_path):
    folder = PreparedFolder.of(prepared("it", storage="source").folder)
    own = {row.id: row.data for row in sound_rows(folder)}
    export_prepared(folder, "nemo", tmp_path / "nemo", progress=False)
    written = {Path(p["audio_filepath"]) for p in lines(tmp_path / "nemo/train_manifest.json")}
    assert {".mp3"} <= {p.suffix for p in written} and len(written) == 20
    assert all((tmp_path / "nemo" / p).read_bytes() == own[p.stem] for p in written)


# Where it goes, and what stops it

@pytest.mark.parametrize("storage", ["features", "padded"])
def test_a_folder_without_sound_is_refused_by_its_storage(folder, storage, tmp_path):
    with_features = PreparedFolder(folder.at)
    prep = with_features.prep
    with_features.__dict__["_loaded"] = ({**prep, "config": {**prep["config"], "storage": storage}}, b"")
    for to in EXPORTS:
        with pytest.raises(ValueError, match=f"storage={storage}, .* with storage=audio"):
            export_prepared(with_features, to, tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_stop_leaves_nothing_and_a_killed_export_is_swept_away(folder, tmp_path, monkeypatch):
    def stopped(folder):
        yield next(sound_rows(folder))
        raise KeyboardInterrupt
    monkeypatch.setattr(export_module, "sound_rows", stopped)
    with pytest.raises(KeyboardInterrupt): export_prepared(folder, "kaldi", tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == []
    if pid := os.fork(): assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    else:
        monkeypatch.setattr(export_module, "sound_rows", lambda folder: os.kill(os.getpid(), signal.SIGKILL))
        export_prepared(folder, "nemo", tmp_path / "out", progress=False)
    (left,) = os.listdir(tmp_path)
    assert left.startswith("audio_ft_prep-") and not (tmp_path / "out").exists()
    monkeypatch.undo()
    export_prepared(folder, "nemo", tmp_path / "out", progress=False)
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out" / EXPORT).exists()


def test_a_folder_that_holds_something_else_is_refused(folder, exported, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"): export_prepared(folder, "nemo", tmp_path / "out")
    with pytest.raises(ValueError, match="in a prepared one"): export_prepared(folder, "nemo", f"{folder}/nemo")
    with pytest.raises(ValueError, match="is not empty"): export_prepared(folder, "kaldi", exported("nemo"))
    before = {name: p.stat().st_mtime_ns for name, p in files(exported("nemo")).items()}
    export_prepared(folder, "nemo", exported("nemo"))
    assert {name: p.stat().st_mtime_ns for name, p in files(exported("nemo")).items()} == before
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_shard_that_was_changed_is_not_exported(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(str(folder), other)
    shard = other / folder.prep["shards"][0]["file"]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="another SHA-256"): export_prepared(other, "nemo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_before_anything_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("audio_ft_prep.disk.free_bytes", lambda folder: 1000)
    with pytest.raises(OSError, match="the export takes up to .* set output_dir"):
        export_prepared(folder, "nemo", tmp_path / "out")
    assert os.listdir(tmp_path) == []


# On the Hub

@pytest.fixture
def writable(hub, monkeypatch):
    "A stand-in Hub that takes uploads, and a token for it."
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # read when the client is imported
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def many(folder, monkeypatch):
    "A folder of several shards, each of which becomes a file of its own."
    monkeypatch.setattr("audio_ft_prep.hubexport.FILE_BYTES", 1)
    return folder


def test_the_hub_has_the_same_rows_private_with_a_card_and_croissant(writable, many, tmp_path):
    import mlcroissant, yaml
    from datasets import Audio, load_dataset
    done = export_prepared(many, "hub:me/voices", progress=False)
    at, wanted = writable.repo_dir("datasets", "me/voices"), list(sound_rows(many))
    assert "me/voices" in writable.private and done.at == f"{writable.endpoint}/datasets/me/voices"
    header = yaml.safe_load((at / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    (config,) = header["configs"]
    data = load_dataset(
        "parquet", data_files={d["split"]: str(at / d["path"]) for d in config["data_files"]}, cache_dir=str(tmp_path)
    )
    assert data["train"].features["audio"] == Audio(sampling_rate=16_000) and set(data) == {"train", "test"}
    assert done.rows == {split: len(of_split(wanted, split)) for split in data}
    for split, rows in data.items():
        items = list(rows.cast_column("audio", Audio(decode=False)))
        assert len(items) == len(of_split(wanted, split)) > 0
        for item, row in zip(items, of_split(wanted, split)):
            assert item["audio"]["bytes"] == row.data and item["audio"]["path"] == f"{row.id}.flac"
            assert (item["id"], item["sentence"], item["speaker"], item["language"], item["flags"]) == (
                row.id, row.sentence, row.speaker, row.language, row.flags
            )
            same_numbers(row.measures, item)
    corpus = load_rows(PrepConfig("me/voices", "it", train_splits="train", eval_splits="test"))
    assert {(r["id"], r["split"], r["sentence"], r["speaker"] or "") for r in corpus.rows.to_pylist()} == {
        (r.id, r.split, r.sentence, r.speaker) for r in wanted
    }
    about = mlcroissant.Dataset(jsonld=at / "croissant.json")
    record = next(iter(about.records("clips")))
    assert record["clips/id"].decode() in {row.id for row in wanted}
    assert not about.metadata.ctx.issues.errors
    assert not any(str(many) in p.read_text(encoding="utf-8") for p in at.glob("*.[jm]*"))  # no path of this machine


def test_an_export_to_the_hub_that_was_killed_goes_on_and_sends_nothing_twice(writable, many, tmp_path):
    n_files = len(hub_files(many.prep))
    writable.fault("*", methods=("PUT",), times=2)  # two that pass at once, …
    writable.fault("*", methods=("PUT",), times=None, delay=60)  # … and one whose answer doesn't come
    if not (pid := os.fork()):
        try: export_prepared(many, "hub:me/voices", progress=False)
        finally: os._exit(1)
    until(lambda: len(writable.lfs) == 3)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    sent = {r.file for r in writable.requests_for(method="PUT")}
    assert len(sent) == 3 and len(writable.commits) == 3  # the mark, and two of the files
    assert not (writable.repo_dir("datasets", "me/voices") / "README.md").exists()  # nothing looks finished
    writable.clear()
    export_prepared(many, "hub:me/voices", progress=False)
    again = [r.file for r in writable.requests_for(method="PUT")]
    assert not sent & {*again} and len(again) == len({*again}) == n_files - 3
    assert sorted(p for paths in writable.commits for p in paths) == sorted(
        [*(f.path for f in hub_files(many.prep)), "README.md", "croissant.json", EXPORT, EXPORT]
    )
    commits, writable.log[:] = len(writable.commits), []
    export_prepared(many, "hub:me/voices", progress=False)
    assert len(writable.commits) == commits and not writable.requests_for(method="PUT")


def test_another_data_set_and_an_open_one_are_left_alone(writable, many):
    at = writable.repo_dir("datasets", "me/other")
    at.mkdir(parents=True)
    (at / "data.csv").write_text("a\n")
    with pytest.raises(ValueError, match="can be seen by all"): export_prepared(many, "hub:me/other", progress=False)
    with pytest.raises(ValueError, match="holds something else"):
        export_prepared(many, "hub:me/other", progress=False, public=True)
    assert os.listdir(at) == ["data.csv"] and writable.commits == []
    export_prepared(many, "hub:me/open", progress=False, public=True)
    assert "me/open" not in writable.private
    other = PreparedFolder(many.at)
    other.__dict__["_loaded"] = (many.prep, b"another prep.json")
    with pytest.raises(ValueError, match="holds something else"):
        export_prepared(other, "hub:me/open", progress=False, public=True)


def test_what_the_hub_refuses_is_one_sentence_without_the_token(writable, many, monkeypatch):
    def said():
        with pytest.raises((PermissionError, ValueError, ConnectionError)) as e:
            export_prepared(many, "hub:me/voices", progress=False)
        assert writable.token not in str(e.value) and "\n" not in str(e.value)
        return str(e.value)
    writable.fault("/api/repos/create", methods=("POST",), status=403)
    assert "may not write" in said()
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "refuses your token" in said()
    monkeypatch.setenv("HF_TOKEN", "")
    assert "set HF_TOKEN" in said()
    for name in ("hub:voices", "hub:a/b/c", "hub:../x", "hub:"):
        with pytest.raises(ValueError, match="must be hub:USER/NAME"): export_prepared(many, name)
    assert writable.commits == []


# The command

def test_the_command_says_what_it_wrote_and_what_is_wrong_in_one_sentence(folder, tmp_path, capfd):
    from audio_ft_prep.cli import run
    out = str(tmp_path / "out")
    assert run(["export", str(folder), "--to", "nemo", "--output-dir", out, "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["at"], said["to"], said["rows"]) == (out, "nemo", {"train": 20, "test": 4})
    for args, words in {
        ("--to", "htk", "--output-dir", out): "to must be one of nemo, lhotse, webdataset, kaldi, audiofolder or hub:",
        ("--to", "nemo"): "output_dir is missing",
        ("--to", "nemo", "--output-dir", out, "--public"): "public is for the Hub",
        ("--to", "hub:voices"): "must be hub:USER/NAME",
        ("--output-dir", out): "--to",
    }.items():
        assert run(["export", str(folder), *args]) == 2 and words in sentence(capfd.readouterr().err), args
