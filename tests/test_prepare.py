"""A corpus goes in, a data set comes out: every number as promised, whatever happens on the way."""
import io, json, multiprocessing as mp, os, shutil, signal, socket, subprocess, sys, time, unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
import pytest
import soundfile as sf
from datasets import Dataset, DatasetDict, List, Value
from transformers import WhisperFeatureExtractor

import audio_ft_prep.shards
from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, plan, prepare
from audio_ft_prep.artifact import log_prepared
from audio_ft_prep.audio import read_clip
from audio_ft_prep.cli import run as run_command
from audio_ft_prep.config import fingerprint_of, shaping
from audio_ft_prep.engines import Job
from audio_ft_prep.features import pad_frames, valid_frames
from audio_ft_prep.load import load_rows
from audio_ft_prep.local import run_local
from audio_ft_prep.models import load_model
from audio_ft_prep.pipeline import Part, merge
from audio_ft_prep.manifest import run_manifest
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.run import make_run
from conftest import (
    SAMPLE, USED, flags, halted, read_all, readme_table, reopened, sentence, tar_clips, tsv_rows, until,
    write_corpus, written
)

NAMES = {"it": "italian", "en": "english", "es": "spanish"}
STORED = {
    "float16": dict(feature_dtype="float16"),
    "float32": dict(feature_dtype="float32"),
    "padded": dict(storage="padded"),
    "audio": dict(storage="audio"),
    "source": dict(storage="source"),
}
LARGE_V3 = dict(model_id="openai/whisper-large-v3", feature_dtype="float32", max_train_samples=5, max_eval_samples=2)


def rejects(done): return pq.read_table(done.folder / "rejects.parquet").to_pylist()
def ids(done, split): return list(load_prepared(done.folder)[split]["id"])
def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
def tidy(text): return " ".join(unicodedata.normalize("NFC", text).split())


def rows_in(root, lang, split):
    "Rows of a transcript, and clips that it doesn't name."
    names = [r["path"].removesuffix(".mp3") for r in tsv_rows(root, lang, split)]
    return len(names) + len(tar_clips(root, lang, split).keys() - set(names))


def files_of(root, lang, kind):
    "A language's splits as the corpus spells them, of train or of eval."
    have = [p.stem for p in (root / f"transcript/{lang}").glob("*.tsv")]
    return [s for s in have if (USED[s] == "test") == (kind == "eval")]


def reference(lang, model_id="openai/whisper-small"):
    "A tokenizer that announces a language, and the extractor of transformers."
    tokenizer = reopened(load_model(model_id).tokenizer)
    tokenizer.set_prefix_tokens(language=NAMES[lang], task="transcribe")
    return tokenizer, WhisperFeatureExtractor(feature_size=128 if "v3" in model_id else 80)


def compared(done, root, lang):
    "Hold every kept clip of a data set against tokenizer and extractor; count."
    tokenizer, extractor = reference(lang, done.prep["config"]["model_id"])
    seen = Counter()
    for kind, data in load_prepared(done.folder).items():
        clips, texts = {}, {}
        for split in files_of(root, lang, kind):
            clips |= tar_clips(root, lang, split)
            for r in reversed(tsv_rows(root, lang, split)): texts[r["path"].removesuffix(".mp3")] = tidy(r["sentence"])
        for item in data:
            samples = read_clip(clips[item["id"]]).samples
            want = extractor(samples, sampling_rate=16000, return_tensors="np").input_features[0]
            features = pad_frames(item["input_features"], want.shape[1])
            assert features.dtype == np.float32 and features.shape == want.shape
            worst = float(np.abs(features - want).max())
            assert worst <= 1e-6, item["id"]
            assert item["labels"].tolist() == tokenizer(texts[item["id"]]).input_ids, item["id"]
            assert (item["sentence"], item["input_length"]) == (texts[item["id"]], len(samples)), item["id"]
            seen.update(kept=1, identical=int(np.array_equal(features, want)))
            seen["worst"] = max(seen["worst"], worst)
    return seen


def balanced(done, root, lang):
    "Hold a data set's counts against its own tables and against the corpus, counted here."
    lost = rejects(done)
    for kind, c in done.counts.items():
        mine = Counter(r["reason"] for r in lost if r["split"] == kind)
        assert c["rejects"] == dict(mine) and c["kept"] + mine.total() == c["rows"]
        assert c["rows"] == sum(rows_in(root, lang, s) for s in files_of(root, lang, kind))
        assert c["kept"] == len(ids(done, kind))
    assert (
        len({(r["split"], r["id"], r["reason"]) for r in lost})
        == len(lost)
        == sum(sum(c["rejects"].values()) for c in done.counts.values())
    )


# Numbers

@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("lang", ["it", "en"])
def test_rows_are_kept_or_rejected_for_the_reasons_that_the_readme_lists(prepared, lang, stored):
    done = prepared(lang, **STORED[stored])
    balanced(done, SAMPLE, lang)
    listed = [
        (USED[w["split"]], w["clip"], w["expected"])
        for w in readme_table("Warts")
        if w["language"] == lang and w["expected"] != "kept"
    ]
    assert sorted((r["source_split"], r["id"], r["reason"]) for r in rejects(done)) == sorted(listed)
    kept = sum(int(r["kept"]) for r in readme_table("Counts") if r["language"] == lang)
    assert sum(c["kept"] for c in done.counts.values()) == kept


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stored", ["float32", "padded"])
@pytest.mark.parametrize("lang", ["it", "en"])
def test_float32_features_and_labels_are_the_extractors_and_the_tokenizers(prepared, figure, lang, stored):
    seen = compared(prepared(lang, **STORED[stored]), SAMPLE, lang)
    assert seen["kept"] == sum(int(r["kept"]) for r in readme_table("Counts") if r["language"] == lang)
    figure(
        f"sample, {lang}, {stored}: {seen['identical']} of {seen['kept']} clips identical to the bit, largest"
        f" difference {seen['worst']:g}"
    )


