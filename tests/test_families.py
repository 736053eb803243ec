"Each kind of model gets from us what its own processor gives: keys, shapes, masks, padding, labels; and it trains on that."
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from transformers import AutoProcessor

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.families import BatchClip, save_processor
from audio_ft_prep.models import load_model
from audio_ft_prep.rows import BadClip
from audio_ft_prep.run import make_run
from audio_ft_prep.textwords import check_text
from conftest import SAMPLE
from tinyspeech import LLMS, OWN
from tinymodels import CTC, TINY, tiny_folder, tiny_model

SENTENCES = ["il gatto dorme", "la casa è in fondo alla strada", "sì"]


@pytest.fixture(scope="session")
def clips():
    "Three clips of different lengths: tones that rise, with a little noise."
    rng = np.random.default_rng(0)
    made = []
    for seconds, tone in ((1.63, 220), (2.4, 330), (0.97, 440)):
        t = np.arange(int(seconds * 16_000)) / 16_000
        wave = 0.3 * np.sin(2 * np.pi * tone * t * (1 + t)) + 0.01 * rng.standard_normal(len(t))
        made.append(wave.astype(np.float32))
    return made


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    "The folder of a tiny model, made once."
    made = {}
    def get(kind):
        if kind not in made: made[kind] = tiny_folder(kind, tmp_path_factory.mktemp("tiny"))
        return made[kind]
    return get


def batch_of(model, clips, stored=None):
    "A batch as the collator makes it, from sound or from stored inputs."
    family = model.family
    tokenizer = family.tokenizer(model, family.language(model, "it", ""), "transcribe")
    labels = family.labels(SENTENCES, tokenizer)
    items = []
    for i, samples in enumerate(clips):
        one = dict(samples=samples) if stored is None else dict(stored=stored[i], n_samples=len(samples))
        items.append(BatchClip(**one, labels=labels[i], sentence=SENTENCES[i], language="it"))
    return family.collate(items, model, tokenizer)


