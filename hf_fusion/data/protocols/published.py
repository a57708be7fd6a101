"""
The mask algorithms of the published codes, bit for bit.

They serve to compare with published numbers alone; [`hf_fusion.data.protocols.sound`] has masks without their defects.
`lengths` are the numbers of valid positions of all clips of a split, in the order of the published data.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hf_fusion.utils.errors import DataError

# The batch size of IMDer on MOSI and MOSEI.
IMDER_BATCH_SIZE = 32
# Index of the modality by the order of the columns in the code of GCNet and of IMDer.
GCNET_ORDER, IMDER_ORDER = ("audio", "text", "vision"), ("text", "vision", "audio")
# What each code of MPLMM keeps of text, audio and vision.
MPLMM_KEPT = np.array([(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)], dtype=bool)
_MPLMM_COMPLETE = 6
# Shares of the batches that lose two modalities, and one, at the rates .1 to .7.
_IMDER_TWO = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_IMDER_ONE = (0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0)
# The patterns of CyIN over text, audio and vision.
_CYIN_KEPT = np.array([(1, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0), (0, 0, 1), (0, 1, 0)], dtype=bool)
_MOST_TRIES = 100_000  # of GCNet's algorithm, which never ends for some numbers of rows


def uniform_positions(
    lengths: Sequence[int], padded_length: int, rates: float | np.ndarray, seed: int, is_text: bool
) -> np.ndarray:
    """
    TFR-Net, LNLN: positions kept in one modality.

    Args:
        lengths (`Sequence[int]`): valid positions of each clip.
        padded_length (`int`): positions of a padded clip, on which the masks depend.
        rates (`float` or array of shape `(clips,)`): the probability that a position is lost.
        seed (`int`): seed of the modality.
        is_text (`bool`): whether the first and the last valid position are always kept.

    Returns:
        bool array `(clips, padded_length)`, `False` at padding.
    """
    lengths = np.asarray(lengths)
    draws = np.random.RandomState(seed).uniform(size=(len(lengths), padded_length))
    kept = draws > np.broadcast_to(rates, len(lengths))[:, None]
    if is_text:
        kept[:, 0] = True
        kept[np.arange(len(lengths)), lengths - 1] = True
    return kept & (np.arange(padded_length) < lengths[:, None])


def lnln_training_rates(count: int, seed: int, vision_length: int, mask_seed: int = 1111) -> Iterator[np.ndarray]:
    """
    LNLN: the missing rates of the training clips, float arrays of shape `(3, clips)` for text, audio and vision: first
    those of the start, then each redraw of a training in a single process (which draws the same numbers every time).

    Args:
        count (`int`): number of training clips.
        seed (`int`): the training seed.
        vision_length (`int`): padded length of vision.
        mask_seed (`int`): the seed of the masks, which the code sets before each redraw.
    """
    numbers, choices = np.random.RandomState(seed), random.Random(seed)
    while True:
        rates = numbers.uniform(size=(3, count))
        for row in rates:
            row[choices.sample(range(count), count // 2)] = 0
        yield rates
        numbers = np.random.RandomState(mask_seed)
        numbers.uniform(size=count * vision_length)


def gcnet_table(count: int, rate: float, generator: np.random.RandomState, least_rows: int = 32) -> np.ndarray:
    """
    GCNet: the modalities kept in each row, bool array `(count, 3)` for [`GCNET_ORDER`].

    Args:
        count (`int`): number of rows.
        rate (`float`): missing rate.
        generator (`np.random.RandomState`): source of the numbers.
        least_rows (`int`): rows that are drawn at least; 1 in the copies of its baselines.

    Raises:
        DataError: where the published loop does not end.
    """
    kept = _table_by_rate(count, rate, lambda end, shape: generator.randint(0, end, shape), least_rows)
    if kept is None:
        raise DataError(f"The published algorithm of GCNet does not end for {count} rows at the rate {rate:g}.")
    return kept


def cyin_by_rate(count: int, rate: float, generator: torch.Generator) -> np.ndarray:
    """CyIN: the text, audio and vision kept in each row at a missing rate, bool array `(count, 3)`."""
    kept = _table_by_rate(
        count, rate, lambda end, shape: torch.randint(0, end, shape, generator=generator).numpy(), doubled_every=100
    )
    assert kept is not None  # the growing tolerance ends the loop
    return kept


def _table_by_rate(count, rate, draw, least_rows=1, doubled_every=None):
    keep, tolerance = 1 - rate, 0.005
    if keep <= 1 / 3:
        return draw(3, (count,))[:, None] == np.arange(3)
    if keep == 1:
        return np.ones((count, 3), dtype=bool)
    rows, share = max(count, least_rows), keep - 1 / 3
    for tries in range(1, _MOST_TRIES + 1):
        surely = draw(3, (rows,))[:, None] == np.arange(3)
        overlap = int((surely & (draw(100, (rows, 3)) < int(share * 100))).sum())
        more = share / (1 - overlap / (3 * rows * share))
        kept = surely | (draw(100, (rows, 3)) < int(more * 100))
        if abs(keep - kept.mean()) < tolerance:
            return kept[:count]
        if doubled_every and tries % doubled_every == 0:
            tolerance *= 2
    return None


def imder_batches(rate: float, batches: int, seed: int) -> np.ndarray:
    """
    IMDer, DiCMoR: the modalities kept in each batch of one pass, bool array `(batches, 3)` for [`IMDER_ORDER`].

    The rate 0 takes the shares of .7, as published; the authors measure complete data without this function.

    Raises:
        DataError: if there are no published shares for the rate.
    """
    choices = random.Random(seed)
    place = round(rate * 10) - 1  # -1, the last, for the rate 0
    if place >= len(_IMDER_TWO) or abs(rate * 10 - place - 1) > 1e-6:
        raise DataError(f"IMDer has the rates 0.1, 0.2 ... 0.7, got {rate:g}: use the mode sound for others.")
    two, one = _IMDER_TWO[place], _IMDER_ONE[place]
    rounded = 10 * round(batches / 10)
    kept = np.zeros((batches, 3), dtype=bool)
    with_two = with_one = 0
    for row in kept:
        number = 3
        if rounded and with_two / rounded < two:
            number, with_two = 1, with_two + 1
        elif rounded and with_one / rounded < one:
            number, with_one = 2, with_one + 1
        row[choices.sample(range(3), number)] = True
    return kept


def cyin_by_probability(count: int, probability: float, generator: torch.Generator) -> np.ndarray:
    """CyIN: the text, audio and vision kept in each row if a row is hit with a probability, bool array `(count, 3)`."""
    patterns = torch.randint(0, len(_CYIN_KEPT), (count,), generator=generator).numpy()
    is_hit = torch.rand(count, generator=generator).numpy() < probability
    return np.where(is_hit[:, None], _CYIN_KEPT[patterns], True)


def mplmm_codes(count: int, drop_rate: float, generator: random.Random) -> np.ndarray:
    """MPLMM: the codes of the next `count` clips that are read, int array; see [`MPLMM_KEPT`]."""
    codes = [generator.randint(0, 5) if generator.random() < drop_rate else _MPLMM_COMPLETE for _ in range(count)]
    return np.array(codes, dtype=int)


def cms_missing(
    lengths: Sequence[int],
    padded_lengths: Sequence[int],
    rates: Sequence[float],
    block: float,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """
    CMS-Mamba (July 2026): the positions that one clip loses in text, audio and vision, bool arrays
    `(padded_length,)`.

    Args:
        lengths, padded_lengths (`Sequence[int]`): of the three modalities.
        rates (`Sequence[float]`): their independent rates; all 0 draws none.
        block (`float`): share of the block; 0 draws none.
        generator (`np.random.Generator`): source of the numbers.
    """
    missing = []
    for place, (length, padded) in enumerate(zip(lengths, padded_lengths, strict=True)):
        eligible = np.zeros(padded, dtype=bool)
        eligible[1 : length - 1] = True
        if place > 0:
            eligible[:length] = True
        lost = np.zeros(padded, dtype=bool)
        if any(rates):
            lost |= (generator.random(padded) < rates[place]) & eligible
        if block:
            positions = np.flatnonzero(eligible)
            size = round(block * len(positions))
            if size:
                start = generator.integers(0, len(positions) - size + 1)
                lost[positions[start : start + size]] = True
        missing.append(lost)
    return missing


def cms_generator(mask_seed: int, index: int) -> np.random.Generator:
    """CMS-Mamba: the generator of a clip in a test, by its number in the split."""
    return np.random.default_rng(np.random.SeedSequence([mask_seed, 0, index]))


def cms_training_missing(
    lengths: Sequence[int], padded_lengths: Sequence[int], seed: int, epoch: int, index: int
) -> tuple[float, list[np.ndarray]]:
    """CMS-Mamba: the rate of a training clip in an epoch, and the positions that it loses; see [`cms_missing`]."""
    generator = np.random.default_rng([seed, epoch, index])
    rate = generator.random()
    return rate, cms_missing(lengths, padded_lengths, (rate, rate, rate), 0, generator)
