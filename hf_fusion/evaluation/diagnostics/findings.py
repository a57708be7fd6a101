"""What a diagnosis says: numbers with their limits and verdicts, pictures, and plain words."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Finding:
    """
    One check.

    Args:
        name: what was checked.
        value: what was found.
        limit: what it is compared with, in words, such as "at most 0.9".
        ok: the verdict; `None` where there is nothing to judge.
        text: what it means.
    """

    name: str
    value: float
    limit: str
    ok: bool | None
    text: str

    @property
    def verdict(self) -> str:
        """`"fine"`, `"look here"` or `"for information"`."""
        return {True: "fine", False: "look here", None: "for information"}[self.ok]


@dataclass
class Section:
    """
    A part of the report.

    Args:
        title, text: what it is about, in plain words.
        findings: its checks.
        pictures: PNG files in the report's folder.
        tables: by title a list of rows (dicts with the same keys).
        data: everything else that a machine may want to read.
    """

    title: str
    text: str
    findings: list[Finding] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "text": self.text,
            "findings": [{**asdict(finding), "verdict": finding.verdict} for finding in self.findings],
            "pictures": [picture.name for picture in self.pictures],
            "tables": self.tables,
            **self.data,
        }


def at_most(name: str, value: float, limit: float, good: str, bad: str) -> Finding:
    """A check that a value does not exceed a limit; `good` and `bad` say what either outcome means."""
    ok = value <= limit
    return Finding(name, value, f"at most {limit:g}", ok, good if ok else bad)


def at_least(name: str, value: float, limit: float, good: str, bad: str) -> Finding:
    """A check that a value reaches a limit."""
    ok = value >= limit
    return Finding(name, value, f"at least {limit:g}", ok, good if ok else bad)
