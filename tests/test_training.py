"Each training script of the task page, as it is written there, on a tiny random model: it ends, and its losses are numbers."
import json
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import SAMPLE
from tinymodels import tiny_folder, tiny_model

pytestmark = pytest.mark.long
PAGE = Path(__file__).resolve().parents[1] / "nbs/tasks/training.ipynb"
KINDS = {
    "openai/whisper-small": "whisper",
    "facebook/wav2vec2-xls-r-300m": "wav2vec2",
    "UsefulSensors/moonshine-tiny": "moonshine",
    "nvidia/parakeet-tdt-0.6b-v3": "parakeet_tdt",
    "Qwen/Qwen3-ASR-0.6B-hf": "qwen3_asr",
}


def scripts():
    "The scripts of the page that train, by the model they name."
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for script in re.findall(r"```python\n(.*?)```", text, re.S):
        names = re.findall(r'name = "(.+?)"', script)
        if names: yield pytest.param(names[0], script, id=KINDS[names[0]])


def whisper_folder(folder, processor):
    "A tiny Whisper with the real vocabulary, saved with its weights."
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor
    processor = WhisperProcessor.from_pretrained(processor)
    ids = processor.tokenizer.convert_tokens_to_ids
    start, end = ids("<|startoftranscript|>"), ids("<|endoftext|>")
    size = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2)
    tokens = dict(decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    net = WhisperForConditionalGeneration(WhisperConfig(vocab_size=len(processor.tokenizer), **size, **heads, **tokens))
    more = dict(lang_to_id={"<|it|>": ids("<|it|>")}, task_to_id={"transcribe": ids("<|transcribe|>")}, max_length=20)
    more |= dict(is_multilingual=True, no_timestamps_token_id=ids("<|notimestamps|>"))
    net.generation_config = GenerationConfig(**tokens, **more)
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sound(prepared): return prepared("it", storage="audio").folder


def folders(kind, prepared, sound, root):
    "A prepared folder, and the folder of a tiny model of a kind."
    from audio_ft_prep import PrepConfig, prepare
    if kind == "whisper": return prepared("it").folder, whisper_folder(root / "whisper", sound / "processor")
    model = tiny_folder(kind, root)
    tiny_model(model).save_pretrained(model)
    if kind != "wav2vec2": return sound, model
    (model / "vocab.json").unlink()  # its vocabulary is made of the corpus
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "processor_config.json"):
        (model / name).unlink(missing_ok=True)
    cfg = PrepConfig("sample", "it", model_id=str(model), output_dir=str(root / "prepared"), storage="audio")
    return prepare(cfg, progress=False).folder, model


def shortened(script, name, folder, model):
    "A script with its folder, its model and its length replaced, for a machine without a GPU."
    script = script.replace(f'"{name}"', repr(str(model))).replace('"prepared/processor"', repr(f"{folder}/processor"))
    script = script.replace('"prepared"', repr(str(folder)))
    script = re.sub(r"max_steps=\d+", "max_steps=2, logging_steps=1, report_to='none', use_cpu=True", script)
    script = re.sub(r"warmup_steps=\d+", "warmup_steps=0", script)
    script = re.sub(r"\s(fp16|bf16)=True,?", "", script)
    script = re.sub(r"batch_size=\d+", "batch_size=2", script)
    return script.replace("eval_steps=1000", "eval_steps=2").replace("dataloader_num_workers=4, ", "")


def test_every_kind_of_model_has_a_script(): assert {p.values[0] for p in scripts()} == {*KINDS}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name,script", [*scripts()])
def test_a_script_of_the_page_trains(name, script, prepared, sound, tmp_path, monkeypatch):
    folder, model = folders(KINDS[name], prepared, sound, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(shortened(script, name, folder, model), name, "exec"), names)
    losses = [entry["loss"] for entry in names["trainer"].state.log_history if "loss" in entry]
    assert len(losses) == 2 and np.isfinite(losses).all()
