"A release of Mozilla Data Collective is read as it comes: unpacked or as the archive, hostile or damaged, downloaded or at hand."
import bz2, gzip, io, json, lzma, os, shutil, socket, stat, tarfile, tempfile, threading, time, unicodedata
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from audio_ft_prep.archive import MOST_SPARE, is_archive
from audio_ft_prep.mozilla import fetch_release
from audio_ft_prep.collective import inspect_collective, read_collective
from audio_ft_prep.release import near_release
from audio_ft_prep.unpacked import unpack
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.audio import Limits
from audio_ft_prep.example import row_clip
from audio_ft_prep.load import inspect_corpus, load_rows
from audio_ft_prep.rows import close_files, read_bytes, row_at
from audio_ft_prep.rejects import BadClip
from conftest import SAMPLE, tar_clips, tsv_rows
from layouts import pack, put, table, utterances

pytestmark = [pytest.mark.light, pytest.mark.usefixtures("own_cache")]
HEAD = ["client_id", "path", "sentence", "locale"]


def line(n, sentence="Il treno parte."): return [f"s{n}", f"clip_{n}.mp3", sentence, "it"]


def release(root, **splits):
    "A release whose clips are called by number; a clip for each row."
    for split, numbers in splits.items(): put(root / f"it/{split}.tsv", table(HEAD, [line(n) for n in numbers]))
    for n in {n for numbers in splits.values() for n in numbers}:
        put(root / f"it/clips/clip_{n}.mp3", f"audio {n} ".encode() * 100)
    return root


def config(place, train="train", evaluation="", **more):
    return PrepConfig(str(place), "it", train_splits=train, eval_splits=evaluation, **more)
def read(place, *splits, **more): return read_collective(config(place, *splits, **more), Path(place))
def ids(corpus): return corpus.rows["id"].to_pylist()
def rejects(corpus): return {(r["id"], r["reason"]) for r in corpus.rejects.to_pylist()}
def audio(corpus):
    return {
        r.id: read_bytes(r.file, r.offset, r.size) for r in (row_at(corpus.rows, i) for i in range(len(corpus.rows)))
    }


def member(name, data=b"", **kw):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for k, v in kw.items(): setattr(info, k, v)
    return info, data


