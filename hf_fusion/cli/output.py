"""Output of the commands: tables and next steps."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


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


def print_written(folder: Path) -> None:
    """Prints the names of the files in a results folder."""
    print(f"Written: {', '.join(str(path) for path in sorted(folder.iterdir()))}")
