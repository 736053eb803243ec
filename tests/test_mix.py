"""Several prepared folders as one: what they share, weights, accounts, and a mix that is stopped."""
import os, shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep import load_prepared
from audio_ft_prep import mix as mix_module
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.mix import mix
from audio_ft_prep.mixture import BLOCK, Mixture, MixSampler, draws
from audio_ft_prep.output import DataSet, OutputFolder
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.run import make_recipe, make_run
from audio_ft_prep.shards import prepare_shard
from audio_ft_prep.train import by_corpus


def made(at, recipe=None, **kw):
    "A prepared folder, made in this process."
    run = make_run(PrepConfig("sample", "it", **kw), recipe=recipe)
    folder = OutputFolder(at)
    folder.start(run.manifest, run.splits)
    results = [prepare_shard(shard(), run.maker, run.schema, folder) for shard in run.shards]
    folder.finalize(DataSet.of(run, results))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    "Three corpora; the second trains on the test of the first, the third on rows of the first's train."
    at = tmp_path_factory.mktemp("three")
    recipe = make_recipe(PrepConfig("sample", "it"))
    how = {
        "a": dict(train_splits="train", eval_splits="test", max_train_samples=8),
        "b": dict(train_splits="test", eval_splits="validation"),
        "c": dict(train_splits="train", eval_splits="", sampling="random", max_train_samples=12),
    }
    for name, given_ in how.items(): made(at / name, recipe, shard_rows=6, **given_)
    return at


def folders(at): return [at / name for name in "abc"]


@pytest.fixture(scope="module")
def mixed(three): return mix(folders(three), three / "mixed", weights="a=5,b=3,c=2")


@pytest.fixture(scope="module")
def clean(three): return mix(folders(three), three / "clean", leak_audio="drop")


def test_a_mix_is_a_prepared_folder_that_verifies(mixed, clean):
    assert verify(mixed.folder) == verify(clean.folder) == []
    assert sum(len(rows) for rows in load_prepared(clean.folder).values()) == sum(
        count["kept"] for count in clean.counts.values())


def test_planted_leaks_are_counted_across_corpora(three, mixed):
    tests = read_prep(three / "a")["counts"]["eval"]["kept"]
    assert mixed.prep["leaks"]["eval of a"]["audio"]["rows"] == tests > 0
    assert mixed.prep["leaks"]["eval of a"]["sentences"]["rows"] == tests
    assert mixed.prep["leaks"]["eval of a"]["speakers"]["rows"] == tests  # Common Voice's names of speakers are hashes
    assert mixed.prep["leaks"]["eval of b"]["audio"]["rows"] == 0


def test_planted_leaks_are_dropped_on_record(three, clean):
    tests = load_prepared(three / "a")["eval"]["id"][:].tolist()
    rejects = clean.folder / "rejects.parquet"
    import pyarrow.parquet as pq
    left = [r for r in pq.read_table(rejects).to_pylist() if r["reason"] == "leak"]
    assert sorted(r["id"] for r in left) == sorted(tests)
    assert all("eval of a has the same audio" in r["detail"] for r in left)
    assert not set(tests) & set(load_prepared(clean.folder)["train"]["id"][:].tolist())


def test_a_recording_that_train_has_twice_stays_once(three, mixed):
    twice = set(load_prepared(three / "a")["train"]["id"][:]) & set(load_prepared(three / "c")["train"]["id"][:])
    ids = Counter(load_prepared(mixed.folder, epoch=None)["train"]["id"][:].tolist())
    assert twice and max(ids.values()) == 1
    assert mixed.counts["train"]["rejects"]["duplicate_clip"] == len(twice)


def test_what_is_in_a_mix_balances(three, mixed):
    rows = {split: 0 for split in mixed.counts}
    for folder in folders(three):
        for split, count in read_prep(folder)["counts"].items(): rows[split] += count["rows"]
    for split, count in mixed.counts.items():
        assert count["rows"] == rows[split] == count["kept"] + sum(count["rejects"].values())
    evals = by_corpus(load_prepared(mixed.folder)["eval"])
    assert sum(map(len, evals.values())) == mixed.counts["eval"]["kept"]


def test_shards_that_nothing_left_are_links(three, mixed):
    own = {os.stat(path).st_ino for folder in folders(three) for path in folder.rglob("data-*.arrow")}
    shards = [os.stat(mixed.folder / shard["file"]).st_ino in own for shard in mixed.prep["shards"]]
    assert any(shards) and not all(shards)


