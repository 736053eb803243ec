"Data that was mixed, saved again or shared by two processes trains as what was opened does; SpecAugment hides speech."
import json, os, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets, interleave_datasets, load_from_disk
from transformers import WhisperConfig, WhisperForConditionalGeneration

from audio_ft_prep import SpeechCollator, load_prepared
from tinymodels import tiny_folder, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")
START = 50258


def tiny_whisper(**more):
    torch.manual_seed(0)
    size = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2)
    tokens = dict(decoder_start_token_id=START, bos_token_id=50257, eos_token_id=50257, pad_token_id=50257)
    return WhisperForConditionalGeneration(WhisperConfig(vocab_size=51865, **size, **heads, **tokens, **more))


def trains(collate, rows):
    "Whether a tiny Whisper learns two of the rows."
    net = tiny_whisper()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    batch = collate(list(rows.select([0, 5])))
    losses = []
    for _ in range(3):
        loss = net(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.parametrize("storage", ["features", pytest.param("source", marks=pytest.mark.long)])
def test_two_folders_mixed_and_saved_again_make_batches_of_each_ones_rows_and_train(prepared, tmp_path, storage):
    parts = [load_prepared(prepared(code, storage=storage).folder)["train"].select(range(3)) for code in ("it", "en")]
    mixed = {"joined": concatenate_datasets(parts), "in turns": interleave_datasets(parts)}
    mixed["joined"].save_to_disk(str(tmp_path / "saved"))
    mixed["saved"] = load_from_disk(str(tmp_path / "saved")).with_format("numpy")
    apart = [SpeechCollator.of("openai/whisper-small", part)(list(part)) for part in parts]
    own = {id: (b["input_features"][i], b["labels"][i]) for b, part in zip(apart, parts)
           for i, id in enumerate(part["id"])}
    for name, rows in mixed.items():
        collate = SpeechCollator.of("openai/whisper-small", rows)
        batch = collate(list(rows))
        for i, id in enumerate(rows["id"]):
            features, labels = own[id]
            assert torch.equal(batch["input_features"][i], features), name
            assert batch["labels"][i][batch["labels"][i] != -100].tolist() == labels[labels != -100].tolist(), name
    assert {row[0].item() for row in batch["labels"]} == {50274, 50259}  # Italian and English
    assert trains(collate, rows)


@pytest.mark.parametrize("storage", ["features", "audio"])
def test_specaugment_hides_frames_of_speech_alone(prepared, storage):
    rows = load_prepared(prepared("it", storage=storage).folder)["train"].select(range(8))
    batch = SpeechCollator(START)(list(rows))
    frames = batch["attention_mask"].sum(1)
    net = tiny_whisper(apply_spec_augment=True, mask_time_prob=0.3, mask_time_length=5, mask_feature_prob=0.0).train()
    np.random.seed(0)
    masked = net.model._mask_input_features(batch["input_features"].clone(), attention_mask=batch["attention_mask"])
    hidden = (masked != batch["input_features"]).any(1)
    assert all(hidden[i, :n].any() and not hidden[i, n:].any() for i, n in enumerate(frames))
    assert frames.tolist() == [-(-n // 160) for n in rows["input_length"]]


def test_specaugment_of_a_ctc_model_hides_frames_of_speech_alone(prepared, tmp_path):
    folder = tiny_folder("wav2vec2", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= dict(apply_spec_augment=True, mask_time_prob=0.3, mask_time_length=2)
    (folder / "config.json").write_text(json.dumps(config))
    net = tiny_model(folder).train()
    rows = load_prepared(prepared("it", storage="source").folder)["train"].select(range(4))
    batch = SpeechCollator.of(str(folder), rows)(list(rows))
    frames = net._get_feat_extract_output_lengths(batch["attention_mask"].sum(1))
    width = int(net._get_feat_extract_output_lengths(torch.tensor(batch["input_values"].shape[1])))
    mask = net.wav2vec2._get_feature_vector_attention_mask(width, batch["attention_mask"])
    np.random.seed(0)
    states = torch.ones(len(frames), width, net.config.hidden_size)
    hidden = (net.wav2vec2._mask_hidden_states(states.clone(), attention_mask=mask) != states).any(2)
    assert all(hidden[i, :n].any() and not hidden[i, n:].any() for i, n in enumerate(frames.tolist()))


@pytest.mark.long
def test_two_processes_share_the_rows_and_keep_the_same_model(prepared, tmp_path):
    folder, model = prepared("it").folder, tmp_path / "model"
    tiny_whisper().save_pretrained(model)
    for file in (folder / "processor").iterdir(): (model / file.name).write_bytes(file.read_bytes())
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("ddp_script.py")
    done = subprocess.run(
        [*command, str(script), str(folder), str(model), str(tmp_path)], env=env, capture_output=True, text=True,
        timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    rows = load_prepared(folder)["train"]
    want = sorted(row[row != -100].tolist() for row in SpeechCollator(START)(list(rows))["labels"])
    assert first["processes"] == 2
    for way in ("accelerate", "lengths"):
        heard = first[way]["heard"], second[way]["heard"]
        assert all(heard) and sorted(heard[0] + heard[1]) == want, way
    for way in ("accelerate", "trainer"):
        assert first[way]["sum"] == second[way]["sum"] and np.isfinite(first[way]["losses"]).all(), way
    assert first["accelerate"]["losses"] != second["accelerate"]["losses"]
