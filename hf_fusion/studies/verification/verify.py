"""Finds the files to verify, and checks each one with all that it rests on."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from hf_fusion.studies.verification.cards import check_card, find_run, is_card, read_card
from hf_fusion.studies.verification.checks import FileChecks
from hf_fusion.studies.verification.history import History
from hf_fusion.studies.verification.pages import RESULTS, check_page, check_prose, find_results
from hf_fusion.studies.verification.records import check_record, collect_runs, read_record
from hf_fusion.studies.verification.runs import check_run, read_calibration, read_evidence, read_metrics
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import METRICS_FILE

CARD_TEMPLATE = "{{ card_data }}"


def verify(
    paths: Iterable[str | Path] = (),
    folder: str | Path = ".",
    track: Callable[[list[Path]], Iterable[Path]] = iter,
) -> list[FileChecks]:
    """
    Recomputes the numbers of results, cards and pages.

    Args:
        paths (`Iterable`, *optional*): records, pages, cards, run folders and folders with any of them; by default
            `README.md`, `docs` and `model_cards` of `folder`.
        folder (`str` or `Path`, *optional*, defaults to `"."`): the folder of the default files.
        track (`Callable`, *optional*): wraps the files for a progress bar.

    Returns:
        `list[FileChecks]`: the checks of each file, in the order of `paths`; then those of the records that pages and
        cards take numbers from.

    Raises:
        DataError: if a file does not exist, or is none that can be verified.

    Example:

    ```python
    from pathlib import Path

    from hf_fusion.studies.verification import verify

    Path("page.md").write_text("The accuracy is 0.81.")  # a number that rests on no record
    for checks in verify(["page.md"]):
        print(checks.path, dict(checks.counts), *checks.disagreements)
    ```
    """
    files = find_files(paths, Path(folder))
    verification = _Verification(History(files[0] if files[0].is_dir() else files[0].parent))
    for path in track(files):
        verification.check(path)
    checked = verification.checked
    return [checked[path] for path in dict.fromkeys([*files, *checked]) if path in checked]


def find_files(paths: Iterable[str | Path], folder: Path = Path(".")) -> list[Path]:
    """
    Returns the files and run folders to verify.

    Args:
        paths, folder: see [`verify`].

    Raises:
        DataError: if a path does not exist, or there is nothing to verify.
    """
    paths = [Path(path) for path in paths]
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(f"{missing[0]}: no such file or folder.")
    if not paths:
        paths = [path for path in (folder / "README.md", folder / "docs", folder / RESULTS.parent) if path.exists()]
        if not paths:
            raise DataError(
                f"{folder.resolve()} has neither README.md nor docs nor {RESULTS.parent}: "
                "name the files, or run folders, to verify."
            )
    found = [file for path in paths for file in ([path] if path.is_file() else _find_in(path))]
    if not found:
        raise DataError(f"{paths[0]}: nothing to verify (no result files, pages, cards or run folders).")
    return list(dict.fromkeys(map(_near, found)))


def _find_in(folder):
    """Returns the files in a folder that can be verified; a run folder is one of them, its files are not."""
    found = []
    for place, folders, names in os.walk(folder):
        path = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "checkpoint-")))
        if METRICS_FILE in names:
            found.append(path)
            continue
        found += [path / name for name in sorted(names) if name.endswith(".md") and _is_page(path / name)]
        found += [path / name for name in sorted(names) if name.endswith(".json") and _is_record(path / name)]
    return found


def _is_page(path):
    """Whether a file in Markdown is one by itself: no link to nowhere, no table of a result file beside it."""
    return path.is_file() and not path.with_suffix(".json").is_file()


def _is_record(path):
    try:
        read_record(path)
    except DataError:
        return False
    return True


class _Verification:
    """The checks of several files; a record that several pages take numbers from is checked once."""

    def __init__(self, history):
        self.history = history
        self.checked: dict[Path, FileChecks] = {}
        self.contents: dict[Path, dict] = {}

    def check(self, path):
        if path.is_dir():
            self.checked[path] = check_run(path)
            self._check_commits(self.checked[path])
            if (path / "README.md").is_file():
                known = {"evidence": read_evidence(path), "calibration": read_calibration(path)}
                self._check_markdown(path / "README.md", read_metrics(path), self.checked[path].basis, **known)
        elif path.suffix == ".json":
            self.record(path)
        elif path.suffix == ".md":
            self._check_markdown(path)
        else:
            raise DataError(f"{path}: neither a result file (.json) nor a page or card (.md) nor a run folder.")

    def record(self, path):
        """Returns a record and its checks."""
        path = _near(path)
        if path not in self.checked:
            self.checked[path] = check_record(path, self._read(path))
            self._check_commits(self.checked[path])
        return self._read(path), self.checked[path]

    def _read(self, path):
        path = _near(path)
        if path not in self.contents:
            self.contents[path] = read_record(path)
        return self.contents[path]

    def _check_commits(self, checks):
        """Checks the commits that a file names; a record that names none is as old as its last change."""
        checks.notes += [self.history.reason] if checks.commits and self.history.reason else []
        for commit in checks.commits:
            if commit.endswith("-dirty"):
                checks.notes.append(f"the code had uncommitted changes to commit {commit[:7]}")
            if not self.history.knows(commit):
                checks.fail("commit", commit, "no such commit in this repository")
        if not checks.commits:
            checks.name_commit(self.history.last_commit(checks.path))
        if checks.commits:
            checks.later_changes = self.history.count_later_changes(checks.commits[0])

    def _check_markdown(self, path, metrics=None, basis=None, **known):
        text = path.read_text(encoding="utf-8")
        if is_card(text):
            self.checked[path] = FileChecks(path, "card")
            self._check_card(self.checked[path], text, metrics, basis, known)
        elif CARD_TEMPLATE not in text and metrics is None:
            self.checked[path] = check_page(path, text, self.record, self.history)

    def _check_card(self, checks, text, metrics, basis, known):
        if metrics is not None:
            check_card(checks, metrics, basis, METRICS_FILE, **known)
            return
        results = find_results(checks.path)
        studies = [path for path in sorted(results.glob("*.json")) if _is_record(path)] if results else []
        runs = {(path, name): run for path in studies for name, run in collect_runs(self._read(path)).items()}
        run = find_run(read_card(checks.path)[0], runs.items())
        if run is None:
            checks.notes.append("neither its run nor a record of it was kept")
            check_card(checks, {}, None, None)
            return
        record, its_checks = self.record(run[0])
        check_card(checks, {"test": runs[run]}, its_checks.basis, f"{run[0].name}, {run[1]}")
        check_prose(checks, text, {run[0].stem: record})


def _near(path):
    """Returns a path relative to the working directory, where it lies in it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)
