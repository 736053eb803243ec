"""A prepared folder trains a Whisper model, and gives it what the usual way of preparing would give it."""
import json, pickle, shutil, subprocess, sys

import numpy as np
import pytest
import torch
from datasets import DatasetDict, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import (
    Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperConfig, WhisperFeatureExtractor,
    WhisperForConditionalGeneration
)
from transformers.models.whisper.tokenization_whisper import WhisperTokenizer

from audio_ft_prep import SpeechCollator, load_prepared
from audio_ft_prep.families import pad_labels
from audio_ft_prep.reading import verify

pytestmark = pytest.mark.usefixtures("one_thread")
STORED = {
    "float16": dict(feature_dtype="float16"),
    "float32": dict(feature_dtype="float32"),
    "padded": dict(storage="padded"),
    "audio": dict(storage="audio"),
}


@pytest.fixture(scope="module")
def folder(prepared, tmp_path_factory):
    "The Italian sample, prepared: folders of this file's own, since a user of `datasets` writes to them."
    made = {}
    def get(stored):
        if stored not in made:
            made[stored] = shutil.copytree(
                prepared("it", **STORED[stored]).folder, tmp_path_factory.mktemp(stored) / "out"
            )
        return made[stored]
    return get


@pytest.fixture(scope="module")
def opened(folder): return lambda stored: load_prepared(folder(stored))


@pytest.fixture(scope="module")
def tokenizer(folder): return WhisperTokenizer.from_pretrained(folder("padded") / "processor")


def whisper(tokenizer, init_std=0.02):
    "A two-layer Whisper for a vocabulary, the same each time; the larger `init_std`, the more it listens."
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            init_std=init_std,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        )
    ).eval()


@pytest.fixture(scope="module")
def collator(tokenizer): return SpeechCollator(tokenizer.convert_tokens_to_ids("<|startoftranscript|>"))


@pytest.fixture(scope="module")
def reference(folder, tokenizer):
    "Batches as the usual recipe makes them, from rows that are padded in the file."
    extractor = WhisperFeatureExtractor.from_pretrained(folder("padded") / "processor")
    data = DatasetDict.load_from_disk(str(folder("padded")))
    def batch(split, rows):
        items = [data[split][i] for i in rows]
        got = dict(extractor.pad([{"input_features": i["input_features"]} for i in items], return_tensors="pt"))
        text = tokenizer.pad([{"input_ids": i["labels"]} for i in items], return_tensors="pt")
        labels = text["input_ids"].masked_fill(text["attention_mask"] == 0, -100)
        starts = labels[:, 0] == tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
        return {"input_features": got["input_features"], "labels": labels[:, 1:] if starts.all() else labels}
    return batch


def loss(model, batch):
    with torch.no_grad(): return float(model(**batch).loss)


def same_items(got, want):
    "Whether two lists of items carry the same features, or sound, and labels."
    def same(a, b): return a == b if isinstance(a, dict) else np.array_equal(a, b)
    return len(got) == len(want) and all(
        same(a["input_features"], b["input_features"]) and list(a["labels"]) == list(b["labels"])
        for a, b in zip(got, want)
    )


# Batches

@pytest.mark.parametrize("stored", ["float32", "padded"])
@pytest.mark.parametrize("split,rows", [("train", range(4)), ("train", [19, 2, 11]), ("eval", range(4)), ("eval", [3])])
def test_a_batch_is_the_reference_collators_batch(opened, collator, reference, stored, split, rows):
    got, want = collator([opened(stored)[split][i] for i in rows]), reference(split, rows)
    assert got.keys() == {*want, "attention_mask"}
    assert torch.equal(got["labels"], want["labels"]) and got["labels"].dtype == want["labels"].dtype
    assert got["input_features"].dtype == want["input_features"].dtype == torch.float32
    assert (
        got["input_features"].shape == want["input_features"].shape
        and (got["input_features"] - want["input_features"]).abs().max() <= 1e-6
    )


