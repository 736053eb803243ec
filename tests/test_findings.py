"What is found of clips: flags of measures and thresholds, speech rates, clips.parquet; the same whatever made it, and read with no trust."
import hashlib, io, json, os, resource, shutil, signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.clipfile import CLIPS, clip_groups, write_clips
from audio_ft_prep.cliprows import clip_rows, clip_schema
from audio_ft_prep.cliptable import clip_table
from audio_ft_prep.config import GROUPS, field_types
from audio_ft_prep.findings import LEAST_CLIPS, Checks, flag_column, flag_masks, is_past, named_flags, robust_z
from audio_ft_prep.flags import FLAGS, RATE, REJECTABLE, flag_names
from audio_ft_prep.soundpass import listened
from audio_ft_prep.measures import MEASURES
from audio_ft_prep.output import DataSet, OutputFolder, write_table
from audio_ft_prep.parts import merge_parts, read_parts
from audio_ft_prep.prepjson import SELECTION
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.run import Part, make_run
from audio_ft_prep.shards import json_bytes, prepare_shard
from conftest import flags, until

SETTINGS = dict(
    language_code="it",
    model_id="openai/whisper-tiny",
    train_splits="train",
    storage="audio",
    shard_rows=60,
    flag_edges=0.3,
    flag_rate=1.0,
)


# The table of flags

def test_every_flag_is_read_from_measures_that_there_are_and_has_a_setting_of_its_own():
    for name, flag in FLAGS.items():
        assert set(flag.measures) <= {*MEASURES, "rate_z"}, name
        assert bool(flag.measures) <= bool(flag.setting) and bool(flag.setting) == bool(flag.side), name
    thresholds = [flag.setting for flag in FLAGS.values() if flag.setting]
    assert sorted(thresholds) == sorted(set(GROUPS["checks"]) - {"reject"})
    assert set(thresholds) <= field_types().keys() and set(REJECTABLE) == FLAGS.keys() - {RATE}


@pytest.mark.parametrize("reject", ["rate", "loud", "low_snr,,loud", "Low_SNR", "low_snr;quiet"])
def test_only_flags_that_can_be_known_in_time_are_reasons(reject):
    with pytest.raises(ValueError, match=r"reject must name flags .* among low_snr, quiet, .*rate is known only when"):
        PrepConfig("sample", "it", reject=reject)


def test_a_flag_that_is_off_rejects_nothing():
    with pytest.raises(ValueError, match="got gap with no flag_gap: give it a threshold"):
        PrepConfig("sample", "it", reject="gap", flag_gap=None)
    assert flag_names(" gap ,edges,, gap") == ("edges", "gap")


# Masks and rates

NAMED = st.lists(st.sets(st.sampled_from(sorted(FLAGS))), max_size=30)


@settings(max_examples=40)
@given(NAMED)
def test_masks_and_lists_of_names_say_the_same(clips):
    masks = {name: np.array([name in clip for clip in clips], bool) for name in FLAGS}
    column = flag_column(masks, len(clips))
    assert column.to_pylist() == [[name for name in FLAGS if name in clip] for clip in clips]
    read = flag_masks(column)
    assert all((read.get(name, np.zeros(len(clips), bool)) == masks[name]).all() for name in FLAGS)
    joined = named_flags(pa.chunked_array([pa.array([",".join(sorted(clip)) for clip in clips], pa.string())]))
    assert all((joined[name] == masks[name]).all() for name in joined)


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(LEAST_CLIPS, 400), st.integers(0, LEAST_CLIPS - 1))
def test_the_distance_of_a_clip_depends_on_its_language_alone_and_not_on_the_order(seed, many, few):
    rng = np.random.default_rng(seed)
    rates = rng.normal(1.5, 0.3, many + few)
    languages = np.array(["it"] * many + ["fr"] * few)
    order = rng.permutation(many + few)
    z = robust_z(rates, pa.array(languages))
    assert np.array_equal(robust_z(rates[order], pa.array(languages[order])), z[order], equal_nan=True)
    assert np.array_equal(robust_z(rates[:many], pa.array(languages[:many])), z[:many])
    assert np.isnan(z[many:]).all() and abs(np.median(z[:many])) < 1e-6


def test_values_are_compared_as_they_are_stored():
    "A measure a hair beyond its threshold, which float32 can't tell from it, is not beyond."
    limit = float(np.float32(4400.1))
    assert not is_past([limit], "below", limit)[0] and not is_past([limit * (1 + 1e-9)], "above", limit)[0]
    assert not is_past([np.nan], "above", 0)[0] and is_past([-5], "beyond", 4)[0]


