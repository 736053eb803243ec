"Data sets on the Hub: only the bytes that are needed, each once, and a sentence for whatever goes wrong. The Hub is a stand-in on loopback, its client the real one."
import os, shutil, subprocess, tarfile
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audio_ft_prep import PrepConfig, hub as hub_module, plan, prepare
from audio_ft_prep.cli import run
from audio_ft_prep.tablesets import read_parquet
from audio_ft_prep.hub import RangeFile, fetched_part, file_start, open_repo
from audio_ft_prep.hubclient import hub_cache
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.rows import read_bytes
from audio_ft_prep.audiocolumn import arrow_ranges
from audio_ft_prep.sampling import fetch_audio, select
from audio_ft_prep.whisper import language_tokenizer
from conftest import COMMAND, flags, sentence
from layouts import audio_table, put, put_parquet, served, table, tar_tree, utterances

ITEMS = utterances()
REPO = "voices/many"
TAR = "audio/it/train/it_train_{}.tar"
TARS, CLIPS = 4, 200


def put_tars(root, members, split="train", per_tar=CLIPS):
    "Tars of (clip, bytes), some to a tar."
    for n in range(0, len(members), per_tar):
        path = root / f"audio/it/{split}/it_{split}_{n // per_tar}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as t:
            for clip, data in members[n:n + per_tar]:
                member = tarfile.TarInfo(f"it_{split}_{n // per_tar}/{clip}.mp3")
                member.size = len(data)
                t.addfile(member, BytesIO(data))


def many(root, order=lambda members: members):
    "A tree of several tars: good clips under many names, packed in some order."
    tar_tree(root, ITEMS)
    clips = [(f"clip_{i:04d}", ITEMS[i % len(ITEMS)]) for i in range(TARS * CLIPS)]
    put(
        root / "transcript/it/train.tsv",
        table(["client_id", "path", "sentence"], [[u.speaker, f"{c}.mp3", f"{u.sentence} {c}"] for c, u in clips]),
    )
    put_tars(root, order([(c, u.data) for c, u in clips]))
    return root


def config(place, **more): return PrepConfig(str(place), "it", **{"num_workers": 1, "output_dir": "unused", **more})


def chosen(cfg):
    "The rows that `prepare` would prepare, their audio here."
    model = load_model(cfg.model_id)
    tokenizer = language_tokenizer(model, "it")
    return fetch_audio(load_rows(cfg), lambda corpus: select(corpus, cfg, model, tokenizer))


def same(a, b):
    "Whether two selections hold the same rows with the same audio, and the same rejects."
    read = lambda r: (r["id"], r["sentence"], read_bytes(r["file"], r["offset"], r["size"]))
    for s in ("train", "eval"): assert [read(r) for r in a[s].to_pylist()] == [read(r) for r in b[s].to_pylist()]
    assert a.rows_in == b.rows_in and sorted(map(str, a.rejects.to_pylist())) == sorted(map(str, b.rejects.to_pylist()))


def failed(capfd, *args):
    "The exit code of the command, and its sentence."
    code = run([*args])
    return code, sentence(capfd.readouterr().err)


def planned(capfd, name, *args): return failed(capfd, "plan", *flags(dataset_name=name, language_code="it"), *args)


# What is moved

