"Links are followed inside a corpus and into its own store, and nowhere else; nothing that is no plain file is opened, and a walk is ended by no odd entry."
import json, os, socket, subprocess, sys
from pathlib import Path

import pytest

from audio_ft_prep.links import (
    AUDIO_SUFFIXES, corpus_file, folder_entries, is_audio, is_prepared, links_followed, store_of, walk_files
)
from audio_ft_prep.rejects import BadClip

pytestmark = pytest.mark.light


def put(path, data=b"RIFF"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def link(path, to):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)
    return path


def why(path, root, **how):
    with pytest.raises(BadClip) as e: corpus_file(str(path), root, **how)
    return e.value.reason, e.value.detail


def hub(tmp_path, kind="datasets"):
    "A snapshot as the Hub's client leaves it; its one clip is blobs/1."
    repo = tmp_path / "hub" / f"{kind}--ada--voices"
    put(repo / "blobs/1")
    link(repo / "snapshots/0123/clips/a.wav", "../../../blobs/1")
    return repo / "snapshots/0123"


def annex(tmp_path, git=".git"):
    repo = tmp_path / "annexed"
    put(repo / git / "annex/objects/Zx/k1/SHA256E-s4--ab.wav/SHA256E-s4--ab.wav")
    link(repo / "it/clips/a.wav", f"../../{git}/annex/objects/Zx/k1/SHA256E-s4--ab.wav/SHA256E-s4--ab.wav")
    return repo / "it"


def dvc(tmp_path):
    repo = tmp_path / "versioned"
    put(repo / ".dvc/cache/files/md5/3a/bc")
    link(repo / "clips/a.wav", "../.dvc/cache/files/md5/3a/bc")
    return repo


STORES = {
    "datasets": (hub, "the Hub cache"),
    "models": (lambda d: hub(d, "models"), "the Hub cache"),
    "spaces": (lambda d: hub(d, "spaces"), "the Hub cache"),
    "annex": (annex, "git-annex"),
    "submodule": (lambda d: annex(d, ".git/modules/voices"), "git-annex"),
    "dvc": (dvc, "the DVC cache"),
}


@pytest.mark.parametrize("name", STORES)
def test_a_link_into_the_store_of_its_own_corpus_is_followed_and_said(tmp_path, name):
    make, store = STORES[name]
    root = make(tmp_path)
    for place in (root, link(tmp_path / "by_another_name", root)):
        file, size = corpus_file("clips/a.wav", place)
        inside = name in ("dvc",)  # its repository is the corpus
        assert os.path.samefile(file, root / "clips/a.wav") and size == 4
        assert links_followed([file], place) == ([] if inside else [f"1 links into {store} are followed"])


@pytest.mark.parametrize("name", STORES)
def test_a_link_into_the_store_of_another_corpus_is_not_followed(tmp_path, name):
    other = STORES[name][0](tmp_path / "theirs") / "clips/a.wav"
    for make in (hub, annex, dvc):
        root = make(tmp_path / "ours" / make.__name__)
        link(root / "clips/b.wav", other)
        reason, detail = why("clips/b.wav", root)
        assert (
            reason == "unsafe_path"
            and "clips/b.wav is a link out of its folder, to " in detail
            and "put the recording itself there" in detail
        )


def test_what_only_looks_like_a_store_is_none(tmp_path):
    root = hub(tmp_path)
    repo = root.parent.parent
    for n, to in enumerate(
        (
            repo / "secret",
            repo / "blobs/deep/2",
            repo.parent / "blobs/3",
            tmp_path / "annex/objects/4",
            tmp_path / ".dvc/config",
            tmp_path / ".git/config",
        )
    ):
        link(root / f"{n}.wav", put(to))
        assert why(f"{n}.wav", root)[0] == "unsafe_path"
    link(tmp_path / "c/.git/annex/objects", put(tmp_path / "far/x/k.wav").parent.parent)
    link(tmp_path / "c/k.wav", ".git/annex/objects/x/k.wav")
    assert why("k.wav", tmp_path / "c")[0] == "unsafe_path"