# Folders of one run, made in several ways by one process

def config(corpus, folder, **more): return PrepConfig(str(corpus), output_dir=str(folder), **{**SETTINGS, **more})


def made(corpus, folder, part=None, resumed=False, **more):
    "Make a folder; resumed: its shards from the last to the first, half of them by a run that was lost."
    run = make_run(config(corpus, folder, **more), part)
    out = OutputFolder.of(str(folder))
    out.start(run.manifest, run.rows)
    if part: write_table(out / SELECTION, run.selection.rejects)
    run = listened(run, out, None)  # which has nothing to hear here, and says so in a part
    token, keys = out.token, [shard.key for shard in run.shards]
    def make(shards): return [prepare_shard(s(), run.maker, run.schema, out, token=token) for s in shards]
    if resumed: make(run.shards[3:][::-1])
    before = out.done_shards(keys, token)
    assert len([r for r in before.values() if r]) == (len(keys) - 3 if resumed else 0)
    make([s for s in run.shards if not before[s.key]][::-1])
    out.finalize(DataSet.of(run, list(out.done_shards(keys, token).values())))
    return Path(folder)


@pytest.fixture(scope="module")
def whole(long_corpus, tmp_path_factory): return made(long_corpus, tmp_path_factory.mktemp("whole") / "out")


def same(folder, whole):
    assert (folder / CLIPS).read_bytes() == (whole / CLIPS).read_bytes()
    assert json.loads((folder / "prep.json").read_bytes()) == json.loads((whole / "prep.json").read_bytes())
    assert verify(folder) == []


def test_a_run_that_was_resumed_leaves_the_same_table_of_clips(long_corpus, whole, tmp_path):
    same(made(long_corpus, tmp_path / "out", resumed=True), whole)
    z = clip_table(whole, ["rate_z"])["rate_z"]
    assert z.null_count == 0 and read_prep(whole)["flags"]["train"][RATE]["clips"] > 0


def test_parts_make_the_same_table_of_clips_when_they_are_merged(long_corpus, whole, tmp_path):
    parts = [made(long_corpus, tmp_path / f"{i}", Part(i, 2)) for i in range(2)]
    assert all(verify(part) == [] and RATE not in read_prep(part)["flags"]["train"] for part in parts[:1])
    assert clip_table(parts[0], ["rate_z"])["rate_z"].null_count == len(clip_table(parts[0]))
    merge_parts(read_parts(parts[::-1]), OutputFolder.of(str(tmp_path / "out")))
    same(tmp_path / "out", whole)


def test_each_flag_of_a_clip_follows_from_its_measures_and_the_thresholds(whole):
    config, rows = read_prep(whole)["config"], clip_table(whole).to_pylist()
    for row in rows:
        for name, flag in FLAGS.items():
            if not flag.measures: continue
            limit = config[flag.setting]
            values = [abs(row[m]) if flag.side == "beyond" else row[m] for m in flag.measures]
            past = [v < limit if flag.side == "below" else v > limit for v in values]
            assert (name in row["flags"]) == any(past), (row["id"], name)


def test_flags_are_counted_by_split_with_their_samples(whole):
    prep, rows = read_prep(whole), clip_table(whole).to_pylist()
    for split in prep["counts"]:
        of_split = [row for row in rows if row["split"] == split]
        assert len(of_split) == prep["counts"][split]["kept"]
        for name in {name for row in of_split for name in row["flags"]} | prep["flags"][split].keys():
            lengths = [round(row["seconds"] * 16_000) for row in of_split if name in row["flags"]]
            assert prep["flags"][split][name] == {"clips": len(lengths), "samples": sum(lengths)}
    assert sum(round(row["seconds"] * 16_000) for row in rows) == sum(c["samples"] for c in prep["counts"].values())


def test_a_rejected_flag_is_the_reason_and_the_others_stay_as_they_were(long_corpus, whole, tmp_path):
    before = clip_table(whole)
    limit = float(np.median(before["level_db"].to_numpy()))
    folder = made(long_corpus, tmp_path / "out", reject="quiet", flag_quiet=limit)
    told = [r for r in pq.read_table(folder / "rejects.parquet").to_pylist() if r["reason"] == "quiet"]
    gone = [row["id"] for row in before.to_pylist() if row["level_db"] < limit]
    assert gone and [r["id"] for r in told] == gone and all(f"below {limit:g} dBFS" in r["detail"] for r in told)
    stayed = before.filter(pa.array([row["id"] not in gone for row in before.to_pylist()]))
    alone = [name for name in clip_schema().names if name not in ("rate_z", "flags")]
    assert clip_table(folder, alone).equals(stayed.select(alone)) and verify(folder) == []


