"What happens to a clip's sound depends on seed, epoch and clip alone, in any number of workers; eval stays as it is."
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.augment import Augment, epoch_callback
from audio_ft_prep.steps import Clipping, Gain, Noise, Room, Speed, Telephone, Tempo

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken") / "prepared"
    cfg = PrepConfig("sample", "it", output_dir=str(folder), num_workers=1, storage="audio")
    return prepare(cfg, progress=False).folder


def all_steps(seed=42):
    noise = Noise(("white", "pink", "babble"), chance=0.8)
    return Augment(Speed(), Tempo(), Room(), noise, Gain(), Telephone(chance=0.3), Clipping(), seed=seed)


def epoch_of(loader): return torch.cat([batch["input_features"] for batch in loader])


def loader_of(folder, augment, workers, **more):
    data = load_prepared(folder)
    collate = SpeechCollator.of("openai/whisper-tiny", data, augment=augment)
    return DataLoader(data["train"].select(range(4)), 2, collate_fn=collate, num_workers=workers, **more)


def test_the_same_seed_gives_the_same_sound_in_any_number_of_workers_and_each_epoch_another(spoken):
    augment = all_steps()
    alone = loader_of(spoken, augment, 0)
    first = epoch_of(alone)
    augment.epoch = 1
    second = epoch_of(alone)
    assert not any(torch.equal(a, b) for a, b in zip(first, second))
    lasting = loader_of(spoken, augment, 2, multiprocessing_context="fork", persistent_workers=True)
    for epoch, expected in enumerate([first, second]):
        epoch_callback(augment).on_epoch_begin(None, type("State", (), {"epoch": float(epoch)}), None)
        assert torch.equal(epoch_of(lasting), expected)   # workers that live on hear of the epoch
    augment.epoch = 0
    assert torch.equal(epoch_of(loader_of(spoken, augment, 1, multiprocessing_context="fork")), first)
    assert torch.equal(epoch_of(loader_of(spoken, all_steps(), 0)), first)
    assert not torch.equal(epoch_of(loader_of(spoken, all_steps(7), 0)), first)


@pytest.mark.long
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_that_start_anew_give_the_same_sound_and_hear_of_the_epoch(spoken, start):
    augment = all_steps()
    expected = []
    for augment.epoch in (0, 1): expected.append(epoch_of(loader_of(spoken, augment, 0)))
    lasting = loader_of(spoken, augment, 2, multiprocessing_context=start, persistent_workers=True)
    for augment.epoch in (0, 1): assert torch.equal(epoch_of(lasting), expected[augment.epoch])


@pytest.mark.parametrize("given", ["folder", "splits", "train"])
def test_eval_is_untouched_by_the_collator_that_changes_train(spoken, given):
    data = load_prepared(spoken)
    whole = {"folder": spoken, "splits": data, "train": data["train"]}[given]
    augment = Augment(Noise("white", 0, chance=1))
    changing = SpeechCollator.of("openai/whisper-tiny", whole, augment=augment)
    plain = SpeechCollator.of("openai/whisper-tiny", spoken)
    for split, is_same in (("eval", True), ("train", False)):
        items = [data[split][i] for i in range(2)]
        assert torch.equal(changing(items)["input_features"], plain(items)["input_features"]) == is_same
        assert torch.equal(changing(items)["labels"], plain(items)["labels"])
    assert augment.untouched == set(data["eval"]["id"]) and augment.most_samples == 480_000


def test_clips_keep_their_numbers_when_a_trainer_drops_their_ids(spoken):
    data = load_prepared(spoken)["train"]
    collate = SpeechCollator.of("openai/whisper-tiny", spoken, augment=all_steps())
    kept = data.select_columns(["input_features", "labels"])
    assert torch.equal(collate([kept[3]])["input_features"], collate([data[3]])["input_features"])


def test_babble_is_of_clips_of_train(spoken):
    data = load_prepared(spoken)
    augment = Augment(Noise("babble", 0, voices=2, chance=1))
    SpeechCollator.of("openai/whisper-tiny", data, augment=augment)
    quiet = np.random.default_rng(0).normal(0, 1e-3, 16000).astype(np.float32)
    changed = augment.change(quiet, 16000, "x")
    assert changed.done[0]["voices"] == 2 and not np.array_equal(changed.samples, quiet)
    assert augment._sound.num_rows == data["train"].num_rows


def test_a_folder_of_features_has_no_sound_to_change(tmp_path):
    few = dict(num_workers=1, log_mel="fast", max_train_samples=2)
    cfg = PrepConfig("sample", "it", output_dir=str(tmp_path / "out"), **few)
    made = prepare(cfg, progress=False)
    with pytest.raises(ValueError, match="Augment changes sound, and train stores features.*storage=\"audio\""):
        SpeechCollator.of("openai/whisper-tiny", made.folder, augment=all_steps())


def test_an_augmentation_that_does_not_know_eval_is_refused(spoken):
    augment = all_steps()
    with pytest.raises(ValueError, match="must know which clips are eval's.*SpeechCollator.of"):
        SpeechCollator(50258, augment=augment)
    augment.attach(load_prepared(spoken))
    assert SpeechCollator(50258, augment=augment)([load_prepared(spoken)["train"][0]])["input_features"].shape[0] == 1


def test_the_clips_own_files_are_changed_as_flac_is(spoken, prepared):
    folders = spoken, prepared("it", storage="source").folder
    steps = Speed((1.1, 1.1), chance=1), Gain((-6, -6), chance=1), Telephone("alaw", chance=1)
    flac, own = [epoch_of(loader_of(folder, Augment(*steps), 0)) for folder in folders]
    plain = epoch_of(loader_of(folders[1], None, 0))
    assert (flac - own).abs().mean() < 0.01 < (plain - own).abs().mean()


def test_what_one_step_does_changes_no_number_of_another():
    samples = np.sin(np.arange(16000) / 20).astype(np.float32) / 4
    drawn = []
    for chance in (0.0, 1.0):
        done = Augment(Noise(("white",), chance=chance), Gain(chance=1.0)).change(samples, 16000, "a clip").done
        assert len(done) == 1 + int(chance)
        drawn.append(done[-1])
    assert drawn[0] == drawn[1]


def test_no_clip_becomes_longer_than_the_model_takes():
    samples = np.sin(np.arange(16000) / 20).astype(np.float32) / 4
    augment = Augment(Speed(factor=(0.5, 0.9), chance=1.0), Tempo(factor=(0.5, 0.9), chance=1.0))
    assert len(augment(samples, 16000, "a clip")) > 17000
    augment.most_samples = 17000
    assert 16000 < len(augment(samples, 16000, "a clip")) <= 17000
