import numpy as np
import pytest

from hf_fusion.training.sampler import LengthBucketSampler


@pytest.fixture
def lengths():
    return np.random.default_rng(0).lognormal(4, 0.7, 1000).astype(int).clip(1, 512).tolist()


def test_every_row_once_an_epoch(lengths):
    sampler = LengthBucketSampler(lengths, 8, seed=1)
    assert sorted(sampler) == list(range(1000)) and len(sampler) == 1000


def test_order_depends_on_seed_and_epoch_alone(lengths):
    def order(seed, epoch, before=()):
        sampler = LengthBucketSampler(lengths, 8, seed)
        for other in before:
            sampler.set_epoch(other)
            list(sampler)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 3) == order(1, 3, before=(0, 1, 2))  # a resumed run sees what it would have seen
    assert order(1, 3) != order(1, 2) and order(1, 3) != order(2, 3)


def test_batches_hold_little_padding(lengths):
    def padded(order):
        batches = np.array([lengths[i] for i in order]).reshape(-1, 8)
        return batches.max(axis=1).sum() * 8 / sum(lengths)

    assert padded(LengthBucketSampler(lengths, 8, 0)) < 1.15 < 1.5 < padded(np.random.default_rng(0).permutation(1000))
