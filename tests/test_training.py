"Training scripts of the task page, and GPU cells of tutorials, as they are written there, run on tiny random models."
import json
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import SAMPLE
from tinymodels import tiny_folder, tiny_model

pytestmark = pytest.mark.long
NBS = Path(__file__).resolve().parents[1] / "nbs"
PAGE = NBS / "tasks/training.ipynb"
KINDS = {
    "openai/whisper-small": "whisper",
    "facebook/wav2vec2-xls-r-300m": "wav2vec2",
    "UsefulSensors/moonshine-tiny": "moonshine",
    "nvidia/parakeet-tdt-0.6b-v3": "parakeet_tdt",
    "Qwen/Qwen3-ASR-0.6B-hf": "qwen3_asr",
}


def cells_of(page): return json.loads(page.read_text(encoding="utf-8"))["cells"]


def scripts():
    "The scripts of the page that train, by the model they name."
    cells = cells_of(PAGE)
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
    if kind == "wav2vec2": model = letterless(kind, root)  # its vocabulary is made of the corpus
    else:
        model = tiny_folder(kind, root)
        tiny_model(model).save_pretrained(model)
        return sound, model
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
    script = re.sub(r"(eval|save)_steps=\d+", r"\1_steps=2", script)
    script = re.sub(r"generation_max_length=\d+", "generation_max_length=8", script)
    return re.sub(r"dataloader_num_workers=\d+", "dataloader_num_workers=0", script)


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


def letterless(kind, root):
    "A tiny model without a vocabulary."
    model = tiny_folder(kind, root)
    tiny_model(model).save_pretrained(model)
    (model / "vocab.json").unlink()
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "processor_config.json"):
        (model / name).unlink(missing_ok=True)
    return model


def gpu_cells(tutorial):
    "What a tutorial's GPU cells use (imports and functions), and these cells."
    sources = ["".join(c["source"]) for c in cells_of(NBS / f"tutorials/{tutorial}.ipynb") if c["cell_type"] == "code"]
    before = [s for s in sources if s.startswith(("from ", "import ", "def "))]
    return before, [s for s in sources if s.startswith("#| gpu")]


def losses_on(tutorial, models, names):
    "Run a tutorial's GPU cells with other models in their place; the losses of each training."
    before, cells = gpu_cells(tutorial)
    trainers = []
    for cell in before + cells:
        for name, model in models.items(): cell = cell.replace(f'"{name}"', repr(str(model)))
        short = shortened(cell, "", "", "").replace("report_to='none', ", "")
        exec(compile(short, tutorial, "exec"), names)
        trainer = names.get("trainer")
        if trainer is not None and trainer not in trainers: trainers.append(trainer)
    return [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in trainers]


@pytest.mark.usefixtures("one_thread")
def test_whisper_is_trained_with_lora_and_in_full_by_the_tutorials_cells(prepared, sound, tmp_path, monkeypatch):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    from audio_ft_prep import load_prepared
    from audio_ft_prep.metrics import speech_metrics
    folder = prepared("it").folder
    model = whisper_folder(tmp_path / "whisper", sound / "processor")
    monkeypatch.chdir(tmp_path)
    names = dict(data=load_prepared(folder), metrics=speech_metrics(folder))
    names["processor"] = WhisperProcessor.from_pretrained(folder / "processor")
    losses = losses_on("fine_tuning", {"openai/whisper-small": model}, names)
    assert [len(l) for l in losses] == [2, 2] and np.isfinite(losses).all()
    assert "WER" in names["in_short"](names["after"])
    for saved in ("whisper-small-lora", "whisper-small-full"):
        assert WhisperForConditionalGeneration.from_pretrained(saved).config.d_model == 32
        assert WhisperProcessor.from_pretrained(saved).tokenizer.eos_token == "<|endoftext|>"


@pytest.mark.usefixtures("one_thread")
def test_ctc_models_are_given_letters_and_trained_by_the_tutorials_cells(tmp_path, monkeypatch):
    from transformers import AutoModelForCTC, AutoProcessor
    models = {
        "facebook/wav2vec2-xls-r-300m": letterless("wav2vec2", tmp_path),
        "facebook/w2v-bert-2.0": letterless("wav2vec2-bert", tmp_path),
        "cv-corpus": "sample",
    }
    monkeypatch.chdir(tmp_path)
    names = {}
    losses = losses_on("fine_tuning_ctc", models, names)
    assert [len(l) for l in losses] == [2, 2] and np.isfinite(losses).all()
    for saved in ("xls-r-mine", "bert-mine"):
        letters = AutoProcessor.from_pretrained(saved).tokenizer
        assert AutoModelForCTC.from_pretrained(saved).config.vocab_size == len(letters) > 20
