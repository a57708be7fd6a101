import pytest

from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.study_tables import cell_lines, cost_table, latex_rows, markdown_table
from hf_fusion.studies.summaries import summarize


def test_latex(results):
    summary = summarize(results)
    name = list(summary)[1]
    summary[name]["difference"]["fine_accuracy"]["p_holm"] = 0.04
    summary["50 %_$"] = summary.pop(name)
    first, second = latex_rows(summary, ["fine_accuracy"])[0], latex_rows(summary, ["fine_accuracy"])[-1]
    assert "±" in first["fine_accuracy"] and not first["fine_accuracy"].endswith("*")
    assert second["fine_accuracy"] == cell_lines(summary["50 %_$"], "fine_accuracy", {}, 3)[0] + "*"
    table = latex_table([first, second], "Caption")
    assert r"variant & fine\_accuracy \\" in table and r"50 \%\_\$ & " in table and r"\caption{Caption}" in table


def test_markdown(results):
    summary = summarize(results)
    name = list(summary)[1]
    summary[name]["difference"]["fine_accuracy"]["p_holm"] = 0.04
    head, line, first, second, *_ = markdown_table(
        summary, ["fine_accuracy"], {name: {"fine_accuracy": -0.5}}
    ).splitlines()
    assert head == "| variant | fine_accuracy |" and line == "|---|---|"
    assert first.count("|") == second.count("|") == 3 and first.startswith(f"| {next(iter(summary))} | 0.")
    mean, difference, paper = second.split(" | ")[1].removesuffix(" |").split("<br>")
    assert (
        "±" in mean and difference.startswith("**+") and difference.endswith("p = 0.040**") and paper == "paper -0.5000"
    )
    summary[name]["difference"]["fine_accuracy"]["p_holm"] = 0.06
    assert "**" not in markdown_table(summary, ["fine_accuracy"], {})


@pytest.mark.parametrize(("metric", "title"), [("corr", "share of corr"), ("mae", "share of mae (less is better)")])
def test_table_of_costs(metric, title):
    costs = {"small": [{"what": "weights", "ratio": 2.0}]}
    summary = {name: {"mean": {metric: value}} for name, value in (("base", 0.5), ("small", 0.6))}
    head, _, row, *_ = cost_table(costs, summary, metric).splitlines()
    assert head == f"| variant | weights | {title} |" and row == "| small | 2.00 | 120.0% |"
