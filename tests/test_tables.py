"Tables with a column of audio, of every kind of Arrow column: what can't be read is on record, no clip is lost or taken for another, and no file is believed."
import io, json, os, random, resource, struct, subprocess, sys, time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import HealthCheck, example, given, settings, strategies as st

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.fields import read_labels, read_parts, read_texts
from audio_ft_prep.hub import open_repo
from audio_ft_prep.hubclient import own_folder, parts_folder
from audio_ft_prep.load import inspect_corpus, load_rows
from audio_ft_prep.rows import read_bytes
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.splitfiles import card_entries, table_files
from audio_ft_prep.audiocolumn import wav_of
from audio_ft_prep.tableaudio import part_of_clip
from audio_ft_prep.values import as_label, as_text, read_part
from layouts import put, served
from planted import swelling

pytestmark = pytest.mark.usefixtures("own_cache")
AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def tone(hz=440., seconds=1., rate=16000):
    "A WAV file of one frequency; one that is long enough to be taken for hum comes and goes."
    out = io.BytesIO()
    n = round(seconds * rate)
    sf.write(
        out,
        0.3 * np.sin(2 * np.pi * hz * np.arange(n) / rate) * (swelling(n, rate) if seconds > 1.3 else 1),
        rate,
        format="WAV",
        subtype="PCM_16",
    )
    return out.getvalue()


CLIPS = [tone(300 + 40 * i, 1 + i / 10) for i in range(6)]


def audio(items): return pa.array([{"bytes": b, "path": p} for b, p in items], AUDIO)
def config(place, **more):
    return PrepConfig(
        str(place),
        "it",
        **{"num_workers": 1, "output_dir": "unused", "eval_splits": "", "train_splits": "train", **more}
    )


def write(path, as_saved=False, /, **columns):
    "A Parquet file, or what `save_to_disk` would write."
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if not as_saved: return pq.write_table(table, path, row_group_size=2)
    with pa.OSFile(str(path), "wb") as f, pa.ipc.new_stream(f, table.schema) as out:
        out.write_table(table, max_chunksize=2)
    put(path.parent / "state.json", json.dumps({"_data_files": [{"filename": path.name}]}))


def rows_of(place, **more):
    "Rows with their bytes, and rejects, of a data set."
    corpus = load_rows(config(place, **more))
    rows, lost = corpus.remote.fetch(corpus.rows, True) if corpus.remote else (corpus.rows, [])
    held = [{**r, "data": read_bytes(r["file"], r["offset"], r["size"])} for r in rows.to_pylist()]
    return (
        held,
        [r["reason"] for r in corpus.rejects.to_pylist()] + [r[3] for r in lost],
        [r["detail"] for r in corpus.rejects.to_pylist()] + [r[4] for r in lost],
    )


# Values

TEXT_KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=str)
@pytest.mark.parametrize("as_saved", [False, True], ids=["parquet", "saved"])
def test_text_of_every_arrow_kind_is_read(tmp_path, kind, as_saved):
    words = pa.array(["uno", "due", "uno"]).cast(kind)
    write(
        tmp_path / "c" / ("data.arrow" if as_saved else "train.parquet"),
        as_saved,
        audio=audio(zip(CLIPS, "abc")),
        text=words,
        client_id=words,
    )
    got, rejects, _ = rows_of(tmp_path / "c")
    assert [(r["sentence"], r["speaker"], r["data"]) for r in got] == list(
        zip(["uno", "due", "uno"], ["uno", "due", "uno"], CLIPS)
    ) and not rejects


@pytest.mark.parametrize(
    "speakers, want",
    [
        (pa.array([1, 2], pa.int8()), ["1", "2"]),
        (pa.array([7, None], pa.uint64()), ["7", ""]),
        (pa.array([1.0, float("nan")]), ["1", ""]),
        (pa.array([None, None]), ["", ""]),
    ],
)
def test_speakers_may_be_numbers(tmp_path, speakers, want):
    write(tmp_path / "train.parquet", audio=audio(zip(CLIPS, "ab")), text=["uno", "due"], speaker_id=speakers)
    assert [r["speaker"] for r in rows_of(tmp_path)[0]] == want


@pytest.mark.parametrize(
    "column, values, says",
    [
        ("text", pa.array([["uno"], None]), "text must be text, got ['uno']"),
        ("text", pa.array([{"it": "uno"}, None]), "text must be text, got {'it': 'uno'}"),
        ("text", pa.array([5, None]), "text must be text, got 5"),
        ("speaker", pa.array([[1], None]), "speaker must be text, got [1]"),
        ("speaker", pa.array([True, None]), "speaker must be text, got True"),
        ("split", pa.array([[1], None]), "split must be text, got [1]"),
        (
            "duration",
            pa.array(["6,0", None]),
            "duration must be a number of seconds from 0 on, such as 6.5, got '6,0'",
        ),
        ("duration", pa.array([float("inf"), None]), "got inf"),
        ("duration", pa.array([-1, None]), "got -1"),
        ("duration", pa.array([True, None]), "got True"),
        ("offset", pa.array(["x", None]), "offset must be a number"),
        ("duration_ms", pa.array([[3], None]), "duration_ms must be a number of milliseconds"),
        ("begin_time", pa.array(["soon", None]), "begin_time must be"),
        ("end", pa.array([0.0, None]), "end must leave a part above 0 s"),
        ("speaker", pa.array([-1, None]).cast(pa.int64()).view(pa.time64("us")), "speaker must be text"),
    ],
)
def test_a_value_that_cannot_be_read_costs_its_row_and_is_named(tmp_path, column, values, says):
    columns = {"audio": audio(zip(CLIPS, "ab")), "text": ["uno", "due"], column: values}
    write(tmp_path / "train.parquet", **columns)
    got, rejects, details = rows_of(tmp_path)
    assert (
        (len(got), rejects) == (1, ["bad_row"])
        and says in details[0]
        and details[0].endswith("train.parquet, row 1)")
    ), details


