"""The order in which training rows are seen."""

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class LengthBucketSampler(LengthGroupedSampler):
    """
    Random order in which neighbours have like length, so that batches hold little padding.

    The order depends on the seed and the epoch alone: every process draws the same, and a resumed run goes on in the
    order that it would have had.

    Args:
        lengths (`list[int]`): length of each row.
        batch_size (`int`): rows of a global batch.
        seed (`int`): of the order.
    """

    def __init__(self, lengths, batch_size, seed):
        super().__init__(batch_size, dataset=lengths, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch):
        """Chooses the order of this epoch."""
        self.epoch = epoch

    def __iter__(self):
        self.generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        return super().__iter__()
