"""Turns ``[`name`]`` in docstrings, the form of the Hugging Face documents, into links to the API pages."""

import re
from pathlib import Path

import griffe

_REFERENCE = re.compile(r"\[`~?([\w.]+?)(\(\))?`\](?!\(|\[)")


def _documented() -> dict[str, str]:
    """Short name -> full path of every object that an API page lists."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted((Path(__file__).parent / "api").glob("*.md")))
    return {path.rpartition(".")[2]: path for path in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)}


class HuggingFaceLinks(griffe.Extension):
    def __init__(self) -> None:
        self.documented = _documented()

    def on_instance(self, *, obj, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = _REFERENCE.sub(self._link, obj.docstring.value)

    def _link(self, match):
        path = self.documented.get(match[1].rpartition(".")[2])
        return f"[`{match[1]}`][{path}]" if path else f"`{match[1]}`"
