"""
Masks without the defects of the published ones.

The mask of a clip depends on the mask seed, the split, its id and the modality, never on batch, worker, order or
padding. Modalities are independent. One number for each position decides at all rates, so that a higher rate loses all
that a lower one does. Whole modalities are lost by exact counts, so that their masks depend on the set of ids, too.
"""

import hashlib
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from hf_fusion.data.protocols.base import Condition, Protocol
from hf_fusion.models.configuration_dashfusion import MODALITIES

# The orders in which a clip may lose its modalities.
_ORDERS = np.array(list(permutations(range(len(MODALITIES)))))
# What the numbers of a clip are for: the positions of a modality come first, by its place.
_FOR_PATTERN, _FOR_ORDER, _FOR_MODALITY = 3, 4, 5


def clip_key(mask_seed: int, split: str, clip_id: str) -> list[int]:
    """Returns the entropy of a clip, from which all its masks come."""
    digest = hashlib.sha256(f"{split}\n{clip_id}".encode()).digest()
    return [mask_seed, int.from_bytes(digest[:8], "big")]


def sound_masks(
    protocol: Protocol,
    condition: Condition,
    lengths: dict[str, Sequence[int]],
    mask_seed: int,
    split: str,
    ids: Sequence[str],
) -> dict[str, list[np.ndarray]]:
    """Draws the masks of a split; see [`keep_masks`]."""
    keys = [clip_key(mask_seed, split, clip_id) for clip_id in ids]
    if protocol.unit == "positions":
        return {
            name: [
                keep_positions(name, length, condition, key) for key, length in zip(keys, lengths[name], strict=True)
            ]
            for name in lengths
        }
    present = presence(lengths)
    return whole_masks(keep_modalities(protocol, condition, present, *_ranked_places(keys)), lengths)


def presence(lengths: dict[str, Sequence[int]]) -> np.ndarray:
    """Returns a bool array `(clips, 3)`: the modalities that each clip has."""
    count = len(next(iter(lengths.values())))
    return np.stack([np.asarray(lengths.get(name, [0] * count)) > 0 for name in MODALITIES], axis=1)


def whole_masks(kept: np.ndarray, lengths: dict[str, Sequence[int]]) -> dict[str, list[np.ndarray]]:
    """Turns kept modalities, bool array `(clips, 3)`, into masks over positions."""
    return {
        name: [np.full(length, kept[i, MODALITIES.index(name)]) for i, length in enumerate(lengths[name])]
        for name in lengths
    }


def keep_positions(name: str, length: int, condition: Condition, key: list[int]) -> np.ndarray:
    """
    Draws the positions that a clip keeps in one modality.

    The first and the last token of a text, which are special ones, are kept as long as a word is.

    Args:
        name (`str`): the modality.
        length (`int`): its number of positions.
        condition ([`Condition`]): its rate and block.
        key (`list[int]`): the result of [`clip_key`].

    Returns:
        bool array `(length,)`.
    """
    place = MODALITIES.index(name)
    ends = 1 if name == "text" else 0
    count = max(length - 2 * ends, 0)
    draws = uniforms(count + 1, key, place)  # the first one is for the block: a longer clip keeps the others
    inside = draws[1:] >= condition.rates[place]
    size = round(condition.block * count)
    start = int(draws[0] * (count - size + 1))
    inside[start : start + size] = False
    kept = np.full(length, inside.any() or not count)
    kept[ends : ends + count] = inside
    return kept


def keep_modalities(
    protocol: Protocol,
    condition: Condition,
    present: np.ndarray,
    places: np.ndarray,
    turns: np.ndarray,
    places_by_modality: np.ndarray,
) -> np.ndarray:
    """
    Decides which modalities clips keep; where the pattern is not fixed, a clip keeps one that it has.

    Args:
        protocol, condition: of the unit `modalities`.
        present: bool array `(clips, 3)`: the modalities that each clip has.
        places: array `(clips,)` of numbers in [0, 1), which the shares of the patterns divide.
        turns: int array `(clips,)`, which chooses the order in which a clip loses its modalities.
        places_by_modality: array `(clips, 3)` of numbers in [0, 1), which the rate of each modality divides.

    Returns:
        bool array `(clips, 3)`.
    """
    if condition.kept is not None:
        return np.isin(MODALITIES, condition.kept) & present
    if protocol.shares is None:
        return _keep_by_rates(np.array(condition.rates), present, places_by_modality)
    one, two = protocol.shares(condition.rates[0])
    kept = present.copy()
    for i, (place, turn) in enumerate(zip(places, turns, strict=True)):
        order = [modality for modality in _ORDERS[turn % len(_ORDERS)] if present[i, modality]]
        number = 2 if place < two else 1 if place < one + two else 0
        kept[i, order[: min(number, len(order) - 1)]] = False
    return kept


def _keep_by_rates(rates, present, places):
    kept = present & ~(places < rates)
    # the modality that a clip would lose last if all rates grew
    lateness = np.where(present, places / np.maximum(rates, 1e-12), -1)
    nothing = ~kept.any(axis=1) & present.any(axis=1)
    kept[nothing, lateness.argmax(axis=1)[nothing]] = True
    return kept


def _ranked_places(keys):
    """
    Places of clips by the rank of their numbers, so that shares become exact counts. They depend on the ids of the
    other clips, but not on their order; clips with one id have one place.
    """
    ranks = _ranks(keys, _FOR_PATTERN)
    by_modality = np.stack([_ranks(keys, _FOR_MODALITY + i) for i in range(len(MODALITIES))], axis=1)
    return (ranks + 0.5) / len(keys), ranks, (by_modality + 0.5) / len(keys)


def _ranks(keys, purpose):
    numbers = np.array([uniforms(1, key, purpose)[0] for key in keys])
    digests = np.array([key[1] for key in keys], dtype=np.uint64)
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    return np.argsort(np.lexsort((digests, numbers)))[first][number]


def own_places(keys: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the arguments of [`keep_modalities`] by the numbers of each clip alone: shares become probabilities."""
    turns = [int(uniforms(1, key, _FOR_ORDER)[0] * len(_ORDERS)) for key in keys]
    by_modality = [[uniforms(1, key, _FOR_MODALITY + i)[0] for i in range(len(MODALITIES))] for key in keys]
    return np.array([uniforms(1, key, _FOR_PATTERN)[0] for key in keys]), np.array(turns), np.array(by_modality)


def uniforms(count: int, key: list[int], purpose: int) -> np.ndarray:
    """Returns numbers of a clip in [0, 1); `purpose` keeps those of several purposes apart."""
    return np.random.default_rng([*key, purpose]).random(count)
