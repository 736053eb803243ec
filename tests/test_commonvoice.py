"A Common Voice tree is read as it lies: every row and every clip is kept with exactly its bytes, or on record with a reason."
import bz2, gzip, logging, lzma, re, shutil, signal, tarfile, tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings, strategies as st

from audio_ft_prep.links import AUDIO_SUFFIXES
from audio_ft_prep.corpora import clip_id, first_places
from audio_ft_prep.tarindex import index_tar
from audio_ft_prep.commonvoice import inspect_commonvoice, language_folder, read_commonvoice, tars, transcripts
from audio_ft_prep.tsv import read_tsv
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.load import inspect_corpus, load_rows, source_kind
from audio_ft_prep.rows import close_files, read_bytes, row_at
from audio_ft_prep.rejects import REASONS

pytestmark = pytest.mark.light

OLD = "client_id path sentence up_votes down_votes age gender accent locale segment".split()                  # up to 7
MID = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()         # 8 to 16
NEW = ("client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents "
       "variant locale segment").split()                                                                      # from 17
GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT


@pytest.fixture(autouse=True)
def no_file_stays_open():
    yield
    close_files()


# ---- making trees

def member(name, data=b"", **kw):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for k, v in kw.items(): setattr(info, k, v)
    return info, data


def put_tar(path, members, fmt=GNU, end=True):
    "Write a tar of (name, bytes) or of what `member` gives; without its closing zeros where `end` is false."
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = [m if isinstance(m[0], tarfile.TarInfo) else member(*m) for m in members]
    blob = b"".join(i.tobuf(fmt, "utf-8", "surrogateescape") + d + b"\0" * (-len(d) % 512) for i, d in pairs)
    path.write_bytes(blob + b"\0" * 1024 * end)
    return path


def line(columns, **values): return "\t".join(values.get(c, "") for c in columns)


def put_tsv(path, rows, columns=MID, newline="\n", bom=b"", end=True):
    "Write a transcript of dicts, or of lines given as text or bytes."
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else line(columns, **r)).encode() for r in rows]
    path.write_bytes(bom + newline.encode().join(["\t".join(columns).encode(), *lines]) + newline.encode() * end)
    return path


def row(name, sentence="Il treno parte.", **kw):
    return {"client_id": "s1", "path": f"{name}.mp3", "sentence": sentence, **kw}


def clips_of(*names): return [(f"it_train_0/{n}.mp3", f"audio of {n}".encode()) for n in names]


def tree(root, rows=None, clips=None, split="train", columns=MID, **kw):
    "One split of an Italian tree."
    put_tsv(root/f"transcript/it/{split}.tsv", [row(n) for n in "abc"] if rows is None else rows, columns, **kw)
    put_tar(root/f"audio/it/{split}/it_{split}_0.tar", clips_of(*"abc") if clips is None else clips)
    return root


def read(root, train="train", evaluation="", language="it"):
    return read_commonvoice(PrepConfig(str(root), language, train_splits=train, eval_splits=evaluation), root)


def audio_of(corpus):
    "Bytes of every kept row, by name, in order."
    close_files()
    return {
        r.id: read_bytes(r.file, r.offset, r.size) for r in (row_at(corpus.rows, i) for i in range(len(corpus.rows)))
    }


def sentences(corpus): return dict(zip(corpus.rows["id"].to_pylist(), corpus.rows["sentence"].to_pylist()))
def rejects(corpus): return list(zip(corpus.rejects["id"].to_pylist(), corpus.rejects["reason"].to_pylist()))
def details(corpus): return dict(zip(corpus.rejects["id"].to_pylist(), corpus.rejects["detail"].to_pylist()))


@contextmanager
def within(seconds):
    "Fail, rather than go on for ever; seconds are of this process's own work, whatever else the machine does."
    def late(*_): raise TimeoutError(f"not done in {seconds} s")
    old = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


# ---- names

@settings(deadline=None, max_examples=60)
@given(
    stem=st.text(st.characters(exclude_characters="/\\", codec="utf-8"), min_size=1).filter(
        lambda s: s == s.strip()
    ),
    suffix=st.sampled_from(AUDIO_SUFFIXES),
    folder=st.sampled_from(["", "it_train_0/", "a\\b\\", "/x/", "./", "../../"]),
)
def test_a_clip_has_one_name_with_and_without_folder_and_suffix(stem, suffix, folder):
    if any(stem.lower().endswith(s) for s in AUDIO_SUFFIXES): stem += "x"
    assert clip_id(folder + stem + suffix) == clip_id(stem + suffix.upper()) == clip_id(folder + stem) == stem


def test_a_dot_in_a_name_is_no_suffix():
    assert [clip_id(p) for p in ("a.b.mp3", "v1.2", ".mp3", "a.mp3.mp3", "", "x.txt")] == [
        "a.b",
        "v1.2",
        ".mp3",
        "a.mp3",
        "",
        "x.txt",
    ]


# ---- transcripts

@settings(deadline=None, max_examples=40)
@given(base=st.sampled_from([OLD, MID, NEW]), data=st.data())
def test_columns_are_found_by_name_in_any_release_and_any_order(base, data):
    columns = data.draw(st.permutations(base))
    values = dict(
        client_id="s1",
        path="a.mp3",
        sentence_id="77",
        sentence="Ciao.",
        sentence_domain="food",
        up_votes="3",
        down_votes="1",
        age="twenties",
        gender="female",
        accent="Veneto",
        accents="Veneto",
        variant="x",
        locale="it",
        segment="Benchmark",
    )
    with tempfile.TemporaryDirectory() as d:
        got = read(tree(Path(d), [values], clips_of("a"), columns=columns))
        assert audio_of(got) == {"a": b"audio of a"} and len(got.rejects) == 0
        close_files()
        r = row_at(got.rows, 0)
    assert (r.sentence, r.locale, r.speaker, r.up_votes, r.down_votes) == ("Ciao.", "it", "s1", 3, 1)
    assert (r.age, r.gender, r.accents, r.split, r.source_split) == ("twenties", "female", "Veneto", "train", "train")


def test_path_and_sentence_are_all_that_a_transcript_needs(tmp_path):
    got = read(tree(tmp_path, columns=["sentence", "path"]))
    assert sentences(got) == {n: "Il treno parte." for n in "abc"}
    assert got.rows["locale"].to_pylist() == ["it"] * 3 and got.rows["up_votes"].null_count == 3


@pytest.mark.parametrize(
    "columns,lost",
    [
        (["path", "text"], "sentence"),
        (["clip", "sentence"], "path"),
        (["client_id"], "path and no sentence"),
        (["path,sentence,locale"], "path and no sentence"),
        (["Path", "Sentence"], "path and no sentence"),
    ],
)
def test_a_transcript_without_path_or_sentence_is_refused_by_name(columns, lost, tmp_path):
    with pytest.raises(
        ValueError, match=rf"train\.tsv must have the columns path and sentence, tabs between: no {lost} in "
    ) as e:
        read(tree(tmp_path, [], columns=columns))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", "is empty or not UTF-8"),
        (b"\xff\xff\n", "is empty or not UTF-8"),
        (b"\n\n", "must have the columns"),
        ("path\tsentence\n".encode("utf-16"), "is UTF-16"),
        (b"\xef\xbb\xbf", "must have the columns"),
        (b"\0" * 5000, "must have the columns"),
    ],
)
def test_a_file_that_is_no_transcript_is_refused_by_name(content, says, tmp_path):
    tree(tmp_path)
    (tmp_path/"transcript/it/train.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train\.tsv {says}") as e: read(tmp_path)
    assert "\n" not in str(e.value) and len(str(e.value)) < 1500


