"""Commits that records and pages name: known to the repository, and how much changed since."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path


class History:
    """
    The Git history around a folder.

    Args:
        folder (`Path`): a folder in the repository.

    `reason` says why commits cannot be checked (no Git, another repository, a shallow clone); it is empty otherwise.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.reason = self._find_reason()

    def _find_reason(self):
        if shutil.which("git") is None:
            return "commits were not checked: git is not installed"
        root = self._git("rev-parse", "--show-toplevel")
        if root is None or not Path(root, "hf_fusion", "__init__.py").is_file():
            return "commits were not checked: this is not the Git repository of hf_fusion"
        is_shallow = self._git("rev-parse", "--is-shallow-repository") == "true"
        return "commits were not checked: the clone is shallow" if is_shallow else ""

    @cache  # noqa: B019 - one object for a verification
    def knows(self, commit: str) -> bool:
        """Whether the repository has a commit (`-dirty` after it is ignored); true where that cannot be checked."""
        if self.reason:
            return True
        name = commit.removesuffix("-dirty")
        is_hash = re.fullmatch("[0-9a-f]{7,64}", name) is not None  # no branch, which moves
        return is_hash and self._git("cat-file", "-e", f"{name}^{{commit}}") is not None

    @cache  # noqa: B019
    def count_later_changes(self, commit: str) -> int | None:
        """Counts the later commits that change the package; `None` if that cannot be told."""
        if self.reason or not self.knows(commit):
            return None
        count = self._git("rev-list", "--count", f"{commit.removesuffix('-dirty')}..HEAD", "--", ":/hf_fusion")
        return None if count is None else int(count)

    @cache  # noqa: B019
    def last_commit(self, path: Path) -> str | None:
        """Returns the abbreviated commit that last changed a file, `None` if there is none."""
        return None if self.reason else self._git("log", "-1", "--format=%h", "--", str(path.resolve())) or None

    def _git(self, *words):
        """Returns the output of a Git command; `None` if it fails."""
        process = subprocess.run(["git", "-C", str(self.folder), *words], capture_output=True, text=True, check=False)
        return process.stdout.strip() if process.returncode == 0 else None