def test_text_that_is_not_utf8_costs_its_row(tmp_path):
    for as_saved in (False, True):
        place = tmp_path / str(as_saved)
        write(
            place / ("data.arrow" if as_saved else "train.parquet"),
            as_saved,
            audio=audio(zip(CLIPS, "ab")),
            text=pa.array([b"citt\xe0", b"Roma"]).view(pa.string()),
        )
        got, rejects, details = rows_of(place)
        assert (
            [r["sentence"] for r in got] == ["Roma"]
            and rejects == ["bad_row"]
            and "whole characters of UTF-8" in details[0]
        )


times = st.one_of(st.none(), st.just(float("nan")), st.floats(-2, 40), st.sampled_from([0., 1e9, float("inf"), 2.5]))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["offset", "start", "end", "end_ms", "duration", "duration_ms", "Begin_Time"]),
        st.lists(times, min_size=4, max_size=4),
        min_size=1,
    )
)
def test_columns_of_times_are_read_as_rows_are(columns):
    start, seconds, faults = read_parts({k: pa.chunked_array([pa.array(v, pa.float64())]) for k, v in columns.items()})
    for i in range(4):
        try: want = read_part({k: v[i] for k, v in columns.items()})
        except BadClip as e: assert faults[i] == e.detail
        else:
            assert i not in faults and [None if np.isnan(x) else x for x in (start[i], seconds[i])] == pytest.approx(
                list(want)
            )


# Parts

@pytest.mark.parametrize(
    "lasts, times, want",
    [
        (15.81, (401.76, 15.81), (None, 15.81)),
        (600, (401.76, 15.81), (401.76, 15.81)),
        (10, (0, 10), (None, 10)),
        (10, (0, 4), (0, 4)),
        (10, (6, 4), (6, 4)),
        (4.2, (6, 4), (None, 4)),
        (4, (100, None), (None, None)),
        (16, (400.2, 15.4), (None, 15.4)),
        (9, (400, 16), (None, 16)),
        (5, (0, None), (None, None)),
    ],
)
def test_times_beside_audio_mean_a_part_of_it_or_where_it_was_cut_out(lasts, times, want):
    got = part_of_clip(lasts, *times)
    assert [x is None for x in got] == [x is None for x in want] and [
        x for x in got if x is not None
    ] == pytest.approx([x for x in want if x is not None])


@pytest.mark.parametrize("lasts, times", [(10, (3, None)), (12, (3, 10)), (30, (400, 15)), (9, (3, 10))])
def test_times_that_fit_neither_way_are_refused(lasts, times):
    with pytest.raises(BadClip, match="bad_row"): part_of_clip(lasts, *times)


@pytest.mark.parametrize("names", [("begin_time", "end_time"), ("start", "end"), ("start_ms", "end_ms")])
@pytest.mark.parametrize("as_saved", [False, True], ids=["parquet", "saved"])
def test_clips_cut_out_of_recordings_are_whole_and_recordings_are_cut(tmp_path, names, as_saved):
    unit = 1000 if names[0].endswith("ms") else 1
    starts, ends = np.array([401.7, 2., 4.]) * unit, np.array([402.7, 3., 4.5]) * unit
    recording = tone(500, 10)
    write(
        tmp_path / "c" / ("data.arrow" if as_saved else "train.parquet"),
        as_saved,
        audio=audio([(CLIPS[0], "a.wav"), (recording, "long.wav"), (recording, "long.wav")]),
        text=["uno", "due", "tre"],
        **{names[0]: starts, names[1]: ends}
    )
    got, rejects, _ = rows_of(tmp_path / "c")
    assert [(r["id"], r["start"], r["seconds"]) for r in got] == [
        ("a", None, 1.0),
        ("long_2000-3000", 2.0, 1.0),
        ("long_4000-4500", 4.0, 0.5),
    ] and not rejects
    assert "where it was cut out" in " ".join(load_rows(config(tmp_path / "c")).source["notes"])


