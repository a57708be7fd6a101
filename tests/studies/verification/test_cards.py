"""Model cards: metadata, table, and the run that they are about."""

import pytest
from made_results import make_card

from hf_fusion.studies.verification.cards import check_card, find_run, is_card, read_card
from hf_fusion.studies.verification.checks import NOTHING, PREDICTIONS, RECORD, FileChecks
from hf_fusion.utils.errors import DataError

TEST, VALIDATION = {"mae": 0.71234567, "corr": 0.5}, {"mae": 0.6, "corr": 0.41}


@pytest.fixture
def card(tmp_path):
    return make_card(tmp_path / "card.md", TEST, VALIDATION)


def check(card, metrics=None):
    checks = FileChecks(card, "card")
    check_card(checks, {"test": TEST, "validation": VALIDATION} if metrics is None else metrics, PREDICTIONS, "run")
    return checks


def edit(card, old, new):
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))


def test_an_untouched_card_agrees(card):
    checks = check(card)
    assert checks.disagreements == [] and checks.counts == {PREDICTIONS: 6}


@pytest.mark.parametrize(("old", "new"), [("model-index:", "model-index: ["), ("metrics:", "numbers:")])
def test_damaged_metadata_are_an_error(card, old, new):
    edit(card, old, new)
    with pytest.raises(DataError, match=r"card\.md: the metadata of the card is damaged"):
        check(card)


def test_cards_are_known_by_their_metadata(card):
    assert is_card(card.read_text())
    assert not is_card("---\n{{ card_data }}\n---\n") and not is_card("# Page\n\nmodel-index:\n")
    values, cells = read_card(card)
    assert values == TEST and cells[0] == ("mae", "validation", "0.6000")


@pytest.mark.parametrize(("old", "new", "line"), [
    ("value: 0.71234567", "value: 0.71234", "model-index, mae (from run): given 0.71234, found 0.71234567"),
    ("0.7123 |", "0.7124 |", "row 'mae', column 'test': given 0.7124, found 0.71234567 (tolerance 5e-05)"),
    ("0.4100", "0.4200", "row 'corr', column 'validation': given 0.42, found 0.41"),
    ("0.4100", "-", "row 'corr', column 'validation': given no number, found 0.41"),
])  # fmt: skip
def test_another_number_is_told(card, old, new, line):
    edit(card, old, new)
    (wrong,) = check(card).disagreements
    assert str(wrong).startswith(line)


def test_without_its_run_the_card_is_compared_with_itself(card):
    checks = check(card, {})
    assert checks.disagreements == [] and checks.counts == {NOTHING: 6}
    edit(card, "0.7123 |", "0.7124 |")
    (wrong,) = check(card, {}).disagreements
    assert "row 'mae', column 'test'" in str(wrong)


def test_a_split_that_was_not_kept_rests_on_nothing(card):
    assert check(card, {"test": TEST}).counts == {PREDICTIONS: 4, NOTHING: 2}


def test_the_run_of_a_card_is_found_by_its_metrics():
    runs = [("a", {"mae": 0.7, "corr": 0.5}), ("b", {"mae": 0.71234567, "corr": 0.6}), ("c", {})]
    assert find_run({"mae": 0.71234567, "corr": 0.4}, runs) == "b"
    assert find_run({"mae": 0.1, "corr": 0.2}, runs) is None and find_run({}, runs) is None
    assert find_run({"mae": 0.7}, []) is None


EVIDENCE = {
    "intervals": {"mae": [0.65, 0.78]},
    "baselines": {"majority": {"mae": 0.9}},
    "classes": {"fine": {"bad": {"rows": 3, "predicted": 1, "precision": 1.0, "recall": 1 / 3, "f1": 0.5}}},
    "confusion": {"fine": [[1, 2]]},
}
TABLES = """
| metric | test | 95 % interval | majority |
|---|---|---|---|
| mae | 0.7123 | 0.6500 to 0.7800 | 0.9000 |

| fine class | reviews | predicted | precision | recall | F1 | → bad | → good |
|---|---|---|---|---|---|---|---|
| bad | 3 | 1 | 1.0000 | 0.3333 | 0.5000 | 1 | 2 |
"""


@pytest.mark.parametrize(("old", "new", "line"), [
    ("", "", None),
    ("0.6500 to", "0.6600 to", "row 'mae', column '95 % interval': given 0.66, found 0.65"),
    ("to 0.7800", "to -", "row 'mae', column '95 % interval': given no number, found 0.78"),
    ("0.9000", "0.9100", "row 'mae', column 'majority': given 0.91, found 0.9"),
    ("0.3333", "0.3433", "row 'bad', column 'recall': given 0.3433, found 0.3333333333"),
    ("| 2 |", "| 1 |", "row 'bad', column '→ good': given 1, found 2"),
    ("| bad | 3 |", "| bad | 3 |\n| ok | 3 |", "table of the fine classes: given 2 classes, found 1 classes"),
])  # fmt: skip
def test_evidence(card, old, new, line):
    card.write_text(card.read_text() + TABLES.replace(old, new))
    checks = FileChecks(card, "card")
    check_card(checks, {"test": TEST, "validation": VALIDATION}, PREDICTIONS, "run", EVIDENCE)
    if line is None:
        assert checks.disagreements == [] and checks.counts == {PREDICTIONS: 6 + 2 + 7, RECORD: 1}
    else:
        assert [str(one).split(" (tol")[0] for one in checks.disagreements] == [line]


CALIBRATION = {
    "validation": {"rows": 9, "before": {"fine_brier_score": 0.8}, "after": {"fine_brier_score": 0.7}},
    "test": {"rows": 8, "before": {"fine_brier_score": 0.85}, "after": {"fine_brier_score": 0.75}, "coverage": 0.625,
             "answered_accuracy": 0.8},
}  # fmt: skip
CALIBRATION_TABLES = """
| metric | before | after |
|---|---|---|
| fine_brier_score | 0.8500 | 0.7500 |

| split | answered | right |
|---|---|---|
| test | 62.5% | 80.0% |
"""


@pytest.mark.parametrize(("old", "new", "line"), [
    ("", "", None),
    ("0.8500", "0.8000", "row 'fine_brier_score', column 'before': given 0.8, found 0.85"),
    ("0.7500", "0.7600", "row 'fine_brier_score', column 'after': given 0.76, found 0.75"),
    ("62.5%", "63.5%", "row 'test', column 'answered': given 63.5, found 62.5"),
    ("80.0%", "-", "row 'test', column 'right': given no number, found 80"),
])  # fmt: skip
@pytest.mark.parametrize(("dataset", "basis"), [({}, PREDICTIONS), ({"dataset": "new.csv"}, RECORD)], ids=["", "other"])
def test_calibration(card, old, new, line, dataset, basis):
    card.write_text(card.read_text() + CALIBRATION_TABLES.replace(old, new))
    checks = FileChecks(card, "card")
    check_card(checks, {"test": TEST, "validation": VALIDATION}, PREDICTIONS, "run", None, {**CALIBRATION, **dataset})
    assert [str(one).split(" (tol")[0] for one in checks.disagreements] == ([] if line is None else [line])
    expected = {PREDICTIONS: 6}
    expected[basis] = expected.get(basis, 0) + 4
    assert checks.counts == expected


def test_a_calibration_without_its_record_rests_on_nothing(card):
    card.write_text(card.read_text() + CALIBRATION_TABLES)
    assert check(card).counts == {PREDICTIONS: 6, NOTHING: 4}
