"""A protocol for missing modalities: its test conditions, its summary, and the facts on the published form."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError, RecipeError, listed

Mode = Literal["sound", "exact"]
# `positions`: tokens and frames are lost; `modalities`: whole modalities of a clip.
Unit = Literal["positions", "modalities"]
# `area`: under the metric over the rate; `mean`: over all conditions; `mean_incomplete`: without the complete one.
Summary = Literal["area", "mean", "mean_incomplete"]

SELECTION = "one checkpoint for all metrics; the test set never selects"


@dataclass(frozen=True)
class Condition:
    """
    One test condition of a protocol.

    Args:
        name (`str`): its name in tables.
        rate (`float`, *optional*): its place on the axis of rates; `None` for a pattern.
        rates (`tuple[float, float, float]`): the missing rates of text, audio and vision.
        block (`float`): the share of one block of successive positions that is lost as well.
        kept (`tuple[str, ...]`, *optional*): the only modalities that every clip keeps.

    Example:

    ```python
    >>> from hf_fusion.data.protocols import PROTOCOLS
    >>> PROTOCOLS["lnln"].condition("0.5").rates
    (0.5, 0.5, 0.5)
    ```
    """

    name: str
    rate: float | None = None
    rates: tuple[float, float, float] = (0.0, 0.0, 0.0)
    block: float = 0.0
    kept: tuple[str, ...] | None = None

    @property
    def is_complete(self) -> bool:
        """`bool`: whether nothing is lost."""
        return not (any(self.rates) or self.block) and self.kept in (None, MODALITIES)


@dataclass(frozen=True)
class Protocol:
    """
    A protocol for missing modalities.

    Args:
        name (`str`): its name in commands.
        title (`str`): its name in texts.
        source (`str`): the papers and repositories.
        unit (`str`): `"positions"` (tokens and frames are lost) or `"modalities"` (whole modalities of a clip).
        conditions (`tuple[Condition, ...]`): the test conditions, in order.
        summary (`str`): the number that sums up the conditions: `"area"` under the metric over the rate, `"mean"` over
            all conditions, or `"mean_incomplete"` without the complete one.
        conditions_at (`Callable`, *optional*): makes the conditions for other rates.
        training (`str`): how a model is trained under it, as published.
        published_selection (`str`): how the published code selects checkpoints.
        selection (`str`): how this package does.
        defects (`tuple[str, ...]`): defects of the published form, one sentence each.
        default_mask_seeds (`tuple[int, ...]`): the mask seeds of a sound test.
        published_mask_seeds (`tuple`): those of an exact one; a triple holds one for text, audio and vision. Empty if
            there is no published code.
        shares (`Callable`, *optional*): for a rate, the shares of clips that lose one and two modalities.
        training_rates (`str` or `Callable`): how a training clip gets its condition: `"conditions"` draws one of them;
            a function makes the rates of text, audio and vision of three rates and three numbers from 0 to 1.

    Example:

    ```python
    >>> from hf_fusion.data.protocols import PROTOCOLS
    >>> protocol = PROTOCOLS["fixed"]
    >>> len(protocol.conditions_for(["text", "audio"])), protocol.summary
    (3, 'mean_incomplete')
    ```
    """

    name: str
    title: str
    source: str
    unit: Unit
    conditions: tuple[Condition, ...]
    summary: Summary
    training: str
    published_selection: str
    defects: tuple[str, ...]
    published_mask_seeds: tuple[int | tuple[int, int, int], ...]
    conditions_at: Callable[[list[float]], tuple[Condition, ...]] | None = None
    shares: Callable[[float], tuple[float, float]] | None = None
    training_rates: Literal["conditions"] | Callable[[np.ndarray, np.ndarray], tuple[float, ...]] = "conditions"
    selection: str = SELECTION
    default_mask_seeds: tuple[int, ...] = (1111, 2222, 3333, 4444, 5555)

    def condition(self, name: str) -> Condition:
        """Returns the condition of this name; raises [`DataError`] if there is none."""
        for condition in self.conditions:
            if condition.name == name:
                return condition
        known = listed(condition.name for condition in self.conditions)
        raise DataError(f"The protocol {self.name} has no condition {name!r}; it has {known}.")

    def conditions_for(self, modalities: Iterable[str]) -> list[Condition]:
        """Returns the conditions that differ, and leave something, for data with these modalities."""
        names = [name for name in MODALITIES if name in modalities]
        distinct: dict[tuple, Condition] = {}
        for condition in self.conditions:
            kept = names if condition.kept is None else [name for name in names if name in condition.kept]
            rates = tuple(rate for name, rate in zip(MODALITIES, condition.rates, strict=True) if name in names)
            if kept:
                distinct.setdefault((tuple(kept), rates, condition.block), condition)
        return list(distinct.values())

    def mask_seeds(self, mode: Mode) -> tuple:
        """Returns the mask seeds of a mode; raises [`DataError`] for an exact mode that does not exist."""
        check_mode(self, mode)
        return self.default_mask_seeds if mode == "sound" else self.published_mask_seeds

    def at_rates(self, rates: Iterable[float]) -> "Protocol":
        """
        Returns the protocol with other rates.

        Args:
            rates (`Iterable[float]`): the rates, from 0 to 1, each of which becomes a condition; for `imbalanced` those
                of text, audio and vision, which make one.

        Raises:
            RecipeError: if the protocol has no rates, or one is out of range.
        """
        rates = [float(rate) for rate in rates]
        if self.conditions_at is None:
            raise RecipeError(f"The protocol {self.name} has no rates; its conditions are fixed.")
        if not rates or not all(0 <= rate <= 1 for rate in rates):
            raise RecipeError(f"Rates must be numbers from 0 to 1, got {rates}.")
        conditions = self.conditions_at(rates)
        if len({condition.name for condition in conditions}) < len(conditions):
            raise RecipeError(f"Rates must differ from each other, in six digits, got {rates}.")
        return replace(self, conditions=conditions)


def check_mode(protocol: Protocol, mode: str) -> None:
    """Raises [`DataError`] if a mode does not exist, or the protocol has no published code to repeat."""
    if mode not in ("sound", "exact"):
        raise DataError(f"`mode` must be sound or exact, got {mode!r}.")
    if mode == "exact" and not protocol.published_mask_seeds:
        raise DataError(f"The masks of {protocol.name} were not published: use the mode sound.")
