"""Masks of the test conditions of a protocol."""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from hf_fusion.data.protocols import published
from hf_fusion.data.protocols.base import Condition, Mode, Protocol, check_mode
from hf_fusion.data.protocols.registry import find_protocol
from hf_fusion.data.protocols.sound import sound_masks, whole_masks
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError, listed

Masks = dict[str, list[np.ndarray]]


def keep_masks(
    protocol: str | Protocol,
    condition: str | Condition,
    lengths: Mapping[str, Sequence[int]],
    mode: Mode,
    mask_seed: int | tuple[int, int, int],
    split: str,
    ids: Sequence[str],
    padded_lengths: Mapping[str, int] | None = None,
) -> Masks:
    """
    Draws what each clip keeps under a condition of a protocol.

    Args:
        protocol (`str` or [`Protocol`]): the protocol, or its name.
        condition (`str` or [`Condition`]): one of its conditions, or its name.
        lengths (`Mapping[str, Sequence[int]]`): by modality, the valid positions of each clip of the *whole* split,
            special tokens included; 0 for a modality that a clip lacks. See [`maskable_lengths`].
        mode (`str`): `"sound"` for independent masks, `"exact"` for the published ones.
        mask_seed (`int`, or three of them in exact mode): the seed of the masks, apart from that of the training.
        split (`str`): the name of the split; without effect in exact mode.
        ids (`Sequence[str]`): the ids of the clips; without effect in exact mode, where their order counts.
        padded_lengths (`Mapping[str, int]`, *optional*): exact mode: the padded length of each modality in the
            published data, by default that of the longest clip.

    Returns:
        `dict[str, list[np.ndarray]]`: by modality, a bool array `(length,)` for each clip: `True` = observed.

    Raises:
        RecipeError: if there is no such protocol.
        DataError: if it has no such condition or mode, or the data has too few modalities.

    Example:

    ```python
    from hf_fusion.data.protocols import keep_masks

    masks = keep_masks("lnln", "0.5", {"text": [7, 5], "audio": [30, 0]}, "sound", 1111, "test", ["a", "b"])
    masks["audio"][0].mean()  # about half of the frames
    ```
    """
    protocol = find_protocol(protocol) if isinstance(protocol, str) else protocol
    condition = protocol.condition(condition) if isinstance(condition, str) else condition
    check_mode(protocol, mode)
    _check_lengths(protocol, lengths, ids)
    lengths = {name: np.asarray(lengths[name], dtype=int) for name in MODALITIES if name in lengths}
    if condition.is_complete:
        return {name: [np.ones(length, dtype=bool) for length in lengths[name]] for name in lengths}
    if mode == "sound":
        return sound_masks(protocol, condition, lengths, mask_seed, split, [str(clip) for clip in ids])
    padded = {name: int((padded_lengths or {}).get(name, values.max(initial=0))) for name, values in lengths.items()}
    return _EXACT[protocol.name](condition, lengths, padded, mask_seed)


def measure_rates(masks: Masks) -> dict[str, dict[str, float]]:
    """
    Measures the realised rates of masks.

    Returns:
        `dict[str, dict[str, float]]`: by modality, `positions` (the share of all valid positions that is lost, special
        tokens included) and `clips` (the share of the clips with this modality that lose it as a whole).
    """
    return {
        name: {
            "positions": 1 - float(np.concatenate(kept).mean()),
            "clips": float(np.mean([not mask.any() for mask in kept if len(mask)])),
        }
        for name, kept in masks.items()
        if any(map(len, kept))
    }


def _check_lengths(protocol, lengths, ids):
    if unknown := set(lengths) - set(MODALITIES):
        raise DataError(f"`lengths` is by modality ({listed(MODALITIES)}), got {listed(unknown)}.")
    if wrong := [name for name in lengths if len(lengths[name]) != len(ids)]:
        raise DataError(f"`lengths` has {len(lengths[wrong[0]])} clips for {wrong[0]}, `ids` has {len(ids)}.")
    if protocol.unit == "modalities" and len(lengths) < 2:
        raise DataError(f"{protocol.name} loses whole modalities, but the data has only {listed(lengths)}.")


def _uniform_masks(condition, lengths, padded, mask_seed):
    seeds = mask_seed if isinstance(mask_seed, tuple) else (mask_seed,) * len(MODALITIES)
    masks = {}
    for name, seed, rate in zip(MODALITIES, seeds, condition.rates, strict=True):
        if name in lengths:
            kept = published.uniform_positions(lengths[name], padded[name], rate, seed, name == "text")
            masks[name] = [row[:length] for row, length in zip(kept, lengths[name], strict=True)]
    return masks


def _gcnet_masks(condition, lengths, padded, mask_seed):
    generator = np.random.RandomState(mask_seed)
    table = published.gcnet_table(_count(lengths), condition.rates[0], generator)
    return _table_masks(table, published.GCNET_ORDER, lengths)


def _imder_masks(condition, lengths, padded, mask_seed):
    count, size = _count(lengths), published.IMDER_BATCH_SIZE
    table = published.imder_batches(condition.rates[0], -(-count // size), mask_seed)
    return _table_masks(np.repeat(table, size, axis=0)[:count], published.IMDER_ORDER, lengths)


def _fixed_masks(condition, lengths, padded, mask_seed):
    return _table_masks(np.tile(np.isin(MODALITIES, condition.kept), (_count(lengths), 1)), MODALITIES, lengths)


def _mplmm_masks(condition, lengths, padded, mask_seed):
    codes = published.mplmm_codes(_count(lengths), condition.rates[0], random.Random(mask_seed))
    return _table_masks(published.MPLMM_KEPT[codes], MODALITIES, lengths)


def _cms_masks(condition, lengths, padded, mask_seed):
    masks = {name: [] for name in lengths}
    widths = [padded.get(name, 0) for name in MODALITIES]
    for i in range(_count(lengths)):
        valid = [lengths[name][i] if name in lengths else 0 for name in MODALITIES]
        generator = published.cms_generator(mask_seed, i)
        missing = published.cms_missing(valid, widths, condition.rates, condition.block, generator)
        for name, lost, length in zip(MODALITIES, missing, valid, strict=True):
            if name in lengths:
                masks[name].append(~lost[:length])
    return masks


def _table_masks(table, order, lengths):
    """Masks of kept modalities, bool array `(clips, 3)` with the columns in `order`."""
    return whole_masks(table[:, [order.index(name) for name in MODALITIES]], lengths)


def _count(lengths):
    return len(next(iter(lengths.values())))


_EXACT = {
    "tfr": _uniform_masks, "lnln": _uniform_masks, "gcnet": _gcnet_masks, "imder": _imder_masks,
    "fixed": _fixed_masks, "mplmm": _mplmm_masks, "cms": _cms_masks,
}  # fmt: skip
