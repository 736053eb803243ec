"""Whatever stands in a corpus: kept is what its rows say, all else is on record, and nothing outside is touched.

What is drawn is written and judged by `corpora`, without the package. By hand for longer: HYPOTHESIS_PROFILE=search TIMES_MORE=100 pytest tests/test_fuzz.py"""
import gzip, io, json, os, posixpath, resource, signal, subprocess, sys, tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from audio_ft_prep import PrepConfig
from audio_ft_prep.audio import read_clip
from audio_ft_prep.example import example_maker
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.rows import close_files
from audio_ft_prep.rejects import BadClip
from audio_ft_prep.sampling import fetch_audio, select
from audio_ft_prep.whisper import language_tokenizer
from conftest import COMMAND, flags, sentence
from corpora import (
    LAYOUTS, SECRET_HZ, Corpus, Outcome, Recording, Row, audio_meant, cleaned, corpora, judge, lay_extras, meaning,
    member, put, samples_of, sounds_like, state, stem, tones, track
)

TIMES_MORE = float(os.environ.get("TIMES_MORE", "1"))  # for a long run by hand, with HYPOTHESIS_PROFILE=search
MOST_MEMORY = 4 << 30  # bytes that a damaged file may ask for beside what the process has
PATIENCE_S = 120  # for what takes some hundredths of a second
EXPECTED = (ValueError, FileNotFoundError, RuntimeError, OSError)


def often(n):
    return settings(
        max_examples=max(1, round(n * TIMES_MORE)),
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.data_too_large,
        ],
    )


