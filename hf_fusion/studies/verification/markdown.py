"""Numbers in Markdown: tables read back and compared cell by cell, decimals and commits in prose."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hf_fusion.studies.verification.checks import FileChecks

_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# code, links' targets, comments, HTML elements and formulas hold no statements of results
_NO_PROSE = re.compile(r"```.*?```|`[^`\n]*`|<!--.*?-->|<[^>\n]+>|\$[^$\n]+\$|\]\([^)\n]*\)", re.DOTALL)
_DECIMAL = re.compile(r"(?<![\w.,/+-])(?P<number>-?\d*\.\d+|\d+(?=\s?%))(?![\w]|\.\d)(?P<percent>\s?%)?")
_COMMIT = re.compile(r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b")
_IDENTIFIER = re.compile(r"(?:arXiv|Python|Apache|version|CUDA)[ :-]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """
    A table in Markdown.

    Args:
        header (`list[str]`): the cells of its header.
        rows (`list[list[str]]`): the cells of its rows.
    """

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class ProseNumber:
    """
    A decimal in prose.

    Args:
        line (`int`): the line, from 1.
        text (`str`): the number as printed, with its percent sign.
        value (`float`): the number.
        tolerance (`float`): half of the last printed digit.
        is_percentage (`bool`): whether it has a percent sign.
    """

    line: int
    text: str
    value: float
    tolerance: float
    is_percentage: bool


def read_tables(text: str) -> list[Table]:
    """Reads the tables of a text in Markdown."""
    tables, block = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
        elif block:
            if len(block) > 1:
                tables.append(Table(block[0], block[2:]))
            block = []
    return tables


def read_legend(text: str) -> str:
    """Returns the lines of a text in Markdown that belong to no table, without headings."""
    return "\n".join(line for line in text.splitlines() if line and not line.startswith(("|", "#")))


def compare_tables(checks: FileChecks, place: str, given: str, found: str, basis: Callable[[str], str]) -> None:
    """
    Compares the tables of two texts cell by cell: numbers to the printed digits, everything else exactly.

    Args:
        checks ([`FileChecks`]): takes counts and disagreements.
        place (`str`): the place of the text.
        given, found (`str`): the text in the file, and the text from the records.
        basis (`Callable[[str], str]`): returns what the numbers of a column rest on, by its header.
    """
    tables, others = read_tables(given), read_tables(found)
    if len(tables) != len(others):
        checks.fail(place, f"{len(tables)} tables", f"{len(others)} tables")
    for table, other in zip(tables, others, strict=False):
        labels, expected = ([row[0] for row in side.rows] for side in (table, other))
        if table.header != other.header or labels != expected:
            differing = (table.header, other.header) if table.header != other.header else (labels, expected)
            checks.fail(f"{place}, names of rows and columns", *map(" | ".join, differing))
            continue
        for row, expected_row in zip(table.rows, other.rows, strict=True):
            for column, cell, expected_cell in zip(table.header[1:], row[1:], expected_row[1:], strict=False):
                checks.count(basis(column), count_printed(cell))
                compare_text(checks, f"{place}, row {row[0]!r}, column {column!r}", cell, expected_cell)


def compare_text(checks: FileChecks, place: str, given: str, found: str) -> None:
    """Compares two texts: numbers to the printed digits of the given one, everything else exactly."""
    if _NUMBER.sub("#", given) != _NUMBER.sub("#", found):
        checks.fail(place, given, found)
        return
    for number, other in zip(_NUMBER.findall(given), _NUMBER.findall(found), strict=True):
        checks.compare(place, _parse(number), _parse(other), printed_tolerance(number))


def count_printed(text: str) -> int:
    """Counts the numbers in a text."""
    return len(_NUMBER.findall(text))


def printed_tolerance(number: str) -> float:
    """Returns half of the last printed digit of a number."""
    return 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-12


def find_decimals(text: str) -> Iterator[ProseNumber]:
    """Finds decimals and percentages in the prose of a page: outside of tables, code, links and versions."""
    for line, prose in enumerate(_prose(text).splitlines(), 1):
        for match in _DECIMAL.finditer(prose):
            if prose.startswith("|") or _IDENTIFIER.search(prose[: match.start()]):
                continue
            number = match["number"]
            yield ProseNumber(line, match[0], _parse(number), printed_tolerance(number), match["percent"] is not None)


def find_commits(text: str) -> Iterator[tuple[int, str]]:
    """Finds the abbreviated commits in the prose of a page, with their lines."""
    for line, prose in enumerate(_prose(text).splitlines(), 1):
        for match in _COMMIT.finditer(prose):
            yield line, match[0]


def _prose(text):
    """Blanks what is no prose; lines keep their numbers."""
    for pattern in (_FRONT_MATTER, _NO_PROSE):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n") or " ", text)
    return text


def _parse(number):
    return float(number.replace(",", ""))
