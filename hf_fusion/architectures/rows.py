"""Removes encoded rows that a model cannot read, and counts truncated ones."""

import logging

import numpy as np
from datasets import Dataset

from hf_fusion.data.arrow_rows import lengths_of, values_of
from hf_fusion.data.splits import report_rejected
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

# Columns of encoded rows that mark truncated modalities.
TRUNCATED = {name: f"{name}_truncated" for name in ("text", *STREAMS)}
# Column with the number of windows of the text, if long texts are read in windows.
WINDOWS = "text_windows"


def drop_unreadable(encoded: Dataset, rows: Dataset, place: str, rejected_rows: str) -> tuple[Dataset, Dataset]:
    """
    Removes rows without any input for the model, such as texts without known tokens.

    Args:
        encoded (`Dataset`): the result of [`Architecture.encode`].
        rows (`Dataset`): the same rows before encoding.
        place (`str`): the origin of the rows, for messages.
        rejected_rows (`str`): `"error"` raises an error, `"drop"` logs a warning.

    Returns:
        `tuple[Dataset, Dataset]`: both data sets without these rows.

    Raises:
        DataError: with `rejected_rows="error"` if there are such rows; also if no row remains.
    """
    lengths = np.array(encoded["length"])
    empty = np.flatnonzero(lengths == 0)
    if not len(empty):
        return encoded, rows
    texts = rows.select_columns([name for name in ("id", "text") if name in rows.column_names]).select(empty)
    named = [f"{row.get('id', empty[i] + 1)} ({row.get('text')!r:.100})" for i, row in enumerate(texts)]
    report_rejected(place, {"no token that the tokenizers know": named}, rejected_rows)
    if len(empty) == len(lengths):
        raise DataError(f"{place}: no row remains.")
    kept = np.flatnonzero(lengths)
    return encoded.select(kept), rows.select(kept)


def encode_readable(
    architecture, rows: Dataset, processor, place: str, rejected_rows: str, long_texts: str = "cut"
) -> tuple[Dataset, Dataset, dict[str, int]]:
    """
    Encodes rows, and removes those that the model cannot read.

    Args:
        architecture ([`Architecture`]): the architecture of the model.
        rows, place, rejected_rows: see [`drop_unreadable`].
        processor (`ProcessorMixin`): the processor of the model.
        long_texts (`str`): `"cut"` or `"window"`; see [`Architecture.encode`].

    Returns:
        `tuple[Dataset, Dataset, dict[str, int]]`: the encoded rows, the same rows before encoding, and the number of
        truncated rows by modality.
    """
    encoded, rows = drop_unreadable(architecture.encode(rows, processor, long_texts), rows, place, rejected_rows)
    encoded, truncated = take_truncated(encoded)
    return encoded, rows, truncated


def get_length_limit(processor, modality: str) -> int:
    """Returns the maximum number of tokens or frames of a modality."""
    if modality == "text":
        return processor.max_length
    return getattr(processor.feature_extractor, f"max_{modality}_length")


def take_truncated(encoded: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Removes the `{modality}_truncated` columns; returns the other columns, and the number of truncated rows."""
    counts = {name: sum(encoded[column]) for name, column in TRUNCATED.items() if column in encoded.column_names}
    return encoded.remove_columns([TRUNCATED[name] for name in counts]), counts


def count_windows(encoded: Dataset) -> dict[str, int]:
    """Returns the number of texts with several windows, and of all windows; nothing if texts are not read so."""
    if WINDOWS not in encoded.column_names:
        return {}
    counts = np.array(values_of(encoded, WINDOWS))
    return {"texts": int((counts > 1).sum()), "windows": int(counts.sum())}


def warn_of_truncation(counts: dict[str, dict[str, int]], rows: dict[str, int], unit: str, processor) -> None:
    """
    Logs the number of truncated rows of each split and modality.

    Args:
        counts (`dict[str, dict[str, int]]`): the counts of [`take_truncated`] by split.
        rows (`dict[str, int]`): the number of rows by split.
        unit (`str`): `"review"` or `"clip"`.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): holds the limits.
    """
    for split, truncated in counts.items():
        for name, count in truncated.items():
            if count:
                parts = "tokens" if name == "text" else f"{name} frames"
                logger.warning(
                    "%s of %s %s %ss are cut to their first %d %s.",
                    f"{count:,}", f"{rows[split]:,}", split, unit, get_length_limit(processor, name), parts,
                )  # fmt: skip


def report_windows(counts: dict[str, dict[str, int]], unit: str) -> None:
    """Logs the counts of [`count_windows`] by split."""
    for split, found in counts.items():
        if found["texts"]:
            logger.warning(
                "%s %s %ss are read in several windows (%s windows in all).",
                f"{found['texts']:,}", split, unit, f"{found['windows']:,}",
            )  # fmt: skip


def token_counts(encoded: Dataset | dict[str, list]) -> list[int]:
    """Returns the number of tokens of each encoded row; of the longer one for two tokenisations."""
    if isinstance(encoded, Dataset):
        sides = [lengths_of(encoded, name) for name in encoded.column_names if name.startswith("input_ids")]
    else:
        sides = [list(map(len, encoded[name])) for name in encoded if name.startswith("input_ids")]
    return [max(pair) for pair in zip(*sides, strict=True)]
