"""Published results that a study shows beside its own: values with their source and the way in which they were made."""

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from hf_fusion.evaluation.metrics import find_metric
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import wrong_field


@dataclass
class PublishedResult:
    """
    A published result.

    Args:
        model (`str`): the name of the model.
        values (`dict[str, float]`): the values by metric, with the names and units of this package (shares between 0
            and 1, not percentages); the summary of the protocol, if the result has a protocol.
        source (`str`): the document or file in which the values can be read.
        protocol (`str`, *optional*): the protocol for missing modalities; by default the results on complete data.
        seeds (`int` or `list[int]`, *optional*): the training seeds, or their number.
        selection (`str`, *optional*): the rule by which the checkpoint was chosen.
        second_hand (`bool`, *optional*, defaults to `False`): whether the source quotes another one, which was not
            read.
        std (`dict[str, float]`, *optional*): the standard deviations over the seeds.
        curve (`dict[str, list[float]]`, *optional*): the values of each metric in all conditions of the protocol, in
            their order.
        note (`str`, *optional*): anything else that a comparison depends on, such as a known error.

    Example:

    ```python
    >>> from hf_fusion.evaluation.published_results import PublishedResult
    >>> PublishedResult("TFN", {"mae": 1.316}, source="table of the EMT-DLFR repository", protocol="tfr").values["mae"]
    1.316
    ```
    """

    model: str
    values: dict[str, float]
    source: str
    protocol: str | None = None
    seeds: int | list[int] | None = None
    selection: str | None = None
    second_hand: bool = False
    std: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that say something."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {}, False)}


def read_published(entries: list[Any], protocols: set[str]) -> list[PublishedResult]:
    """
    Checks the entries of a file and turns them into results.

    Args:
        entries (`list`): mappings with the fields of [`PublishedResult`].
        protocols (`set[str]`): the names of the protocols that an entry may have.

    Raises:
        RecipeError: if an entry is not a mapping, lacks a field or has an unknown one, if a value has a wrong type or
            is out of the bounds of its metric, or if the metric or the protocol is unknown.
    """
    return [_read_entry(entry, f"reference {i + 1}", protocols) for i, entry in enumerate(entries)]


def _read_entry(entry, place, protocols):
    known = fields(PublishedResult)
    if not isinstance(entry, dict):
        raise RecipeError(f"{place} must be a mapping, got {entry!r:.100}.")
    if strangers := set(entry) - {item.name for item in known}:
        raise RecipeError(
            f"{place}: unknown field {min(map(str, strangers))}; there are {', '.join(item.name for item in known)}."
        )
    needed = [item.name for item in known if item.default is MISSING and item.default_factory is MISSING]
    if absent := [name for name in needed if name not in entry]:
        raise RecipeError(f"{place}: {absent[0]} is missing.")
    place = f"{place} ({entry['model']})"
    if wrong := wrong_field(PublishedResult, entry):
        raise RecipeError(f"{place}: {wrong}")
    result = PublishedResult(**entry)
    if result.protocol is not None and result.protocol not in protocols:
        raise RecipeError(f"{place}: protocol must be one of {', '.join(sorted(protocols))}, got {result.protocol!r}.")
    for name, values in [*((name, [value]) for name, value in result.values.items()), *result.curve.items()]:
        try:
            low, high = find_metric(name).bounds
        except RecipeError as error:
            raise RecipeError(f"{place}: {error}") from error
        if bad := [value for value in values if not low <= value <= high]:
            raise RecipeError(
                f"{place}: {name} lies between {low:g} and {high:g}, got {bad[0]!r}; shares, no percents."
            )
    return result