def test_the_right_part_is_heard(tmp_path):
    recording = np.concatenate([sf.read(io.BytesIO(tone(hz, 2)))[0] for hz in (300, 600, 900)])
    out = io.BytesIO()
    sf.write(out, recording, 16000, format="FLAC")
    put(tmp_path / "c/long.flac", out.getvalue())
    write(
        tmp_path / "c/train.parquet",
        path=["long.flac"] * 3,
        sentence=["uno", "due", "tre"],
        offset=[0.0, 2.0, 4.0],
        duration=[2.0, 2.0, 2.0],
    )
    prepare(config(tmp_path / "c", output_dir=str(tmp_path / "out"), storage="audio"), progress=False)
    from datasets import load_from_disk
    got = load_from_disk(str(tmp_path / "out"))["train"].with_format("arrow").to_dict()
    heard = [sf.read(io.BytesIO(a["bytes"]))[0] for a in got["audio"]]
    assert [
        (s, round(np.abs(np.fft.rfft(x)).argmax() * 16000 / len(x))) for s, x in zip(got["sentence"], heard)
    ] == [("uno", 300), ("due", 600), ("tre", 900)]


# Splits

def test_a_column_split_is_used_and_a_row_without_one_is_on_record(tmp_path):
    for as_saved in (False, True):
        place = tmp_path / str(as_saved)
        write(
            place / ("data.arrow" if as_saved else "data.parquet"),
            as_saved,
            audio=audio(zip(CLIPS, "abcd")),
            text=list("abcd"),
            split=["train", "dev", None, "test"],
        )
        got, rejects, details = rows_of(place, train_splits="train+validation", eval_splits="test")
        assert [(r["id"], r["source_split"]) for r in got] == [("a", "train"), ("b", "validation"), ("d", "test")]
        assert rejects == ["bad_row"] and "it names no split (data" in details[0] and "row 3" in details[0]
        assert set(inspect_corpus(str(place), "it")["languages"]["it"]) == {"train", "validation", "test", "no split"}


def test_a_column_split_counts_for_more_than_the_name_of_the_file(tmp_path):
    write(
        tmp_path / "train.parquet",
        audio=audio(zip(CLIPS, "abc")),
        text=list("abc"),
        split=["train", "test", "train"],
    )
    write(
        tmp_path / "test.parquet",
        audio=audio(zip(CLIPS[3:], "def")),
        text=list("def"),
        split=["train", None, "test"],
    )
    got, rejects, _ = rows_of(tmp_path, eval_splits="test")
    assert (
        sorted((r["id"], r["split"]) for r in got)
        == [("a", "train"), ("b", "eval"), ("c", "train"), ("d", "train"), ("e", "eval"), ("f", "eval")]
        and not rejects
    )


def test_a_misspelt_split_is_on_record_and_one_that_is_not_asked_for_is_left_out(tmp_path):
    write(
        tmp_path / "data.parquet",
        audio=audio(zip(CLIPS, "abcd")),
        text=list("abcd"),
        split=["train", "trian", "other", "train"],
    )
    got, rejects, details = rows_of(tmp_path)
    assert [r["id"] for r in got] == ["a", "d"] and rejects == ["bad_row"] and "did you mean train?" in details[0]


def test_a_column_split_that_names_other_things_is_left_alone_and_named(tmp_path):
    write(
        tmp_path / "train.parquet",
        audio=audio(zip(CLIPS, "ab")),
        text=list("ab"),
        split=["train.clean.100", "train.clean.360"],
    )
    got, rejects, _ = rows_of(tmp_path)
    assert (
        len(got) == 2
        and not rejects
        and "the column split names train.clean.100" in " ".join(load_rows(config(tmp_path)).source["notes"])
    )


# Names