def test_a_transcript_with_old_mac_line_ends_is_refused_not_read_as_one_header(tmp_path):
    with pytest.raises(ValueError, match=r"train\.tsv"): read(tree(tmp_path, newline="\r"))


@pytest.mark.parametrize("kw", [{}, dict(end=False)], ids=["newline", "no newline"])
def test_a_header_alone_is_a_split_of_no_rows(kw, tmp_path):
    got = read(tree(tmp_path, [], clips_of("a", "b"), **kw))
    assert len(got.rows) == 0 and rejects(got) == [("a", "no_row"), ("b", "no_row")]


def test_an_empty_split_needs_no_tar(tmp_path):
    put_tsv(tmp_path/"transcript/it/train.tsv", [])
    got = read(tmp_path)
    assert len(got.rows) == len(got.rejects) == 0 and got.source["notes"] == []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", [True, False], ids=["newline", "no newline"])
@pytest.mark.parametrize(
    "columns",
    [["path", *[c for c in MID if c != "path"]], [*[c for c in MID if c != "sentence"], "sentence"]],
    ids=["path first", "sentence last"],
)
def test_line_ends_and_byte_order_mark_are_no_part_of_a_row(newline, bom, end, columns, tmp_path):
    got = read(tree(tmp_path, newline=newline, bom=bom, end=end, columns=columns))
    assert sentences(got) == {n: "Il treno parte." for n in "abc"} and len(got.rejects) == 0


ODD = [
    '"Il treno parte alle otto.',
    'Disse: "no',
    '""',
    "'",
    "NA",
    "null",
    "nan",
    "None",
    "-",
    "#N/A",
    "N/A",
    "true",
    "1e5",
    "007",
    "inf",
    "\\N",
    "\\t",
    "a\\",
    "a\rb",
    "\ra",
    "a\u2028b",
    "a\u2029b",
    "a\x85b",
    "a\x0bb\x0cc",
    "a\x1cb\x1db\x1eb",
    "a\0b",
    "\0",
    "\ufeffa",
    "a\ufeff",
    "a,b;c|d",
    "#no comment",
    "  two blanks  ",
    "\u00a0",
    "e\u0301",
    "\U0001f682 👨‍👩‍👧",
    "ciao <|en|> <|endoftext|>",
    "x" * 70_000,
]


def test_a_sentence_is_any_text_without_tab_and_newline(tmp_path):
    names = [f"c{i}" for i in range(len(ODD))]
    got = read(tree(tmp_path, [row(n, s) for n, s in zip(names, ODD)], clips_of(*names)))
    assert list(sentences(got).values()) == ODD and len(got.rejects) == 0
    assert audio_of(got) == {n: f"audio of {n}".encode() for n in names}


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.text(st.characters(exclude_characters="\t\n", codec="utf-8")), max_size=8),
    st.sampled_from([1, 3, 50_000]),
)
def test_a_transcript_gives_back_the_fields_it_was_written_from(texts, chunk):
    with tempfile.TemporaryDirectory() as d:
        path = put_tsv(Path(d)/"train.tsv", [row(f"c{i}", t) for i, t in enumerate(texts)])
        table, faults = read_tsv(path, chunk)
    assert table["sentence"].to_pylist() == texts and faults == []
    assert table["path"].to_pylist() == [f"c{i}.mp3" for i in range(len(texts))]


def test_a_field_of_ten_megabytes_is_a_field(tmp_path):
    long = "parola " * 1_500_000
    got = read(tree(tmp_path, [row("a", long), row("b")], clips_of("a", "b")))
    assert sentences(got) == {"a": long, "b": "Il treno parte."}


# A sentence with a line feed stands on two lines, and a line without its last tabs looks like the first of them

TABLE = ["client_id", "path", "sentence", "locale"]
LAST = ["client_id", "path", "sentence"]


