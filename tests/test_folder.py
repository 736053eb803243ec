"Lists of one's own recordings are read as their makers meant them; what doesn't fit together is on record, and nothing outside is read."
import json, os

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.audio import Limits
from audio_ft_prep.example import row_clip
from audio_ft_prep.tablecolumns import choose_columns
from audio_ft_prep.listing import find_lists
from audio_ft_prep.folder import inspect_folder
from audio_ft_prep.load import inspect_corpus, load_rows, source_kind
from audio_ft_prep.rows import close_files
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.splits import seeded_splits
from audio_ft_prep.tables import records
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


def config(place, train="train", evaluation="", **more):
    return PrepConfig(str(place), "it", train_splits=train, eval_splits=evaluation, **more)
def read(place, *splits, **more): return load_rows(config(place, *splits, **more))
def ids(corpus): return corpus.rows["id"].to_pylist()
def rejects(corpus): return {(r["id"], r["reason"]) for r in corpus.rejects.to_pylist()}
def sentences(corpus): return dict(zip(ids(corpus), corpus.rows["sentence"].to_pylist()))
def jsonl(*records): return "".join(json.dumps(r) + "\n" for r in records)


# ---- tables

@pytest.mark.parametrize(
    "name", ["file_name", "path", "audio", "audio_filepath", "audio_file", "filename", "file", "wav"]
)
@pytest.mark.parametrize("text", ["sentence", "text", "transcription", "transcript", "raw_transcription", "Text"])
def test_columns_are_found_by_their_names_whatever_stands_between(tmp_path, name, text):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.tsv", table(["n", text, "x", name], [["1", "Ciao.", "", "a.wav"]]))
    assert sentences(read(tmp_path)) == {"a": "Ciao."}


def test_of_several_columns_the_first_known_name_is_taken_unless_another_is_named(tmp_path):
    audio(tmp_path / "a.wav")
    put(
        tmp_path / "list.csv",
        csv_text(["raw_transcription", "transcription", "file", "words"], [["Ciao!", "ciao", "a.wav", "c i a o"]]),
    )
    assert sentences(read(tmp_path)) == {"a": "ciao"}
    assert (
        sentences(read(tmp_path, text_column="words"))
        == sentences(read(tmp_path / "list.csv", text_column="words"))
        == {"a": "c i a o"}
    )