def names_of(tmp_path, train, test, as_saved=False, **more):
    for split, items in (("train", train), ("test", test)):
        name = f"{split}/data.arrow" if as_saved else f"{split}.parquet"
        write(tmp_path / name, as_saved, audio=audio(items), text=[f"frase {i}" for i in range(len(items))], **more)
    if as_saved: put(tmp_path / "dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
    rows = load_rows(config(tmp_path, eval_splits="test")).rows
    return [[r["id"] for r in rows.to_pylist() if r["split"] == s] for s in ("train", "eval")]


A, B, C = CLIPS[:3]


@pytest.mark.parametrize("as_saved", [False, True], ids=["parquet", "saved"])
@pytest.mark.parametrize("train, test, want", [
    ([(A, "a.wav"), (B, "b.wav"), (B, "b.wav")], [(A, "a.wav")], [["a", "b", "b"], ["a"]]),  # the same clip again
    ([(A, "x.wav"), (B, "x.wav")], [(A, "x.wav")], [["train-0000000", "train-0000001"], ["train-0000000"]]),  # one path, two clips
    ([(A, "None"), (B, "None")], [(C, "None")], [["train-0000000", "train-0000001"], ["test-0000000"]]),  # a path without meaning
    ([(A, "p/a.wav"), (B, "q/a.wav")], [(C, "c.wav")], [["p/a", "q/a"], ["c"]]),  # one name in two folders
    ([(A, "p/a.wav"), (B, "b.wav")], [(A, "q/a.wav")], [["a", "b"], ["a"]]),  # one clip in two folders
    ([(A, "a.wav"), (B, "a.flac")], [(C, "c.wav")], [["a.wav", "a.flac"], ["c"]]),
    ([(A, None), (B, None)], [(A, None)], [["train-0000000", "train-0000001"], ["train-0000000"]])])  # the first sentence of both is the same
def test_a_name_means_one_clip_and_rows_of_one_clip_share_it(tmp_path, train, test, want, as_saved):
    assert names_of(tmp_path, train, test, as_saved) == want


def test_on_the_hub_rows_of_one_path_are_one_clip_where_they_say_the_same(hub, tmp_path):
    root = served(tmp_path / "x", "voices/paths")
    write(
        root / "train.parquet",
        audio=audio([(A, "a.wav"), (B, "b.wav"), (C, "b.wav"), (C, "c.wav")]),
        text=["uno", "due", "tre", "uno"],
    )
    write(root / "test.parquet", audio=audio([(A, "a.wav")]), text=["uno"])
    rows = load_rows(config("voices/paths", eval_splits="test")).rows.to_pylist()
    assert [r["id"] for r in rows] == ["a", "train-0000001", "train-0000002", "c", "a"] and hub.bytes_served(
        "*.parquet"
    ) < 40_000


def test_on_the_hub_one_path_in_every_row_names_no_clip(hub, tmp_path):
    write(
        served(tmp_path / "x", "voices/words") / "train.parquet",
        audio=audio([(c, "audio.wav") for c in CLIPS]),
        text=["sì"] * 6,
    )
    assert len(set(load_rows(config("voices/words")).rows["id"].to_pylist())) == 6


# Samples and paths

def test_samples_are_the_same_when_they_are_laid_out(tmp_path):
    x = np.random.default_rng(1).uniform(-1, 1, 1600).astype(np.float32)
    typ = pa.struct({"array": pa.list_(pa.float32()), "sampling_rate": pa.int32()})
    rates = [16000, None, 0, 10**9, 16000]
    write(
        tmp_path / "train.parquet",
        audio=pa.array(
            [{"array": x, "sampling_rate": r} for r in rates[:4]]
            + [{"array": [30000.0, 2.0], "sampling_rate": 16000}],
            typ,
        ),
        text=list("abcde"),
    )
    got, rejects, details = rows_of(tmp_path)
    heard, rate = sf.read(io.BytesIO(got[0]["data"]), dtype="float32")
    assert len(got) == 1 and rate == 16000 and (heard == x).all() and rejects == ["bad_row"] * 4
    assert all("sampling rate must be a whole number" in d for d in details[:3]) and "between -1 and 1" in details[3]


@pytest.mark.parametrize(
    "columns",
    [
        {"audio": [[0.5, -0.5] * 800], "rate": [8000]},
        {"audio": [{"audio": [0.5, -0.5] * 800, "rate": 8000}]},
        {"speech": [[0.5, -0.5] * 800], "sampling_rate": [8000]},
        {"audio": [{"array": [0.5, -0.5] * 800, "path": "a.wav", "sampling_rate": 8000.0}]},
        {"audio": [{"array": [[0.5, -0.5] * 800] * 2, "sampling_rate": 8000}]},
        {"audio": [{"array": [16384, -16384] * 800, "sampling_rate": 8000}]},
    ],
    ids=range(6),
)
def test_samples_are_found_however_they_are_held(tmp_path, columns):
    for as_saved in (False, True):
        place = tmp_path / str(as_saved)
        write(place / ("data.arrow" if as_saved else "train.parquet"), as_saved, **columns, text=["uno"])
        heard, rate = sf.read(io.BytesIO(rows_of(place)[0][0]["data"]), always_2d=True)
        assert rate == 8000 and (heard[:, 0] == [0.5, -0.5] * 800).all()


@pytest.mark.parametrize("column", ["file_name", "audio", "path"])
def test_a_table_may_name_recordings_beside_it(tmp_path, column):
    for i, clip in enumerate(CLIPS[:2]): put(tmp_path / f"c/train/clips/{i}.wav", clip)
    write(
        tmp_path / "c/train/metadata.parquet",
        **{column: ["clips/0.wav", "clips/1.wav", "clips/2.wav", "../../out.wav", ""]},
        text=list("abcde")
    )
    put(tmp_path / "out.wav", A)
    got, rejects, details = rows_of(tmp_path / "c")
    assert [(r["id"], r["data"]) for r in got] == [("0", A), ("1", B)]
    assert sorted(rejects) == ["bad_row", "missing_audio", "unsafe_path"] and any(
        f"{column} must name a file" in d for d in details
    )


@pytest.mark.parametrize("named", ["a.wav", "./a.wav", "sub/../a.wav"])
def test_a_recording_beside_a_table_that_no_row_names_is_on_record(tmp_path, named):
    for name in ("a.wav", "b.wav", "sub/c.AIFF"): put(tmp_path/name, tone())
    put(tmp_path/"notes.txt", b"no audio")
    write(tmp_path/"metadata.parquet", file_name=[named], text=["uno"])
    corpus = load_rows(config(tmp_path))
    assert (
        {(r["id"], r["reason"]) for r in corpus.rejects.to_pylist()} == {("b", "no_row"), ("c", "no_row")}
        or named != "a.wav"
        and len(corpus.rows) == 0
    )


@pytest.mark.parametrize("name", ["a.arrow", "train/data-00000-of-00001.arrow", "x.FEATHER"])
def test_arrow_without_its_state_is_told_what_to_do(tmp_path, name):
    put(tmp_path/name, b"ARROW1")
    for place in (tmp_path, tmp_path/name):
        with pytest.raises(ValueError, match=r"is a file of Arrow without the state.json .* call save_to_disk"):
            load_rows(config(place))


def test_recordings_of_one_name_in_two_folders_are_two_clips(tmp_path):
    for i, s in enumerate(("train", "test")):
        put(tmp_path / f"{s}/clips/0.wav", CLIPS[i])
        write(tmp_path / f"{s}/metadata.parquet", file_name=["clips/0.wav"], text=["uno"])
    got, _, _ = rows_of(tmp_path, eval_splits="test")
    assert [(r["id"], r["data"]) for r in got] == [("train/clips/0", A), ("test/clips/0", B)]


def test_folders_of_recordings_are_splits_where_the_table_names_none(tmp_path):
    for s in ("train", "test"): put(tmp_path / f"{s}/a.wav", CLIPS[s == "test"])
    write(tmp_path / "metadata.parquet", file_name=["train/a.wav", "test/a.wav"], text=["uno", "due"])
    assert [(r["id"], r["split"]) for r in rows_of(tmp_path, eval_splits="test")[0]] == [
        ("train/a", "train"),
        ("test/a", "eval"),
    ]


def test_a_table_on_the_hub_may_name_files_of_the_data_set(hub, tmp_path):
    root = served(tmp_path / "x", "voices/named")
    put(root / "data/a.wav", A)
    write(root / "data/train.parquet", file_name=["a.wav", "b.wav"], text=["uno", "due"])
    got, rejects, _ = rows_of("voices/named")
    assert [(r["id"], r["data"]) for r in got] == [("a", A)] and rejects == ["missing_audio"]


def test_two_columns_of_audio_are_never_taken_for_each_other(tmp_path):
    write(tmp_path / "train.parquet", near=audio([(A, "a.wav")]), far=audio([(B, "a.wav")]), text=["uno"])
    assert [rows_of(tmp_path, audio_column=c)[0][0]["data"] for c in ("near", "far", "near")] == [A, B, A]
    with pytest.raises(ValueError, match="several columns of audio, near, far"): rows_of(tmp_path)


def test_an_arrow_file_with_an_index_is_read(tmp_path):
    table = pa.table({"audio": audio([(A, "a.wav")]), "text": ["uno"]})
    put(tmp_path / "state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as f, pa.ipc.new_file(f, table.schema) as out:
        out.write_table(table)
    assert [r["data"] for r in rows_of(tmp_path)[0]] == [A]


# Files that lie

def refused(place, **more):
    "The sentence with which a data set is refused."
    with pytest.raises((ValueError, FileNotFoundError)) as e: rows_of(place, **more)
    said = str(e.value)
    assert "\n" not in said and not isinstance(e.value, pa.ArrowException)
    return said


def lying(path, true, lie):
    "Replace the offsets of a column in an Arrow file."
    data = path.read_bytes()
    true = struct.pack(f"<{len(true)}i", *true)
    assert data.count(true) == 1
    path.write_bytes(data.replace(true, struct.pack(f"<{len(lie)}i", *lie)))


@pytest.mark.parametrize("column", ["text", "path", "bytes", "speaker"])
@pytest.mark.parametrize("lie", [(0, 1 << 30, 16, 24), (0, -5, 16, 24), (0, 24, 16, 24), (24, 24, 24, 24 + (1 << 29))])
def test_an_offset_that_lies_is_a_sentence_that_names_the_file(tmp_path, column, lie):
    text = {c: [(c[0] * n) for n in (5 + i, 7 + i, 9 + i)] for i, c in enumerate(("text", "path", "bytes", "speaker"))}
    write(
        tmp_path / "data.arrow",
        True,
        audio=pa.array([{"bytes": b.encode(), "path": p} for b, p in zip(text["bytes"], text["path"])], AUDIO),
        text=text["text"],
        speaker=text["speaker"],
    )
    # chunks of two rows: one chunk keeps the offsets together
    table = pa.ipc.open_stream(str(tmp_path / "data.arrow")).read_all().combine_chunks()
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as f, pa.ipc.new_stream(f, table.schema) as out:
        out.write_table(table)
    lying(tmp_path / "data.arrow", np.cumsum([0, *map(len, text[column])]).tolist(), lie)
    assert "data.arrow can't be read as Arrow, it is cut or damaged" in refused(tmp_path)


@pytest.mark.parametrize("name", ["train.parquet", "data.arrow"])
def test_a_file_cut_anywhere_is_a_sentence_or_whole_rows(tmp_path, name):
    write(tmp_path / name, name.endswith("arrow"), audio=audio(zip(CLIPS, "abcdef")), text=list("abcdef"))
    data = (tmp_path / name).read_bytes()
    for n in [*range(0, 200, 9), *range(200, len(data) - 1, len(data) // 40)]:
        (tmp_path / name).write_bytes(data[:n])
        try: got, rejects, _ = rows_of(tmp_path)
        except ValueError as e: assert name in str(e)
        else:
            assert len(got) + len(rejects) in (2, 4, 6) and "has no end mark" in " ".join(
                load_rows(config(tmp_path)).source["notes"]
            )


def test_a_pointer_of_git_lfs_and_an_empty_file_are_named(tmp_path):
    for text, says in (
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "is a pointer of Git LFS"),
        ("", "is empty"),
    ):
        write(tmp_path / "train-00000-of-00002.parquet", audio=audio([(A, "a")]), text=["uno"])
        put(tmp_path / "train-00001-of-00002.parquet", text)
        assert f"train-00001-of-00002.parquet {says}" in refused(tmp_path)


def bounded(code, *args, megabytes=3000, seconds=60):
    "Run code in a process with little memory; its output."
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=seconds,
        preexec_fn=limit,
    ).stdout


READ = """
import sys
from audio_ft_prep import PrepConfig
from audio_ft_prep.load import load_rows
try:
    corpus = load_rows(PrepConfig(sys.argv[1], "it", train_splits="train", eval_splits=""))
    rows, lost = corpus.remote.fetch(corpus.rows, True)
    print(len(rows), "rows")
except (ValueError, RuntimeError, OSError) as e: print(str(e).replace(chr(10), "|"))
"""


@pytest.mark.parametrize(
    "what", ["a word that every row repeats", "a path that every row repeats", "pages of blanks", "audio of zeros"]
)
def test_a_file_that_unpacks_to_any_size_is_refused_in_little_memory(tmp_path, what):
    n, word = 1000, " " * (40 << 20)
    repeat = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([word]))
    zeros = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([word.encode()]))
    small = pa.array([b"x"] * n)
    paths = repeat if "path" in what else pa.array(["a.wav"] * n)
    held = zeros if "audio" in what else small
    text = (
        repeat
        if "word" in what
        else pa.array([word if i % 33 == 0 else "a" for i in range(n)]) if "pages" in what else pa.array(["a"] * n)
    )
    table = pa.table({"audio": pa.StructArray.from_arrays([held, paths], ["bytes", "path"]), "text": text})
    pq.write_table(table, tmp_path / "train.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "train.parquet").stat().st_size < 1 << 20
    began = time.monotonic()
    said = bounded(READ, tmp_path, megabytes=6000)
    assert "train.parquet" in said and time.monotonic() - began < 60, said


def test_a_file_that_claims_more_rows_than_it_holds_is_refused(tmp_path):
    write(tmp_path / "train.parquet", audio=audio([(A, "a")] * 2), text=["uno", "due"])
    data = (tmp_path / "train.parquet").read_bytes()
    for claim in (b"\x16\x06", b"\x16\x02"):  # 3 and 1 rows in place of 2, as Thrift writes whole numbers
        at = data.rindex(b"\x16\x04")
        (tmp_path / "train.parquet").write_bytes(data[:at] + claim + data[at + 2:])
        try: got, rejects, _ = rows_of(tmp_path)
        except ValueError as e: assert "train.parquet" in str(e)
        else: assert len(got) == 2


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("dataset_dict.json", "[]", "holds no JSON object"),
        ("dataset_dict.json", "{}", "must list names under splits"),
        ("dataset_dict.json", '{"splits": ["../x"]}', "must list plain names"),
        ("dataset_dict.json", '{"splits": ["/etc"]}', "must list plain names"),
        ("dataset_dict.json", '{"splits": [1]}', "must list plain names"),
        ("dataset_dict.json", '{"splits": "train"}', "must list names"),
        ("dataset_dict.json", '{"splits": []}', "lists no splits"),
        ("dataset_dict.json", "[" * 100_000, "holds no JSON object"),
        ("train/state.json", "{", "holds no JSON object"),
        ("train/state.json", '{"_data_files": [{"filename": "../../a.arrow"}]}', "must list plain names"),
        ("train/state.json", '{"_data_files": [{"filename": "/a.arrow"}]}', "must list plain names"),
        ("train/state.json", '{"_data_files": [{"filename": null}]}', "must list plain names"),
        ("train/state.json", '{"_data_files": ["a"]}', "must list names"),
        ("train/state.json", '{"_data_files": {}}', "must list names"),
        ("train/state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow"),
        (
            "train/state.json",
            '{"_data_files": [{"filename": "data.arrow"}, {"filename": "data.arrow"}]}',
            "lists data.arrow twice",
        ),
        (
            "train/state.json",
            '{"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": [{"filename": "i.arrow"}]}',
            "chooses rows by indices",
        ),
    ],
)
def test_small_files_of_a_saved_data_set_are_checked_before_anything_is_read(tmp_path, name, text, says):
    write(tmp_path / "train/data.arrow", True, audio=audio([(A, "a")]), text=["uno"])
    put(tmp_path / "dataset_dict.json", '{"splits": ["train"]}')
    put(tmp_path / name, text)
    said = refused(tmp_path)
    assert says in said and name.rpartition("/")[2] in said or "gone.arrow" in said, said