def own_batch(kind, processor, clips):
    "What the model's own processor makes of the clips, called as its documentation does."
    if kind in OWN: return dict(OWN[kind](processor, clips, SENTENCES))
    if kind == "wav2vec2-group":  # trained without a mask: one by one, padded with zeros then
        values = [processor(audio=c, sampling_rate=16_000).input_values[0] for c in clips]
        return dict(processor.pad({"input_values": values}, padding=True, return_tensors="np"))
    return dict(processor(audio=clips, sampling_rate=16_000, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("kind", TINY)
def test_a_batch_is_what_the_models_own_processor_makes(kind, tiny, clips):
    model = load_model(str(tiny(kind)))
    ours = batch_of(model, clips)
    theirs = own_batch(kind, AutoProcessor.from_pretrained(tiny(kind)), clips)
    made_of_text = set() if kind in OWN else {"labels", "decoder_input_ids", "decoder_attention_mask"}
    assert set(ours) - made_of_text == set(theirs)
    for key, values in theirs.items():
        values = np.asarray(values)
        assert ours[key].shape == values.shape
        assert np.allclose(ours[key], values, atol=1e-5), key
    assert ours["labels"].dtype == np.int64
    assert model.rate_hz == 16_000


@pytest.mark.parametrize("kind", [kind for kind in TINY if kind not in LLMS])
def test_a_batch_of_stored_inputs_is_that_of_the_audio(kind, tiny, clips):
    model = load_model(str(tiny(kind)))
    cfg = PrepConfig(dataset_name="sample", language_code="it", model_id=str(tiny(kind)), feature_dtype="float32")
    maker = model.family.input_maker(cfg, model)
    stored = [maker(c)[model.family.input_name] for c in clips]
    ours, theirs = batch_of(model, clips), batch_of(model, clips, stored)
    assert list(ours) == list(theirs)
    for key in ours: assert np.array_equal(ours[key], theirs[key]), key


@pytest.mark.parametrize("kind", [k for k in TINY if k.removesuffix("-group") in CTC])
def test_ctc_labels_are_the_tokenizers_own(kind, tiny):
    model = load_model(str(tiny(kind)))
    ours = model.family.labels(SENTENCES, model.tokenizer)
    theirs = AutoProcessor.from_pretrained(tiny(kind)).tokenizer(SENTENCES, add_special_tokens=False).input_ids
    assert ours == theirs
    hostile = ["il <pad> gatto | [UNK] </s>", "|", "<s>"]
    controls = {model.tokenizer.pad_token_id, model.tokenizer.bos_token_id, model.tokenizer.eos_token_id}
    for labels in model.family.labels(hostile, model.tokenizer): assert not controls & set(labels)


@pytest.mark.parametrize("kind", ["speech_to_text", "seamless_m4t_v2", "moonshine"])
def test_labels_of_a_decoder_are_the_tokenizers_own(kind, tiny):
    model = load_model(str(tiny(kind)))
    family = model.family
    tokenizer = family.tokenizer(model, family.language(model, "it"), "transcribe")
    ours = family.labels(SENTENCES, tokenizer)
    own = AutoProcessor.from_pretrained(tiny(kind)).tokenizer
    if kind == "seamless_m4t_v2": own.tgt_lang = "ita"
    theirs = (own(text_target=SENTENCES) if kind == "seamless_m4t_v2" else own(SENTENCES)).input_ids
    if kind == "moonshine": theirs = [[*ids, own.eos_token_id] for ids in theirs]
    assert ours == theirs
    batch = family.label_batch(ours, model)["labels"]
    start = model.config["decoder_start_token_id"]
    assert (batch[:, 0] != start).all() and (batch == -100).any()
    hostile = family.labels(["il </s> gatto <s> <pad>"], tokenizer)[0]
    assert hostile.count(tokenizer.eos_token_id) == ours[0].count(tokenizer.eos_token_id)


@pytest.mark.parametrize("kind", TINY)
def test_a_saved_processor_is_the_same_model(kind, tiny, clips, tmp_path):
    model = load_model(str(tiny(kind)))
    save_processor(tmp_path, model, model.tokenizer)
    again = load_model(str(tmp_path))
    assert again.about | {"origin": ""} == model.about | {"origin": ""}
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(AutoProcessor.from_pretrained(tiny(kind)))
    ours, theirs = batch_of(model, clips), batch_of(again, clips)
    for key in ours: assert np.array_equal(ours[key], theirs[key]), key


def bare(folder, to):
    "A copy of a model's folder without its vocabulary."
    shutil.copytree(folder, to)
    for name in ("vocab.json", "tokenizer_config.json", "processor_config.json"): (to / name).unlink()
    return to


def test_a_model_without_a_vocabulary_gets_the_letters_of_train(tiny, tmp_path):
    cfg = PrepConfig(str(SAMPLE), "it", model_id=str(bare(tiny("wav2vec2"), tmp_path / "bare")))
    run = make_run(cfg)
    tokens = run.tokenizer.convert_ids_to_tokens(range(len(run.tokenizer)))
    assert tokens[:3] == ["[PAD]", "[UNK]", "|"] and tokens[3:] == sorted(tokens[3:])
    assert run.model.config["vocab_size"] == len(tokens) and run.model.config["pad_token_id"] == 0
    entry = run.selection.text["vocabulary"]
    assert entry["from"] == "corpus" and entry["tokens"] == len(tokens)
    check_text(run.selection.text)
    run.recipe.save_processor(tmp_path / "saved")
    opened = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert opened.tokenizer("e lì").input_ids == run.tokenizer("e lì").input_ids
    with pytest.raises(ValueError, match="set ctc_vocabulary to auto"): make_run(replace(cfg, ctc_vocabulary="model"))
    fewer = make_run(replace(cfg, max_train_samples=3))
    assert fewer.tokenizer.get_vocab() == run.tokenizer.get_vocab()


def test_mms_writes_the_letters_of_the_corpus_language(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny("wav2vec2"), tmp_path / "mms"))
    of = lambda letters: {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    (folder / "vocab.json").write_text(json.dumps({"eng": of("abc"), "ita": of("caò")}), encoding="utf-8")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"target_lang": "eng"}))
    model = load_model(str(folder))
    family = model.family
    assert family.language(model, "it") == "ita"
    with pytest.raises(ValueError, match="has no language de"): family.language(model, "de")
    tokenizer = family.tokenizer(model, "ita", "transcribe")
    assert family.labels(["Ca ò"], tokenizer) == [[5, 6, 4, 7]]
    assert model.tokenizer.target_lang == "eng"


