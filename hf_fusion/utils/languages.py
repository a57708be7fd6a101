"""Checks codes of languages."""

import re


def check_language(code: str) -> None:
    """Raises `ValueError` unless `code` is one of two or three letters, as ISO 639 has them, or "multilingual"."""
    if not isinstance(code, str) or not re.fullmatch(r"[a-z]{2,3}|multilingual", code):
        raise ValueError(f"A language is a code of two or three letters such as en, or multilingual, got {code!r:.60}.")
