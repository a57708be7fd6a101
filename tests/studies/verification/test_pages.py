"""Pages: tables against their records, decimals in prose, commits."""

import pytest
from made_results import PAGE, change, make_benchmark, make_page, make_study

from hf_fusion.studies.verification.checks import NOTHING, RECORD
from hf_fusion.studies.verification.history import History
from hf_fusion.studies.verification.pages import check_page, find_results
from hf_fusion.studies.verification.records import check_record, read_record
from hf_fusion.utils.errors import DataError


@pytest.fixture
def results(tmp_path):
    results = tmp_path / "model_cards" / "results"
    make_study(results)
    make_benchmark(results)
    return results


def records(path):
    return read_record(path), check_record(path, read_record(path))


def check(page):
    return check_page(page, page.read_text(encoding="utf-8"), records, History(page.parent))


def lines(page):
    return [str(one) for one in check(page).disagreements]


@pytest.mark.parametrize("place", ["README.md", "docs/results/made.md"])
def test_an_untouched_page_agrees(tmp_path, results, place):
    checks = check(make_page(tmp_path / place, results))
    assert checks.disagreements == [] and checks.counts[RECORD] > 10


def test_another_number_in_a_table_is_told(tmp_path, results):
    page = make_page(tmp_path / "README.md", results)
    text = page.read_text(encoding="utf-8")
    number = text.partition("| no gate | ")[2].split("\N{NO-BREAK SPACE}")[0]
    page.write_text(text.replace(f"| no gate | {number}", "| no gate | 0.999"), encoding="utf-8")
    (line,) = lines(page)
    assert line == (
        f"line 5, table of made, row 'no gate', column 'mae': given 0.999, found {number} (tolerance 0.0005)"
    )


def test_another_number_in_a_record_is_told(tmp_path, results):
    page = make_page(tmp_path / "README.md", results)
    change(results / "made.json", lambda record: record["variants"]["full"]["mean"].update(corr=0.999))
    (line,) = lines(page)
    assert "row 'full', column 'corr': given 0." in line and "found 0.999" in line


def test_marks_of_significance_and_the_legend_are_compared(tmp_path, results):
    page = make_page(tmp_path / "README.md", results)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("over seeds 1, 2, 3", "over seeds 1, 2, 3, 4"), encoding="utf-8")
    (line,) = lines(page)
    assert line.startswith("line 5, table of made, legend: given <small>")
    cell = text.partition("<br>")[2].split(" |")[0]
    page.write_text(text.replace(cell, f"**{cell}**", 1), encoding="utf-8")
    (line,) = lines(page)
    assert f"<br>**{cell}**, found" in line


def test_a_table_of_a_record_that_is_not_there(tmp_path, results):
    page = make_page(tmp_path / "README.md", results)
    (results / "made.json").unlink()
    (line,) = lines(page)
    assert line == "line 5, table of made: given record made, found no such file in model_cards/results"


def test_a_page_outside_a_repository(tmp_path_factory, tmp_path, results):
    page = tmp_path_factory.mktemp("away") / "page.md"
    page.write_text(PAGE)
    assert find_results(page) is None and "no such file in model_cards/results" in lines(page)[0]


@pytest.mark.parametrize(("spec", "line"), [
    ("{source: made, metrics: [nothing]}", "line 1, table of made: KeyError"),
    ("{source: [", "the description of a table is not valid (not YAML: "),
    ("{source: made, metric: [mae]}", "unknown fields metric"),
    ("{metrics: [mae]}", "a table needs a mapping with `source`, got {metrics: [mae]}"),
])  # fmt: skip
def test_a_description_that_is_not_valid(tmp_path, results, spec, line):
    page = tmp_path / "README.md"
    page.write_text(f"<!-- table: {spec} -->\n<!-- /table -->\n")
    with pytest.raises(DataError, match=r"README\.md") as error:
        check(page)
    assert line in str(error.value)


def test_decimals_in_prose_rest_on_the_records_of_their_section(tmp_path, results):
    text = """# Made

![Costs](model_cards/results/benchmark_made.png): the ratio is 2.33.

## Errors

The ratio is 2.33, the gate 0.25. See [the record](model_cards/results/made.json).
"""
    page = tmp_path / "README.md"
    page.write_text(text)
    checks = check(page)
    assert [(number["line"], number["number"]) for number in checks.prose] == [(3, "2.33"), (7, "2.33"), (7, "0.25")]
    ratio, other, gate = (number["basis"] for number in checks.prose)
    assert ratio.startswith("benchmark_made: comparisons[0]") and gate == "made: variants.full.last_log.1.gate_mean"
    assert other is None and checks.counts == {RECORD: 2, NOTHING: 1}
    assert checks.disagreements == [], "a warning, no error"


def test_prose_of_a_page_without_records_is_left_alone(tmp_path, results):
    page = tmp_path / "guide.md"
    page.write_text("Set the dropout to 0.3.")
    assert check(page).prose == []


class Known:
    """A history with a single commit."""

    reason = ""

    def knows(self, commit):
        return commit == "5b0ba2d"


def test_commits_of_a_page_are_known(tmp_path):
    page = tmp_path / "page.md"
    text = "Trained on commit 5b0ba2d.\n\nAnd on 8997ff5.\n"
    (wrong,) = check_page(page, text, records, Known()).disagreements
    assert str(wrong) == "line 3, commit: given 8997ff5, found no such commit in this repository"