def read_lines(tmp_path, columns, lines, clips="abcd", **kw):
    "Sentences of a split whose lines are given, and its bad rows by line."
    got = read(tree(tmp_path, lines, clips_of(*clips), columns=columns, **kw))
    return sentences(got), [
        (n, d)
        for n, r, d in zip(*(got.rejects[c].to_pylist() for c in ("id", "reason", "detail")))
        if r == "bad_row"
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("columns", [OLD, MID, NEW, TABLE], ids=["to 7", "8 to 16", "from 17", "four columns"])
@pytest.mark.parametrize(
    "between", ["\n", "\n\n", "\r\n", "\nnel mezzo\n"], ids=["one", "two", "of Windows", "three lines"]
)
def test_a_sentence_on_several_lines_is_joined_where_that_is_certain(newline, columns, between, tmp_path):
    said, bad = read_lines(
        tmp_path,
        columns,
        [row("a", locale="it"), row("b", f"Prima riga{between}seconda riga", locale="it"), row("c", locale="it")],
        newline=newline,
    )
    words = " ".join(f"Prima riga{between}seconda riga".split())
    assert {n: " ".join(t.split()) for n, t in said.items()} == {
        "a": "Il treno parte.",
        "b": words,
        "c": "Il treno parte.",
    } and bad == []


@pytest.mark.parametrize("between", ["\r", "\u2028", "\x85", "\x0b", "\x0c", "\u2029", "\x1e"])
@pytest.mark.parametrize("columns", [MID, LAST], ids=["in the middle", "last"])
def test_what_else_breaks_a_line_elsewhere_is_part_of_the_sentence_here(between, columns, tmp_path):
    said, bad = read_lines(tmp_path, columns, [row("a", f"Prima{between}seconda"), row("b")])
    assert said["a"] == f"Prima{between}seconda" and len(said) == 2 and bad == []


def test_a_sentence_at_the_end_of_its_lines_that_may_go_on_is_no_row(tmp_path):
    said, bad = read_lines(
        tmp_path, LAST, [row("a"), row("b", "Prima riga\nseconda riga"), row("c", "Uno\n\ndue\ntre"), row("d")]
    )
    assert [*said] == ["a", "d"] and [n for n, _ in bad] == [
        "train.tsv:3",
        "train.tsv:4",
        "train.tsv:5",
        "train.tsv:7",
        "train.tsv:8",
    ]
    assert (
        "may continue in line 4" in dict(bad)["train.tsv:3"]
        and "may continue from line 3" in dict(bad)["train.tsv:4"]
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_a_sentence_before_the_path_that_may_have_begun_above_is_no_row(chunk, tmp_path):
    path = put_tsv(
        tmp_path / "train.tsv",
        [row("a"), row("b", "Prima riga\nseconda riga"), row("c")],
        ["sentence", "path", "locale"],
    )
    table, faults = read_tsv(path, chunk)
    assert table["path"].to_pylist() == ["a.mp3", "c.mp3"] and [n for n, _ in faults] == ["train.tsv:3", "train.tsv:4"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 100])
def test_lines_belong_together_wherever_a_file_is_cut_for_reading(chunk, tmp_path):
    path = put_tsv(tmp_path/"train.tsv", [row("a", "Uno\ndue"), row("b"), row("c", "Tre\nquattro\ncinque"), row("d")])
    table, faults = read_tsv(path, chunk)
    assert (
        table["sentence"].to_pylist() == ["Uno due", "Il treno parte.", "Tre quattro cinque", "Il treno parte."]
        and faults == []
    )
    assert table["line"].to_pylist() == [2, 4, 5, 8]
    path = put_tsv(tmp_path/"test.tsv", [row("a", "Uno\ndue"), row("b"), row("c")], LAST)
    table, faults = read_tsv(path, chunk)
    assert table["path"].to_pylist() == ["b.mp3", "c.mp3"] and [n for n, _ in faults] == ["test.tsv:2", "test.tsv:3"]


HALVES = {
    "cut, and the rest is gone": ["s1\tb.mp3\tHa pio"],
    "two halves of other rows": ["s1\tb.mp3\tHa pio", "vuto.\tit\tmore\t"],
    "a last field is missing": ["s1\tb.mp3\tHa piovuto.\t2"],
    "the rest names a clip": ["s1\tb.mp3\tHa pio", "vuto\td.mp3\tit"],
}


@pytest.mark.parametrize("lines", HALVES.values(), ids=HALVES.keys())
def test_half_a_row_among_whole_ones_is_no_row(lines, tmp_path):
    said, bad = read_lines(tmp_path, MID, [row("a"), *lines, row("c")])
    assert [*said] == ["a", "c"] and [n for n, _ in bad] == [f"train.tsv:{3 + i}" for i in range(len(lines))]


def test_a_line_that_ends_with_its_sentence_among_whole_ones_is_no_row(tmp_path):
    said, bad = read_lines(tmp_path, TABLE, [row("a", locale="it"), "s1\tb.mp3\tHa pio", row("c", locale="it")])
    assert [*said] == ["a", "c"] and bad == [
        ("train.tsv:3", "3 fields in a table of 4 columns: its end is missing, or is in another line")
    ]


STRIPPED = {"all end with the sentence": (MID, [row("a"), row("b"), row("c")]),
            "each ends with its last word": (MID, [row("a", up_votes="2"), row("b"), row("c", locale="it")]),
            "one alone": (MID, [row("a")]), "two columns beside": (TABLE, [row("a"), row("b")])}


@pytest.mark.parametrize("columns,rows", STRIPPED.values(), ids=STRIPPED.keys())
def test_rows_whose_tabs_were_stripped_at_every_lines_end_are_rows(columns, rows, tmp_path):
    said, bad = read_lines(tmp_path, columns, [line(columns, **r).rstrip("\t") for r in rows])
    assert [*said.values()] == ["Il treno parte."] * len(rows) and bad == []


def test_half_a_sentence_among_stripped_rows_is_no_row(tmp_path):
    lines = [
        line(MID, **r).rstrip("\t") for r in (row("a"), row("b", "Prima riga\nseconda riga"), row("c", up_votes="2"))
    ]
    said, bad = read_lines(tmp_path, MID, lines)
    assert [*said] == ["a", "c"] and [n for n, _ in bad] == ["train.tsv:3", "train.tsv:4"]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(TABLE[2:] + ["client_id"]),
            st.text(st.sampled_from("ab \n\r\u2028\x85\0\"è\ud7ff"), max_size=6),
        ),
        max_size=6,
    ),
    st.permutations(TABLE),
    st.sampled_from([1, 2, 50]),
    st.booleans(),
)
def test_no_row_is_kept_with_half_a_sentence_whatever_its_fields_hold(rows, columns, chunk, strip):
    full = [{"client_id": "s", "sentence": "x", "locale": "it", **r, "path": f"c{i}.mp3"} for i, r in enumerate(rows)]
    lines = [line(columns, **r) for r in full]
    with tempfile.TemporaryDirectory() as d:
        path = put_tsv(Path(d)/"train.tsv", [l.rstrip("\t") if strip else l for l in lines], columns)
        table, faults = read_tsv(path, chunk)
        n = sum(l.rstrip(b"\r\n") != b"" for l in path.read_bytes().split(b"\n")[1:])
    words = lambda t: t.split()
    want = {r["path"]: words(r["sentence"]) for r in full}
    for name, text in zip(table["path"].to_pylist(), table["sentence"].to_pylist()):
        assert "\n" in text or name not in want or words(text) == want[name], (name, text)
    lone = len(table) + len(faults)
    assert lone <= n and (lone == n or any("\n" in v for r in full for v in r.values()))


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_a_speaker_that_may_have_begun_above_is_left_empty(chunk, tmp_path):
    path = put_tsv(
        tmp_path / "train.tsv",
        [row("a"), row("b", client_id="nine\nteen"), row("c"), "a remark", row("d"), row("e")],
    )
    table, faults = read_tsv(path, chunk)
    assert list(zip(table["path"].to_pylist(), table["speaker"].to_pylist())) == [
        ("a.mp3", "s1"),
        ("b.mp3", ""),
        ("c.mp3", "s1"),
        ("d.mp3", ""),
        ("e.mp3", "s1"),
    ]
    assert [n for n, _ in faults] == ["train.tsv:3", "train.tsv:6"] and set(table["sentence"].to_pylist()) == {
        "Il treno parte."
    }


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "sentence", ["Prima\triga\nseconda", "Prima\nriga\tseconda", "Una\tprima\nriga\nseconda", "\t\n"]
)
def test_a_sentence_with_tabs_and_line_feeds_is_never_kept_by_half(sentence, chunk, tmp_path):
    path = put_tsv(
        tmp_path / "train.tsv",
        [row("a", locale="it"), row("b", sentence, locale="it"), row("c", locale="it")],
        TABLE,
    )
    table, faults = read_tsv(path, chunk)
    assert table["path"].to_pylist() == ["a.mp3", "c.mp3"] and set(table["sentence"].to_pylist()) == {"Il treno parte."}
    assert [n for n, _ in faults] == [f"train.tsv:{3 + i}" for i in range(1 + sentence.count("\n"))]


FILES = [("x/a.mp3", b"mp3 of a"), ("x/a.wav", b"wav of a"), ("x/b.flac", b"flac of b"), ("x/c.MP3", b"mp3 of c")]
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "paths, kept, lost",
    [
        (["a.wav"], {"a": b"wav of a"}, {"a.mp3": "no_row"}),
        (["a.mp3", "a.wav"], {"a.mp3": b"mp3 of a", "a.wav": b"wav of a"}, {}),
        (["a.WAV", "c"], {"a": b"wav of a", "c": b"mp3 of c"}, {"a.mp3": "no_row"}),
        (["a"], {}, {"a": "missing_audio", "a.mp3": "no_row", "a.wav": "no_row"}),
        (["a.flac"], {}, {"a": "missing_audio", "a.mp3": "no_row", "a.wav": "no_row"}),
        (["b.mp3", "b.flac"], {"b.flac": b"flac of b"}, {"b.mp3": "missing_audio"}),
        (["b.mp3", "a.mp3", "a"], {"b": b"flac of b", "a": b"mp3 of a"}, {"a": "duplicate_row", "a.wav": "no_row"}),
    ],
)
def test_a_row_gets_the_file_that_it_names_by_its_ending(paths, kept, lost, order, tmp_path):
    root = tree(tmp_path, [row("") | {"path": p} for p in paths], FILES[::order])
    got = read(root)
    assert audio_of(got) == kept
    said = dict(rejects(got))
    assert {n: r for n, r in said.items() if n[:1] in {p[:1] for p in paths}} == lost


BROKEN_LINES = {
    "one field": "s1",
    "no sentence": "s1\ta.mp3",
    "too many tabs": line(MID, **row("a")) + "\tmore",
    "tab in the sentence": line(MID, **row("a", "Il\ttreno")),
    "not UTF-8": line(MID, **row("a", "caff\xe8")).encode("latin-1"),
    "half a character": line(MID, **row("a", "caffè")).encode()[:14],
    "a blank": " ",
}


@pytest.mark.parametrize("bad", BROKEN_LINES.values(), ids=BROKEN_LINES.keys())
def test_a_line_that_is_no_row_is_rejected_with_its_number_and_ends_nothing(bad, tmp_path):
    got = read(tree(tmp_path, [row("b"), bad, row("c")], clips_of("b", "c")))
    assert sentences(got) == {n: "Il treno parte." for n in "bc"}
    assert rejects(got) == [("train.tsv:3", "bad_row")] and details(got)["train.tsv:3"]


