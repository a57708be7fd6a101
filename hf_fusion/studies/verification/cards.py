"""Checks of model cards: their metadata, their table, and the run that they are about."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from hf_fusion.studies.verification.checks import NOTHING, FileChecks, is_number
from hf_fusion.studies.verification.markdown import printed_tolerance, read_tables
from hf_fusion.utils.errors import DataError

Metrics = dict[str, dict[str, float | None]]  # by split


def is_card(text: str) -> bool:
    """Whether a Markdown file is a model card that was written for a run; the template is none."""
    return text.startswith("---\n") and "\nmodel-index:" in text


def read_card(path: Path) -> tuple[dict[str, Any], list]:
    """
    Reads the numbers of a model card.

    Returns:
        `tuple`: the values of its metadata, exact, by metric; and the cells of its table, `(metric, split, text)`.

    Raises:
        DataError: if its metadata is damaged.
    """
    text = path.read_text(encoding="utf-8")
    try:
        metadata = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
        values = {metric["type"]: metric["value"] for entry in metadata["model-index"] for result in entry["results"]
                  for metric in result["metrics"]}  # fmt: skip
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise DataError(
            f"{path}: the metadata of the card is damaged ({' '.join(str(error).split())[:200]})."
        ) from error
    cells = [
        (row[0], re.match(r"\w+", column)[0], cell)
        for table in read_tables(text) if table.header[0] == "metric"
        for row in table.rows
        for column, cell in zip(table.header[1:], row[1:], strict=True)
    ]  # fmt: skip
    return values, cells


def check_card(checks: FileChecks, metrics: Metrics, basis: str, source: str) -> None:
    """
    Compares a card with the metrics of its run.

    Args:
        checks ([`FileChecks`]): the checks of the card.
        metrics (`dict`): the metrics of the run by split; a split that was not kept is absent.
        basis (`str`): what these metrics rest on.
        source (`str`): the place of the metrics.
    """
    values, cells = read_card(checks.path)
    for metric, given in values.items():
        checks.count(basis if "test" in metrics else NOTHING)
        if "test" in metrics:
            checks.compare(f"model-index, {metric} (from {source})", given, metrics["test"].get(metric))
    for metric, split, text in cells:
        known = metrics.get(split, values if split == "test" else None)
        checks.count(basis if split in metrics else NOTHING)
        if known is not None:
            _compare_cell(checks, f"row {metric!r}, column {split!r}", text, known.get(metric))


def _compare_cell(checks, place, text, found):
    given = float(text) if re.fullmatch(r"-?\d*\.?\d+", text) else None
    checks.compare(place, given, found, printed_tolerance(text))


def find_run(values: dict[str, float], runs: Iterable[tuple[str, dict]]) -> str | None:
    """
    Finds the run of a card by its metrics: the one with the most equal values, at least half of them.

    Args:
        values (`dict`): the test metrics of the card.
        runs (`Iterable[tuple[str, dict]]`): names and test metrics of the known runs.
    """
    equal = {name: sum(_is_equal(metrics.get(metric), value) for metric, value in values.items())
             for name, metrics in runs}  # fmt: skip
    best = max(equal, key=equal.__getitem__, default=None)
    return best if best is not None and values and equal[best] * 2 >= len(values) else None


def _is_equal(value, other):
    return is_number(value) and is_number(other) and math.isclose(value, other, rel_tol=1e-9)
