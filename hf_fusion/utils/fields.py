"""Fields of recipes and command lines: how they are declared, and whether values fit them."""

import dataclasses
from dataclasses import field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def option(text, default=None):
    """A field of a recipe with its help."""
    return field(default=default, metadata={"help": text})


def list_option(text, default):
    """A field of a recipe that holds a list."""
    return field(default_factory=lambda: list(default), metadata={"help": text})


def has_changed(item: dataclasses.Field, value: Any) -> bool:
    """Whether a field of a dataclass has another value than its default."""
    default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    return value != default


def wrong_field(cls: type, values: dict[str, Any], as_flags: bool = False) -> str | None:
    """
    The first value that is not of its field's type.

    Args:
        cls: a dataclass.
        values: by the name of a field; other names are passed over.
        as_flags: whether texts are read as on a command line where a number or a truth value is meant, and `no` (which
            YAML takes for false) where a text is.

    Returns:
        What is wrong with it; `None` if nothing is.
    """
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if item.name not in values:
            continue
        value, hint = values[item.name], hints[item.name]
        if value != value:
            return f"{item.name} is no number (NaN)."
        if not (_matches(value, hint) or (as_flags and _read_from_text(value, hint))):
            return f"{item.name} must be {_named(hint)}, got {value!r:.200}."
    return None


def _matches(value, hint):
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Any:
        return True
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_matches(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_matches(item, parts[0]) for item in value if parts)
    if origin is dict:
        return isinstance(value, dict) and all(
            _matches(part, wanted) for pair in value.items() for part, wanted in zip(pair, parts, strict=False)
        )
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    return not isinstance(origin, type) or isinstance(value, origin)


def _read_from_text(value, hint):
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    scalar = any(kind is not NoneType and isinstance(kind, type) and kind not in (dict, list) for kind in kinds)
    return scalar and (isinstance(value, str) or (value is False and str in kinds))


def _named(hint):
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_named, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list of {_named(get_args(hint)[0]).partition(' ')[2] or 'value'}s"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    names = {NoneType: "null", str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if dict in (hint, get_origin(hint)):
        return "a mapping"
    return names.get(hint) or getattr(hint, "__name__", str(hint))
