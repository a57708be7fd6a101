"""Answers to HTML. Everything that a person typed or uploaded is escaped by the templates."""

import re
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_fusion.data.decoding import SURROGATE
from hf_fusion.deployment.demo.answers import Answer
from hf_fusion.deployment.demo.checkpoints import DemoModel
from hf_fusion.deployment.demo.recordings import HEIGHT, WIDTH, Recording
from hf_fusion.deployment.demo.tables import PredictedTable

SHOWN_ROWS = 50
_LONGEST_CELL = 300
# Control characters that HTML does not hold.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def render_models(models: list[DemoModel]) -> str:
    """The head of the page."""
    return _render("page", models=models)


def render_answers(answers: list[Answer], text: str | None = None) -> str:
    """The answers of all checkpoints to one input; `text` is shown below them."""
    return _render("answers", answers=answers, text=text)


def render_table(table: PredictedTable) -> str:
    """The first rows of a table, and what is to be known of it."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    columns.sort(key=lambda name: name != "error" or not table.failed)  # errors are read first
    return _render("table", table=table, columns=columns, shown=table.rows[:SHOWN_ROWS])


def render_recording(recording: Recording) -> str:
    """The player and the curves; gradio serves the file from its folder of uploads."""
    url = f"gradio_api/file={quote(recording.path)}"
    return _render("recording", recording=recording, url=url, width=WIDTH, height=HEIGHT)


def render_error(reason: str) -> str:
    """The reason why there is no answer."""
    return _ERROR.render(it=reason)


def render_note(text: str) -> str:
    """A line of small print."""
    return _NOTE.render(it=text)


def _render(name, **values):
    return _environment.get_template(f"{name}.html.jinja").render(values)


def _showable(value):
    """A value without what no page can hold: lone surrogates and control characters."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # the latter is HTML of the templates
        return value
    return _CONTROLS.sub("�", SURROGATE.sub("�", value))


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return _showable(text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…")


def _clock(seconds):
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _facts(model):
    """The kind of a model in a line."""
    config = model.config
    answers = f"{config.num_labels} classes"
    if not model.has_classes:
        answers = "a score from {:g} to {:g}".format(*config.label_range)
    size = f"{model.model.num_parameters() / 1e6:,.1f} million weights"
    return f"{config.model_type}, {size}. It reads {', '.join(config.modalities)}, and answers {answers}."


_environment = Environment(
    loader=PackageLoader("hf_fusion.deployment.demo", "."), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, finalize=_showable,
)  # fmt: skip
_environment.filters |= {"cell": _cell, "clock": _clock, "facts": _facts}
_ERROR = _environment.from_string('<p class="hf-error hf-card" role="alert" dir="auto">{{ it }}</p>')
_NOTE = _environment.from_string('<p class="hf-note" dir="auto">{{ it }}</p>')
