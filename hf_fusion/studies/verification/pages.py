"""Checks of Markdown pages: marked tables, decimals in prose, commits."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from hf_fusion.studies.record_tables import find_tables, records_link, render_table, without_tables
from hf_fusion.studies.verification.checks import NOTHING, RECORD, FileChecks
from hf_fusion.studies.verification.history import History
from hf_fusion.studies.verification.markdown import (
    compare_tables,
    compare_text,
    find_commits,
    find_decimals,
    read_legend,
)
from hf_fusion.studies.verification.prose import Explanations
from hf_fusion.utils.errors import DataError

RESULTS = Path("model_cards", "results")
# Columns of a table that no predictions give.
_MEASURED = ("parameters", "train_seconds", "multiply_adds", "speed", "paper")
_HEADING = re.compile(r"^#+ ", re.MULTILINE)
_CITED = re.compile(r"\]\([^)\s]*?(?P<name>[\w-]+?)(?:_pareto)?\.(?:json|csv|png|pdf|svg)\)")

# A record by its path, with its checks.
Records = Callable[[Path], tuple[dict[str, Any], FileChecks]]


def find_results(page: Path) -> Path | None:
    """Returns the folder of the records of a page: `model_cards/results` in a folder above it; `None` without one."""
    folders = (folder / RESULTS for folder in page.resolve().parents)
    return next((folder for folder in folders if folder.is_dir()), None)


def check_page(path: Path, text: str, records: Records, history: History) -> FileChecks:
    """
    Checks a page.

    Args:
        path (`Path`): the page.
        text (`str`): its content.
        records (`Records`): reads and checks a record.
        history ([`History`]): the commits of the repository.

    Raises:
        DataError: if the description of a table is not valid.
    """
    checks = FileChecks(path, "page")
    results = find_results(path)
    try:
        tables = find_tables(text)
    except ValueError as error:
        raise DataError(f"{path}: the description of a table is not valid ({error}).") from error
    for table in tables:
        _check_table(checks, table, results, records)
    if results is not None:
        _check_sections(checks, text, results, records)
    check_commits(checks, text, history)
    return checks


def _check_sections(checks, text, results, records):
    """Checks the prose of each section against the records that it names; if it names none, those of the page."""

    def read(part):
        names = [name for table in find_tables(part) for name in table.sources]
        names += [match["name"] for match in _CITED.finditer(part)]
        paths = {name: results / f"{name}.json" for name in dict.fromkeys(names)}
        return {name: records(path)[0] for name, path in paths.items() if path.is_file()}

    starts = [match.start() for match in _HEADING.finditer(text)]
    for start, end in pairwise([0, *starts, len(text)]):
        if known := read(text[start:end]) or read(text):
            check_prose(checks, without_tables(text[start:end]), known, text.count("\n", 0, start))


def _check_table(checks, table, results, records):
    place = f"line {table.line}, table of {', '.join(table.sources)}"
    missing = [name for name in table.sources if results is None or not (results / f"{name}.json").is_file()]
    if missing:
        checks.fail(place, f"record {missing[0]}", f"no such file in {RESULTS}")
        return
    try:
        found = render_table(table.spec, results, records_link(checks.path))
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{checks.path}, {place}: {type(error).__name__}: {str(error)[:200]}.") from error
    record_checks = records(results / f"{table.sources[0]}.json")[1]
    wrong = len(checks.disagreements)
    compare_tables(
        checks, place, table.text, found, lambda column: RECORD if column in _MEASURED else record_checks.basis
    )
    if len(checks.disagreements) == wrong:
        compare_text(checks, f"{place}, legend", read_legend(table.text), read_legend(found))


def check_prose(checks: FileChecks, text: str, records: dict[str, dict[str, Any]], before: int = 0) -> None:
    """Looks for the number of a record behind each decimal in prose that follows `before` lines of its file."""
    decimals = list(find_decimals(text))
    known = Explanations(records if decimals else {})
    for number in decimals:
        basis = known.find(number)
        checks.count(NOTHING if basis is None else RECORD)
        checks.prose.append({"line": before + number.line, "number": number.text, "basis": basis})


def check_commits(checks: FileChecks, text: str, history: History) -> None:
    """Checks that the repository has the commits that a page names."""
    for line, commit in find_commits(text):
        if not history.knows(commit):
            checks.fail(f"line {line}, commit", commit, "no such commit in this repository")