def test_a_saved_file_that_is_a_link_out_of_its_folder_is_not_read(tmp_path):
    write(tmp_path / "other/data.arrow", True, audio=audio([(A, "a")]), text=["uno"])
    put(tmp_path / "c/state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    (tmp_path / "c/data.arrow").symlink_to(tmp_path / "other/data.arrow")
    assert "is a link out of its folder" in refused(tmp_path / "c")


@pytest.mark.parametrize("path", ["../a.wav", "/etc/passwd", "a/../../b", "./a", "a//b", "a\0b", ""])
def test_a_listing_that_leaves_its_folder_is_not_read(path):
    from audio_ft_prep.hub import Repo
    with pytest.raises(ValueError, match="leaves its folder"): Repo("voices/tones", "0" * 40, {path: (1, "")})
    with pytest.raises(ValueError, match="at a commit"): Repo("voices/tones", "../../x", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"sha": 5, "files": {}}',
        '{"sha": "../x", "files": {}}',
        '{"sha": "%s", "files": {"../a": [1, ""]}}' % ("0" * 40),
        '{"sha": "%s", "files": {"a": [-1, ""]}}' % ("0" * 40),
        "[" * 100_000,
    ],
)
def test_a_damaged_listing_is_fetched_again(hub, tmp_path, monkeypatch, text):
    write(served(tmp_path / "x", "voices/tones") / "train.parquet", audio=audio([(A, "a.wav")]), text=["uno"])
    repo = open_repo("voices/tones")
    kept = [p for p in parts_folder().rglob("*.json")]
    for p in kept: p.write_text(text)
    assert open_repo("voices/tones", repo.sha) == repo
    for p in kept: p.write_text(text)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="offline mode is on"): open_repo("voices/tones")