@pytest.mark.parametrize(
    "columns,named,says",
    [
        (["clip", "words"], {}, "no column for the audio: its columns are clip, words; name it with audio_column"),
        (["path", "words"], {}, "no column for the sentence: its columns are path, words; name it with text_column"),
        (["path", "text"], {"text_column": "said"}, "no column for the sentence"),
        (["path", "text"], {"audio_column": "mp3"}, "no column for the audio"),
    ],
)
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
    with pytest.raises(
        ValueError, match="list.csv can't be read as CSV at line 3 .*: see that every quotation mark is closed there"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: b"\xef\xbb\xbf" + t.encode(),
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.replace(",", ";").encode(),
    ],
    ids=["BOM", "CRLF", "semicolons"],
)
def test_a_csv_of_a_spreadsheet_is_read(tmp_path, encode):
    audio(tmp_path / "a.wav")
    put(tmp_path / "list.csv", encode("file,text\na.wav,Però\n"))
    assert sentences(read(tmp_path)) == {"a": "Però"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_utf16_is_refused_and_other_bytes_cost_their_line(tmp_path, ending):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    text = {
        "csv": "file,text\na.wav,Ciao\nb.wav,Però\n",
        "tsv": "file\ttext\na.wav\tCiao\nb.wav\tPerò\n",
        "jsonl": '{"file": "a.wav", "text": "Ciao"}\n{"file": "b.wav", "text": "Però"}\n',
    }[ending]
    path = put(tmp_path / f"list.{ending}", text.encode("latin-1"))
    got = read(path)
    assert sentences(got) == {"a": "Ciao"} and rejects(got) == {
        (f"list.{ending}:{2 if ending == 'jsonl' else 3}", "bad_row")
    }
    put(path, text.encode("utf-16"))
    with pytest.raises(ValueError, match="is UTF-16: it must be UTF-8"): read(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_ten_megabytes_in_a_field_are_a_sentence_and_a_nul_in_a_path_is_not_followed(tmp_path, ending):
    audio(tmp_path / "a.wav")
    big, rows = "x" * 10_000_000, [["a.wav", "x" * 10_000_000], ["b\0.wav", "Ciao."]]
    path = put(
        tmp_path / f"list.{ending}",
        (
            jsonl(*({"file": f, "text": t} for f, t in rows))
            if ending == "jsonl"
            else table(["file", "text"], rows, "\t" if ending == "tsv" else ",")
        ),
    )
    got = read(path)
    assert sentences(got) == {"a": big} and [r for _, r in rejects(got)] == ["unsafe_path"]


def test_lines_that_are_no_rows_are_rejects_with_their_place(tmp_path):
    for n in "abc": audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.csv", "file,text\na.wav,Ciao.\nb.wav,one,two\n,Ciao.\n\nc.wav\n")
    got = read(tmp_path / "list.csv")
    assert sentences(got) == {"a": "Ciao.", "c": ""} and rejects(got) == {
        ("list.csv:3", "bad_row"),
        ("list.csv:4", "bad_row"),
    }
    path = put(
        tmp_path / "list.jsonl",
        '{"file": "a.wav", "text": "Ciao."}\n[1]\n{"file": \n\n{"text": "x"}\n{"file": "b.wav", "text": null}\n'
        + "[" * 100_000
        + "\n",
    )
    got = read(path)
    assert sentences(got) == {"a": "Ciao.", "b": ""} and rejects(got) == {
        (f"list.jsonl:{n}", "bad_row") for n in (2, 3, 5, 7)
    }


@pytest.mark.parametrize(
    "content,says", [("", "its columns are none"), ("\n\n", "its columns are none"), ("file,text\n", None)]
)
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
    put(
        tmp_path / layout,
        csv_text(["file_name", "text"], rows) if layout.endswith("csv") else table(["file_name", "text"], rows),
    )
    got = read(tmp_path)
    assert sentences(got) == {"a": "Uno.", "c": "Tre.", "b": ""}
    assert sorted((r["id"], r["reason"]) for r in got.rejects.to_pylist()) == [
        (".hidden", "no_row"),
        ("a", "duplicate_row"),
        ("gone", "missing_audio"),
        ("stray", "no_row"),
    ]


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
    assert {(r["split"], r["id"]) for r in got.rejects.to_pylist()} == {
        ("train", "train_stray"),
        ("eval", "test_stray"),
    }


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
    names = [
        "a.wav",
        "inner.wav",
        "link.wav",
        "../secret_0.wav",
        "x/../../secret_1.wav",
        "folder/secret_2.wav",
        str(secret),
        "..\\secret_3.wav",
        "dir.wav",
        "pipe.wav",
        "./sub/../a2.wav",
    ]
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
    else:
        put(
            root / "list.jsonl",
            jsonl(
                *(
                    {"audio_filepath" if layout == "nemo" else "path": p, "text": "Ciao."}
                    for p in (str(far), "../far/b.wav")
                )
            ),
        )
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
    put(
        tmp_path / "list.csv",
        csv_text(["file", "text"], [["ada/001.wav", "Uno."], ["bice/001.wav", "Uno."], ["bice/002.wav", "Due."]]),
    )
    assert ids(read(tmp_path)) == ["ada/001", "bice/001", "002"]


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
    assert (
        len(got.rows) == 30
        and all(len(s) == 1 for s in of.values())
        and set.union(*of.values()) == {"train", "validation", "test"}
    )
    assert (
        got.source["notes"] == ["the corpus gives no splits: seed 42, by speaker"]
        and "by speaker" in caplog.text
        and "is read as folder: it has the metadata of an AudioFolder, metadata.csv" in caplog.text
    )
    again, other = read(root, "train+validation", "test"), read(root, "train+validation", "test", seed=1)
    assert again.rows.equals(got.rows) and not other.rows.equals(got.rows)


def test_a_split_that_is_not_asked_for_takes_no_rows(tmp_path):
    root = folder_of(tmp_path, [(f"{i:02d}.wav", "") for i in range(20)])
    assert len(read(root, "train", "").rows) == 20
    got = read(root, "train", "test")
    assert [got.rows["source_split"].to_pylist().count(s) for s in ("train", "test")] == [18, 2] and got.source[
        "notes"
    ] == ["the corpus gives no splits: seed 42, by row"]
    with pytest.raises(FileNotFoundError, match="no split other: the corpus gives no splits"):
        read(root, "other", "test")


def test_the_order_of_rows_does_not_move_them_between_splits():
    names, speakers = [f"clip {i}" for i in range(100)], [f"s{i % 13}" for i in range(100)]
    asked, order = ("train", "validation", "test"), np.random.default_rng(0).permutation(100)
    want = dict(zip(names, seeded_splits(names, speakers, asked, 7)[0]))
    assert (
        dict(
            zip(
                [names[i] for i in order],
                seeded_splits([names[i] for i in order], [speakers[i] for i in order], asked, 7)[0],
            )
        )
        == want
    )
    counts = [list(want.values()).count(s) for s in asked]
    assert counts[0] >= 75 and min(counts) >= 1


@pytest.mark.parametrize("speakers", [["a"] * 10, ["a", "b"] * 5, ["a"] * 9 + ["b"], ["", "a"] * 5])
def test_train_is_never_left_empty(speakers):
    names = [f"{i}" for i in range(len(speakers))]
    for asked in (("train",), ("train", "test"), ("train", "validation", "test")):
        got, _ = seeded_splits(names, speakers, asked, 42)
        assert "train" in got and set(got) <= set(asked)


def test_splits_are_in_names_of_lists_in_folders_or_in_a_column(tmp_path):
    for d, files in {
        "a": {"train.csv": 0, "test.csv": 1},
        "b": {"my_train_set.csv": 0, "my-dev-set.csv": 2, "held_test.csv": 1},
        "c": {"TRAIN.csv": 0, "eval_test.csv": 1},
    }.items():
        for name, i in files.items():
            audio(tmp_path / d / f"{i}.wav")
            put(tmp_path / d / name, csv_text(["path", "text"], [[f"{i}.wav", "Ciao."]]))
        got = read(tmp_path / d, "train+validation", "test")
        assert dict(zip(got.rows["source_split"].to_pylist(), ids(got))).items() >= {
            "train": "0",
            "test": "1",
        }.items() and len(got.rows) == len(files)
    assert read(tmp_path / "a", "train+validation", "test").source["notes"] == [
        "no split validation: train is made of the others"
    ]


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    audio(tmp_path / "a.wav")
    put(tmp_path / "train.csv", csv_text(["path", "text"], [["a.wav", "Ciao."]]))
    with pytest.raises(FileNotFoundError, match="no split test in .*: it has train; set eval_splits"):
        read(tmp_path, "train", "test")
    with pytest.raises(FileNotFoundError, match="no split validation in .*: it has train; set eval_splits"):
        read(tmp_path, "train", "dev")


# ---- NeMo

def test_a_manifest_cuts_its_segments_and_names_them_by_their_times(tmp_path):
    x = np.concatenate([np.full(16000, level, np.float32) for level in (0.1, 0.2, 0.3)])
    sf.write(tmp_path / "long.wav", x, 16000, subtype="FLOAT")
    audio(tmp_path / "short.flac", 1.5)
    put(
        tmp_path / "train_manifest.json",
        jsonl(
            {"audio_filepath": "long.wav", "offset": 0, "duration": 1, "text": "Uno."},
            {"audio_filepath": "long.wav", "offset": 1.0, "duration": 1.0, "text": "Due."},
            {"audio_filepath": "long.wav", "offset": 2.5, "duration": 2.5, "text": "Tre."},
            {"audio_filepath": "short.flac", "duration": 1.5, "text": "Quattro."},
        ),
    )
    got = read(tmp_path)
    assert ids(got) == ["long_0-1000", "long_1000-2000", "long_2500-5000", "short"] and got.source["kind"] == "nemo"
    rows = got.rows.to_pylist()
    assert [round(float(row_clip(r, Limits()).samples.mean()), 3) for r in rows[:2]] == [0.1, 0.2]
    assert row_clip(rows[3], Limits()).seconds == 1.5
    with pytest.raises(BadClip, match="truncated: 0.50 of 2.50 s that the corpus gives"): row_clip(rows[2], Limits())


def test_segments_of_one_recording_in_two_splits_are_two_clips(tmp_path):
    audio(tmp_path / "long.wav", 3)
    for s, start in (("train", 0), ("test", 1)):
        put(
            tmp_path / f"{s}_manifest.json",
            jsonl({"audio_filepath": "long.wav", "offset": start, "duration": 1, "text": "Ciao."}),
        )
    assert ids(read(tmp_path, "train", "test")) == ["long_0-1000", "long_1000-2000"]


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
def test_a_segment_is_the_same_samples_as_that_part_of_the_whole(tmp_path, ending):
    t = np.arange(4 * 48000) / 48000
    sf.write(tmp_path / f"a.{ending}", np.float32(0.3 * np.sin(2 * np.pi * (200 + 100 * t) * t)), 48000)
    get = lambda **kw: row_clip(
        {
            "file": str(tmp_path / f"a.{ending}"),
            "offset": 0,
            "size": (tmp_path / f"a.{ending}").stat().st_size,
            "start": None,
            "seconds": None,
            **kw,
        },
        Limits(48000),
    ).samples
    whole = get()
    for start, seconds in ((0, 1), (0.5, 0.25), (1 / 3, 2 / 3), (3.9, None), (0, None)):
        want = whole[round(start * 48000):round((start + seconds) * 48000) if seconds else None]
        assert np.array_equal(get(start=float(start), seconds=seconds), want)
    with pytest.raises(BadClip, match="truncated: its recording ends before 9.00 s"): get(start=9.0, seconds=1.0)
    with pytest.raises(BadClip, match="too_long: 31.000 s"): get(start=0.0, seconds=31.0)


def test_a_duration_that_is_none_costs_its_row_and_null_or_0_is_not_given(tmp_path):
    audio(tmp_path / "a.wav")
    for bad in ("nan", "inf", -1, "soon", [1], True, "1,5", "0:01", {"s": 1}, 1e300):
        put(tmp_path / "m.json", jsonl({"audio_filepath": "a.wav", "duration": bad, "text": "Ciao."}))
        got = read(tmp_path)
        assert (
            len(got.rows) == 0
            and rejects(got) == {("m.json:1", "bad_row")}
            and got.rejects["detail"][0].as_py().startswith("duration must be a number of seconds")
            and "(m.json:1)" in got.rejects["detail"][0].as_py()
        )
    for none in (0, "0", None, "", " "):
        put(tmp_path / "m.json", jsonl({"audio_filepath": "a.wav", "duration": none, "text": "Ciao."}))
        assert [(r["start"], r["seconds"]) for r in read(tmp_path).rows.to_pylist()] == [(None, None)]


# ---- Kaldi

def kaldi(root, **files):
    for name, text in files.items(): put(root / name.replace("_", "."), text)
    return root


def test_a_kaldi_directory_without_segments_has_an_utterance_a_recording(tmp_path):
    for n in "abc": audio(tmp_path / f"{n}.wav")
    got = read(
        kaldi(
            tmp_path,
            wav_scp="u1 a.wav\nu2 b.wav\nu3 c.wav\n",
            text="u1 Ciao a tutti.\nu2\nu4 Chi parla?\n",
            utt2spk="u1 ada\nu2 bice\n",
            utt2dur="u1 1.0\n",
        )
    )
    assert (
        sentences(got) == {"u1": "Ciao a tutti.", "u2": ""}
        and got.rows["speaker"].to_pylist() == ["ada", "bice"]
        and got.rows["seconds"].to_pylist() == [1.0, None]
    )
    assert rejects(got) == {("u3", "no_row"), ("u4", "missing_audio")}


def test_segments_that_fit_nothing_are_rejects(tmp_path):
    audio(tmp_path / "a.wav", 3), audio(tmp_path / "b.wav")
    segments = "u1 a 0.5 1.5\nu2 a 2 1\nu3 x 0 1\nu4 a 1.5 -1\nu5 a 0 1\nu7 a\n"
    got = read(
        kaldi(
            tmp_path,
            wav_scp="a a.wav\nb b.wav\n",
            segments=segments,
            text="".join(f"u{i} Ciao.\n" for i in (1, 2, 3, 4, 6, 7)),
        )
    )
    assert [(r["id"], r["start"], r["seconds"]) for r in got.rows.to_pylist()] == [("u1", 0.5, 1.0), ("u4", 1.5, None)]
    assert rejects(got) == {
        ("u2", "bad_row"),
        ("u3", "missing_audio"),
        ("u5", "no_row"),
        ("u6", "missing_audio"),
        ("u7", "bad_row"),
        ("b", "no_row"),
    }
    assert [round(row_clip(r, Limits()).seconds, 3) for r in got.rows.to_pylist()] == [1.0, 1.5]


@pytest.mark.parametrize(
    "entry,what", [("touch pwned |", "a command"), ("| touch pwned", "a command"), ("data.ark:1234", "an archive")]
)
def test_a_command_in_wav_scp_is_refused_and_never_run(tmp_path, monkeypatch, entry, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"wav.scp must name audio files, and u1 is {what}: write the audio to files first"
    ):
        read(kaldi(tmp_path / "k", wav_scp=f"u1 {entry}\n", text="u1 Ciao.\n"))
    assert not (tmp_path / "pwned").exists()


def test_kaldi_files_of_editors_and_of_other_encodings(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    got = read(
        kaldi(
            tmp_path,
            wav_scp="\ufeffu1 a.wav\r\nu2\tb.wav\r\n\r\n",
            text="u1  Però  no.\r\nu2 x\r\n".replace("x", "Ciao."),
        )
    )
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
    assert sentences(read(tmp_path)) == {"u": "kaldi"} and inspect_corpus(str(tmp_path))["why"].startswith(
        "it has wav.scp of Kaldi, "
    )


@pytest.mark.parametrize("name", ["notes.txt", "a.wav", "it.tar"])
def test_a_file_that_is_no_list_is_refused(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="is no corpus: .* and holds a file$"):
        source_kind(put(tmp_path / name, "x"))


def test_a_look_deals_splits_out_as_a_run_would(tmp_path):
    root = folder_of(tmp_path, [(f"{i:02d}.wav", f"speaker {i % 6}") for i in range(30)])
    audio(root / "stray.wav")
    look, got = inspect_folder(root)[""], read(root, "train+validation", "test")
    assert {s: d["usable"] for s, d in look.items()} == {
        s: got.rows["source_split"].to_pylist().count(s) for s in ("train", "validation", "test")
    }
    assert (
        sum(d["rows"] for d in look.values()) == 31
        and look["train"]["rejects"] == {"no_row": 1}
        and look["train"]["columns"] == ["file_name", "speaker", "text"]
    )


def test_a_changed_list_or_recording_is_another_source(tmp_path):
    root = folder_of(tmp_path, [("a.wav", "ada"), ("b.wav", "bice")])
    before = read(root).source["identity"]
    assert read(root).source["identity"] == before
    audio(root / "a.wav", 2.0)
    after = read(root).source["identity"]
    put(root / "metadata.csv", (root / "metadata.csv").read_text().replace("Ciao", "Addio"))
    assert len({before, after, read(root).source["identity"]}) == 3


def test_columns_may_be_named_only_for_tables():
    with pytest.raises(
        ValueError,
        match="text_column is for another kind of data set, and sample is read as commonvoice: leave it out",
    ):
        read("sample", text_column="sentence")


def test_a_column_of_one_name_in_capitals_is_that_column():
    assert choose_columns(["Path", "TEXT"]) == {"path": "Path", "sentence": "TEXT"}


# ---- what a table says is used, or its row is refused

def told(got): return {r["id"]: r["detail"] for r in got.rejects.to_pylist()}
def parts(got): return {r["id"]: (r["start"], r["seconds"]) for r in got.rows.to_pylist()}


@pytest.fixture
def long(tmp_path):
    "A folder with a recording of ten seconds."
    audio(tmp_path / "long.wav", 10)
    return tmp_path


LISTS = {
    "list.csv": lambda c, rows: csv_text(c, rows),
    "list.tsv": lambda c, rows: table(c, rows),
    "metadata.csv": lambda c, rows: csv_text(c, rows),
    **dict.fromkeys(
        ("list.jsonl", "list.json", "metadata.jsonl"), lambda c, rows: jsonl(*(dict(zip(c, r)) for r in rows))
    ),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "start,end,values",
    [
        ("offset", "duration", ("3.5", "2.5")),
        ("start", "end", ("3.5", "6.0")),
        ("begin", "end", ("3.5", "6")),
        ("start_ms", "end_ms", ("3500", "6000")),
        ("start_time", "end_time", ("3.5", "6.0")),
        ("offset_ms", "duration_ms", ("3500", "2500")),
    ],
)
def test_a_part_of_a_recording_is_used_in_every_table(long, name, start, end, values):
    put(long / name, LISTS[name](["file_name", "text", start, end], [["long.wav", "Ciao.", *values]]))
    assert parts(read(long)) == {"long": (3.5, 2.5)}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "column,value,other",
    [
        ("offset", "6,0", ("duration", "1")),
        ("offset", "00:00:06", ("duration", "1")),
        ("offset", "-0.2", ("duration", "1")),
        ("duration", "1,6", ("offset", "6")),
        ("start", "4", ("end", "2")),
        ("end", "soon", ("start", "0")),
        ("duration", "8", ("start", "0")),
        ("end_ms", "1e", ("begin", "0")),
        ("duration", "0", ("offset", "1")),
    ],
)
def test_times_that_cannot_be_read_or_contradict_each_other_cost_their_row(long, name, column, value, other):
    audio(long / "good.wav")
    more = [("end", "2")] if (column, other[0]) == ("duration", "start") else []
    columns, values = zip(("file_name", "long.wav"), ("text", "Ciao."), (column, value), other, *more)
    put(long / name, LISTS[name](columns, [values, ["good.wav", "Bene.", *[""] * (len(values) - 2)]]))
    got = read(long)
    (line, detail), = told(got).items()
    assert (
        ids(got) == ["good"]
        and detail.endswith(f"({line})")
        and column in detail
        and value in detail
        and line == f"{name}:{1 if 'json' in name else 2}"
    )


def test_columns_that_only_later_lines_have_count(long):
    audio(long / "a.wav")
    rows = [
        {"audio": "a.wav"},
        {"audio": "long.wav", "start": 6.0, "end": 8.0, "text": "Due.", "speaker": "ada", "split": "train"},
        {"file_name": "long.wav", "sentence": "Tre.", "offset": 1, "duration": 2},
    ]
    for order in (rows, rows[::-1]):
        put(long / "list.jsonl", jsonl(*(r | {"split": "train"} for r in order)))
        got = read(long)
        assert parts(got) == {
            "a": (None, None),
            "long_6000-8000": (6.0, 2.0),
            "long_1000-3000": (1.0, 2.0),
        } and sentences(got) == {"a": "", "long_6000-8000": "Due.", "long_1000-3000": "Tre."}
        assert dict(zip(ids(got), got.rows["speaker"].to_pylist()))["long_6000-8000"] == "ada" and set(
            inspect_folder(long)[""]["train"]["columns"]
        ) >= {"offset", "start", "sentence", "text"}


WRONG = [
    ("text", 3),
    ("text", ["Ciao."]),
    ("text", {"it": "Ciao."}),
    ("text", True),
    ("text", "ciao \ud83d"),
    ("audio", 7),
    ("audio", ["a.wav"]),
    ("audio", {"bytes": "UklGRg=="}),
    ("audio", None),
    ("audio", "\udc80.wav"),
    ("speaker", {"name": "ada"}),
    ("speaker", 1.5),
    ("speaker", "\ud800"),
    ("split", 3),
    ("split", ["train"]),
    ("age", [20]),
    ("gender", False),
    ("accents", {}),
    ("language", 1.5),
    ("offset", "x"),
    ("start", []),
    ("duration_ms", "1,5"),
]


@pytest.mark.parametrize("field,value", WRONG)
@pytest.mark.parametrize("name", ["list.jsonl", "metadata.jsonl", "list.json"])
def test_a_value_of_another_type_costs_its_row_and_the_sentence_has_field_value_file_and_line(
    tmp_path, field, value, name
):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    rows = [{"audio": "a.wav", "text": "Ciao."} | {field: value}, {"audio": "b.wav", "text": "Buona."}]
    put(tmp_path / name, json.dumps(rows, indent=1) if name == "list.json" else jsonl(*rows))
    got = read(tmp_path / name)
    line = f"{name}:{2 if name == 'list.json' else 1}"
    assert sentences(got) == {"b": "Buona."} and rejects(got) == {(line, "bad_row")}
    assert told(got)[line].endswith(f"({line})") and (field in told(got)[line] or value is None)
    assert len(read(tmp_path).rows) == 1 and not {r["id"] for r in read(tmp_path).rejects.to_pylist()} & {"b"}


def test_a_label_may_be_a_number_and_a_dictionary_may_hold_the_path(tmp_path):
    for n in "abcd": audio(tmp_path / f"{n}.wav")
    put(
        tmp_path / "list.jsonl",
        jsonl(
            {"audio": {"path": "a.wav", "bytes": None}, "text": "Uno.", "speaker_id": 17, "age": 30},
            {"audio": "{'path': 'b.wav', 'bytes': None}", "text": "Due.", "speaker_id": "x"},
            {"audio": {"path": "c.wav", "array": [0.1], "sampling_rate": 16000}, "text": "Tre."},
        ),
    )
    got = read(tmp_path)
    assert (
        sentences(got) == {"a": "Uno.", "b": "Due.", "c": "Tre."}
        and got.rows["speaker"].to_pylist() == ["17", "x", ""]
        and rejects(got) == {("d", "no_row")}
    )
    put(tmp_path / "list.jsonl", "")
    (tmp_path / "list.jsonl").unlink()
    put(
        tmp_path / "data.csv",
        csv_text(
            ["audio", "text"],
            [["{'path': 'a.wav', 'bytes': None}", "Uno."], ['{"path": "b.wav"}', "Due."], ["{'bytes': 1}", "Tre."]],
        ),
    )
    got = read(tmp_path)
    assert sentences(got) == {"a": "Uno.", "b": "Due."} and ("data.csv:4", "bad_row") in rejects(got)


@pytest.mark.parametrize("name", ["list.json", "list.jsonl", "DATA.JSON"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_objects_is_read_as_lines_are(tmp_path, name, indent):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    put(
        tmp_path / name,
        json.dumps(
            [{"audio": "a.wav", "text": "Però."}, {"audio": "b.wav", "text": "Due. \U0001f600"}, 7], indent=indent
        ),
    )
    got = read(tmp_path)
    assert (
        sentences(got) == {"a": "Però.", "b": "Due. \U0001f600"}
        and [r for _, r in rejects(got)] == ["bad_row"]
        and source_kind(tmp_path) == "folder"
    )


def test_rows_without_a_split_are_on_record_where_others_have_one(tmp_path):
    for n in "abcde": audio(tmp_path / f"{n}.wav")
    put(
        tmp_path / "list.csv",
        csv_text(
            ["path", "text", "split"],
            [
                ["a.wav", "Uno.", "train"],
                ["b.wav", "Due.", ""],
                ["c.wav", "Tre.", "Dev"],
                ["d.wav", "Quattro.", "trian"],
                ["e.wav", "Cinque.", "other"],
            ],
        ),
    )
    got = read(tmp_path)
    assert sentences(got) == {"a": "Uno."} and got.source["notes"] == [
        "1 rows name no split, and are rejects",
        "rows of other splits are not read: 1 other",
    ]
    assert told(got) == {
        "b": "it names no split (list.csv:3)",
        "d": "no split is called trian: did you mean train? (list.csv:5)",
    } and {r for _, r in rejects(got)} == {"bad_row"}
    assert inspect_folder(tmp_path)[""]["no split"]["rejects"] == {"bad_row": 1}


def test_a_name_that_stands_twice_must_say_the_same(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    put(
        tmp_path / "list.jsonl",
        '{"audio": "a.wav", "text": "Uno.", "text": "Due."}\n{"audio": "b.wav", "text": "Tre.", "text": "Tre."}\n',
    )
    got = read(tmp_path)
    assert sentences(got) == {"b": "Tre."} and told(got)["list.jsonl:1"] == "text stands twice: 'Uno.', 'Due.'"
    (tmp_path / "list.jsonl").unlink()
    put(tmp_path / "list.csv", "file,text,text,,\na.wav,Uno.,Due.,x,y\nb.wav,Tre.,Tre.,x,y\n")
    assert (
        sentences(read(tmp_path)) == {"b": "Tre."}
        and told(read(tmp_path))["list.csv:2"] == "text stands twice: 'Uno.', 'Due.'"
    )


# ---- names

def test_no_two_clips_share_a_name_and_rows_of_one_clip_do(tmp_path):
    for n in ("x/u.wav", "x/u.flac", "u.wav", "s1/rec.01.wav", "s2/rec.01.wav", "k_0-1000.wav", "k.wav"):
        audio(tmp_path / n, 3)
    rows = [
        ["x/u.wav", "", ""],
        ["x/u.flac", "", ""],
        ["u.wav", "", ""],
        ["./x/../u.wav", "", ""],
        ["s1/rec.01.wav", "", ""],
        ["s2\\rec.01.wav", "", ""],
        ["k_0-1000.wav", "", ""],
        ["k.wav", "0", "1"],
        ["k.wav", "1", "2"],
        ["k.wav", "1", "2.0001"],
        ["k.wav", "", ""],
    ]
    put(
        tmp_path / "list.csv",
        csv_text(["path", "text", "start", "end"], [[f, f"{i}", s, e] for i, (f, s, e) in enumerate(rows)]),
    )
    got = read(tmp_path)
    assert len(set(ids(got))) == 10 == len(got.rows) and [r for r in rejects(got) if r[1] != "no_row"] == [
        ("u", "duplicate_row")
    ]
    assert ids(got)[:5] == ["x/u.wav", "x/u.flac", "u", "s1/rec.01", "s2/rec.01"] and "k" in ids(got)


def test_a_clip_of_two_splits_has_one_name_whatever_it_is_called_there(tmp_path):
    for n in ("train/a", "train/b", "test/c"): audio(tmp_path / f"{n}.wav", 3)
    for s, rows in {
        "train": [["train/a.wav", "0", "1"], ["train/b.wav", "", ""]],
        "test": [["./train/a.wav", "0", "1"], ["test/c.wav", "", ""]],
    }.items():
        put(tmp_path / f"{s}.csv", csv_text(["path", "text", "start", "end"], [[f, "Ciao.", *t] for f, *t in rows]))
    got = read(tmp_path, "train", "test")
    assert ids(got) == ["a_0-1000", "b", "a_0-1000", "c"]


def test_kaldi_keys_that_mean_two_clips_and_clips_with_two_keys_are_named_by_paths(tmp_path):
    for s in ("train", "test"): audio(tmp_path / s / "same.wav"), audio(tmp_path / s / f"{s}.wav")
    kaldi(tmp_path / "train", wav_scp="u1 same.wav\nu2 train.wav\n", text="u1 Uno.\nu2 Due.\n")
    kaldi(
        tmp_path / "test",
        wav_scp="u1 same.wav\nu3 ../train/train.wav\nu4 test.wav\n",
        text="u1 Tre.\nu3 Due.\nu4 Quattro.\n",
    )
    assert ids(read(tmp_path, "train", "test")) == ["train/same", "train/train", "test/same", "train/train", "u4"]
    for s in ("train", "test"):
        kaldi(tmp_path / s, segments="u1 r 0 0.5\nu2 r 0.5 1\n", wav_scp="r same.wav\n", text="u1 Uno.\nu2 Due.\n")
    assert ids(read(tmp_path, "train", "test")) == [
        f"{s}/same_{p}" for s in ("train", "test") for p in ("0-500", "500-1000")
    ]


# ---- Kaldi, repeated and unreadable

@pytest.mark.parametrize(
    "name,line,says",
    [
        ("wav.scp", "r b.wav", "wav.scp says two things of r, in lines 1 and 2"),
        ("segments", "u r 0 0.2", "segments says two things of u, in lines 1 and 2"),
        ("utt2spk", "u bice", "utt2spk says two things of u, in lines 1 and 2"),
    ],
)
def test_a_key_that_stands_twice_in_a_kaldi_file_is_on_record(tmp_path, name, line, says):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    kaldi(tmp_path, wav_scp="r a.wav\n", segments="u r 0 0.5\n", text="u Ciao.\n", utt2spk="u ada\n")
    lines = (tmp_path / name).read_text()
    put(tmp_path / name, lines * 2)
    got = read(tmp_path)
    assert ids(got) == ["u"] and rejects(got) == {(f"{name}:2", "duplicate_row")}
    put(tmp_path / name, lines + line + "\n")
    got = read(tmp_path)
    assert (
        len(got.rows) == 0
        and rejects(got) == {("u", "bad_row"), (f"{name}:2", "duplicate_row")}
        and says in told(got)["u"]
    )


def test_of_two_texts_of_a_kaldi_key_the_first_is_kept_and_the_other_on_record(tmp_path):
    audio(tmp_path / "a.wav")
    got = read(kaldi(tmp_path, wav_scp="u a.wav\n", text="u Uno.\nu Due.\n"))
    assert sentences(got) == {"u": "Uno."} and told(got) == {"text:2": "u is in line 1 of text already"}


@pytest.mark.parametrize(
    "times", ["0,5 1", "0:00 0:01", "-1 1", "0 -2", "x 1", "0.5 0.5", "0 1e999", "0 -1 2", "nan -1"]
)
def test_times_of_a_kaldi_segment_that_cannot_be_read_are_on_record(tmp_path, times):
    audio(tmp_path / "a.wav")
    got = read(kaldi(tmp_path, wav_scp="r a.wav\n", segments=f"u r {times}\nv r 0 0.5\n", text="u Uno.\nv Due.\n"))
    assert ids(got) == ["v"] and rejects(got) == {("u", "bad_row")} and told(got)["u"].endswith("/text u)")


def test_a_bad_line_of_a_kaldi_file_costs_itself(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    kaldi(tmp_path, text="u Uno.\nv Due.\nw Tre.\n")
    put(tmp_path / "wav.scp", b"u a.wav\nv caf\xe9.wav\nw b.wav\n"), put(tmp_path / "utt2dur", "u 1,0\n"), put(
        tmp_path / "utt2spk", b"w s\xe9\n"
    )
    got = read(tmp_path)
    assert ids(got) == ["w"] and rejects(got) == {
        ("u", "bad_row"),
        ("v", "missing_audio"),
        ("wav.scp:2", "bad_row"),
        ("utt2spk:1", "bad_row"),
    }


# ---- links, names, output

def test_a_hub_snapshot_is_read_and_its_links_are_said(tmp_path, caplog):
    repo = tmp_path / "datasets--ada--voices"
    snapshot = repo / "snapshots/0123"
    for i, name in enumerate(("a.wav", "sub/b.wav", "stray.wav")):
        audio(repo / f"blobs/{i}", format="WAV"), (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(repo / f"blobs/{i}")
    put(
        repo / "blobs/list",
        csv_text(["file_name", "text"], [["a.wav", "Uno."], ["sub/b.wav", "Due."], ["c.wav", "Tre."]]),
    )
    (snapshot / "metadata.csv").symlink_to("../../blobs/list")
    got = read(snapshot)
    assert sentences(got) == {"a": "Uno.", "b": "Due."} and rejects(got) == {
        ("c", "missing_audio"),
        ("stray", "no_row"),
    }
    assert (
        got.source["notes"][-1] == "2 links into the Hub cache are followed"
        and "2 links into the Hub cache are followed" in inspect_folder(snapshot)[""]["train"]["notes"]
    )


@pytest.mark.parametrize("name", ["metadata.csv", "list.tsv", "wav.scp"])
def test_a_list_that_leads_out_of_the_folder_is_not_read(tmp_path, name):
    root = tmp_path / "c"
    audio(root / "a.wav"), put(root / "text", "u Ciao.\n")
    (root / name).symlink_to(
        put(
            tmp_path / "secret",
            (
                "u a.wav\n"
                if name == "wav.scp"
                else table(["file_name", "text"], [["a.wav", "segreto"]], "," if "csv" in name else "\t")
            ),
        )
    )
    with pytest.raises(ValueError, match=f"{name} can't be read as a list: {name} is a link out of its folder"):
        read(root)


@pytest.mark.parametrize("listed,there", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("layout", ["metadata.csv", "list.jsonl", "kaldi"])
def test_a_name_in_another_unicode_form_is_found_where_one_file_fits(tmp_path, listed, there, layout):
    from unicodedata import normalize
    name, file = (normalize(form, "perché/caffè.wav") for form in (listed, there))
    audio(tmp_path / file), audio(tmp_path / "b.wav")
    if layout == "kaldi": kaldi(tmp_path, wav_scp=f"u {name}\nv b.wav\n", text="u Uno.\nv Due.\n")
    else: put(tmp_path / layout, LISTS[layout](["file_name", "text"], [[name, "Uno."], ["b.wav", "Due."]]))
    got = read(tmp_path)
    assert (
        sorted(got.rows["sentence"].to_pylist()) == ["Due.", "Uno."]
        and len(got.rejects) == 0
        and got.source["notes"][0]
        == "1 names are written in another Unicode form than their files: the files are taken"
    )


def test_rows_that_write_one_file_in_two_unicode_forms_mean_one_clip(tmp_path):
    audio(tmp_path / "caffe\u0300.wav")
    put(tmp_path / "list.csv", csv_text(["path", "text"], [["caff\u00e8.wav", "Uno."], ["caffe\u0300.wav", "Due."]]))
    got = read(tmp_path)
    assert len(got.rows) == 1 and [r for _, r in rejects(got)] == ["duplicate_row"]


@pytest.mark.parametrize(
    "listed,meant",
    [
        ("a", "clips/a.wav"),
        ("a.mp3", "clips/a.wav"),
        ("A.WAV", "clips/a.wav"),
        ("other/a.wav", "clips/a.wav"),
        ("C:\\voices\\a.wav", "clips/a.wav"),
        ("clips/à.wav", "clips/a\\u0300 .wav"),
        ("café.wav", "caf\\udce9.wav"),
    ],
)
def test_a_name_that_is_nearly_a_files_is_answered_with_it(tmp_path, listed, meant):
    audio(tmp_path / "clips/a.wav"), audio(tmp_path / "b.wav")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.wav", "wb") as f: f.write(b"x")
    put(tmp_path / "metadata.csv", csv_text(["file_name", "text"], [[listed, "Uno."], ["b.wav", "Due."]]))
    got = read(tmp_path)
    detail, = (r["detail"] for r in got.rejects.to_pylist() if r["reason"] == "missing_audio")
    if " " in meant: assert "did you mean" not in detail
    else:
        assert detail.endswith(f"(metadata.csv:2); did you mean {meant}?") and any(
            detail in n for n in got.source["notes"]
        )


def test_unlisted_audio_of_any_ending_and_any_name_is_on_record(tmp_path):
    audio(tmp_path / "a.AIFF", format="AIFF")
    names = [
        "b.aiff",
        "c.au",
        "D.FLAC",
        "e.snd",
        "f.caf",
        "g.w64",
        "h.rf64",
        "i.sph",
        "j.mp2",
        "k.mp1",
        "l.amr",
        "m.wma",
    ]
    for n in names: put(tmp_path / n, b"x")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.WAV", "wb") as f: f.write(b"x")
    put(tmp_path / "LIST.CSV", csv_text(["path", "text"], [["a.AIFF", "Uno."]]))
    got = read(tmp_path)
    assert sentences(got) == {"a": "Uno."} and rejects(got) == {(n.partition(".")[0], "no_row") for n in names} | {
        ("caf\\udce9", "no_row")
    }


@pytest.mark.parametrize("name", ["METADATA.CSV", "Metadata.JsonL", "DATA.JSONL", "Train.TSV"])
def test_a_list_in_capitals_is_a_list(tmp_path, name):
    audio(tmp_path / "a.wav")
    rows = [["a.wav", "Uno."]]
    put(
        tmp_path / name,
        (
            jsonl({"file_name": "a.wav", "text": "Uno."})
            if name.lower().endswith("l")
            else table(["file_name", "text"], rows, "," if name.endswith("CSV") else "\t")
        ),
    )
    assert sentences(read(tmp_path)) == {"a": "Uno."}


def test_a_prepared_folder_in_the_corpus_is_no_part_of_it(tmp_path):
    root = folder_of(tmp_path, [("a.wav", "ada")])
    before = read(root)
    put(root / "out/prep.json", json.dumps({"config": {}, "fingerprint": ""})), audio(root / "out/b.wav"), put(
        root / "out/metadata.csv", "file_name,text\nb.wav,x\n"
    )
    put(root / "half/.work/plan.json", "{}"), audio(root / "half/c.wav")
    assert read(root).rows.equals(before.rows) and len(read(root).rejects) == 0
    (root / "metadata.csv").unlink()
    assert find_lists(root) == ("", [])


def test_odd_neighbours_end_nothing(tmp_path):
    root = folder_of(tmp_path, [("a.wav", "ada")])
    (root / "train.tsv").mkdir(), os.mkfifo(root / "list.csv"), (root / "loop.csv").symlink_to("loop.csv"), (
        root / "gone.jsonl"
    ).symlink_to("nowhere"), (root / "loop").symlink_to("loop")
    with open(os.fsencode(root) + b"/x\xe9.txt", "w") as f: f.write("x")
    assert ids(read(root)) == ["a"] and inspect_folder(root)[""]["train"]["usable"] == 1


# ---- sentences that help

@pytest.mark.parametrize(
    "name,separator,says",
    [
        ("data.csv", "\t", "tabs"),
        ("data.csv", "|", "vertical bars"),
        ("data.tsv", ",", "commas"),
        ("data.tsv", ";", "semicolons"),
        ("data.tsv", "|", "vertical bars"),
        ("metadata.csv", "\t", "tabs"),
    ],
)
def test_another_separator_than_the_ending_promises_is_read_and_said(tmp_path, name, separator, says):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    put(
        tmp_path / name,
        separator.join(("file_name", "text"))
        + "\n"
        + separator.join(("a.wav", 'Uno "e" due'))
        + "\n"
        + separator.join(("b.wav", '"Tre, quattro."' if separator == "," else "Tre."))
        + "\n",
    )
    got = read(tmp_path / name if separator != "," else tmp_path)
    if separator in ",;": assert sentences(got).get("a") in ('Uno "e" due', None)
    else: assert sentences(got)["a"] == 'Uno "e" due'
    assert (
        sentences(got)["b"] in ("Tre.", "Tre, quattro.")
        and f"{name} has {says} between its fields, and is read so" in got.source["notes"]
    )


def test_a_table_whose_separator_fits_its_ending_has_no_note(tmp_path):
    audio(tmp_path / "a.wav")
    for name, text in (
        ("x.csv", "file,x|y,text\na.wav,,Uno.\n"),
        ("x.tsv", "file\ttext,x\ttext\na.wav\t\tUno.\n"),
        ("x.csv", "file;text\na.wav;Uno, due.\n"),
        ("x.csv", "sep=;\nfile;text\na.wav;Uno, due.\n"),
    ):
        got = read(put(tmp_path / name, text))
        assert "between its fields" not in " ".join(got.source["notes"]), name


def test_quotation_marks_around_all_fields_of_a_tsv_are_taken_off(tmp_path):
    for n in "ab": audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.tsv", '"file"\t"text"\n"a.wav"\t"Disse ""no""."\n"b.wav"\t"Uno" e "due"\n')
    assert sentences(read(tmp_path)) == {"a": 'Disse "no".', "b": '"Uno" e "due"'}


def test_a_quotation_mark_that_is_wrong_within_a_line_costs_that_line(tmp_path):
    for n in "abc": audio(tmp_path / f"{n}.wav")
    put(tmp_path / "list.csv", 'file,text\na.wav,"Uno" due\nb.wav,"Tre, quattro."\nc.wav,Cinque, sei\n')
    got = read(tmp_path)
    assert (
        sentences(got) == {"b": "Tre, quattro."}
        and told(got)["list.csv:2"].startswith("its quotation marks don't fit")
        and told(got)["list.csv:4"]
        == "3 fields in a table of 2 columns: a field with commas in it needs quotation marks around it"
    )


def test_a_list_as_lj_speech_has_it_is_read(tmp_path):
    for n in ("LJ001-0001", "LJ001-0002"): audio(tmp_path / f"wavs/{n}.wav")
    put(
        tmp_path / "metadata.csv",
        'LJ001-0001|Printing, "in the only sense"|Printing, "in the only sense"\nLJ001-0002|In 1455|In fourteen'
        ' fifty-five\nLJ001-0003|x|y\n',
    )
    got = read(tmp_path)
    assert sentences(got) == {"LJ001-0001": 'Printing, "in the only sense"', "LJ001-0002": "In 1455"} and rejects(
        got
    ) == {("LJ001-0003", "missing_audio")}
    assert (
        sentences(read(tmp_path, text_column="normalized_text"))["LJ001-0002"] == "In fourteen fifty-five"
        and "is read as LJ Speech has it" in got.source["notes"][0]
    )


@pytest.mark.parametrize(
    "content,says",
    [
        ("a.wav,Ciao.\n", "as if its first line were a recording: put a line of column names before it"),
        ("f\0i\0l\0e\0,\0t\0\n", "has bytes of 0 in its first line, as UTF-16 has: it must be UTF-8"),
        ('"file,text"\n"a.wav,x"\n', "its columns are file,text, read with commas between them"),
        ("clip\twords\nx\ty\n", "its columns are clip, words; name it with audio_column"),
    ],
)
def test_a_table_that_cannot_be_read_says_what_it_looks_like(tmp_path, content, says):
    with pytest.raises(ValueError, match=says): read(put(tmp_path / "list.csv", content))


@pytest.mark.parametrize(
    "content,says",
    [
        ('[{"audio": "a.wav"}', "it ends at line 1 without"),
        ('[{"audio": "a.wav"},\n{"audio": }]', "in the item that begins at line 2"),
        ('[{"audio": "a.wav"}]\n{}', "more follows its end, at line 2"),
        ('[{"audio": "a.wav"} {}]', "a comma or ] is missing at line 1"),
        ('[{"audio": "a.wav"', "in the item that begins at line 1"),
        ("[{" + "[" * 100_000, "in the item that begins at line 1"),
    ],
)
def test_a_json_list_that_is_broken_is_refused_with_its_line(tmp_path, content, says):
    with pytest.raises(ValueError, match=f"list.json can't be read as a JSON list: .*{says}"):
        list(records(put(tmp_path / "list.json", content)))


@pytest.mark.parametrize("folder", ["data", "audio", "train"])
def test_a_list_in_a_folder_of_its_own_below_is_read(tmp_path, folder):
    audio(tmp_path / folder / "a.wav"), put(tmp_path / folder / "metadata.csv", "file_name,text\na.wav,Uno.\n")
    assert sentences(read(tmp_path)) == {"a": "Uno."} and ids(read(tmp_path / folder)) == ["a"]


def test_a_look_says_what_is_beside_the_lists_and_gives_an_example_of_each_reason(tmp_path):
    root = folder_of(tmp_path, [("a.wav", "ada")])
    put(root / "other.tsv", "path\ttext\n"), put(
        root / "metadata.csv", "file_name,text,offset\na.wav,Uno.,\nb,Due.,\na.wav,Tre.,\"0,5\"\n"
    ), audio(root / "B.wav")
    notes = inspect_folder(root)[""]["train"]["notes"]
    assert "other.tsv is not read: metadata.csv comes first, or it is no list of recordings" in notes
    assert any(
        n.startswith("missing_audio, such as b: ") and n.endswith("did you mean B.wav?") for n in notes
    ) and any(n.startswith("bad_row, such as metadata.csv:4: offset must be") for n in notes)


def test_a_folder_without_a_list_is_answered_with_the_list_below_or_above(tmp_path):
    root = tmp_path / "corpus"
    audio(root / "clips/a.wav"), put(root / "list.tsv", table(["path", "text"], [["clips/a.wav", "Uno."]])), put(
        root / "budget.csv", "what,euro\nmicrophone,90\n"
    )
    with pytest.raises(FileNotFoundError, match=f"{root}/list.tsv is a list: give {root} as dataset_name"):
        source_kind(root / "clips")
    with pytest.raises(FileNotFoundError, match=f"{root}/list.tsv is a list: give {root} as dataset_name"):
        source_kind(tmp_path)
    assert source_kind(root) == "folder"
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="and holds nothing$"): source_kind(tmp_path / "other")


def test_a_list_without_rows_with_audio_that_it_does_not_name_is_inspected(tmp_path):
    audio(tmp_path / "ada.wav")
    (tmp_path / "list.csv").write_text("file,text\n")
    assert inspect_folder(tmp_path, "it") == {"it": {}}
