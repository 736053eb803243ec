"Models that are asked to transcribe: text is never a control token, languages are announced, refusals come early."
import json

import numpy as np
import pytest

from audio_ft_prep.families import BatchClip
from audio_ft_prep.models import load_model
from audio_ft_prep.unserved import UNSERVED
from tinyspeech import LLMS, SERVED
from tinymodels import tiny_folder

HOSTILE = "il <|endoftext|> </s> <pad> [AUDIO] <|audio_pad|> <asr_text> <|it|> <blank> <|im_end|> <unk> [INST] <|user|>"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "A tiny model of a type, read once."
    made = {}
    def get(kind):
        if kind not in made: made[kind] = load_model(str(tiny_folder(kind, tmp_path_factory.mktemp("served"))))
        return made[kind]
    return get


def asked(model, language="it"):
    return model.family.tokenizer(model, model.family.language(model, language, ""), "transcribe")


@pytest.mark.parametrize("kind", SERVED)
def test_text_of_a_sentence_is_never_read_as_a_control_token(kind, served):
    model = served(kind)
    tokenizer = asked(model)
    ids, empty = model.family.labels([HOSTILE, ""], tokenizer)
    around = len(empty)
    request = getattr(tokenizer, "request", None)
    text = ids[len(request.prompt):len(ids) - len(request.end)] if request else ids
    assert len(text) == len(ids) - around
    assert not set(text) & (set(model.family.controls(model)) - {model.tokenizer.unk_token_id})


@pytest.mark.parametrize("kind", [k for k in SERVED if k in ("canary", "cohere_asr", "qwen3_asr")])
def test_each_row_announces_its_own_language(kind, served):
    model = served(kind)
    labels = model.family.labels(["il gatto", "il gatto"], asked(model))
    model.family.announce(labels, ["it", "es-ES"], model)
    assert labels == [model.family.labels(["il gatto"], asked(model, code))[0] for code in ("it", "es")]


def test_each_clip_of_a_batch_has_its_own_language(served):
    if "qwen3_asr" not in SERVED: pytest.skip("this transformers writes no request as text")
    model = served("qwen3_asr")
    samples = np.zeros(16_000, np.float32)
    labels = [model.family.labels(["sì"], asked(model, code))[0] for code in ("it", "es")]
    clips = [BatchClip(samples=samples, labels=ids, sentence="sì") for ids in labels]
    batch = model.family.collate(clips, model, model.tokenizer)
    spoken = [model.tokenizer.decode(row) for row in batch["input_ids"]]
    assert "assistant\nlanguage Italian<asr_text>sì<|im_end|>" in spoken[0]
    assert "assistant\nlanguage Spanish<asr_text>sì<|im_end|>" in spoken[1]
    assert (batch["input_ids"][:, -2] == model.tokenizer.eos_token_id).all()


@pytest.mark.parametrize("kind", SERVED)
def test_a_processor_that_was_saved_alone_is_known_by_its_class(kind, served, tmp_path):
    model = served(kind)
    model.processor.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    alone = load_model(str(tmp_path))
    assert alone.family is model.family
    assert alone.family.labels(["sì"], asked(alone)) == model.family.labels(["sì"], asked(model))


@pytest.mark.parametrize("kind", SERVED)
def test_a_language_that_the_model_lacks_and_another_task_are_refused(kind, served):
    model = served(kind)
    with pytest.raises(ValueError, match="leave task at transcribe"): model.family.tokenizer(model, "it", "translate")
    if kind in ("canary", "cohere_asr", "qwen3_asr"):
        with pytest.raises(ValueError, match="has no language Klingon: set language to one it has"):
            model.family.language(model, "it", "Klingon")


def test_a_clip_that_cohere_asr_would_cut_in_two_is_refused(served):
    model = served("cohere_asr")
    with pytest.raises(ValueError, match="must have 35 s at most, got 36.0 s"):
        model.family.inputs([np.zeros(36 * 16_000, np.float32)], model)


@pytest.mark.parametrize("kind", [kind for kind in SERVED if kind in LLMS])
def test_a_speech_llm_stores_no_features(kind, served):
    from audio_ft_prep.config import PrepConfig
    model = served(kind)
    cfg = PrepConfig(dataset_name="sample", language_code="it", model_id=model.model_id)
    with pytest.raises(ValueError, match="storage features can't be had for .* set storage to audio"):
        model.family.input_maker(cfg, model)
    clip = BatchClip(stored=np.zeros((80, 100), np.float32), labels=[5])
    with pytest.raises(ValueError, match="must be made from sound"): model.family.collate([clip], model, asked(model))


