"""How the commands print: quiet libraries, tables, what to do next."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


def show_labels() -> None:
    """Writes to standard error, beside warnings, from which columns the data's labels are made."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_fusion.data").setLevel(logging.INFO)


def print_next(steps: Iterable[tuple[str, str]]) -> None:
    """Prints commands to go on with, each with its purpose, and how to activate the environment if it is not active."""
    for purpose, command in steps:
        print(f"  {purpose}:\n    {command}")
    if activate := activation():
        print(f"  (before them, once: {activate})")


def activation() -> str | None:
    """The line that activates the environment of this process; `None` if it is active, or none is needed."""
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
        title: above it.
        columns: by its head the metrics of each column.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", *columns, title=title)
    for name in next(iter(columns.values()), ()):
        table.add_row(name, *(f"{metrics[name]:.4f}" for metrics in columns.values()))
    Console().print(table)


def print_written(folder: Path) -> None:
    """Names the files of a folder of results."""
    print(f"Written: {', '.join(str(path) for path in sorted(folder.iterdir()))}")