def test_parts_are_closed_to_others_and_a_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert own_folder(parts_folder() / "a/b").parent.parent.stat().st_mode & 0o777 == 0o700
    before = parts_folder()
    before.chmod(0o777)
    own_folder(before / "c")
    assert before.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    before.chmod(0o777)
    assert parts_folder().name == "audio_ft_prep-4321"


@pytest.mark.parametrize(
    "head",
    [
        "configs: 5",
        "configs: [[[a]]]",
        "configs: {a: b}",
        "configs: [{config_name: {a: b}}]",
        "configs: [{data_files: [{split: [a], path: b}]}]",
        "date: 2024-13-45",
        "a: &a [*a, *a]\nconfigs: *a",
        "<<: 5",
        "? [a]\n: b",
        "a: " + "[" * 50_000,
        "a: " + "1:" * 100_000,
        "\t",
    ],
)
def test_a_card_of_any_shape_leaves_the_paths_to_say_what_is_there(tmp_path, head):
    for s in ("train", "test"): write(tmp_path / f"{s}.parquet", audio=audio([(A, s)]), text=["uno"])
    put(tmp_path / "README.md", f"---\n{head}\n---\n".encode("latin1"))
    began = time.monotonic()
    assert len(rows_of(tmp_path, eval_splits="test")[0]) == 2 and time.monotonic() - began < 30