def put_archive(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as t:
        for info, data in members: t.addfile(info, io.BytesIO(data))
    return path


def small(*more, tsv=None):
    return [
        member("cv/it/train.tsv", (tsv or table(HEAD, [line(1), line(2)])).encode()),
        member("cv/it/clips/clip_1.mp3", b"one"),
        *more,
    ]


HOLES = {
    "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 60)},
    "0.1": {"GNU.sparse.map": "x,y", "GNU.sparse.size": "many"},
    "0.0": {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "many", "GNU.sparse.offset": "-1"},
}


@pytest.mark.parametrize("kind", HOLES)
@pytest.mark.parametrize("ending", ["tar.gz", "tar"])
def test_a_sparse_member_whose_map_is_no_map_costs_itself(tmp_path, kind, ending):
    odd = member("cv/it/clips/clip_2.mp3", b"no map at all", pax_headers=HOLES[kind])
    path = tmp_path / f"it.{ending}"
    with tarfile.open(path, "w:gz" if ending == "tar.gz" else "w", format=tarfile.PAX_FORMAT) as t:
        for info, data in small(
            odd, member("cv/it/clips/clip_3.mp3", b"three"), tsv=table(HEAD, [line(1), line(2), line(3)])
        ):
            t.addfile(info, io.BytesIO(data))
    got = read(path)
    assert audio(got) == {"clip_1": b"one", "clip_3": b"three"} and rejects(got) == {("clip_2", "unsafe_path")}


# ---- a release unpacked

def test_a_clip_of_another_split_is_no_stray_and_a_clip_of_none_is_one(tmp_path):
    root = release(tmp_path, train=[1, 2], test=[3], validated=[1, 2, 3, 4], other=[5])
    put(root / "it/clips/clip_9.mp3", b"nobody's")
    got = read(root)
    assert ids(got) == ["clip_1", "clip_2"] and rejects(got) == {("clip_9", "no_row")}
    assert rejects(read(root, "", "test")) == {("clip_9", "no_row")}


def test_a_row_without_its_clip_and_a_row_given_twice_are_rejects(tmp_path):
    root = release(tmp_path, train=[1, 2, 3])
    (root / "it/clips/clip_2.mp3").unlink()
    head, rows = table(HEAD, []), table(HEAD, [line(n) for n in (1, 2, 3, 1)])
    put(root / "it/train.tsv", head + "only two\tfields\n" + rows.removeprefix(head))
    got = read(root)
    assert ids(got) == ["clip_1", "clip_3"] and rejects(got) == {
        ("clip_2", "missing_audio"),
        ("clip_1", "duplicate_row"),
        ("train.tsv:2", "bad_row"),
    }


@pytest.mark.parametrize("place", [".", "it", ".."])
def test_a_release_may_be_named_by_any_of_its_folders(tmp_path, place):
    root = release(tmp_path / "cv-corpus-25.0", train=[1])
    assert ids(load_rows(config((root / place).resolve()))) == ["clip_1"]


def test_a_language_or_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    root = release(tmp_path, train=[1])
    shutil.copytree(root / "it", root / "sv-SE")
    with pytest.raises(FileNotFoundError, match="no language fr in .*: set language_code to one of it, sv-SE"):
        read_collective(PrepConfig(str(root), "fr", train_splits="train", eval_splits=""), root)
    with pytest.raises(FileNotFoundError, match="no transcript of split test in .*: it has train"):
        read(root, "train", "test")


def test_links_are_followed_inside_the_release_and_nowhere_else(tmp_path):
    root = release(tmp_path / "cv", train=[1, 2, 3, 4, 5])
    outside = put(tmp_path / "secret.mp3", b"secret")
    clips = root / "it/clips"
    for n in (2, 3, 4, 5): (clips / f"clip_{n}.mp3").unlink()
    (clips / "clip_2.mp3").symlink_to(outside)
    (clips / "clip_3.mp3").symlink_to(clips / "clip_1.mp3")
    (clips / "clip_4.mp3").symlink_to(clips / "gone.mp3")
    (clips / "clip_5.mp3").mkdir()
    got = read(root)
    assert rejects(got) == {("clip_2", "unsafe_path"), ("clip_4", "missing_audio"), ("clip_5", "unsafe_path")}
    assert audio(got)["clip_3"] == audio(got)["clip_1"] and any(
        d.startswith("clips/clip_2.mp3 is a link out of its folder") for d in got.rejects["detail"].to_pylist()
    )


def test_a_row_that_names_a_path_reads_only_the_clip_of_that_name(tmp_path):
    root = release(tmp_path / "cv", train=[1])
    put(tmp_path / "clip_2.mp3", b"secret")
    put(
        root / "it/train.tsv",
        table(
            HEAD,
            [
                ["s", "../../../clip_2.mp3", "Ciao.", "it"],
                ["s", "/etc/clip_1.mp3", "Ciao.", "it"],
                ["s", "a\0b.mp3", "Ciao.", "it"],
            ],
        ),
    )
    got = read(root)
    assert audio(got) == {"clip_1": b"audio 1 " * 100} and rejects(got) == {
        ("clip_2", "missing_audio"),
        ("a\0b", "missing_audio"),
    }


def test_a_clip_cut_between_two_frames_is_found_by_the_duration_that_the_release_gives(tmp_path):
    clip = next(u for u in utterances())
    whole = read_frames(clip.data)
    root = release(tmp_path, train=[1, 2])
    put(root / "it/clips/clip_1.mp3", b"".join(whole))
    put(root / "it/clips/clip_2.mp3", b"".join(whole[:len(whole) // 2]))
    put(
        root / "it/clip_durations.tsv",
        table(["clip", "duration[ms]"], [[f"clip_{n}.mp3", f"{clip.seconds * 1000:.0f}"] for n in (1, 2)]),
    )
    rows = read(root).rows.to_pylist()
    assert row_clip(rows[0], Limits()).seconds >= clip.seconds
    with pytest.raises(BadClip, match="truncated: .* s that the corpus gives"): row_clip(rows[1], Limits())


def read_frames(data):
    "Frames of an MP3 behind the one that holds its header."
    from audio_ft_prep.mpeg import frame_at
    out, at = [], 0
    while f := frame_at(data[at:at + 4]):
        out.append(data[at:at + f.size])
        at += f.size
    return out[1:]


# ---- encodings

@pytest.mark.parametrize(
    "name,encode",
    {
        "a BOM": lambda t: b"\xef\xbb\xbf" + t.encode(),
        "CRLF": lambda t: t.replace("\n", "\r\n").encode(),
        "both": lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode(),
    }.items(),
)
def test_what_editors_do_to_a_transcript_does_no_harm(name, encode, tmp_path):
    text = table(HEAD, [line(1, 'Disse: "Però'), line(2, "NA")])
    root = release(tmp_path / "cv", train=[1, 2])
    put(root / "it/train.tsv", encode(text))
    for got in (read(root), read(pack(root, tmp_path / "it.tar.gz"))):
        assert got.rows["sentence"].to_pylist() == ['Disse: "Però', "NA"] and len(got.rejects) == 0


def test_bytes_that_are_not_utf8_cost_their_line_and_utf16_the_file(tmp_path):
    root = release(tmp_path, train=[1, 2])
    put(root / "it/train.tsv", table(HEAD, [line(1, "Però"), line(2, "Ciao.")]).encode("latin-1"))
    got = read(root)
    assert ids(got) == ["clip_2"] and rejects(got) == {("train.tsv:2", "bad_row"), ("clip_1", "no_row")}
    put(root / "it/train.tsv", table(HEAD, [line(1)]).encode("utf-16"))
    with pytest.raises(FileNotFoundError, match="is no corpus"): load_rows(config(root))


def test_a_field_of_ten_megabytes_is_a_sentence_like_any_other(tmp_path):
    root = release(tmp_path / "cv", train=[1, 2])
    put(root / "it/train.tsv", table(HEAD, [line(1, "a" * 10_000_000), line(2)]))
    for got in (read(root), read(pack(root, tmp_path / "it.tar.gz"))):
        assert [len(s) for s in got.rows["sentence"].to_pylist()] == [10_000_000, 15]


# ---- spontaneous speech

def spontaneous(root, splits):
    columns = ["client_id", "audio_file", "transcription", "duration_ms", "language", "split"]
    put(
        root / "ss-corpus-it.tsv",
        table(
            columns,
            [[f"s{n % 5}", f"spontaneous_{n}.mp3", "Che bello.", "1500", "it", s] for n, s in enumerate(splits)],
        ),
    )
    for n in range(len(splits)): put(root / f"audios/spontaneous_{n}.mp3", b"audio")
    return root


def test_spontaneous_speech_has_its_splits_in_a_column(tmp_path):
    root = spontaneous(tmp_path, ["train", "dev", "test", "", "train"])
    got = read(root, "train+dev", "test")
    assert sorted(zip(got.rows["source_split"].to_pylist(), ids(got))) == [
        ("test", "spontaneous_2"),
        ("train", "spontaneous_0"),
        ("train", "spontaneous_4"),
        ("validation", "spontaneous_1"),
    ]
    assert got.rows["seconds"].to_pylist() == [1.5] * 4
    assert got.rejects.to_pylist() == [
        {
            "split": "train",
            "source_split": "",
            "id": "spontaneous_3",
            "reason": "bad_row",
            "detail": "no split is given, and other rows have one (ss-corpus-it.tsv:5)",
        }
    ]
    assert got.source["notes"] == ["1 rows belong to no split and are left out"]


def test_spontaneous_speech_without_splits_is_dealt_out_by_speaker(tmp_path):
    root = spontaneous(tmp_path, [""] * 50)
    got = read(root, "train+validation", "test")
    by = {}
    for r in got.rows.to_pylist(): by.setdefault(r["speaker"], set()).add(r["source_split"])
    assert (
        len(got.rows) == 50
        and all(len(s) == 1 for s in by.values())
        and set.union(*by.values()) == {"train", "validation", "test"}
    )
    assert got.source["notes"] == ["the corpus gives no splits: seed 42, by speaker"]
    assert (
        read(pack(root, tmp_path / "it.tar.gz"), "train+validation", "test").rows["source_split"].to_pylist()
        == got.rows["source_split"].to_pylist()
    )
    assert read(root, "train", "test", seed=1).source["identity"] != got.source["identity"]


# ---- the archive

def test_an_archive_gives_the_rows_bytes_rejects_and_identity_of_its_folder(tmp_path):
    root = release(tmp_path / "cv", train=[1, 2], dev=[3], test=[4], other=[5])
    put(root / "it/clips/clip_9.mp3", b"nobody's")
    (root / "it/clips/clip_2.mp3").unlink()
    want = read(root, "train+dev", "test")
    for reverse in (False, True):
        got = read(pack(root, tmp_path / f"it-{reverse}.tar.gz", reverse=reverse), "train+dev", "test")
        assert got.rows.drop(["file", "offset"]).equals(want.rows.drop(["file", "offset"]))
        assert (
            audio(got) == audio(want)
            and got.rejects.equals(want.rejects)
            and got.source["identity"] == want.source["identity"]
        )


def test_only_clips_that_are_asked_for_are_laid_out_where_transcripts_come_first(tmp_path):
    root = release(tmp_path / "cv", train=[1, 2], other=list(range(10, 60)))
    sizes = {}
    for reverse in (False, True):
        folder = unpack(pack(root, tmp_path / f"{reverse}.tar.gz", reverse=reverse), {"train"})
        sizes[reverse] = json.loads((folder / "pack.json").read_text())["clips"]
    assert sizes == {False: 2, True: 52}


def test_what_was_laid_out_is_used_again_and_made_again_where_it_is_too_little(tmp_path, own_cache):
    archive = pack(release(tmp_path / "cv", train=[1, 2], test=[3]), tmp_path / "it.tar.gz")
    folder = unpack(archive, {"train", "test"})
    made = (folder / "clips.tar").stat().st_ino
    assert unpack(archive, {"test"}) == folder and (folder / "clips.tar").stat().st_ino == made
    shutil.rmtree(own_cache)
    running = read(archive)
    assert ids(read(archive, "", "test")) == ["clip_3"] and ids(read(archive, "train", "test")) == [
        "clip_1",
        "clip_2",
        "clip_3",
    ]
    assert audio(running) == {f"clip_{n}": f"audio {n} ".encode() * 100 for n in (1, 2)}
    pack(release(tmp_path / "more", train=[1, 2, 3, 4], test=[5]), archive)
    assert ids(read(archive)) == ["clip_1", "clip_2", "clip_3", "clip_4"]


def test_what_a_killed_run_left_is_not_taken_for_a_result(tmp_path, own_cache):
    archive = pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "it.tar.gz")
    folder = unpack(archive, {"train"})
    killed = folder.parent / "audio_ft_prep-killed"
    put(killed / ".audio_ft_prep.lock", b"")
    put(killed / folder.name / "clips.tar", b"half")
    shutil.rmtree(folder)
    assert ids(read(archive)) == ["clip_1", "clip_2"] and {p.suffix for p in folder.parent.iterdir()} == {"", ".lock"}
    (folder / "pack.json").unlink()
    assert ids(read(archive)) == ["clip_1", "clip_2"]


def test_a_look_at_an_archive_leaves_nothing_behind(tmp_path, own_cache):
    root = release(tmp_path / "cv", train=[1, 2], other=[3])
    archive = pack(root, tmp_path / "it.tar.gz", reverse=True)
    assert inspect_collective(archive) == inspect_collective(root) and not own_cache.exists()


# ---- hostile archives

BAD_MEMBERS = {
    "a path that leaves": member("../../it/clips/clip_2.mp3", b"x"),
    "a path that leaves within": member("cv/it/../../it/clips/clip_2.mp3", b"x"),
    "an absolute path": member("/tmp/it/clips/clip_2.mp3", b"x"),
    "a drive": member("C:/it/clips/clip_2.mp3", b"x"),
    "a symbolic link": member("cv/it/clips/clip_2.mp3", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("cv/it/clips/clip_2.mp3", type=tarfile.LNKTYPE, linkname="cv/it/clips/clip_1.mp3"),
    "a device": member("cv/it/clips/clip_2.mp3", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": member("cv/it/clips/clip_2.mp3", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("what", BAD_MEMBERS)
def test_a_member_that_reaches_elsewhere_is_a_reject_and_is_never_written(what, tmp_path, own_cache):
    got = read(put_archive(tmp_path / "it.tar.gz", small(BAD_MEMBERS[what])))
    assert audio(got) == {"clip_1": b"one"} and rejects(got) == {("clip_2", "unsafe_path")}
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()}
    assert {Path(p).name for p in written if p.startswith("cache/")} - {"pack.json", "clips.tar", "train.tsv"} == {
        p.name for p in own_cache.rglob("*.lock")
    }
    assert {p for p in written if not p.startswith("cache/")} == {"it.tar.gz"}


def test_a_transcript_that_is_a_link_or_lies_elsewhere_is_not_read(tmp_path):
    put(tmp_path / "secret.tsv", table(HEAD, [line(1)]))
    with pytest.raises(ValueError, match="holds no transcript"):
        read(
            put_archive(
                tmp_path / "a.tar.gz",
                [member("cv/it/train.tsv", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret.tsv"))],
            )
        )
    with pytest.raises(ValueError, match="holds no transcript"):
        read(put_archive(tmp_path / "b.tar.gz", [member("../train.tsv", b"path\tsentence\n")]))


@pytest.mark.parametrize("inside", ["cv/it/clips/clip_2.mp3", "cv/it/test.tsv", "cv/readme.txt"])
def test_a_bomb_is_stopped_long_before_it_is_unfolded(inside, tmp_path, own_cache):
    size, path = 4 * MOST_SPARE, tmp_path / "it.tar.gz"
    head = b"".join(i.tobuf() + d + b"\0" * (-len(d) % 512) for i, d in small())
    info = tarfile.TarInfo(inside)
    info.size = size
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(head + info.tobuf())
        for _ in range(size // 10_000_000): f.write(bytes(10_000_000))
    with pytest.raises(ValueError, match="more than 20 times its size is taken for a bomb"): read(path)
    assert [p.suffix for p in (own_cache / "collective").iterdir()] == [".lock"]


def damaged(tmp_path, how):
    good = put_archive(
        tmp_path / "good.tar.gz",
        small(
            member("cv/it/clips/clip_2.mp3", os.urandom(200_000)),
            member("cv/it/clips/clip_3.mp3", os.urandom(200_000)),
        ),
    )
    data, tar = good.read_bytes(), gzip.decompress(good.read_bytes())
    header = tar.index(b"cv/it/clips/clip_3.mp3")
    return {
        "cut": data[: len(data) // 2],
        "cut in its last bytes": data[:-4],
        "a flipped bit": data[:200_000] + bytes([data[200_000] ^ 1]) + data[200_001:],
        "empty": b"",
        "no gzip": b"PK\3\4" + data,
        "no tar": gzip.compress(b"hello" * 1000),
        "a tar cut within a clip": gzip.compress(tar[: header - 100_000]),
        "a damaged header": gzip.compress(tar[:header] + b"\xff" * 300 + tar[header + 300 :]),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "cut",
        "cut in its last bytes",
        "a flipped bit",
        "empty",
        "no gzip",
        "no tar",
        "a tar cut within a clip",
        "a damaged header",
    ],
)
def test_a_damaged_archive_ends_in_a_sentence_and_leaves_nothing(how, tmp_path, own_cache):
    path = put(tmp_path / "it.tar.gz", damaged(tmp_path, how))
    for go in (read, inspect_collective):
        with pytest.raises(ValueError, match="it.tar.gz .*(get the archive again|holds no transcript)") as e: go(path)
        assert "\n" not in str(e.value)
    assert [p.suffix for p in (own_cache / "collective").iterdir()] == [".lock"]


def test_an_archive_of_another_language_is_not_taken_for_the_one_asked_for(tmp_path):
    archive = pack(release(tmp_path / "cv", train=[1]), tmp_path / "it.tar.gz")
    with pytest.raises(FileNotFoundError, match="no language fr in .*it.tar.gz: set language_code to it"):
        read_collective(PrepConfig(str(archive), "fr", train_splits="train", eval_splits=""), archive)


def test_an_archive_of_two_languages_or_two_transcripts_of_one_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds the folders it and fr: unpack it"):
        read(put_archive(tmp_path / "a.tar.gz", small(member("cv/fr/train.tsv", b"path\tsentence\n"))))
    with pytest.raises(ValueError, match="holds train.tsv twice"):
        read(put_archive(tmp_path / "b.tar.gz", small(member("cv/it/train.tsv", b"path\tsentence\n"))))
    with pytest.raises(ValueError, match="holds no transcript: a release"):
        read(put_archive(tmp_path / "c.tar.gz", [member("a/clips/b.mp3", b"x")]))


def test_odd_members_do_no_harm(tmp_path):
    odd = [
        member("cv/it/clips/._clip_1.mp3", b"resource fork"),
        member("cv/it/clips/sub/clip_7.mp3", b"too deep"),
        member("cv/it/clips/clip_1.mp3", b"again"),
        member("cv/it/notes.tsv", b"a\tb\n"),
        member("cv/it/clips/" + "x" * 300 + ".mp3", b"long"),
        member("cv/it/clips/è b.mp3", b"odd"),
        member("cv/README.md", b"read me"),
    ]
    got = read(put_archive(tmp_path / "it.tar.gz", small(*odd)))
    assert audio(got) == {"clip_1": b"one"}
    assert rejects(got) == {
        ("clip_2", "missing_audio"),
        ("clip_1", "duplicate_audio"),
        ("x" * 300, "no_row"),
        ("è b", "no_row"),
        ("clip_7", "no_row"),
    }


def test_a_disk_too_small_is_noticed_before_anything_is_written(tmp_path, own_cache, monkeypatch):
    archive = pack(release(tmp_path / "cv", train=[1]), tmp_path / "it.tar.gz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**9, 10**9, 100))
    with pytest.raises(
        OSError,
        match=(
            r"laying out it.tar.gz takes up to [\d.]+ k?B, and .* has 100 B free: free some, or set"
            r" AUDIO_FT_PREP_CACHE"
        ),
    ):
        read(archive)
    assert [p.suffix for p in (own_cache / "collective").iterdir()] == [".lock"]


# ---- sizes that lie, and headers that nobody should believe

CLAIMS = {"4 GB": 1 << 32, "2^40": 1 << 40, "2^60": 1 << 60, "2^63": 1 << 63, "2^80": 1 << 80, "a negative size": -1}
PLACES = ["cv/it/clips/clip_9.mp3", "cv/it/other.tsv", "cv/readme.txt", "cv/it/clips/clip_2.mp3"]


def claiming(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    if size >= 0: return info.tobuf(tarfile.GNU_FORMAT)
    info.size = 0
    head = bytearray(info.tobuf())
    head[124:136] = size.to_bytes(12, "big", signed=True)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def tar_of(members, fmt=tarfile.GNU_FORMAT):
    return b"".join(i.tobuf(fmt) + d + bytes(-len(d) % 512) for i, d in members)


WRITERS = {".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".tar.xz": lzma.compress, ".tar": lambda data: data}


@pytest.mark.parametrize("size", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("inside", PLACES)
@pytest.mark.parametrize("ending", WRITERS)
def test_a_member_that_claims_more_than_there_is_ends_in_a_sentence_at_once(size, inside, ending, tmp_path, own_cache):
    if size < 0 and "clip_2" in inside: inside = "cv/it/clips/negative.mp3"
    try: head = claiming(inside, size)
    except (ValueError, OverflowError): pytest.skip("no header can say that")
    path = put(tmp_path / f"it{ending}", WRITERS[ending](tar_of(small()) + head + b"x" * 1024))
    for go in (read, inspect_collective):
        start = time.process_time()
        with pytest.raises(ValueError, match="it.tar.* (is damaged|holds|ends)") as e: go(path)
        assert time.process_time() - start < 2 and "\n" not in str(e.value) and len(str(e.value)) < 500


def pax(name, data=b"x" * 600, **headers):
    info, data = member(name, data)
    info.pax_headers = {k.replace("__", "."): v for k, v in headers.items()}
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


LIES = {
    "sparse 1.0": pax(
        "cv/it/clips/clip_2.mp3",
        GNU__sparse__major="1",
        GNU__sparse__minor="0",
        GNU__sparse__realsize="99999",
        GNU__sparse__name="cv/it/clips/clip_2.mp3",
    ),
    "sparse 1.0, a map of numbers": pax(
        "cv/it/clips/clip_2.mp3",
        b"1\n0\n512\n".ljust(512, b"\0") + bytes(512),
        GNU__sparse__major="1",
        GNU__sparse__minor="0",
        GNU__sparse__realsize="512",
    ),
    "sparse 0.1": pax("cv/it/clips/clip_2.mp3", GNU__sparse__map="0,1,2", GNU__sparse__size="9999999999"),
    "sparse 0.0": pax(
        "cv/it/clips/clip_2.mp3", GNU__sparse__size="1", GNU__sparse__offset="0", GNU__sparse__numbytes="9"
    ),
    "a size alone": pax("cv/it/clips/clip_2.mp3", GNU__sparse__realsize="700"),
    "a path with NUL": pax("x", path="cv/it/clips/clip\0_2.mp3"),
    "a path of 3,000 characters": pax("x", path="cv/it/clips/" + "y" * 3000 + ".mp3"),
    "a path that leaves": pax("x", path="../../cv/it/clips/clip_2.mp3"),
    "a table with NUL": pax("x", path="cv/it/a\0b.tsv"),
    "a table of 300 characters": pax("x", path="cv/it/" + "t" * 300 + ".tsv"),
    "a table with a line feed": pax("x", path="cv/it/a\nb.tsv"),
    "a size that is none": pax("cv/it/clips/clip_2.mp3", size="many"),
    "a larger size": pax("cv/it/clips/clip_2.mp3", size="1100"),
    "an endless size": pax("cv/it/clips/clip_2.mp3", size=str(1 << 60)),
    "old GNU sparse": member("cv/it/clips/clip_2.mp3", type=tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT),
    "a long name that never ends": claiming("././@LongLink", 1 << 40).replace(b"0ustar", b"Lustar", 1),
    "three thousand long names": member("././@LongLink", b"x" * 10, type=b"L")[0].tobuf(tarfile.GNU_FORMAT) * 3000,
}


@pytest.mark.parametrize("ending", [".tar.gz", ".tar"])
@pytest.mark.parametrize("what", LIES)
def test_a_header_that_lies_costs_its_clip_or_ends_in_a_sentence(what, ending, tmp_path, own_cache):
    path = put(tmp_path / f"it{ending}", WRITERS[ending](tar_of(small()) + LIES[what] + bytes(1024)))
    start = time.process_time()
    try: got = read(path)
    except ValueError as e: assert "it.tar" in str(e) and "\n" not in str(e) and len(str(e)) < 500
    else:
        assert (
            audio(got).pop("clip_1") == b"one"
            and audio(got).get("clip_2", b"x" * 600).startswith(b"x" * 600)
            and len(got.rows) + sum(r == "missing_audio" or n == "clip_2" for n, r in rejects(got)) == 2
        )
    assert time.process_time() - start < 3


KINDS = st.sampled_from(
    [
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
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        b"V",
    ]
)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            KINDS,
            st.binary(max_size=700),
            st.sampled_from([None, 0, 1, 511, 513, 10**6, 1 << 40, 1 << 62]),
        ),
        max_size=6,
    ),
    st.sampled_from(sorted(WRITERS)),
)
def test_what_is_kept_of_an_archive_is_the_member_that_the_row_names(own_cache, odd, ending):
    rows = {f"clip_{n}": f"clip number {n}".encode() for n in range(6)}
    head = member("cv/it/train.tsv", table(HEAD, [line(n) for n in range(6)]).encode())
    blob, real = tar_of([head]), {}
    for n, kind, data, size in odd:
        info, _ = member(f"cv/it/clips/clip_{n}.mp3", data, type=kind)
        if size is not None: info.size = size
        blob += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    blob += tar_of([member(f"cv/it/clips/{name}.mp3", data) for name, data in rows.items()]) + bytes(1024)
    with tempfile.TemporaryDirectory() as d:
        path, start = put(Path(d) / f"it{ending}", WRITERS[ending](blob)), time.process_time()
        try: got = read(path)
        except ValueError as e: assert "it.tar" in str(e) and "\n" not in str(e)
        else:
            assert (
                len(got.rows)
                + len(
                    [
                        1
                        for n, r in zip(*(got.rejects[c].to_pylist() for c in ("id", "reason")))
                        if r in ("missing_audio", "unsafe_path") and n in rows and n not in audio(got)
                    ]
                )
                >= 6
            )
            for name, data in audio(got).items():
                assert data == rows[name] or any(
                    f"clip_{n}" == name
                    and k in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
                    and blob.find(data) >= 0
                    for n, k, *_ in odd
                )
        close_files()
        assert time.process_time() - start < 5


# ---- archives of other kinds

@pytest.mark.parametrize(
    "ending", [".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar", ".TAR", ".Tar.Gz"]
)
def test_an_archive_of_any_kind_gives_the_rows_of_its_folder(ending, tmp_path):
    root = release(tmp_path / "cv", train=[1, 2], test=[3])
    put(root / "it/clips/clip_9.mp3", b"nobody's")
    plain = put(tmp_path / "plain", gzip.decompress(pack(root, tmp_path / "made.tar.gz").read_bytes()))
    how = next(
        w
        for e, w in [(".tgz", gzip.compress), (".tbz2", bz2.compress), (".txz", lzma.compress), *WRITERS.items()]
        if ending.lower() == e
    )
    archive = put(tmp_path / f"it{ending}", how(plain.read_bytes()))
    want, got = read(root, "train", "test"), load_rows(config(archive, "train", "test"))
    assert (
        audio(got) == audio(want)
        and got.source["identity"] == want.source["identity"]
        and rejects(got) == rejects(want)
    )
    assert inspect_collective(archive) == inspect_collective(root)


def test_clips_of_a_plain_tar_are_read_where_they_lie(tmp_path, own_cache):
    archive = put(
        tmp_path / "it.tar",
        gzip.decompress(pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "made.tar.gz").read_bytes()),
    )
    got = read(archive)
    assert set(got.rows["file"].to_pylist()) == {str(archive)} and not list(own_cache.rglob("clips.tar"))


@pytest.mark.parametrize("ending", [".tar", ".tar.xz"])
def test_a_gzip_file_under_another_name_is_read_as_what_it_is(ending, tmp_path):
    made = pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "made.tar.gz")
    assert ids(read(put(tmp_path / f"it{ending}", made.read_bytes()))) == ["clip_1", "clip_2"]


def test_a_tar_without_transcripts_is_no_release(tmp_path):
    assert not is_archive(
        put(tmp_path / "web.tar", tar_of([member("000.wav", b"x"), member("000.json", b"{}")]) + bytes(1024))
    )
    assert (
        not is_archive(put(tmp_path / "none.tar", b""))
        and not is_archive(put(tmp_path / "text.tar", b"hello" * 1000))
        and not is_archive(tmp_path / "gone.tar")
    )
    os.mkfifo(tmp_path / "pipe.tar")
    assert not is_archive(tmp_path / "pipe.tar")


def test_two_gzip_files_behind_one_another_are_one_archive(tmp_path):
    made = gzip.decompress(pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "made.tar.gz").read_bytes())
    half = len(made) // 1024 * 512
    assert ids(read(put(tmp_path / "it.tar.gz", gzip.compress(made[:half]) + gzip.compress(made[half:])))) == [
        "clip_1",
        "clip_2",
    ]


@pytest.mark.parametrize("kind", ["pipe", "folder of that name", "link to a pipe"])
def test_an_archive_that_is_no_plain_file_is_not_waited_for(kind, tmp_path):
    path = tmp_path / "it.tar.gz"
    if kind == "pipe": os.mkfifo(path)
    elif kind == "link to a pipe": os.mkfifo(tmp_path / "p"); path.symlink_to(tmp_path / "p")
    else: path.mkdir()
    for go in (lambda: load_rows(config(path)), lambda: inspect_corpus(str(path))):
        with pytest.raises((ValueError, FileNotFoundError), match="is no plain file|is no corpus"): go()


# ---- odd things in a release

def device(path): os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
def socket_at(path):
    with socket.socket(socket.AF_UNIX) as s: s.bind(os.path.relpath(path))


ODD = {
    "a folder": lambda p: p.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda p: p.symlink_to(p),
    "a link to nothing": lambda p: p.symlink_to("gone"),
    "a socket": socket_at,
    "a link out": lambda p: p.symlink_to("/etc/hostname"),
    "a link to a folder": lambda p: p.symlink_to("/etc"),
    "no name of UTF-8": lambda p: open(os.fsencode(p.parent) + b"/caf\xe9" + os.fsencode(p.suffix), "wb").close(),
    "a terabyte of nothing": lambda p: (p.write_bytes(b""), os.truncate(p, 1 << 40)),
    "a folder that may not be read": lambda p: p.mkdir(mode=0),
    "a line feed in its name": lambda p: p.with_name("a\nb" + p.suffix).write_bytes(b"x"),
    "a link to its own folder": lambda p: p.symlink_to("."),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize(
    "where",
    [
        "it/foo.tsv",
        "it/validated.tsv",
        "it/clip_durations.tsv",
        "it/clips/odd.mp3",
        "foo.tsv",
        "lost+found",
        "it/clips/sub",
    ],
)
def test_one_odd_neighbour_costs_nobody_else(what, where, tmp_path, monkeypatch):
    root = release(tmp_path / "cv", train=[1, 2], test=[3])
    monkeypatch.chdir(root)
    try: ODD[what](root / where)
    except OSError: pytest.skip("can't be made here")
    start = time.process_time()
    got = load_rows(config(root, "train", "test"))
    assert audio(got).keys() == {"clip_1", "clip_2", "clip_3"} and all(r == "no_row" for _, r in rejects(got))
    assert inspect_corpus(str(root))["languages"]["it"]["train"]["usable"] == 2 and time.process_time() - start < 5


@pytest.mark.parametrize(
    "what",
    [
        "a folder",
        "a pipe",
        "a link to itself",
        "a link to nothing",
        "a socket",
        "a link out",
        "a link to a folder",
        "a link to its own folder",
    ],
)
def test_a_clip_that_is_no_file_costs_itself(what, tmp_path, monkeypatch):
    root = release(tmp_path / "cv", train=[1, 2])
    (root / "it/clips/clip_2.mp3").unlink()
    monkeypatch.chdir(root)
    ODD[what](root / "it/clips/clip_2.mp3")
    got = read(root)
    assert (
        ids(got) == ["clip_1"]
        and [(n, r in ("unsafe_path", "missing_audio")) for n, r in rejects(got)] == [("clip_2", True)]
        and "clip_2.mp3" in got.rejects["detail"].to_pylist()[0]
    )


def test_a_table_that_leads_out_of_the_corpus_is_not_read(tmp_path):
    root = release(tmp_path / "cv", train=[1], test=[2])
    secret = put(tmp_path / "secret.tsv", table(HEAD, [line(2)]))
    (root / "it/test.tsv").unlink()
    (root / "it/test.tsv").symlink_to(secret)
    with pytest.raises(
        FileNotFoundError,
        match="no transcript of split test in .*: it has train; train_splits and eval_splits say which are read",
    ):
        read(root, "train", "test")


def annex(root, file, data):
    store = put(root / ".git/annex/objects/aa/bb/KEY/KEY", data)
    file.symlink_to(os.path.relpath(store, file.parent))


STORES = {
    "git-annex": lambda repo: repo / ".git/annex/objects/aa/KEY",
    "DVC": lambda repo: repo / ".dvc/cache/files/md5/aa/bb",
}


@pytest.mark.parametrize("store", STORES)
def test_links_into_the_store_of_the_corpus_are_followed_and_said(store, tmp_path):
    root = release(tmp_path / "repo/cv", train=[1, 2])
    clip = root / "it/clips/clip_1.mp3"
    kept = put(STORES[store](tmp_path / "repo"), clip.read_bytes())
    clip.unlink()
    clip.symlink_to(kept)
    got = read(root)
    assert audio(got)["clip_1"] == b"audio 1 " * 100 and any("1 links into" in n for n in got.source["notes"])


def test_a_snapshot_of_the_hub_is_read_through_its_links(tmp_path):
    hub = tmp_path / "hub/datasets--a--b"
    root = release(hub / "snapshots/0123", train=[1, 2])
    for n, p in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        blob = put(hub / f"blobs/{n}", p.read_bytes())
        p.unlink()
        p.symlink_to(os.path.relpath(blob, p.parent))
    assert audio(read(root)) == {f"clip_{n}": f"audio {n} ".encode() * 100 for n in (1, 2)}


@pytest.mark.parametrize("name", ["Clips", "CLIPS", "Audios"])
def test_the_folder_of_clips_is_found_in_whatever_case(name, tmp_path):
    root = release(tmp_path / "cv", train=[1, 2])
    (root / "it/clips").rename(root / "it" / name)
    want = b"audio 1 " * 100
    assert (
        audio(load_rows(config(root)))["clip_1"] == want
        and audio(read(pack(root, tmp_path / "it.tar.gz")))["clip_1"] == want
    )


def test_clips_in_folders_below_are_found_and_on_record(tmp_path):
    root = release(tmp_path / "cv", train=[1, 2, 3])
    for n in (2, 3):
        (root / f"it/clips/sub{n}").mkdir()
        (root / f"it/clips/clip_{n}.mp3").rename(root / f"it/clips/sub{n}/clip_{n}.mp3")
    put(root / "it/clips/deep/er/clip_9.mp3", b"nobody's")
    got = read(root)
    assert audio(got) == {f"clip_{n}": f"audio {n} ".encode() * 100 for n in (1, 2, 3)} and rejects(got) == {
        ("clip_9", "no_row")
    }
    assert audio(read(pack(root, tmp_path / "it.tar.gz"))) == audio(got)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path):
    root = tmp_path / "cv"
    paths = ["a/1.mp3", "b/1.mp3", "a/2.wav", "a/2.mp3", "3.mp3", "c/3.mp3", "d/4.mp3", "e/4.mp3"]
    for p in paths: put(root / "it/clips" / p, f"audio of {p}".encode())
    put(
        root / "it/train.tsv",
        table(
            HEAD,
            [
                ["s", p, f"La {p}.", "it"]
                for p in ("a/1.mp3", "b/1.mp3", "a/2.mp3", "a/2.wav", "3.mp3", "4.mp3", "x/1.mp3")
            ],
        ),
    )
    got = read(root)
    said = {r["id"]: r["sentence"] for r in got.rows.to_pylist()}
    assert {n: a.decode() for n, a in audio(got).items()} == {
        n: f"audio of {s[3:-1]}" for n, s in said.items()
    } and len(said) == 5
    assert [r for _, r in rejects(got)].count("missing_audio") == 2 and {
        ("c/3", "no_row"),
        ("d/4", "no_row"),
        ("e/4", "no_row"),
    } <= rejects(got)
    packed = read(pack(root, tmp_path / "it.tar.gz"))
    assert set(ids(packed)) == set() and [r for _, r in rejects(packed)].count("missing_audio") == 5


@pytest.mark.parametrize("row,file", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_however_its_accents_are_written(row, file, tmp_path):
    root, name = tmp_path / "cv", "perché_è.mp3"
    put(root / "it/train.tsv", table(HEAD, [["s", unicodedata.normalize(row, name), "Perché.", "it"]]))
    put(root / "it/clips" / unicodedata.normalize(file, name), b"audio")
    for got in (read(root), read(pack(root, tmp_path / "it.tar.gz"))):
        assert audio(got) == {"perché_è": b"audio"} and len(got.rejects) == 0


def test_what_is_near_a_release_is_said(tmp_path):
    deep = tmp_path / "a/b/c/d"
    release(deep, train=[1])
    assert near_release(tmp_path) == f"a release of Common Voice is in {deep / 'it'}: name that as dataset_name"
    shutil.rmtree(deep / "it/clips")
    assert (
        near_release(tmp_path)
        == f"{deep / 'it'} holds transcripts, and no folder clips or audios: put the recordings there"
    )
    assert near_release(tmp_path / "gone") == ""


def test_a_look_says_which_usual_splits_are_missing(tmp_path, caplog):
    with caplog.at_level("WARNING"): inspect_collective(release(tmp_path / "cv", validated=[1, 2]))
    assert any(
        "has no split train and no validation and no test: set train_splits and eval_splits to splits that it has,"
        " which are validated"
        in m
        for m in caplog.messages
    )


# ---- whose cache it is

def planted(cache, archive, asked=("train",)):
    "A folder of the name that an archive of this release is given, with another's clip in it."
    made = unpack(archive, set(asked))
    data = (made / "clips.tar").read_bytes().replace(b"audio 1 ", b"planted ")
    return made, data


def test_a_cache_is_closed_to_others(tmp_path, own_cache):
    unpack(pack(release(tmp_path / "cv", train=[1]), tmp_path / "it.tar.gz"), {"train"})
    assert {
        p.stat().st_mode & 0o077
        for p in [own_cache / "collective", *(p for p in (own_cache / "collective").iterdir() if p.is_dir())]
    } == {0}


PLANTS = {
    "a link in place of the folder": lambda made, other: (shutil.move(made, other), made.symlink_to(other)),
    "a link in place of the tar": lambda made, other: (
        shutil.move(made / "clips.tar", other),
        (made / "clips.tar").symlink_to(other),
    ),
    "a longer tar": (
        lambda made, other: (made / "clips.tar").write_bytes((made / "clips.tar").read_bytes() + b"x" * 512)
    ),
    "one more table": lambda made, other: put(made / "test.tsv", table(HEAD, [line(7)])),
    "an account of another archive": (
        lambda made, other: (made / "pack.json").write_text(
            (made / "pack.json").read_text().replace('"mark": [', '"mark": [1, ')
        )
    ),
    "damaged JSON": lambda made, other: (made / "pack.json").write_text("{"),
    "another type": lambda made, other: (made / "pack.json").write_text("[1]"),
    "nested": lambda made, other: (made / "pack.json").write_text("[" * 100_000),
    "no text": lambda made, other: (made / "pack.json").write_bytes(b"\xff\xfe"),
    "a pipe for the account": lambda made, other: ((made / "pack.json").unlink(), os.mkfifo(made / "pack.json")),
}


@pytest.mark.parametrize("how", PLANTS)
def test_what_lies_in_the_cache_by_name_is_believed_only_when_whole_and_ours(how, tmp_path, own_cache):
    archive = pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "it.tar.gz")
    PLANTS[how](unpack(archive, {"train"}), tmp_path / "other")
    got = read(archive)
    assert audio(got) == {f"clip_{n}": f"audio {n} ".encode() * 100 for n in (1, 2)} and all(
        not Path(f).is_symlink() for f in got.rows["file"].to_pylist()
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_another_users_cache_is_not_used(tmp_path, own_cache):
    archive = pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "it.tar.gz")
    made = unpack(archive, {"train"})
    data = (made / "clips.tar").read_bytes()
    (made / "clips.tar").write_bytes(data.replace(b"audio 1 ", b"planted "))
    for p in [made.parent, made, *made.iterdir()]: os.chown(p, 54321, 54321, follow_symlinks=False)
    assert audio(read(archive))["clip_1"] == b"audio 1 " * 100
    assert (made / "clips.tar").read_bytes() != data and (own_cache / f"collective-{os.getuid()}").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_a_cache_whose_names_are_all_taken_is_refused_in_a_sentence(tmp_path, own_cache):
    for name in ("collective", f"collective-{os.getuid()}"):
        (own_cache / name).mkdir(parents=True)
        os.chown(own_cache / name, 54321, 54321)
    with pytest.raises(
        ValueError, match="others hold the names in it: set AUDIO_FT_PREP_CACHE to a folder of your own"
    ):
        read(pack(release(tmp_path / "cv", train=[1]), tmp_path / "it.tar.gz"))


def test_another_archive_of_the_same_name_size_and_time_is_laid_out_anew(tmp_path, own_cache):
    archive = pack(release(tmp_path / "cv", train=[1, 2]), tmp_path / "it.tar.gz")
    about = archive.stat()
    assert audio(read(archive))["clip_1"][:5] == b"audio"
    plain = gzip.decompress(archive.read_bytes()).replace(b"audio 1 ", b"other 1 ")
    archive.write_bytes(gzip.compress(plain, 1, mtime=0).ljust(about.st_size, b"\0")[:about.st_size])
    os.utime(archive, ns=(about.st_atime_ns, about.st_mtime_ns))
    close_files()
    try: assert audio(read(archive))["clip_1"][:5] == b"other"
    except ValueError as e: assert "it.tar.gz" in str(e)


def test_without_a_home_the_setting_is_named(tmp_path, monkeypatch):
    archive = pack(release(tmp_path / "cv", train=[1]), tmp_path / "it.tar.gz")
    for name in ("AUDIO_FT_PREP_CACHE", "XDG_CACHE_HOME", "HOME"): monkeypatch.delenv(name, raising=False)
    def nobody(self): raise RuntimeError("Could not determine home directory.")
    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(ValueError, match="no home folder .*: set AUDIO_FT_PREP_CACHE to a folder with room"):
        unpack(archive, {"train"})


# ---- downloading, from a server on this machine

class Server:
    "What the package of Mozilla Data Collective asks for: details, a download session, the file with ranges."
    def __init__(self, data):
        self.data, self.status, self.cut, self.sent = data, 200, 0, 0
        outer = self
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_): pass
            def answer(self, status, body, **headers):
                self.send_response(status)
                for k, v in {"Content-Length": len(body), **headers}.items():
                    self.send_header(k.replace("_", "-"), str(v))
                self.end_headers()
                return body
            def do_GET(self):
                if not self.path.startswith("/file"):
                    body = json.dumps(
                        {"id": "it-25", "filename": "it.tar.gz", "sizeBytes": len(outer.data), "checksum": "abc"}
                    ).encode()
                    return self.wfile.write(self.answer(200, body) if "it-25" in self.path else self.answer(404, b"{}"))
                first = int(self.headers.get("Range", "bytes=0-")[6:-1])
                body = self.answer(206 if first else 200, outer.data[first:])
                if outer.cut: body, outer.cut = body[:outer.cut], 0
                outer.sent += len(body)
                self.wfile.write(body)
            def do_POST(self):
                ok = {
                    "downloadUrl": f"{outer.url}/file",
                    "sizeBytes": len(outer.data),
                    "checksum": "abc",
                    "filename": "it.tar.gz",
                }
                self.wfile.write(
                    self.answer(outer.status, json.dumps(ok if outer.status == 200 else {"message": "no"}).encode())
                )
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("datacollective", reason="the extra collective is not installed")
    for k, v in {"MDC_API_KEY": "key", "MDC_DOWNLOAD_PATH": str(tmp_path / "downloads")}.items():
        monkeypatch.setenv(k, v)
    root = release(tmp_path / "cv", train=[1, 2])
    put(root / "it/clips/clip_2.mp3", os.urandom(600_000))
    made = Server(pack(root, tmp_path / "made.tar.gz").read_bytes())
    monkeypatch.setenv("MDC_API_URL", made.url)
    yield made
    made.http.shutdown()


def test_a_release_is_downloaded_once_and_read(server):
    for _ in range(2): assert ids(load_rows(config("mdc:it-25"))) == ["clip_1", "clip_2"]
    assert server.sent == len(server.data)


def test_a_download_that_is_cut_goes_on_where_it_stood(server):
    server.cut = 300_000
    with pytest.raises(RuntimeError, match="the download of it-25 was cut at .*: run again, it continues from there"):
        fetch_release("mdc:it-25")
    assert fetch_release("mdc:it-25").read_bytes() == server.data and server.sent < len(server.data) + 100_000


@pytest.mark.parametrize(
    "status,kind,says",
    [
        (401, ValueError, "MDC_API_KEY is not accepted"),
        (403, PermissionError, "accept its terms on its page"),
        (404, FileNotFoundError, "has no data set it-25"),
        (429, RuntimeError, "run again later"),
        (500, RuntimeError, "can't be reached: 500"),
    ],
)
def test_a_refusal_is_one_sentence_that_says_what_to_do(server, status, kind, says):
    server.status = status
    with pytest.raises(kind, match=says) as e: fetch_release("mdc:it-25")
    assert "\n" not in str(e.value)


def test_a_server_that_is_not_there_is_one_sentence(server, monkeypatch):
    monkeypatch.setenv("MDC_API_URL", "http://127.0.0.1:9")
    with pytest.raises(
        RuntimeError, match="Mozilla Data Collective can't be reached: .*download the archive in a browser"
    ):
        fetch_release("mdc:it-25")


def test_a_download_needs_room_a_key_and_the_package(server, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**9, 10**9, 10))
        with pytest.raises(OSError, match="downloading it-25 takes up to .* set MDC_DOWNLOAD_PATH"):
            fetch_release("mdc:it-25")
    monkeypatch.delenv("MDC_API_KEY")
    with pytest.raises(ValueError, match="MDC_API_KEY must hold a key"): fetch_release("mdc:it-25")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datacollective", None)
    with pytest.raises(ImportError, match=r'pip install "audio_ft_prep\[collective\]"'): fetch_release("mdc:it-25")


# ---- a real corpus

CORPORA = os.environ.get("AUDIO_FT_PREP_CORPORA")


@pytest.mark.parametrize("lang", ["en", "es"] if CORPORA else ["en", "it"])
def test_a_corpus_of_tars_and_an_archive_made_of_it_give_the_same_rows(tmp_path, lang):
    root = Path(CORPORA or SAMPLE)
    for split in ("train", "dev", "test"):
        put(tmp_path / f"cv/{lang}/{split}.tsv", (root / f"transcript/{lang}/{split}.tsv").read_bytes())
        for name, data in tar_clips(root, lang, split).items(): put(tmp_path / f"cv/{lang}/clips/{name}.mp3", data)
    cfg = PrepConfig(str(root), lang)
    want, got = load_rows(cfg), load_rows(PrepConfig(str(pack(tmp_path / "cv", tmp_path / "cv.tar.gz")), lang))
    assert (
        len(want.rows) > 15
        and got.rows.drop(["file", "offset"]).equals(want.rows.drop(["file", "offset"]))
        and audio(got) == audio(want)
    )
    assert len(want.rows) <= sum(len(tsv_rows(root, lang, s)) for s in ("train", "dev", "test"))
