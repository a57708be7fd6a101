"""The checks of a file: numbers compared, counted by their basis, and disagreements."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What a number rests on.
PREDICTIONS = "predictions"  # recomputed from kept predictions
RECORD = "record"  # in a record that a command wrote, whose predictions were not kept
NOTHING = "nothing"
BASES = (PREDICTIONS, RECORD, NOTHING)

_RELATIVE, _ABSOLUTE = 1e-6, 1e-9  # of numbers in full precision


@dataclass(frozen=True)
class Disagreement:
    """
    A number or fact that is not the one found again.

    Args:
        place (`str`): the place in the file, such as "variants.full.mean.mae".
        given (`Any`): the value in the file.
        found (`Any`): the value recomputed, or read elsewhere.
        tolerance (`float`, *optional*): the largest difference allowed.

    Example:

    ```python
    >>> from hf_fusion.studies.verification.checks import Disagreement
    >>> print(Disagreement("variants.full.mean.mae", given=0.5, found=0.6))
    variants.full.mean.mae: given 0.5, found 0.6
    ```
    """

    place: str
    given: Any
    found: Any
    tolerance: float | None = None

    def __str__(self) -> str:
        text = f"{self.place}: given {_shown(self.given)}, found {_shown(self.found)}"
        return text if self.tolerance is None else f"{text} (tolerance {self.tolerance:.2g})"


@dataclass
class FileChecks:
    """
    The checks of a file.

    Args:
        path (`Path`): the file or run folder.
        kind (`str`): "study", "benchmark", "page", "card", "run" ...

    The fields below are filled by the checks:

    - `counts` (`Counter`): how many numbers rest on predictions, on a record, on nothing.
    - `disagreements` (`list[Disagreement]`).
    - `notes` (`list[str]`): what could not be checked, and why.
    - `later` (`list[float]`): differences to predictions that were made later from the checkpoint.
    - `prose` (`list[dict]`): the decimals in prose with `line`, `number` and `basis`, the place of a number that would
      explain it, `None` if there is none.
    - `commits` (`list[str]`): the commits of the code, as the file and its predictions name them.
    - `later_changes` (`int`): how many commits after the first of them change the package.
    """

    path: Path
    kind: str
    counts: Counter = field(default_factory=Counter)
    disagreements: list[Disagreement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    prose: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    later_changes: int | None = None

    def name_commit(self, commit: str | None) -> None:
        """Adds a commit that the file or its predictions name."""
        if commit and str(commit) not in self.commits:
            self.commits.append(str(commit))

    @property
    def basis(self) -> str:
        """`str`: the basis of numbers that are taken from this file."""
        return PREDICTIONS if self.counts[PREDICTIONS] else RECORD

    @property
    def remarks(self) -> list[str]:
        """`list[str]`: the notes, and the largest difference to predictions that were made later."""
        if not self.later:
            return self.notes
        what = "metrics differ from predictions made later from the checkpoint, by at most"
        return [*self.notes, f"{len(self.later)} {what} {max(self.later):.2g}"]

    def count(self, basis: str, number: int = 1) -> None:
        """Counts numbers by their basis."""
        self.counts[basis] += number

    def fail(self, place: str, given: Any, found: Any, tolerance: float | None = None) -> None:
        """Adds a disagreement."""
        self.disagreements.append(Disagreement(place, given, found, tolerance))

    def compare(self, place: str, given: Any, found: Any, tolerance: float | None = None) -> None:
        """Compares two numbers, in full precision by default; a number that is not finite equals `None`."""
        if not is_number(given) or not is_number(found):
            if is_number(given) or is_number(found):
                self.fail(place, given, found)
            return
        tolerance = _full_precision(found) if tolerance is None else tolerance
        if not abs(given - found) <= tolerance:
            self.fail(place, given, found, tolerance)

    def compare_all(self, place: str, given: Any, found: Any, basis: str) -> None:
        """
        Compares every number of nested dictionaries and lists, and counts them. Entries that were not recomputed
        (`found` lacks them) are numbers of the record.
        """
        if isinstance(given, dict) and isinstance(found, dict):
            for name, value in given.items():
                inner = f"{place}.{name}" if place else str(name)
                if name in found:
                    self.compare_all(inner, value, found[name], basis)
                else:
                    self.count(RECORD, count_numbers(value))
        elif isinstance(given, list) and isinstance(found, list) and len(given) == len(found):
            for i, (value, other) in enumerate(zip(given, found, strict=True)):
                self.compare_all(f"{place}[{i}]", value, other, basis)
        elif isinstance(given, (dict, list)) or isinstance(found, (dict, list)):
            self.fail(place, given, found)
        else:
            self.count(basis, int(is_number(given)))
            if isinstance(given, (str, bool)) or isinstance(found, (str, bool)):
                if given != found:
                    self.fail(place, given, found)
            else:
                self.compare(place, given, found)


def describe(checked: Iterable[FileChecks]) -> dict[str, Any]:
    """Returns checks for JSON: the `counts` by basis over all files, `disagree`, and `files`."""
    checked = list(checked)
    files = [
        {
            "file": str(checks.path),
            "kind": checks.kind,
            "counts": {basis: checks.counts[basis] for basis in BASES},
            "disagreements": [asdict(disagreement) for disagreement in checks.disagreements],
            "notes": checks.remarks,
            "prose": checks.prose,
            "commits": checks.commits,
            "later_changes": checks.later_changes,
        }
        for checks in checked
    ]
    total = sum((checks.counts for checks in checked), Counter())
    counts = {basis: total[basis] for basis in BASES}
    return {"counts": counts, "disagree": sum(len(checks.disagreements) for checks in checked), "files": files}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_close(given: float, found: float) -> bool:
    """Whether two numbers are equal in full precision, the last digits of another machine aside."""
    return abs(given - found) <= _full_precision(found)


def _full_precision(number):
    return max(_RELATIVE * abs(number), _ABSOLUTE)


def count_numbers(value: Any) -> int:
    """Counts the numbers in nested dictionaries and lists."""
    if isinstance(value, dict):
        return sum(map(count_numbers, value.values()))
    if isinstance(value, list):
        return sum(map(count_numbers, value))
    return int(is_number(value))


def _shown(value):
    if is_number(value):
        return f"{value:.10g}"
    return "no number" if value is None or isinstance(value, float) else str(value)
