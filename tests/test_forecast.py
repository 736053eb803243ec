"""What a plan forecasts comes to pass, and a disk that can't hold it is refused before work starts."""
import json, os, shutil, subprocess, tempfile, time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.example import example_maker
from audio_ft_prep.forecast import (
    Range, Timing, longest_share, most_bytes, run_seconds, sample_clips, time_rows, worker_memory
)
from audio_ft_prep.load import load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.pipeline import Part, merge, prepare
from audio_ft_prep.planning import plan
from audio_ft_prep.paths import atomic_write, as_path
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.run import make_run
from audio_ft_prep.shards import prepare_shard
from conftest import SAMPLE

STORED = {
    "features": {},
    "float32": dict(feature_dtype="float32"),
    "audio": dict(storage="audio"),
    "source": dict(storage="source"),
    "padded": dict(storage="padded"),
}
CORPORA = os.environ.get("AUDIO_FT_PREP_CORPORA", "")


def maker(**settings): return example_maker(PrepConfig("sample", "it", **settings), load_model("openai/whisper-small"))


@pytest.fixture
def small_disk(tmp_path):
    "Make a file system of so many bytes."
    made = []
    def make(size):
        disk = tmp_path / f"disk{len(made)}"
        disk.mkdir()
        got = (
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True, text=True
            )
            if shutil.which("mount")
            else None
        )
        if got is None or got.returncode: pytest.skip("a file system can't be mounted here")
        made.append(disk)
        return disk
    yield make
    for disk in made: subprocess.run(["umount", "-l", str(disk)], check=True)


# The disk

@pytest.mark.parametrize("stored", ["features", "padded"])
def test_a_disk_that_is_clearly_too_small_is_refused_before_anything_is_written(small_disk, stored):
    place = small_disk(200_000)
    with pytest.raises(
        RuntimeError,
        match=r"about [\d.]+ MB are to be written, and [\d.]+ kB are free where .*: free some, set output_dir",
    ) as e:
        prepare(PrepConfig("sample", "it", output_dir=str(place / "new" / "out"), **STORED[stored]), progress=False)
    assert "\n" not in str(e.value) and [*place.iterdir()] == []


def test_a_disk_that_is_short_by_a_hair_is_tried(small_disk):
    size = sum(d["bytes"] for d in plan(PrepConfig("sample", "it", storage="padded", log_mel="fast")).splits.values())
    cfg = lambda share: PrepConfig(
        "sample", "it", storage="padded", log_mel="fast", output_dir=str(small_disk(round(share * size)) / "out")
    )
    with pytest.raises(RuntimeError, match="are to be written"): prepare(cfg(0.85), progress=False)
    with pytest.raises((OSError, RuntimeError)) as e: prepare(cfg(0.95), progress=False)
    assert "are to be written" not in str(e.value)


def test_what_an_earlier_run_has_made_is_not_counted_again(small_disk, tmp_path):
    cfg = PrepConfig("sample", "it", storage="padded", log_mel="fast", shard_rows=4)
    run = make_run(cfg)
    folder = small_disk(plan(cfg).forecast.bytes + 12_000_000) / "out"
    filler = folder.parent / "filler"
    filler.write_bytes(bytes(16_000_000))
    with pytest.raises(RuntimeError, match="are to be written"):
        prepare(PrepConfig(**{**vars(cfg), "output_dir": str(folder)}), progress=False)
    filler.unlink()
    out = OutputFolder.of(folder)
    out.start(run.manifest, run.splits)
    for shard in run.shards[:5]: prepare_shard(shard(), run.maker, run.schema, out, token=out.token)
    (folder.parent / "filler").write_bytes(bytes(5_000_000))
    got = prepare(PrepConfig(**{**vars(cfg), "output_dir": str(folder)}), progress=False)
    assert got.hash == prepare(PrepConfig(**{**vars(cfg), "output_dir": str(tmp_path / "whole")}), progress=False).hash


def test_a_full_folder_for_temporary_files_is_named_and_not_the_url(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk(50_000)))
    with pytest.raises(
        OSError, match=f"no room is left in {tempfile.tempdir}, .* or set TMPDIR to a folder on a larger disk"
    ) as e:
        with atomic_write(as_path("memory://speech/train/data.arrow")) as f: f.write(bytes(100_000))
    assert "memory" not in str(e.value) and [*Path(tempfile.tempdir).iterdir()] == []