@pytest.mark.usefixtures("one_thread")
def test_128_mels_of_large_v3_are_the_extractors(prepared, figure):
    done = prepared("it", **LARGE_V3)
    assert len(load_prepared(done.folder)["train"][0]["input_features"]) == 128
    seen = compared(done, SAMPLE, "it")
    figure(f"sample, it, 128 mels: {seen['identical']} of {seen['kept']} clips identical to the bit")


@pytest.mark.parametrize("lang", ["it", "en"])
def test_float16_is_float32_rounded_and_nothing_else(prepared, lang):
    single, half = (load_prepared(prepared(lang, **STORED[d]).folder) for d in ("float32", "float16"))
    for split in single:
        for a, b in zip(single[split], half[split]):
            assert np.array_equal(
                a.pop("input_features").astype(np.float16).astype(np.float32), b.pop("input_features")
            )
            assert a.pop("labels").tolist() == b.pop("labels").tolist() and a == b


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_frames_stored_are_those_that_are_promised(prepared, dtype):
    for data in DatasetDict.load_from_disk(str(prepared("it", **STORED[dtype]).folder)).values():
        assert data.features["input_features"] == List(List(Value(dtype)), length=80)
        frames = np.concatenate(
            [pc.list_value_length(c.flatten()).to_numpy() for c in data.data["input_features"].chunks]
        ).reshape(-1, 80)
        assert (frames == [[valid_frames(n)] for n in data["input_length"]]).all()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("lang", ["it", "en"])
def test_stored_audio_is_the_clip_to_16_bits_and_its_features_are_the_extractors(prepared, lang):
    done, clips = prepared(lang, **STORED["audio"]), {}
    for split in USED: clips |= tar_clips(SAMPLE, lang, split)
    raw, collate = DatasetDict.load_from_disk(str(done.folder)), SpeechCollator.of("openai/whisper-small", done.folder)
    _, extractor = reference(lang)
    for split in raw:
        for stored in raw[split]:
            x, rate_hz = sf.read(io.BytesIO(stored["audio"]["bytes"]), dtype="float32")
            want = np.clip(read_clip(clips[stored["id"]]).samples, -1, 1)
            assert rate_hz == 16000 and len(x) == stored["input_length"] and np.abs(x - want).max() <= 2 ** -15
            mel = extractor(x, sampling_rate=16000, return_tensors="np").input_features[0]
            batch = collate([stored])
            assert np.abs(batch["input_features"][0].numpy() - mel).max() <= 1e-6
            assert batch["labels"][0].tolist() == stored["labels"][1:]


def test_padded_storage_has_the_references_columns_and_types(prepared):
    tokenizer, extractor = reference("it")
    clips = tar_clips(SAMPLE, "it", "test")
    def example(row):
        x = read_clip(clips[row["path"].removesuffix(".mp3")]).samples
        return {
            "input_features": extractor(x, sampling_rate=16000).input_features[0],
            "input_length": len(x),
            "labels": tokenizer(row["sentence"]).input_ids,
        }
    want = Dataset.from_list([{k: r[k] for k in ("path", "sentence")} for r in tsv_rows(SAMPLE, "it", "test")]).map(
        example
    )
    got = DatasetDict.load_from_disk(str(prepared("it", storage="padded").folder))["eval"]
    for column in ("input_features", "input_length", "labels"):
        assert got.features[column] == want.features[column]
        assert np.allclose(
            np.concatenate([np.ravel(v) for v in got[column]]),
            np.concatenate([np.ravel(v) for v in want[column]]),
            rtol=0,
            atol=1e-6,
        )


# The folder

@pytest.mark.parametrize("stored", STORED)
def test_datasets_opens_the_folder_and_no_second_copy_was_written(prepared, stored):
    done = prepared("it", **STORED[stored])
    opened = DatasetDict.load_from_disk(str(done.folder))
    assert opened.num_rows == {"train": 20, "eval": 4}
    assert {Path(f["filename"]).parent.parent for data in opened.values() for f in data.cache_files} == {done.folder}
    size = {p: p.stat().st_size for p in done.folder.rglob("*") if p.is_file()}
    shards = sum(n for p, n in size.items() if p.suffix == ".arrow")
    assert shards == sum(s["bytes"] for s in done.prep["shards"])
    assert sum(n for p, n in size.items() if p.suffix != ".arrow" and p.parent.name != "processor") < 60_000
    assert sum(n for p, n in size.items() if p.parent.name == "processor") < 5_000_000


@pytest.mark.long
def test_two_workers_write_the_bytes_that_one_writes_and_more_shards_have_the_same_hash(prepared):
    one, two, whole = (
        prepared("it", shard_rows=3),
        prepared("it", shard_rows=3, num_workers=2),
        prepared("it", feature_dtype="float16"),
    )
    assert contents(one.folder) == contents(two.folder) and (len(one.prep["shards"]), len(whole.prep["shards"])) == (
        10,
        2,
    )
    assert one.hash == two.hash == whole.hash and len(whole.hash) == 64
    assert ids(one, "train") == ids(whole, "train")


