"""Checks codes of languages."""

import re


def is_language(code) -> bool:
    """Whether `code` is one of two or three letters, as ISO 639 has them, or "multilingual"."""
    return isinstance(code, str) and re.fullmatch(r"[a-z]{2,3}|multilingual", code) is not None


def check_language(code: str) -> None:
    """Raises `ValueError` unless [`is_language`]."""
    if not is_language(code):
        raise ValueError(f"A language is a code of two or three letters such as en, or multilingual, got {code!r:.60}.")
