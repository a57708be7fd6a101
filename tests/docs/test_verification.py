"""`hf-fusion verify` on this repository: every committed number is the one of its predictions or record."""

import pytest
from document_paths import ROOT

from hf_fusion.studies.verification import PREDICTIONS, RECORD, verify


@pytest.fixture(scope="module")
def checked():
    return verify(folder=ROOT)


def test_all_numbers_agree(checked):
    assert [f"{checks.path}: {one}" for checks in checked for one in checks.disagreements] == []


def test_no_file_is_left_out(checked):
    names = {checks.path.name for checks in checked}
    assert names >= {"README.md", "reviews.md", "clips.md", "performance.md"}
    assert names >= {path.name for path in (ROOT / "model_cards").glob("d*.md")}
    assert names >= {path.name for path in (ROOT / "model_cards" / "results").glob("*.json")}


def test_numbers_of_records_and_tables_are_counted(checked):
    for checks in checked:
        if checks.path.suffix == ".json":
            assert checks.counts[PREDICTIONS] + checks.counts[RECORD] > 0, checks.path