def test_patterns_of_many_stars_end_soon():
    began = time.monotonic()
    for pattern in ("*a" * 400 + "*b", "**/" * 300 + "b", "**a" * 300, "?" * 900, "*" * 1000):
        entries, _ = card_entries(f"---\nconfigs:\n- data_files: '{pattern}'\n---\n".encode())
        table_files(["a" * 500 + ".parquet", "a/" * 200 + "b.parquet"], entries)
    assert time.monotonic() - began < 30


def test_a_card_that_names_files_again_and_again_reads_each_once(tmp_path, caplog):
    for s in ("train", "test"): write(tmp_path / f"{s}.parquet", audio=audio([(A, s)]), text=["uno"])
    put(tmp_path / "README.md", "---\nconfigs:\n- data_files:\n" + "  - {split: train, path: '**'}\n" * 200 + "---\n")
    assert len(rows_of(tmp_path)[0]) == 2
    put(
        tmp_path / "README.md",
        "---\nconfigs:\n- data_files:\n"
        + "".join(f"  - {{split: s{i}, path: '**'}}\n" for i in range(200))
        + "---\n",
    )
    assert len(rows_of(tmp_path)[0]) == 1 and "name too many files too often" in caplog.text


def test_an_output_folder_and_hidden_folders_inside_a_corpus_are_passed_over(tmp_path):
    write(tmp_path / "train.parquet", audio=audio(zip(CLIPS, "abc")), text=list("abc"))
    write(tmp_path / ".cache/huggingface/train.parquet", audio=audio(zip(CLIPS, "abc")), text=list("abc"))
    for _ in range(2):
        assert prepare(config(tmp_path, output_dir=str(tmp_path / "out")), progress=False).counts["train"]["kept"] == 3
    assert len(rows_of(tmp_path)[0]) == 3