def test_labels_end_with_the_end_token_and_only_what_is_behind_it_is_masked(opened, collator, tokenizer):
    items = [*opened("float16")["train"]]
    labels = collator(items)["labels"]
    for row, item in zip(labels.tolist(), items):
        n = len(item["labels"]) - 1
        assert row[:n] == item["labels"][1:].tolist() and row[n - 1] == tokenizer.eos_token_id == tokenizer.pad_token_id
        assert set(row[n:]) <= {-100} and -100 not in row[:n]


def test_the_loss_on_a_batch_is_the_loss_on_the_reference_collators_batch(opened, collator, reference, tokenizer):
    model, batch = whisper(tokenizer, init_std=0.4), reference("train", range(4))
    want = loss(model, batch)
    other = abs(loss(model, {**batch, "input_features": batch["input_features"].flip(0)}) - want)  # had it heard the wrong clips
    assert other > 1e-3 * want
    got = {s: loss(model, collator([opened(s)["train"][i] for i in range(4)])) for s in STORED}
    assert got["float32"] == got["padded"] == pytest.approx(want, rel=1e-6)
    assert abs(got["float16"] - want) < other / 10 and abs(got["audio"] - want) < other / 10


# Training

@pytest.mark.parametrize("stored,processes", [("float16", 0), ("float16", 1), ("audio", 1)])
def test_a_whisper_model_trains_and_evaluates_with_the_trainers_defaults(
    folder, opened, tokenizer, tmp_path, stored, processes
):
    data, model = opened(stored), whisper(tokenizer)
    collator = SpeechCollator.of(model, folder(stored))
    before = [p.detach().clone() for p in model.parameters()]
    args = Seq2SeqTrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        max_steps=3,
        learning_rate=1e-3,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        dataloader_num_workers=processes,
        use_cpu=True,
        disable_tqdm=True,
    )
    assert args.remove_unused_columns
    trainer = Seq2SeqTrainer(
        model, args, train_dataset=data["train"], eval_dataset=data["eval"], data_collator=collator
    )
    trainer.train()
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    assert len(losses) == trainer.state.global_step == 3 and np.isfinite(losses).all() and losses[-1] < losses[0]
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert np.isfinite(trainer.evaluate()["eval_loss"])


# A loaded data set under the hands of its user

@pytest.mark.parametrize("stored", STORED)
def test_rows_keep_their_features_when_they_are_chosen_shuffled_and_joined(opened, stored):
    data = opened(stored)
    train = data["train"]
    want = [train[i] for i in range(len(train))]
    assert same_items([*train], want) and same_items([train[-1]], want[-1:])
    assert same_items([*train.select([7, 0, 19])], [want[i] for i in (7, 0, 19)])
    assert same_items([*train.select(range(5, 9))], want[5:9])
    mixed = train.shuffle(seed=1)
    at = {n: i for i, n in enumerate(train["id"])}
    assert [*mixed["id"]] != [*train["id"]] and same_items([*mixed], [want[at[n]] for n in mixed["id"]])
    assert same_items(
        [*train.filter(lambda n: n > 40_000, input_columns="input_length")],
        [i for i in want if i["input_length"] > 40_000],
    )
    both = concatenate_datasets([train, data["eval"]])
    assert same_items([both[0], both[19], both[20]], [want[0], want[19], data["eval"][0]])
    halves = train.train_test_split(0.5, seed=3)
    assert same_items([halves["test"][0]], [want[at[halves["test"][0]["id"]]]])
    assert same_items([*train.shard(4, 1)], want[5:10])