def test_empty_lines_are_no_rows(tmp_path):
    got = read(tree(tmp_path, ["", row("a"), "", row("b"), "", ""], clips_of("a", "b"), newline="\r\n"))
    assert len(got.rows) == 2 and len(got.rejects) == 0


def test_a_row_that_names_no_clip_is_rejected(tmp_path):
    rows = [
        row("a"),
        {"client_id": "s1", "sentence": "Chi?"},
        {"path": "  ", "sentence": "E tu?"},
        {"path": "it_train_0/", "sentence": "Io?"},
    ]
    got = read(tree(tmp_path, rows, [*clips_of("a"), member("it_train_0/", b"x", type=tarfile.REGTYPE)]))
    assert [*sentences(got)] == ["a"] and [r for _, r in rejects(got)] == ["bad_row"] * 3 and all(details(got).values())


def test_votes_that_are_no_numbers_cost_their_row_and_are_no_default(tmp_path):
    votes = ["2", "0", "", " 3", "1\r", "4.0", "x", "-1", "1.5", "²", "99999999999", "1,5", "NaN", "2 votes", "٣"]
    rows = [row(f"c{i}", up_votes=v) for i, v in enumerate(votes)]
    got = read(tree(tmp_path, rows, clips_of(*(f"c{i}" for i in range(len(votes))))))
    assert got.rows["up_votes"].to_pylist() == [2, 0, None, 3, 1, 4]
    assert rejects(got) == [(f"c{i}", "bad_row") for i in range(6, 15)]
    assert details(got)["c6"] == "up_votes must be a whole number from 0 on, such as 2, got 'x' (train.tsv:8)"
    assert all(f"(train.tsv:{i + 2})" in details(got)[f"c{i}"] for i in range(6, 15))


def test_a_good_row_of_a_clip_is_used_though_a_bad_one_stands_before_it(tmp_path):
    got = read(tree(tmp_path, [row("a", down_votes="none"), row("a", "Ciao."), row("b"), row("c")]))
    assert sentences(got)["a"] == "Ciao." and rejects(got) == [("a", "bad_row")]


# ---- parts of recordings

TIMES = {
    "offset and duration": (("offset", "duration"), [("0.5", "1"), ("2", "1.5")]),
    "start and end": (("start", "end"), [("0.5", "1.5"), ("2.0", "3.5")]),
    "milliseconds": (("start_ms", "duration_ms"), [("500", "1000"), ("2000", "1500")]),
    "begin and end": (("begin_time", "end_time"), [(" .5", "1.5"), ("2e0", "3.5")]),
}


@pytest.mark.parametrize("names,values", TIMES.values(), ids=TIMES.keys())
def test_a_part_of_a_recording_is_used_as_one(names, values, tmp_path):
    rows = [row("a", f"Frase {i}.", **dict(zip(names, v))) for i, v in enumerate(values)]
    got = read(
        tree(tmp_path, [*rows, rows[0], row("b", **{names[0]: "x"})], clips_of("a", "b"), columns=[*MID, *names])
    )
    assert [(r["id"], r["start"], r["seconds"]) for r in got.rows.to_pylist()] == [
        ("a_500-1500", 0.5, 1.0),
        ("a_2000-3500", 2.0, 1.5),
    ]
    assert rejects(got) == [("a_500-1500", "duplicate_row"), ("b", "bad_row")] and "(train.tsv:5)" in details(got)["b"]


def test_a_recording_that_is_used_once_keeps_its_name(tmp_path):
    got = read(
        tree(
            tmp_path,
            [row("a", offset="1", duration="2"), row("b")],
            clips_of("a", "b"),
            columns=[*MID, "offset", "duration"],
        )
    )
    assert [(r["id"], r["start"], r["seconds"]) for r in got.rows.to_pylist()] == [("a", 1., 2.), ("b", None, None)]


def test_a_row_without_a_locale_has_the_language_of_its_folder(tmp_path):
    tree(tmp_path, [row("a", locale="it"), row("b"), row("c", locale="it-CH")])
    assert read(tmp_path).rows["locale"].to_pylist() == ["it", "it", "it-CH"]


def test_transcripts_of_one_split_may_have_different_columns(tmp_path):
    put_tsv(tmp_path/"transcript/it/train/0.tsv", [row("a", locale="it", accent="Veneto", up_votes="2")], OLD)
    put_tsv(tmp_path/"transcript/it/train/1.tsv", [row("b")], ["path", "sentence"])
    put_tar(tmp_path/"audio/it/train/0.tar", clips_of("a", "b"))
    got = read(tmp_path)
    assert got.rows["locale"].to_pylist() == ["it", "it"] and got.rows["up_votes"].to_pylist() == [2, None]
    assert [*sentences(got)] == ["a", "b"] and len(got.rejects) == 0


# ---- the tree

@pytest.mark.parametrize("name", ["validation", "validate", "valid", "dev", "val", "Dev"])
@pytest.mark.parametrize("audio", ["dev", "validate"])
def test_the_middle_split_is_found_under_every_name(name, audio, tmp_path):
    put_tsv(tmp_path/f"transcript/it/{name}.tsv", [row("a")])
    put_tar(tmp_path/f"audio/it/{audio}/it_{audio}_0.tar", clips_of("a"))
    for asked in ("validation", "validate", "dev"):
        got = read(tmp_path, train=asked)
        assert audio_of(got) == {"a": b"audio of a"} and got.rows["source_split"].to_pylist() == ["validation"]


@pytest.mark.parametrize("layout", ["file", "folder", "folder of several"])
def test_a_split_may_be_a_file_or_a_folder(layout, tmp_path):
    folder = tmp_path/"transcript/it"
    if layout == "file": put_tsv(folder/"train.tsv", [row(n) for n in "abcd"])
    elif layout == "folder": put_tsv(folder/"train/whatever.tsv", [row(n) for n in "abcd"])
    else:
        put_tsv(folder/"train/part_0.tsv", [row("a"), row("b")])
        put_tsv(folder/"train/part_1.tsv", [row("c"), row("b"), row("d")])
        (folder/"train/README.md").write_text("not a transcript")
    put_tar(tmp_path/"audio/it/train/it_train_0.tar", clips_of(*"abcd"))
    got = read(tmp_path)
    assert [*audio_of(got)] == [*"abcd"]
    assert rejects(got) == ([("b", "duplicate_row")] if layout == "folder of several" else [])


def test_hidden_files_are_no_splits_and_no_tars(tmp_path):
    tree(tmp_path)
    for p in (
        "transcript/it/._train.tsv",
        "transcript/it/.DS_Store",
        "audio/it/train/._it_train_0.tar",
        "audio/it/.DS_Store",
    ):
        (tmp_path/p).write_bytes(b"\0\5\x16\7")
    assert [*transcripts(tmp_path, "it")] == ["train"] and len(read(tmp_path).rows) == 3


def test_a_split_under_two_names_is_refused(tmp_path):
    tree(tmp_path, split="dev")
    put_tsv(tmp_path/"transcript/it/validation.tsv", [])
    with pytest.raises(ValueError, match="holds the split validation twice"): read(tmp_path, train="dev")


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    tree(tmp_path)
    tree(tmp_path, split="dev")
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"no transcript of split test in .*it: it has train, validation; train_splits and eval_splits say which"
            r" are read"
        ),
    ):
        read(tmp_path, evaluation="test")


def test_each_split_is_joined_to_its_own_tars(tmp_path):
    tree(tmp_path, [row("a")], clips_of("a", "z"))
    tree(tmp_path, [row("b"), row("z")], clips_of("b"), split="dev")
    tree(tmp_path, [row("c")], clips_of("c"), split="test")
    got = read(tmp_path, "train+dev", "test")
    assert list(zip(*(got.rows[c].to_pylist() for c in ("id", "split", "source_split")))) == [
        ("a", "train", "train"),
        ("b", "train", "validation"),
        ("c", "eval", "test"),
    ]
    assert list(zip(*(got.rejects[c].to_pylist() for c in ("id", "reason", "source_split")))) == [
        ("z", "no_row", "train"),
        ("z", "missing_audio", "validation"),
    ]
    assert audio_of(got) == {n: f"audio of {n}".encode() for n in "abc"}


