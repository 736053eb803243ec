"Tables are read by their records whatever they are made of; what can't be read costs itself or is refused with the name of its file."
import csv, io, json, os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import soundfile as sf
from hypothesis import example, given, settings, strategies as st

from audio_ft_prep.corpora import text_lines
from audio_ft_prep.choosing import with_votes
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.folder import read_folder
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.tablecolumns import audio_path
from audio_ft_prep.tables import records, table_columns, table_style
from audio_ft_prep.values import PART_COLUMNS, read_part

pytestmark = pytest.mark.light
TIMES_MORE = int(os.environ.get("TIMES_MORE", "1"))  # for a long run by hand, with HYPOTHESIS_PROFILE=search


def put(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# ---- records

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    ascii=st.booleans(),
)
@settings(max_examples=100 * TIMES_MORE)
def test_a_json_list_has_the_records_that_json_reads(tmp_path_factory, rows, indent, ascii):
    path = tmp_path_factory.mktemp("json") / "x.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii)
    put(path, text.encode("utf-8", "surrogatepass"))
    if ascii or "\\ud" not in ascii_of(text): assert repr([r for _, r in records(path)]) == repr(json.loads(text))
    else: assert len(list(records(path))) == len(rows)


def ascii_of(text): return text.encode("unicode_escape").decode()


@given(
    rows=st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
            min_size=2,
            max_size=2,
        ),
        min_size=1,
        max_size=6,
    ),
    separator=st.sampled_from(",;"),
)
@settings(max_examples=100 * TIMES_MORE)
def test_a_csv_gives_back_what_was_written(tmp_path_factory, rows, separator):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["path", "text"], *rows])
    path = put(tmp_path_factory.mktemp("csv") / "x.csv", out.getvalue())
    assert [list(r.values()) for _, r in records(path)] == rows


@given(
    data=st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
    name=st.sampled_from(["x.csv", "x.tsv", "x.json", "x.jsonl"]),
)
@example(b"[{", "x.json")
@example(b"\xff\xfe", "x.csv")
@example(b'"', "x.csv")
@example(b"sep=", "x.csv")
@example(b"sep=\n", "x.csv")
@settings(max_examples=200 * TIMES_MORE)
def test_any_bytes_are_records_or_a_sentence_that_names_the_file(tmp_path_factory, data, name):
    path = put(tmp_path_factory.mktemp("any") / name, data)
    try: got = list(records(path)), table_columns(path, table_style(path))
    except ValueError as e: assert str(path) in str(e)
    else: assert all(isinstance(r, (dict, str)) and n >= 1 for n, r in got[0])


def test_a_line_without_end_is_refused_and_not_held(tmp_path, monkeypatch):
    for module in ("corpora", "tables"): monkeypatch.setattr(f"audio_ft_prep.{module}.LONGEST_LINE", 1000)
    for name, text in (
        ("x.tsv", "path\ttext\n" + "x" * 2000),
        ("x.jsonl", "x" * 2000),
        ("x.csv", "path,text\n" + "x" * 2000),
    ):
        with pytest.raises(ValueError, match=f"{name} has a line of more than 1000"):
            list(records(put(tmp_path / name, text)))
    with pytest.raises(ValueError, match="can't be read as a JSON list"):
        list(records(put(tmp_path / "x.json", '[{"a": "' + "x" * (3 << 20))))
    assert list(text_lines(put(tmp_path / "y.tsv", "a\tb\n"))) == ["a\tb"]


def test_a_sparse_file_of_a_gigabyte_is_refused_at_once(tmp_path):
    for name in ("x.csv", "x.tsv", "x.jsonl"):
        with open(put(tmp_path / name, "path,text\n"), "r+b") as f: f.truncate(1 << 30)
        with pytest.raises(ValueError, match=name): list(records(tmp_path / name))


@pytest.mark.parametrize(
    "value,path",
    [
        ("{a}.wav", "{a}.wav"),
        ("{}", None),
        ("{'path': 3}", None),
        ("{'path': 'x.wav'}", "x.wav"),
        ("{" * 5000 + "}", "{" * 5000 + "}"),
        ({"path": None}, None),
        ({"path": "\ud800"}, None),
        ({"file": "a.wav"}, None),
    ],
)
def test_a_dictionary_gives_its_path_and_nothing_else(value, path):
    if path is not None: assert audio_path(value, "audio") == path
    else:
        with pytest.raises(BadClip, match="bad_row: audio must be"): audio_path(value, "audio")


# ---- whole tables

FILES = ("a.wav", "b.wav", "sub/c.wav", "d.flac")
FIELDS = (
    "file_name",
    "audio",
    "text",
    "sentence",
    "speaker",
    "split",
    "language",
    "age",
    "offset",
    "duration",
    "start",
    "end",
    "start_ms",
    "end_ms",
    "duration_ms",
)
TIMES = st.sampled_from([0, 0.5, 1, "1", "0.25", "0,5", "0:01", -1, 2.5, "", None, 1500])


@pytest.fixture(scope="module")
def recordings():
    "A folder with four recordings of three seconds."
    with TemporaryDirectory() as folder:
        for name in FILES:
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            sf.write(path, [0.1, -0.1] * 12000, 8000)
        yield Path(folder)


ROW = st.fixed_dictionaries(
    {},
    optional={
        f: (
            st.sampled_from([*FILES, "gone.wav", "../x.wav"]) | JSON
            if f in ("file_name", "audio")
            else (
                st.sampled_from(["train", "test", "dev", "trian"]) | JSON
                if f == "split"
                else TIMES | JSON if f in PART_COLUMNS else st.just("Ciao.") | JSON
            )
        )
        for f in FIELDS
    },
)


