"A clip is shown before and after its augmentation, as training would change it, and eval's as it is."
import pytest

from audio_ft_prep import PrepConfig
from audio_ft_prep.augment import Augment
from audio_ft_prep.augmented import augmented_view, show_augmented
from audio_ft_prep.browser import ClipBrowser, clip_html, corpus_clips, find_clips
from audio_ft_prep.steps import Gain, Noise, Speed

SLOWER = Augment(Speed(0.8, chance=1), Noise("pink", 10, chance=1))


@pytest.fixture(scope="module")
def clips(): return corpus_clips(PrepConfig("sample", "it"))


def test_a_clip_is_shown_as_training_would_hear_it(clips):
    view = clips.open(0)
    shown = show_augmented(clips, SLOWER, view.id, epoch=3)
    heard = SLOWER.at_epoch(3)(view.samples, view.rate_hz, view.id)
    assert (shown.after.samples == heard).all() and shown.after.seconds == len(heard) / view.rate_hz
    assert shown.after.features.shape == view.features.shape and (shown.after.features != view.features).any()
    assert SLOWER.epoch == 0


def test_what_is_left_alone_is_said(clips):
    kept, rejects = find_clips(clips.table, "eval", "kept"), find_clips(clips.table, reason="missing_audio")
    assert "clips of eval are" in augmented_view(clips.open(int(kept[0])), SLOWER).words
    assert "no sound to change" in augmented_view(clips.open(int(rejects[0])), SLOWER).words
    assert augmented_view(clips.open(0), Augment(Gain(chance=0))).words == "left as it is"


@pytest.mark.long
def test_a_browser_plays_and_draws_each_clip_before_and_after():
    browser = ClipBrowser(PrepConfig("sample", "it"), augment=SLOWER)
    first = browser.shown.value
    assert (first.count("<audio"), first.count("<img")) == (2, 2) and "Epoch 0:</b> speed (factor 0.8)" in first
    listed = list(browser.places)
    browser.filters["epoch"].value = 2
    assert "Epoch 2:</b>" in browser.shown.value != first and list(browser.places) == listed and SLOWER.epoch == 0
    browser.filters["split"].value = "eval"
    assert browser.shown.value.count("<audio") == 1 and "clips of eval are" in browser.shown.value
    assert "epoch" not in browser._asked()


@pytest.mark.long
def test_without_an_augmentation_a_browser_shows_what_it_showed(clips):
    browser = ClipBrowser(clips)
    assert "epoch" not in browser.filters and browser.shown.value.count("<audio") == 1
    assert browser.shown.value == clip_html(clips, 0)
