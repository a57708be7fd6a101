"""`hf-fusion verify`: lines, exit status and the file for programs."""

import json

import pytest
from made_results import change, make_page, make_study
from tiny_runs import script_here

TEXT = "# Made\n\nThe gate has 0.25, not 7.77: [record](model_cards/results/made.json).\n"


@pytest.fixture
def verify(tmp_path, monkeypatch):
    results = tmp_path / "model_cards" / "results"
    make_study(results)
    make_page(tmp_path / "README.md", results, TEXT)
    monkeypatch.chdir(tmp_path)
    return script_here("verify", monkeypatch)


def test_numbers_that_agree(verify, capsys):
    assert verify() == 0
    page, record, total = capsys.readouterr().out.splitlines()
    assert page.split() == ["README.md", "1", "record,", "1", "nothing"]
    assert record.startswith("model_cards/results/made.json  ") and record.endswith(" record")
    assert total.startswith("2 files, ") and total.endswith(", 1 on nothing. 0 disagree.")


def test_a_number_that_disagrees(verify, tmp_path, capsys):
    record = tmp_path / "model_cards/results/made.json"
    change(record, lambda content: content["variants"]["full"]["mean"].update(mae=0.123))
    assert verify(record, "--output", "out/verification.json") == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("model_cards/results/made.json: ")]
    assert line.startswith("model_cards/results/made.json: variants.full.mean.mae: given 0.123, found ")
    assert "1 disagree" in lines[0] and lines[-2].endswith("1 disagree.")
    assert lines[-1] == "Written: out/verification.json"
    content = json.loads((tmp_path / "out/verification.json").read_text())
    assert content["disagree"] == 1 and content["files"][0]["disagreements"][0]["given"] == 0.123


def test_decimals_in_prose_are_listed_on_demand(verify, capsys):
    assert verify("README.md", "--prose") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "README.md, line 3: 0.25 could rest on made: variants.full.last_log.1.gate_mean" in lines
    assert "README.md, line 3: 7.77 rests on nothing in the records that the page names" in lines


def test_a_file_that_is_not_there(verify, capsys):
    assert verify("none.md") == 2
    assert capsys.readouterr().err == "hf-fusion verify: none.md: no such file or folder.\n"
