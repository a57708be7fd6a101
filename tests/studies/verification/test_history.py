"""Commits: known to the repository, and how much changed since."""

import shutil
import subprocess

import pytest

from hf_fusion.studies.verification import history as module
from hf_fusion.studies.verification.history import History

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *words):
    names = ["-c", "user.name=made", "-c", "user.email=made@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """Two commits that change the package, one that does not; the first one."""
    git(tmp_path, "init", "--quiet")
    for number, name in enumerate(("hf_fusion/__init__.py", "record.json", "hf_fusion/__init__.py")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(str(number))
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "-m", name)
    return tmp_path, git(tmp_path, "rev-list", "--max-parents=0", "HEAD").strip()


def test_known_commits(repository):
    folder, first = repository
    history = History(folder)
    assert history.reason == ""
    assert history.knows(first) and history.knows(first[:7]) and history.knows(f"{first}-dirty")
    assert not history.knows("HEAD"), "a commit that moves"
    assert not history.knows("0123456789") and history.count_later_changes("0123456789") is None


def test_later_changes_are_those_of_the_package(repository):
    folder, first = repository
    history = History(folder)
    assert history.count_later_changes(first) == history.count_later_changes(f"{first}-dirty") == 1
    record = history.last_commit(folder / "record.json")
    assert first.startswith(record) is False and history.count_later_changes(record) == 1
    assert history.last_commit(folder / "new.json") is None


def test_what_cannot_be_checked_is_said(repository, tmp_path_factory, monkeypatch):
    folder, first = repository
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    shallow = tmp_path_factory.mktemp("shallow")
    git(folder, "clone", "--quiet", "--depth", "1", f"file://{folder}", shallow)
    for place, reason in ((other, "not the Git repository of hf_fusion"), (shallow, "the clone is shallow")):
        history = History(place)
        assert reason in history.reason
        assert history.knows("0123456789") and history.count_later_changes(first) is None
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert "git is not installed" in History(folder).reason and History(folder).last_commit(folder) is None
