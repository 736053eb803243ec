"Lists of one's own recordings are read as their makers meant them; what doesn't fit together is on record, and nothing outside is read."
import json, os

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.example import row_clip
from audio_ft_prep.folder import choose_columns, find_lists, inspect_folder
from audio_ft_prep.load import inspect_corpus, load_rows, source_kind
from audio_ft_prep.rows import BadClip, close_files
from audio_ft_prep.splits import seeded_splits
from layouts import csv_text, put, table

pytestmark = pytest.mark.light


@pytest.fixture(autouse=True)
def no_file_stays_open():
    yield
    close_files()


def audio(path, seconds=1.0, rate=16000, level=0.1, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.full(round(seconds * rate), level, np.float32), rate, **kw)
    return path


def config(place, train="train", evaluation="", **more): return PrepConfig(str(place), "it", train_splits=train, eval_splits=evaluation, **more)
def read(place, *splits, **more): return load_rows(config(place, *splits, **more))
def ids(corpus): return corpus.rows["id"].to_pylist()
def rejects(corpus): return {(r["id"], r["reason"]) for r in corpus.rejects.to_pylist()}
def sentences(corpus): return dict(zip(ids(corpus), corpus.rows["sentence"].to_pylist()))
def jsonl(*records): return "".join(json.dumps(r) + "\n" for r in records)


# ---- tables

@pytest.mark.parametrize("name", ["file_name", "path", "audio", "audio_filepath", "audio_file", "filename", "file", "wav"])
@pytest.mark.parametrize("text", ["sentence", "text", "transcription", "transcript", "raw_transcription", "Text"])
def test_columns_are_found_by_their_names_whatever_stands_between(tmp_path, name, text):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.tsv", table(["n", text, "x", name], [["1", "Ciao.", "", "a.wav"]]))
    assert sentences(read(tmp_path)) == {"a": "Ciao."}


def test_of_several_columns_the_first_known_name_is_taken_unless_another_is_named(tmp_path):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.csv", csv_text(["raw_transcription", "transcription", "file", "words"], [["Ciao!", "ciao", "a.wav", "c i a o"]]))
    assert sentences(read(tmp_path)) == {"a": "ciao"}
    assert sentences(read(tmp_path, text_column="words")) == sentences(read(tmp_path / "list.csv", text_column="words")) == {"a": "c i a o"}


@pytest.mark.parametrize("columns,named,says", [(["clip", "words"], {}, "no column for the audio: its columns are clip, words; name it with audio_column"),
                                                (["path", "words"], {}, "no column for the sentence: its columns are path, words; name it with text_column"),
                                                (["path", "text"], {"text_column": "said"}, "no column for the sentence"), (["path", "text"], {"audio_column": "mp3"}, "no column for the audio")])
def test_a_table_without_audio_or_sentence_says_which_columns_it_has(tmp_path, columns, named, says):
    put(tmp_path / "list.csv", csv_text(columns, [["a", "b"]]))
    with pytest.raises(ValueError, match=says): read(tmp_path, **named)


def test_a_table_that_is_no_list_is_passed_over_where_there_is_one(tmp_path):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.csv", csv_text(["file", "text"], [["a.wav", "Ciao."]]))
    put(tmp_path / "budget.csv", csv_text(["what", "euro"], [["microphone", "90"]]))
    put(tmp_path / "package.json", '{"name": "x"}\n')
    assert sentences(read(tmp_path)) == {"a": "Ciao."}


