"The same utterances are the same examples, however they are laid out."
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datasets import Dataset

from audio_ft_prep import PrepConfig, plan, prepare
from audio_ft_prep.example import add_hashes, example_hash, example_maker
from audio_ft_prep.load import inspect_corpus, load_rows
from audio_ft_prep.models import load_model
from audio_ft_prep.sampling import fetch_audio, labelled, select
from audio_ft_prep.whisper import language_tokenizer
from layouts import LAYOUTS, put, utterances

ITEMS = utterances()
pytestmark = pytest.mark.usefixtures("own_cache", "hub")


def config(place, **more): return PrepConfig(str(place), "it", **{"num_workers": 1, "output_dir": "unused", **more})


def examples_hash(cfg):
    "The hash that `prepare` would write, made in this process."
    model = load_model(cfg.model_id)
    tokenizer = language_tokenizer(model, "it")
    chosen = fetch_audio(load_rows(cfg), lambda corpus: select(corpus, cfg, model, tokenizer))
    make = example_maker(cfg, model)
    assert len(chosen.rejects) == 0, chosen.rejects.to_pylist()
    hashes = []
    for split in ("train", "eval"):
        rows = labelled(chosen[split], model, tokenizer).to_pylist()
        hashes += [example_hash(split, make(row)) for row in rows]
    return f"{add_hashes(*hashes):064x}"


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    root = tmp_path_factory.mktemp("wanted")
    return prepare(config(LAYOUTS["tar_tree"](root / "corpus", ITEMS), output_dir=str(root / "out")), progress=False)


@pytest.mark.parametrize("name", LAYOUTS)
def test_twelve_utterances_have_one_hash_in_every_layout(name, wanted, tmp_path, one_thread):
    cfg = config(LAYOUTS[name](tmp_path / "corpus", ITEMS))
    assert examples_hash(cfg) == wanted.hash
    assert load_rows(cfg).source["identity"] == load_rows(cfg).source["identity"]


@pytest.mark.parametrize(
    "name", ["mdc_archive", "kaldi_segments", "hub_tar_tree", "hub_parquet_copy", "saved_with_paths"]
)
def test_a_prepared_folder_has_that_hash_too(name, wanted, tmp_path):
    got = prepare(config(LAYOUTS[name](tmp_path / "corpus", ITEMS), output_dir=str(tmp_path / "out")), progress=False)
    assert got.hash == wanted.hash and got.counts == wanted.counts


def test_a_path_of_a_saved_data_set_that_leaves_its_folder_is_a_reject(tmp_path):
    good, bad = ITEMS[:2]
    put(tmp_path / "saved" / good.file, good.data)
    put(tmp_path / "outside.mp3", bad.data)
    paths = [good.file, "../outside.mp3", "gone.mp3"]
    table = pa.table(
        {
            "audio": pa.array(
                [{"bytes": None, "path": p} for p in paths], pa.struct({"bytes": pa.binary(), "path": pa.string()})
            ),
            "sentence": ["uno", "due", "tre"],
        }
    )
    Dataset(table).save_to_disk(str(tmp_path / "saved"))
    got = prepare(
        config(
            tmp_path / "saved",
            output_dir=str(tmp_path / "out"),
            eval_splits="",
            train_splits="train+validation+test",
        ),
        progress=False,
    )
    assert got.counts["train"] == {
        **got.counts["train"],
        "rows": 3,
        "kept": 1,
        "rejects": {"unsafe_path": 1, "missing_audio": 1},
    }


NAMELESS = ("librispeech", "texts_beside", "webdataset_with_texts", "tarred_nemo")  # layouts that don't say who speaks, or not of such clips


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_look_shows_splits_rows_and_speakers(name, tmp_path):
    got = inspect_corpus(str(LAYOUTS[name](tmp_path / "corpus", ITEMS)), "it")
    (splits,) = got["languages"].values()
    assert {s: (d["rows"], d["usable"], d["rejects"]) for s, d in splits.items()} == {
        "train": (5, 5, {}),
        "validation": (4, 4, {}),
        "test": (3, 3, {}),
    }
    for s, d in splits.items():
        mine = [u for u in ITEMS if u.split == s or (u.split, s) == ("dev", "validation")]
        assert d["speakers"] == (0 if name in NAMELESS else len({u.speaker for u in mine}))
        assert d["first"] == [{"id": u.id, "sentence": u.sentence} for u in mine][:3] and d["columns"] and got["why"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n.startswith(("mdc", "spontaneous", "nemo", "kaldi_"))])
def test_a_plan_of_a_few_clips_agrees_with_the_durations_that_the_layout_gives(name, tmp_path):
    got = plan(config(LAYOUTS[name](tmp_path / "corpus", ITEMS)))
    assert [d["seconds_from"] for d in got.splits.values()] == ["all clips"] * 2
    assert abs(sum(d["seconds"] for d in got.splits.values()) - sum(u.seconds for u in ITEMS)) < 0.2


def test_a_plan_counts_the_bytes_of_a_shared_recording_once(tmp_path):
    place = LAYOUTS["kaldi_segments"](tmp_path / "corpus", ITEMS)
    got = plan(config(place, train_splits="train"))
    assert got.splits["train"]["audio_bytes"] == (place / "train/long.wav").stat().st_size
    assert (
        pc.sum(load_rows(config(place, train_splits="train", eval_splits="")).rows["size"]).as_py()
        == 5 * got.splits["train"]["audio_bytes"]
    )