def folder_of(path, kind, **more):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": kind, **more}))
    (path / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": "WhisperFeatureExtractor"}))
    return str(path)


def test_a_type_that_nothing_is_prepared_for_is_refused_with_its_reason(tmp_path):
    for kind, why in UNSERVED.items():
        with pytest.raises(ValueError, match="model_id must name a model of Whisper, .* which is a") as refusal:
            load_model(folder_of(tmp_path / kind, kind))
        assert str(refusal.value).endswith(f"{kind}: {why}")
    for kind in ("bert", "\u202ewhisper", ["whisper"]):
        with pytest.raises(ValueError, match="no kind of speech model that is known here"):
            load_model(folder_of(tmp_path / str(len(list(tmp_path.iterdir()))), kind))


def test_a_transformers_that_is_older_than_the_model_is_named(tmp_path, monkeypatch):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    monkeypatch.delitem(CONFIG_MAPPING_NAMES, "canary")
    with pytest.raises(ImportError, match="is a canary, which transformers .* doesn.t have: pip install -U"):
        load_model(folder_of(tmp_path / "new", "canary"))


def test_a_missing_mistral_common_is_named(tmp_path, monkeypatch):
    from transformers.utils import import_utils
    monkeypatch.setattr(import_utils, "is_mistral_common_available", lambda: False)
    with pytest.raises(ImportError, match="Voxtral needs mistral-common .* or newer: pip install"):
        load_model(folder_of(tmp_path / "voxtral", "voxtral"))


def test_a_canary_without_the_tokens_of_its_prompt_is_refused(tmp_path, served):
    if "canary" not in SERVED: pytest.skip("this transformers writes no request as text")
    model = served("canary")
    with pytest.raises(ValueError, match="must have the tokens of its prompt for bg"): asked(model, "bg")


def test_a_template_that_writes_no_answer_is_refused(tmp_path, served):
    if "glmasr" not in SERVED: pytest.skip("this transformers writes no request as text")
    folder = tiny_folder("glmasr", tmp_path)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{% endfor %}")
    model = load_model(str(folder))
    with pytest.raises(ValueError, match="must write the assistant's answer, and doesn't"): asked(model)


def test_a_template_outside_of_the_models_folder_is_not_read(tmp_path):
    if "glmasr" not in SERVED: pytest.skip("this transformers writes no request as text")
    folder = tiny_folder("glmasr", tmp_path)
    (tmp_path / "private").write_text("my diary")
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match="chat_template.jinja must lie in the model's folder"): load_model(str(folder))


@pytest.mark.long
@pytest.mark.parametrize("kind, storage", [("parakeet_tdt", "features"), ("qwen3_asr", "audio")])
def test_a_prepared_sample_trains_with_a_plain_trainer(kind, storage, served, prepared, tmp_path):
    if kind not in SERVED: pytest.skip("this transformers writes no request as text")
    from transformers import Trainer, TrainingArguments
    from audio_ft_prep import SpeechCollator, load_prepared
    from tinymodels import tiny_model
    folder = tiny_folder(kind, tmp_path)
    data = load_prepared(prepared("it", model_id=str(folder), storage=storage).folder)
    collator = SpeechCollator.of(str(folder), data)
    assert collator.labels is None  # those that are stored are the model's own
    arguments = TrainingArguments(
        str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=20, learning_rate=1e-3, logging_steps=1,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(tiny_model(folder), arguments, train_dataset=data["train"], data_collator=collator)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_voxtral_is_asked_in_the_language_of_the_run(served):
    if "voxtral" not in SERVED: pytest.skip("mistral-common is older than this transformers wants")
    from audio_ft_prep import SpeechCollator
    from datasets import Dataset
    from audio_ft_prep.families import flac_bytes
    model = served("voxtral")
    labels = model.family.labels(["sì"], asked(model))[0]
    sound = {"bytes": flac_bytes(np.zeros(16_000, np.float32), 16_000), "path": "a.flac"}
    rows = Dataset.from_list([{"input_features": sound, "labels": labels, "sentence": "sì"}])
    batch = SpeechCollator.of(model, rows, language="Italian")([rows[0]])
    assert "lang:it[TRANSCRIBE]sì</s>" in model.tokenizer.decode(batch["input_ids"][0])
