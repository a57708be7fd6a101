"""Tables for papers."""

from collections.abc import Sequence
from typing import Any

import pandas as pd


def latex_table(rows: Sequence[dict[str, Any]], caption: str, digits: int = 4) -> str:
    r"""
    A table in LaTeX (`\usepackage{booktabs}`), with the special characters of names and texts escaped.

    Args:
        rows (`Sequence[dict]`): with the same keys, which become the head.
        caption (`str`): of the table, in LaTeX.
        digits (`int`, defaults to 4): decimals of numbers.
    """
    return pd.DataFrame(list(rows)).to_latex(
        index=False, escape=True, na_rep="--", float_format=f"%.{digits}f", caption=caption, position="t"
    )