@pytest.mark.parametrize("name", ["datasets", "annex", "dvc"])
def test_what_a_store_does_not_hold_yet_is_missing_and_the_sentence_says_how_to_fetch_it(tmp_path, name):
    root = STORES[name][0](tmp_path)
    os.unlink(os.path.realpath(root / "clips/a.wav"))
    reason, detail = why("clips/a.wav", root)
    assert reason == "missing_audio" and detail.endswith(
        {
            "datasets": "download the data set again",
            "annex": "fetch it with git annex get",
            "dvc": "fetch it with dvc pull",
        }[name]
    )


def test_links_inside_a_corpus_are_followed_one_after_another(tmp_path):
    real = put(tmp_path / "c/deep/a.wav")
    link(tmp_path / "c/one.wav", "deep/a.wav")
    link(tmp_path / "c/two.wav", "one.wav")
    link(tmp_path / "c/there", "deep")
    for name in ("one.wav", "two.wav", "there/a.wav", "./x/../two.wav", str(tmp_path / "c/two.wav")):
        assert corpus_file(name, tmp_path / "c")[0] == str(real) and links_followed([str(real)], tmp_path / "c") == []


def test_a_chain_that_ends_outside_is_not_followed_though_its_first_link_stays_inside(tmp_path):
    secret, root = put(tmp_path / "secret.wav"), tmp_path / "c"
    put(root / "a.wav")
    link(root / "one.wav", "two.wav")
    link(root / "two.wav", secret)
    link(root / "up", tmp_path)
    for name in ("one.wav", "up/secret.wav"): assert why(name, root)[0] == "unsafe_path"
    for name in ("../secret.wav", "x/../../secret.wav", str(secret)):
        assert why(name, root) == ("unsafe_path", f"{name} leaves its folder")
    assert corpus_file(str(secret), root, absolute=True) == (str(secret), 4)
    assert why("../secret.wav", root, absolute=True)[0] == "unsafe_path"


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path):
    put(tmp_path / "corpus/a.wav")
    assert (
        why(link(tmp_path / "corpus/b.wav", put(tmp_path / "corpus2/b.wav")).name, tmp_path / "corpus")[0]
        == "unsafe_path"
    )


def test_what_is_no_plain_file_is_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("socket.wav")
        for name, says in (("pipe.wav", "a pipe"), ("folder.wav", "a folder"), ("socket.wav", "a socket"), (".", "")):
            assert why(name, tmp_path)[0] == "unsafe_path" and says in why(name, tmp_path)[1]
    assert why("/dev/zero", tmp_path, absolute=True) == ("unsafe_path", "/dev/zero is no plain file but a device")
    link(tmp_path / "a.wav", "b.wav"), link(tmp_path / "b.wav", "a.wav")
    assert why("a.wav", tmp_path) == ("missing_audio", "a.wav is a link that leads back to itself")
    assert why("a.wav/c.wav", tmp_path)[0] == "missing_audio"


@pytest.mark.parametrize(
    "path", ["gone.wav", "x" * 300, "a/" * 3_000_000, "\ud83d.wav", "caf\udce9.wav", "a.wav/b.wav"]
)
def test_a_path_to_nothing_is_missing_audio_with_words_that_can_be_stored(tmp_path, path):
    put(tmp_path / "a.wav")
    reason, detail = why(path, tmp_path)
    assert reason == "missing_audio" and detail.encode() and len(detail) < 400