@pytest.mark.parametrize(
    "folder,asked",
    [
        ("it", "it"),
        ("it", "it-IT"),
        ("it", "IT"),
        ("it", "it_IT"),
        ("sv-SE", "sv"),
        ("sv-SE", "sv-SE"),
        ("sv-SE", "sv_se"),
        ("zh-CN", "zh_CN"),
        ("pt", "pt-BR"),
    ],
)
def test_a_language_is_found_however_it_is_written(folder, asked, tmp_path):
    for name in (folder, "cy"): (tmp_path/"transcript"/name).mkdir(parents=True)
    assert language_folder(tmp_path, asked) == folder


@pytest.mark.parametrize("asked", ["zh", "fr", "zh-HK"])
def test_a_language_that_is_not_there_or_stands_for_two_is_told_what_is(asked, tmp_path):
    for name in ("zh-CN", "zh-TW", "it"): (tmp_path/"transcript"/name).mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=f"no language {asked} in .*: set language_code to one of it, zh-CN, zh-TW$"
    ):
        language_folder(tmp_path, asked)


def test_tars_are_taken_in_the_order_of_their_numbers(tmp_path):
    put_tsv(tmp_path/"transcript/it/train.tsv", [row(f"c{i}") for i in range(12)] + [row("twice")])
    for i in reversed(range(12)):
        put_tar(
            tmp_path / f"audio/it/train/it_train_{i}.tar",
            [(f"it_train_{i}/c{i}.mp3", b"%d" % i)] + [("twice.mp3", b"from %d" % i)] * (i in (2, 10)),
        )
    assert [p.name for p in tars(tmp_path, "it")["train"]] == [f"it_train_{i}.tar" for i in range(12)]
    got = read(tmp_path)
    assert audio_of(got) == {**{f"c{i}": b"%d" % i for i in range(12)}, "twice": b"from 2"}
    assert rejects(got) == [("twice", "duplicate_audio")] and "it_train_10.tar" in details(got)["twice"]


SHARDS = {
    "as promised": ('{"it": {"train": 2}}', 0),
    "one missing": ('{"it": {"train": 3}}', 1),
    "more than promised": ('{"it": {"train": 1}}', 0),
    "another language": ('{"en": {"train": 9}}', 0),
    "not JSON": ("{", 0),
    "a list": ("[3]", 0),
    "null": ('{"it": null}', 0),
    "text": ('{"it": {"train": "3"}}', 0),
    "empty": ("", 0),
}


@pytest.mark.parametrize("content,short", SHARDS.values(), ids=SHARDS.keys())
def test_a_short_download_is_said_and_a_bad_promise_ignored(content, short, tmp_path, caplog):
    put_tsv(tmp_path/"transcript/it/train.tsv", [row(n) for n in "abc"])
    for i, n in enumerate("ab"): put_tar(tmp_path/f"audio/it/train/it_train_{i}.tar", clips_of(n))
    (tmp_path/"n_shards.json").write_text(content)
    with caplog.at_level(logging.WARNING): got = read(tmp_path)
    said = ["2 of 3 tars of it train are there: the download is not complete"] * short
    assert got.source["notes"] == said and [r.message for r in caplog.records] == said
    assert [*audio_of(got)] == ["a", "b"] and rejects(got) == [("c", "missing_audio")]


def test_a_split_whose_tars_are_all_missing_is_said(tmp_path):
    tree(tmp_path, split="dev")
    shutil.rmtree(tmp_path/"audio")
    (tmp_path/"n_shards.json").write_text('{"it": {"dev": 1}}')
    got = read(tmp_path, train="validation")
    assert got.source["notes"] == ["0 of 1 tars of it validation are there: the download is not complete"]
    assert rejects(got) == [(n, "missing_audio") for n in "abc"]


# ---- the join

def test_first_places_of_an_example_with_repeats_and_strangers():
    assert first_places(pa.array(["c", "a", "x", "a"]), pa.array(["a", "b", "a", "c"])).tolist() == [3, 0, -1, 0]


names = st.lists(st.text("abc\0é ", max_size=2), max_size=30)


@settings(deadline=None, max_examples=150)
@given(names, names)
def test_first_places_are_those_of_a_plain_loop(wanted, among):
    loop = [among.index(n) if n in among else -1 for n in wanted]
    assert first_places(pa.array(wanted, pa.string()), pa.array(among, pa.string())).tolist() == loop


IDS = ["a", "b", "c", "d", "common_voice_it_1", "common_voice_it_10", "clip 6", "è", "NA", "7"]
SHAPES = ["{}", "{}.mp3", "it_train_0/{}.mp3", "{}.MP3", "x/y/{}.mp3"]


@st.composite
def splits(draw):
    "Rows (name, how it is written, sentence), broken lines among them, and clips over some tars, good and unsafe."
    ids, shapes = st.sampled_from(IDS), st.sampled_from(SHAPES)
    sentence = st.text(st.characters(exclude_characters="\t\n\r", codec="utf-8"), max_size=12)
    good = st.tuples(ids | st.just(""), shapes, sentence)
    rows = draw(st.lists(good | st.sampled_from([b"one field", b"\xff\t\xff", b"\t" * 40]), max_size=14))
    clip = st.tuples(ids, st.sampled_from(SHAPES[1:]), st.binary(max_size=700))
    archives = draw(st.lists(st.lists(clip, max_size=8), max_size=4))
    return (
        rows,
        archives,
        draw(st.lists(ids, max_size=3, unique=True)),
        draw(st.permutations(draw(st.sampled_from([OLD, MID, NEW])))),
    )


def without_halves(rows, columns):
    "Rows as they are, but for those whose sentence may continue in the line below or have begun above."
    out, orphan = [], False
    for r, below in zip(rows, [*rows[1:], None]):
        half = (
            columns[-1] == "sentence"
            and below == b"one field"
            or orphan
            and columns.index("sentence") < columns.index("path")
        )
        out.append(b"half a row" if half and not isinstance(r, bytes) else r)
        orphan = r == b"one field" or orphan and isinstance(r, bytes)
    return out


def expected(rows, archives, unsafe):
    "What the reader promises, one row and one clip after another."
    kept = []
    rejected = Counter()
    first = {}
    seen = set()
    for name, _, data in (c for clips in archives for c in clips):
        if name in first: rejected[name, "duplicate_audio"] += 1
        else: first[name] = data
    for n, r in enumerate(rows, 2):
        if isinstance(r, bytes): rejected[f"train.tsv:{n}", "bad_row"] += 1
        elif not r[0]: rejected["", "bad_row"] += 1
        elif r[0] in seen: rejected[r[0], "duplicate_row"] += 1
        elif r[0] in first: kept.append((r[0], r[2], first[r[0]]))
        else: rejected[r[0], "unsafe_path" if r[0] in unsafe else "missing_audio"] += 1
        if not isinstance(r, bytes): seen.add(r[0])
    of_rows = rejected.total() - sum(n for (_, why), n in rejected.items() if why == "duplicate_audio")
    for name in first.keys() - seen: rejected[name, "no_row"] += 1
    for name in set(unsafe) - (seen - first.keys()): rejected[name, "unsafe_path"] += 1     # a row that found no clip has told of it
    assert len(kept) + of_rows == len(rows)
    return kept, rejected, rejected.total() - of_rows


