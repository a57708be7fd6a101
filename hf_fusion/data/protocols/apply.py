"""Applies masks to encoded rows."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint
from transformers import ProcessorMixin

from hf_fusion.data.arrow_rows import ArrowRows, in_batches, lengths_of
from hf_fusion.data.protocols.base import Mode
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

# The id of the unknown token in the published codes: that of the vocabularies of BERT.
PUBLISHED_UNKNOWN = 100
_CHUNK = 256  # rows that are changed at a time


def maskable_lengths(encoded: Dataset, processor: ProcessorMixin) -> dict[str, list[int]]:
    """
    Counts the positions of each row that masks are for.

    Args:
        encoded (`Dataset`): the result of [`Architecture.encode`].
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor that encoded it.

    Returns:
        `dict[str, list[int]]`: by modality, the tokens, or frames within the limit of the processor, of each row. With
        two tokenisations the common spans of both, and two for the special tokens around them, since the same words
        must be lost in both.

    Raises:
        DataError: if there are two tokenisations without common spans.
    """
    lengths = {}
    if "input_ids" in encoded.column_names:
        _check_spans(encoded)
        if "input_ids_b" in encoded.column_names:
            rows = in_batches(ArrowRows(encoded.select_columns(["span_ids"])))
            lengths["text"] = [_span_count(row["span_ids"]) for row in rows]
        else:
            lengths["text"] = lengths_of(encoded, "input_ids")
    for name in STREAMS:
        if name in encoded.column_names:
            limit = getattr(processor.feature_extractor, f"max_{name}_length")
            lengths[name] = [min(length, limit) for length in lengths_of(encoded, name)]
    return lengths


def _check_spans(encoded):
    if "input_ids_b" in encoded.column_names and "span_ids" not in encoded.column_names:
        raise DataError(
            "The text has two tokenisations without common spans, so that the same words cannot be lost in both: use "
            "tokenizers with offsets (fast ones)."
        )


def _span_count(span_ids):
    return max(span_ids) + 3 if span_ids and max(span_ids) >= 0 else len(span_ids) and 2


def apply_masks(
    encoded: Dataset, masks: Mapping[str, Sequence[np.ndarray]], processor: ProcessorMixin, mode: Mode = "sound"
) -> Dataset:
    """
    Loses the parts of encoded rows that masks do not keep.

    A lost token becomes the unknown token; special tokens stay. A lost frame becomes one that the model reads as zeros:
    zeros, or the mean of the training data where the processor normalises. A modality that is lost as a whole is
    absent in sound mode, which the model fills by what it learned for it; in exact mode its positions are lost one by
    one, as published. A row that would have nothing left keeps its first modality, with every position lost.

    Args:
        encoded (`Dataset`): the result of [`Architecture.encode`].
        masks: the result of [`keep_masks`] for the [`maskable_lengths`] of these rows.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor that encoded them.
        mode (`str`, *optional*, defaults to `"sound"`): `"exact"` writes the token 100 for lost ones, as published.

    Returns:
        `Dataset`: the same rows and columns, in memory. (`length` stays that of the complete row.)

    Raises:
        DataError: if the tokenizer has no unknown token, or exact mode does not fit the text.
    """
    eraser = Eraser(encoded.column_names, processor, mode)
    table = encoded.with_format("arrow")[:]
    columns = eraser.columns(masks)
    chunks: dict[str, list[pa.Array]] = {name: [] for name in columns}
    rows = ArrowRows(encoded.select_columns(columns))
    for start in range(0, len(rows), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(rows)))
        erased = [
            eraser.erase(row, {name: kept[i] for name, kept in masks.items()})
            for i, row in zip(numbers, rows.__getitems__(list(numbers)), strict=True)
        ]
        for name in columns:
            chunks[name].append(_array([row[name] for row in erased], table.schema.field(name).type))
    for name in columns:
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.chunked_array(chunks[name], field.type))
    return Dataset(table, fingerprint=generate_random_fingerprint())


def _array(values, kind):
    """An Arrow array of rows; of frames `(frames, features)` without a Python object for each number."""
    if not isinstance(kind, pa.ExtensionType):
        return pa.array([row.tolist() if isinstance(row, np.ndarray) else row for row in values], type=kind)
    width = kind.shape[1]
    rows = [np.zeros((0, width), np.float32) if row is None else np.asarray(row, dtype=np.float32) for row in values]
    counts = list(map(len, rows))
    flat = pa.array(np.concatenate([row.reshape(-1) for row in rows]))
    frames = pa.ListArray.from_arrays(pa.array(np.arange(sum(counts) + 1, dtype=np.int32) * width), flat)
    rows = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *counts], dtype=np.int32)), frames)
    return pa.ExtensionArray.from_storage(kind, rows.cast(kind.storage_type))


class Eraser:
    """
    Loses parts of encoded rows; see [`apply_masks`].

    Args:
        columns (`Sequence[str]`): the columns of the rows.
        processor, mode: see [`apply_masks`].
    """

    def __init__(self, columns: Sequence[str], processor: ProcessorMixin, mode: Mode = "sound"):
        self.mode = mode
        self._has_spans = "input_ids_b" in columns
        self._text_columns, self._tokens = [], {}
        if "input_ids" in columns:
            names = getattr(processor, "text_input_names", processor.model_input_names)
            self._text_columns = [name for name in names if name in columns]
            tokenizers = zip(("input_ids", "input_ids_b"), processor.tokenizers, strict=False)
            self._tokens = {
                name: (self._unknown_token(tokenizer), tokenizer.all_special_ids) for name, tokenizer in tokenizers
            }
        extractor = getattr(processor, "feature_extractor", None)
        # frames that the model reads as zeros
        means = {name: getattr(extractor, f"{name}_mean") for name in STREAMS if name in columns}
        self._empty_frames = {name: np.float32(0 if mean is None else mean) for name, mean in means.items()}

    def _unknown_token(self, tokenizer):
        if self.mode == "exact":
            if self._has_spans:
                raise DataError("The published masks are for one tokenisation, the text has two: use the mode sound.")
            if len(tokenizer) <= PUBLISHED_UNKNOWN:
                raise DataError(f"The vocabulary has no token {PUBLISHED_UNKNOWN}, which exact mode writes.")
            return PUBLISHED_UNKNOWN
        if tokenizer.unk_token_id is None:
            raise DataError("The tokenizer has no unknown token, which stands for lost ones.")
        return tokenizer.unk_token_id

    def columns(self, masks: Mapping[str, Any]) -> list[str]:
        """Returns the columns that masks change."""
        return [*(self._text_columns if "text" in masks else []), *(name for name in STREAMS if name in masks)]

    def erase(self, row: Mapping[str, Any], kept: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns a copy of a row that loses all positions where `kept`, bool arrays by modality, is `False`."""
        row = dict(row)
        present = [name for name in MODALITIES if name in kept and len(kept[name])]
        left = [name for name in present if kept[name].any()]
        for name in present:
            is_absent = name not in left and self.mode == "sound" and (left or name != present[0])
            if name == "text":
                self._erase_text(row, kept[name], is_absent)
            elif is_absent:
                row[name] = row[name][:0]
            elif not kept[name].all():
                frames = np.asarray(row[name], dtype=np.float32)[: len(kept[name])]
                row[name] = np.where(kept[name][:, None], frames, self._empty_frames[name])
        return row

    def _erase_text(self, row, kept, is_absent):
        if is_absent:
            row.update({name: [] for name in self._text_columns})
            return
        for name, (unknown, special) in self._tokens.items():
            ids = np.array(row[name])
            lost = ~(kept[np.array(row[name.replace("input", "span")]) + 1] if self._has_spans else kept)
            if self.mode == "sound" or lost.all():
                lost &= ~np.isin(ids, special)
            row[name] = np.where(lost, unknown, ids).tolist()