@contextmanager
def in_time():
    "Fail where something waits for ever."
    def late(*_): raise AssertionError(f"no end after {PATIENCE_S} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "A cache of these tests' own, and one thread."
    import torch
    place, threads = tmp_path_factory.mktemp("cache"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIO_FT_PREP_CACHE", str(place))
        torch.set_num_threads(1)
        yield place
        torch.set_num_threads(threads)


@contextmanager
def world():
    "A folder for a corpus, one outside it with a recording that nobody may read; what is in them stays as it is."
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "corpus").mkdir()
        put(place / "outside/secret.wav", tones(((SECRET_HZ, 0.5),), "wav"))
        yield place
    close_files()


def outcome_of(place, asked=("train",), evaluation="", **more):
    "What the package makes of a corpus."
    cfg = PrepConfig(
        str(place),
        "it",
        storage="audio",
        num_workers=1,
        output_dir="unused",
        train_splits="+".join(asked),
        eval_splits=evaluation,
        **more
    )
    model = load_model(cfg.model_id)
    tokenizer, make, out = language_tokenizer(model, "it"), example_maker(cfg, model), Outcome()
    try: chosen = fetch_audio(load_rows(cfg), lambda corpus: select(corpus, cfg, model, tokenizer))
    except EXPECTED as e:
        assert type(e) is not BadClip
        return Outcome(error=f"{type(e).__name__}: {e}")
    out.rejects = chosen.rejects.to_pylist()
    for role in ("train", "eval"):
        for row in chosen[role].to_pylist():
            try: made = make(row | {"labels": []})
            except BadClip as e:
                out.rejects.append(
                    {k: row[k] for k in ("split", "source_split", "id")} | {"reason": e.reason, "detail": e.detail}
                )
            else: out.kept.append((role, made, *sf.read(io.BytesIO(made["audio"]), dtype="float32")))
    return out


def tried(corpus):
    with world() as place:
        name = LAYOUTS[corpus.layout].write(place / "corpus", corpus)
        if corpus.extras: lay_extras(place / "corpus", corpus.extras, corpus.recordings)
        before = state(place)
        with in_time(): out = outcome_of(name, corpus.asked, corpus.evaluation)
        assert state(place) == before
        judge(out, corpus)


@pytest.mark.parametrize("name", LAYOUTS)
def test_of_a_corpus_in_any_layout_every_row_is_kept_with_its_own_audio_or_on_record(name):
    @often(12)
    @given(corpora([name]))
    def go(corpus): tried(corpus)
    go()


A, OTHER_A = Recording("a.wav", ((300, 0.5), (360, 0.5))), Recording("a.flac", ((660, 0.6),))
FOUND = {
    "a part and the whole of a recording are two clips": [("tar_tree", A, (0, 0.5)), ("tar_tree", A, None)],
    "files with different endings are two clips": [("tar_tree", A, None), ("tar_tree", OTHER_A, None)],
    "a row means the file with the ending that it names": [("tar_tree", OTHER_A, None)],
    "every row of a clip that can't be had is on record": [
        ("parquet", OTHER_A, (0, 1.0)),
        ("parquet", OTHER_A, (0, 1.0)),
    ],
    "a part that begins where its audio does ends where it says": [
        ("webdataset", A, (0, 0.5)),
        ("webdataset", A, None),
    ],
    "parts of one recording in two splits are two clips": [("release", A, (0, 0.5)), ("release", A, (0.5, 0.5))],
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name):
    rows = [
        Row(i, recording, "train" if i == 0 else "test" if "splits" in name else "train", "", part)
        for i, (_, recording, part) in enumerate(FOUND[name])
    ]
    splits = ("train", "test") if "splits" in name else ("train", "")
    tried(Corpus(FOUND[name][0][0], [A, OTHER_A], rows, ("offset", "duration"), frozenset(), splits[:1], splits[1]))


# ---- containers

CONTAINERS = st.tuples(
    st.sampled_from(("wav", "flac", "ogg", "mp3")), st.integers(0, 3), st.sampled_from((8000, 16000))
)
JUNK = st.sampled_from(
    (
        b"",
        b"\0" * 10,
        b"\0" * 5000,
        b"ID3\x03\0\0\0\0\0\x0a" + b"\0" * 10,
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"TAG" + b" " * 125,
        b"\xff\xfb\x90\x00" * 9,
        b"RIFF",
        b"OggS",
        b"fLaC\0\0\0\x22",
        b"\r\n<html>",
        b"LIST\xff\xff\xff\xff",
    )
) | st.binary(max_size=60)


def a_container(kind, which, rate_hz): return tones(((500 + 150 * which, 0.5 + 0.1 * which),), kind, rate_hz)


def heard(data, **given):
    "Samples of a clip and their rate; none where it is refused."
    with in_time():
        try: clip = read_clip(data, **given)
        except BadClip as e: return e.reason and None
    assert len(clip.samples) / clip.rate <= 30 and np.isfinite(clip.samples).all()
    return clip.samples


@often(60)
@given(first=CONTAINERS, second=CONTAINERS, between=JUNK)
def test_of_glued_files_all_is_heard_or_the_first_alone_or_nothing(first, second, between):
    one, two = a_container(*first), a_container(*second)
    got = heard(one + between + two)
    if got is None: return
    (a, hz), (b, other_hz) = samples_of(one), samples_of(two)
    if abs(len(got) / 16000 - len(a) / hz) < 0.15: return same_tones(got, a, hz)
    same_tones(got[:round(len(a) / hz * 16000)], a, hz)
    same_tones(got[-round(len(b) / other_hz * 16000):], b, other_hz)
    assert len(got) / 16000 < len(a) / hz + len(b) / other_hz + 0.35  # what an encoder adds


def same_tones(got, wanted, hz):
    assert sounds_like(got, 16000, wanted, hz, 0.15), (
        track(got, 16000),
        track(wanted, hz),
        len(got) / 16000,
        len(wanted) / hz,
    )


@often(60)
@given(what=CONTAINERS, cut=st.floats(0, 1), given_seconds=st.booleans())
def test_of_a_file_that_is_cut_no_part_is_kept_as_if_it_were_all(what, cut, given_seconds):
    data = a_container(*what)
    whole, hz = samples_of(data)
    at = round(cut * len(data))
    got = heard(data[:at], given_seconds=len(whole) / hz if given_seconds else None)
    if got is not None: same_tones(got, whole, hz)


@often(60)
@given(what=CONTAINERS, before=JUNK, after=JUNK)
def test_what_stands_before_or_behind_a_file_is_not_heard(what, before, after):
    data = a_container(*what)
    got = heard(before + data + after)
    if got is not None: same_tones(got, *samples_of(data))


@often(150)
@given(
    what=CONTAINERS,
    changes=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from(
                (
                    b"\0",
                    b"\xff",
                    b"\x80\x00\x00\x00",
                    b"\xff\xff\xff\xff",
                    b"\xff\xff\xff\x7f",
                    b"\0\0\0\0",
                    b"data",
                    b"fmt ",
                )
            )
            | st.binary(min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=5,
    ),
    head=st.booleans(),
    start=st.none() | st.sampled_from((0, 0.2, 5.0)),
)
def test_a_file_with_wrong_bytes_is_a_clip_or_a_reject(what, changes, head, start):
    data = bytearray(a_container(*what))
    for at, new in changes:
        i = round(at * (min(200, len(data)) if head else len(data) - 1))
        data[i:i + len(new)] = new
    heard(bytes(data), start=start)


@often(60)
@given(
    data=st.binary(max_size=300),
    kind=st.sampled_from(
        (
            b"",
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0",
            b"fLaC",
            b"OggS\0\2",
            b"\xff\xfb\x90\x64",
            b"FORM\0\0\0\0AIFF",
            b".snd\0\0\0\x18",
            b"caff\0\1\0\0",
            b"NIST_1A\n   1024\n",
            b"riff\x2e\x91\xcf\x11",
            b"RF64\xff\xff\xff\xffWAVE",
            b"\x1aE\xdf\xa3",
            b"\0\0\0\x20ftypM4A ",
        )
    ),
)
def test_any_bytes_are_a_clip_or_a_reject(data, kind): heard(kind + data)


# ---- tars

TYPES = (
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    b"Z",
)
CLIPS = ("a.wav", "b.wav", "c.flac")
MEMBERS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            (
                *CLIPS,
                "x/a.wav",
                "../a.wav",
                "/tmp/b.wav",
                "./c.flac",
                "a.wav/",
                "a",
                "",
                "b.wav\\c",
                "\udce9.wav",
                "../../outside/secret.wav",
                "n" * 120 + ".wav",
            )
        ),
        "kind": st.sampled_from(TYPES) | st.just(tarfile.REGTYPE),
        "clip": st.integers(0, 2),
        "link": st.sampled_from(("", "a.wav", "../outside/secret.wav", "/etc/passwd")),
        "size": (
            st.none()
            | st.none()
            | st.sampled_from((0, 1, 511, 512, 513, 1 << 20, 1 << 33, 1 << 60, "base256", "negative", "letters"))
        ),
        "pax": st.sampled_from(
            (
                {},
                {},
                {},
                {"size": "10"},
                {"size": "99999999999999999999"},
                {"path": "../outside/secret.wav"},
                {"path": "b.wav"},
                {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999"},
                {"linkpath": "/etc/passwd"},
            )
        ),
    }
)
SIZES = {
    "base256": b"\x80" + b"\0" * 3 + (1 << 60).to_bytes(8, "big"),
    "negative": b"\xff" * 12,
    "letters": b"0000012z5\0\0\0",
}


