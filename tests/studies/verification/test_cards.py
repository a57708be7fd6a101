"""Model cards: metadata, table, and the run that they are about."""

import pytest
from made_results import make_card

from hf_fusion.studies.verification.cards import check_card, find_run, is_card, read_card
from hf_fusion.studies.verification.checks import NOTHING, PREDICTIONS, FileChecks
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
