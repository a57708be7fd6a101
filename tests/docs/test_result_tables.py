"""Tables of `README.md` and `docs/`: as their records say, digit for digit."""

import importlib.util
import json
import re
import shutil

import pytest
from document_paths import ROOT

from hf_fusion.studies.record_tables import without_tables

spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
generate_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate_docs)

PAGES = [path.relative_to(ROOT).as_posix() for path in generate_docs.pages()]
NUMBER = re.compile(r"\d+\.\d{2,}")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A copy of the records that a test may change: `records(name, change)`."""
    shutil.copytree(generate_docs.RESULTS, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "*.csv"))
    monkeypatch.setattr(generate_docs, "RESULTS", tmp_path / "results")

    def change(name, mend):
        path = tmp_path / "results" / f"{name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        mend(record)
        path.write_text(json.dumps(record), encoding="utf-8")

    return change


def test_tables_are_those_of_the_records(capsys):
    assert generate_docs.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_tables_outside_the_markers_hold_no_measurements(page):
    """A number with two or more decimals in a table must come from a record."""
    text = without_tables((ROOT / page).read_text(encoding="utf-8"))
    rows = [re.sub(r"\(https?://[^)]*\)", "", line) for line in text.splitlines() if line.startswith("|")]
    assert [row for row in rows if NUMBER.search(row) and "arXiv" not in row] == []


def test_check_sees_another_number(records, capsys):
    def mend(record):
        record["variants"]["DyFuLM"]["mean"]["fine_accuracy"] += 0.001

    records("dyfulm_mpnet_minilm", mend)
    assert generate_docs.main(["--check"]) == 1
    assert "README.md: not up to date" in capsys.readouterr().out