def tar_bytes(members, end):
    "A tar whose headers say what was drawn, each followed by the data that it should have."
    out = b""
    for m in members:
        data = tones(((500 + 200 * m["clip"], 0.5),), CLIPS[m["clip"]].rpartition(".")[2])
        info = member(m["name"], len(data), m["kind"])
        info.linkname, info.pax_headers = m["link"], dict(m["pax"])
        block = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if m["size"] is not None: block = block[:-512] + with_size(block[-512:], m["size"])
        out += block + data + bytes(-len(data) % 512)
    return out + {"whole": bytes(1024), "none": b"", "junk": b"junk" * 300}[end]


def with_size(block, size):
    digits = (
        SIZES[size]
        if isinstance(size, str)
        else b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    )
    block = block[:124] + digits + block[136:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def tar_corpus(root, layout, data):
    "A corpus of one layout that holds a tar."
    rows = "client_id\tpath\tsentence\n" + "".join(f"r{i}\t{name}\tr{i} frase\n" for i, name in enumerate(CLIPS))
    if layout == "tar_tree":
        put(root / "transcript/it/train.tsv", rows)
        put(root / "audio/it/train/it_train_0.tar", data)
        return root
    if layout == "tarred_nemo":
        put(
            root / "train_manifest.json",
            "".join(
                json.dumps({"audio_filepath": n, "text": f"r{i} frase", "speaker": f"r{i}"}) + "\n"
                for i, n in enumerate(CLIPS)
            ),
        )
        put(root / "audio_0.tar", data)
        return root
    if layout == "webdataset":
        for i, n in enumerate(CLIPS):
            text = f"r{i} frase".encode()
            data = member(n.rpartition(".")[0] + ".txt", len(text)).tobuf() + text + bytes(512 - len(text)) + data
        return put(root / "train-0.tar", data).parent
    text = member("cv/it/train.tsv", len(rows)).tobuf() + rows.encode() + bytes(-len(rows) % 512)
    clips = tarfile.TarInfo("cv/it/clips/")
    clips.type = tarfile.DIRTYPE
    return put(root / "it.tar.gz", gzip.compress(text + clips.tobuf() + data, 1))


TAR_LAYOUTS = [n for n in ("tar_tree", "archive", "webdataset", "tarred_nemo") if n in LAYOUTS]


@often(80)
@given(
    layout=st.sampled_from(TAR_LAYOUTS),
    members=st.lists(MEMBERS, min_size=1, max_size=5),
    end=st.sampled_from(("whole", "none", "junk")),
    cut=st.none() | st.none() | st.floats(0, 1),
)
def test_tar_members_of_any_kind_are_clips_of_their_own_or_on_record(layout, members, end, cut):
    data = tar_bytes(members, end)
    if cut is not None: data = data[:round(cut * len(data))]
    with world() as place:
        if layout == "archive": members = [m | {"name": f"cv/it/clips/{m['name']}"} for m in members]
        data = tar_bytes(members, end)[:None if cut is None else round(cut * len(data))]
        name = tar_corpus(place / "corpus", layout, data)
        before = state(place)
        with in_time(): out = outcome_of(name)
        assert state(place) == before
        if out.error: return plain(out.error, place)
        check_members(out, members, layout)


def plain(error, place):
    "Whether an error is one sentence that names a file of the corpus."
    assert str(place) in error or any(p.name in error for p in (place / "corpus").rglob("*")), error
    assert len(error.splitlines()) == 1, error


def check_members(out, members, layout):
    "A kept row has the tone of a member of its name."
    assert len({e["id"] for _, e, *_ in out.kept}) == len(out.kept)
    told = [r for r in out.rejects if r["reason"] not in ("no_row", "duplicate_audio")]
    if layout != "webdataset":
        assert len(CLIPS) <= len(out.kept) + len(told) <= len(CLIPS) + len(members), out
        assert {stem(n) for n in CLIPS} <= {
            stem(posixpath.basename(n))
            for n in [e["id"] for _, e, *_ in out.kept] + [r["id"].partition(":")[0] for r in told]
        } or layout == "tarred_nemo", out
    for _, made, x, hz in out.kept:
        name = CLIPS[int(made["sentence"][1])]
        named = [
            m
            for m in members
            if stem(posixpath.basename(m["pax"].get("path", m["name"]).replace("\\", "/").strip().rstrip("/")))
            == stem(name)
        ]
        wanted = [
            samples_of(tones(((500 + 200 * m["clip"], 0.5),), CLIPS[m["clip"]].rpartition(".")[2])) for m in named
        ]
        assert any(sounds_like(x, hz, w, w_hz, 0.1) for w, w_hz in wanted), (made["id"], track(x, hz))


# ---- lists and tables whose bytes are damaged

DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(("cut", "insert", "replace", "drop", "double")),
        st.floats(0, 1),
        st.integers(1, 40),
        st.sampled_from(
            (
                b'"',
                b"\n",
                b"\r",
                b"\t",
                b"\0",
                b"\xff\xfe",
                b"\xef\xbb\xbf",
                b"{",
                b"]",
                b",,,",
                b"\\ud800",
                b"1e999",
                b"null",
            )
        )
        | st.binary(max_size=6),
    ),
    min_size=1,
    max_size=4,
)
LISTS = (
    "jsonl",
    "json_list",
    "csv_table",
    "tsv_table",
    "audiofolder_csv",
    "audiofolder_jsonl",
    "nemo",
    "kaldi",
    "tar_tree",
    "release",
    "librispeech",
    "texts_beside",
)