def test_csv_has_quotation_marks_and_tsv_has_none(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.csv", 'file,text\na.wav,"Disse ""no"", poi\nsì."\nb.wav,NA\n')
    assert sentences(read(tmp_path)) == {"a": 'Disse "no", poi\nsì.', "b": "NA"}
    (tmp_path / "list.csv").unlink()
    put(tmp_path / "list.tsv", 'file\ttext\na.wav\t"Disse "no\nb.wav\tNA\n')
    assert sentences(read(tmp_path)) == {"a": '"Disse "no', "b": "NA"}


def test_a_quotation_that_never_ends_is_refused_rather_than_swallowing_rows(tmp_path):
    put(tmp_path / "list.csv", 'file,text\na.wav,"Ciao.\nb.wav,Ciao.\n')
    with pytest.raises(ValueError, match="list.csv can't be read as CSV at line 3 .*: see that every quotation mark is closed there"): read(tmp_path)


@pytest.mark.parametrize("encode", [lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.replace("\n", "\r\n").encode(), lambda t: t.replace(",", ";").encode()], ids=["BOM", "CRLF", "semicolons"])
def test_a_csv_of_a_spreadsheet_is_read(tmp_path, encode):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.csv", encode("file,text\na.wav,Però\n"))
    assert sentences(read(tmp_path)) == {"a": "Però"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_utf16_is_refused_and_other_bytes_cost_their_line(tmp_path, ending):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    text = {"csv": "file,text\na.wav,Ciao\nb.wav,Però\n", "tsv": "file\ttext\na.wav\tCiao\nb.wav\tPerò\n", "jsonl": '{"file": "a.wav", "text": "Ciao"}\n{"file": "b.wav", "text": "Però"}\n'}[ending]
    path = put(tmp_path / f"list.{ending}", text.encode("latin-1"))
    got = read(path)
    assert sentences(got) == {"a": "Ciao"} and rejects(got) == {(f"list.{ending}:{2 if ending == 'jsonl' else 3}", "bad_row")}
    put(path, text.encode("utf-16"))
    with pytest.raises(ValueError, match="is UTF-16: it must be UTF-8"): read(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_ten_megabytes_in_a_field_are_a_sentence_and_a_nul_in_a_path_is_not_followed(tmp_path, ending):
    audio(tmp_path / "a.wav")
    big, rows = "x" * 10_000_000, [["a.wav", "x" * 10_000_000], ["b\0.wav", "Ciao."]]
    path = put(tmp_path / f"list.{ending}", jsonl(*({"file": f, "text": t} for f, t in rows)) if ending == "jsonl" else table(["file", "text"], rows, "\t" if ending == "tsv" else ","))
    got = read(path)
    assert sentences(got) == {"a": big} and [r for _, r in rejects(got)] == ["unsafe_path"]


def test_lines_that_are_no_rows_are_rejects_with_their_place(tmp_path):
    for n in "abc": audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.csv", "file,text\na.wav,Ciao.\nb.wav,one,two\n,Ciao.\n\nc.wav\n")
    got = read(tmp_path / "list.csv")
    assert sentences(got) == {"a": "Ciao.", "c": ""} and rejects(got) == {("list.csv:3", "bad_row"), ("list.csv:4", "bad_row")}
    path = put(tmp_path / "list.jsonl", '{"file": "a.wav", "text": "Ciao."}\n[1]\n{"file": \n\n{"text": "x"}\n{"file": "b.wav", "text": null}\n' + "[" * 100_000 + "\n")
    got = read(path)
    assert sentences(got) == {"a": "Ciao.", "b": ""} and rejects(got) == {(f"list.jsonl:{n}", "bad_row") for n in (2, 3, 5, 7)}


@pytest.mark.parametrize("content,says", [("", "its columns are none"), ("\n\n", "its columns are none"), ("file,text\n", None)])
def test_a_table_of_nothing_is_said(tmp_path, content, says):
    path = put(tmp_path / "list.csv", content)
    if says is None: assert len(read(path).rows) == 0
    else:
        with pytest.raises(ValueError, match=says): read(path)


# ---- a row without a file, a file without a row

@pytest.mark.parametrize("layout", ["metadata.csv", "list.tsv"])
def test_every_row_and_every_file_is_kept_or_on_record(tmp_path, layout):
    for n in ("a", "b", "sub/c", "stray", ".hidden"): audio(tmp_path / f"{n}.wav")
    rows = [["a.wav", "Uno."], ["gone.wav", "Due."], ["sub/c.wav", "Tre."], ["a.wav", "Quattro."], ["b.wav", ""]]
    put(tmp_path / layout, csv_text(["file_name", "text"], rows) if layout.endswith("csv") else table(["file_name", "text"], rows))
    got = read(tmp_path)
    assert sentences(got) == {"a": "Uno.", "c": "Tre.", "b": ""}
    assert sorted((r["id"], r["reason"]) for r in got.rejects.to_pylist()) == [(".hidden", "no_row"), ("a", "duplicate_row"), ("gone", "missing_audio"), ("stray", "no_row")]


def test_a_list_named_by_itself_is_not_asked_about_other_audio(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    path = put(tmp_path / "list.csv", csv_text(["file", "text"], [["a.wav", "Ciao."]]))
    assert len(read(path).rejects) == 0 and rejects(read(tmp_path)) == {("b", "no_row")}


def test_a_stray_belongs_to_the_split_whose_folder_it_lies_in(tmp_path):
    for s in ("train", "test"):
        for n in ("a", "stray"): audio(tmp_path / s / f"{s}_{n}.wav")
        put(tmp_path / s / "metadata.csv", csv_text(["file_name", "text"], [[f"{s}_a.wav", "Ciao."]]))
    assert rejects(read(tmp_path, "train", "")) == {("train_stray", "no_row")}
    got = read(tmp_path, "train", "test")
    assert {(r["split"], r["id"]) for r in got.rejects.to_pylist()} == {("train", "train_stray"), ("eval", "test_stray")}


# ---- paths

def test_nothing_outside_the_folder_is_read(tmp_path):
    root, secret = tmp_path / "own", audio(tmp_path / "secret.wav")
    for n in range(4): audio(tmp_path / f"secret_{n}.wav")
    audio(root / "a.wav")
    (root / "link.wav").symlink_to(secret)
    (root / "inner.wav").symlink_to(root / "a.wav")
    (root / "folder").symlink_to(tmp_path)
    (root / "dir.wav").mkdir()
    os.mkfifo(root / "pipe.wav")
    names = ["a.wav", "inner.wav", "link.wav", "../secret_0.wav", "x/../../secret_1.wav", "folder/secret_2.wav", str(secret), "..\\secret_3.wav", "dir.wav", "pipe.wav", "./sub/../a2.wav"]
    audio(root / "a2.wav")
    put(root / "metadata.jsonl", jsonl(*({"file_name": n, "text": f"{i}"} for i, n in enumerate(names))))
    got = read(root)
    assert {os.path.basename(f) for f in got.rows["file"].to_pylist()} == {"a.wav", "a2.wav"}
    assert sorted(got.rows["sentence"].to_pylist()) == ["0", "1", "10"]
    assert [r["reason"] for r in got.rejects.to_pylist() if r["reason"] != "no_row"] == ["unsafe_path"] * 8


@pytest.mark.parametrize("layout", ["table", "nemo", "kaldi"])
def test_lists_that_one_makes_oneself_may_name_files_by_absolute_path_but_not_climb(tmp_path, layout):
    root, far, _ = tmp_path / "own", audio(tmp_path / "far/a.wav"), audio(tmp_path / "far/b.wav")
    if layout == "kaldi": kaldi(root, wav_scp=f"a {far}\nb ../far/b.wav\n", text="a Ciao.\nb Ciao.\n")
    else: put(root / "list.jsonl", jsonl(*({"audio_filepath" if layout == "nemo" else "path": p, "text": "Ciao."} for p in (str(far), "../far/b.wav"))))
    got = read(root)
    assert got.rows["file"].to_pylist() == [str(far)] and rejects(got) == {("b", "unsafe_path")}


def test_a_file_that_may_not_be_read_is_a_reject(tmp_path):
    audio(tmp_path / "a.wav"), audio(tmp_path / "b.wav").chmod(0)
    put(tmp_path / "list.csv", csv_text(["file", "text"], [["a.wav", "Ciao."], ["b.wav", "Ciao."]]))
    if os.access(tmp_path / "b.wav", os.R_OK): pytest.skip("this user may read everything")
    assert rejects(read(tmp_path)) == {("b", "missing_audio")}


# ---- names

def test_clips_are_called_by_their_base_names_or_where_these_clash_by_their_paths(tmp_path):
    for n in ("ada/001", "bice/001", "bice/002"): audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.csv", csv_text(["file", "text"], [["bice/001.wav", "Uno."], ["bice/002.wav", "Due."]]))
    assert ids(read(tmp_path)) == ["001", "002"]
    put(tmp_path / "list.csv", csv_text(["file", "text"], [["ada/001.wav", "Uno."], ["bice/001.wav", "Uno."], ["bice/002.wav", "Due."]]))
    assert ids(read(tmp_path)) == ["ada/001", "bice/001", "bice/002"]


# ---- splits

def folder_of(root, rows):
    for f, _ in rows: audio(root / f)
    put(root / "metadata.csv", csv_text(["file_name", "speaker", "text"], [[f, s, "Ciao."] for f, s in rows]))
    return root


def test_without_splits_no_speaker_is_in_two_of_them_and_the_log_says_so(tmp_path, caplog):
    root = folder_of(tmp_path, [(f"{i:02d}.wav", f"speaker {i % 6}") for i in range(30)])
    with caplog.at_level("INFO"): got = read(root, "train+validation", "test")
    of = {}
    for r in got.rows.to_pylist(): of.setdefault(r["speaker"], set()).add(r["source_split"])
    assert len(got.rows) == 30 and all(len(s) == 1 for s in of.values()) and set.union(*of.values()) == {"train", "validation", "test"}
    assert got.source["notes"] == ["the corpus gives no splits: seed 42, by speaker"] and "by speaker" in caplog.text and "is read as folder: it has the metadata of an AudioFolder, metadata.csv" in caplog.text
    again, other = read(root, "train+validation", "test"), read(root, "train+validation", "test", seed=1)
    assert again.rows.equals(got.rows) and not other.rows.equals(got.rows)


def test_a_split_that_is_not_asked_for_takes_no_rows(tmp_path):
    root = folder_of(tmp_path, [(f"{i:02d}.wav", "") for i in range(20)])
    assert len(read(root, "train", "").rows) == 20
    got = read(root, "train", "test")
    assert [got.rows["source_split"].to_pylist().count(s) for s in ("train", "test")] == [18, 2] and got.source["notes"] == ["the corpus gives no splits: seed 42, by row"]
    with pytest.raises(FileNotFoundError, match="no split other: the corpus gives no splits"): read(root, "other", "test")


def test_the_order_of_rows_does_not_move_them_between_splits():
    names, speakers = [f"clip {i}" for i in range(100)], [f"s{i % 13}" for i in range(100)]
    asked, order = ("train", "validation", "test"), np.random.default_rng(0).permutation(100)
    want = dict(zip(names, seeded_splits(names, speakers, asked, 7)[0]))
    assert dict(zip([names[i] for i in order], seeded_splits([names[i] for i in order], [speakers[i] for i in order], asked, 7)[0])) == want
    counts = [list(want.values()).count(s) for s in asked]
    assert counts[0] >= 75 and min(counts) >= 1


@pytest.mark.parametrize("speakers", [["a"] * 10, ["a", "b"] * 5, ["a"] * 9 + ["b"], ["", "a"] * 5])
def test_train_is_never_left_empty(speakers):
    names = [f"{i}" for i in range(len(speakers))]
    for asked in (("train",), ("train", "test"), ("train", "validation", "test")):
        got, _ = seeded_splits(names, speakers, asked, 42)
        assert "train" in got and set(got) <= set(asked)


def test_splits_are_in_names_of_lists_in_folders_or_in_a_column(tmp_path):
    for d, files in {"a": {"train.csv": 0, "test.csv": 1}, "b": {"my_train_set.csv": 0, "my-dev-set.csv": 2, "held_test.csv": 1}, "c": {"TRAIN.csv": 0, "eval_test.csv": 1}}.items():
        for name, i in files.items():
            audio(tmp_path / d / f"{i}.wav")
            put(tmp_path / d / name, csv_text(["path", "text"], [[f"{i}.wav", "Ciao."]]))
        got = read(tmp_path / d, "train+validation", "test")
        assert dict(zip(got.rows["source_split"].to_pylist(), ids(got))).items() >= {"train": "0", "test": "1"}.items() and len(got.rows) == len(files)
    assert read(tmp_path / "a", "train+validation", "test").source["notes"] == ["no split validation: train is made of the others"]


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    audio(tmp_path / "a.wav")
    put(tmp_path / "train.csv", csv_text(["path", "text"], [["a.wav", "Ciao."]]))
    with pytest.raises(FileNotFoundError, match="no split test in .*: it has train; set eval_splits"): read(tmp_path, "train", "test")
    with pytest.raises(FileNotFoundError, match="no split validation in .*: it has train; set eval_splits"): read(tmp_path, "train", "dev")


# ---- NeMo

def test_a_manifest_cuts_its_segments_and_names_them_by_their_times(tmp_path):
    x = np.concatenate([np.full(16000, level, np.float32) for level in (0.1, 0.2, 0.3)])
    sf.write(tmp_path / "long.wav", x, 16000, subtype="FLOAT")
    audio(tmp_path / "short.flac", 1.5)
    put(tmp_path / "train_manifest.json", jsonl({"audio_filepath": "long.wav", "offset": 0, "duration": 1, "text": "Uno."}, {"audio_filepath": "long.wav", "offset": 1.0, "duration": 1.0, "text": "Due."},
        {"audio_filepath": "long.wav", "offset": 2.5, "duration": 2.5, "text": "Tre."}, {"audio_filepath": "short.flac", "duration": 1.5, "text": "Quattro."}))
    got = read(tmp_path)
    assert ids(got) == ["long_0-1000", "long_1000-2000", "long_2500-5000", "short"] and got.source["kind"] == "nemo"
    rows = got.rows.to_pylist()
    assert [round(float(row_clip(r, 16000, 0, 30).samples.mean()), 3) for r in rows[:2]] == [0.1, 0.2] and row_clip(rows[3], 16000, 0, 30).seconds == 1.5
    with pytest.raises(BadClip, match="truncated: 0.50 of 2.50 s that the corpus gives"): row_clip(rows[2], 16000, 0, 30)


def test_segments_of_one_recording_in_two_splits_are_two_clips(tmp_path):
    audio(tmp_path / "long.wav", 3)
    for s, start in (("train", 0), ("test", 1)): put(tmp_path / f"{s}_manifest.json", jsonl({"audio_filepath": "long.wav", "offset": start, "duration": 1, "text": "Ciao."}))
    assert ids(read(tmp_path, "train", "test")) == ["long_0-1000", "long_1000-2000"]


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
def test_a_segment_is_the_same_samples_as_that_part_of_the_whole(tmp_path, ending):
    t = np.arange(4 * 48000) / 48000
    sf.write(tmp_path / f"a.{ending}", np.float32(0.3 * np.sin(2 * np.pi * (200 + 100 * t) * t)), 48000)
    get = lambda **kw: row_clip({"file": str(tmp_path / f"a.{ending}"), "offset": 0, "size": (tmp_path / f"a.{ending}").stat().st_size, "start": None, "seconds": None, **kw}, 48000, 0, 30).samples
    whole = get()
    for start, seconds in ((0, 1), (0.5, 0.25), (1 / 3, 2 / 3), (3.9, None), (0, None)):
        want = whole[round(start * 48000):round((start + seconds) * 48000) if seconds else None]
        assert np.array_equal(get(start=float(start), seconds=seconds), want)
    with pytest.raises(BadClip, match="truncated: its recording ends before 9.00 s"): get(start=9.0, seconds=1.0)
    with pytest.raises(BadClip, match="too_long: 31.000 s"): get(start=0.0, seconds=31.0)


def test_numbers_that_are_none_are_no_durations(tmp_path):
    audio(tmp_path / "a.wav")
    for bad in ("nan", "inf", -1, 0, "soon", None, [1], True):
        put(tmp_path / "m.json", jsonl({"audio_filepath": "a.wav", "duration": bad, "text": "Ciao."}))
        assert read(tmp_path).rows["seconds"].to_pylist() in ([None], [1.0])


# ---- Kaldi

def kaldi(root, **files):
    for name, text in files.items(): put(root / name.replace("_", "."), text)
    return root


def test_a_kaldi_directory_without_segments_has_an_utterance_a_recording(tmp_path):
    for n in "abc": audio(tmp_path / f"{n}.wav")
    got = read(kaldi(tmp_path, wav_scp="u1 a.wav\nu2 b.wav\nu3 c.wav\n", text="u1 Ciao a tutti.\nu2\nu4 Chi parla?\n", utt2spk="u1 ada\nu2 bice\n", utt2dur="u1 1.0\n"))
    assert sentences(got) == {"u1": "Ciao a tutti.", "u2": ""} and got.rows["speaker"].to_pylist() == ["ada", "bice"] and got.rows["seconds"].to_pylist() == [1.0, None]
    assert rejects(got) == {("u3", "no_row"), ("u4", "missing_audio")}


def test_segments_that_fit_nothing_are_rejects(tmp_path):
    audio(tmp_path / "a.wav", 3), audio(tmp_path / "b.wav")
    segments = "u1 a 0.5 1.5\nu2 a 2 1\nu3 x 0 1\nu4 a 1.5 -1\nu5 a 0 1\nu7 a\n"
    got = read(kaldi(tmp_path, wav_scp="a a.wav\nb b.wav\n", segments=segments, text="".join(f"u{i} Ciao.\n" for i in (1, 2, 3, 4, 6, 7))))
    assert [(r["id"], r["start"], r["seconds"]) for r in got.rows.to_pylist()] == [("u1", 0.5, 1.0), ("u4", 1.5, None)]
    assert rejects(got) == {("u2", "bad_row"), ("u3", "missing_audio"), ("u5", "no_row"), ("u6", "missing_audio"), ("u7", "bad_row"), ("b", "no_row")}
    assert [round(row_clip(r, 16000, 0, 30).seconds, 3) for r in got.rows.to_pylist()] == [1.0, 1.5]


@pytest.mark.parametrize("entry,what", [("touch pwned |", "a command"), ("| touch pwned", "a command"), ("data.ark:1234", "an archive")])
def test_a_command_in_wav_scp_is_refused_and_never_run(tmp_path, monkeypatch, entry, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"wav.scp must name audio files, and u1 is {what}: write the audio to files first"): read(kaldi(tmp_path / "k", wav_scp=f"u1 {entry}\n", text="u1 Ciao.\n"))
    assert not (tmp_path / "pwned").exists()


def test_kaldi_files_of_editors_and_of_other_encodings(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    got = read(kaldi(tmp_path, wav_scp="\ufeffu1 a.wav\r\nu2\tb.wav\r\n\r\n", text="u1  Però  no.\r\nu2 x\r\n".replace("x", "Ciao.")))
    assert sentences(got) == {"u1": "Però  no.", "u2": "Ciao."}
    put(tmp_path / "text", "u1 Però\n".encode("latin-1") + b"u2 Ciao.\n")
    assert rejects(read(tmp_path)) == {("text:1", "bad_row"), ("u1", "no_row")}


# ---- which list

def test_the_rule_goes_from_kaldi_over_audiofolder_to_tables(tmp_path):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.tsv", table(["path", "text"], [["a.wav", "tabella"]]))
    assert find_lists(tmp_path)[0] == "table" and source_kind(tmp_path) == "folder"
    put(tmp_path / "metadata.jsonl", jsonl({"file_name": "a.wav", "text": "audiofolder"}))
    assert sentences(read(tmp_path)) == {"a": "audiofolder"}
    kaldi(tmp_path, wav_scp="u a.wav\n", text="u kaldi\n")
    assert sentences(read(tmp_path)) == {"u": "kaldi"} and inspect_corpus(str(tmp_path))["why"].startswith("it has wav.scp of Kaldi, ")


@pytest.mark.parametrize("name", ["notes.txt", "a.wav", "it.tar"])
def test_a_file_that_is_no_list_is_refused(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="is no corpus: .* and holds a file$"): source_kind(put(tmp_path / name, "x"))


def test_a_look_deals_splits_out_as_a_run_would(tmp_path):
    root = folder_of(tmp_path, [(f"{i:02d}.wav", f"speaker {i % 6}") for i in range(30)])
    audio(root / "stray.wav")
    look, got = inspect_folder(root)[""], read(root, "train+validation", "test")
    assert {s: d["usable"] for s, d in look.items()} == {s: got.rows["source_split"].to_pylist().count(s) for s in ("train", "validation", "test")}
    assert sum(d["rows"] for d in look.values()) == 31 and look["train"]["rejects"] == {"no_row": 1} and look["train"]["columns"] == ["file_name", "speaker", "text"]


def test_a_changed_list_or_recording_is_another_source(tmp_path):
    root = folder_of(tmp_path, [("a.wav", "ada"), ("b.wav", "bice")])
    before = read(root).source["identity"]
    assert read(root).source["identity"] == before
    audio(root / "a.wav", 2.0)
    after = read(root).source["identity"]
    put(root / "metadata.csv", (root / "metadata.csv").read_text().replace("Ciao", "Addio"))
    assert len({before, after, read(root).source["identity"]}) == 3


def test_columns_may_be_named_only_for_tables():
    with pytest.raises(ValueError, match="text_column is for another kind of data set, and sample is read as commonvoice: leave it out"): read("sample", text_column="sentence")


def test_a_column_of_one_name_in_capitals_is_that_column():
    assert choose_columns(["Path", "TEXT"]) == {"path": "Path", "sentence": "TEXT"}
