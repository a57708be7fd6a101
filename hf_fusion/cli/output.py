"""Output of the commands: tables and next steps."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def show_labels() -> None:
    """Logs the columns from which the labels are derived to standard error, in addition to warnings."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_fusion.data").setLevel(logging.INFO)


def print_next(steps: Iterable[tuple[str, str]]) -> None:
    """Prints next commands with their purposes, and the activation of the environment if it is not active."""
    for purpose, command in steps:
        print(f"  {purpose}:\n    {command}")
    if activate := activation():
        print(f"  (before them, once: {activate})")


def activation() -> str | None:
    """Returns the command that activates this process's environment; `None` if it is active or not needed."""
    script = Path(sys.prefix) / ("Scripts" if os.name == "nt" else "bin") / "activate"
    command = shutil.which("hf-fusion")
    if not script.is_file() or (command and Path(command).parent == script.parent):
        return None
    near = os.path.relpath(script)
    return f"source {script if near.startswith('..') else near}"


def print_metrics(title: str, columns: dict[str, dict[str, float]]) -> None:
    """
    Prints a table of metrics.

    Args:
        title (`str`): the title of the table.
        columns (`dict[str, dict[str, float]]`): the metrics of each column by its header.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", *columns, title=title)
    for name in next(iter(columns.values()), ()):
        table.add_row(name, *(f"{metrics[name]:.4f}" for metrics in columns.values()))
    Console().print(table)


def print_evidence(record: dict[str, Any]) -> None:
    """
    Prints the evidence of the last split: the model beside baselines, its classes and their confusion, and warnings.

    Args:
        record (`dict`): the content of `metrics.json`; without evidence nothing is printed.
    """
    from rich.console import Console

    if (evidence := record.get("evidence")) is None:
        return
    console = Console()
    split, part = list(evidence["splits"].items())[-1]
    baselines = part.get("baselines", {})
    if not baselines:
        console.print(f"No baselines: {evidence['no_baselines']}.", markup=False, highlight=False)
    for table in _evidence_tables(f"{split} ({part['rows']:,} reviews)", record[split], part, baselines):
        console.print(table)
    for name, lead in part.get("lead", {}).items():
        interval = f" (95 % interval {_bounds(lead['interval'], '+.3f')})" if lead["interval"] else ""
        text = f"Lead over bag of words in {name}: {lead['mean']:+.3f}{interval}"
        console.print(text, markup=False, highlight=False)
    for text in part["warnings"]:
        console.print(f"Warning: {text}", style="bold yellow", markup=False, highlight=False)


def _evidence_tables(title, metrics, part, baselines):
    from rich.markup import escape
    from rich.table import Table

    from hf_fusion.hub.model_card import MOST_CONFUSED

    table = Table("metric", "model", "95 % interval", *baselines, title=title)
    for name, interval in part["intervals"].items():
        cells = (_number(known.get(name)) for known in baselines.values())
        table.add_row(name, _number(metrics[name]), _bounds(interval, ".4f") if interval else "-", *cells)
    yield table
    for task, classes in part["classes"].items():
        table = Table(f"{task} class", "reviews", "predicted", "precision", "recall", "F1", title=title)
        for name, counts in classes.items():
            shares = (_number(counts[share]) for share in ("precision", "recall", "f1"))
            table.add_row(escape(name), f"{counts['rows']:,}", f"{counts['predicted']:,}", *shares)
        yield table
        if len(classes) > MOST_CONFUSED:
            continue
        table = Table(f"{task}: true, predicted", *map(escape, classes), title=title)
        for name, counts in zip(classes, part["confusion"][task], strict=True):
            table.add_row(escape(name), *(f"{count:,}" for count in counts))
        yield table


def _bounds(interval, form):
    return " to ".join(format(bound, form) for bound in interval)


def _number(value):
    return "-" if value is None else f"{value:.4f}"


def print_written(folder: Path) -> None:
    """Prints the names of the files in a results folder."""
    print(f"Written: {', '.join(str(path) for path in sorted(folder.iterdir()))}")