def damaged(data, changes):
    for how, at, length, new in changes:
        i = round(at * len(data))
        if how == "cut": data = data[:i]
        elif how == "insert": data = data[:i] + new + data[i:]
        elif how == "replace": data = data[:i] + new + data[i + len(new):]
        elif how == "drop": data = data[:i] + data[i + length:]
        else: data = data[:i] + data[i:i + length] + data[i:]
    return data


def lists_of(root):
    return sorted(
        p
        for p in root.rglob("*")
        if p.suffix in (".jsonl", ".json", ".csv", ".tsv", ".txt")
        or p.name in ("text", "segments", "wav.scp", "utt2spk")
    )


@often(100)
@given(corpus=corpora([n for n in LISTS if n in LAYOUTS]), changes=DAMAGE, which=st.integers(0, 9))
def test_a_list_with_wrong_bytes_ends_in_rows_and_rejects_or_in_a_sentence(corpus, changes, which):
    with world() as place:
        name = LAYOUTS[corpus.layout].write(place / "corpus", corpus)
        found = lists_of(place / "corpus")
        path = found[which % len(found)]
        path.write_bytes(damaged(path.read_bytes(), changes))
        before = state(place)
        with in_time(): out = outcome_of(name, corpus.asked, corpus.evaluation)
        assert state(place) == before
        if out.error: return plain(out.error, place)
        for role, made, x, hz in out.kept: assert np.median(track(x, hz)) < SECRET_HZ - 500
        ids = [(role, e["id"]) for role, e, *_ in out.kept]
        assert len(ids) == len(set(ids))


