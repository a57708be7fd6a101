"""Training under a protocol: rows that lose other parts in every epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import ProcessorMixin

from hf_fusion.data.arrow_rows import values_of
from hf_fusion.data.protocols.apply import Eraser, apply_masks, maskable_lengths
from hf_fusion.data.protocols.base import Condition
from hf_fusion.data.protocols.registry import find_protocol
from hf_fusion.data.protocols.sound import (
    clip_key,
    keep_modalities,
    keep_positions,
    own_places,
    presence,
    uniforms,
    whole_masks,
)
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import RecipeError

# Seeds of the masks by which checkpoints are selected; tests have others.
VALIDATION_MASK_SEEDS = (101, 102, 103)
_FOR_RATES = 100  # what numbers of a clip are for, beside those of its masks


class TrainingMasks:
    """
    Draws masks for training clips under a protocol. They depend on seed, epoch and the clip's id alone, so that workers
    and batches do not matter, and a resumed training repeats them.

    A clip draws its rates, or one of the conditions of the protocol, anew in every epoch:

    - `lnln`: each modality is complete in half of the clips; in the others it has its own rate, from 0 to 1;
    - `cms`: one rate from 0 to 1 for all modalities;
    - `tfr`, `gcnet`, `imder`, `mplmm`: one of the rates of the protocol (0 and 0.7 for `mplmm`);
    - `fixed`, `imbalanced`: one of the conditions, the complete one too.

    Args:
        protocol (`str`): the name of the protocol.
        rates (`Sequence[float]`, *optional*): the rates to draw from, such as `[0.3]` for a training at one rate; for
            `imbalanced` those of text, audio and vision.
        redraw (`bool`, *optional*, defaults to `True`): whether masks change from epoch to epoch; `False` loses the
            same parts in every epoch, as TFR-Net does.
        seed (`int`, *optional*, defaults to 0): seed of the masks.

    Raises:
        RecipeError: if there is no such protocol, or it does not have these rates.

    Example:

    ```python
    from hf_fusion.data.protocols import TrainingMasks

    masks = TrainingMasks("lnln", seed=1)
    masks.draw(0, "clip 7", {"text": 9, "audio": 40})["audio"]  # in the first epoch
    masks.draw(1, "clip 7", {"text": 9, "audio": 40})["audio"]  # another one in the second
    ```
    """

    def __init__(self, protocol: str, rates: Sequence[float] | None = None, redraw: bool = True, seed: int = 0):
        self.protocol = find_protocol(protocol)
        self.rates = rates
        self.redraw = redraw
        self.seed = seed
        if rates is not None:
            conditions = self.protocol.at_rates(rates).conditions
            # without the complete case that a test has beside its patterns
            conditions = tuple(one for one in conditions if one.rate is not None or not one.is_complete)
            if not any(rates):
                raise RecipeError(f"`missing_rates` {list(rates)} lose nothing.")
            self.protocol = replace(self.protocol, conditions=conditions)

    def draw(self, epoch: int, clip_id: str, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """
        Draws what a clip keeps in an epoch.

        Args:
            epoch (`int`): number of the epoch, from 0.
            clip_id (`str`): id of the clip.
            lengths (`Mapping[str, int]`): its positions by modality, see [`maskable_lengths`].

        Returns:
            `dict[str, np.ndarray]`: by modality a bool array `(length,)`, `True` = observed.
        """
        return self._draw(clip_key(self.seed, f"epoch {epoch if self.redraw else 0} of a training", clip_id), lengths)

    def erase_validation(self, encoded: Dataset, processor: ProcessorMixin) -> Dataset:
        """
        Erases parts of validation rows as of training rows, to select a checkpoint by: the same ones in every epoch and
        for every seed of a training.

        Args:
            encoded (`Dataset`): the encoded rows.
            processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor that encoded them.

        Returns:
            `Dataset`: three copies of the rows, with masks of their own, in memory.
        """
        ids, lengths = _ids(encoded), maskable_lengths(encoded, processor)
        copies = []
        for mask_seed in VALIDATION_MASK_SEEDS:
            masks: dict[str, list[np.ndarray]] = {name: [] for name in lengths}
            for i, clip_id in enumerate(ids):
                key = clip_key(mask_seed, "validation of a training", clip_id)
                for name, kept in self._draw(key, {name: counts[i] for name, counts in lengths.items()}).items():
                    masks[name].append(kept)
            copies.append(apply_masks(encoded, masks, processor))
        return concatenate_datasets(copies)

    def _draw(self, key, lengths):
        condition = self._condition(key, [name for name, length in lengths.items() if length])
        if self.protocol.unit == "positions":
            return {name: keep_positions(name, length, condition, key) for name, length in lengths.items()}
        row = {name: [length] for name, length in lengths.items()}
        kept = keep_modalities(self.protocol, condition, presence(row), *own_places([key]))
        return {name: masks[0] for name, masks in whole_masks(kept, row).items()}

    def _condition(self, key, present) -> Condition:
        draws = uniforms(2 * len(MODALITIES), key, _FOR_RATES)
        if self.protocol.training_rates == "conditions":
            conditions = self.protocol.conditions_for(present) or [Condition("nothing to lose")]
            return conditions[int(draws[0] * len(conditions))]
        rates, chances = np.split(draws, 2)
        if self.rates is not None:
            rates = np.array(self.rates)[(rates * len(self.rates)).astype(int)]
        return Condition("training", rates=self.protocol.training_rates(rates, chances))


class MaskedRows(torch.utils.data.Dataset):
    """
    Encoded training rows that lose parts when they are read. The number of a row is that in its data set plus
    `epoch * len(rows)`, so that every worker knows the epoch; see [`EpochSampler`].

    Args:
        rows (indexed mappings): reads the encoded rows.
        encoded (`Dataset`): the encoded rows; masks go by their `id`, or by their number without one.
        masks ([`TrainingMasks`]): draws the masks.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor that encoded them.
    """

    def __init__(self, rows: Any, encoded: Dataset, masks: TrainingMasks, processor: ProcessorMixin):
        self.rows = rows
        self.masks = masks
        self.ids = _ids(encoded)
        self.lengths = maskable_lengths(encoded, processor)
        if masks.protocol.unit == "modalities" and len(self.lengths) < 2:
            raise RecipeError(
                f"`missing_protocol` {masks.protocol.name} loses whole modalities, but the data has only "
                f"{', '.join(self.lengths)}."
            )
        self.eraser = Eraser(encoded.column_names, processor)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        (row,) = self.__getitems__([number])
        return row

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        pairs = [divmod(number, len(self.rows)) for number in numbers]
        rows = self.rows.__getitems__([i for _, i in pairs])
        return [self._erase(row, epoch, i) for row, (epoch, i) in zip(rows, pairs, strict=True)]

    def _erase(self, row, epoch, i):
        lengths = {name: lengths[i] for name, lengths in self.lengths.items()}
        return self.eraser.erase(row, self.masks.draw(epoch, self.ids[i], lengths))


def _ids(encoded):
    """The ids of rows, or their numbers."""
    names = values_of(encoded, "id") if "id" in encoded.column_names else range(len(encoded))
    return [str(name) for name in names]
