"""Rows of a tokenised data set -> one padded batch."""

from dataclasses import dataclass
from typing import Any

import torch

# Missing labels: the value that the loss passes over.
LABEL_FILLS = {"labels": -100, "coarse_labels": -100, "intensity_labels": float("nan")}
_LABEL_TYPES = {"labels": torch.long, "coarse_labels": torch.long, "intensity_labels": torch.float32}


@dataclass
class FusionCollator:
    """
    Pads each of the processor's sequences to the longest in the batch and gathers the labels.

    A label column that only some rows have, or that holds `None`, becomes -100 (classes) or NaN (intensity) where it
    is missing. Other columns (`id`, `text`, `length` ...) stay behind.

    Args:
        processor ([`DyFuLMProcessor`]): pads the rows.
        pad_to_multiple_of (`int`, *optional*): rounds the padded lengths up, for tensor cores.
    """

    processor: Any
    pad_to_multiple_of: int | None = None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.pad(features, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt")
        for name, fill in LABEL_FILLS.items():
            if any(name in row for row in features):
                values = [fill if row.get(name) is None else row[name] for row in features]
                batch[name] = torch.tensor(values, dtype=_LABEL_TYPES[name])
        return dict(batch)