@often(60)
@given(
    corpus=corpora(["jsonl", "csv_table", "tsv_table", "nemo", "audiofolder_jsonl", "tar_tree", "release"]),
    at=st.floats(0, 1),
)
def test_of_a_list_that_is_cut_every_row_before_the_cut_is_its_own(corpus, at):
    corpus = replace(corpus, rows=[replace(r, odd=None) for r in corpus.rows])
    with world() as place:
        name = LAYOUTS[corpus.layout].write(place / "corpus", corpus)
        path = lists_of(place / "corpus")[0]
        data = path.read_bytes()
        path.write_bytes(data[:round(at * len(data))])
        with in_time(): out = outcome_of(name, corpus.asked, corpus.evaluation)
        if out.error: return plain(out.error, place)
        for role, made, x, hz in out.kept: check_cut(made, x, hz, corpus)


def check_cut(made, x, hz, corpus):
    "A row before the cut has its own audio; of the last, what is left of its sentence, and of its times."
    row = next(r for r in corpus.rows if cleaned(r.sentence).startswith(made["sentence"].rstrip("\ufffd")))
    if cleaned(row.sentence) != made["sentence"]: return
    recording, start, seconds, _ = meaning(row, corpus)
    whole = samples_of(recording.data)[0]
    part = audio_meant(recording, start, seconds)[0]
    assert (
        sounds_like(x, hz, part, 16000)
        or row.part
        and np.isin(np.round(track(x, hz), -1), np.round(track(whole, 16000), -1)).mean() > 0.5
    )


# ---- Parquet and Arrow files whose bytes are damaged

