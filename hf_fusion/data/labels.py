"""Stars, scores and classes of a review -> its three labels."""

import logging
import math
import re
import unicodedata
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from hf_fusion.utils.errors import FusionError

logger = logging.getLogger(__name__)

# Default names of the classes from worst to best, by their number.
CLASS_NAMES = {
    2: ("negative", "positive"),
    3: ("negative", "neutral", "positive"),
    5: ("very negative", "negative", "neutral", "positive", "very positive"),
}
# Share of the scale by which a computed score may exceed it.
_ROUNDING = 1e-9
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3},\d{3}")  # 1,000: a thousand or one?
_UNIT = r"([\s-]*(stars?|points?))?"
_RATING = re.compile(rf"(?P<value>[^\s/]+?){_UNIT}(\s*(/|out of|of)\s*(?P<best>[^\s/]+?){_UNIT})?", re.IGNORECASE)
_STARS = re.compile(r"([★⭐]\ufe0f?)*(☆)*")
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_STARS_IN_WORDS = re.compile(rf"({'|'.join(_NUMBER_WORDS)})(?=[\s-]+(stars?|points?)\b)", re.IGNORECASE)
# Words of sentiment and their places from worst to best.
_INTENSE = "very|extremely|strongly|highly"
_SLIGHT = "somewhat|slightly|weakly|mildly"
_PLACES = {
    **dict.fromkeys(("negative", "bad", "poor"), -1.0),
    **dict.fromkeys(("neutral", "mixed", "ok", "average", "fair"), 0.0),
    **dict.fromkeys(("positive", "good"), 1.0),
    **dict.fromkeys(("terrible", "horrible", "awful"), -2.0),
    **dict.fromkeys(("great", "excellent"), 2.0),
}
_SYNONYMS = {"neg": "negative", "pos": "positive", "neu": "neutral", "okay": "ok"}


def is_range(values) -> bool:
    """Whether it is (lowest, highest): a list or tuple of two finite numbers, the first below the second."""
    if not isinstance(values, (list, tuple)) or len(values) != 2 or not all(isinstance(v, Real) for v in values):
        return False
    try:
        low, high = map(float, values)
    except OverflowError:  # an integer beyond all floats
        return False
    return low < high and math.isfinite(high - low)


class LabelError(FusionError, ValueError):
    """
    A value of a row that fits no label, or rules that do not fit together.

    Args:
        detail (`str`): what was given and what is accepted.
        reason (`str`, *optional*): the kind of problem, by which rows are counted; `None` where the caller knows it.
        field (`str`, *optional*): the field of the row: "stars", "score", "label", "text" ...
        value (`Any`, *optional*): the value that was given.
    """

    def __init__(self, detail: str, reason: str | None = None, field: str | None = None, value: Any = None):
        super().__init__(detail, reason, field, value)
        self.detail = detail
        self.reason = reason
        self.field = field
        self.value = value

    def __str__(self):
        return ": ".join(part for part in (self.reason, self.detail) if part)


