"What changes on the fly depends on seed, epoch and clip alone, is put where there is sound, and leaves eval as it is."
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader

from audio_ft_prep import PrepConfig, SpeechCollator, load_prepared, prepare
from audio_ft_prep.augment import AUGMENTATIONS, SpecAugment, augmentation, clip_rng, mask_places
from audio_ft_prep.features import valid_frames

pytestmark = pytest.mark.usefixtures("one_thread")
MARK = 9.0      # no log-mel reaches it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment") / "prepared"
    made = prepare(PrepConfig("sample", "it", output_dir=str(folder), num_workers=1, log_mel="fast"), progress=False)
    return load_prepared(made.folder)


def marking(data, **settings): return augmentation("spec_augment", data, value=MARK, **settings)
def collator(augment): return SpeechCollator(50258, augment=augment)


def by_clip(data, augment, **loading):
    "Inputs by clip, as a data loader gives them."
    rows = data["train"]
    ids = list(rows["id"])
    order = loading.pop("order", range(len(ids)))
    batches = [b["input_features"] for b in DataLoader(rows.select(order), 4, collate_fn=collator(augment), **loading)]
    return dict(zip([ids[i] for i in order], torch.cat(batches).numpy()))


def test_the_same_seed_gives_the_same_batch_in_any_order_and_any_number_of_workers(data):
    augment = marking(data)
    alone = by_clip(data, augment)
    backwards = by_clip(data, augment, order=range(len(alone) - 1, -1, -1))
    together = by_clip(data, augment, num_workers=2)
    for clip, inputs in alone.items():
        assert np.array_equal(inputs, backwards[clip]) and np.array_equal(inputs, together[clip])
        assert (inputs == MARK).any()


def test_another_seed_or_epoch_hides_other_stretches(data):
    item = data["train"][0]
    augments = [marking(data, seed=1), marking(data, seed=2), marking(data, seed=1)]
    augments[2].epoch = 1
    one, other, later = (a(item)["input_features"] == MARK for a in augments)
    assert not np.array_equal(one, other) and not np.array_equal(one, later)


def test_eval_is_untouched_by_the_collator_that_masks_train(data):
    items = [data["eval"][i] for i in range(len(data["eval"]))]
    plain, masking = collator(None)(items), collator(marking(data, time_share=1.0))(items)
    assert torch.equal(plain["input_features"], masking["input_features"])
    assert torch.equal(plain["labels"], masking["labels"])


def test_without_an_augmentation_nothing_changes(data):
    items = [data["train"][i] for i in range(4)]
    batch = SpeechCollator(50258)(items)["input_features"].numpy()
    assert all(np.array_equal(b[:, :i["input_features"].shape[1]], i["input_features"]) for b, i in zip(batch, items))


def test_masks_are_put_on_sound_alone_and_change_nothing_else(data):
    augment = marking(data, time_share=0.5, mel_share=0.5)
    for item in data["train"]:
        before, after = item["input_features"], augment(item)["input_features"]
        sound = valid_frames(item["input_length"], most=10_000) - 1
        hidden = after == MARK
        assert hidden[:, :sound].any() and not hidden[:, sound:].any()
        assert np.array_equal(after[~hidden], before[~hidden]) and after is not before


def test_the_item_of_the_data_set_is_not_written_to(data):
    item = data["train"][0]
    before = item["input_features"].copy()
    marking(data, time_share=1.0)(item)
    assert np.array_equal(item["input_features"], before)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 40), st.integers(0, 1 << 30))
def test_masks_never_overlap_nor_hide_more_than_was_asked(size, share, width, seed):
    hidden = mask_places(size, share, width, np.random.default_rng(seed))
    edges = np.diff(np.concatenate([[0], hidden.astype(int), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    assert hidden.sum() % width == 0 and (lengths % width == 0).all()
    assert hidden.sum() <= min(share * size + width, size)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05, 0.2, 0.9])
def test_the_share_that_is_hidden_is_the_share_asked_for(share):
    means = [mask_places(333, share, 10, clip_rng(1, 0, str(i))).mean() for i in range(4000)]
    assert abs(np.mean(means) - share) < 0.003


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_shares_of_frames_and_bands_are_those_asked_for(share):
    change = SpecAugment(time_share=share, mel_share=share, value=MARK)
    hidden = [change(np.zeros((80, 600), np.float32), 500, clip_rng(1, 0, str(i))) == MARK for i in range(400)]
    frames = np.mean([h[:, :500].all(axis=0).mean() for h in hidden])
    bands = np.mean([h[:, :500].all(axis=1).mean() for h in hidden])
    assert abs(frames - share) < 0.01 and abs(bands - share) < 0.01


def test_every_place_is_hidden_equally_often():
    counts = sum(mask_places(50, 0.2, 5, clip_rng(1, 0, str(i))) for i in range(6000))
    middle = counts[10:40]
    assert middle.max() < 1.2 * middle.min()


def test_columns_that_a_trainer_would_drop_are_asked_for_by_name(data):
    item = {k: v for k, v in data["train"][0].items() if k not in ("id", "input_length")}
    with pytest.raises(ValueError, match="id and input_length of each clip.*remove_unused_columns=False"):
        collator(marking(data))([item])


@pytest.mark.parametrize("wrong", [dict(time_share=1.5), dict(mel_share=-1), dict(time_frames=0), dict(mel_bands=0)])
def test_settings_that_mean_nothing_are_refused_by_name(data, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))): augmentation("spec_augment", data, **wrong)


def test_a_name_that_is_in_no_table_is_refused(data):
    with pytest.raises(ValueError, match="must be spec_augment, got speed"): augmentation("speed", data)


def test_another_augmentation_is_one_line_of_the_table(data, monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS, "louder", lambda gain: lambda features, valid, rng: features + gain)
    item = data["train"][0]
    got = collator(augmentation("louder", data, gain=0.5))([item])["input_features"][0].numpy()
    features = item["input_features"]
    assert np.array_equal(got[:, :features.shape[1]], features + np.float32(0.5))