@often(12)
@given(corpus=corpora(["parquet", "saved", "parquet_paths"]), changes=DAMAGE)
def test_a_damaged_file_of_tables_ends_in_rows_and_rejects_or_in_a_sentence(served, corpus, changes):
    corpus = replace(corpus, rows=[replace(r, odd=None) for r in corpus.rows], extras=frozenset())
    with world() as place:
        name = LAYOUTS[corpus.layout].write(place / "corpus", corpus)
        found = sorted(p for p in place.rglob("*") if p.suffix in (".parquet", ".arrow"))
        found[0].write_bytes(damaged(found[0].read_bytes(), changes))
        before = state(place)
        told = served(str(name), corpus.asked, corpus.evaluation)
        assert state(place) == before
        check_damaged(told, place)


def check_damaged(told, place):
    if told["error"]: return plain(told["error"], place)
    assert len(told["ids"]) == len({tuple(i) for i in told["ids"]})
    assert all(hz < SECRET_HZ - 500 for hz in told["tones"])


def serve():
    "Answer what comes of corpora, a line each, within some gigabytes."
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        signal.alarm(PATIENCE_S)
        out = outcome_of(*json.loads(line))
        signal.alarm(0)
        told = {
            "error": out.error,
            "ids": [(role, e["id"]) for role, e, *_ in out.kept],
            "tones": [float(np.median(track(x, hz))) for *_, x, hz in out.kept],
        }
        print(json.dumps(told), file=answers, flush=True)


@pytest.fixture(scope="module")
def served(cache):
    "Ask a process of its own what comes of a corpus; a file that ends a process ends that one."
    def begun():
        return subprocess.Popen(
            [sys.executable, "-c", "import test_fuzz; test_fuzz.serve()"],
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
        )
    held = [begun()]
    def ask(*words):
        held[0].stdin.write(json.dumps(words) + "\n")
        held[0].stdin.flush()
        if line := held[0].stdout.readline(): return json.loads(line)
        code, held[0] = held[0].wait(), begun()
        raise AssertionError(f"the process ended with {code}")
    yield ask
    held[0].stdin.close()
    held[0].wait()


# ---- the whole command

@settings(often(2), phases=[Phase.explicit, Phase.generate])  # a run takes seconds, and what fails would be made smaller in a hundred of them
@given(corpus=corpora([n for n in LAYOUTS if n not in ("saved",)]))
def test_the_command_touches_nothing_but_its_output(corpus):
    corpus = replace(corpus, rows=[r for r in corpus.rows if not r.odd or r.odd[0] != "split"])
    with world() as place:
        name = LAYOUTS[corpus.layout].write(place / "corpus", corpus)
        if corpus.extras: lay_extras(place / "corpus", corpus.extras, corpus.recordings)
        before = state(place)
        asked = {
            "train_splits": "+".join(corpus.asked),
            "eval_splits": corpus.evaluation,
            "num_workers": 1,
            "storage": "audio",
            "output_dir": place / "prepared",
        }
        args = [COMMAND, "prepare", *flags(dataset_name=name, language_code="it", **asked)]
        run = subprocess.run(
            args,
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE_S,
            env=os.environ | {"AUDIO_FT_PREP_CACHE": str(place / "cache")},
        )
        assert run.returncode in (0, 1), run.stderr
        if run.returncode: sentence(run.stderr)
        after = {
            p: v
            for p, v in state(place).items()
            if not p.startswith((os.fsencode(place / "prepared"), os.fsencode(place / "cache")))
        }
        assert {p: v for p, v in after.items() if p != os.fsencode(place) + b"/."} == {
            p: v for p, v in before.items() if p != os.fsencode(place) + b"/."
        }
        if run.returncode == 0: judge(prepared_outcome(place / "prepared"), corpus)


def prepared_outcome(out):
    "What a prepared folder holds, as Arrow reads it."
    kept = []
    for path in sorted(out.glob("*/*.arrow")):
        for row in pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist():
            kept.append((path.parent.name, row, *sf.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")))
    return Outcome(kept, pq.read_table(out / "rejects.parquet").to_pylist())