def coarse_starts(num_labels: int) -> tuple[int, ...]:
    """
    The fine class that each coarse class begins with, where nothing else is declared: two or three classes are their
    own coarse classes; of more, those in the middle (one of an odd number, two of an even one) are the neutral ones.
    """
    return (0, 1) if num_labels == 2 else (0, (num_labels - 1) // 2, num_labels // 2 + 1)


@dataclass(frozen=True)
class LabelRules:
    """
    How a rating becomes fine class, coarse class and intensity.

    Args:
        scale (`tuple(float, float)`, defaults to (1, 5)): lowest and highest rating of the source, such as (1, 5) for
            stars. Intensity is the rating's place on it, on `intensity_range`.
        num_labels (`int`, *optional*, defaults to 5): fine classes. A rating in steps has one class per step (five
            stars, five classes); a score on a continuous scale is cut into `num_labels` equal parts, the upper bound of
            a part belonging to the next one. `None` leaves it to the data.
        coarse (`tuple(int, ...)`, *optional*): the fine class that each coarse class begins with; (0, 2, 3) means 1-2 /
            3 / 4-5 stars. Defaults to [`coarse_starts`] of the number of classes.
        names (`tuple(str, ...)`, *optional*): names of the fine classes, from worst to best.
        coarse_names (`tuple(str, ...)`, *optional*): names of the coarse classes.
        intensity_range (`tuple(float, float)`, defaults to (0, 1)): lowest and highest intensity.
        has_coarse (`bool`, *optional*, defaults to `True`): whether reviews get coarse classes. `None`: where these are
            not the fine ones once more.
        has_intensity (`bool`, *optional*, defaults to `True`): whether reviews get an intensity. `None`: if the data
            has stars, scores or intensities.
        coarse_follows (`bool`, defaults to `True`): whether a coarse class follows from the fine one by `coarse`.
            `False` if the data has coarse labels of its own for all reviews.
        values (`tuple(float, ...)`, *optional*): the value of each fine class on the scale of the labels, in ascending
            order, such as 1 to 5 stars; found in the data, `None` where there is none.

    Example:

    ```python
    >>> from hf_fusion.data.labels import LabelRules
    >>> rules = LabelRules(scale=(1, 10), num_labels=5)
    >>> fine = rules.fine_of_score(9.5)
    >>> fine, rules.coarse_of_fine(fine), round(rules.intensity(9.5), 3)
    (4, 2, 0.944)
    ```
    """

    scale: tuple[float, float] = (1.0, 5.0)
    num_labels: int | None = 5
    coarse: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    coarse_names: tuple[str, ...] | None = None
    intensity_range: tuple[float, float] = (0.0, 1.0)
    has_coarse: bool | None = True
    has_intensity: bool | None = True
    coarse_follows: bool = True
    values: tuple[float, ...] | None = None
    # whether `coarse` was given
    declares_coarse: bool = field(default=False, init=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "declares_coarse", self.coarse is not None)
        if not is_range(self.scale):
            raise LabelError(f"The scale must be (lowest, highest), two finite numbers, got {self.scale!r:.100}.")
        if not is_range(self.intensity_range):
            raise LabelError(
                f"The intensity range must be (lowest, highest), two finite numbers, got {self.intensity_range!r:.100}."
            )
        if self.names is not None:
            self._check_names()
            if self.num_labels is None:
                object.__setattr__(self, "num_labels", len(self.names))
            if self.num_labels != len(self.names):
                raise LabelError(
                    f"The {len(self.names)} class words {_quoted(self.names)} cannot name {self.num_labels!r:.100} "
                    "fine classes."
                )
        if self.num_labels is not None and (type(self.num_labels) is not int or self.num_labels < 2):
            raise LabelError(f"There must be at least 2 fine classes, got {self.num_labels!r:.100}.")
        if self.coarse is None:
            if self.num_labels is None:
                return
            object.__setattr__(self, "coarse", coarse_starts(self.num_labels))
        self._check_coarse()

    def _check_names(self):
        names = self.names
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
            raise LabelError(f"The class words must be texts, from worst to best, got {names!r:.100}.")
        if len(set(map(word_key, names))) < len(names):
            raise LabelError(f"Two of the class words are the same: {_quoted(names)}.")

    def _check_coarse(self):
        if not isinstance(self.coarse, (list, tuple)) or not all(type(start) is int for start in self.coarse):
            raise LabelError(f"The coarse classes must begin at whole numbers, got {self.coarse!r:.100}.")
        if not self.coarse or self.coarse[0] != 0 or list(self.coarse) != sorted(set(self.coarse)):
            raise LabelError(f"The coarse classes must begin at rising fine classes from 0, got {self.coarse!r}.")
        if len(self.coarse) < 2:
            raise LabelError(
                f"There must be at least 2 coarse classes, got one that begins at fine class 0 ({self.coarse!r}). With "
                "two fine classes give 0 1."
            )
        if self.num_labels is not None and self.coarse[-1] >= self.num_labels:
            raise LabelError(f"A coarse class begins at fine class {self.coarse[-1]}; there are {self.num_labels}.")

    @property
    def num_coarse_labels(self) -> int:
        """The number of coarse classes; 0 without."""
        return len(self.coarse) if self.has_coarse else 0

    def intensity(self, score: float) -> float:
        """The intensity of a score: its place on the scale, on `intensity_range`."""
        return self.intensity_at(self._place(score))

    def intensity_at(self, place: float) -> float:
        """The intensity at a place in [0, 1]."""
        low, high = self.intensity_range
        return low + (high - low) * place

    def _place(self, score):
        """The score's place on the scale, in [0, 1]; a computed score may be beyond it by rounding."""
        low, high = self.scale
        place = (score - low) / (high - low)
        if not -_ROUNDING <= place <= 1 + _ROUNDING:
            raise LabelError(f"{score!r} lies outside the scale {low:g} to {high:g}", field="score", value=score)
        return min(max(place, 0.0), 1.0)

    def fine_of_score(self, score: float) -> int:
        """The fine class of a score: which of `num_labels` equal parts of the scale it lies in."""
        part = int(self._place(score) * self.num_labels + _ROUNDING)  # a bound belongs to the next one
        return min(part, self.num_labels - 1)

    def fine_of_stars(self, stars: float, lowest: int = 1) -> int:
        """The fine class of a rating in whole stars, `lowest` and on, one class a star."""
        highest = lowest + self.num_labels - 1
        if stars != int(stars) or not lowest <= stars <= highest:
            detail = f"{stars!r} is no whole number of stars from {lowest} to {highest}"
            raise LabelError(detail, field="stars", value=stars)
        return int(stars) - lowest

    def coarse_of_fine(self, fine: int) -> int:
        """The coarse class of a fine class."""
        return int(np.searchsorted(self.coarse, fine, side="right")) - 1

    def fine_name(self, fine: int) -> str:
        """The name of a fine class, or its number."""
        return self.names[fine] if self.names else str(fine)

    def coarse_name(self, coarse: int) -> str:
        """The name of a coarse class, or its number."""
        return self.coarse_names[coarse] if self.coarse_names else str(coarse)


def are_placeholders(names) -> bool:
    """Whether names of classes are placeholders: LABEL_0, LABEL_1 ..."""
    return list(names) == [f"LABEL_{i}" for i in range(len(names))]


def word_key(word: str) -> str:
    """The common spelling of words for one class: "Very_Negative" and "very neg" have the same."""
    # an accent is a part of its letter, or a character of its own
    words = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", word)).strip().casefold().split()
    return " ".join(_SYNONYMS.get(part, part) for part in words)


def from_worst_to_best(words) -> list[str] | None:
    """Words of sentiment in their order; `None` if one of them is unknown, or two say the same."""
    places = {word: sentiment_of(word) for word in words}
    if None in places.values() or len(set(places.values())) < len(places):
        return None
    return sorted(places, key=places.get)


def sentiment_of(word: str) -> float | None:
    """The place of a word of sentiment from worst to best, below 0 if it is a bad one; `None` for another word."""
    word = word_key(word)
    if match := re.fullmatch(f"({_INTENSE}|{_SLIGHT}) (.+)", word):
        degree, base = match.groups()
        place = _PLACES.get(base)
        return place * (2 if degree in _INTENSE.split("|") else 0.5) if place in (-1, 1) else None
    return _PLACES.get(word)


def read_number(value) -> float | None:
    """
    A number, also with a decimal comma; `None` for an empty cell and NaN.

    Raises:
        LabelError: if it is something else, or infinite.
    """
    if value is None or (isinstance(value, str) and value.strip().casefold() in ("", "nan")):
        return None
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, bool) or (isinstance(text, str) and (not _NUMBER.fullmatch(text) or _GROUPED.fullmatch(text))):
        raise LabelError(f"{value!r:.100} is no number", value=value)
    try:
        number = float(text.replace(",", ".") if isinstance(text, str) else text)
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"{value!r:.100} is no number", value=value) from None
    if math.isinf(number):
        raise LabelError(f"{value!r:.100} is no number", value=value)
    return None if math.isnan(number) else number