def written(root, rows, archives, unsafe, columns):
    "Put a split on disk; names that hold nothing are written as they are."
    lines = [
        (
            r
            if isinstance(r, bytes)
            else line(columns, path=r[1].format(r[0]) if r[0] else "", sentence=r[2], client_id="s", segment="x")
        )
        for r in rows
    ]
    put_tsv(root/"transcript/it/train.tsv", lines, columns)
    for i, clips in enumerate(archives):
        put_tar(
            root / f"audio/it/train/it_train_{i}.tar",
            [(shape.format(name), data) for name, shape, data in clips],
            (GNU, PAX)[i % 2],
        )
    if unsafe: put_tar(root/"audio/it/train/it_train_999.tar", [(f"../{n}.mp3", b"evil") for n in unsafe])
    return root


@settings(deadline=None, max_examples=120)
@given(splits())
@example(([("a", "{}", "x")], [[("a", "{}.mp3", b"1")]], ["a"], MID))
def test_every_row_and_every_clip_is_kept_right_or_on_record_once(split):
    rows, archives, unsafe, columns = split
    kept, rejected, strays = expected(without_halves(rows, columns), archives, unsafe)
    with tempfile.TemporaryDirectory() as d:
        got = read(written(Path(d), *split))
        audio, text = audio_of(got), sentences(got)
        close_files()
    assert [(n, text[n], audio[n]) for n in got.rows["id"].to_pylist()] == kept
    assert Counter(rejects(got)) == rejected and {r for _, r in rejected} <= REASONS.keys()
    assert len(got.rows) + len(got.rejects) == len(rows) + strays


@settings(deadline=None, max_examples=40)
@given(splits(), st.randoms())
def test_the_order_of_members_in_a_tar_changes_nothing_but_their_places(split, random):
    rows, archives, unsafe, columns = split
    archives = [[*{c[0]: c for c in clips}.values()] for clips in archives]
    mixed = [random.sample(clips, len(clips)) for clips in archives]
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        one, other = (read(written(Path(d), rows, x, unsafe, columns)) for d, x in ((a, archives), (b, mixed)))
        assert audio_of(one) == audio_of(other) and sentences(one) == sentences(other)
        assert Counter(rejects(one)) == Counter(rejects(other))
        close_files()


def test_an_unsafe_member_is_on_record_though_a_safe_one_has_its_name(tmp_path):
    got = read(tree(tmp_path, [row("a")], [("a.mp3", b"good"), ("../a.mp3", b"evil")]))
    assert audio_of(got) == {"a": b"good"} and rejects(got) == [("a", "unsafe_path")]


# ---- tars

def test_no_tar_is_extracted_and_nothing_is_written(tmp_path, monkeypatch):
    root, elsewhere = tree(tmp_path/"corpus"), tmp_path/"elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.chdir(elsewhere)
    state = lambda: {
        str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in sorted(tmp_path.rglob("*"))
    }
    before = state()
    assert len(audio_of(read(root))) == 3 and inspect_commonvoice(root)["it"]["train"]["rows"] == 3
    assert state() == before


LONG = "it_train_0/" + "/".join(["una cartella dal nome lungo"] * 4) + "/"


@pytest.mark.parametrize("fmt", [GNU, PAX, USTAR], ids=["gnu", "pax", "ustar"])
def test_clips_with_long_names_are_read_in_every_kind_of_tar(fmt, tmp_path):
    long = "x" * (90 if fmt == USTAR else 300)
    clips = [
        (f"{LONG}{long}.mp3", b"1" * 513),
        ("città.mp3", b"2"),
        (f"{LONG}short.mp3", b""),
        (f"{LONG}{long}2.mp3", b"3" * 512),
    ]
    wanted = [long, "città", "short", long + "2"]
    put_tsv(tmp_path/"transcript/it/train.tsv", [row(n) for n in wanted])
    put_tar(tmp_path/"audio/it/train/0.tar", clips, fmt)
    got = read(tmp_path)
    assert audio_of(got) == dict(zip(wanted, (d for _, d in clips))) and len(got.rejects) == 0


@pytest.mark.parametrize("fmt", [GNU, PAX, USTAR], ids=["gnu", "pax", "ustar"])
def test_a_tar_is_indexed_as_tarfile_lists_it(fmt, tmp_path):
    names = [
        "a.mp3",
        "b" * 96 + ".mp3",
        f"{'c' * 60}/{'c' * 97}",
        "città.mp3",
        f"{LONG}d.mp3",
        "e.mp3",
        "no audio",
        "f.MP3",
    ]
    put_tar(
        tmp_path / "0.tar",
        [
            member("folder", type=tarfile.DIRTYPE),
            *((n, b"x" * (i * 300)) for i, n in enumerate(names)),
            member("g.mp3", b"old", type=tarfile.AREGTYPE),
        ],
        fmt,
    )
    index = index_tar(tmp_path/"0.tar")
    with tarfile.open(tmp_path/"0.tar") as tar:
        want = [
            (clip_id(m.name), m.offset_data, m.size, clip_id(m.name) != m.name.rpartition("/")[2])
            for m in tar
            if m.isfile()
        ]
    assert [
        *zip(
            index.names.to_pylist(),
            index.offsets.tolist(),
            index.sizes.tolist(),
            [e != "" for e in index.endings.to_pylist()],
        )
    ] == want
    assert len(want) == len(names) + 1 and not index.unsafe and not index.broken


def test_attributes_of_pax_tars_and_folders_are_no_clips(tmp_path):
    glob = tarfile.TarInfo.create_pax_global_header({"comment": "made by git"})
    folder, _ = member("it_train_0", type=tarfile.DIRTYPE)
    a, data = member(
        "it_train_0/a.mp3",
        b"audio",
        mtime=1.25,
        pax_headers={"LIBARCHIVE.creationtime": "17", "SCHILY.xattr.user.x": "ü"},
    )
    put_tsv(tmp_path/"transcript/it/train.tsv", [row("a")])
    put_tar(tmp_path/"audio/it/train/0.tar", [])
    (tmp_path / "audio/it/train/0.tar").write_bytes(
        glob + folder.tobuf(PAX) + a.tobuf(PAX) + data.ljust(512, b"\0") + bytes(1024)
    )
    got = read(tmp_path)
    assert audio_of(got) == {"a": b"audio"} and len(got.rejects) == 0


def test_what_systems_leave_in_tars_is_not_mistaken_for_clips(tmp_path):
    litter = [
        ("__MACOSX/it_train_0/._a.mp3", b"\0\5\x16\7"),
        ("it_train_0/.DS_Store", b"x"),
        ("it_train_0/README", b"x"),
        ("LICENSE.txt", b"x"),
        ("it_train_0/a.txt", b"x"),
        ("it_train_0/a.json", b"x"),
        ("n_shards.json", b"{}"),
    ]
    got = read(tree(tmp_path, clips=[*litter, *clips_of(*"abc")]))
    assert audio_of(got) == {n: f"audio of {n}".encode() for n in "abc"}
    assert rejects(got) == [("._a", "no_row")]


