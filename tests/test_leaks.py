"Leaks of each kind, planted in eval and in outside sets: found where they are, and nowhere else; dropped, or the end of a run."
import csv, io, shutil
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audio_ft_prep.audio import Limits
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.example import row_clip
from audio_ft_prep.leaks import OtherSet, leaks_in, mark_leaks, same_files
from audio_ft_prep.load import load_rows
from audio_ft_prep.outside import leaks, read_outside
from audio_ft_prep.pipeline import merge, prepare
from audio_ft_prep.planning import plan
from audio_ft_prep.reading import verify
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.rows import rows_table
from audio_ft_prep.run import Part
from conftest import SAMPLE

RATE_HZ, N = 16_000, 20  # clips of each kind
KINDS = ("speakers", "sentences", "bytes", "audio", "near")


def voice(seed, seconds=1.2):
    "Tones whose loudness moves, as that of a voice does, and a little noise."
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    tones = [
        np.sin(2 * np.pi * hz * time) * np.interp(time * 6, np.arange(40), rng.random(40) ** 3)
        for hz in 200 * 1.6 ** np.arange(6)
    ]
    return (0.1 * np.sum(tones, 0) + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


@lru_cache(1)
def voices():
    "Clips of the sample corpus, which sound as voices do."
    rows = load_rows(PrepConfig("sample", "it")).rows.to_pylist()
    return [x for x in map(decoded, rows) if x is not None and len(x) > RATE_HZ]


def decoded(row):
    try: return row_clip(row, Limits()).samples
    except BadClip: return None


def encoded(x, format, subtype):
    out = io.BytesIO()
    sf.write(out, np.rint(x * 32767).astype(np.int16), RATE_HZ, format=format, subtype=subtype)
    return out.getvalue()


def wav(x): return "wav", encoded(x, "WAV", "PCM_16")
def flac(x): return "flac", encoded(x, "FLAC", "PCM_16")
def ogg(x): return "ogg", encoded(x, "OGG", "VORBIS")


def planted(first=0):
    "Rows of train and of another set: (name, audio, sentence, speaker); each kind of leak is N rows of train."
    train, other = [], []
    for i in range(N):
        seed = first + 100 * i
        clips = {kind: wav(voice(seed + j)) for j, kind in enumerate(("speakers", "sentences", "bytes", "clean"))}
        for kind, clip in clips.items(): train.append((f"{kind}{i}", clip, f"{kind} frase {i}", f"T-{kind}{i}"))
        other.append((f"o-speakers{i}", wav(voice(seed + 11)), f"altra {i}", f"T-speakers{i}"))
        other.append((f"o-sentences{i}", wav(voice(seed + 12)), f" SENTENCES, frase «{i}»!", f"O-{i}"))
        other.append((f"o-bytes{i}", clips["bytes"], f"terza {i}", ""))
        x = voice(seed + 13)
        train.append((f"audio{i}", wav(x), f"audio frase {i}", ""))
        other.append((f"o-audio{i}", flac(x), f"quarta {i}", ""))
        x = voices()[i]
        train.append((f"near{i}", wav(x), f"near frase {i}", "" if i % 2 else f"T-near{i}"))
        said = f"near frase {i}" if i % 2 else f"quinta {i}"
        other.append((f"o-near{i}", ogg(0.4 * x[800:]), said, "" if i % 2 else f"T-near{i}"))
    return train, other


def write(root, splits):
    "Write a folder with a table for each split."
    for split, rows in splits.items():
        (root / split).mkdir(parents=True)
        with (root / split / "metadata.csv").open("w", newline="", encoding="utf-8") as f:
            table = csv.writer(f)
            table.writerow(["file_name", "text", "speaker_id"])
            for name, (ending, data), sentence, speaker in rows:
                (root / split / f"{name}.{ending}").write_bytes(data)
                table.writerow([f"{name}.{ending}", sentence, speaker])
    return root


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    "A corpus whose test knows train; one whose test doesn't; and an outside set that knows the second one's train."
    root = tmp_path_factory.mktemp("leaks")
    train, test = planted()
    clean = [(f"x{i}", wav(voice(9000 + i)), f"mai sentita {i}", f"X{i}") for i in range(4)]
    write(root / "leaking", {"train": train, "test": test})
    write(root / "clean", {"train": train, "test": clean})
    write(root / "outside", {"test": test})
    return root


def config(corpus, out, **settings):
    return PrepConfig(
        str(corpus),
        "it",
        train_splits="train",
        eval_splits="test",
        output_dir=str(out),
        num_workers=1,
        storage="audio",
        **settings
    )


def rows_by_kind(prepared, name): return {l.kind: l.rows for l in leaks_in(prepared.prep) if l.set == name}


FOUND = {"speakers": N + N // 2, "sentences": N + N // 2, "bytes": N, "audio": 2 * N, "near": N}


@pytest.fixture(scope="session")
def reported(corpora):
    "Both corpora prepared, with copies looked for."
    out = corpora / "out"
    inside = prepare(config(corpora / "leaking", out / "inside", near=True), progress=False)
    outer = config(corpora / "clean", out / "outer", near=True, keep_out=f"{corpora / 'outside'}:test")
    return inside, prepare(outer, progress=False)


def test_each_kind_is_found_in_eval_and_nothing_else(reported, corpora):
    inside, outer = reported
    assert rows_by_kind(inside, "eval") == FOUND
    assert rows_by_kind(outer, "eval") == dict.fromkeys(KINDS, 0)
    assert inside.counts["train"]["kept"] == outer.counts["train"]["kept"] == 6 * N, "nothing is dropped unasked"
    seconds = {l.kind: l.seconds for l in leaks_in(inside.prep)}
    assert seconds["bytes"] == pytest.approx(1.2 * N) and seconds["audio"] == pytest.approx(2.4 * N)
    assert verify(inside.folder) == verify(outer.folder) == []


def test_each_kind_is_found_in_an_outside_set(reported):
    assert rows_by_kind(reported[1], "outside:test") == FOUND


def test_the_card_and_the_summary_say_zero(reported):
    card = (reported[1].folder / "README.md").read_text()
    assert "| eval | speaker | 0 | 0.0 s | 0 | report |" in card
    assert "| outside:test | file, byte by byte | 20 |" in card
    unnamed = "30 rows of train without a speaker's name"
    assert f"share something with eval: speakers 0 ({unnamed}), sentences 0" in repr(reported[1])


def test_two_prepared_folders_are_compared_without_a_run(reported):
    folder = reported[0].folder
    found = leaks(f"{folder}:train", f"{folder}:test")
    assert [(l.kind, l.rows) for l in found] == [
        ("speakers", FOUND["speakers"]), ("sentences", FOUND["sentences"]), ("bytes", None), ("audio", FOUND["audio"])
    ]


DROP = {f"leak_{kind}": "drop" for kind in ("speakers", "sentences", "audio", "near")}


@pytest.fixture(scope="session")
def dropped(corpora):
    "The corpus that leaks, and the other one with its outside set, prepared without what leaks."
    out = corpora / "out"
    inside = prepare(config(corpora / "leaking", out / "dropped", near=True, **DROP), progress=False)
    outer = config(corpora / "clean", out / "outer_dropped", near=True, keep_out=f"{corpora / 'outside'}:test", **DROP)
    return inside, prepare(outer, progress=False)


@pytest.mark.parametrize("which, name", [(0, "eval"), (1, "outside:test")])
def test_what_leaks_is_dropped_and_nothing_else(dropped, which, name):
    prepared = dropped[which]
    clips = pq.read_table(prepared.folder / "clips.parquet")
    train = [i for i, split in zip(clips["id"].to_pylist(), clips["split"].to_pylist()) if split == "train"]
    assert sorted(train) == sorted(f"clean{i}" for i in range(N))
    assert prepared.counts["train"]["rejects"] == {"leak": 5 * N}
    rejects = pq.read_table(prepared.folder / "rejects.parquet").to_pylist()
    details = {r["id"]: r["detail"] for r in rejects}
    assert details["speakers3"] == f"{name} has the same speaker, clip o-speakers3"
    assert details["audio3"] == f"{name} has the same audio once decoded, clip o-audio3"
    assert details["bytes3"] == f"{name} has the same file, byte by byte, clip o-bytes3"
    assert rows_by_kind(prepared, name) == dict.fromkeys(KINDS, 0)
    lost = {l.kind: l.dropped for l in leaks_in(prepared.prep) if l.set == name}
    assert lost == {"speakers": N + N // 2, "sentences": N + N // 2, "bytes": N, "audio": N, "near": 0}
    assert not (prepared.folder / ".work").exists()


@pytest.mark.long
def test_jobs_of_a_run_drop_and_count_what_one_run_does(dropped, reported, corpora):
    for whole, settings in ((dropped[1], DROP), (reported[0], {})):
        outer = f"{corpora / 'outside'}:test" if settings else ""
        source = corpora / ("clean" if settings else "leaking")
        cfg = config(source, "part", near=True, keep_out=outer, shard_rows=40, **settings)
        folders = [corpora / f"out/part{i}-{bool(settings)}" for i in range(2)]
        for i, folder in enumerate(folders):
            prepare(replace(cfg, output_dir=str(folder)), progress=False, part=Part(i, 2))
        merged = merge(folders, corpora / f"out/merged-{bool(settings)}")
        assert merged.hash == whole.hash and merged.prep["leaks"] == whole.prep["leaks"]


def test_a_run_that_must_not_leak_ends_before_a_clip_is_decoded(corpora, tmp_path):
    with pytest.raises(ValueError, match="30 rows of train with the same speaker as eval: set leak_speakers to drop"):
        prepare(config(corpora / "leaking", tmp_path / "out", leak_speakers="fail"), progress=False)
    assert not (tmp_path / "out").exists()
    cfg = config(corpora / "clean", tmp_path / "out", leak_speakers="fail", leak_sentences="fail", leak_audio="fail")
    assert [l.rows for l in plan(cfg).leaks] == [0, 0, 0] and "speakers 0" in repr(plan(cfg))


def test_audio_that_must_not_leak_ends_a_run_that_leaves_nothing_to_open(reported, corpora, tmp_path):
    "A prepared folder is an outside set, too: its audio is known by name, and compared in the end."
    cfg = config(
        corpora / "clean", tmp_path / "out", leak_audio="fail", keep_out=f"{reported[0].folder}:test", shard_rows=60
    )
    assert [l.rows for l in plan(cfg).leaks[3:]] == [N + N // 2, N + N // 2, None]
    with pytest.raises(ValueError, match="40 rows of train with the same audio once decoded as inside:test"):
        prepare(cfg, progress=False)
    assert not (tmp_path / "out/prep.json").exists() and not (tmp_path / "out/dataset_dict.json").exists()


def test_a_run_is_not_continued_with_another_outside_set(corpora, tmp_path):
    write(tmp_path / "set", {"test": planted()[1][:2]})
    cfg = config(corpora / "clean", tmp_path / "out", keep_out=str(tmp_path / "set"), max_train_samples=4)
    prepare(cfg, progress=False)
    with (tmp_path / "set/test/metadata.csv").open("a", encoding="utf-8") as f: f.write("o-speakers0.wav,ancora,Z\n")
    with pytest.raises(ValueError, match="a set of keep_out has changed since"): prepare(cfg, progress=False)
    with pytest.raises(FileNotFoundError, match="keep_out nowhere"):
        prepare(replace(cfg, keep_out="nowhere"), progress=False)


def test_an_outside_set_that_is_called_eval_is_not_taken_for_eval(corpora, tmp_path):
    for name in ("eval", "eval (2)"): (tmp_path / name).symlink_to(corpora / "outside")
    names = "\n".join(f"{tmp_path / name}:test" for name in ("eval", "eval (2)"))
    plain = "\n".join(str(tmp_path / name) for name in ("eval", "eval (2)"))
    labels = [[other.name for other in read_outside(config(corpora / "clean", tmp_path, keep_out=keep_out))]
              for keep_out in (names, plain)]
    assert labels == [["eval:test", "eval (2):test"], ["eval (2)", "eval (2) (2)"]]


def test_what_is_said_of_an_outside_sets_splits_is_about_keep_out(corpora, tmp_path, caplog):
    no_validation = tmp_path / "cv"
    shutil.copytree(SAMPLE, no_validation)
    for path in (no_validation / "transcript/it/dev.tsv", *(no_validation / "audio/it/dev").glob("*")): path.unlink()
    cfg = config(corpora / "clean", tmp_path / "out")
    with caplog.at_level("WARNING"): [outside] = read_outside(replace(cfg, keep_out=str(no_validation)))
    assert len(outside.rows) and not any("train_splits" in m or "eval_splits" in m for m in caplog.messages)
    for name in (str(no_validation), str(corpora / "outside")):
        with pytest.raises(FileNotFoundError, match=f"^keep_out {name}: .*; ask for one of these, as {name}:SPLIT$"):
            read_outside(replace(cfg, keep_out=f"{name}:validation"))
    flat = tmp_path / "flat"
    write(tmp_path, {"flat": planted()[0][:3]})
    with caplog.at_level("WARNING"): read_outside(replace(cfg, keep_out=f"{flat}:test"))
    assert f"keep_out {flat}: the corpus gives no splits: all rows are test" in caplog.messages


@pytest.mark.parametrize("error", [ConnectionError, PermissionError, TimeoutError, RuntimeError, ValueError])
def test_an_outside_set_that_cant_be_read_is_named_whatever_fails(error, tmp_path, monkeypatch):
    def fail(*args): raise error("the connection to https://hub failed: see to the network")
    monkeypatch.setattr("audio_ft_prep.outside.inspect_corpus", fail)
    with pytest.raises(error, match="^keep_out nobody/nothing: the connection to https://hub failed: see to"):
        read_outside(config("sample", tmp_path, keep_out="nobody/nothing"))


@pytest.mark.parametrize("empty", ["train", "test"])
def test_where_a_split_has_no_rows_nothing_was_looked_for(empty, tmp_path):
    rows = [(f"{i}", wav(voice(i)), "" if empty == split else f"frase {split}{i}", f"{split}{i}")
            for split in ("train", "test") for i in range(1)]
    train, test = [rows[0]], [(f"t{name}", *rest) for name, *rest in rows[1:]]
    write(tmp_path / "c", {"train": train, "test": test})
    prepared = prepare(config(tmp_path / "c", tmp_path / "out", near=True), progress=False)
    assert set(rows_by_kind(prepared, "eval").values()) == {None}
    name = "eval" if empty == "test" else "train"
    assert {l.note for l in leaks_in(prepared.prep)} == {f"{name} has no rows"}
    assert verify(prepared.folder) == []
    folders = [tmp_path / f"part{i}" for i in range(2)]
    for i, folder in enumerate(folders):
        prepare(config(tmp_path / "c", folder, near=True, shard_rows=1), progress=False, part=Part(i, 2))
    assert merge(folders, tmp_path / "merged").prep["leaks"] == prepared.prep["leaks"]


def test_files_of_one_size_with_the_same_middle_are_not_the_same(tmp_path):
    datas = [bytes(1000) + b"a middle" * 8 + bytes([end]) * 1000 for end in (0, 1, 0)]
    for i, data in enumerate(datas): (tmp_path / f"{i}").write_bytes(data)
    rows = rows_table({
        "id": ["a", "b", "c"], "file": [str(tmp_path / f"{i}") for i in range(3)], "offset": [0] * 3, "size": [2064] * 3
    })
    assert same_files(rows.slice(0, 1), rows.slice(1)).tolist() == [1]
    assert same_files(rows.slice(1, 1), rows.slice(2)).tolist() == [-1]


def test_a_row_that_shares_several_things_counts_for_each_and_is_one_reject():
    other = rows_table({"id": ["o"], "speaker": ["ada"], "sentence": ["Uno."]})
    train = rows_table({"id": ["a", "b"], "speaker": ["ada", "bo"], "sentence": ["uno", "due"], "split": ["train"] * 2})
    modes = dict.fromkeys(KINDS, "drop")
    stay, rejects, search = mark_leaks(train, [OtherSet("eval", other)], modes)
    assert stay["id"].to_pylist() == ["b"] and rejects["id"].to_pylist() == ["a"]
    assert [search.dropped["eval", kind].rows for kind in ("speakers", "sentences")] == [1, 1]
