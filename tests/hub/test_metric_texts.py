import pytest

from hf_fusion.evaluation.metrics import METRICS, class_metrics, label_set_metrics, metric_names
from hf_fusion.hub.metric_texts import EXPLANATIONS, explain_metrics


def test_directions_are_those_of_the_metrics():
    assert set(METRICS) <= set(EXPLANATIONS)
    for name, metric in METRICS.items():
        assert EXPLANATIONS[name][0] == ("lower is better" if metric.lower_is_better else "higher is better"), name


def test_metrics_of_all_models_are_explained(make_config, clip_config):
    labels = ["labels", "coarse_labels", "intensity_labels"]
    names = [*metric_names(make_config(), labels), *metric_names(clip_config(), ["labels"]), "fine_calibration_error"]
    names += [*class_metrics([0, 1], [0, 1], ["calm", "very sad"])]
    names += [*label_set_metrics([[0.1, 0.2], [0.8, 0.9]], [[1, 0], [0, 1]], ["calm", "very sad"])]
    assert [name for members, *_ in explain_metrics(names) for name in members if name not in names] == []
    assert sum(len(members) for members, *_ in explain_metrics(names)) == len(names)


@pytest.mark.parametrize(("name", "words"), [
    ("fine_macro_f1", "mean over classes of F1"), ("coarse_accuracy", "share of rows with the right class"),
    ("subset_accuracy", "all labels right"), ("happy_weighted_accuracy", "with and without a label"),
])  # fmt: skip
def test_the_longest_known_end_of_a_name_counts(name, words):
    ((names, _, meaning),) = explain_metrics([name])
    assert names == [name] and words in meaning


def test_unknown_metrics_are_left_out():
    assert explain_metrics(["fine_magic"]) == []
