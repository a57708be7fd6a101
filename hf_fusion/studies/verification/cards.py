"""Checks of model cards: their metadata, their table, and the run that they are about."""

import math
import re
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from hf_fusion.hub.model_card import shown_split
from hf_fusion.studies.verification.checks import NOTHING, RECORD, FileChecks, is_number
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
        `tuple`: the values of its metadata, exact, by metric; and the cells of its tables of metrics,
        `(metric, column, text)`: a column is a split, or one beside it, such as a baseline.

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
        (row[0], column.partition(" (")[0], cell)
        for table in read_tables(text) if table.header[0] == "metric"
        for row in table.rows
        for column, cell in zip(table.header[1:], row[1:], strict=True)
    ]  # fmt: skip
    return values, cells


def check_card(
    checks: FileChecks,
    metrics: Metrics,
    basis: str,
    source: str,
    evidence: dict[str, Any] | None = None,
    calibration: dict[str, Any] | None = None,
) -> None:
    """
    Compares a card with the metrics of its run.

    Args:
        checks ([`FileChecks`]): the checks of the card.
        metrics (`dict`): the metrics of the run by split; a split that was not kept is absent.
        basis (`str`): what these metrics rest on.
        source (`str`): the place of the metrics.
        evidence (`dict`, *optional*): the evidence of the run on its last split, see [`gather_evidence`].
        calibration (`dict`, *optional*): the record of its calibration, see [`Calibration`].
    """
    baselines, evidence = (evidence or {}).get("baselines", {}), evidence or {}
    columns = {**metrics, **baselines, **({"95 % interval": evidence["intervals"]} if evidence else {})}
    bases = dict.fromkeys(columns, basis) | dict.fromkeys(baselines, RECORD)
    if calibration is not None:
        sides = {side: calibration[shown_split(calibration)][side] for side in ("before", "after")}
        columns |= sides
        bases |= dict.fromkeys(sides, _calibration_basis(basis, calibration))
    values, cells = read_card(checks.path)
    for metric, given in values.items():
        checks.count(basis if "test" in metrics else NOTHING)
        if "test" in metrics:
            checks.compare(f"model-index, {metric} (from {source})", given, metrics["test"].get(metric))
    for metric, column, text in cells:
        known = columns.get(column, values if column == "test" else None)
        checks.count(bases.get(column, NOTHING))
        if known is not None:
            _compare_cell(checks, f"row {metric!r}, column {column!r}", text, known.get(metric))
    _check_classes(checks, basis if evidence else NOTHING, evidence)
    _check_answered(checks, basis, calibration)


def _calibration_basis(basis, calibration):
    """Returns what a calibration rests on: that on other data on its record."""
    return RECORD if "dataset" in calibration else basis


def _check_answered(checks, basis, calibration):
    """Compares the table of the answers that are given, whose shares are percentages of each split."""
    for table in read_tables(checks.path.read_text(encoding="utf-8")):
        if table.header != ["split", "answered", "right"]:
            continue
        for split, *cells in table.rows:
            checks.count(NOTHING if calibration is None else _calibration_basis(basis, calibration), len(cells))
            if calibration is None:
                continue
            part = calibration.get(split, {})
            for column, cell, name in zip(table.header[1:], cells, ("coverage", "answered_accuracy"), strict=True):
                found = 100 * part[name] if is_number(part.get(name)) else None
                _compare_cell(checks, f"row {split!r}, column {column!r}", cell.removesuffix("%"), found)


def _check_classes(checks, basis, evidence):
    """Compares the tables of classes, "fine class" and "coarse class", whose rows are in the order of the classes."""
    for table in read_tables(checks.path.read_text(encoding="utf-8")):
        task, _, word = table.header[0].partition(" ")
        if word != "class":
            continue
        known = []
        if evidence:
            counts = evidence["classes"].get(task, {}).values()
            numbers = [[part[name] for name in ("rows", "predicted", "precision", "recall", "f1")] for part in counts]
            answers = evidence["confusion"].get(task, [])
            known = [[*some, *others] for some, others in zip(numbers, answers, strict=True)]
        if evidence and len(known) != len(table.rows):
            checks.fail(f"table of the {task} classes", f"{len(table.rows)} classes", f"{len(known)} classes")
            continue
        for row, found in zip_longest(table.rows, known, fillvalue=()):
            checks.count(basis, len(row) - 1)
            for column, cell, number in zip(table.header[1:], row[1:], found, strict=False):
                _compare_cell(checks, f"row {row[0]!r}, column {column!r}", cell, number)


def _compare_cell(checks, place, text, found):
    """Compares a cell with a number, or with both bounds of an interval."""
    given = text.split(" to ")
    bounds = found if isinstance(found, list) else [found] * len(given)
    for number, bound in zip_longest(given, bounds):
        value = float(number) if number and re.fullmatch(r"-?\d*\.?\d+", number) else None
        checks.compare(place, value, bound, printed_tolerance(number or ""))


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