def read_rating(value) -> tuple[float | None, float | None]:
    """
    A rating as people write it, and the best one if it says so: 4, "4.0", "4,5", "4/5", "4 out of 5", "4 stars",
    "four stars", "★★★★☆" (`None` for an empty cell).

    Raises:
        LabelError: if it is something else.
    """
    if not isinstance(value, str) or not value.strip():
        return read_number(value), None
    text = _STARS_IN_WORDS.sub(lambda match: str(_NUMBER_WORDS.index(match[0].casefold())), value.strip(), count=1)
    if _STARS.fullmatch(text):
        full, empty = len(re.findall("[★⭐]", text)), text.count("☆")
        return float(full), float(full + empty) if empty else None
    match = _RATING.fullmatch(re.sub(r"\s*[★⭐]\ufe0f?$", "", text))
    try:
        number, best = (read_number(match[name]) for name in ("value", "best")) if match else (None, None)
    except LabelError:
        number = match = None
    if match is None:
        raise LabelError(f"{value!r:.100} is no number", value=value)
    return number, best


def warn_of_other_scale(scores, label_range, origin: str) -> None:
    """Logs a warning if scores lie within one half of their range, or within a third around its middle."""
    low, high = label_range
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return
    middle, reach = (low + high) / 2, (high - low) / 2
    one_side = scores.min() >= middle or scores.max() <= middle
    if one_side or np.abs(scores - middle).max() <= reach / 3 + 1e-6:
        logger.warning(
            "%s: the labels lie between %g and %g, a small part of their range %g to %g. If that is another scale, set "
            "`label_range`.",
            origin, scores.min(), scores.max(), low, high,
        )  # fmt: skip


def _quoted(words):
    return ", ".join(map(repr, words))
