"""Tables for papers in LaTeX."""

from collections.abc import Sequence
from typing import Any

import pandas as pd


def latex_table(rows: Sequence[dict[str, Any]], caption: str, digits: int = 4) -> str:
    r"""
    Formats a table in LaTeX (`\usepackage{booktabs}`) and escapes special characters.

    Args:
        rows (`Sequence[dict]`): the rows with the same keys, which become the header.
        caption (`str`): the caption in LaTeX.
        digits (`int`, *optional*, defaults to 4): the number of decimals.
    """
    return pd.DataFrame(list(rows)).to_latex(
        index=False, escape=True, na_rep="--", float_format=f"%.{digits}f", caption=caption, position="t"
    )
