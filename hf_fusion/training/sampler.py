"""Samplers for the order of training rows."""

from collections.abc import Callable, Iterator
from itertools import chain, islice

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_fusion.utils.errors import RecipeError

# The least length of a partner relative to the longest clip of the batch; shorter ones would cause much padding.
_SHORTEST_PARTNER = 0.5


class LengthBucketSampler(LengthGroupedSampler):
    """
    Random order in which neighbours have similar length, so that batches have little padding.

    The order depends only on seed and epoch, so that all processes and resumed runs have the same order.

    Args:
        lengths (`list[int]`): the length of each row.
        batch_size (`int`): the number of rows per global batch.
        seed (`int`): the seed of the order.
    """

    def __init__(self, lengths, batch_size, seed):
        super().__init__(batch_size, dataset=lengths, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch):
        """Sets the epoch, which selects the order."""
        self.epoch = epoch

    def __iter__(self):
        self.generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        return super().__iter__()


class EpochSampler(Sampler):
    """
    Tells each row's epoch to the data set: yields the numbers of another sampler plus `epoch * rows`. A worker that
    reads the row knows the epoch from it, also one that lives on or reads ahead.

    Args:
        sampler (`Sampler`): yields row numbers, or lists of them, and has `set_epoch`.
        rows (`int`): the number of rows of the data set.
    """

    def __init__(self, sampler, rows: int):
        self.inner = sampler
        self.rows = rows
        self.epoch = 0

    @property
    def sampler(self):
        """Returns itself, since `accelerate` looks for `set_epoch` here."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, also of the other sampler."""
        self.epoch = epoch
        self.inner.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator:
        first = self.epoch * self.rows
        for number in self.inner:
            yield [first + one for one in number] if isinstance(number, list) else first + number


class SetEpoch(TrainerCallback):
    """
    Sets the epoch of the samplers of the training loader. Where several processes go on inside an epoch, `Trainer` does
    not reach them: it sets the epoch of a loader that skips batches, which does not pass it on.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Sets the epoch that begins or goes on."""
        if hasattr(train_dataloader, "set_epoch"):
            train_dataloader.set_epoch(int((state.epoch or 0) + 1e-6))  # a sum of fractions may be just below


class PartnerBatchSampler(Sampler):
    """
    Batches of clips with their mined partners; every clip occurs once per epoch.

    A batch starts with the next clip of the order (random, neighbours of similar length). Then it adds the partners of
    this clip that are in no batch yet, the partners of these, and so on; if none remain, it continues with the next
    clip of the order until it is full. The batches depend only on seed, epoch and partners.

    With `gathered` one batch is created for all processes and divided among them, which equals training in one process
    with a batch of that size. Otherwise each process compares its own clips only, and has separate batches. In both
    cases every process computes the batches of all and yields its own: no clip occurs twice, all have the same number
    of batches, and the sizes differ by at most one clip.

    With `encode_partners` a batch consists of clips of the order, followed by the partners of all of them, one kind of
    partner after the other. A partner is encoded again for each of its clips. A missing partner is replaced by the clip
    itself.

    Args:
        order (`Sampler`): the order of the clips in an epoch, with `set_epoch`.
        batch_size (`int`): the number of clips per batch of a process, without encoded partners. Some batches have one
            more, so that all clips fit.
        partners (`Callable[[int], torch.LongTensor | None]`): returns the partners `(clips, partners)` for an epoch, -1
            for missing ones; `None` without embeddings.
        lengths (`list[int]`, *optional*): the length of each clip. If set, partners that are much shorter or longer
            than the batch are left out.
        num_replicas, rank (`int`): the number of processes, and the rank of this one.
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
        self.num_steps = min(steps, len(order) // num_replicas)  # each process has at least one clip per step

    @property
    def sampler(self):
        """Returns itself, since `accelerate` looks for `set_epoch` here."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which selects the batches."""
        self.epoch = epoch
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[int]]:
        table = self.partners(self.epoch)
        rows = None if table is None else table.tolist()
        clips = iter(self.order) if rows is None or self.encode_partners else self._join_partners(rows)
        for shares in self._shares():
            batch = [list(islice(clips, size)) for size in shares][self.rank]
            yield self._with_partners(batch, rows) if rows is not None and self.encode_partners else batch

    def _shares(self):
        """Returns the number of clips of each process in each step."""
        return [_divide(size, self.num_replicas) for size in _divide(len(self.order), self.num_steps)]

    def _join_partners(self, partners):
        """Returns all clips of the epoch, batch by batch."""
        free = bytearray([1]) * len(self.order)
        order = iter(self.order)
        shares = self._shares()
        for size in map(sum, shares) if self.gathered else chain.from_iterable(shares):
            batch: list[int] = []
            invited = 0  # clips of the batch whose partners were added
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


def _divide(total, parts):
    """Divides a total into parts of nearly equal size, the larger ones first."""
    small, more = divmod(total, parts)
    return [small + (number < more) for number in range(parts)]