def test_another_layout_of_the_same_corpus_has_the_same_hash(prepared, tmp_path):
    text = {
        s: {r["path"].removesuffix(".mp3"): r["sentence"] for r in reversed(tsv_rows(SAMPLE, "it", s))} for s in USED
    }
    write_corpus(
        tmp_path,
        {s: [(n, d, text[s].get(n, "")) for n, d in sorted(tar_clips(SAMPLE, "it", s).items())] for s in USED},
    )
    folder, tar = tmp_path / "transcript/it/validate", tmp_path / "audio/it/dev"
    folder.mkdir()
    (tmp_path / "transcript/it/dev.tsv").rename(folder / "part.tsv")
    tar.rename(tar.with_name("val"))
    done = prepare(PrepConfig(str(tmp_path), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    assert done.hash == prepared("it", feature_dtype="float16").hash


def test_without_eval_splits_train_is_written_alone(prepared):
    done = prepared("it", eval_splits="")
    assert list(load_prepared(done.folder)) == list(done.counts) == ["train"]
    assert done.counts["train"] == prepared("it", feature_dtype="float16").counts["train"]
    assert {p.name for p in done.folder.iterdir() if p.is_dir()} == {"train", "processor"} and verify(done.folder) == []


def test_a_split_whose_clips_are_all_rejected_is_said_to_be_empty_and_opens(tmp_path, caplog):
    good = tar_clips(SAMPLE, "it", "test")
    write_corpus(
        tmp_path,
        {
            "train": [(n, d, "una frase") for n, d in good.items()],
            "test": [("empty", b"", "una frase"), ("blank", b"x", " ")],
        },
    )
    done = prepare(
        PrepConfig(str(tmp_path), "it", train_splits="train", output_dir=str(tmp_path / "out"), num_workers=1),
        progress=False,
    )
    assert done.counts["eval"]["rejects"] == {"empty_sentence": 1, "empty_audio": 1}
    assert "eval holds no clip: all 2 rows were rejected (1 empty_sentence, 1 empty_audio)" in caplog.text
    data = load_prepared(done.folder)
    assert (
        data.num_rows == {"train": 4, "eval": 0}
        and data["eval"].features == data["train"].features
        and verify(done.folder) == []
    )


def nothing_kept(folder, says):
    "A folder of a run that kept nothing: an account to be looked at, and no data set."
    prep = read_prep(folder)
    assert not any(c["kept"] for c in prep["counts"].values()) and verify(folder) == []
    assert len(pq.read_table(folder / "rejects.parquet")) == sum(c["rows"] for c in prep["counts"].values())
    with pytest.raises(ValueError, match="holds no clip, every row was rejected: see its rejects.parquet"):
        load_prepared(folder)
    with pytest.raises(FileNotFoundError): DatasetDict.load_from_disk(str(folder))
    with pytest.raises(ValueError, match="holds no clip, every row was rejected"):
        log_prepared("speech", "none", folder)
    assert not (folder / ".work").exists() and "nothing was kept" in says
    return prep


@pytest.mark.parametrize("storage", ["audio", "features"])
def test_when_decoding_rejects_every_row_the_run_fails_and_its_account_is_written_all_the_same(tmp_path, storage):
    cfg = PrepConfig("sample", "it", min_seconds=29.0, storage=storage, output_dir=str(tmp_path / "out"), num_workers=1)
    says = []
    for _ in range(2):  # started again it says the same
        with pytest.raises(
            RuntimeError,
            match=(
                "nothing was kept: all 32 rows were rejected .24 too_short, .*rejects.parquet in .* lower"
                " min_seconds"
            ),
        ) as e:
            prepare(cfg, progress=False)
        says.append(str(e.value))
    prep = nothing_kept(tmp_path / "out", says[0])
    assert says[0] == says[1] and prep["counts"]["eval"]["rejects"] == {"too_short": 4}


KEEP_NONE = {
    "durations in milliseconds": ({"sentence": "una frase", "duration": "4000"}, "see that they are in seconds"),
    "no text in what is spoken": ({"sentence": "una frase"}, "2 silent"),
    "clips that are no audio": ({"sentence": "una frase"}, "2 undecodable"),
}


@pytest.mark.parametrize("what", KEEP_NONE)
def test_a_corpus_of_which_nothing_is_kept_ends_the_command_with_1_and_an_idea_what_to_do(start, tmp_path, what):
    columns, hint = KEEP_NONE[what]
    (tmp_path / "corpus").mkdir()
    for name in ("a", "b"):
        level = 0 if "text" in what else 0.3
        sf.write(tmp_path / f"corpus/{name}.wav", level * np.sin(np.arange(64000) / 5), 16000)
        if "no audio" in what: (tmp_path / f"corpus/{name}.wav").write_bytes(b"RIFF" + bytes(3000))
    lines = [",".join(["path", *columns]), *(",".join([f"{n}.wav", *columns.values()]) for n in ("a", "b"))]
    (tmp_path / "corpus/data.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    end = start(
        "prepare",
        *flags(
            dataset_name=tmp_path / "corpus",
            language_code="it",
            eval_splits="",
            num_workers=1,
            log_mel="fast",
            output_dir=out,
        )
    ).wait()
    assert end.code == 1 and hint in sentence(end.err) and end.out == ""
    nothing_kept(out, sentence(end.err))


def test_of_several_jobs_one_may_keep_nothing_and_the_whole_may_not(tmp_path):
    cfg = PrepConfig("sample", "it", min_seconds=29.0, shard_rows=8, num_workers=1, log_mel="fast")
    for i in range(2): prepare(replace(cfg, output_dir=str(tmp_path / f"part{i}")), progress=False, part=Part(i, 2))
    with pytest.raises(RuntimeError, match="nothing was kept") as e:
        merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "out")
    nothing_kept(tmp_path / "out", str(e.value))


def test_when_no_row_is_left_to_decode_nothing_is_written_and_the_sentence_says_why(tmp_path):
    write_corpus(tmp_path, {s: [(f"{s}{i}", b"x", " ") for i in range(3)] for s in ("train", "test")})
    with pytest.raises(
        ValueError, match="nothing to prepare: of 6 rows none is left .6 empty_sentence|3 empty_sentence"
    ):
        prepare(PrepConfig(str(tmp_path), "it", train_splits="train", output_dir=str(tmp_path / "out")), progress=False)
    assert not (tmp_path / "out").exists()


def test_clips_outside_the_limits_are_rejected_by_their_length_and_no_others(prepared):
    seconds = {}
    for split in USED:
        for name, data in tar_clips(SAMPLE, "it", split).items():
            try: seconds[name] = sf.info(io.BytesIO(data)).duration
            except sf.LibsndfileError: continue
    whole = {n for s in ("train", "eval") for n in ids(prepared("it", feature_dtype="float16"), s)}
    lengths = sorted(seconds[n] for n in whole)
    gap = lambda part: max(zip(part, part[1:]), key=lambda ab: ab[1] - ab[0])
    low, high = (sum(gap(part)) / 2 for part in (lengths[:8], lengths[-8:]))
    done = prepared("it", min_seconds=low, max_seconds=high)
    why = {r["id"]: r["reason"] for r in rejects(done) if r["reason"] in ("too_short", "too_long")}
    short, long = {n for n in whole if seconds[n] < low}, {n for n in seconds if seconds[n] > high}
    assert short and long & whole and {n for n, r in why.items() if r == "too_short"} - whole <= seconds.keys()
    assert {n for n in why if why[n] == "too_short"} & whole == short and {
        n for n in why if why[n] == "too_long"
    } & whole == long & whole
    assert {n for s in ("train", "eval") for n in ids(done, s)} == whole - why.keys()
    balanced(done, SAMPLE, "it")


@pytest.mark.parametrize("how", ["first", "random"])
def test_a_maximum_takes_the_first_rows_or_random_ones_and_puts_the_others_on_record(prepared, how):
    usable = ids(prepared("it", feature_dtype="float16"), "train")
    done = (
        prepared("it", **LARGE_V3)
        if how == "first"
        else prepared("it", max_train_samples=5, max_eval_samples=2, sampling=how)
    )
    balanced(done, SAMPLE, "it")
    assert done.counts["train"]["rejects"]["not_sampled"] == 24 - 5 and done.counts["eval"]["rejects"] == {
        "not_sampled": 2
    }
    got = ids(done, "train")
    assert got == [n for n in usable if n in got] and (got == usable[:len(got)]) == (how == "first")


@pytest.mark.parametrize("stored", STORED)
def test_a_plan_forecasts_rows_seconds_and_bytes_and_writes_nothing(prepared, tmp_path, monkeypatch, stored):
    done = prepared("it", **STORED[stored])
    monkeypatch.chdir(tmp_path)
    told = plan(PrepConfig("sample", "it", **STORED[stored])).splits
    assert [*tmp_path.iterdir()] == []
    for split, c in done.counts.items():
        size = sum(s["bytes"] for s in done.prep["shards"] if s["split"] == split)
        assert told[split]["rows"] == c["rows"] and told[split]["selected"] == c["kept"] + sum(
            v for k, v in c["rejects"].items() if k not in told[split]["rejects"]
        )
        assert told[split]["seconds"] == pytest.approx(c["samples"] / 16000, rel=0.05)
        assert told[split]["bytes"] == pytest.approx(size, rel=0.25)


# Calling it

_USES_TORCH = """
import numpy as np, torch
from transformers import WhisperFeatureExtractor
torch.set_num_threads(2)
(torch.rand(2000, 2000) @ torch.rand(2000, 2000)).sum()
WhisperFeatureExtractor()(np.random.rand(80_000).astype(np.float32), sampling_rate=16000, return_tensors="np")
"""
_PREPARES = """
from audio_ft_prep import PrepConfig, prepare
print(prepare(PrepConfig("sample", "it", output_dir="out", num_workers=2), progress=False).hash)
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["a script without a guard that has used torch", "python -c", "standard input"])
def test_prepare_neither_hangs_nor_needs_a_guard_in(prepared, tmp_path, how):
    (tmp_path / "script.py").write_text(_USES_TORCH + _PREPARES)
    args = {"python -c": ["-c", _PREPARES], "standard input": ["-"]}.get(how, ["script.py"])
    env = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    got = subprocess.run(
        [sys.executable, *args], input=_PREPARES, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=600
    )
    assert got.returncode == 0, got.stderr[-3000:]
    assert got.stdout == prepared("it", feature_dtype="float16").hash + "\n"  # once: workers don't run the caller's lines again
    assert not [*(tmp_path / "cache").rglob("*.arrow")] and {p.name for p in tmp_path.iterdir()} <= {
        "script.py",
        "out",
        "cache",
    }


# Interrupted

def settings_of(corpus, out, **more):
    "Settings of a run whose workers begin at once: they need no torch."
    return (
        dict(
            dataset_name=str(corpus),
            language_code="it",
            train_splits="train",
            shard_rows=4,
            num_workers=2,
            log_mel="fast",
            output_dir=str(out),
        )
        | more
    )


@pytest.fixture(scope="module")
def whole(long_corpus, tmp_path_factory):
    "The long corpus, prepared without disturbance."
    return prepare(PrepConfig(**settings_of(long_corpus, tmp_path_factory.mktemp("whole") / "out")), progress=False)


@pytest.fixture(scope="module")
def half(long_corpus, start, tmp_path_factory):
    "A run of the long corpus, stopped half-way with Ctrl-C: its folder, and how it ended."
    out = tmp_path_factory.mktemp("half") / "out"
    run = start("prepare", *flags(**settings_of(long_corpus, out)))
    until(lambda: shards(out) >= 10 or not run.alive())
    assert halted(run)
    run.signal(signal.SIGINT)
    run.signal(signal.SIGCONT)
    end = run.wait()
    until(run.gone)
    assert (out / ".work/plan.json").exists() and not (out / "prep.json").exists()
    return SimpleNamespace(out=out, end=end)


@pytest.fixture(scope="module")
def disturbed(long_corpus, start, tmp_path_factory):
    "A run that another one of the same folder joins, and whose workers are killed: its folder, and how both ended."
    out = tmp_path_factory.mktemp("disturbed") / "out"
    run = start("prepare", *flags(**settings_of(long_corpus, out)))
    until(lambda: shards(out) >= 3 or not run.alive())
    assert halted(run)
    second = start("prepare", *flags(**settings_of(long_corpus, out))).wait()
    for n in (3, 20):
        until(lambda: shards(out) >= n and run.workers() or not run.alive())
        for p in run.workers()[:1]: p.kill()
        run.signal(signal.SIGCONT)
    return SimpleNamespace(out=out, end=run.wait(), second=second)


def shards(out): return len([*out.glob("*/*.arrow")])
def unlike(out, whole):
    "Files of two folders that are not the same."
    a, b = contents(out), contents(whole.folder)
    return sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))


def test_a_run_killed_as_it_cleans_up_is_finished_and_its_leftovers_go(prepared, tmp_path):
    first = prepared("it", feature_dtype="float16")
    out = shutil.copytree(first.folder, tmp_path / "out")
    (out / ".work").mkdir()
    (out / ".work/train-00000.json").write_text("{}")
    again = prepare(PrepConfig("sample", "it", output_dir=str(out), num_workers=1), progress=False)
    assert again.hash == first.hash and contents(out) == contents(first.folder)


@pytest.mark.long
def test_ctrl_c_ends_in_one_sentence_and_leaves_no_process(half):
    assert half.end.code == 130 and "the same command goes on from here" in sentence(half.end.err)
    assert len(read_all(half.out)) >= 5     # a file may be there before its record is


@pytest.mark.long
def test_a_run_goes_on_where_another_stopped(half, long_corpus, whole, start, tmp_path):
    out = shutil.copytree(half.out, tmp_path / "out")
    before = read_all(out)
    run = start("prepare", *flags(**settings_of(long_corpus, out)))
    end = run.wait()
    assert end.code == 0 and "clips are done already: going on" in end.err
    assert written(out, before) == before
    assert unlike(out, whole) == []


@pytest.mark.long
def test_an_exact_run_goes_on_too(prepared, start, tmp_path):
    out, same = tmp_path / "out", prepared("it", shard_rows=3)
    args = flags(dataset_name="sample", language_code="it", output_dir=out, num_workers=1, shard_rows=3)
    run = start("prepare", *args)
    until(lambda: shards(out) >= 3 or not run.alive())
    assert halted(run)
    before = read_all(out)
    run.signal(signal.SIGKILL)
    run.wait()
    assert start("prepare", *args).wait().code == 0 and contents(out) == contents(same.folder)
    assert before and written(out, before) == before


@pytest.mark.long
def test_a_second_run_of_the_same_folder_says_so_and_stops(disturbed):
    assert disturbed.second.code == 1 and sentence(disturbed.second.err).startswith(
        f"another run is writing {disturbed.out}"
    )


def test_a_run_whose_workers_are_killed_ends_with_the_same_bytes(disturbed, whole):
    assert disturbed.end.code == 0, disturbed.end.err
    assert unlike(disturbed.out, whole) == []


@pytest.mark.long
def test_workers_that_die_while_the_caller_has_a_result_lose_no_shard(tmp_path):
    cfg = PrepConfig(
        "sample", "it", train_splits="train", eval_splits="", shard_rows=2, output_dir=str(tmp_path / "out")
    )
    run, folder, got = make_run(cfg), OutputFolder.of(cfg.output_dir), []
    folder.start(run.manifest, run.splits)
    before = set(mp.active_children())
    for result in run_local(run.shards, Job(run.maker, run.schema, folder), 1):
        got.append(result.file)
        if len(got) != 2: continue
        for p in set(mp.active_children()) - before: p.kill()
        time.sleep(1)
    assert sorted(got) == sorted(m().file for m in run.shards)


@pytest.mark.long
@pytest.mark.parametrize("when", ["as it starts", "at work"])
def test_a_worker_that_always_dies_ends_the_run_in_one_sentence(long_corpus, start, tmp_path, when):
    out, end = tmp_path / "out", time.monotonic() + 600
    run = start("prepare", *flags(**settings_of(long_corpus, out, num_workers=1, shard_rows=300)))
    while run.alive() and time.monotonic() < end:
        begun = [*(out / ".work").glob(".train-*.part")]
        found = run.workers() if when == "as it starts" or begun else []
        for p in found: p.kill()
        for p in begun if found else (): p.unlink(missing_ok=True)
        time.sleep(0.02)
    assert not run.alive(), "the run waits for a worker that is dead"
    end = run.wait()
    said = sentence(end.err)
    assert (
        end.code == 1
        and "a worker died 3 times "
        + {"as it starts": "before it began", "at work": "while train-00000 was made"}[when]
        in said
    )
    assert "killed (signal 9)" in said and "num_workers" in said
    until(run.gone)


# The worker that starts early

@pytest.fixture
def mute_hub():
    "The address of a Hub that takes connections and never answers: whoever reads rows there waits."
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def waiting_for_rows(out, start, hub):
    env = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(out / "hf"), "no_proxy": "127.0.0.1"}
    return start(
        "prepare",
        *flags(
            dataset_name="voices/mute",
            language_code="it",
            eval_splits="",
            train_splits="train",
            output_dir=out / "out",
        ),
        env=env
    )


@pytest.mark.long
def test_one_worker_starts_while_rows_are_looked_at_and_ctrl_c_then_ends_all(start, mute_hub, tmp_path):
    run = waiting_for_rows(tmp_path, start, mute_hub)
    until(run.workers)
    time.sleep(0.3)
    assert len(run.workers()) == 1
    run.signal(signal.SIGINT)
    assert "stopped" in sentence(run.wait().err)
    until(run.gone)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_when_the_corpus_cant_be_read_no_process_is_left(start, tmp_path):
    run = start("prepare", *flags(dataset_name=tmp_path / "none", language_code="it", output_dir=tmp_path / "out"))
    assert run.wait().code == 2
    until(run.gone)


def test_where_all_is_done_no_worker_starts(prepared, monkeypatch):
    done, started = prepared("it", feature_dtype="float16"), []
    monkeypatch.setattr(mp.context.SpawnProcess, "start", lambda p: started.append(p))
    assert (
        prepare(PrepConfig("sample", "it", output_dir=str(done.folder), num_workers=2), progress=False).hash
        == done.hash
    )
    assert not started


# What a worker loads

NOTING = """
import sys
PLACE = "{place}"
class Noting:
    "Makes what another maker makes, and leaves word of what its process has loaded by the end of a shard."
    def __init__(self, maker):
        self.maker = maker
        self.storage, self.limits, self.checks = maker.storage, maker.limits, maker.checks
    def preload(self): self.maker.preload()
    def of_split(self, split): return Noting(self.maker.of_split(split))
    def __call__(self, row):
        return self.maker(row)
from audio_ft_prep import shards
record_bytes = shards.record_bytes
def noted(result, token=""):
    "The last that is made of a shard is its record."
    with open(PLACE, "w") as f: f.write(" ".join({m.partition(".")[0] for m, loaded in sys.modules.items() if loaded}))
    return record_bytes(result, token)
shards.record_bytes = noted
"""
NOT_FOR_WORKERS = {
    "pandas",
    "transformers",
    "datasets",
    "tokenizers",
    "huggingface_hub",
    "fsspec",
    "requests",
    "httpx",
    "yaml",
    "typer",
    "fastcore",
    "filelock",
    "matplotlib",
    "IPython",
}


@pytest.mark.long
@pytest.mark.parametrize(
    "how,needs",
    [
        (dict(), {"torch"}),
        (dict(log_mel="fast"), {"asrfront"}),
        (dict(log_mel="fast", storage="padded"), {"asrfront"}),
        (dict(storage="audio"), set()),
    ],
    ids=["exact", "fast", "fast, padded", "audio"],
)
def test_a_worker_loads_only_what_its_examples_are_computed_with(tmp_path, monkeypatch, how, needs):
    (tmp_path / "noting.py").write_text(NOTING.replace("{place}", str(tmp_path / "loaded")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "noting", raising=False)
    monkeypatch.setattr(mod := audio_ft_prep.shards, "record_bytes", mod.record_bytes)  # put back what the module below changes here
    from noting import Noting
    cfg = PrepConfig("sample", "it", train_splits="", output_dir=str(tmp_path / "out"), **how)
    run, folder = make_run(cfg), OutputFolder.of(cfg.output_dir)
    folder.start(run.manifest, run.splits)
    maker = Noting(run.maker)
    [made] = run_local(run.shards, Job(maker, run.schema, folder), 1)
    loaded = set((tmp_path / "loaded").read_text().split())
    assert made.rows and {"soundfile", "soxr", "pyarrow"} < loaded
    assert loaded & {"torch", "asrfront"} == needs
    assert not loaded & NOT_FOR_WORKERS


# The fast log-mel

def test_a_fast_run_differs_by_about_1e_4_at_most_and_says_that_it_is_one(prepared):
    exact, fast = (prepared("it", feature_dtype="float32", **how) for how in (dict(), dict(log_mel="fast")))
    assert fast.counts == exact.counts and fast.hash != exact.hash
    assert fast.prep["config"]["log_mel"] == "fast" and fast.prep["fingerprint"] != exact.prep["fingerprint"]
    assert "asrfront" in fast.prep["versions"] and "asrfront" not in exact.prep["versions"]
    assert verify(fast.folder) == []
    for split in ("train", "eval"):
        for a, b in zip(load_prepared(fast.folder)[split], load_prepared(exact.folder)[split], strict=True):
            assert (
                a["id"] == b["id"]
                and a["labels"].tolist() == b["labels"].tolist()
                and np.abs(a["input_features"] - b["input_features"]).max() <= 1.5e-4
            )


def test_without_its_extra_the_fast_log_mel_ends_in_one_sentence_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "asrfront", None)
    for command in ("plan", "prepare"):
        assert (
            run_command(
                [
                    command,
                    *flags(
                        dataset_name=tmp_path / "no corpus",
                        language_code="it",
                        log_mel="fast",
                        output_dir=tmp_path / "out",
                    ),
                ]
            )
            == 2
        )
        assert "pip install 'audio_ft_prep[fast]'" in sentence(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_release_that_had_no_such_field_is_read_and_left_alone(prepared, tmp_path):
    folder = shutil.copytree(prepared("it", feature_dtype="float16").folder, tmp_path / "out")
    prep = json.loads((folder / "prep.json").read_text())
    del prep["config"]["log_mel"]
    prep["fingerprint"] = fingerprint_of(prep["config"])
    (folder / "prep.json").write_text(json.dumps(prep))
    assert verify(folder) == [] and len(load_prepared(folder)["train"])
    assert prepare(PrepConfig("sample", "it", output_dir=str(folder)), progress=False).prep == prep
    with pytest.raises(ValueError, match="log_mel is 'exact' there and 'fast' here"):
        prepare(PrepConfig("sample", "it", output_dir=str(folder), log_mel="fast"), progress=False)


# Folders that are not ours to write

OTHERS = dict(
    language_code="en",
    language="English",
    model_id="openai/whisper-tiny",
    task="translate",
    train_splits="train",
    eval_splits="",
    splits="repair",
    keep_eval=True,
    max_train_samples=3,
    max_eval_samples=2,
    keep_out="sample:test",
    leak_speakers="drop",
    leak_sentences="drop",
    leak_audio="drop",
    near=True,
    sampling="random",
    seed=7,
    max_train_hours=1.0,
    max_eval_hours=1.0,
    max_train_share=0.5,
    max_eval_share=0.5,
    max_per_speaker=9,
    max_per_sentence=9,
    min_up_votes=1,
    max_down_votes=9,
    min_score=0.1,
    order="longest",
    min_seconds=0.5,
    max_seconds=20.0,
    reject="low_snr",
    flag_low_snr=None,
    flag_quiet=-50.0,
    flag_clipped=0.5,
    flag_dc=0.5,
    flag_telephone=100.0,
    flag_edges=9.0,
    flag_gap=9.0,
    flag_rate=9.0,
    flag_script=0.9,
    dataset_config="clean",
    dataset_revision="main",
    audio_column="file",
    text_column="said",
    language_column="tongue",
    windows="captions",
    timestamps=0.25,
    previous=0.0,
    no_speech=0.1,
    lower_case=True,
    clean="apostrophes",
    ctc_vocabulary="corpus",
    ctc_least_count=3,
    storage="audio",
    feature_dtype="float32",
    log_mel="fast",
    shard_rows=9,
)
OF_OTHER_KINDS = dict(dataset_config="", dataset_revision="", audio_column="", text_column="", language_column="")   # settings that this corpus has no use for


PAIRED = ("leak_near", "validation_size", "test_size", "stratify", "stratify_shares", "audio_rate_hz")  # settings that differ only together with another


@pytest.mark.parametrize("field", [name for name in shaping(PrepConfig("sample", "it")) if name not in PAIRED])
def test_a_folder_that_another_config_made_is_refused_by_the_field_that_differs(prepared, long_corpus, field):
    done = prepared("it", feature_dtype="float16")
    other = {
        "dataset_name": "sample",
        "language_code": "it",
        field: {**OTHERS, "dataset_name": str(long_corpus)}[field],
    }
    if field == "dataset_name": other["train_splits"] = "train"
    cfg = PrepConfig(output_dir=str(done.folder), **other)
    with pytest.raises(
        ValueError,
        match=(
            f"holds a data set that another config made: {field} is .* there and .* here; set output_dir to another"
            " folder"
        ),
    ):
        OutputFolder.of(done.folder).is_finished(run_manifest(cfg, load_rows(replace(cfg, **OF_OTHER_KINDS)).source))


def test_an_unfinished_folder_of_another_config_is_refused_by_the_field_that_differs(half, long_corpus):
    with pytest.raises(ValueError, match="holds an unfinished run of another config: shard_rows is 4 there and 5 here"):
        prepare(PrepConfig(**settings_of(long_corpus, half.out, shard_rows=5)), progress=False)


def test_an_unfinished_folder_that_other_library_versions_made_is_refused_by_the_library(half, long_corpus, tmp_path):
    out = shutil.copytree(half.out, tmp_path / "out")
    told = json.loads((out / ".work/plan.json").read_text())
    (out / ".work/plan.json").write_text(json.dumps(told | {"versions": told["versions"] | {"soxr": "0.0.1"}}))
    with pytest.raises(ValueError, match="soxr was 0.0.1 there and is .* here"):
        prepare(PrepConfig(**settings_of(long_corpus, out)), progress=False)


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_corpus_that_has_changed_is_refused(whole, half, long_corpus, tmp_path, state):
    out = shutil.copytree({"finished": whole.folder, "unfinished": half.out}[state], tmp_path / "out")
    corpus = shutil.copytree(long_corpus, tmp_path / "corpus")
    with open(corpus / "transcript/it/train.tsv", "a", encoding="utf-8") as f:
        f.write("s1\ttrain_000.mp3\tun'altra frase\n")
    with pytest.raises(ValueError, match="dataset_name "):
        prepare(PrepConfig(**settings_of(corpus, out)), progress=False)


def test_a_finished_folder_is_left_alone_wherever_the_corpus_lies_now(prepared, tmp_path):
    done = prepared("it", feature_dtype="float16")
    state = lambda: {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [done.folder, *done.folder.rglob("*")]}
    before = state()
    elsewhere = shutil.copytree(SAMPLE, tmp_path / "corpus")
    for name in ("sample", str(SAMPLE), str(elsewhere)):
        again = prepare(PrepConfig(name, "it", output_dir=str(done.folder), num_workers=2), progress=False)
        assert again.hash == done.hash and again.counts == done.counts
    assert state() == before


def test_a_folder_with_other_things_in_it_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no prepared data set: set output_dir to a new folder"):
        prepare(PrepConfig("sample", "it", output_dir=str(tmp_path)), progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("where", ["a file", "below a file", "where nothing can be made"])
def test_an_output_that_cant_be_written_ends_in_one_sentence_that_names_it(start, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    out = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file/out",
        "where nothing can be made": Path("/proc/out"),
    }[where]
    if where == "where nothing can be made" and not Path("/proc").is_dir():
        pytest.skip("this system has no folder that nobody can write to")
    end = start("prepare", *flags(dataset_name="sample", language_code="it", output_dir=out)).wait()
    assert end.code in (1, 2) and str(out) in sentence(end.err) and end.out == ""
    assert "[Errno" not in end.err, "a person should not need to know what an errno is"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_up_ends_in_one_sentence_and_the_next_run_goes_on(prepared, start, tmp_path):
    out, same = tmp_path / "out", prepared("it", shard_rows=3)
    args = flags(dataset_name="sample", language_code="it", output_dir=out, num_workers=1, shard_rows=3)
    for most in (20_000, 500_000):  # no shard fits; no processor does
        end = start("prepare", *args, limits={"FSIZE": most}).wait()
        assert end.code == 1 and "too large" in sentence(end.err).lower()
        assert (shards(out) == 0) == (most == 20_000) and not (out / "prep.json").exists()
        read_all(out)
    assert start("prepare", *args).wait().code == 0 and contents(out) == contents(same.folder)


# Verify

def edit_json(name, change):
    def edit(folder):
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))
    return edit
def edit_rejects(change):
    return lambda folder: pq.write_table(
        pa.Table.from_pylist(change(pq.read_table(folder / "rejects.parquet").to_pylist())),
        folder / "rejects.parquet",
    )
def flip(folder):
    with open(folder / "train/data-00000-of-00001.arrow", "r+b") as f:
        f.seek(100_000)
        byte = f.read(1)[0]
        f.seek(100_000)
        f.write(bytes([byte ^ 1]))
def set_in(*path):
    def change(value):
        for k in path[:-2]: value = value[k]
        value[path[-2]] = path[-1](value[path[-2]]) if callable(path[-1]) else path[-1]
    return change


ONE = "data-00000-of-00001.arrow"
DAMAGE = {
    "a flipped byte": (flip, "train/" + ONE),
    "a shard cut short": (lambda f: os.truncate(f / "train" / ONE, 5000), "train/" + ONE),
    "a missing shard": (lambda f: (f / "eval" / ONE).unlink(), "eval/" + ONE),
    "a stray shard": (
        lambda f: shutil.copy(f / "eval" / ONE, f / "eval/data-00001-of-00002.arrow"),
        "eval/data-00001-of-00002.arrow",
    ),
    "no rejects": (lambda f: (f / "rejects.parquet").unlink(), "rejects.parquet"),
    "rejects that can't be read": (lambda f: (f / "rejects.parquet").write_bytes(b"not parquet"), "rejects.parquet"),
    "a reject taken out": (edit_rejects(lambda rows: rows[1:]), "rejects.parquet"),
    "another reason": (edit_rejects(lambda rows: [rows[0] | {"reason": "too_long"}, *rows[1:]]), "rejects.parquet"),
    "another clip rejected": (
        edit_rejects(lambda rows: [rows[0] | {"id": "another"}, *rows[1:]]),
        "rejects.parquet",
    ),
    "another hash": (edit_json("prep.json", set_in("hash", "0" * 64)), "hash"),
    "another SHA-256": (edit_json("prep.json", set_in("shards", 0, "sha256", "0" * 64)), "train/" + ONE),
    "a shard not named": (edit_json("prep.json", lambda v: v["shards"].pop()), "eval"),
    "more kept": (edit_json("prep.json", set_in("counts", "train", "kept", 21)), "train"),
    "more rows": (edit_json("prep.json", set_in("counts", "train", "rows", 29)), "train"),
    "more samples": (edit_json("prep.json", set_in("counts", "train", "samples", 1)), "train"),
    "another config": (edit_json("prep.json", set_in("config", "language", "Spanish")), "config"),
    "no state": (lambda f: (f / "train/state.json").unlink(), "train/state.json"),
    "a state that names another file": (
        edit_json("train/state.json", set_in("_data_files", [{"filename": "x.arrow"}])),
        "train/state.json",
    ),
    "no list of splits": (lambda f: (f / "dataset_dict.json").unlink(), "dataset_dict.json"),
    "no processor": (lambda f: shutil.rmtree(f / "processor"), "processor"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_verify_finds(prepared, tmp_path, what):
    folder = shutil.copytree(prepared("it", feature_dtype="float16").folder, tmp_path / "out")
    assert verify(folder) == []
    damage, named = DAMAGE[what]
    damage(folder)
    faults = verify(folder)
    assert faults and any(named in f for f in faults), faults


# A corpus of one's own

CORPORA = os.environ.get("AUDIO_FT_PREP_CORPORA", "")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not CORPORA, reason="AUDIO_FT_PREP_CORPORA names no folder in the Common Voice layout")
def test_every_clip_of_the_corpora_is_kept_as_the_extractor_has_it_or_rejected(figure, tmp_path):
    root = Path(CORPORA)
    for lang in sorted(p.name for p in (root / "transcript").iterdir()):
        done = prepare(
            PrepConfig(str(root), lang, output_dir=str(tmp_path / lang), feature_dtype="float32"), progress=False
        )
        balanced(done, root, lang)
        seen = compared(done, root, lang)
        assert seen["kept"] == sum(c["kept"] for c in done.counts.values()) > 0
        why = Counter(r["reason"] for r in rejects(done))
        figure(
            f"{root.name}, {lang}: {sum(c['rows'] for c in done.counts.values())} rows, {seen['kept']} kept,"
            f" {why.total()} rejected ({dict(why)}); {seen['identical']} identical to the bit, largest difference"
            f" {seen['worst']:g}; all labels identical"
        )
