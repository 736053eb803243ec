"A run is one value, and so is the folder it writes; a shard knows which one it is wherever it goes."
from dataclasses import replace

import pytest

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.paths import Url
from audio_ft_prep.reading import PreparedFolder, read_prep
from audio_ft_prep.run import Part, make_run
from audio_ft_prep.shards import ShardKey, prepare_shard


@pytest.fixture(scope="module")
def run(): return make_run(PrepConfig("sample", "it", storage="audio", shard_rows=5))


@pytest.mark.parametrize("jobs", [1, 2, 3, 6])
def test_jobs_together_make_each_shard_of_a_run_once(run, jobs):
    parts = [replace(run, part=Part(i, jobs)) for i in range(jobs)]
    assert [shard.key for part in parts for shard in part.shards] == [shard.key for shard in run.every_shard]
    assert all(part.rows_in == part.rows and len(part.rejects) == 0 for part in parts)
    assert {part.manifest["part"]["shards"] for part in parts} == {len(run.every_shard)}


def test_the_rows_of_a_run_are_those_of_all_its_shards(run):
    selected = {split: len(run.selection[split]) for split in run.splits}
    assert run.rows == selected and max(selected.values()) > run.shards[0].size


def test_a_job_too_many_is_refused(run):
    with pytest.raises(ValueError, match="ask for 6 jobs at most"): replace(run, part=Part(0, 7)).shards


def test_a_shard_keeps_its_key_from_the_rows_to_the_record(run, tmp_path):
    folder = OutputFolder.of(tmp_path / "out")
    folder.start(run.manifest, run.splits)
    for planned in (run.shards[1], run.shards[-1]):
        shard = planned()
        result = prepare_shard(shard, run.maker, run.schema, folder, token=folder.token)
        assert planned.key == shard.key == result.key and (folder.work / planned.key.record).is_file()
        assert folder.done(planned.key, folder.token) == result
        assert len(shard.table()) == planned.size == result.rows + len(result.rejects)
    assert str(run.shards[1].key) == "train-00001" and run.shards[1].key == ShardKey("train", 1)


@pytest.mark.parametrize(
    "name",
    ["s3://bucket/prepared", "s3://bucket/prepared/", Url("s3://bucket/prepared")],
    ids=["URL", "slash", "Url"],
)
def test_a_url_is_one_folder_however_it_is_named(name):
    folder = PreparedFolder.of(name)
    assert (
        folder == PreparedFolder.of(folder) == PreparedFolder(Url("s3://bucket/prepared"))
        and str(folder.work) == "s3://bucket/prepared/.work"
    )


def test_what_a_folder_said_is_kept_as_long_as_it_is_held(tmp_path):
    made = prepare(
        PrepConfig("sample", "it", storage="audio", max_train_samples=2, output_dir=str(tmp_path / "out")),
        progress=False,
    )
    folder = PreparedFolder.of(made.folder)
    before, data = folder.prep, folder.prep_bytes
    (made.folder / "prep.json").write_bytes(data.replace(b'"max_train_samples": 2', b'"max_train_samples": 3'))
    assert folder.prep is before and folder.prep_bytes == data and read_prep(folder)["config"]["max_train_samples"] == 3
    assert any("prep.json" in fault for fault in folder.verify()), "verify reads it anew"