@pytest.mark.parametrize("stored", STORED)
def test_columns_keep_their_features_when_others_leave(opened, stored):
    train = opened(stored)["train"]
    few = train.remove_columns([c for c in train.column_names if c not in ("input_features", "labels")])
    assert few[3].keys() == {"input_features", "labels"} and same_items([few[3]], [train[3]])
    only = train.select_columns("labels")
    assert only[3].keys() == {"labels"} and only[3]["labels"].tolist() == train[3]["labels"].tolist()
    batch = few[2:5]
    assert same_items([dict(zip(batch, v)) for v in zip(*batch.values())], [train[i] for i in (2, 3, 4)])
    named = train.rename_column("sentence", "text")
    assert named[0]["text"] == train[0]["sentence"] and same_items([named[0]], [train[0]])


def test_a_folder_is_still_verified_after_its_rows_were_shuffled_and_filtered(folder, opened):
    data = opened("float16")
    data.shuffle(seed=7)["train"].filter(lambda n: n > 50_000, input_columns="input_length")
    assert verify(folder("float16")) == []


@pytest.mark.parametrize("stored", ["float16", "audio"])
def test_a_loader_with_a_spawned_process_gives_the_batches_of_none(opened, collator, stored):
    data = opened(stored)["train"].select(range(10))
    load = lambda **kw: [*DataLoader(data, batch_size=4, collate_fn=collator, **kw)]
    for a, b in zip(load(), load(num_workers=1, multiprocessing_context="spawn"), strict=True):
        assert torch.equal(a["input_features"], b["input_features"]) and torch.equal(a["labels"], b["labels"])


@pytest.mark.parametrize("stored", ["float16", "audio"])
def test_a_pickled_data_set_opens_in_another_process_with_the_same_items(opened, tmp_path, stored):
    data = opened(stored)
    assert same_items([*pickle.loads(pickle.dumps(data))["eval"]], [*data["eval"]])
    if stored == "audio": return
    (tmp_path / "data.pkl").write_bytes(pickle.dumps((data["eval"], [*data["eval"]])))
    code = (
        "import pickle; a, b = pickle.load(open('data.pkl', 'rb')); print(all((x['input_features'] =="
        " y['input_features']).all() for x, y in zip(a, b, strict=True)))"
    )
    got = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert got.stdout == "True\n", got.stderr[-2000:]


def test_the_folder_can_be_moved(folder, opened, tmp_path):
    moved = shutil.copytree(folder("audio"), tmp_path / "elsewhere")
    assert same_items([*load_prepared(str(moved))["eval"]], [*opened("audio")["eval"]])


@pytest.mark.parametrize("broken", ["nothing there", "unfinished", "not ours"])
def test_what_is_no_prepared_folder_is_refused_in_a_sentence_that_names_it(tmp_path, broken):
    folder = tmp_path / "out"
    if broken != "nothing there": folder.mkdir()
    if broken == "unfinished": (folder / ".work").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no prepared data set in {folder}") as e: load_prepared(folder)
    assert {
        "nothing there": "no such folder",
        "unfinished": "run it again",
        "not ours": "name the folder that prepare wrote",
    }[broken] in str(e.value)


def test_a_shard_of_another_length_or_count_is_refused_in_a_sentence(folder, tmp_path):
    copied = shutil.copytree(folder("audio"), tmp_path / "out")
    prep = json.loads((copied / "prep.json").read_text())
    shard = prep["shards"][0]
    prep["counts"]["train"]["kept"] -= 1
    prep["counts"]["train"]["rejects"]["silent"] += 1
    (copied / "prep.json").write_text(json.dumps(prep))
    with pytest.raises(ValueError, match="train doesn't hold the columns and the .* rows of"): load_prepared(copied)
    with open(copied / shard["file"], "ab") as f: f.write(b"more")
    wrong = f"has {shard['bytes'] + 4} bytes, and had {shard['bytes']}"
    with pytest.raises(ValueError, match=wrong): load_prepared(copied)


def test_labels_of_another_model_are_refused_by_their_start_token():
    with pytest.raises(ValueError, match="must begin with the model's start token, 50258, got 50257"):
        pad_labels([[50258, 7], [50257, 7]], 50258)
    assert pad_labels([[50258, 7], [50258]], 50258).tolist() == [[7], [-100]]
