"""Reads docstrings in the form of the Hugging Face documents.

``[`name`]`` becomes a link to the API pages, the type in ``name (`int`, *optional*, defaults to 5):`` a plain `int`,
and the help of a dataclass field the docstring of that attribute.
"""

import ast
import re
from pathlib import Path

import griffe

_REFERENCE = re.compile(r"\[`~?([\w.]+?)(\(\))?`\](?!\(|\[)")
_PARAMETER = re.compile(r"^( +[*\w]+(?:, [*\w]+)*) \(([`*\[\w].*)\):", re.MULTILINE)
_DEFAULT = re.compile(r",? *defaults to .*$")


def _documented() -> dict[str, str]:
    """Short name -> full path of every object that an API page lists."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted((Path(__file__).parent / "api").glob("*.md")))
    return {path.rpartition(".")[2]: path for path in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)}


def _plain_type(match):
    kind = _DEFAULT.sub("", match[2]).replace("[`", "").replace("`]", "").translate(str.maketrans("", "", "`*"))
    return f"{match[1]}:" if kind == "optional" else f"{match[1]} ({kind}):"


def _help(node):
    """The text of `field(metadata={"help": "..."})`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Dict):
            for key, value in zip(part.keys, part.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help" and isinstance(value, ast.Constant):
                    return value.value
    return None


class HuggingFaceDocstrings(griffe.Extension):
    def __init__(self) -> None:
        self.documented = _documented()

    def on_instance(self, *, obj, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = _REFERENCE.sub(self._link, _PARAMETER.sub(_plain_type, obj.docstring.value))

    def on_attribute_instance(self, *, node, attr, **kwargs) -> None:
        if attr.docstring is None and isinstance(node, ast.AnnAssign) and node.value and (text := _help(node.value)):
            attr.docstring = griffe.Docstring(text, parent=attr)

    def _link(self, match):
        path = self.documented.get(match[1].rpartition(".")[2])
        return f"[`{match[1]}`][{path}]" if path else f"`{match[1]}`"
