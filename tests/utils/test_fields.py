from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import check_choices, wrong_field


@dataclass
class Fields:
    rate: float = 0.1
    count: int | None = None
    flag: bool = False
    text: str = ""
    when: Literal["epoch", "no"] = "epoch"
    source: Literal["bank", "refresh"] | None = None
    columns: dict | str | None = None
    numbers: list[float] = field(default_factory=list)
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    encoder: str | dict[str, Any] = ""
    words: list[str] | None = None


RIGHT = {
    "rate": [0.5, 1], "count": [3, None], "flag": [True, False], "text": ["a"], "when": ["epoch", "no"],
    "source": ["bank", None], "columns": [{"a": 1}, "{}", None], "numbers": [[], [1, 0.5]],
    "table": [{}, {"a": {"b": 1}}], "encoder": ["x", {"a": None}],
    "words": [["a", "b"], None],
}  # fmt: skip
WRONG = {
    "rate": ([True, "x", None, [1]], "a number"),
    "count": ([1.5, True, "3"], "a whole number or null"),
    "flag": ([1, "true"], "true or false"),
    "text": ([1, False, None], "a text"),
    "when": (["never", False, None, 1], "one of epoch, no"),
    "source": (["banks", False], "one of bank, refresh or null"),
    "columns": ([["a"], 1], "a mapping or a text or null"),
    "numbers": ([1, ["a"], [True], (1,)], "a list of numbers"),
    "table": ([{"a": 1}, {1: {}}], "a mapping"),
    "encoder": ([None], "a text or a mapping"),
    "words": ([1, [1]], "a list of texts or null"),
}
# As on a command line, or as YAML reads them.
FLAGS = {
    "rate": ["1e-4"],
    "count": ["3"],
    "flag": ["no"],
    "text": [False],
    "when": [False],
    "columns": [False],
    "words": ["a"],
}


@pytest.mark.parametrize("name", RIGHT)
def test_values_of_a_field(name):
    for value in RIGHT[name]:
        assert wrong_field(Fields, {name: value, "other": object()}) is None
        assert wrong_field(Fields, {name: value}, as_flags=True) is None
    values, named = WRONG[name]
    for value in values:
        assert wrong_field(Fields, {name: value}) == f"{name} must be {named}, got {value!r}."


@pytest.mark.parametrize("name", RIGHT)
def test_values_as_flags(name):
    for value in FLAGS.get(name, []):
        assert wrong_field(Fields, {name: value}, as_flags=True) is None
    for value in WRONG[name][0]:
        scalar = isinstance(value, str) and name in ("rate", "count", "flag")
        accepted = scalar or value in FLAGS.get(name, [])
        assert (wrong_field(Fields, {name: value}, as_flags=True) is None) == accepted, value


def test_what_is_no_number():
    assert wrong_field(Fields, {"rate": float("nan")}) == "rate is no number (NaN)."


def test_choices():
    check_choices(Fields(when="no", source="refresh"))
    with pytest.raises(RecipeError, match=r"`when` must be one of epoch, no, got 'never'\."):
        check_choices(Fields(when="never"))
    with pytest.raises(RecipeError, match=r"`source` must be one of bank, refresh or null, got ''\."):
        check_choices(Fields(source=""))
