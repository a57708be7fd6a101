"""Reads docstrings in the form of the Hugging Face documents.

``[`name`]`` becomes a link to the API pages, and ``name (`int`, *optional*, defaults to 5):`` a parameter whose type is
plain.
"""

import re
from pathlib import Path

import griffe

_REFERENCE = re.compile(r"\[`~?([\w.]+?)(\(\))?`\](?!\(|\[)")
_PARAMETER = re.compile(r"^( +[*\w]+(?:, [*\w]+)*) \((`.*|\w.*)\):", re.MULTILINE)
_DEFAULT = re.compile(r",? *defaults to .*$")


def _documented() -> dict[str, str]:
    """Short name -> full path of every object that an API page lists."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted((Path(__file__).parent / "api").glob("*.md")))
    return {path.rpartition(".")[2]: path for path in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)}


def _plain_type(match):
    return f"{match[1]} ({_DEFAULT.sub('', match[2]).translate(str.maketrans('', '', '`*'))}):"


class HuggingFaceDocstrings(griffe.Extension):
    def __init__(self) -> None:
        self.documented = _documented()

    def on_instance(self, *, obj, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = _PARAMETER.sub(_plain_type, _REFERENCE.sub(self._link, obj.docstring.value))

    def _link(self, match):
        path = self.documented.get(match[1].rpartition(".")[2])
        return f"[`{match[1]}`][{path}]" if path else f"`{match[1]}`"