UNSAFE = {
    "leaves": member("../a.mp3", b"x"),
    "leaves deep": member("it/../../a.mp3", b"x"),
    "leaves, backslash": member("..\\a.mp3", b"x"),
    "absolute": member("/etc/a.mp3", b"x"),
    "drive": member("C:\\a.mp3", b"x"),
    "drive, slash": member("c:/a.mp3", b"x"),
    "share": member("\\\\host\\a.mp3", b"x"),
    "symlink": member("a.mp3", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "symlink inside": member("a.mp3", type=tarfile.SYMTYPE, linkname="b.mp3"),
    "hardlink": member("a.mp3", type=tarfile.LNKTYPE, linkname="b.mp3"),
    "character device": member("a.mp3", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("a.mp3", type=tarfile.BLKTYPE, devmajor=8),
    "fifo": member("a.mp3", type=tarfile.FIFOTYPE),
    "sparse": member("a.mp3", b"", type=tarfile.GNUTYPE_SPARSE),
    "unknown kind": member("a.mp3", type=b"V"),
    "long and leaves": member("x/" * 80 + "../a.mp3", b"x"),
}


@pytest.mark.parametrize("bad", UNSAFE.values(), ids=UNSAFE.keys())
@pytest.mark.parametrize("named", [True, False], ids=["row names it", "no row"])
@pytest.mark.parametrize("fmt", [GNU, PAX], ids=["gnu", "pax"])
def test_a_member_that_could_reach_outside_is_refused_and_said(bad, named, fmt, tmp_path):
    put_tsv(tmp_path/"transcript/it/train.tsv", [row("a")] * named + [row("b")])
    put_tar(tmp_path/"audio/it/train/0.tar", [("it/c.mp3", b"other"), bad, ("it/b.mp3", b"good")], fmt)
    got = read(tmp_path)
    assert audio_of(got) == {"b": b"good"}
    assert Counter(rejects(got)) == Counter([("a", "unsafe_path"), ("c", "no_row")]) and details(got)["a"]


@pytest.mark.parametrize(
    "name", ["./it/a.mp3", "a..b/a.mp3", "it/...x/a.mp3", "it/./a.mp3", "it//a.mp3", "~/a.mp3", "$HOME/a.mp3"]
)
def test_a_harmless_name_is_not_refused(name, tmp_path):
    assert audio_of(read(tree(tmp_path, [row("a")], [(name, b"good")]))) == {"a": b"good"}


@pytest.mark.parametrize("path", ["../../a.mp3", "/etc/a.mp3", "..\\a.mp3"])
def test_a_path_in_a_transcript_reaches_nothing_but_the_clip_of_its_name(path, tmp_path):
    rows = [row("a"), row("b")]
    rows[0]["path"] = path
    assert audio_of(read(tree(tmp_path, rows, clips_of("a", "b")))) == {n: f"audio of {n}".encode() for n in "ab"}


@pytest.mark.parametrize("fmt", [GNU, USTAR], ids=["gnu", "ustar"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE], ids=["clip", "link"])
def test_a_member_whose_name_is_no_utf8_ends_nothing(fmt, kind, tmp_path):
    odd = member(b"it/caff\xe8.mp3".decode("utf-8", "surrogateescape"), b"x" * (kind == tarfile.REGTYPE), type=kind)
    tree(tmp_path)
    put_tar(tmp_path/"audio/it/train/it_train_0.tar", [odd, *clips_of(*"abc")], fmt)
    got = read(tmp_path)
    assert [*audio_of(got)] == [*"abc"] and [r for _, r in rejects(got)] == [
        "no_row" if kind == tarfile.REGTYPE else "unsafe_path"
    ]


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "a page": lambda b: b"<!DOCTYPE html>" * 100,
    "a pointer": lambda b: b"version https://git-lfs",
    "nothing": lambda b: b"",
    "one block": lambda b: b[:511],
    "a zip": lambda b: b"PK\3\4" + bytes(2000),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_a_file_that_is_no_plain_tar_is_refused_by_name(pack, tmp_path):
    path = tree(tmp_path)/"audio/it/train/it_train_0.tar"
    path.write_bytes(pack(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"it_train_0\.tar must be a plain tar, not compressed and not cut at its start"
    ) as e:
        read(tmp_path)
    assert "\n" not in str(e.value)


def test_a_tar_of_nothing_is_a_tar(tmp_path):
    got = read(tree(tmp_path, clips=[]))
    assert rejects(got) == [(n, "missing_audio") for n in "abc"]


# ---- tars that are cut or damaged

CUT_SIZES = {"a": 700, "b": 0, "c": 512, "long " + "n" * 80: 1300, "d": 1, "e": 513}
CUT_DATA = {n: (n[:1].encode() or b"?") * s for n, s in CUT_SIZES.items()}


def whole_tar(fmt):
    "A tar, and for each clip its name, first byte of its header, of its data, and of what follows."
    blob, places = b"", []
    for n, data in CUT_DATA.items():
        name = f"{LONG if n.startswith('long') else 'it_train_0/'}{n}.mp3"
        head = member(name, data)[0].tobuf(fmt)
        places.append((n, len(blob), len(blob) + len(head), len(blob) + len(head) + len(data)))
        blob += head + data + b"\0" * (-len(data) % 512)
    return blob + bytes(1024), places


WHOLE = {fmt: whole_tar(fmt) for fmt in (GNU, PAX, USTAR)}
CUTS = [
    (fmt, cut)
    for fmt, (blob, _) in WHOLE.items()
    for at in range(0, len(blob) + 1, 512)
    for cut in (at - 1, at, at + 1)
    if 0 <= cut <= len(blob)
]


def check_cut(fmt, cut):
    "Read a tree whose tar was cut, and hold every row to its promise."
    blob, places = WHOLE[fmt]
    with tempfile.TemporaryDirectory() as d:
        root = Path(d)
        put_tsv(root/"transcript/it/train.tsv", [row(n) for n in CUT_DATA])
        path = put_tar(root/"audio/it/train/it_train_0.tar", [])
        path.write_bytes(blob[:cut])
        try: got = read(root)
        except ValueError as e:
            assert "it_train_0.tar" in str(e) and "\n" not in str(e) and cut < places[0][2]
            return
        audio = audio_of(got)
        close_files()
    whole = [n for n, _, start, end in places if max(start, end) <= cut]
    assert audio == {n: CUT_DATA[n] for n in whole}
    assert rejects(got) == [(n, "missing_audio") for n in CUT_DATA if n not in whole]
    between = cut in {start for _, start, _, _ in places}      # ends with a member, as a good tar may
    assert all(("it_train_0.tar" in why) != between for why in details(got).values())


@settings(deadline=None, max_examples=80)
@given(st.sampled_from([GNU, PAX, USTAR]), st.data())
def test_a_tar_cut_at_any_byte_gives_each_clip_whole_or_on_record(fmt, data):
    check_cut(fmt, data.draw(st.integers(0, len(WHOLE[fmt][0]))))


def test_a_tar_cut_at_or_beside_any_block_gives_each_clip_whole_or_on_record():
    for fmt, cut in CUTS: check_cut(fmt, cut)


def damaged(tmp_path, change, n=6):
    "A tree of six clips whose tar was changed in place."
    wanted = [f"c{i}" for i in range(n)]
    path = tree(tmp_path, [row(w) for w in wanted], clips_of(*wanted))/"audio/it/train/it_train_0.tar"
    blob = bytearray(path.read_bytes())
    change(blob)
    path.write_bytes(blob)
    return read(tmp_path)


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"A"], ids=["ones", "zeros", "letters"])
def test_a_damaged_header_in_the_middle_is_said_where_rows_lose_their_clips(fill, tmp_path):
    def change(blob): blob[3 * 1024:3 * 1024 + 512] = fill * 512
    got = damaged(tmp_path, change)
    assert audio_of(got) == {f"c{i}": f"audio of c{i}".encode() for i in range(3)}
    assert rejects(got) == [(f"c{i}", "missing_audio") for i in range(3, 6)]
    assert all(
        re.search(r"it_train_0\.tar is damaged at byte 3072 of \d+", d) for d in details(got).values()
    ), details(got)


def checksum(head):
    "Give a header the checksum of what it says now."
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)


