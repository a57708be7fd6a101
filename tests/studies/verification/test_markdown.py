"""Numbers in Markdown: tables cell by cell, decimals and commits in prose."""

from pathlib import Path

import pytest

from hf_fusion.studies.verification.checks import RECORD, FileChecks
from hf_fusion.studies.verification.markdown import compare_tables, find_commits, find_decimals, read_tables

TABLE = "| | mae | corr |\n|---|---|---|\n| full | 0.71 ± 0.02 | **+0.10** |\n| no \\| gate | 1,234 | – |\n"


def compare(given, found=TABLE):
    checks = FileChecks(Path("page.md"), "page")
    compare_tables(checks, "table", given, found, lambda column: RECORD)
    return checks


def test_tables_are_read():
    first, second = read_tables(f"Words.\n\n{TABLE}\nMore.\n\n| a |\n|---|\n| 1 |")
    assert first.header == ["", "mae", "corr"]
    assert first.rows[1] == ["no \\| gate", "1,234", "–"] and second.rows == [["1"]]


def test_equal_tables():
    checks = compare(TABLE)
    assert checks.disagreements == [] and checks.counts[RECORD] == 4


@pytest.mark.parametrize(("old", "new", "line"), [
    ("0.71", "0.72", "table, row 'full', column 'mae': given 0.72, found 0.71 (tolerance 0.005)"),
    ("0.02", "0.03", "table, row 'full', column 'mae': given 0.03, found 0.02 (tolerance 0.005)"),
    ("+0.10", "-0.10", "given -0.1, found 0.1"),
    ("1,234", "1,235", "given 1235, found 1234 (tolerance 0.5)"),
    ("**+0.10**", "+0.10", "column 'corr': given +0.10, found **+0.10**"),
    ("–", "0.5", "given 0.5, found –"),
    ("full", "empty", "names of rows and columns: given empty | no \\| gate, found full"),
    ("| corr", "| acc2", "names of rows and columns: given  | mae | acc2, found  | mae | corr"),
    ("| full | 0.71 ± 0.02 | **+0.10** |\n", "", "names of rows and columns"),
])  # fmt: skip
def test_another_cell_is_told(old, new, line):
    (wrong,) = compare(TABLE.replace(old, new)).disagreements
    assert line in str(wrong)


def test_fewer_digits_are_compared_as_printed():
    assert compare(TABLE.replace("0.71 ", "0.7 ")).disagreements == []
    assert compare(TABLE.replace("0.71 ", "0.8 ")).disagreements


def test_a_lost_table_is_told():
    (wrong,) = compare("No table.").disagreements
    assert str(wrong) == "table: given 0 tables, found 1 tables"


def test_decimals_are_those_of_sentences():
    text = """---
value: 0.11
---
# Results 0.12

The gate has 0.40, the largest class .133; -0.5 points, and 98 % or 12.5 % of it (`0.22`, [0.33](page_0.44.md)).
<!-- 0.55 --> Python 3.10, version 2.13.0, arXiv 2512.01410, torch 5.24.0, 1,447 rows.

| a | 0.66 |

```
0.77
```
The end: 3.5
"""
    found = [(number.line, number.text, number.is_percentage) for number in find_decimals(text)]
    assert found == [
        (4, "0.12", False), (6, "0.40", False), (6, ".133", False), (6, "-0.5", False), (6, "98 %", True),
        (6, "12.5 %", True), (6, "0.33", False), (14, "3.5", False),
    ]  # fmt: skip
    number = next(number for number in find_decimals(text) if number.text == ".133")
    assert number.value == 0.133 and number.tolerance == pytest.approx(0.0005)


def test_commits_are_found():
    text = "Trained on commit 5b0ba2d;\nlater 8997ff5 and `1234567`, not 20000000 rows, nor defaced facades.\n"
    assert list(find_commits(text)) == [(1, "5b0ba2d"), (2, "8997ff5")]
