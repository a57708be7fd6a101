import subprocess
import sys
from pathlib import Path

import pytest

from hf_fusion.data import temporary
from hf_fusion.data.reviews import ReviewSource, load_reviews
from hf_fusion.data.temporary import LOCK_FILE, new_data_folder, temporary_data, temporary_folder

# A process that says which folder is its own, and keeps it until its standard input ends.
OWNER = """
import pathlib, runpy, sys
temporary_folder = runpy.run_path(sys.argv[2])["temporary_folder"]  # importing the package takes seconds
with temporary_folder(parent=sys.argv[1]) as folder:
    pathlib.Path(folder, "rows.arrow").write_text("rows")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Starts such a process below `tmp_path`; returns it and its folder."""
    running = []

    def start():
        command = [sys.executable, "-c", OWNER, str(tmp_path), temporary.__file__]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1], Path(running[-1].stdout.readline().strip())

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_what_a_killed_process_has_left_is_removed_by_the_next(start, tmp_path):
    (killed, left), (living, kept) = start(), start()
    killed.kill()
    killed.wait()
    assert set(tmp_path.iterdir()) == {left, kept} and (left / "rows.arrow").exists()
    with temporary_folder(parent=tmp_path) as own:
        assert set(tmp_path.iterdir()) == {kept, Path(own)} and (kept / "rows.arrow").exists()
    assert list(tmp_path.iterdir()) == [kept]
    living.communicate()
    assert living.returncode == 0 and not list(tmp_path.iterdir()), "it has removed its own"


def test_reviews_lie_in_such_a_folder():
    reviews = load_reviews(ReviewSource(options={"num_train": 3, "num_validation": 1, "num_test": 1}))
    assert all(
        Path(split.cache_files[0]["filename"]).parents[1].joinpath(LOCK_FILE).exists() for split in reviews.values()
    )


def test_nothing_else_is_removed(tmp_path):
    """Neither what only has the name, nor what belongs to another purpose or to this process."""
    for name in ("hf_fusion-main", "prepared.1.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / "prepared.1.tmp" / LOCK_FILE).touch()
    with temporary_folder(parent=tmp_path) as first, temporary_folder(parent=tmp_path) as second:
        assert Path(first).is_dir() and Path(second).is_dir()
        assert len(list(tmp_path.iterdir())) == 4 and len(list(tmp_path.glob("*/mine.txt"))) == 2
    with temporary_folder("prepared.", ".tmp", tmp_path) as own:
        assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "hf_fusion-main", Path(own)])


def test_without_locks_nothing_is_removed_but_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary, "fcntl", None)
    (tmp_path / "hf_fusion-1").mkdir()
    (tmp_path / "hf_fusion-1" / LOCK_FILE).touch()
    with temporary_folder(parent=tmp_path) as own:
        assert len(list(tmp_path.iterdir())) == 2 and not Path(own, LOCK_FILE).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hf_fusion-1"]


def test_data_that_is_read_goes_with_its_run(tmp_path):
    (tmp_path / "reviews.csv").write_text("text,stars\nGood.,5\nBad.,1\n")

    @temporary_data()
    def run():
        reviews = load_reviews(ReviewSource(str(tmp_path / "reviews.csv"), split_shares=(1, 0, 0)))
        (file,) = reviews["train"].cache_files
        assert Path(file["filename"]).is_file()
        return file["filename"], reviews

    first, reviews = run()
    second, _ = run()
    assert not Path(first).exists() and not Path(second).exists() and first != second
    assert reviews["train"]["text"][:] == ["Good.", "Bad."], "what is mapped stays readable"
    assert Path(new_data_folder()).is_dir(), "that of the process is there again"
