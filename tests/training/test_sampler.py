import numpy as np
import pytest
import torch

from hf_fusion.training.sampler import LengthBucketSampler, PartnerBatchSampler
from hf_fusion.utils.errors import RecipeError


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


class TestPartnerBatches:
    LENGTHS = [(7 * i) % 23 + 1 for i in range(103)]

    def sampler(self, partners=None, batch_size=8, lengths=None, num_replicas=1, rank=0, seed=3, **options):
        order = LengthBucketSampler(lengths or [1] * 103, batch_size * num_replicas, seed)
        return PartnerBatchSampler(order, batch_size, lambda epoch: partners, lengths, num_replicas, rank, **options)

    def table(self, partners=4):
        """Each clip's partners are those whose number is the same modulo 20, and some have none."""
        rows = [[j for j in range(i % 20, 103, 20) if j != i] for i in range(103)]
        none = [-1] * partners
        return torch.tensor([(row + none)[:partners] if i % 9 else none for i, row in enumerate(rows)])

    @pytest.mark.parametrize("num_replicas", [1, 2, 3, 7])
    @pytest.mark.parametrize("mined", [False, True])
    @pytest.mark.parametrize("bucketed", [False, True])
    @pytest.mark.parametrize("gathered", [False, True])
    def test_every_clip_once_an_epoch(self, num_replicas, mined, bucketed, gathered):
        options = {"lengths": self.LENGTHS if bucketed else None, "num_replicas": num_replicas, "gathered": gathered}
        shares = [self.sampler(self.table() if mined else None, rank=r, **options) for r in range(num_replicas)]
        batches = [list(share) for share in shares]
        assert sorted(row for share in batches for batch in share for row in batch) == list(range(103))
        assert {len(share) for share in batches} == {len(shares[0])}, "a process without a batch would be waited for"
        sizes = {len(batch) for share in batches for batch in share}
        assert max(sizes) <= 8 and max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize("num_replicas", [2, 3])
    @pytest.mark.parametrize("options", [{"gathered": True}, {"encode_partners": True}], ids=lambda o: next(iter(o)))
    def test_gathered_batches_are_those_of_one_process(self, num_replicas, options):
        """Whatever they are divided into; 103 clips leave shares of different sizes."""

        def clips(batch):
            return batch[: len(batch) // (5 if options.get("encode_partners") else 1)]

        shares = [
            self.sampler(self.table(), 24 // num_replicas, None, num_replicas, r, **options)
            for r in range(num_replicas)
        ]
        together = [[row for batch in step for row in clips(batch)] for step in zip(*shares, strict=True)]
        assert together == [clips(batch) for batch in self.sampler(self.table(), 24, **options)]

    def test_unless_gathered_partners_meet_in_one_process(self):
        table = torch.randint(103, (103, 4), generator=torch.Generator().manual_seed(0))

        def met(num_replicas, **options):
            shares = [self.sampler(table, 4, None, num_replicas, rank, **options) for rank in range(num_replicas)]
            return sum(
                len(set(table[row].tolist()) & set(batch)) for share in shares for batch in share for row in batch
            )

        assert met(4) > 0.9 * met(1) > 1.5 * met(4, gathered=True)

    def test_partners_are_in_the_batch(self):
        def share(table):
            together = 0
            for batch in self.sampler(table):
                together += sum(bool(set(self.table()[row].tolist()) & set(batch)) for row in batch)
            return together / 103

        assert share(self.table()) > 0.7 > 0.4 > share(None)

    def test_partners_of_another_length_stay_out(self):
        def padding(sampler):
            return sum(max(self.LENGTHS[r] for r in batch) * len(batch) for batch in sampler) / sum(self.LENGTHS)

        bucketed = padding(self.sampler(self.table(), lengths=self.LENGTHS))
        assert bucketed < 1.5 < 1.6 < padding(self.sampler(self.table()))

    def test_depends_on_seed_and_epoch_alone(self):
        sampler = self.sampler(self.table())
        first = list(sampler)
        assert first == list(sampler) == list(self.sampler(self.table()))
        sampler.set_epoch(1)
        assert list(sampler) != first != list(self.sampler(self.table(), seed=4))
        sampler.set_epoch(0)
        assert list(sampler) == first

    def test_encoded_partners_follow_their_clips(self):
        table = self.table(partners=3)
        sampler = self.sampler(table, encode_partners=True)
        seen = []
        for batch in sampler:
            clips = batch[: len(batch) // 4]
            seen += clips
            for kind in range(3):
                expected = [row if p < 0 else p for row, p in zip(clips, table[clips, kind].tolist(), strict=True)]
                assert batch[(1 + kind) * len(clips) : (2 + kind) * len(clips)] == expected
        assert sorted(seen) == list(range(103))

    def test_fewer_clips_than_processes(self):
        with pytest.raises(RecipeError, match="2 training clips are too few for 3 processes"):
            PartnerBatchSampler(LengthBucketSampler([1, 1], 3, 0), 1, lambda epoch: None, num_replicas=3)