def test_a_look_is_json_whatever_the_durations_are(tmp_path):
    write(tmp_path / "train.parquet", audio=audio(zip(CLIPS, "abc")), text=list("abc"), duration=[float("nan"), 1., 2.])
    look = inspect_corpus(str(tmp_path), "it")
    json.dumps(look, allow_nan=False)
    assert (
        look["languages"]["it"]["train"]["rows"] == 3
        and look["languages"]["it"]["train"]["found"]["audio"] == "audio (bytes)"
    )


def test_what_was_nearly_found_is_named(tmp_path):
    write(tmp_path / "train.parquet", audio=audio([(A, "a")]), words=["uno"], n=[1])
    assert "its columns are audio, words, n, of which words hold text; name the one with text_column" in refused(
        tmp_path
    )


# Anything at all

SCALARS = [
    pa.null(),
    pa.bool_(),
    pa.int8(),
    pa.int64(),
    pa.uint64(),
    pa.float16(),
    pa.float64(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.date32(),
    pa.timestamp("us"),
    pa.duration("s"),
    pa.decimal128(10, 2),
    pa.list_(pa.string()),
    pa.struct({"a": pa.int8()}),
    pa.dictionary(pa.int8(), pa.string()),
    pa.list_(pa.float32()),
    pa.map_(pa.string(), pa.int8()),
]
VALUES = [
    None,
    True,
    5,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "train",
    "uno",
    "3.5",
    "6,0",
    b"\xff",
    [],
    [1.5],
    {"a": 1},
]


@st.composite
def columns(draw, n):
    typ = draw(st.sampled_from(SCALARS))
    values = []
    for _ in range(n):
        value = draw(st.sampled_from(VALUES))
        try: pa.array([*values, value], typ.value_type if pa.types.is_dictionary(typ) else typ)
        except Exception: value = None
        values.append(value)
    return (
        pa.array(values, typ.value_type).dictionary_encode().cast(typ)
        if pa.types.is_dictionary(typ)
        else pa.array(values, typ)
    )


NAMES = [
    "text",
    "sentence",
    "speaker",
    "client_id",
    "split",
    "locale",
    "duration",
    "offset",
    "start",
    "end",
    "duration_ms",
    "path",
    "age",
    "id",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans(), st.booleans())
def test_any_column_of_any_type_leaves_every_row_kept_or_on_record(tmp_path_factory, data, as_saved, named):
    place, n = tmp_path_factory.mktemp("any"), 3
    mine = {
        k: data.draw(columns(n), label=k)
        for k in data.draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    }
    table = {
        "audio": (
            pa.array(["a.wav", None, "b.wav"]) if named else audio([(A, "a.wav"), (B, "a.wav"), (None, "b.wav")])
        ),
        "transcription": ["uno", "due", "tre"],
        **mine,
    }
    try: write(place / ("data.arrow" if as_saved else "data.parquet"), as_saved, **table)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid): return  # Parquet has no such type
    put(place / "a.wav", A)
    try: got, rejects, _ = rows_of(place, train_splits="train+validation+test")
    except (ValueError, FileNotFoundError) as e: assert "\n" not in str(e) and not isinstance(e, pa.ArrowException)
    else: assert len(got) + len(rejects) == n


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_are_read_as_single_values_are(data):
    column = pa.chunked_array([data.draw(columns(4))])
    for read, one in ((read_texts, as_text), (read_labels, as_label)):
        got, faults = read(column, "x")
        for i, value in enumerate(column.to_pylist()):
            if isinstance(value, float) and np.isnan(value): value = None
            try: want = one(value, "x")
            except BadClip as e: assert faults[i] == e.detail
            else: assert i not in faults and got.to_pylist()[i] == want


def damaged(data, seed):
    rng, b = random.Random(seed), bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 6])):
        at = rng.randrange(len(b)) if rng.random() < 0.5 else len(b) - 1 - rng.randrange(min(len(b), 1500))
        how = rng.random()
        if how < 0.5: b[at] ^= 1 << rng.randrange(8)
        elif how < 0.8: b[at:at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x40"])
        else: del b[at:at + rng.randrange(1, 60)]
    return bytes(b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**9), st.booleans())
@example(28223, True)  # the name of a column is no UTF-8
def test_a_file_damaged_anywhere_is_a_sentence_or_rows(tmp_path_factory, seed, as_saved):
    place = tmp_path_factory.mktemp("damaged")
    name = "data.arrow" if as_saved else "data.parquet"
    small = [bytes([65 + i]) * 30 for i in range(5)]
    write(
        place / name,
        as_saved,
        audio=audio(zip(small, "abcde")),
        text=[f"frase {i}" for i in range(5)],
        speaker=list("aabbc"),
        duration=[1.0] * 5,
    )
    (place / name).write_bytes(damaged((place / name).read_bytes(), seed))
    try: got, rejects, _ = rows_of(place)
    except (ValueError, FileNotFoundError) as e: assert name in str(e) or str(place) in str(e), e
    else: assert len(got) + len(rejects) <= 5
