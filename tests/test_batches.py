"Batches of clips of about the same length hold every clip once, within their seconds, as seed and epoch say."
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep.batches import LengthBatches

pytestmark = pytest.mark.light
LENGTHS = st.lists(st.floats(0.1, 30), min_size=1, max_size=60)


def batches_of(sampler): return [batch for batch in sampler]


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.floats(30, 90), st.integers(0, 4), st.integers(1, 9))
def test_every_clip_is_in_one_batch_and_no_batch_is_too_long(seconds, most, max_clips, buckets):
    batches = batches_of(LengthBatches(seconds, most, 42, max_clips, buckets))
    assert sorted(i for batch in batches for i in batch) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) * max(seconds[i] for i in batch) <= most
        assert not max_clips or len(batch) <= max_clips


def test_order_depends_on_seed_and_epoch_alone():
    seconds = np.linspace(1, 20, 50)
    def order(seed, epoch):
        sampler = LengthBatches(seconds, 60, seed)
        sampler.set_epoch(epoch)
        return batches_of(sampler)
    assert order(1, 0) == order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1) == order(1, 1)


def test_processes_share_the_batches_and_one_resumes_at_its_step():
    seconds = np.linspace(1, 20, 50)
    parts = [batches_of(LengthBatches(seconds, 60, rank=rank, num_replicas=2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(50))
    sampler = LengthBatches(seconds, 60)
    begun = iter(sampler)
    first = [next(begun) for _ in range(3)]
    again = LengthBatches(seconds, 60)
    again.load_state_dict(sampler.state_dict())
    assert [*first, *again] == batches_of(LengthBatches(seconds, 60))
