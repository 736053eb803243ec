"A model learns the same from our folder as from the usual recipe's data, step by step."
import sys

import pytest
from datasets import DatasetDict
from transformers import (
    AutoModelForCTC, AutoProcessor, Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments,
    WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor, set_seed
)

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.letters import spelling_of
from audio_ft_prep.metrics import speech_metrics
from conftest import SAMPLE
from test_bench import BENCH
from tinymodels import tiny_folder, tiny_model

pytestmark = pytest.mark.long
STEPS = 5
FOLDERS = {"float32": dict(feature_dtype="float32"), "padded": dict(storage="padded")}


@pytest.fixture(scope="module", autouse=True)
def one_thread_throughout():
    "Sums over several threads differ in the last bit; what all tests share is made in one, too."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recipe():
    "The usual recipe, as the benchmark runs it."
    sys.path.insert(0, str(BENCH))
    try:
        import finetune
        yield finetune
    finally: sys.path.remove(str(BENCH))


def how(folder, steps=STEPS):
    "What each trainer is given."
    return dict(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )


def losses_of(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# Whisper

@pytest.fixture(scope="module")
def processor(prepared):
    return WhisperProcessor.from_pretrained(prepared("it", **FOLDERS["float32"]).folder / "processor")


def whisper(processor):
    "A two-layer Whisper that listens, the same each time."
    ids = processor.tokenizer.convert_tokens_to_ids
    start, end = ids("<|startoftranscript|>"), ids("<|endoftext|>")
    size = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2, init_std=0.2)
    tokens = dict(decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    set_seed(3)
    return WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=len(processor.tokenizer), **size, **heads, **tokens)
    )


def whisper_losses(data, collate, processor, folder):
    "The losses of a few steps."
    args = Seq2SeqTrainingArguments(**how(folder))
    return losses_of(Seq2SeqTrainer(whisper(processor), args, train_dataset=data, data_collator=collate))


@pytest.fixture(scope="module")
def usual(prepared, processor, recipe, tmp_path_factory):
    "The usual recipe's data over the rows of our folder, and the losses that it gives."
    rows = load_prepared(prepared("it", **FOLDERS["float32"]).folder)
    data = recipe.reference(str(SAMPLE), "it", processor, rows)
    collate = recipe.usual_collator(processor, whisper(processor).config.decoder_start_token_id)
    return whisper_losses(data["train"], collate, processor, tmp_path_factory.mktemp("usual"))


def test_whisper_has_the_losses_of_the_usual_recipe(prepared, processor, usual, tmp_path):
    data = load_prepared(prepared("it", **FOLDERS["float32"]).folder)["train"]
    collate = SpeechCollator(whisper(processor).config.decoder_start_token_id)
    got = whisper_losses(data, collate, processor, tmp_path)
    assert len(got) == STEPS and got[-1] < got[0]
    assert got == usual


def test_the_padded_folder_is_the_usual_recipes_data_for_its_own_collator(prepared, processor, usual, recipe, tmp_path):
    data = DatasetDict.load_from_disk(str(prepared("it", **FOLDERS["padded"]).folder))["train"]
    collate = recipe.usual_collator(processor, whisper(processor).config.decoder_start_token_id)
    assert whisper_losses(data, collate, processor, tmp_path) == usual


def test_a_trainer_reports_error_rates_of_whisper(prepared, processor, tmp_path):
    folder = prepared("it", **FOLDERS["float32"]).folder
    data = load_prepared(folder)
    model = whisper(processor)
    metrics = speech_metrics(folder, data=data["eval"])
    args = Seq2SeqTrainingArguments(**how(tmp_path), predict_with_generate=True, generation_max_length=12)
    trainer = Seq2SeqTrainer(
        model, args, eval_dataset=data["eval"], compute_metrics=metrics,
        data_collator=SpeechCollator(model.config.decoder_start_token_id),
    )
    seen = trainer.evaluate()
    assert seen["eval_wer"] > 0 and seen["eval_cer"] > 0 and seen["eval_normalizer"] == "BasicTextNormalizer"
    assert metrics.clips["id"].to_pylist() == list(data["eval"]["id"])
    assert metrics.clips["reference"].to_pylist() == list(data["eval"]["sentence"])


# CTC

@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    "The folder of a tiny wav2vec2, with its weights, and the sample prepared for it."
    folder = tiny_folder("wav2vec2", tmp_path_factory.mktemp("waves"))
    tiny_model(folder).save_pretrained(folder)
    out = str(tmp_path_factory.mktemp("prepared") / "out")
    cfg = PrepConfig("sample", "it", model_id=str(folder), output_dir=out, feature_dtype="float32")
    return folder, prepare(cfg, progress=False)


def ctc_losses(folder, data, collate, to):
    "The losses of a few steps."
    args = TrainingArguments(**{**how(to), "learning_rate": 1e-4}, remove_unused_columns=False)
    model = AutoModelForCTC.from_pretrained(folder)
    return losses_of(Trainer(model, args, train_dataset=data, data_collator=collate))


def test_ctc_has_the_losses_of_its_own_processor(waves, recipe, tmp_path):
    folder, made = waves
    data = load_prepared(made.folder)["train"]
    processor = AutoProcessor.from_pretrained(folder)
    clips = {
        name: audio for split in ("train", "dev") for name, audio, row in recipe.read_clips(SAMPLE, "it", split)
    }

    def usual(items):
        "What the processor makes of the clips' sound, and of the letters that it has."
        import io, soundfile, soxr
        waves = [soundfile.read(io.BytesIO(clips[str(item["id"])]), dtype="float32", always_2d=True) for item in items]
        heard = [soxr.resample(wave.mean(axis=1), hz, 16000, "HQ") for wave, hz in waves]
        batch = processor(audio=heard, sampling_rate=16000, padding=True, return_tensors="pt")
        text = [spelling_of(processor.tokenizer).text(str(item["sentence"])) for item in items]
        labels = processor(text=text, padding=True, return_tensors="pt")
        batch["labels"] = labels.input_ids.masked_fill(labels.attention_mask.ne(1), -100)
        return batch

    ours = ctc_losses(folder, data, SpeechCollator.of(str(folder), made.folder), tmp_path / "ours")
    assert len(ours) == STEPS and all(0 < loss < 50 for loss in ours)
    assert ours == pytest.approx(ctc_losses(folder, data, usual, tmp_path / "usual"), rel=1e-6)
