"""One HTML page that needs nothing else, and the same as JSON."""

import base64
from html import escape
from pathlib import Path
from typing import Any

from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.utils.records import write_json

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .3rem .7rem; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top; } img { max-width: 100%; }
.fine { color: #17692b; } .look { color: #a3150f; font-weight: 600; }
.information { color: #555; } code { background: #f3f3f3; }
"""


def write_report(folder: Path, title: str, facts: dict[str, Any], sections: list[Section]) -> list[Path]:
    """
    Writes `report.html` and `report.json`.

    Args:
        folder: of the report; the pictures are there already.
        title: of the page.
        facts: what was examined, where and how: goes into the JSON, and the short ones to the top of the page.
        sections: the report.

    Returns:
        The two files.
    """
    page, record = folder / "report.html", folder / "report.json"
    page.write_text(_page(title, facts, sections), encoding="utf-8")
    write_json(record, {**facts, "sections": [section.record() for section in sections]})
    return [page, record]


def _page(title, facts, sections):
    worrying = [(s, f) for s in sections for f in s.findings if f.ok is False]
    summary = "".join(
        f"<li>{escape(section.title)}: {escape(finding.name)}. {escape(finding.text)}</li>"
        for section, finding in worrying
    )
    head = f"<ul class=look>{summary}</ul>" if worrying else "<p class=fine>Nothing that needs a look was found.</p>"
    short = {name: value for name, value in facts.items() if isinstance(value, (str, int, float))}
    told = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in short.items())
    body = "".join(map(_section, sections))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1>{head}<table>{told}</table>{body}</html>\n"
    )


def _section(section):
    rows = "".join(
        f"<tr><td>{escape(f.name)}</td><td>{escape(_shown(f.value))}</td><td>{escape(f.limit)}</td>"
        f"<td class={f.verdict.split()[0] if f.ok is not None else 'information'}>{f.verdict}</td>"
        f"<td>{escape(f.text)}</td></tr>"
        for f in section.findings
    )
    checks = f"<table><tr><th>check</th><th>found</th><th>limit</th><th>verdict</th><th>meaning</th></tr>{rows}</table>"
    pictures = "".join(
        f'<p><img alt="{escape(picture.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture.read_bytes()).decode()}"></p>'
        for picture in section.pictures
    )
    tables = "".join(_table(title, rows) for title, rows in section.tables.items())
    text = f"<p>{escape(section.text)}</p>"
    return f"<h2>{escape(section.title)}</h2>{text}{checks if rows else ''}{pictures}{tables}"


def _table(title, rows):
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(v))}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<h3>{escape(title)}</h3><table><tr>{head}</tr>{body}</table>"


def _shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