def test_a_name_that_is_not_utf8_is_seen_and_not_used(tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    put(tmp_path / name), link(tmp_path / "a.wav", name)
    assert [os.path.basename(p) for p in walk_files(tmp_path)] == ["a.wav", name] and [
        p.name for p in folder_entries(tmp_path)[1]
    ] == ["a.wav", name]
    for path in (name, "a.wav"):
        reason, detail = why(path, tmp_path)
        assert reason == "unsafe_path" and detail.endswith(
            "caf\\udce9.wav has a name that isn't UTF-8: give it another"
        )


def test_a_disk_that_fails_ends_the_run_rather_than_costing_a_clip(tmp_path, monkeypatch):
    put(tmp_path / "a.wav")
    def stat(path): raise OSError(5, "Input/output error", path)
    monkeypatch.setattr("audio_ft_prep.links.os.stat", stat)
    with pytest.raises(OSError, match="Input/output error"): corpus_file("a.wav", tmp_path)


# ---- through a folder

def seen(root, **how): return [os.path.relpath(p, root) for p in walk_files(root, **how)]


def test_a_walk_is_in_order_and_follows_no_link_to_a_folder(tmp_path):
    for n in ("b.wav", "a.wav", "sub/c.wav", "another/d.wav", ".git/annex/e.wav", ".f.wav"): put(tmp_path / n)
    link(tmp_path / "sub/up", tmp_path), link(tmp_path / "sub/g.wav", "c.wav"), link(
        tmp_path / "h.wav", "h.wav"
    ), link(tmp_path / "i.wav", "gone")
    os.mkfifo(tmp_path / "pipe.wav")
    assert seen(tmp_path) == ["a.wav", "b.wav", "another/d.wav", "sub/c.wav", "sub/g.wav"]
    assert seen(tmp_path, hidden=True) == [".f.wav", "a.wav", "b.wav", "another/d.wav", "sub/c.wav", "sub/g.wav"]
    assert seen(tmp_path / "a.wav") == seen(tmp_path / "gone") == []


def test_a_prepared_folder_and_a_run_that_has_not_ended_are_passed_over(tmp_path):
    put(tmp_path / "a.wav")
    put(
        tmp_path / "out/prep.json",
        json.dumps({"config": {"dataset_name": "."}, "fingerprint": "0", "shards": []}, indent=1).encode(),
    ), put(tmp_path / "out/train/data.parquet")
    put(tmp_path / "half/.work/plan.json", b"{}"), put(tmp_path / "half/train/data.parquet")
    put(tmp_path / "mine/prep.json", b'{"sentence": "ciao"}'), put(tmp_path / "mine/b.wav")
    os.mkfifo(put(tmp_path / "odd/c.wav").parent / "prep.json")
    assert seen(tmp_path) == ["a.wav", "mine/b.wav", "mine/prep.json", "odd/c.wav"]
    assert [is_prepared(tmp_path / n) for n in ("out", "half", "mine", "odd", "gone")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert "prep.json" in seen(tmp_path / "out")  # named by itself, it is what is to be read


AS_NOBODY = """
import os, sys
from audio_ft_prep.links import BadClip, corpus_file, walk_files
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(sorted(os.path.relpath(p, sys.argv[1]) for p in walk_files(sys.argv[1])))
for name in ("lost+found/x.wav", "b.wav"):
    try: corpus_file(name, sys.argv[1])
    except BadClip as e: print(e)
"""


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path):
    if os.getuid(): pytest.skip("only root can become another user")
    from tempfile import TemporaryDirectory
    with TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        put(Path(root) / "a.wav"), put(Path(root) / "b.wav").chmod(0), put(
            Path(root) / "lost+found/x.wav"
        ).parent.chmod(0)
        got = subprocess.run([sys.executable, "-c", AS_NOBODY, root], capture_output=True, text=True)
    assert got.stdout.splitlines() == [
        "['a.wav', 'b.wav']",
        "missing_audio: lost+found/x.wav may not be read",
        "missing_audio: b.wav may not be read",
    ], got.stderr


def test_audio_is_told_by_its_ending_in_any_case():
    for s in AUDIO_SUFFIXES: assert is_audio("x" + s) and is_audio("X" + s.upper()) and not is_audio("x" + s + ".txt")
    assert store_of("/a/b.wav", "/a") == ""
