"""Numbers compared, counted and told."""

from pathlib import Path

import pytest

from hf_fusion.studies.verification.checks import NOTHING, PREDICTIONS, RECORD, Disagreement, FileChecks, describe


@pytest.fixture
def checks():
    return FileChecks(Path("made.json"), "study")


def test_a_disagreement_has_place_numbers_and_tolerance():
    line = str(Disagreement("variants.full.mean.mae", 0.71, 0.7123456789, 7.1e-7))
    assert line == "variants.full.mean.mae: given 0.71, found 0.7123456789 (tolerance 7.1e-07)"
    assert str(Disagreement("sha256", "ab", "cd")) == "sha256: given ab, found cd"
    assert str(Disagreement("mean.corr", float("nan"), 0.5)) == "mean.corr: given no number, found 0.5"


@pytest.mark.parametrize(("given", "found", "equal"), [
    (0.5, 0.5, True), (0.5, 0.5 + 1e-7, True), (0.5, 0.5 + 1e-6, False), (1e8, 1e8 + 1, True), (0.0, 1e-10, True),
    (0.0, 1e-8, False), (None, float("nan"), True), (None, 0.0, False), (0.0, None, False),
])  # fmt: skip
def test_numbers_are_compared_in_full_precision(checks, given, found, equal):
    checks.compare("mean", given, found)
    assert bool(checks.disagreements) is not equal


def test_nested_numbers_are_compared_and_counted(checks):
    given = {"mean": {"mae": 0.5, "loss": 2.0}, "interval": [0.1, 0.2], "p": None, "front": ["full"], "met": True}
    found = {"mean": {"mae": 0.5}, "interval": [0.1, 0.3], "p": None, "front": ["plain"], "met": False}
    checks.compare_all("entry", given, found, PREDICTIONS)
    assert [one.place for one in checks.disagreements] == ["entry.interval[1]", "entry.front[0]", "entry.met"]
    assert checks.counts == {PREDICTIONS: 3, RECORD: 1}, "the loss was not recomputed"


def test_another_structure_disagrees(checks):
    checks.compare_all("interval", [0.1, 0.2], None, RECORD)
    checks.compare_all("pairs", [0.1], [0.1, 0.2], RECORD)
    assert [one.place for one in checks.disagreements] == ["interval", "pairs"]


def test_numbers_of_a_file_rest_on_its_predictions_if_there_are_any(checks):
    checks.count(RECORD, 5)
    assert checks.basis == RECORD
    checks.count(PREDICTIONS)
    assert checks.basis == PREDICTIONS


def test_description_for_json(checks):
    checks.count(NOTHING, 2)
    checks.fail("mean", 1.0, 2.0, 0.1)
    content = describe([checks])
    assert content["counts"] == {PREDICTIONS: 0, RECORD: 0, NOTHING: 2} and content["disagree"] == 1
    (file,) = content["files"]
    assert file["file"] == "made.json"
    assert file["disagreements"] == [{"place": "mean", "given": 1.0, "found": 2.0, "tolerance": 0.1}]
