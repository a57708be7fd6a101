"""The order in which training rows are seen."""

from collections.abc import Callable, Iterator
from itertools import chain, islice

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_fusion.utils.errors import RecipeError

# A partner must be at least so long as a share of the longest clip of the batch: the rest would be padding.
_SHORTEST_PARTNER = 0.5


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


class PartnerBatchSampler(Sampler):
    """
    Batches in which clips meet the partners that were mined for them; every clip comes once an epoch.

    A batch begins with the next clip of the order (random, neighbours of like length), takes that clip's partners that
    no batch has yet, then the partners of these, and so on, and goes on with the next clip of the order where none is
    left, until it is full. The batches depend on seed, epoch and partners alone.

    With `gathered` one batch is made for all processes and divided among them: they train as one process does with a
    batch of that size. Else each process compares its own clips alone, and gets a batch that is made for itself. Either
    way every process computes the batches of all and gives out its own: no clip comes twice, all have the same number
    of batches, and their sizes differ by one clip at most.

    With `encode_partners` a batch holds clips of the order, and after them the partners of all of them, one kind of
    partner after the other: they are encoded again for each clip that they are partners of. A missing partner is the
    clip itself.

    Args:
        order (`Sampler`): the order of an epoch's clips, with `set_epoch`.
        batch_size (`int`): clips of a process's batch, without encoded partners; rarely one more, so that all are as
            large.
        partners (`Callable[[int], torch.LongTensor | None]`): for an epoch the partners of each clip,
            `(clips, partners)`, -1 where there is none; `None` before anything is known.
        lengths (`list[int]`, *optional*): length of each clip; then partners that are much shorter or longer than the
            rest of the batch stay out.
        num_replicas, rank (`int`): number of processes, and which one this is.
        encode_partners, gathered (`bool`): see above.
    """

    def __init__(
        self,
        order,
        batch_size: int,
        partners: Callable[[int], torch.Tensor | None],
        lengths: list[int] | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        encode_partners: bool = False,
        gathered: bool = False,
    ):
        self.order = order
        self.partners = partners
        self.lengths = lengths
        self.num_replicas = num_replicas
        self.rank = rank
        self.encode_partners = encode_partners
        self.gathered = gathered
        self.epoch = 0
        if len(order) < num_replicas:
            raise RecipeError(f"{len(order)} training clips are too few for {num_replicas} processes.")
        steps = -(-len(order) // (batch_size * num_replicas))
        self.num_steps = min(steps, len(order) // num_replicas)  # each process has a clip in each

    @property
    def sampler(self):
        """Itself: where `accelerate` looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the batches of this epoch."""
        self.epoch = epoch
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[int]]:
        table = self.partners(self.epoch)
        rows = None if table is None else table.tolist()
        clips = iter(self.order) if rows is None or self.encode_partners else self._joined(rows)
        for shares in self._shares():
            batch = [list(islice(clips, size)) for size in shares][self.rank]
            yield self._with_partners(batch, rows) if rows is not None and self.encode_partners else batch

    def _shares(self):
        """For each step the number of clips of each process."""
        return [_divided(size, self.num_replicas) for size in _divided(len(self.order), self.num_steps)]

    def _joined(self, partners):
        """All clips of the epoch, batch by batch."""
        free = bytearray([1]) * len(self.order)
        order = iter(self.order)
        shares = self._shares()
        for size in map(sum, shares) if self.gathered else chain.from_iterable(shares):
            batch: list[int] = []
            invited = 0  # clips of the batch whose partners were asked
            while len(batch) < size:
                if invited == len(batch):
                    clip = next(row for row in order if free[row])
                    free[clip] = 0
                    batch.append(clip)
                for row in partners[batch[invited]]:
                    if len(batch) < size and row >= 0 and free[row] and self._fits(row, batch[0]):
                        free[row] = 0
                        batch.append(row)
                invited += 1
            yield from batch

    def _fits(self, row, longest):
        if self.lengths is None:
            return True
        return _SHORTEST_PARTNER * self.lengths[longest] <= self.lengths[row] <= self.lengths[longest]

    def _with_partners(self, batch, partners):
        columns = zip(*(partners[row] for row in batch), strict=True)
        encoded = [clip if row < 0 else row for column in columns for clip, row in zip(batch, column, strict=True)]
        return batch + encoded


def _divided(total, parts):
    """The sizes of so many parts, as equal as can be, the larger ones first."""
    small, more = divmod(total, parts)
    return [small + (number < more) for number in range(parts)]
