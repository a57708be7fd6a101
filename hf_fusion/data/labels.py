"""Stars and scores -> the three labels of a review."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np


def is_range(values) -> bool:
    """Whether it is (lowest, highest): a list or tuple of two finite numbers, the first below the second."""
    if not isinstance(values, (list, tuple)) or len(values) != 2 or not all(isinstance(v, Real) for v in values):
        return False
    try:
        low, high = map(float, values)
    except OverflowError:  # an integer beyond all floats
        return False
    return low < high and math.isfinite(high - low)


class LabelError(ValueError):
    """A rating that fits no label; says which value it was and what is accepted."""


@dataclass(frozen=True)
class LabelRules:
    """
    How a rating becomes fine class, coarse class and intensity.

    Args:
        scale (`tuple(float, float)`): lowest and highest rating of the source, such as (1, 5) for stars. Intensity is
            the rating's place on it, in [0, 1].
        num_labels: fine classes. A rating in steps has one class per step (five stars, five classes); a score on a
            continuous scale is cut into `num_labels` equal parts, the upper bound of a part belonging to the next one.
        coarse: the fine class that each coarse class begins with; (0, 2, 3) means 1-2 / 3 / 4-5 stars.
    """

    scale: tuple[float, float] = (1.0, 5.0)
    num_labels: int = 5
    coarse: tuple[int, ...] = (0, 2, 3)

    def __post_init__(self):
        if not is_range(self.scale):
            raise LabelError(f"The scale must be (lowest, highest), two finite numbers, got {self.scale!r:.100}.")
        if type(self.num_labels) is not int or self.num_labels < 2:
            raise LabelError(f"There must be at least 2 fine classes, got {self.num_labels!r:.100}.")
        if not isinstance(self.coarse, (list, tuple)) or not all(type(start) is int for start in self.coarse):
            raise LabelError(f"The coarse classes must begin at whole numbers, got {self.coarse!r:.100}.")
        if not self.coarse or self.coarse[0] != 0 or list(self.coarse) != sorted(set(self.coarse)):
            raise LabelError(f"The coarse classes must begin at rising fine classes from 0, got {self.coarse!r}.")
        if len(self.coarse) < 2:
            raise LabelError(
                f"There must be at least 2 coarse classes, got one that begins at fine class 0 ({self.coarse!r}). With "
                "two fine classes give 0 1."
            )
        if self.coarse[-1] >= self.num_labels:
            raise LabelError(f"A coarse class begins at fine class {self.coarse[-1]}; there are {self.num_labels}.")

    def intensity(self, score: float) -> float:
        """The score's place on the scale, in [0, 1]."""
        low, high = self.scale
        if not np.isfinite(score) or not low <= score <= high:
            raise LabelError(f"{score!r} lies outside the scale {low:g} to {high:g}")
        return (score - low) / (high - low)

    def fine_of_score(self, score: float) -> int:
        """The fine class of a score: which of `num_labels` equal parts of the scale it lies in."""
        return min(int(self.intensity(score) * self.num_labels), self.num_labels - 1)

    def fine_of_stars(self, stars: float) -> int:
        """The fine class of a rating in whole stars, 1 to `num_labels`."""
        if stars != int(stars) or not 1 <= stars <= self.num_labels:
            raise LabelError(f"{stars!r} is no whole number of stars from 1 to {self.num_labels}")
        return int(stars) - 1

    def coarse_of_fine(self, fine: int) -> int:
        """The coarse class of a fine class."""
        return int(np.searchsorted(self.coarse, fine, side="right")) - 1