def test_each_clip_is_of_the_corpus_that_it_says(three, mixed):
    of = {name: set(load_prepared(three / name)["train"]["id"][:].tolist()) for name in "abc"}
    every = load_prepared(mixed.folder, epoch=None)["train"]
    for name, rows in by_corpus(every).items(): assert set(rows["id"][:].tolist()) <= of[name]


def test_an_epoch_is_drawn_by_weight_and_again_the_same(mixed):
    first, again, second = (load_prepared(mixed.folder, epoch=epoch)["train"]["id"][:].tolist() for epoch in (0, 0, 1))
    assert first == again != second


def test_weights_hold_within_one_percent_over_100_000_draws():
    mixture = Mixture(("a", "b", "c"), (5000, 300, 40), (0.5, 0.3, 0.2), 42, 5340, "weights")
    rows = draws(mixture, 0, 100_000)
    shares = np.histogram(rows, np.cumsum((0, *mixture.rows)))[0] / len(rows)
    assert np.all(np.abs(shares / mixture.weights - 1) < 0.01)
    for first, size in ((5000, 300), (5300, 40)):
        times = np.bincount(rows[(rows >= first) & (rows < first + size)] - first, minlength=size)
        assert np.ptp(times) <= 1  # each clip once before any comes again


@settings(max_examples=40)
@given(
    rows=st.lists(st.integers(1, 50), min_size=2, max_size=4),
    raw=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    seed=st.integers(0, 9),
    first=st.integers(0, 3 * BLOCK),
    count=st.integers(0, 2 * BLOCK),
)
def test_any_stretch_of_draws_is_what_it_is_in_the_whole(rows, raw, seed, first, count):
    weights = np.array(raw[: len(rows)]) / sum(raw[: len(rows)])
    mixture = Mixture(tuple("abcd"[: len(rows)]), tuple(rows), tuple(weights), seed, sum(rows), "weights")
    assert draws(mixture, first, count).tolist() == draws(mixture, 0, first + count)[first:].tolist()


def test_an_epoch_that_was_stopped_continues_with_the_same_clips():
    mixture = Mixture(("a", "b"), (700, 90), (0.4, 0.6), 3, 790, "temperature")
    whole = list(MixSampler(mixture, epoch=2))
    stopped = MixSampler(mixture, epoch=2)
    clips = iter(stopped)
    before = [next(clips) for _ in range(333)]
    resumed = MixSampler(mixture)
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(2)  # as a trainer does
    assert before + list(resumed) == whole
    assert list(resumed) == list(MixSampler(mixture, epoch=3))


def test_a_mix_that_is_stopped_at_any_shard_is_continued(three, mixed, monkeypatch):
    make = mix_module._make
    steps = 0
    out = three / "stopped"
    class Stop(BaseException): pass
    def once(*args):
        nonlocal steps
        if steps == 1: raise Stop
        steps += 1
        return make(*args)
    monkeypatch.setattr(mix_module, "_make", once)
    for _ in range(2):
        steps = 0
        with pytest.raises(Stop): mix(folders(three), out, weights="a=5,b=3,c=2")
        assert not (out / "prep.json").exists()
    monkeypatch.setattr(mix_module, "_make", make)
    again = mix(folders(three), out, weights="a=5,b=3,c=2")
    assert again.hash == mixed.hash and verify(out) == [] and not (out / ".work").exists()
    ours, theirs = ({s["file"]: s["sha256"] for s in m.prep["shards"]} for m in (mixed, again))
    assert ours == theirs


def test_what_does_not_fit_is_refused_by_the_fields_name(three, tmp_path):
    for field, setting in {
        "feature_dtype": dict(feature_dtype="float32"),
        "storage": dict(storage="audio"),
    }.items():
        other = tmp_path / field
        made(other, max_train_samples=1, eval_splits="", **setting)
        with pytest.raises(ValueError, match=rf"^{field} is .* in .*prepare one of them again"):
            mix([three / "a", other], tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_folder_that_was_changed_is_not_mixed(three, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(three / "c", copy)
    shard = next(copy.rglob("data-*.arrow"))
    data = bytearray(shard.read_bytes())
    data[-2000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(RuntimeError, match="copy is not as it was written"):
        mix([three / "a", copy], tmp_path / "out")


def test_leaks_that_are_to_fail_do_so_before_anything_is_written(three, tmp_path):
    with pytest.raises(ValueError, match="of train with the same audio once decoded as eval of a"):
        mix(folders(three), tmp_path / "out", leak_audio="fail")
    assert not (tmp_path / "out").exists()
