"""Decimals in prose: the numbers of records on which they could rest."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from hf_fusion.studies.verification.checks import is_number
from hf_fusion.studies.verification.markdown import ProseNumber

# Of a record: no results, or the single measurements behind a median.
_LEFT_OUT = ("versions", "hardware", "command", "pairs", "seeds", "folds", "data_fingerprint")


class Explanations:
    """
    The numbers of some records: those that stand there, and differences and ratios of the means of two variants.

    Args:
        records (`dict[str, dict]`): the records by name.

    Example:

    ```python
    >>> from hf_fusion.studies.verification.markdown import find_decimals
    >>> from hf_fusion.studies.verification.prose import Explanations
    >>> known = Explanations({"mosi": {"variants": {"full": {"mean": {"mae": 0.8123}}}}})
    >>> [known.find(number) for number in find_decimals("The error is 0.81, not 0.79.")]
    ['mosi: variants.full.mean.mae', None]
    ```
    """

    def __init__(self, records: dict[str, dict[str, Any]]):
        self.numbers, self.derived = [], []
        for name, record in records.items():
            self.numbers += [(f"{name}: {place}", value) for place, value in _leaves(record)]
            self.derived += [(f"{name}: {place}", value) for place, value in _derived(record)]
        self.numbers.sort(key=lambda number: ".mean." not in number[0])  # means explain a number best

    def find(self, number: ProseNumber) -> str | None:
        """
        Returns the place of a number with the same printed digits, its sign aside; `None` if there is none. An equal
        number, such as a setting, goes before one that is rounded, a number before a difference, a share before points.
        """
        for scale in (100, 1) if number.is_percentage else (1, 100):
            distances = ((place, abs(abs(value) * scale - abs(number.value))) for place, value in self.numbers)
            near = [(place, distance) for place, distance in distances if distance <= number.tolerance]
            if near:
                return min(near, key=lambda candidate: candidate[1] > 1e-9)[0]
            for place, value in self.derived:
                if abs(abs(value) * scale - abs(number.value)) <= number.tolerance:
                    return place
        return None


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _LEFT_OUT:
                yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{i}]")
    elif is_number(value):
        yield place, value


def _derived(record):
    """Yields difference, ratio and relative change of the means of two variants, on the same data."""
    on_other_data = {name: other["variants"] for name, other in record.get("evaluate_on", {}).items()}
    for split, variants in {"test": record.get("variants", {}), **on_other_data}.items():
        for (first, entry), (second, other) in permutations(variants.items(), 2):
            for metric, value in entry["mean"].items():
                base = other["mean"].get(metric)
                if not (is_number(value) and is_number(base)):
                    continue
                place = f"{metric} of {first!r} and {second!r}, {split}"
                yield f"difference in {place}", value - base
                if base:
                    yield f"ratio of {place}", value / base
                    yield f"relative change in {place}", value / base - 1