def test_a_clip_that_is_too_short_for_its_label_is_rejected(tiny):
    model = load_model(str(tiny("wav2vec2")))
    fit = model.family.fit(model)
    fit([5] * 10, 16_000)
    with pytest.raises(BadClip, match="label_too_long"): fit([5] * 30, 16_000)
    clip = BatchClip(samples=np.zeros(800, np.float32), labels=[5] * 9, sentence="aaaaaaaaa")
    with pytest.raises(ValueError, match="the loss is infinite"): model.family.collate([clip], model, model.tokenizer)


@pytest.mark.parametrize("kind", ["wav2vec2", "sew", "wav2vec2-bert", "parakeet_ctc"])
def test_the_frames_are_those_that_the_model_makes(kind, tiny):
    import torch
    model = load_model(str(tiny(kind)))
    net = tiny_model(tiny(kind)).eval()
    for n in (8_000, 16_123):
        batch = model.family.inputs([np.sin(np.arange(n, dtype=np.float32))], model)
        if kind in ("wav2vec2", "sew"): made = net._get_feat_extract_output_lengths(torch.tensor(n))
        else:
            valid = torch.tensor(batch["attention_mask"].sum())
            of = net._get_subsampling_output_length if kind == "parakeet_ctc" else net._get_feat_extract_output_lengths
            made = of(valid)
        assert model.family.frames(model)(n) == int(made)


@pytest.mark.long
@pytest.mark.parametrize("kind", TINY)
def test_a_model_learns_from_a_repeated_batch(kind, tiny, clips):
    import torch
    torch.set_num_threads(1)
    model = load_model(str(tiny(kind)))
    batch = {k: torch.from_numpy(v) for k, v in batch_of(model, clips).items()}
    net = tiny_model(tiny(kind)).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = net(**batch).loss
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.isfinite(losses).all()
    assert losses[3] < losses[0], losses


def test_a_ctc_model_is_given_clips_that_whisper_would_not_hear_whole(tiny, tmp_path):
    from audio_ft_prep.example import example_maker
    model = load_model(str(tiny("wav2vec2")))
    t = np.arange(45 * 16_000) / 16_000
    sf.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 220 * t) * np.sin(3 * t) ** 4, 16_000)
    row = dict(id="a", file=str(tmp_path / "a.wav"), offset=0, size=(tmp_path / "a.wav").stat().st_size, start=None)
    row |= dict(seconds=None, sentence="a", speaker="", labels=[1, 2, 3], source_split="train")
    for storage in ("features", "audio", "source"):
        cfg = PrepConfig("sample", "it", storage=storage, max_seconds=60)
        assert example_maker(cfg, model)(row)["input_length"] == len(t)
        with pytest.raises(BadClip, match="too_long"): example_maker(replace(cfg, max_seconds=30), model)(row)
        with pytest.raises(ValueError, match="max_seconds must be 30 at most for openai/whisper-tiny"):
            example_maker(cfg, load_model("openai/whisper-tiny"))


@pytest.mark.parametrize("kind", ["wav2vec2", "moonshine", *(k for k in ("parakeet_tdt", "qwen3_asr") if k in TINY)])
def test_the_clips_own_files_serve_each_kind_of_model(kind, tiny, prepared):
    from audio_ft_prep import SpeechCollator, load_prepared
    from audio_ft_prep.audio import stored_samples
    rows = load_prepared(prepared("it", storage="source").folder)["train"].select([0, 3])
    model = load_model(str(tiny(kind)))
    batch = SpeechCollator.of(str(tiny(kind)), rows)(list(rows))
    inputs = model.family.inputs([stored_samples(file, model.rate_hz) for file in rows["input_features"]], model)
    assert inputs and all(np.array_equal(batch[name].numpy(), values) for name, values in inputs.items())
    assert (batch["labels"] != -100).any(1).all()


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert"])
def test_rows_as_tables_make_the_same_batch(kind, tiny, prepared):
    from audio_ft_prep import SpeechCollator, load_prepared
    from audio_ft_prep.collator import ArrowRows
    rows = load_prepared(prepared("it", model_id=str(tiny(kind)), max_train_samples=3, eval_splits="").folder)["train"]
    collate = SpeechCollator.of(str(tiny(kind)), rows)
    ours, theirs = collate([ArrowRows(rows)[i] for i in range(3)]), collate(list(rows))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