def with_size(size):
    "A change that has the third clip claim another size."
    def change(blob):
        head = blob[2048:2560]
        head[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
        checksum(head)
        blob[2048:2560] = head
    return change


@pytest.mark.parametrize("size", [-1, -512, -513, -1024, -1536, -2048, -2560, -10**6, -2**80], ids=str)
def test_a_member_of_negative_size_is_no_clip_and_no_endless_loop(size, tmp_path):
    with within(5):
        try: got = damaged(tmp_path, with_size(size))
        except ValueError as e: assert "it_train_0.tar" in str(e)
        else:
            audio = audio_of(got)
            assert {"c0", "c1"} <= audio.keys() and audio == {n: f"audio of {n}".encode() for n in audio}
            assert len(got.rows) + sum(r == "missing_audio" for _, r in rejects(got)) == 6


@pytest.mark.parametrize("size", [10**6, 2**40, 2**62, 2**63, 2**64, 2**80], ids=str)
def test_a_member_that_claims_more_than_the_tar_holds_is_no_clip(size, tmp_path):
    with within(5):
        try: got = damaged(tmp_path, with_size(size))
        except ValueError as e: assert "it_train_0.tar" in str(e)
        else:
            assert audio_of(got) == {n: f"audio of {n}".encode() for n in ("c0", "c1")}
            assert len(got.rejects) == 4 and all("it_train_0.tar" in d for d in details(got).values())


@settings(deadline=None, max_examples=250)
@given(
    fmt=st.sampled_from([GNU, PAX, USTAR]),
    block=st.integers(0, 23),
    at=st.integers(0, 511),
    new=st.binary(min_size=1, max_size=24),
    valid=st.booleans(),
)
@example(fmt=PAX, block=5, at=0, new=b"\xff" * 24, valid=False)
def test_a_tar_damaged_anywhere_is_indexed_within_its_bytes_or_refused_by_name(fmt, block, at, new, valid):
    blob = bytearray(WHOLE[fmt][0])
    block = block * 512 % len(blob)
    head = bytearray((blob[block:block + 512][:at] + new + blob[block:block + 512][at + len(new):])[:512])
    if valid: checksum(head)
    blob[block:block + 512] = head
    with tempfile.TemporaryDirectory() as d, within(5):
        path = Path(d)/"it_train_0.tar"
        path.write_bytes(blob)
        try: index = index_tar(path)
        except ValueError as e:
            assert "it_train_0.tar" in str(e) and "\n" not in str(e)
            return
    assert len(index.names) == len(index.offsets) == len(index.sizes) == len(index.endings)
    assert all(0 <= o and 0 <= s and o + s <= len(blob) for o, s in zip(index.offsets, index.sizes))
    for text in (*index.names.to_pylist(), *(t for pair in index.unsafe for t in pair), index.broken): text.encode()


# ---- durations, identity, a look

def test_durations_that_a_corpus_gives_are_taken(tmp_path):
    tree(tmp_path, [row(n) for n in "abcd"], clips_of(*"abcd"))
    put_tsv(
        tmp_path / "transcript/it/clip_durations.tsv",
        ["a.mp3\t1500", "c\t2250.5", "d.mp3\tlong", "z.mp3\t9"],
        ["clip", "duration[ms]"],
    )
    assert read(tmp_path).rows["seconds"].to_pylist() == [1.5, None, 2.2505, None]
    assert [*transcripts(tmp_path, "it")] == ["train"]


@pytest.mark.parametrize("name", ["duration[ms]", "duration_ms"])
def test_a_column_of_durations_is_taken(name, tmp_path):
    tree(tmp_path, [row("a", **{name: "1500"}), row("b", **{name: ""}), row("c", **{name: "x"})], columns=[*MID, name])
    got = read(tmp_path)
    assert got.rows["seconds"].to_pylist() == [1.5, None] and rejects(got) == [("c", "bad_row")]
    assert (
        details(got)["c"].startswith(f"{name} must be a number of milliseconds")
        and "got 'x' (train.tsv:4)" in details(got)["c"]
    )


@pytest.mark.parametrize("value,seconds", [("0", None), (" ", None), ("1e3", 1.), ("+250", .25), ("1500.5", 1.5005)])
def test_a_duration_may_be_written_in_many_ways_and_0_is_none(value, seconds, tmp_path):
    tree(tmp_path, [row("a", **{"duration[ms]": value})], clips_of("a"), columns=[*MID, "duration[ms]"])
    assert read(tmp_path).rows["seconds"].to_pylist() == [seconds]


@pytest.mark.parametrize("value", ["-1", "1,5", "nan", "inf", "1:30", "1e99"])
def test_a_duration_that_is_none_costs_its_row(value, tmp_path):
    tree(tmp_path, [row("a", **{"duration[ms]": value}), row("b")], clips_of("a", "b"), columns=[*MID, "duration[ms]"])
    assert rejects(read(tmp_path)) == [("a", "bad_row")]


def test_no_durations_are_no_durations(tmp_path):
    assert read(tree(tmp_path)).rows["seconds"].null_count == 3


def test_a_source_is_the_same_after_a_move_and_another_after_a_change(tmp_path):
    root = tree(tmp_path/"one")
    now = lambda root: read(root).source["identity"]
    first = now(root)
    shutil.copytree(root, tmp_path/"two")
    assert now(tmp_path/"two") == first == now(root)
    tsv = root/"transcript/it/train.tsv"
    tsv.write_bytes(tsv.read_bytes().replace(b"treno", b"trenO"))
    assert now(root) != first
    put_tar(tmp_path/"two/audio/it/train/it_train_0.tar", clips_of(*"abcd"))
    assert now(tmp_path/"two") != first


@settings(deadline=None, max_examples=25)
@given(splits())
def test_a_look_counts_what_a_reading_gives(split):
    with tempfile.TemporaryDirectory() as d:
        root = written(Path(d), *split)
        look, got = inspect_commonvoice(root)["it"]["train"], read(root)
    assert look["rows"] == look["usable"] + sum(look["rejects"].values()) == len(got.rows) + len(got.rejects)
    assert look["usable"] == len(got.rows) and look["rejects"] == Counter(r for _, r in rejects(got))
    assert look["bytes"] == sum(got.rows["size"].to_pylist()) and look["tars"] == len(split[1]) + bool(split[2])


def test_a_look_shows_every_language_and_split(tmp_path):
    tree(tmp_path)
    tree(tmp_path, split="dev")
    put_tsv(tmp_path/"transcript/cy/test.tsv", [row("a")])
    look = inspect_commonvoice(tmp_path)
    assert {lang: [*found] for lang, found in look.items()} == {"cy": ["test"], "it": ["train", "validation"]}
    assert look["cy"]["test"]["usable"] == 0 and look["cy"]["test"]["rejects"] == {"missing_audio": 1}
    assert [*inspect_commonvoice(tmp_path, "it-IT")] == ["it"] and look["it"]["train"]["columns"] == MID


# ---- the door

def test_a_tree_is_known_by_its_transcript_folder(tmp_path):
    got = load_rows(PrepConfig(str(tree(tmp_path)), "it", train_splits="train", eval_splits=""))
    assert (
        len(got.rows) == 3
        and got.source["kind"] == source_kind(tmp_path) == inspect_corpus(str(tmp_path))["kind"] == "commonvoice"
    )


def test_a_place_that_holds_no_corpus_is_told_what_it_should_hold(tmp_path):
    with pytest.raises(FileNotFoundError, match="no corpus at .*gone: dataset_name names a folder"):
        source_kind(tmp_path/"gone")
    with pytest.raises(FileNotFoundError, match="holds nothing$"): source_kind(tmp_path)
    (tmp_path/"clips").mkdir()
    with pytest.raises(FileNotFoundError, match="is no corpus: .* and holds clips$"): source_kind(tmp_path)
    (tmp_path/"a.tar").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="holds a file$"): source_kind(tmp_path/"a.tar")
