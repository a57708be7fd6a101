"""Which files are verified, and what each one is checked against."""

import json
import shutil

import pytest
from made_results import PAGE, change, make_benchmark, make_card, make_page, make_study

from hf_fusion.studies.verification import NOTHING, RECORD, find_files, verify
from hf_fusion.studies.verification import verify as verify_function
from hf_fusion.studies.verification.history import History
from hf_fusion.studies.verification.records import collect_runs, read_record
from hf_fusion.utils.errors import DataError


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """README, a page, a card and two records."""
    results = tmp_path / "model_cards" / "results"
    make_study(results)
    make_benchmark(results)
    make_page(tmp_path / "README.md", results)
    make_page(tmp_path / "docs" / "results" / "made.md", results, "# Made\n\nNo table.\n")
    run = collect_runs(read_record(results / "made.json"))["no gate, seed 2"]
    make_card(tmp_path / "model_cards" / "made.md", run, {"mae": 0.5, "corr": 0.5})
    (tmp_path / "model_cards" / "template.md").write_text("---\n{{ card_data }}\n---\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_name(checked):
    return {checks.path.as_posix(): checks for checks in checked}


def test_all_that_is_committed_is_verified_by_default(repository):
    (repository / "docs" / "gone.md").symlink_to("nowhere.md")
    assert list(map(str, find_files([]))) == [
        "README.md", "docs/results/made.md", "model_cards/made.md", "model_cards/template.md",
        "model_cards/results/benchmark_made.json", "model_cards/results/made.json",
    ]  # fmt: skip
    checked = by_name(verify())
    assert set(checked) == set(map(str, find_files([]))) - {"model_cards/template.md"}
    assert [str(one) for checks in checked.values() for one in checks.disagreements] == []
    assert verify(folder=repository)[0].path.name == "README.md"


def test_a_page_brings_its_records(repository):
    page, record = verify(["README.md"])
    assert (page.kind, record.kind) == ("page", "study") and str(record.path) == "model_cards/results/made.json"
    change(
        repository / "model_cards/results/made.json", lambda content: content["variants"]["full"]["mean"].update(mae=9)
    )
    page, record = verify(["README.md"])
    assert page.disagreements and record.disagreements


def test_a_card_is_compared_with_the_run_of_a_study(repository):
    card, record = verify(["model_cards/made.md"])
    assert card.kind == "card" and card.counts == {RECORD: 4, NOTHING: 2} and card.disagreements == []
    assert str(record.path) == "model_cards/results/made.json"
    text = (repository / "model_cards/made.md").read_text()
    value = text.partition("value: ")[2].splitlines()[0]
    (repository / "model_cards/made.md").write_text(text.replace(f"value: {value}", "value: 0.1"))
    card, _ = verify(["model_cards/made.md"])
    assert str(card.disagreements[0]).startswith(
        "model-index, mae (from made.json, no gate, seed 2): given 0.1, found "
    )


def test_a_card_of_a_run_that_was_not_kept(repository):
    make_card(repository / "model_cards/made.md", {"mae": 0.1234, "corr": 0.4321}, {"mae": 0.5, "corr": 0.5})
    (card,) = verify(["model_cards/made.md"])
    assert card.counts == {NOTHING: 6} and card.notes == ["neither its run nor a record of it was kept"]


def test_a_run_folder_with_its_card(repository):
    run = repository / "runs" / "made"
    run.mkdir(parents=True)
    metrics = {"validation": {"mae": 0.6, "corr": 0.41}, "test": {"mae": 0.71, "corr": 0.5}}
    (run / "metrics.json").write_text(json.dumps({"seed": 1, **metrics}))
    make_card(run / "README.md", metrics["test"], metrics["validation"])
    folder, card = verify(["runs"])
    assert (folder.kind, card.kind) == ("run", "card") and card.counts == {RECORD: 6}
    change(run / "metrics.json", lambda content: content["test"].update(mae=0.72))
    _, card = verify(["runs/made"])
    assert str(card.disagreements[0]).startswith("model-index, mae (from metrics.json): given 0.71, found 0.72")
    (run / "README.md").write_text(PAGE)
    assert [checks.kind for checks in verify(["runs"])] == ["run"], "a page of the user's own is no card"


def test_folders_are_searched_without_hidden_ones_and_checkpoints(repository):
    for name in ("runs/.cache", "runs/made/checkpoint-3"):
        shutil.copytree("model_cards/results", repository / name)
    (repository / "runs" / "notes.json").write_text("{}")
    make_benchmark(repository / "runs" / "study")
    assert list(map(str, find_files(["runs"]))) == ["runs/study/benchmark_made.json"]


@pytest.mark.parametrize(("name", "line"), [
    ("none.json", r"none\.json: no such file or folder"),
    ("data.csv", r"data\.csv: neither a result file"),
    ("empty", "empty: nothing to verify"),
])  # fmt: skip
def test_what_cannot_be_verified_is_an_error(repository, name, line):
    (repository / "data.csv").write_text("a,b\n")
    (repository / "empty").mkdir()
    with pytest.raises(DataError, match=line):
        verify([name])


def test_an_empty_working_directory_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"has neither README\.md nor docs nor model_cards: name the files"):
        verify(folder=tmp_path)


def test_commits_of_records_are_known(repository, monkeypatch):
    monkeypatch.setattr(History, "_find_reason", lambda self: "")
    monkeypatch.setattr(History, "knows", lambda self, commit: commit == "5b0ba2d")
    monkeypatch.setattr(History, "count_later_changes", lambda self, commit: 7 if commit == "5b0ba2d" else None)
    path = repository / "model_cards/results/benchmark_made.json"
    change(path, lambda record: record.update(commit="5b0ba2d"))
    (checks,) = verify([path])
    assert checks.disagreements == [] and (checks.commits, checks.later_changes) == (["5b0ba2d"], 7)
    change(path, lambda record: record.update(commit="8997ff5"))
    (checks,) = verify([path])
    assert [str(one) for one in checks.disagreements] == [
        "commit: given 8997ff5, found no such commit in this repository"
    ]  # fmt: skip


def test_commits_that_cannot_be_checked_are_said(repository, monkeypatch):
    path = repository / "model_cards/results/benchmark_made.json"
    change(path, lambda record: record.update(commit="5b0ba2d-dirty"))
    (checks,) = verify([path])
    assert checks.notes == [
        "commits were not checked: this is not the Git repository of hf_fusion",
        "the code had uncommitted changes to commit 5b0ba2d",
    ]
    monkeypatch.setattr(History, "_find_reason", lambda self: "")
    change(path, lambda record: record.update(commit=["5b0ba2d"]))
    (checks,) = verify([path])
    assert [str(one) for one in checks.disagreements] == [
        "commit: given ['5b0ba2d'], found no such commit in this repository"
    ]


def test_progress_is_tracked(repository):
    seen = []

    def track(files):
        for file in files:
            seen.append(file)
            yield file

    verify_function(track=track)
    assert len(seen) == 6