def part_of(record):
    "The part that a record names, read by itself."
    try: return tuple(read_part({k: v for k, v in record.items() if k in PART_COLUMNS}))
    except BadClip: return None


@given(rows=st.lists(ROW, min_size=1, max_size=5), name=st.sampled_from(["x.jsonl", "metadata.jsonl", "x.json"]))
@settings(max_examples=120 * TIMES_MORE)
@example(
    [{"audio": "a.wav", "text": "x", "split": "train"}, {"audio": "b.wav", "text": 3, "split": "trian"}], "x.jsonl"
)
@example([{"audio": "a.wav", "text": "x", "split": "train"}, {"audio": "b.wav", "text": "x"}], "x.jsonl")
@example([{"audio": "a.wav", "text": "x", "offset": 1}, {"audio": "a.wav", "text": "x"}], "x.jsonl")
def test_every_row_of_a_table_of_any_values_is_kept_or_on_record(recordings, rows, name):
    rows = [r | {"accents": f"{i}"} for i, r in enumerate(rows)]
    path = put(recordings / name, json.dumps(rows) if name == "x.json" else "".join(json.dumps(r) + "\n" for r in rows))
    try: check(rows, path)
    finally: path.unlink()


@given(
    rows=st.lists(
        st.lists(
            st.sampled_from(["", "a.wav", "b.wav", "train", "test", "0", "1", "2", "1,5", "x", '"']),
            min_size=6,
            max_size=6,
        ),
        min_size=1,
        max_size=5,
    ),
    columns=st.permutations(["path", "text", "split", "start", "end", "duration"]),
    name=st.sampled_from(["x.csv", "x.tsv", "metadata.csv"]),
)
@settings(max_examples=100 * TIMES_MORE)
def test_every_row_of_a_csv_or_tsv_is_kept_or_on_record(recordings, rows, columns, name):
    columns, rows = [*columns, "accents"], [[*r, f"{i}"] for i, r in enumerate(rows)]
    out = io.StringIO(newline="")
    if name == "x.tsv": out.write("".join("\t".join(r) + "\n" for r in [columns, *rows]))
    else: csv.writer(out).writerows([columns, *rows])
    path = put(recordings / name, out.getvalue())
    try: check([dict(zip(columns, r)) for r in rows], path)
    finally: path.unlink()


def check(rows, path):
    "Rows in are kept or rejects, a kept row has the part that it names, and what can't be read at all is a sentence with the file's name."
    try: got = read_folder(PrepConfig(str(path), "it", train_splits="train+validation+test", eval_splits=""), path)
    except (ValueError, FileNotFoundError) as e:
        return str(path.name) in str(e) or "no split" in str(e) or pytest.fail(str(e))
    other = [r for r in rows if isinstance(r.get("split"), str) and r["split"].strip() and not known(r["split"])]
    assert len(rows) - len(other) <= len(got.rows) + len(got.rejects) <= len(rows)
    assert len(set(got.rows["id"].to_pylist())) == len(got.rows)
    for kept in got.rows.to_pylist():
        row = rows[int(kept["accents"])]
        assert (
            (kept["start"], kept["seconds"]) == part_of(row)
            and kept["sentence"] == (row.get("sentence") if "sentence" in row else row.get("text") or "")
            or kept["sentence"] == ""
            and row.get("sentence") is None
        )


def known(split):
    return split.strip().lower() in ("train", "test", "dev", "validation", "valid", "val", "validate", "trian")


@pytest.mark.parametrize(
    "start, end, per_second",
    [
        ("start_sec", "end_sec", 1),
        ("segment_start", "segment_end", 1),
        ("Start (s)", "End (s)", 1),
        ("startTime", "endTime", 1),
        ("Begin Time (ms)", "End Time (ms)", 1000),
        ("utt-start-ms", "utt-end-ms", 1000),
        ("onset", "segment_stop", 1),
        ("clip start milliseconds", "clip end milliseconds", 1000),
    ],
)
def test_times_are_read_by_whatever_name_people_give_them(start, end, per_second):
    part = read_part({start: 2.5 * per_second, end: str(4 * per_second)})
    assert part == (2.5, 1.5) and start.lower() in PART_COLUMNS and end.lower() in PART_COLUMNS


@pytest.mark.parametrize(
    "name",
    [
        "client_id",
        "sentence",
        "age",
        "segment",
        "time",
        "s",
        "up_votes",
        "start_word",
        "end_of_turn",
        "length",
        "path",
        "text",
        "second",
    ],
)
def test_what_is_no_time_is_not_read_as_one(name): assert name not in PART_COLUMNS


def test_a_score_is_read_where_it_is_one_and_low_ones_leave_with_a_reason(tmp_path):
    sf.write(tmp_path / "hour.wav", [0.0, 0.1] * 16000, 16000)
    scores = [0.9, "0.25", None, 87, True, "good"]
    lines = []
    for k, score in enumerate(scores):
        line = {"audio_filepath": "hour.wav", "offset": k * 0.2, "duration": 0.2, "text": f"{k}.", "split": "train"}
        lines.append(json.dumps({**line, "score": score}))
    put(tmp_path / "aligned.jsonl", "\n".join(lines))
    corpus = read_folder(PrepConfig(str(tmp_path), "en", eval_splits="", min_score=0.5), tmp_path)
    assert corpus.rows["score"].to_pylist() == [0.9, 0.25, None, None, 1.0, None]
    stay, gone = with_votes(corpus.rows, PrepConfig(str(tmp_path), "en", min_score=0.5))
    assert gone.to_pylist()[0]["reason"] == "low_score" and len(gone) == 1 and len(stay) == 5
