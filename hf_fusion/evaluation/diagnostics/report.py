"""Writes a report as a self-contained HTML page, JSON and figures."""

import base64
import io
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.evaluation.plots import save_figure
from hf_fusion.utils.records import write_json

_TEMPLATE = "report.html.jinja"


def write_report(
    folder: Path, title: str, facts: dict[str, Any], sections: list[Section], picture_format: str = "png"
) -> list[Path]:
    """
    Writes `report.html`, `report.json` and the figures.

    Args:
        folder (`Path`): the output folder.
        title (`str`): the title of the page.
        facts (`dict`): checkpoint, data and environment. Written to the JSON; strings and numbers also to the top of
            the page.
        sections (`list[Section]`): the report.
        picture_format (`str`, *optional*, defaults to `"png"`): the format of the figure files, `"png"`, `"pdf"` or
            `"svg"`. The page embeds its own figures.

    Returns:
        `tuple[Path, Path]`: the paths of the page and of the JSON file.
    """
    page, record = folder / "report.html", folder / "report.json"
    parts = []
    for section in sections:
        names = [f"{name}.{picture_format}" for name in section.figures]
        for name, figure in zip(names, section.figures.values(), strict=True):
            save_figure(figure, folder / name)
        parts.append({**section.record(), "pictures": names})
    drawn = folder if picture_format == "png" else None
    page.write_text(render_report(title, facts, sections, drawn), encoding="utf-8")
    write_json(record, {**facts, "sections": parts})
    return [page, record]


def render_report(title: str, facts: dict[str, Any], sections: list[Section], drawn: Path | None = None) -> str:
    """
    Renders the HTML page of a report; see [`write_report`].

    Args:
        title, facts, sections: see [`write_report`].
        drawn (`Path`, *optional*): a folder with the figures as PNG files, which the page embeds; by default it draws
            them.
    """
    environment = Environment(
        loader=PackageLoader("hf_fusion.evaluation.diagnostics", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"short": _short, "embedded": partial(_encode_png, drawn)}
    shown = {name: value for name, value in facts.items() if isinstance(value, (str, int, float))}
    return environment.get_template(_TEMPLATE).render(title=title, facts=shown, sections=sections)


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _encode_png(drawn, name, figure):
    """Returns a figure as PNG in base64: the file in the folder `drawn`, or without a folder drawn here."""
    content = io.BytesIO()
    if drawn is None:
        figure.savefig(content, format="png", dpi=150)
    else:
        content.write((drawn / f"{name}.png").read_bytes())
    return base64.b64encode(content.getvalue()).decode("ascii")
