"""Inputs of benchmarks: random values with the shapes and lengths of the data sets."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.studies.fusion_cost import VOCABULARY, ClipShape

# Logarithms of lengths are normal, with this deviation: the 95th percentile is four times the median.
SIGMA = math.log(4) / norm.ppf(0.95)

REVIEW_TOKENS, REVIEW_LIMIT = 74, 160  # mean and limit of the hotel reviews, special tokens included

# Each is one token of BERT's vocabulary, and of most others.
_WORDS = (
    "the", "room", "was", "clean", "and", "staff", "very", "nice", "but", "breakfast", "in", "hotel", "bar", "never",
    "good", "we", "had", "a", "view", "of", "park", "not", "bad", "at", "all", "bed", "is", "small", "pool", "cold",
)  # fmt: skip


MOSI = ClipShape(50, 375, 5, 500, 20)
SIMS = ClipShape(39, 400, 33, 55, 709)
MOSEI = ClipShape(50, 500, 74, 500, 35)


def length_fractions(count: int, seed: int, mean: float | None = None) -> np.ndarray:
    """
    Draws lengths relative to the limit, in (0, 1]: log-normal, the median a quarter of the 95th percentile, cut at 1.

    Args:
        count (`int`): the number of lengths.
        seed (`int`): the seed of the draws.
        mean (`float`, *optional*): the mean of the cut distribution; by default the limit is the 95th percentile.
    """
    median = 0.25 if mean is None else brentq(lambda median: _mean_cut_at_one(median) - mean, 1e-6, 1e6)
    draws = np.random.default_rng(seed).standard_normal(count)
    return np.minimum(median * np.exp(SIGMA * draws), 1.0)


def _mean_cut_at_one(median):
    """Returns the mean of min(X, 1) for log-normal X."""
    distance = -math.log(median) / SIGMA
    return median * math.exp(SIGMA**2 / 2) * norm.cdf(distance - SIGMA) + norm.sf(distance)


def clip_lengths(shape: ClipShape, count: int, seed: int) -> dict[str, np.ndarray]:
    """Draws the number of positions `(count,)` of each modality; long clips have more words and more frames."""
    fractions = length_fractions(count, seed)
    return {name: np.maximum(np.rint(limit * fractions), 1).astype(int) for name, limit in shape.limits.items()}


def clip_tensors(
    shape: ClipShape, lengths: dict[str, np.ndarray], device: str = "cpu", padded: bool = False, seed: int = 0
) -> dict[str, torch.Tensor]:
    """
    Creates a batch for DashFusion.

    Args:
        shape ([`ClipShape`]): the limits of the data set.
        lengths (`dict[str, np.ndarray]`): the number of positions `(batch,)` of each modality.
        device (`str`): the device of the tensors.
        padded (`bool`): whether to pad to the limits, not to the longest clip. The real values are the same.
        seed (`int`): the seed of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, masks = {}, {}
    for name in MODALITIES:
        counts = torch.as_tensor(lengths[name])
        width = shape.limits[name] if padded else int(counts.max())
        masks[name] = (torch.arange(width) < counts.unsqueeze(1)).long()  # (batch, width)
        full = (len(counts), shape.limits[name])
        if name == "text":
            batch["input_ids"] = torch.randint(1, VOCABULARY, full, generator=generator)[:, :width] * masks[name]
            batch["attention_mask"] = masks[name]
        else:
            features = torch.randn(*full, getattr(shape, f"{name}_features"), generator=generator)
            batch[f"{name}_features"] = features[:, :width] * masks[name].unsqueeze(-1)
            batch[f"{name}_attention_mask"] = masks[name]
    return {name: values.to(device) for name, values in batch.items()}


def review_texts(count: int, seed: int, mean: int = REVIEW_TOKENS, limit: int = REVIEW_LIMIT) -> list[str]:
    """Creates texts with `mean` tokens on average and at most `limit`, including special tokens."""
    tokens = np.maximum(np.rint(limit * length_fractions(count, seed, mean / limit)), 3).astype(int)
    return make_texts(tokens - 2, seed)


def read_reviews(path: str, count: int) -> list[str]:
    """Draws texts from the column `text` of a csv file, at most `count`, the same ones each time."""
    texts = pd.read_csv(path, usecols=["text"])["text"].dropna()
    return texts.sample(min(count, len(texts)), random_state=0).tolist()


def make_texts(counts: np.ndarray, seed: int) -> list[str]:
    """Creates texts with the given numbers of words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_WORDS, size=n)) for n in counts]


def corpus(shape: ClipShape, count: int, seed: int = 0) -> Iterator[dict]:
    """Yields clips in the form of `clean_clips`, with the lengths of the data set."""
    lengths = clip_lengths(shape, count, seed)
    texts = make_texts(np.maximum(lengths["text"] - 2, 1), seed)
    for i in range(count):
        frames = {name: _frames(shape, name, lengths[name][i], i) for name in STREAMS}
        yield {"id": f"clip-{i}", "split": "train", "text": texts[i], **frames, "label": float(i % 7 - 3)}


def _frames(shape, name, count, seed):
    rng = np.random.default_rng((seed, STREAMS.index(name)))
    return rng.standard_normal((count, getattr(shape, f"{name}_features")), dtype=np.float32)
