import re

import pytest
from datasets import Dataset

from hf_fusion.data.label_plan import LabelPlan, check_classes_shown
from hf_fusion.data.labels import LabelError, LabelRules
from hf_fusion.utils.errors import DataError


class TestClassesShown:
    def check(self, labels, count, policy="error"):
        rules = LabelRules(num_labels=count)
        check_classes_shown(Dataset.from_dict({"labels": labels}), rules, "x.csv", policy)

    def test_all_of_them(self, caplog):
        self.check([0, 1, 2, 1], 3)
        assert not caplog.records

    def test_a_gap(self):
        with pytest.raises(DataError, match=r"of 3 classes .* only 0 \(1 rows\), 2 \(2 rows\); it never shows 1"):
            self.check([0, 2, 2], 3)

    def test_coarse_classes_are_named(self):
        rules = LabelRules(num_labels=3, coarse_names=("bad", "fair", "good"))
        rows = Dataset.from_dict({"labels": [0, 1, 2], "coarse_labels": [0, 0, 2]})
        with pytest.raises(DataError, match=r"3 coarse classes .* only bad \(2 rows\), good \(1 rows\).* shows fair"):
            check_classes_shown(rows, rules, "x.csv", "error")

    def test_fewer_than_declared(self):
        with pytest.raises(DataError, match="If there are only 2, set `num_labels` to 2"):
            self.check([0, 1], 5)

    def test_allowed(self, caplog):
        self.check([0, 2, 2], 3, "allow")
        assert "never shows 1" in caplog.text


class TestErrors:
    """Have the kind of the problem, the field and the value as attributes, whatever characters the value has."""

    @pytest.mark.parametrize(
        ("row", "reason", "field", "words"),
        [
            (
                {"stars": "7"},
                "rating outside the scale",
                "stars",
                r"7.0 is no whole number.*\(fields rating=7; `scale`",
            ),
            ({"stars": "a|b"}, "no number", "stars", r"field 'rating' is 'a|b'"),
            (
                {"stars": "4/10"},
                "rating outside the scale",
                "stars",
                "is out of 10, but the best value of column 'rating'",
            ),
            ({"stars": None, "intensity": 1.5}, "rating outside the scale", "intensity", r"1.5 lies outside \[0, 1\]"),
            ({"label": "good|bad"}, "no number", "label", "label 'good|bad' is none of the classes 0 to 1"),
            ({"label": [1]}, "no number", "label", "field 'own': .*is no number"),
        ],
        ids=["stars", "bar", "out of", "intensity", "class", "list"],
    )
    def test_attributes(self, row, reason, field, words):
        columns = {"stars": "rating", "intensity": "intensity", "label": "own"}
        plan = LabelPlan(columns, LabelRules(), {"label": {"0": 0, "1": 1}})
        with pytest.raises(LabelError) as error:
            plan.labels_of({columns[name]: value for name, value in row.items()})
        assert (error.value.reason, error.value.field) == (reason, field)
        assert re.search(words.replace("|", r"\|"), error.value.detail)


def test_the_advice_for_an_intensity_names_its_own_field():
    plan = LabelPlan({"text": "text", "intensity": "how much"}, LabelRules())
    with pytest.raises(LabelError, match=r"best value of column 'how much' is 1; if it is not, set `intensity_range`"):
        plan.labels_of({"text": "a", "how much": "4/10"})
