"""What `datasets` can do with a data set works on a prepared one, and what comes out still makes the same batches."""
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets, interleave_datasets, load_from_disk
from torch.utils.data import DataLoader

from audio_ft_prep import SpeechCollator, load_prepared
from audio_ft_prep.collator import ArrowRows

pytestmark = pytest.mark.usefixtures("one_thread")
STORED = {
    "float16": dict(feature_dtype="float16"),
    "float32": dict(feature_dtype="float32"),
    "padded": dict(storage="padded"),
    "audio": dict(storage="audio"),
    "source": dict(storage="source"),
}
KEEP = ["id", "input_features", "labels"]
START = 50258
quiet = dict(load_from_cache_file=False)


def lower(item): return item | {"sentence": item["sentence"].lower()}
def changed(item): item["sentence"] = item["sentence"].upper(); return item
def is_long(n): return n > 40_000
def numbered(item, i): return item | {"number": i}
def doubled(batch): return {name: [*values, *values] for name, values in batch.items()}
def named(rows, folder): return rows.add_column("group", ["a", "b"] * (len(rows) // 2))


# Each takes rows and a folder to write to, and gives rows, an iterable of items, or a batch of columns
MADE = {
    "select": lambda d, p: d.select([3, 0]),
    "select a range": lambda d, p: d.select(range(2, 5)),
    "skip": lambda d, p: d.skip(2),
    "take": lambda d, p: d.take(2),
    "repeat": lambda d, p: d.repeat(2),
    "shuffle": lambda d, p: d.shuffle(seed=1),
    "shuffle and flatten": lambda d, p: d.shuffle(seed=1).flatten_indices(cache_file_name=str(p / "flat.arrow")),
    "sort": lambda d, p: d.sort("input_length", indices_cache_file_name=str(p / "sorted.arrow")),
    "shard": lambda d, p: d.shard(2, 1),
    "split, train": lambda d, p: d.train_test_split(0.5, seed=3)["train"],
    "split, test": lambda d, p: d.train_test_split(0.5, seed=3)["test"],
    "class encode, split by it": lambda d, p: named(d, p).class_encode_column("group").train_test_split(
        0.5, stratify_by_column="group", seed=1)["test"],
    "filter": lambda d, p: d.filter(is_long, input_columns="input_length", **quiet),
    "filter items": lambda d, p: d.filter(lambda item: item["input_length"] > 40_000, **quiet),
    "filter in batches": lambda d, p: d.filter(
        lambda n: [v > 40_000 for v in n], batched=True, input_columns="input_length", **quiet),
    "map that returns the item": lambda d, p: d.map(changed, **quiet),
    "map to a new item": lambda d, p: d.map(lower, **quiet),
    "map with indices": lambda d, p: d.map(numbered, with_indices=True, **quiet),
    "map in batches": lambda d, p: d.map(doubled, batched=True, **quiet),
    "map one column": lambda d, p: d.map(lambda s: {"words": len(s.split())}, input_columns="sentence", **quiet),
    "map that removes": lambda d, p: d.map(
        lambda s: {"x": 1}, input_columns="sentence", remove_columns="speaker", **quiet),
    "map in memory": lambda d, p: d.map(lower, keep_in_memory=True, **quiet),
    "concatenate": lambda d, p: concatenate_datasets([d, d.select([0])]),
    "concatenate beside": lambda d, p: concatenate_datasets([d, Dataset.from_dict({"x": [1] * len(d)})], axis=1),
    "interleave": lambda d, p: interleave_datasets([d.select([0, 1]), d.select([2, 3])]),
    "interleave by chance": lambda d, p: interleave_datasets([d, d.select([0])], probabilities=[0.5, 0.5], seed=1),
    "rename a column": lambda d, p: d.rename_column("sentence", "text"),
    "rename columns": lambda d, p: d.rename_columns({"sentence": "text", "speaker": "who"}),
    "remove a column": lambda d, p: d.remove_columns("speaker"),
    "select columns": lambda d, p: d.select_columns(KEEP),
    "add a column": lambda d, p: d.add_column("x", list(range(len(d)))),
    "add an item": lambda d, p: d.select([0, 1]).add_item(d.with_format(None)[2]),
    "cast a column": lambda d, p: d.cast_column("input_length", Value("int32")),
    "cast": lambda d, p: d.cast(Features({**d.features, "input_length": Value("int32")})),
    "class encode": lambda d, p: d.class_encode_column("speaker"),
    "format numpy": lambda d, p: d.with_format("numpy"),
    "format torch": lambda d, p: d.with_format("torch"),
    "format python": lambda d, p: d.with_format(None),
    "format arrow": lambda d, p: d.with_format("arrow"),
    "format of some columns": lambda d, p: d.with_format("numpy", columns=KEEP),
    "all other columns, too": lambda d, p: d.with_format("numpy", columns=["labels"], output_all_columns=True),
    "a transform": lambda d, p: d.with_transform(lambda batch: batch),
    "saved and opened": lambda d, p: (d.save_to_disk(str(p / "saved")), load_from_disk(str(p / "saved")))[1],
    "a dictionary, saved": lambda d, p: (
        DatasetDict(train=d).save_to_disk(str(p / "both")), DatasetDict.load_from_disk(str(p / "both")))[1]["train"],
    "to Parquet and back": lambda d, p: (
        d.to_parquet(str(p / "d.parquet")), Dataset.from_parquet(str(p / "d.parquet"), cache_dir=str(p)))[1],
    "to a list and back": lambda d, p: Dataset.from_list(d.with_format(None).to_list()),
    "to a dictionary and back": lambda d, p: Dataset.from_dict(d.with_format(None).to_dict()),
    "a copy": lambda d, p: __import__("copy").deepcopy(d),
    "pickled": lambda d, p: __import__("pickle").loads(__import__("pickle").dumps(d)),
    "a list": lambda d, p: list(d),
    "a slice": lambda d, p: d[1:4],
    "some rows": lambda d, p: d[[0, 2]],
    "arrow rows": lambda d, p: [ArrowRows(d)[i] for i in range(3)],
    "an Arrow table": lambda d, p: d.with_format("arrow")[:3],
    "iter": lambda d, p: next(iter(d.iter(3))),
    "batch": lambda d, p: d.batch(2)[0],
    "iterable": lambda d, p: d.to_iterable_dataset(num_shards=2),
    "iterable, shuffled": lambda d, p: d.to_iterable_dataset(num_shards=2).shuffle(seed=1, buffer_size=4),
    "iterable, skipped and taken": lambda d, p: d.to_iterable_dataset().skip(1).take(3),
    "iterable, filtered": lambda d, p: d.to_iterable_dataset().filter(is_long, input_columns="input_length"),
    "iterable, mapped": lambda d, p: d.to_iterable_dataset().map(lower),
    "iterable, columns": lambda d, p: d.to_iterable_dataset().select_columns(KEEP),
    "iterable, arrow": lambda d, p: d.with_format("arrow").to_iterable_dataset(),
    "iterables, joined": lambda d, p: concatenate_datasets([d.to_iterable_dataset(), d.to_iterable_dataset()]),
}
# Faults of `datasets`: matrices that differ in width can't be copied from the format numpy, and no item joins sound
NOT_FROM_NUMPY = {"shuffle and flatten", "class encode", "class encode, split by it"}
RAISES = {name: {stored: pa.ArrowInvalid for stored in ("float16", "float32")} for name in NOT_FROM_NUMPY}
RAISES["add an item"] = {"audio": AttributeError, "source": AttributeError}
# Values that are looked at as they are
SEEN = {
    "to pandas": lambda d: [*d.to_pandas()["id"]] == [*d["id"]],
    "unique": lambda d: sorted(d.unique("id")) == sorted(d["id"]),
    "column names": lambda d: {*KEEP, "sentence"} <= set(d.column_names),
    "shape": lambda d: d.shape == (len(d), len(d.column_names)),
    "to_dict of a column": lambda d: d.select_columns("labels").with_format(None).to_dict()["labels"][0][0] == START,
    "a column": lambda d: d["labels"][0][0] == START,
}


def batch_of(collate, items, kind=torch.Tensor):
    batch = collate(items)
    assert all(isinstance(v, kind) for v in batch.values())
    return batch


def same_rows(got, want):
    "Whether the labels and inputs of each row of a batch are those of the clip with its name."
    for name, features, labels in got:
        at = want[0].index(name)
        assert torch.allclose(features, want[1]["input_features"][at], atol=2e-3), name
        own = labels[labels != -100]
        assert own.tolist() == want[1]["labels"][at][want[1]["labels"][at] != -100].tolist(), name


def names_of(items):
    if isinstance(items, pa.Table): return items["id"].to_pylist()
    if isinstance(items, dict): return [str(n) for n in items["id"]]
    return [n for i in items for n in (i["id"].to_pylist() if isinstance(i, pa.Table) else [str(i["id"])])]


@pytest.mark.parametrize(
    "stored", ["float16", "audio", *(pytest.param(s, marks=pytest.mark.long) for s in ("float32", "padded", "source"))]
)
def test_what_datasets_can_do_works_on_a_prepared_folder_and_what_comes_out_makes_the_same_batch(
    prepared, tmp_path, stored
):
    rows = load_prepared(prepared("it", **STORED[stored]).folder)["train"].select(range(8))
    collate = SpeechCollator(START)
    want = ([str(n) for n in rows["id"]], batch_of(collate, list(rows)))
    assert len(MADE) + len(SEEN) >= 60
    for name, make in MADE.items():
        folder = tmp_path / name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        if error := RAISES.get(name, {}).get(stored):
            with pytest.raises(error): make(rows, folder)
            if name not in NOT_FROM_NUMPY: continue
            made = make(rows.with_format(None), folder)
        else: made = make(rows, folder)
        items = made if isinstance(made, (dict, pa.Table)) else list(made)
        names = names_of(items)
        assert names, name
        batch = batch_of(collate, items)
        same_rows(zip(names, batch["input_features"], batch["labels"]), want)
    for name, look in SEEN.items(): assert look(rows), name


@pytest.mark.parametrize("stored", ["float16", "audio"])
def test_filters_and_maps_in_two_processes_end_after_an_item_was_read(prepared, stored):
    rows = load_prepared(prepared("it", **STORED[stored]).folder)["train"]
    SpeechCollator(START)([rows[0]])
    long = rows.filter(is_long, input_columns="input_length", num_proc=2, **quiet)
    assert [*long["id"]] == [n for n, length in zip(rows["id"], rows["input_length"]) if length > 40_000]


@pytest.mark.long
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("stored", ["float16", "audio"])
def test_two_loader_workers_give_the_batches_of_none_however_they_start(prepared, stored, start):
    rows = load_prepared(prepared("it", **STORED[stored]).folder)["train"]
    collate = SpeechCollator.of("openai/whisper-small", rows)
    alone = [*DataLoader(rows, 8, collate_fn=collate)]
    both = [*DataLoader(rows, 8, collate_fn=collate, num_workers=2, multiprocessing_context=start)]
    for a, b in zip(alone, both, strict=True):
        assert type(b) is dict and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.long
def test_a_stateful_loader_goes_on_amid_an_epoch_with_the_same_batches(prepared):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    rows = load_prepared(prepared("it", **STORED["float16"]).folder)["train"]
    def loader():
        torch.manual_seed(3)
        return stateful(rows, 4, shuffle=True, collate_fn=SpeechCollator(START), num_workers=1)
    whole = [b["labels"] for b in loader()]
    first = loader()
    batches = iter(first)
    begun = [next(batches)["labels"] for _ in range(2)]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    rest = [b["labels"] for b in second]
    assert all(torch.equal(a, b) for a, b in zip(begun + rest, whole, strict=True))


def test_a_folder_of_sound_serves_a_model_with_more_mels_and_another_vocabulary(prepared):
    folder = prepared("it", **STORED["audio"]).folder
    large, rows = "openai/whisper-large-v3", load_prepared(folder)["train"]
    collate = SpeechCollator.of(large, rows)
    batch, again = collate(list(rows)[:4]), load_prepared(folder, large)["train"]
    assert batch["input_features"].shape == (4, 128, 3000) and batch["labels"][0, 2] == 50364
    plain = SpeechCollator.of(large, again)
    assert plain.labels is None and torch.equal(plain(list(again.select_columns(KEEP))[:4])["labels"], batch["labels"])
    few = rows.select_columns(["input_features", "labels"])
    with pytest.raises(ValueError, match="a batch needs the sentence, to make labels of it"): collate([few[0]])
    assert np.array_equal(batch["attention_mask"].sum(1), [-(-n // 160) for n in rows["input_length"][:4]])