@pytest.mark.long
def test_another_threshold_changes_flags_and_no_example(long_corpus, whole, tmp_path):
    folder = made(long_corpus, tmp_path / "out", flag_edges=None, flag_rate=0.5)
    here, there = read_prep(folder), read_prep(whole)
    assert here["hash"] == there["hash"] and here["shards"] == there["shards"]
    assert "edges" not in here["flags"]["train"] and "edges" in there["flags"]["train"]
    assert here["flags"]["train"][RATE]["clips"] > there["flags"]["train"][RATE]["clips"]


# Files of others

def changed(**columns):
    "The table with other columns, written as Parquet."
    def change(clips):
        for name, value in columns.items():
            clips = clips.set_column(clips.schema.names.index(name), name, value(clips))
        return clips
    return change


def bomb(n):
    "One text of a megabyte in every row: some kilobytes in the file."
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["x" * (1 << 24)]))


ODD_CLIPS = {
    "a column more": lambda c: c.append_column("more", c["id"]),
    "a column less": lambda c: c.drop_columns("level_db"),
    "a column of another type": changed(seconds=lambda c: c["seconds"].cast(pa.float32())),
    "no clips": lambda c: c.slice(0, 0),
    "a clip more": lambda c: pa.concat_tables([c, c.slice(0, 1)]),
    "clips of the other split": changed(split=lambda c: pa.array(["eval"] * len(c))),
    "clips of a third split": changed(split=lambda c: pa.array(["test"] * len(c))),
    "text without end": changed(sentence=lambda c: bomb(len(c)).cast(pa.string()) if len(c) < 99 else bomb(len(c))),
    "text that isn't there": changed(speaker=lambda c: pa.nulls(len(c), pa.string())),
    "numbers that aren't there": changed(level_db=lambda c: pa.nulls(len(c), pa.float32())),
    "lengths below zero": changed(seconds=lambda c: pa.array([-1.0] * len(c))),
    "lengths that are no number": changed(seconds=lambda c: pa.array([np.nan] * len(c))),
    "flags that are HTML": changed(flags=lambda c: pa.array([["<b>"]] * len(c))),
    "flags that aren't there": changed(flags=lambda c: pa.nulls(len(c), pa.list_(pa.string()))),
    "other flags than are counted": changed(flags=lambda c: pa.array([["quiet"]] * len(c))),
}
AGREE_ALONE = ("clips of the other split", "clips of a third split", "other flags than are counted")


@pytest.fixture
def mine(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def put(folder, data):
    "Write a table of clips, and its hash, as its author would."
    (folder / CLIPS).write_bytes(data)
    prep = json.loads((folder / "prep.json").read_bytes())
    prep["files"][CLIPS] = hashlib.sha256(data).hexdigest()
    (folder / "prep.json").write_bytes(json_bytes(prep))


@pytest.mark.parametrize("name", ODD_CLIPS)
def test_a_table_that_no_run_writes_is_refused_in_a_sentence(mine, name):
    clips = ODD_CLIPS[name](pq.read_table(mine / CLIPS))
    sink = io.BytesIO()
    schema = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in clips.schema])
    if clips.schema.equals(schema): pq.write_table(clips, sink)
    else: pq.write_table(clips, sink, store_schema=False)
    put(mine, sink.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faults = verify(mine)
    assert len(faults) == 1 and CLIPS in faults[0] and "\n" not in faults[0], faults
    if name not in AGREE_ALONE:
        with pytest.raises(ValueError, match="the clips of .* can't be read, .*: prepare it again, or fetch it again"):
            clip_table(mine)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kB"


def cut(path): path.write_bytes(path.read_bytes()[:-9])
def text(path): path.write_bytes(b"PAR1 and then nothing")
def gone(path): path.unlink()
def link(path):
    os.rename(path, path.parent.parent / "there")
    path.symlink_to(path.parent.parent / "there")
def fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, text, gone, link, fifo])
def test_a_damaged_table_of_clips_is_refused_in_a_sentence(mine, damage):
    damage(mine / CLIPS)
    with pytest.raises(ValueError, match="clips"): clip_table(mine)
    assert verify(mine) and all("\n" not in fault for fault in verify(mine))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 9, b"\xff" * 99])
