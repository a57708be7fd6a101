"""Measures a model by a published protocol for missing modalities."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from datasets import Dataset

from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError
from hf_fusion.architectures.outputs import compute_outputs
from hf_fusion.data.arrow_rows import values_of
from hf_fusion.data.protocols import (
    PROTOCOLS,
    Condition,
    Protocol,
    apply_masks,
    keep_masks,
    maskable_lengths,
    measure_rates,
)
from hf_fusion.evaluation.kept_predictions import Predictions, make_predictions
from hf_fusion.evaluation.protocol_curves import summaries_of, summary_weights
from hf_fusion.utils.errors import RecipeError, listed
from hf_fusion.utils.fields import wrong_field


@dataclass
class ProtocolSettings:
    """
    A protocol and the way in which it is run.

    Args:
        protocol (`str`): a name from `PROTOCOLS`.
        mode (`str`, *optional*, defaults to `"sound"`): `"sound"` draws an independent mask for each modality, row and
            seed; `"exact"` repeats the published code with its defects, to compare with published numbers.
        mask_seeds (`list[int]`, *optional*): the seeds of the masks; by default those of the protocol.
        rates (`list[float]`, *optional*): the missing rates from 0 to 1, for `imbalanced` those of text, audio and
            vision; by default those of the protocol.

    Raises:
        RecipeError: if the protocol or mode is unknown, or a seed or rate is not valid.

    Example:

    ```python
    >>> from hf_fusion.architectures.measure_protocol import ProtocolSettings
    >>> [condition.name for condition in ProtocolSettings("tfr", rates=[0.0, 0.5]).resolve().conditions]
    ['0.0', '0.5']
    ```
    """

    protocol: str
    mode: Literal["sound", "exact"] = "sound"
    mask_seeds: list[int] | None = None
    rates: list[float] | None = None

    def __post_init__(self):
        if wrong := wrong_field(type(self), vars(self)):
            raise RecipeError(f"Protocol {self.protocol}: {wrong}")
        if self.protocol not in PROTOCOLS:
            raise RecipeError(f"There is no protocol {self.protocol!r}; there are {', '.join(PROTOCOLS)}.")
        if self.mask_seeds is not None and len(set(self.mask_seeds)) < max(len(self.mask_seeds), 1):
            raise RecipeError(f"`mask_seeds` must be one number or several different ones, got {self.mask_seeds}.")
        if not all(0 <= seed < 2**32 for seed in self.mask_seeds or ()):
            raise RecipeError(f"`mask_seeds` must be from 0 to 2^32 - 1, got {self.mask_seeds}.")
        self.resolve_seeds()
        protocol = self.resolve()
        try:
            for summary in self.summaries:
                summary_weights(summary, *_columns(protocol.conditions))
        except ValueError as error:
            raise RecipeError(f"Protocol {self.protocol}: {error}") from error

    def resolve(self) -> Protocol:
        """Returns the protocol, with the rates if these are set."""
        protocol = PROTOCOLS[self.protocol]
        return protocol if self.rates is None else protocol.at_rates(self.rates)

    def resolve_seeds(self) -> list:
        """Returns the mask seeds; in exact mode one may be a triple, for text, audio and vision."""
        default = PROTOCOLS[self.protocol].mask_seeds(self.mode)  # refuses an exact mode that does not exist
        return list(self.mask_seeds or default)

    @property
    def summaries(self) -> list[str]:
        """`list[str]`: the names of the summaries, see [`summaries_of`]."""
        return summaries_of(self.resolve().summary, self.mode)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings for a record, with defaults filled in."""
        seeds = [list(seed) if isinstance(seed, tuple) else seed for seed in self.resolve_seeds()]
        return {
            **asdict(self),
            "mask_seeds": seeds,
            "conditions": [condition.name for condition in self.resolve().conditions],
        }


def _columns(conditions):
    return [c.rate for c in conditions], [c.is_complete for c in conditions]


@dataclass
class MaskedPredictions:
    """
    The predictions of a model for rows under one mask.

    Args:
        condition (`Condition`): the condition of the protocol.
        mask_seed: the seed of the mask; `None` for complete rows.
        realised (`dict[str, dict[str, float]]`): the result of [`measure_rates`].
        predictions ([`Predictions`]): labels and outputs.
    """

    condition: Condition
    mask_seed: Any
    realised: dict[str, dict[str, float]]
    predictions: Predictions


def predict_masked(
    model,
    processor,
    encoded: Dataset,
    split: str,
    settings: ProtocolSettings,
    batch_size: int = 32,
    track: Callable[[list], Iterable] = iter,
) -> Iterator[MaskedPredictions]:
    """
    Predicts the rows of a split in every condition of a protocol, under every mask seed. Conditions that leave the
    modalities of the rows complete, or without any, are left out; see [`Protocol.conditions_for`].

    Args:
        model, processor: the model and its processor.
        encoded (`Dataset`): the whole split, encoded by [`Architecture.encode`].
        split (`str`): the name of the split, on which masks depend in sound mode.
        settings ([`ProtocolSettings`]): the protocol.
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        track (`Callable`, *optional*, defaults to `iter`): wraps the pairs of condition and mask seed for a progress
            bar.

    Yields:
        [`MaskedPredictions`]: one for each condition and mask seed; a single one for complete rows.

    Raises:
        NothingLeftError: if the protocol loses whole modalities, and the model reads a single one, or if no condition
            loses anything of the rows.
        DataError: if masks or outputs cannot be made.
    """
    protocol, lengths = settings.resolve(), maskable_lengths(encoded, processor)
    if protocol.unit == "modalities" and len(lengths) < 2:
        raise NothingLeftError(
            f"The protocol {protocol.name} loses whole modalities, but the model reads {listed(lengths)} alone."
        )
    conditions = protocol.conditions_for(lengths)
    if all(condition.is_complete for condition in conditions):
        raise NothingLeftError(f"The protocol {protocol.name} loses nothing here of {listed(lengths)}.")
    ids = [str(row_id) for row_id in values_of(encoded, "id")] if "id" in encoded.column_names else None
    ids = ids or [str(number) for number in range(len(encoded))]
    seeds = settings.resolve_seeds()
    for condition, seed in track([(c, s) for c in conditions for s in ([None] if c.is_complete else seeds)]):
        masks = keep_masks(protocol, condition, lengths, settings.mode, seed, split, ids)
        rows = encoded if condition.is_complete else apply_masks(encoded, masks, processor, settings.mode)
        outputs = compute_outputs(model, processor, rows, batch_size)
        predictions = make_predictions(model.config, encoded, split, outputs)
        yield MaskedPredictions(condition, seed, measure_rates(masks), predictions)