def test_a_folder_for_temporary_files_that_cant_hold_the_shards_of_a_url_is_refused_before_work_starts(
    small_disk, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk(5_000_000)))
    cfg = lambda workers: PrepConfig(
        "sample", "it", storage="padded", shard_rows=4, num_workers=workers, output_dir="memory://speech/small"
    )
    with pytest.raises(
        RuntimeError,
        match=(
            rf"are to be written, and [\d.]+ MB are free where {tempfile.tempdir} is: free some, set TMPDIR to a"
            r" folder on a larger disk, or num_workers to fewer"
        ),
    ):
        prepare(cfg(3), progress=False)
    def begun(now): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): prepare(cfg(1), progress=begun)


def test_parts_on_another_disk_are_merged_when_there_is_room_for_them(small_disk, tmp_path):
    parts = [tmp_path / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        prepare(
            PrepConfig("sample", "it", storage="audio", shard_rows=8, num_workers=1, output_dir=str(part)),
            progress=False,
            part=Part(i, 2),
        )
    small = small_disk(100_000)
    with pytest.raises(
        OSError,
        match=(
            r"merging the parts takes up to [\d.]+ MB, and .* free: free some, or set output_dir to a folder with"
            r" room"
        ),
    ):
        merge(parts, small / "out")
    assert not [*small.glob("out/*/*.arrow")]
    assert merge(parts, small_disk(20_000_000) / "out").hash == merge(parts, tmp_path / "here").hash


@pytest.mark.parametrize("linked", [True, False])
def test_merged_shards_are_on_the_disk_before_their_account(tmp_path, monkeypatch, linked):
    parts = [tmp_path / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        cfg = PrepConfig("sample", "it", storage="audio", shard_rows=8, num_workers=1, output_dir=str(part))
        prepare(cfg, progress=False, part=Part(i, 2))
    synced, real = [], os.fsync
    def sync(fd):
        real(fd)
        synced.append(os.fstat(fd).st_ino)
    def refuse(*paths, **where): raise OSError(18, "Invalid cross-device link")
    monkeypatch.setattr(os, "fsync", sync)
    if not linked: monkeypatch.setattr(os, "link", refuse)
    merge(parts, tmp_path / "whole")
    order = {
        f: max(i for i, n in enumerate(synced) if n == (tmp_path / "whole" / f).stat().st_ino)
        for f in [s["file"] for s in json.loads((tmp_path / "whole/prep.json").read_text())["shards"]] + [
            "prep.json"
        ]
    }
    assert len(order) > 2 and max(order, key=order.get) == "prep.json"


# Bytes, time, memory

def noise(folder, seconds, rate_hz=16_000):
    "A manifest, and a recording of noise for each of the durations, its first 0.3 s loud as if something was said."
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for i, s in enumerate(seconds):
        wave = rng.uniform(-1, 1, round(s * rate_hz)).astype("float32")
        wave[3 * rate_hz // 10:] *= 0.4
        sf.write(folder / f"c{i}.wav", wave, rate_hz)
        lines.append(json.dumps({"audio_filepath": f"c{i}.wav", "text": f"la frase {i}", "duration": s}))
    (folder / "train.json").write_text("\n".join(lines) + "\n")
    return dict(dataset_name=str(folder), language_code="it", train_splits="train", eval_splits="")


@pytest.mark.parametrize("stored", STORED)
def test_no_clip_takes_more_than_the_most_that_is_told(tmp_path, stored):
    cfg = PrepConfig(
        **noise(tmp_path / "noise", [30.0] * 3), output_dir=str(tmp_path / "out"), num_workers=1, **STORED[stored]
    )
    got = prepare(cfg, progress=False)
    assert (
        got.counts["train"]["kept"] == 3
        and (0.05 if stored == "source" else 0.9)  # a file of its own may hold floats of two channels
        < sum(s["bytes"] for s in got.prep["shards"]) / most_bytes(maker(**STORED[stored]), 3) < 1.02
    )


def test_durations_that_a_corpus_gives_count_only_where_they_are_within_the_limits(tmp_path):
    told = plan(PrepConfig(**noise(tmp_path / "noise", [2., 40., 2., 40.], 8000))).splits["train"]
    assert (told["selected"], told["seconds"], told["seconds_from"]) == (4, 4., "all clips")
    assert told["bytes"] == plan(PrepConfig(**noise(tmp_path / "short", [2., 2.], 8000))).splits["train"]["bytes"]


LIMITS = {
    "none too short": {},
    "some too short": dict(min_seconds=2.0),
    "some too long": dict(max_seconds=2.4),
    "between": dict(min_seconds=1.8, max_seconds=3.0),
    "to the sample": dict(min_seconds=2.016),
}
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_of_a_small_split_a_plan_tells_what_a_run_keeps_to_the_clip(tmp_path, limits):
    cfg = PrepConfig("sample", "it", output_dir=str(tmp_path / "out"), num_workers=1, **limits)
    told, made = plan(cfg).splits, prepare(cfg, progress=False)
    for split, c in made.counts.items():
        assert told[split]["seconds_from"] == "all clips" and told[split]["seconds"] == round(c["samples"] / 16_000, 1)
        size = sum(shard["bytes"] for shard in made.prep["shards"] if shard["split"] == split)
        assert told[split]["bytes"] == pytest.approx(size, rel=0.05, abs=5_000)


def test_a_plan_promises_nothing_of_clips_that_are_all_too_short(tmp_path):
    told = plan(PrepConfig("sample", "it", min_seconds=29.0)).splits
    assert [(d["seconds"], d["bytes"]) for d in told.values()] == [(0., 0)] * 2


def test_durations_of_a_table_hide_no_clip_that_is_rejected_when_decoded(tmp_path):
    settings = noise(tmp_path / "noise", [2., 3., 4.], 8000)
    sf.write(tmp_path / "noise" / "c1.wav", np.zeros(24_000, "float32"), 8000)
    cfg = PrepConfig(**settings, output_dir=str(tmp_path / "out"), num_workers=1)
    assert plan(cfg).splits["train"]["seconds"] == 6. and prepare(cfg, progress=False).counts["train"]["kept"] == 2


def test_of_many_clips_a_plan_takes_the_durations_that_the_corpus_gives(tmp_path):
    told = plan(PrepConfig(**noise(tmp_path / "noise", [0.2] * 60 + [31.] * 10, 2000))).splits["train"]
    assert (told["selected"], told["seconds"], told["seconds_from"]) == (70, 12., "the corpus")


def test_a_tar_that_is_put_right_after_a_plan_failed_over_it_is_read_anew(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "cv")
    rows, tar = load_rows(PrepConfig(str(tmp_path / "cv"), "it")).rows, tmp_path / "cv/audio/it/train/it_train_0.tar"
    whole = tar.read_bytes()
    os.truncate(tar, 20_000)
    with pytest.raises(OSError, match="it changed during the run"): sample_clips(rows, maker(), 42)
    (tmp_path / "whole.tar").write_bytes(whole)
    os.replace(tmp_path / "whole.tar", tar)
    assert sample_clips(rows, maker(), 42).used > 10


def test_the_few_clips_are_the_same_for_the_same_seed_and_others_for_another():
    rows = load_rows(PrepConfig("sample", "it")).rows
    told = [sample_clips(rows, maker(), seed, most=5) for seed in (1, 1, 2)]
    assert [(s.clips, s.audio_bytes, s.seconds) for s in told[:2]] == [(5, told[0].audio_bytes, told[0].seconds)] * 2
    assert told[0].audio_bytes != told[2].audio_bytes


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


def test_a_worker_that_loads_no_torch_needs_less():
    assert worker_memory(maker(storage="audio")) < worker_memory(maker()) < worker_memory(maker(storage="padded"))


@pytest.mark.parametrize(
    "shards, workers, longest",
    [([10], 1, 1.0), ([10], 4, 4.0), ([10, 10, 10, 10], 2, 1.0), ([10, 10, 10], 2, 4 / 3), ([], 3, 0.0)],
)
def test_the_last_shards_are_waited_for(shards, workers, longest):
    assert longest_share(shards, workers) == pytest.approx(longest)


class Slow:
    "A maker in whose place other programs have the machine for a tenth of a second a clip."
    def __init__(self, maker): self.maker = maker
    def __getattr__(self, name): return getattr(self.maker, name)
    def __call__(self, row):
        time.sleep(0.1)
        return self.maker(row)


def test_clips_are_timed_in_cpu_time_of_their_own_and_by_the_clock():
    rows = load_rows(PrepConfig("sample", "it")).rows.slice(0, 8)
    timing = time_rows(rows, Slow(maker(storage="audio")), 42, most_s=60)
    assert timing.seconds > 5 and timing.clock_s > 0.8 > timing.cpu_s > 0 and timing.busy > 2


def test_timing_stops_when_its_time_is_over_and_has_one_clip_at_least():
    rows = load_rows(PrepConfig("sample", "it")).rows
    few, all_ = (time_rows(rows, maker(storage="audio"), 42, most_s=s) for s in (0., 600.))
    assert 0 < few.seconds < all_.seconds


def test_timing_leaves_torchs_threads_as_they_are():
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        time_rows(load_rows(PrepConfig("sample", "it")).rows, maker(), 42, most_s=0.)
        assert torch.get_num_threads() == 3
    finally: torch.set_num_threads(before)


def test_a_busy_machine_and_few_workers_make_the_range_longer_and_never_shorter():
    idle, busy = Timing(1., 0.2, 0.2, 100.), Timing(1., 0.2, 0.6, 100.)
    span = lambda timing, workers: run_seconds(timing, 360_000., [250] * 84, workers)
    assert span(idle, 4) == Range(180., 361.) and span(busy, 4) == Range(180., pytest.approx(3 * 361))
    assert span(idle, 2).low == 360. and run_seconds(Timing(), 0., [0], 1) == Range(0., 0.)


def test_a_plan_tells_what_it_takes_for_programs_and_for_people():
    asked, free = plan(PrepConfig("sample", "it", num_workers=3, shard_rows=8)), plan(PrepConfig("sample", "it"))
    told = asked.to_dict()["forecast"]
    assert (
        told["workers"] == 3
        and told["bytes"] == sum(d["bytes"] for d in asked.splits.values())
        and told["seconds"]["high"] > told["seconds"]["low"] > 0 < told["cpu_s"]
    )
    assert told["memory"] == told["parent_memory"] + 3 * told["worker_memory"]
    line = f"with 3 workers, {told['memory'] / 1e6:.0f} MB of memory"
    assert line in repr(asked) and line in asked._repr_markdown_() and "with a worker on each core" in repr(free)


def test_no_more_workers_are_told_than_there_are_shards():
    told = plan(PrepConfig("sample", "it", num_workers=8))
    assert (told.shards, told.forecast.workers) == (2, 2) and "with 2 workers" in repr(told)


def test_of_a_cluster_a_plan_tells_no_time():
    told = plan(PrepConfig("sample", "it", engine="ray", ray_address="head:6379")).forecast
    assert (
        (told.seconds, told.workers, told.cluster) == (None, 0, True)
        and told.cpu_s > 0
        and "of CPU time, as this machine counts it, on a cluster" in repr(told)
    )


@pytest.mark.skipif(not CORPORA, reason="AUDIO_FT_PREP_CORPORA names no folder in the Common Voice layout")
@pytest.mark.parametrize("stored", STORED)
def test_bytes_of_the_corpora_are_within_a_tenth_of_what_is_forecast(figure, tmp_path, stored):
    for lang in sorted(p.name for p in (Path(CORPORA) / "transcript").iterdir()):
        cfg = PrepConfig(CORPORA, lang, output_dir=str(tmp_path / lang), **STORED[stored])
        told, size = plan(cfg).forecast.bytes, sum(s["bytes"] for s in prepare(cfg, progress=False).prep["shards"])
        figure(f"{lang}, {stored}: {told:,} bytes forecast, {size:,} written ({told / size - 1:+.1%})")
        assert told == pytest.approx(size, rel=0.1)
