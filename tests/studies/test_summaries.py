import numpy as np
import pytest
from scipy import stats

from hf_fusion.evaluation.statistics import smallest_detectable_difference
from hf_fusion.studies.power import note_power
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.study_tables import markdown_table
from hf_fusion.studies.summaries import check_metrics, resolve_families, summarize


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


def test_a_split_that_the_data_lacks():
    results = {"base": {1: {"validation": {"fine_accuracy": 0.9}}}}
    with pytest.raises(StudyError, match="on their test split, which the data lacks"):
        summarize(results)
