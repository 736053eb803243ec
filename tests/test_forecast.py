"""What a plan foretells comes to pass, and a disk that can't hold it is refused before work starts."""
import os, shutil, subprocess
from pathlib import Path

import pytest

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.example import example_maker, example_schema
from audio_ft_prep.forecast import expected_bytes, longest_share, machine_pace, most_bytes, sample_clips, worker_memory
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import Extractor, load_model
from audio_ft_prep.pipeline import plan, prepare
from audio_ft_prep.sampling import select
from audio_ft_prep.store import open_folder, prepare_shard, purpose, shard_slices
from audio_ft_prep.text import language_tokenizer
from conftest import SAMPLE

STORED = {"features": {}, "float32": dict(feature_dtype="float32"), "audio": dict(storage="audio"), "padded": dict(storage="padded")}
CORPORA = os.environ.get("AUDIO_FT_PREP_CORPORA", "")


def maker(**settings): return example_maker(PrepConfig("sample", "it", **settings), Extractor())


@pytest.fixture
def small_disk(tmp_path):
    "Make a file system of so many bytes."
    made = []
    def make(size):
        place = tmp_path / f"disk{len(made)}"
        place.mkdir()
        got = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True) if shutil.which("mount") else None
        if got is None or got.returncode: pytest.skip("a file system can't be mounted here")
        made.append(place)
        return place
    yield make
    for place in made: subprocess.run(["umount", "-l", str(place)], check=True)


# The disk

@pytest.mark.parametrize("stored", ["features", "padded"])
def test_a_disk_that_is_clearly_too_small_is_refused_before_anything_is_written(small_disk, stored):
    place = small_disk(200_000)
    with pytest.raises(RuntimeError, match=r"about [\d.]+ MB are to be written, and [\d.]+ kB are free where .*: free some, set output_dir") as e:
        prepare(PrepConfig("sample", "it", output_dir=str(place / "new" / "out"), **STORED[stored]), progress=False)
    assert "\n" not in str(e.value) and [*place.iterdir()] == []


def test_a_disk_that_is_short_by_a_hair_is_tried(small_disk):
    size = sum(d["bytes"] for d in plan(PrepConfig("sample", "it", storage="padded")).splits.values())
    cfg = lambda share: PrepConfig("sample", "it", storage="padded", output_dir=str(small_disk(round(share * size)) / "out"))
    with pytest.raises(RuntimeError, match="are to be written"): prepare(cfg(0.85), progress=False)
    with pytest.raises((OSError, RuntimeError)) as e: prepare(cfg(0.95), progress=False)
    assert "are to be written" not in str(e.value)


def test_what_an_earlier_run_has_made_is_not_counted_again(small_disk, tmp_path, one_thread):
    cfg = PrepConfig("sample", "it", storage="padded", shard_rows=4)
    model, corpus = load_model(cfg.model_id), load_rows(cfg)
    chosen, make = select(corpus, cfg, model, language_tokenizer(model, "it")), example_maker(cfg, model.extractor)
    folder = small_disk(plan(cfg).forecast.bytes + 12_000_000) / "out"
    filler = folder.parent / "filler"
    filler.write_bytes(bytes(16_000_000))
    with pytest.raises(RuntimeError, match="are to be written"): prepare(PrepConfig(**{**vars(cfg), "output_dir": str(folder)}), progress=False)
    filler.unlink()
    open_folder(folder, purpose(cfg, corpus.source), ["train", "eval"])
    for shard in shard_slices(chosen.train, "train", 4)[:5]: prepare_shard(shard(), make, example_schema(cfg, 80), folder)
    (folder.parent / "filler").write_bytes(bytes(5_000_000))
    got = prepare(PrepConfig(**{**vars(cfg), "output_dir": str(folder)}), progress=False)
    assert got.hash == prepare(PrepConfig(**{**vars(cfg), "output_dir": str(tmp_path / "whole")}), progress=False).hash


# Bytes, time, memory

def test_no_clip_takes_more_than_the_most_that_is_told():
    for settings in STORED.values():
        assert expected_bytes(maker(**settings), 7, 7 * 30., 32_000.) <= most_bytes(maker(**settings), 7)


def test_the_few_clips_are_the_same_for_the_same_seed_and_others_for_another():
    rows = load_rows(PrepConfig("sample", "it")).rows
    told = [sample_clips(rows, maker(), seed, most=5) for seed in (1, 1, 2)]
    assert [(s.clips, s.audio_bytes, s.seconds) for s in told[:2]] == [(5, told[0].audio_bytes, told[0].seconds)] * 2
    assert told[0].audio_bytes != told[2].audio_bytes and told[0].cpu_s > 0


def test_a_look_that_failed_leaves_nothing_open(tmp_path):
    cfg = PrepConfig(str(shutil.copytree(SAMPLE, tmp_path / "corpus")), "it")
    rows = load_rows(cfg).rows
    tar = Path(rows["file"][0].as_py())
    whole = tar.read_bytes()
    os.truncate(tar, 20_000)
    with pytest.raises(OSError, match="it changed during the run"): sample_clips(rows, maker(), 1)
    (mended := tmp_path / "mended").write_bytes(whole)
    os.replace(mended, tar)
    assert sample_clips(rows, maker(), 1).used > 0


def test_a_worker_that_loads_no_torch_needs_less(): assert worker_memory(maker(storage="audio")) < worker_memory(maker()) < worker_memory(maker(storage="padded"))


@pytest.mark.parametrize("shards, workers, longest", [([10], 1, 1.), ([10], 4, 4.), ([10, 10, 10, 10], 2, 1.), ([10, 10, 10], 2, 4 / 3), ([], 3, 0.)])
def test_the_last_shards_are_waited_for(shards, workers, longest): assert longest_share(shards, workers) == pytest.approx(longest)


def test_a_machine_is_measured_in_cpu_time_of_its_own():
    pace = machine_pace(2, units=3)
    assert pace.unit_s > 0 and pace.alone > 0 and pace.got > 0


def test_a_plan_tells_what_it_takes_for_programs_and_for_people():
    asked, free = plan(PrepConfig("sample", "it", num_workers=3)), plan(PrepConfig("sample", "it"))
    told = asked.to_dict()["forecast"]
    assert told["workers"] == 3 and told["bytes"] == sum(d["bytes"] for d in asked.splits.values()) and told["seconds"] > told["cpu_s"] > 0
    assert told["memory"] == told["parent_memory"] + 3 * told["worker_memory"]
    line = f"with 3 workers, {told['memory'] / 1e6:.0f} MB of memory"
    assert line in repr(asked) and line in asked._repr_markdown_() and "with a worker on each core" in repr(free)


@pytest.mark.skipif(not CORPORA, reason="AUDIO_FT_PREP_CORPORA names no folder in the Common Voice layout")
@pytest.mark.parametrize("stored", STORED)
def test_bytes_of_the_corpora_are_within_a_tenth_of_what_is_foretold(figure, tmp_path, stored):
    for lang in sorted(p.name for p in (Path(CORPORA) / "transcript").iterdir()):
        cfg = PrepConfig(CORPORA, lang, output_dir=str(tmp_path / lang), **STORED[stored])
        told, size = plan(cfg).forecast.bytes, sum(s["bytes"] for s in prepare(cfg, progress=False).prep["shards"])
        figure(f"{lang}, {stored}: {told:,} bytes foretold, {size:,} written ({told / size - 1:+.1%})")
        assert told == pytest.approx(size, rel=0.1)
