"""Rows of a tokenised data set -> one padded batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# Field that `IndexedRows` adds to a row: the trainer learns from it which clips a batch holds.
ROW_NUMBER = "_row"
# Missing labels: the value that the loss passes over. `labels` are classes, or scores where they are floats.
LABEL_FILLS = {"labels": -100, "coarse_labels": -100, "intensity_labels": float("nan")}


@dataclass
class FusionCollator:
    """
    Pads each of the processor's sequences to the longest in the batch and gathers the labels.

    A label column that only some rows have, or that holds `None`, becomes -100 (classes) or NaN (intensity, and scores
    or several labels in `labels`) where it is missing. `_row`, the row's number in the training data, is kept; other
    columns (`id`, `text`, `length` ...) stay behind.

    Args:
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): pads the rows.
        pad_to_multiple_of (`int`, *optional*): rounds the padded lengths up, for tensor cores.
        padding (`bool` or `str`): `True` pads to the longest of the batch, "max_length" to the processor's limits.

    Example:

    ```python
    from datasets import Dataset
    from hf_fusion import DyFuLMProcessor, FusionCollator
    from hf_fusion.data.tokenizers import train_tokenizer

    texts = ["The bed was good.", "Not clean."]
    processor = DyFuLMProcessor(train_tokenizer(texts, "wordpiece", 100))
    rows = Dataset.from_dict({**processor.encode_text(texts), "labels": [4, None]})
    batch = FusionCollator(processor)(list(rows))
    batch["labels"]  # tensor([4, -100])
    ```
    """

    processor: Any
    pad_to_multiple_of: int | None = None
    padding: bool | str = True

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if any(row.get("text") is not None and row.get("input_ids") is None for row in features):
            raise ValueError(
                "A row has a `text` but no `input_ids`: encode the texts first (`processor.encode_text`), or leave the "
                "column out."
            )
        padded = set(self.processor.padded_columns)
        rows = [{name: value for name, value in row.items() if name in padded} for row in features]
        batch = self.processor.pad(
            rows, padding=self.padding, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="np"
        )
        batch = {name: torch.from_numpy(values) for name, values in batch.items()}
        for name, fill in LABEL_FILLS.items():
            if any(name in row for row in features):
                batch[name] = torch.from_numpy(fill_labels([row.get(name) for row in features], fill))
        if all(ROW_NUMBER in row for row in features):
            batch[ROW_NUMBER] = torch.tensor([row[ROW_NUMBER] for row in features])
        return batch


def fill_labels(values: list, fill: float) -> np.ndarray:
    """
    Returns labels as the model sees them: int64 with -100, or float32 with NaN, where they are missing.

    Args:
        values (`list`): a class, score or list of labels for each row, or `None`.
        fill (`float`): the value of `LABEL_FILLS`; NaN is used for scores and lists of labels in any case.
    """
    present = np.asarray([value for value in values if value is not None])
    if (present.size and present.dtype.kind == "f") or present.ndim == 2:
        fill = float("nan")
    gap = np.full(present.shape[1:], fill)
    filled = np.stack([gap if value is None else np.asarray(value) for value in values])
    return filled.astype(np.int64 if fill == -100 else np.float32)
