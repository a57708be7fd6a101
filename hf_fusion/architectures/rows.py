"""Encoded rows: which of them a model can read, and what of them is cut."""

import logging

import numpy as np
from datasets import Dataset

from hf_fusion.data.arrow_rows import lengths_of
from hf_fusion.data.splits import report_rejected
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

# Columns of encoded rows that say whether a modality was cut.
TRUNCATED = {name: f"{name}_truncated" for name in ("text", *STREAMS)}


def drop_unreadable(encoded: Dataset, rows: Dataset, place: str, policy: str) -> tuple[Dataset, Dataset]:
    """
    Leaves out rows without a token, or anything else, that the model could read.

    Args:
        encoded: the rows as [`Architecture.encode`] returns them.
        rows: the same rows before.
        place: of the rows, for messages.
        policy: "error" raises, "drop" logs a warning.

    Returns:
        Both without these rows.

    Raises:
        DataError: with `policy="error"`, if there are any; or if no row is left.
    """
    lengths = np.array(encoded["length"])
    empty = np.flatnonzero(lengths == 0)
    if not len(empty):
        return encoded, rows
    texts = rows.select_columns([name for name in ("id", "text") if name in rows.column_names]).select(empty)
    named = [f"{row.get('id', empty[i] + 1)} ({row.get('text')!r:.100})" for i, row in enumerate(texts)]
    report_rejected(place, {"no token that the tokenizers know": named}, policy)
    if len(empty) == len(lengths):
        raise DataError(f"{place}: no row is left.")
    kept = np.flatnonzero(lengths)
    return encoded.select(kept), rows.select(kept)


def encode_readable(
    architecture, rows: Dataset, processor, place: str, policy: str
) -> tuple[Dataset, Dataset, dict[str, int]]:
    """
    Encodes rows and leaves out the unreadable ones.

    Args:
        architecture ([`Architecture`]): encodes them.
        rows, place, policy: as in [`drop_unreadable`].
        processor: of the model.

    Returns:
        The encoded rows, the same rows before, and how many are cut, by modality.
    """
    encoded, rows = drop_unreadable(architecture.encode(rows, processor), rows, place, policy)
    encoded, truncated = take_truncated(encoded)
    return encoded, rows, truncated


def limit_of(processor, modality: str) -> int:
    """The most tokens, or frames, that are read of a modality."""
    if modality == "text":
        return processor.max_length
    return getattr(processor.feature_extractor, f"max_{modality}_length")


def take_truncated(encoded: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Takes the columns away that say what was cut; returns the other ones, and by modality the number of cut rows."""
    counts = {name: sum(encoded[column]) for name, column in TRUNCATED.items() if column in encoded.column_names}
    return encoded.remove_columns([TRUNCATED[name] for name in counts]), counts


def warn_of_truncation(counts: dict[str, dict[str, int]], rows: dict[str, int], unit: str, processor) -> None:
    """
    Logs what is cut, a line for each split and modality.

    Args:
        counts: for each split what [`take_truncated`] returns.
        rows: number of rows of each split.
        unit: "review" or "clip".
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): knows the limits.
    """
    for split, found in counts.items():
        for name, count in found.items():
            if count:
                parts = "tokens" if name == "text" else f"{name} frames"
                logger.warning(
                    "%s of %s %s %ss are cut to their first %d %s.",
                    f"{count:,}", f"{rows[split]:,}", split, unit, limit_of(processor, name), parts,
                )  # fmt: skip


def token_counts(encoded: Dataset | dict[str, list]) -> list[int]:
    """Tokens of each encoded row; with two tokenisations, of the longer one."""
    if isinstance(encoded, Dataset):
        sides = [lengths_of(encoded, name) for name in encoded.column_names if name.startswith("input_ids")]
    else:
        sides = [list(map(len, encoded[name])) for name in encoded if name.startswith("input_ids")]
    return [max(pair) for pair in zip(*sides, strict=True)]
