import json

import numpy as np
import pandas as pd
import pytest
from figure_text import check_texts
from scipy import stats

from hf_fusion.evaluation.plots import plot_differences, plot_pareto
from hf_fusion.evaluation.statistics import smallest_detectable_difference
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.power import note_power
from hf_fusion.studies.results import (
    _all_public,
    cell_lines,
    check_metrics,
    cost_table,
    fusion_costs,
    latex_rows,
    markdown_table,
    pareto,
    resolve_families,
    summarize,
    tidy,
    write_study,
)
from hf_fusion.studies.study import Study, StudyError


def run(accuracy, **other):
    metrics = {"test": {"fine_accuracy": accuracy, "loss": 1.0}, "validation": {"fine_accuracy": 0.9}}
    return {**metrics, "train_seconds": 1.0, "parameters": 10, "last_log": {"gate_mean": 0.4}, **other}


@pytest.fixture
def results():
    def variant(*values):
        return {seed: run(value) for seed, value in enumerate(values, 1)}

    return {"base": variant(0.51, 0.52, 0.53), "new one": variant(0.63, 0.66, 0.69), "third": variant(0.5, 0.53, 0.52)}


def test_means_and_differences(results):
    summary = summarize(results)
    assert summary["base"]["mean"]["fine_accuracy"] == pytest.approx(0.52)
    assert summary["base"]["std"]["fine_accuracy"] == pytest.approx(0.01)  # ddof=1
    assert "difference" not in summary["base"]
    difference = summary["new one"]["difference"]["fine_accuracy"]
    assert difference["mean"] == pytest.approx(0.14)
    half = stats.t.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    assert difference["interval"] == pytest.approx([0.14 - half, 0.14 + half])
    p = stats.ttest_rel([0.63, 0.66, 0.69], [0.51, 0.52, 0.53]).pvalue
    assert difference["p"] == pytest.approx(p) and difference["p_holm"] == pytest.approx(2 * p)
    assert summary["third"]["difference"]["fine_accuracy"]["p_holm"] <= 1
    assert summary["new one"]["last_log"]["2"]["gate_mean"] == 0.4


def test_intervals_of_means_and_power(results):
    summary = summarize(results)
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert summary["base"]["interval"]["fine_accuracy"] == pytest.approx([0.52 - half, 0.52 + half])
    difference = summary["new one"]["difference"]["fine_accuracy"]
    assert difference["smallest_detectable"] == pytest.approx(smallest_detectable_difference(0.02 / np.sqrt(3), 2))
    assert "hierarchical" not in difference and "hierarchical" not in summary["base"], "there are no predictions"
    sentence = note_power(summary, ["fine_accuracy", "loss"])
    both = [summary[name]["difference"]["fine_accuracy"]["smallest_detectable"] for name in ("new one", "third")]
    assert f"): fine_accuracy {np.mean(both):.3f} over seeds." in sentence and "loss" not in sentence
    assert sentence in markdown_table(summary, ["fine_accuracy"], {})


def test_declared_families(results):
    p = {name: entry["difference"]["fine_accuracy"]["p"] for name, entry in summarize(results).items()
         if "difference" in entry}  # fmt: skip
    one = summarize(results, families={"new": {"metrics": ["fine_accuracy"], "variants": ["new one"]}})
    found = (
        one["new one"]["difference"]["fine_accuracy"]["p_holm"],
        one["third"]["difference"]["fine_accuracy"]["p_holm"],
    )
    assert found == (pytest.approx(p["new one"]), None)
    both = summarize(results, families={"all": {"metrics": ["fine_accuracy"]}})
    assert both["new one"]["difference"]["fine_accuracy"]["p_holm"] == pytest.approx(2 * p["new one"])
    families = resolve_families(None, ["b"], ["mae", "corr"])
    assert families["mae"] == {"metrics": ["mae"], "variants": ["b"]} and len(families) == 2
    assert resolve_families({"all": {}}, ["b"], ["mae"]) == {"all": {"metrics": ["mae"], "variants": ["b"]}}


def test_a_metric_that_is_undefined_once_leaves_the_others_alone(results):
    expected = summarize(results)["new one"]["difference"]["fine_accuracy"]["p"]
    results["third"][2]["test"]["fine_accuracy"] = None
    found = summarize(results)
    assert found["new one"]["difference"]["fine_accuracy"]["p_holm"] == pytest.approx(expected), "one test is left"
    assert found["third"]["difference"]["fine_accuracy"]["p_holm"] is None


def test_metrics_that_there_are_not(results):
    study = Study("recipe.yaml", {"base": {}}, [1], metrics=["fine_accuracy", "f2"])
    with pytest.raises(StudyError, match="metrics has 'f2'; there are fine_accuracy, loss"):
        check_metrics(study, summarize(results))


def test_metrics_of_families_that_there_are_not(results):
    study = Study("recipe.yaml", {"base": {}}, [1], families={"main": {"metrics": ["f2"]}})
    with pytest.raises(StudyError, match=r"families\.main\.metrics has 'f2'; there are fine_accuracy, loss"):
        check_metrics(study, summarize(results))


def test_another_split_and_interval(results):
    summary = summarize(results, "validation", "bootstrap")
    assert summary["third"]["difference"]["fine_accuracy"] == {
        "mean": 0.0, "interval": [0.0, 0.0], "p": None, "p_holm": None, "smallest_detectable": None
    }  # fmt: skip


def test_one_number_a_row(results):
    table = tidy(results, ["validation", "test"])
    assert list(table.columns) == ["variant", "seed", "split", "metric", "value"]
    assert len(table) == 9 + 18
    row = table.query("variant == 'new one' and seed == 2 and split == 'test' and metric == 'fine_accuracy'")
    assert row["value"].tolist() == [0.66]