def test_bytes_that_are_no_parquet_are_refused_in_a_sentence(mine, data):
    put(mine, data)
    with pytest.raises(ValueError, match="the clips of .* can't be read"): clip_table(mine)


ODD_FLAGS = {
    "more clips than were kept": lambda flags: flags["train"]["rate"].update(clips=10**6),
    "samples below zero": lambda flags: flags["train"]["rate"].update(samples=-1),
    "a split that isn't there": lambda flags: flags.update(test={}),
    "a name with a line break": lambda flags: flags["train"].update({"a\nb": {"clips": 1, "samples": 1}}),
    "a list": lambda flags: flags.update(train=[]),
    "a number for a flag": lambda flags: flags["train"].update(quiet=3),
}


@pytest.mark.parametrize("name", ODD_FLAGS)
def test_counts_of_flags_that_no_run_writes_are_refused(mine, name):
    prep = json.loads((mine / "prep.json").read_bytes())
    ODD_FLAGS[name](prep["flags"])
    (mine / "prep.json").write_bytes(json_bytes(prep))
    with pytest.raises(ValueError, match=r"prep.json describes no prepared data set, flags"): read_prep(mine)


def test_flags_are_counted_where_there_is_a_table_and_nowhere_else(mine):
    prep = json.loads((mine / "prep.json").read_bytes())
    del prep["flags"]
    (mine / "prep.json").write_bytes(json_bytes(prep))
    with pytest.raises(ValueError, match="names clips.parquet if flags are counted, and only then"): read_prep(mine)


def test_a_folder_of_an_older_release_has_its_clips_read_from_its_shards(mine, whole):
    prep = json.loads((mine / "prep.json").read_bytes())
    del prep["flags"], prep["files"][CLIPS]
    (mine / CLIPS).unlink()
    (mine / "prep.json").write_bytes(json_bytes(prep))
    names = ["split", "id", "sentence", "speaker", "seconds", *MEASURES]
    assert clip_table(mine, names).equals(clip_table(whole, names))
    old = clip_table(mine)
    assert set(old["locale"].to_pylist()) == {"it"} and not any(old["flags"].to_pylist())


# Long ones

@pytest.mark.long
def test_workers_and_kills_leave_the_same_table_of_clips(long_corpus, whole, tmp_path, start):
    for n in (1, 3):
        same(Path(prepare(config(long_corpus, tmp_path / f"{n}", num_workers=n), progress=False).folder), whole)
    settings = {**SETTINGS, "dataset_name": long_corpus, "output_dir": tmp_path / "killed", "num_workers": 1}
    for n in (2, 4):
        run = start("prepare", *flags(**settings))
        until(lambda: len([*tmp_path.glob("killed/.work/*-00*.clips")]) >= n or not run.alive())
        run.signal(signal.SIGKILL)
        run.wait()
    run = start("prepare", *flags(**settings | {"num_workers": 3}))
    assert run.wait().code == 0
    same(tmp_path / "killed", whole)


@pytest.mark.long
def test_a_cluster_leaves_the_same_table_of_clips(long_corpus, whole, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    same(Path(prepare(config(long_corpus, tmp_path / "out", engine="ray"), progress=False).folder), whole)


@pytest.mark.long
def test_a_million_clips_are_written_in_bounded_memory(tmp_path):
    names = [f"common_voice_it_{i}" for i in range(12_000)]
    rows = pa.table({"id": names, "sentence": ["Una frase come altre."] * 12_000})
    values = np.random.default_rng(0).uniform(1, 50, (12_000, len(MEASURES)))
    found = [dict(zip(MEASURES, row)) | {"input_length": 80_000} for row in values]
    shard = clip_rows("train", rows, found, 16_000, Checks({"low_snr": 15.0, "rate": 4.0}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(tmp_path / CLIPS, "wb") as f:
        write_clips(f, lambda: (shard for _ in range(84)), Checks({"low_snr": 15.0, "rate": 4.0}), 16_000)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert more < 300_000, "kB"
    with open(tmp_path / CLIPS, "rb") as f: assert sum(map(len, clip_groups(f, MEASURES, 84 * 12_000))) == 84 * 12_000