def test_ten_rows_of_several_tars_move_less_than_a_tenth_of_their_bytes(hub, tmp_path, figure):
    root = many(served(tmp_path / "x", REPO))
    total = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    args = flags(language_code="it", max_train_samples=10, max_eval_samples=1, train_splits="train", num_workers=1)
    env = {**os.environ, **hub.env(tmp_path / "home")}
    got = subprocess.run(
        [COMMAND, "prepare", *flags(dataset_name=REPO, output_dir=tmp_path / "out"), *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert got.returncode == 0, got.stderr[-2000:]
    moved = sum(hub.bytes_by_file().values())
    assert 0 < moved < total / 10
    assert {p for p in hub.bytes_by_file() if "/train/" in p} == {TAR.format(0)}
    figure(f"10 rows of {TARS} tars on the Hub: {moved / 1e6:.2f} of {total / 1e6:.1f} MB moved")
    here = prepare(
        config(
            root, max_train_samples=10, max_eval_samples=1, train_splits="train", output_dir=str(tmp_path / "here")
        ),
        progress=False,
    )
    assert here.hash[:16] in got.stdout and here.counts["train"]["kept"] == 10


def test_a_plan_says_what_is_to_be_fetched_and_fetches_no_audio(hub, tmp_path):
    root = many(served(tmp_path / "x", REPO))
    everything = plan(config(REPO))
    assert everything.fetch == sum(
        p.stat().st_size for p in root.rglob("*.tar")
    ) and "of audio to be fetched" in repr(everything)
    few = plan(config(REPO, max_train_samples=10, max_eval_samples=1))
    assert 0 < few.fetch < everything.fetch / 5 and hub.bytes_served("*.tar") == 0


@pytest.mark.parametrize(
    "order",
    [lambda m: m, lambda m: m[::-1], lambda m: m[1::2] + m[::2]],
    ids=["in the transcript's order", "backwards", "odd ones first"],
)
@pytest.mark.parametrize("sampling", ["first", "random"])
def test_a_sample_is_that_of_the_tree_on_disk_however_tars_are_packed(hub, tmp_path, order, sampling):
    root = many(served(tmp_path / "x", REPO), order)
    settings = dict(train_splits="train", max_train_samples=12, max_eval_samples=2, sampling=sampling)
    same(chosen(config(REPO, **settings)), chosen(config(root, **settings)))


def test_a_sample_by_hours_is_that_of_the_tree_on_disk_though_the_hub_gives_no_durations(hub, tmp_path):
    root = many(served(tmp_path / "x", REPO))
    settings = dict(train_splits="train", max_train_hours=0.01, max_eval_samples=2)
    ours, theirs = chosen(config(REPO, **settings)), chosen(config(root, **settings))
    same(ours, theirs)
    assert ours.sampling == theirs.sampling and len(ours.train) > 3
    assert 0 < sum(hub.bytes_by_file().values()) < sum(p.stat().st_size for p in root.rglob("*.tar")) / 4


def test_all_rows_have_the_rejects_of_the_tree_on_disk(hub, tmp_path):
    root = tar_tree(served(tmp_path / "x", REPO), ITEMS)
    lines = (root / "transcript/it/train.tsv").read_text().splitlines()
    put(
        root / "transcript/it/train.tsv",
        "\n".join([*lines[:-1], lines[1], "x\tgone.mp3\tNon c'è.", "a\tb\tc\td"]) + "\n",
    )
    same(chosen(config(REPO)), chosen(config(root)))


def test_a_sample_goes_on_to_the_next_row_where_audio_is_missing(hub, tmp_path):
    root = many(served(tmp_path / "x", REPO), lambda m: [x for x in m if x[0] not in ("clip_0002", "clip_0005")])
    got = chosen(config(REPO, train_splits="train", max_train_samples=5, max_eval_samples=1))
    assert got.train["id"].to_pylist() == [f"clip_{i:04d}" for i in (0, 1, 3, 4, 6)]
    same(got, chosen(config(root, train_splits="train", max_train_samples=5, max_eval_samples=1)))


def test_parquet_moves_texts_and_the_row_groups_of_chosen_rows(hub, tmp_path):
    root = served(tmp_path / "x", "voices/table")
    path = put(root / "data/train-00000-of-00001.parquet", b"")
    pq.write_table(audio_table(ITEMS * 10), path, row_group_size=10)
    corpus = read_parquet(config("voices/table", train_splits="train", eval_splits=""), open_repo("voices/table"))
    texts = hub.bytes_served("*.parquet")
    rows, lost = corpus.remote.fetch(corpus.rows.slice(25, 2), False)
    size, group = path.stat().st_size, pq.read_metadata(path).row_group(2).total_byte_size
    assert (
        lost == []
        and len(rows) == 2
        and texts < size / 5
        and hub.bytes_served("*.parquet") - texts < 2 * group < size
    )
    assert corpus.remote.fetch_bytes(rows, False) == 0


# What is here already

@pytest.mark.parametrize("build", [tar_tree, put_parquet])
def test_what_is_cached_needs_no_network(hub, tmp_path, monkeypatch, build):
    build(served(tmp_path / "x", REPO), ITEMS)
    before = chosen(config(REPO))
    hub.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    same(chosen(config(REPO)), before)
    assert hub.log == []


def test_a_file_that_the_client_has_cached_is_used_as_it_is(hub, tmp_path):
    from huggingface_hub import hf_hub_download
    many(served(tmp_path / "x", REPO))
    path = hf_hub_download(
        REPO, TAR.format(0), repo_type="dataset", cache_dir=hub_cache(), endpoint=hub.endpoint
    )
    hub.clear()
    chosen(config(REPO, train_splits="train", max_train_samples=5, max_eval_samples=1))
    assert hub.bytes_served(TAR.format(0)) == 0 and str(fetched_part(open_repo(REPO), TAR.format(0))[0]) == path


# What breaks on the way

def test_a_transfer_cut_in_the_middle_goes_on_within_a_run(hub, tmp_path):
    root = many(served(tmp_path / "x", REPO))
    repo, size = open_repo(REPO), (root / TAR.format(0)).stat().st_size
    for how in ("close", "reset"): hub.fault(TAR.format(0), cut=size // 3, cut_how=how)
    assert file_start(repo, TAR.format(0), size).read_bytes() == (root / TAR.format(0)).read_bytes()


def test_a_run_that_was_cut_off_goes_on_from_what_is_here(hub, tmp_path, monkeypatch, capfd):
    root = many(served(tmp_path / "x", REPO))
    size = (root / TAR.format(0)).stat().st_size
    monkeypatch.setattr(hub_module, "BLOCK", size // 4)
    file_start(open_repo(REPO), TAR.format(0), size // 2)
    hub.fault("*.tar", status=403)
    args = [
        "prepare",
        *flags(
            dataset_name=REPO,
            language_code="it",
            output_dir=tmp_path / "out",
            num_workers=1,
            train_splits="train",
            max_train_samples=4,
            sampling="random",
        ),
    ]
    got = failed(capfd, *args)
    assert got == (
        1,
        f"{hub.endpoint} answers 403 for {REPO}: run the same command again later, it goes on from what is fetched",
    )
    chosen(config(REPO, train_splits="train"))
    files = [r for r in hub.requests_for(TAR.format(0)) if r.kind == "cdn" and r.status == 206]
    assert sum(r.sent for r in files) == size


def test_a_server_that_ignores_ranges_is_found_out(hub, tmp_path):
    many(served(tmp_path / "x", REPO))
    repo = open_repo(REPO)
    file_start(repo, TAR.format(0), 1000)
    hub.fault("*.tar", ignore_range=True, times=None)
    with pytest.raises(ConnectionError, match="asked for 1000 bytes at 1000, and"):
        file_start(repo, TAR.format(0), 2000)


def test_bytes_that_are_not_those_of_the_hub_are_removed(hub, tmp_path):
    many(served(tmp_path / "x", REPO))
    repo = open_repo(REPO)
    place, size = file_start(repo, TAR.format(0), 5000), repo.files[TAR.format(0)][0]
    place.write_bytes(bytes(5000))
    with pytest.raises(OSError, match="came with other bytes than the Hub holds"): file_start(repo, TAR.format(0), size)
    assert file_start(repo, TAR.format(0), size).stat().st_size == size


def test_a_busy_hub_is_asked_again(hub, tmp_path):
    many(served(tmp_path / "x", REPO))
    hub.fault(f"/api/datasets/{REPO}*", status=503)
    hub.fault("*.tsv", status=429, methods=("HEAD", "GET"))
    assert len(load_rows(config(REPO, train_splits="train")).rows) == TARS * CLIPS + 3


# What a user is told

@pytest.mark.parametrize(
    "how, token, code, says",
    [
        (
            "missing",
            "",
            2,
            (
                "no data set voices/twelve on {hub}, or it is private and no token is set, and no folder of that"
                " name is here: see that dataset_name is right"
            ),
        ),
        ("private", "", 2, "no data set voices/twelve on {hub}, or it is private and no token is set"),
        ("missing", "hf_standin", 2, "or it is private and your token has no access"),
        (
            "gated",
            "",
            1,
            (
                "voices/twelve is gated and no token is set: accept its terms on {hub}/datasets/voices/twelve, then"
                " set HF_TOKEN or run hf auth login"
            ),
        ),
        ("gated-listing", "", 1, "voices/twelve is gated and no token is set"),
        (
            "gated",
            "hf_standin",
            1,
            (
                "voices/twelve is gated and your token (from HF_TOKEN) has no access to it: ask for access on"
                " {hub}/datasets/voices/twelve"
            ),
        ),
        ("gated-listing", "hf_standin", 1, "has no access to it: ask for access"),
        ("disabled", "", 1, "voices/twelve has been disabled on {hub}: choose another data set"),
        (None, "hf_wrong", 1, "{hub} refuses your token (from HF_TOKEN): it is wrong or has expired"),
    ],
)
@pytest.mark.parametrize("build", [tar_tree, put_parquet])
def test_no_access_is_told_in_a_sentence_without_the_token(
    hub, tmp_path, monkeypatch, capfd, build, how, token, code, says
):
    build(served(tmp_path / "x", "voices/twelve"), ITEMS)
    monkeypatch.setenv("HF_TOKEN", token)
    hub.deny("voices/twelve", how)
    got, told = planned(capfd, "voices/twelve")
    assert got == code and says.format(hub=hub.endpoint) in told and (not token or token not in told)


def test_wrong_names_are_told_with_those_that_are_there(hub, tmp_path, capfd):
    tar_tree(served(tmp_path / "x", REPO), ITEMS)
    put_parquet(served(tmp_path / "x", "voices/table"), ITEMS, "clean/{split}/0000.parquet")
    put_parquet(served(tmp_path / "x", "voices/table"), ITEMS, "other/{split}/0000.parquet")
    for name, args, says in [
        (REPO, ["--dataset-revision", "v9"], f"{REPO} has no revision v9: set dataset_revision to"),
        (REPO, ["--language-code", "cy"], f"no language cy in {REPO}: set language_code to one of it"),
        (REPO, ["--eval-splits", "other"], "no transcript of split other in transcript/it of"),
        (REPO, ["--text-column", "text"], "text_column is for another kind of data set"),
        ("voices/table", [], "has several configurations: set dataset_config to one of clean, other"),
        ("voices/table", ["--dataset-config", "fr"], "has no configuration fr: set dataset_config to one of"),
        (
            "voices/table",
            ["--dataset-config", "clean", "--eval-splits", "dev2"],
            "no split dev2 in voices/table: it has test, train, validation",
        ),
        (
            "voices/table",
            ["--dataset-config", "clean", "--text-column", "words"],
            "no column words: its columns are audio, text, speaker_id; name the one with text_column",
        ),
        (
            "voices/table",
            ["--dataset-config", "clean", "--audio-column", "mp3"],
            "no audio in a column mp3: its columns are audio, text, speaker_id; name the one with audio_column",
        ),
    ]:
        code, told = planned(capfd, name, *args)
        assert code == 2 and says in told, told


def test_a_data_set_that_nobody_can_read_is_told(hub, tmp_path, capfd):
    put(served(tmp_path / "x", "voices/script") / "script.py", "raise SystemExit")
    put(served(tmp_path / "x", "voices/zips") / "audio.zip", "x")
    for name, says in (
        (
            "voices/script",
            "is made by a script, script.py, which is never run, and there is no Parquet copy of it: download",
        ),
        ("voices/zips", "is no corpus that can be read from the Hub: it should hold"),
    ):
        code, told = planned(capfd, name)
        assert code == 2 and says in told, told


def test_offline_mode_says_what_is_not_here(hub, tmp_path, monkeypatch, capfd):
    many(served(tmp_path / "x", REPO))
    chosen(config(REPO, train_splits="train", max_train_samples=2, max_eval_samples=1))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.clear()
    for name, args, says in (
        (REPO, ["--train-splits", "train"], f"{TAR.format(0)} of {REPO} is not in"),
        ("voices/other", [], "revision main of voices/other is not in"),
        (REPO, ["--train-splits", "dev"], f"transcript/it/dev.tsv of {REPO} is not in"),
    ):
        code, told = failed(
            capfd, "prepare", *flags(dataset_name=name, language_code="it", output_dir=tmp_path / "out"), *args
        )
        assert code == 1 and "offline mode is on (HF_HUB_OFFLINE)" in told and says in told, told
    assert hub.log == []


def test_a_hub_that_cannot_be_reached_is_named(hub, monkeypatch, capfd):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, told = planned(capfd, REPO)
    assert code == 1 and told.startswith(f"the connection to http://127.0.0.1:9 failed for {REPO} (")


def test_a_disk_too_small_is_found_before_audio_is_fetched(hub, tmp_path, capfd):
    tar_tree(served(tmp_path / "x", REPO), ITEMS)
    hub.claim("*.tar", 10**15)
    code, told = failed(capfd, "prepare", *flags(dataset_name=REPO, language_code="it", output_dir=tmp_path / "out"))
    assert (
        code == 1
        and f"fetching the audio of {REPO} takes up to" in told
        and "set HF_HOME to a folder with room" in told
        and hub.bytes_served("*.tar") == 0
    )


def test_a_disk_that_holds_what_is_fetched_or_what_is_written_but_not_both_is_refused(hub, tmp_path, monkeypatch):
    many(served(tmp_path / "x", REPO))
    hub.claim("*.tar", 150 * 10**6)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda p: real(p)._replace(free=10**9))
    with pytest.raises(
        RuntimeError,
        match=(
            r"about [\d.]+ GB are to be fetched and written, and 1\.0 GB are free where .*: free some, set"
            r" output_dir"
        ),
    ):
        prepare(config(REPO, train_splits="train", output_dir=str(tmp_path / "out")), progress=False)
    assert hub.bytes_served("*.tar") == 0


def test_a_run_goes_on_while_another_fetches_more_of_the_same_tar(hub, tmp_path):
    size = (many(served(tmp_path / "x", REPO)) / TAR.format(0)).stat().st_size
    repo, cfg = open_repo(REPO), config(
        REPO, train_splits="train", max_train_samples=5, max_eval_samples=1, output_dir=str(tmp_path / "out")
    )
    def meanwhile(now):
        if not now.clips:
            assert fetched_part(repo, TAR.format(0))[1] < size == file_start(repo, TAR.format(0), size).stat().st_size
    first = iter([meanwhile])
    assert prepare(cfg, progress=lambda now: next(first, lambda now: None)(now)).counts["train"]["kept"] == 5


def test_the_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch, capfd, caplog):
    tar_tree(served(tmp_path / "x", REPO), ITEMS)
    hub.deny(REPO, "private")
    monkeypatch.setenv("HF_TOKEN", "hf_standin")
    caplog.set_level("DEBUG")
    assert (
        run(["prepare", *flags(dataset_name=REPO, language_code="it", output_dir=tmp_path / "out", num_workers=1)])
        == 0
    )
    said = capfd.readouterr()
    assert not [r for r in hub.log if r.kind == "cdn" and r.authorized] and [
        r for r in hub.log if r.kind == "resolve" and r.authorized
    ]
    assert "hf_standin" not in said.out + said.err + caplog.text
    for root in (tmp_path / "out", tmp_path / "home"):
        assert not [p for p in root.rglob("*") if p.is_file() and b"hf_standin" in p.read_bytes()]


# Tables that are odd

def test_a_row_without_audio_is_on_record(hub, tmp_path):
    put_parquet(tmp_path / "t", ITEMS)
    path = tmp_path / "t/data/train-00000-of-00001.parquet"
    none = lambda u: {"bytes": None if u is ITEMS[1] else u.data, "path": u.file}
    pq.write_table(audio_table(ITEMS[:5], none), path)
    got = chosen(config(tmp_path / "t"))
    assert [(r["id"], r["reason"]) for r in got.rejects.to_pylist()] == [(ITEMS[1].id, "missing_audio")] and len(
        got.train
    ) == 8


def test_clips_that_share_a_name_or_have_none_are_called_by_split_and_number(hub, tmp_path):
    same_name = lambda u: {"bytes": u.data, "path": "audio.mp3"}
    path = put(tmp_path / "t/train.parquet", b"")
    pq.write_table(audio_table(ITEMS[:3], same_name), path)
    rows = load_rows(config(tmp_path / "t", train_splits="train", eval_splits="")).rows
    assert rows["id"].to_pylist() == [f"train-{i:07d}" for i in range(3)]


def test_audio_in_place_is_right_for_chunks_slices_and_long_offsets(tmp_path):
    clips = [b"one", None, b"", b"three"]
    for typ in (pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary(), "path": pa.string()})):
        column = pa.array([{"bytes": c, "path": "x"} for c in clips] if pa.types.is_struct(typ) else clips, typ)
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as f, pa.ipc.new_stream(f, pa.schema({"audio": typ})) as out:
            for part in (column, column.slice(2), column.slice(0, 0)):
                out.write_batch(pa.record_batch([part], names=["audio"]))
        starts, sizes = arrow_ranges(tmp_path / "a.arrow", "audio")
        data = (tmp_path / "a.arrow").read_bytes()
        assert [None if o < 0 else data[o:o + n] for o, n in zip(starts, sizes)] == clips + clips[2:]


def test_a_compressed_saved_data_set_is_laid_out(hub, tmp_path):
    put(tmp_path / "s/state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(tmp_path / "s/data.arrow"), "wb") as f, pa.ipc.new_stream(
        f, audio_table(ITEMS).schema, options=options
    ) as out:
        out.write_table(audio_table(ITEMS))
    got = chosen(config(tmp_path / "s", eval_splits="")).train
    assert [read_bytes(r["file"], r["offset"], r["size"]) for r in got.to_pylist()] == [u.data for u in ITEMS]


def test_ranges_are_kept_where_asked(hub, tmp_path):
    root = put_parquet(served(tmp_path / "x", REPO), ITEMS)
    repo, path = open_repo(REPO), "data/train-00000-of-00001.parquet"
    data, moved = (root / path).read_bytes(), []
    for _ in range(2):
        with RangeFile(repo, path, tmp_path / "kept") as f:
            f.seek(-8, 2)
            assert f.read() == data[-8:] and f.read() == b"" and f.seek(10) == 10 and f.read(5) == data[10:15]
        moved.append(hub.bytes_served(path))
    assert moved == [13, 13]


# ---- splits made anew

@pytest.mark.parametrize("build", [many, lambda root: put_parquet(root, ITEMS)], ids=["tree", "table"])
def test_splits_made_anew_are_the_same_here_and_on_the_hub(hub, tmp_path, build):
    root = served(tmp_path / "x", REPO)
    build(root)
    settings = dict(splits="repair", test_size="20%")
    there, here = chosen(config(REPO, **settings)), chosen(config(root, **settings))
    same(there, here)
    assert len(there.eval) and there.repair == here.repair
