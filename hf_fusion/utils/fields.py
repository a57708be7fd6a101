"""Declares the fields of recipes and command lines, and checks their values."""

import dataclasses
from dataclasses import field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hf_fusion.utils.errors import RecipeError


def option(text, default=None):
    """Declares a field of a recipe with its help text."""
    return field(default=default, metadata={"help": text})


def list_option(text, default):
    """Declares a field of a recipe that holds a list."""
    return field(default_factory=lambda: list(default), metadata={"help": text})


def has_changed(item: dataclasses.Field, value: Any) -> bool:
    """Whether the value of a dataclass field differs from its default."""
    default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    return value != default


def check_choices(arguments: Any) -> None:
    """Raises [`RecipeError`] if a dataclass field declared as `Literal` has a value outside its choices."""
    for name, hint in get_type_hints(type(arguments)).items():
        if _choices(hint) and not _matches(value := getattr(arguments, name, None), hint):
            raise RecipeError(f"`{name}` must be {_describe_hint(hint)}, got {value!r:.100}.")


def wrong_field(cls: type, values: dict[str, Any], as_flags: bool = False) -> str | None:
    """
    Finds the first value that does not have the type of its field.

    Args:
        cls (`type`): a dataclass.
        values (`dict[str, Any]`): values by field name; names that are not fields are ignored.
        as_flags (`bool`, *optional*, defaults to `False`): whether to accept strings for numbers and booleans and a
            single string for a list of strings, as on a command line, and `False` for strings, since YAML reads `no`
            as false.

    Returns:
        `str` or `None`: the error message, `None` if all values fit.
    """
    hints = get_type_hints(cls)
    for name in (item.name for item in dataclasses.fields(cls) if item.name in values):
        value, hint = values[name], hints[name]
        if value != value:
            return f"{name} is no number (NaN)."
        if not (_matches(value, hint) or (as_flags and _is_flag(value, hint))):
            return f"{name} must be {_describe_hint(hint)}, got {value!r:.200}."
    return None


def _members(hint):
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _choices(hint):
    return [choice for kind in _members(hint) if get_origin(kind) is Literal for choice in get_args(kind)]


def _matches(value, hint):
    return any(_has_type(value, kind) for kind in _members(hint))


def _has_type(value, kind):
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list) and all(_matches(item, parts[0]) for item in value if parts)
    if origin is dict:
        return isinstance(value, dict) and all(
            _matches(part, part_hint) for pair in value.items() for part, part_hint in zip(pair, parts, strict=False)
        )
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    return origin is Any or isinstance(value, origin)


def _is_flag(value, hint):
    kinds = _members(hint)
    if value is False:
        return str in kinds or "no" in _choices(hint)
    plain = any(get_origin(kind) is None and kind not in (NoneType, dict) for kind in kinds)
    return isinstance(value, str) and (plain or is_text_list(hint))


def is_text_list(hint: Any) -> bool:
    """Whether a field holds a list of strings, and never a single one."""
    return list[str] in _members(hint) and str not in _members(hint)


def _describe_hint(hint):
    kinds = [kind for kind in _members(hint) if get_origin(kind) is not Literal]
    choices = [f"one of {', '.join(map(str, _choices(hint)))}"] if _choices(hint) else []
    return " or ".join([*choices, *map(_describe_type, kinds)])


def _describe_type(kind):
    if get_origin(kind) is list:
        return f"a list of {_describe_hint(get_args(kind)[0]).partition(' ')[2] or 'value'}s"
    if dict in (kind, get_origin(kind)):
        return "a mapping"
    names = {NoneType: "null", str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind) or getattr(kind, "__name__", str(kind))