def test_result_files(results, tmp_path):
    study = Study(
        "/home/user/recipe.yaml", {"base": {}, "new one": {"cross_fusion": "a"}, "third": {}}, [1, 2, 3],
        {"dataset": "/data/my.csv", "dataset_options": {"files": ["/data/more.csv"], "my_token": "hf_"}},
        evaluate_on={"other": {"dataset": "/data/other.csv"}}, paper={"third": {"fine_accuracy": -0.1}},
    )  # fmt: skip
    for runs in results.values():
        for found in runs.values():
            found["other"] = {"fine_accuracy": 0.3}
    for name in ("base", "new_one", "third"):
        folder = tmp_path / name / "seed-1"
        folder.mkdir(parents=True)
        (folder / "environment.json").write_text(json.dumps({"data_fingerprint": {"test": "f"}, "rows": {"test": 1}}))
    summaries = {split: summarize(results, split) for split in ("validation", "test", "other")}
    write_study(tmp_path / "out.json", study, "../studies/study.yaml", tmp_path, results, summaries)
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["study"], written["recipe"]) == ("study.yaml", "recipe.yaml")
    assert written["variants"]["new one"]["changes"] == {"cross_fusion": "a"}
    assert written["variants"]["new one"]["seeds"]["2"]["fine_accuracy"] == pytest.approx(0.66)
    assert written["overrides"] == {"dataset": "my.csv", "dataset_options": {"files": ["more.csv"]}}, (
        "without the folders of this machine"
    )
    assert written["evaluate_on"]["other"]["data"] == {"dataset": "other.csv"}
    assert written["evaluate_on"]["other"]["variants"]["base"]["mean"] == {"fine_accuracy": pytest.approx(0.3)}
    assert written["data"]["data_fingerprint"] == {"test": "f"} and written["hardware"]["cores"]
    assert written["families"]["fine_accuracy"] == {"metrics": ["fine_accuracy"], "variants": ["new one", "third"]}
    assert written["selection"] is None and written["compute"]["runs"] == 9
    assert written["compute"]["train_seconds"] == 9 and written["compute"]["evaluation_seconds"] is None
    assert written["paper"] == {"third": {"fine_accuracy": -0.1}}
    assert len(pd.read_csv(tmp_path / "out.csv")) == 9 + 18 + 9
    tables = (tmp_path / "out.md").read_text()
    assert tables.startswith("### test\n\n| variant | fine_accuracy |\n") and tables.count("### ") == 2
    assert tables.count("\n| new one |") == 2 and tables.count("<br>paper -0.1000 |") == 1 and "loss" not in tables
    latex = (tmp_path / "out.tex").read_text()
    assert latex.count(r"\begin{tabular}") == 2 and latex.startswith("% test\n") and r"fine\_accuracy" in latex
    (folder / "environment.json").write_text(json.dumps({"data_fingerprint": {"test": "g"}, "rows": {"test": 2}}))
    record = write_study(tmp_path / "out.json", study, "study.yaml", tmp_path, results, summaries)
    assert record["data"]["base"]["rows"] == {"test": 1} and record["data"]["third"]["rows"] == {"test": 2}


def test_costs_and_front(clip_config, tmp_path):
    study = Study("recipe.yaml", {"many": {}, "few": {}, "all": {}}, [1], metrics=["mae"], pareto=[39, 400, 55])
    fields = {"many": {"num_bottleneck_tokens": 8}, "few": {"num_bottleneck_tokens": 2},
              "all": {"fusion": "concat_attention"}}  # fmt: skip
    for name, changes in fields.items():
        config = clip_config(**changes)
        config.save_pretrained(tmp_path / name / "seed-1")
    costs = fusion_costs(study, tmp_path)
    assert costs["few"] < costs["many"] < costs["all"]
    study.pareto_variants = ["few", "all"]
    assert fusion_costs(study, tmp_path) == {"few": costs["few"], "all": costs["all"]}
    clip_config(num_bottleneck_tokens=2, intermediate_size=64).save_pretrained(tmp_path / "few" / "seed-1")
    wide = fusion_costs(study, tmp_path)["few"]
    clip_config(num_bottleneck_tokens=2, anchor="symmetric").save_pretrained(tmp_path / "few" / "seed-1")
    assert wide > costs["few"] < fusion_costs(study, tmp_path)["few"]
    summary = {name: {"mean": {"mae": value}, "std": {"mae": 0.1}} for name, value in
               (("many", 0.4), ("few", 0.9), ("all", 0.41))}  # fmt: skip
    record = pareto(costs, summary, "mae")
    assert record["front"] == ["few", "many"] and record["knee"] is None
    summary["all"]["mean"]["mae"] = 0.39
    assert pareto(costs, summary, "mae")["knee"] == "many"
    check_texts(plot_pareto(pareto(costs, summary, "mae"), summary, "title"))


def test_picture_of_differences(results):
    summary = summarize(results)
    figure = plot_differences(summary, ["fine_accuracy"], "title")
    check_texts(figure)
    means = [entry["difference"]["fine_accuracy"]["mean"] for entry in list(summary.values())[1:]]
    assert [points.get_offsets()[0, 0] for points in figure.axes[0].collections] == pytest.approx(means)


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


def test_a_split_that_the_data_lacks():
    results = {"base": {1: {name: value for name, value in run(0.5).items() if name != "test"}}}
    with pytest.raises(StudyError, match="on their test split, which the data lacks"):
        summarize(results)


def test_sentences_for_a_baseline_keep_their_slashes():
    fields = {"baseline": {"model": "/models/nli", "prompt": "The room was {}/5.", "labels": ["bad/poor", "good"]}}
    assert _all_public(fields)["baseline"] == {**fields["baseline"], "model": "nli"}
