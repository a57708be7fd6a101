"""The parts of a report: checks with limits and verdicts, figures, tables and text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VERDICTS = {True: "ok", False: "warning", None: "info"}


@dataclass
class Finding:
    """
    One check.

    Args:
        name (`str`): the name of the check.
        value (`float`): the result.
        limit (`str`): the limit or reference that the value is compared with, such as `"at most 0.9"`.
        ok (`bool` or `None`): whether the check passed; `None` if it only informs.
        text (`str`): the meaning of the result.
        interval (`tuple[float, float]`, *optional*): the 95 % interval of the value.
    """

    name: str
    value: float
    limit: str
    ok: bool | None
    text: str
    interval: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """`"ok"`, `"warning"` or `"info"`."""
        return _VERDICTS[self.ok]

    @property
    def shown(self) -> str:
        """`str`: the value, with its interval if there is one."""
        interval = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        return f"{self.value:.4g}{interval}"


@dataclass
class Section:
    """
    A part of the report.

    Args:
        title, text (`str`): heading and introduction.
        findings (`list[Finding]`): the checks.
        figures (`dict[str, Figure]`): the figures by file name without suffix.
        tables (`dict[str, list[dict]]`): the rows of each table (dicts with the same keys) by its title.
        data (`dict`): further results, for JSON.
        quotes (`tuple(str)`): the parts that quote single rows, as paths: `"figures.NAME"`, `"tables.TITLE"`,
            `"data.NAME.NAME"`.
    """

    title: str
    text: str
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    quotes: tuple[str, ...] = ()

    def without_quotes(self) -> Section:
        """Returns the section without its quotes of single rows, for data that must not be shown."""
        parts = {"figures": self.figures, "tables": self.tables, "data": self.data}
        return replace(self, **_without(parts, self.quotes), quotes=())

    def record(self) -> dict[str, Any]:
        """Returns the section for JSON, without its figures."""
        return {
            "title": self.title,
            "text": self.text,
            "findings": [{**asdict(finding), "verdict": finding.verdict} for finding in self.findings],
            "tables": self.tables,
            **self.data,
        }


def _without(data, paths, prefix=""):
    """Returns nested results without those at the paths, whose parts are joined by dots."""
    return {
        name: _without(value, paths, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in data.items()
        if f"{prefix}{name}" not in paths
    }


def at_most(name: str, value: float, limit: float, good: str, bad: str, interval=None) -> Finding:
    """Checks that a value does not exceed a limit; `good` and `bad` are the texts of the two outcomes."""
    ok = value <= limit
    return Finding(name, value, f"at most {limit:g}", ok, good if ok else bad, interval)


def at_least(name: str, value: float, limit: float, good: str, bad: str, interval=None) -> Finding:
    """Checks that a value reaches a limit; `good` and `bad` are the texts of the two outcomes."""
    ok = value >= limit
    return Finding(name, value, f"at least {limit:g}", ok, good if ok else bad, interval)
