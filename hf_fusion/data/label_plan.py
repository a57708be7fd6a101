"""Reads the labels of a review from its columns, and checks that the training split shows all classes."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hf_fusion.data.class_values import class_key, is_number
from hf_fusion.data.labels import LabelError, LabelRules, read_rating
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

LABEL_FIELDS = ("stars", "score", "label", "coarse_label", "intensity")
CLASS_FIELDS = ("label", "coarse_label")
RATING_FIELDS = ("stars", "score", "intensity")
_HINT = "; `scale` declares another, and ratings between whole stars are a score"


@dataclass
class LabelPlan:
    """
    Reads the labels of a review.

    Args:
        columns: the data's own name of each field of `LABEL_FIELDS` that counts.
        rules: with every class known.
        ids: for each of `CLASS_FIELDS` in use the class of each value, by [`class_key`].
        lowest_star: the rating in stars that is the class 0.
        lines: a description of each label, for the log.
    """

    columns: dict[str, str]
    rules: LabelRules
    ids: dict[str, dict[str, int]] = field(default_factory=dict)
    lowest_star: int = 1
    lines: list[str] = field(default_factory=list)

    def labels_of(self, row: dict[str, Any]) -> tuple[int | None, int | None, float | None]:
        """
        Fine class, coarse class and intensity of a row: as given, else from stars or score; `None` if unknown or left
        out by the rules.
        Without a score, the fine classes lie at even distances on the intensity scale.

        Raises:
            LabelError: for a value that is not accepted; with `reason`.
        """
        values = {name: row[own] for name, own in self.columns.items() if own in row}
        fine, coarse = (self._class(name, values) for name in CLASS_FIELDS)
        try:
            intensity = self._number("intensity", values)
            low, high = self.rules.intensity_range
            if intensity is not None and not low <= intensity <= high:
                detail = f"{intensity!r} lies outside [{low:g}, {high:g}]"
                raise LabelError(detail, field="intensity", value=intensity)
            stars = self._number("stars", values) if fine is None else None
            if stars is not None:
                fine = self.rules.fine_of_stars(stars, self.lowest_star)
            score = self._number("score", values) if fine is None or intensity is None else None
            if score is not None:
                fine = self.rules.fine_of_score(score) if fine is None else fine
                intensity = self.rules.intensity(score) if intensity is None else intensity
        except LabelError as error:
            if error.reason is not None:
                raise
            detail = f"{error.detail} (fields {self._given(values)}{_HINT})"
            raise LabelError(detail, "rating outside the scale", error.field, error.value) from error
        if coarse is None and fine is not None:
            coarse = self.rules.coarse_of_fine(fine)
        if intensity is None and fine is not None:
            intensity = self.rules.intensity_at(fine / (self.rules.num_labels - 1))
        return fine, coarse if self.rules.has_coarse else None, intensity if self.rules.has_intensity else None

    def _class(self, name, values):
        try:
            key = class_key(values.get(name))
        except LabelError as error:
            detail = f"field {self.columns[name]!r}: {error.detail}"
            raise LabelError(detail, "no number", name, error.value) from error
        ids = self.ids.get(name, {})
        if key is None or key in ids:
            return ids.get(key)
        accepted = f"0 to {len(ids) - 1}" if list(ids) == list(map(str, range(len(ids)))) else listed(ids)
        reason = "rating outside the scale" if is_number(key) else "no number"
        detail = f"{name} {values[name]!r:.100} is none of the classes {accepted} (fields {self._given(values)})"
        raise LabelError(detail, reason, name, values[name])

    def _number(self, name, values):
        try:
            number, best = read_rating(values.get(name))
        except LabelError:
            detail = f"field {self.columns[name]!r} is {values[name]!r:.100}"
            raise LabelError(detail, "no number", name, values[name]) from None
        highest, option = self.rules.scale[1], "scale"
        if name == "stars":
            highest = self.lowest_star + self.rules.num_labels - 1
        elif name == "intensity":
            highest, option = self.rules.intensity_range[1], "intensity_range"
        if best is not None and best != highest:
            detail = (
                f"{values[name]!r:.100} is out of {best:g}, but the best value of column {self.columns[name]!r} is "
                f"{highest:g}; if it is not, set `{option}` to LOWEST {best:g}"
            )
            raise LabelError(detail, "rating outside the scale", name, values[name])
        return number

    def _given(self, values):
        return ", ".join(f"{self.columns[name]}={value}" for name, value in values.items() if value not in (None, ""))


def log_plan(origin: str, plan: LabelPlan, columns: dict[str, str], declared: dict, ignored: list[str]) -> None:
    """
    Logs which columns are read, and how they become labels.

    Args:
        origin: where the reviews come from.
        plan: of the labels.
        columns: the data's own name of each field that is read.
        declared: the mapping that the user gave.
        ignored: columns with the name of a label that do not count.
    """
    for line in plan.lines:
        logger.info("%s: %s.", origin, line)
    rules = plan.rules
    if "label" in plan.ids and rules.names is None and rules.num_labels != 5:
        logger.info(
            "%s: the classes are called LABEL_0 to LABEL_%d; `class_words` names them.",
            origin,
            rules.num_labels - 1,
        )
    by_name = [name for name in columns if name not in (*LABEL_FIELDS, *declared)]
    logger.info("%s: columns taken by their names: %s.", origin, listed(by_name) or "none")
    if ignored:
        logger.info("%s: not taken for labels, as `columns` does not name them: %s.", origin, listed(ignored))


def check_classes_shown(train, rules: LabelRules, origin: str, policy: str) -> None:
    """
    Checks that the training split shows every class.

    Args:
        train (`Dataset`): with `labels` and `coarse_labels`, or without.
        rules: the classes.
        origin: where the reviews come from.
        policy: "error" raises, "allow" logs a warning.

    Raises:
        DataError: with `policy="error"`, if a class never occurs.
    """
    for column, count, name_of in (
        ("labels", rules.num_labels, rules.fine_name),
        ("coarse_labels", rules.num_coarse_labels, rules.coarse_name),
    ):
        if column not in train.column_names:
            continue
        counts = Counter(train[column])
        absent = [i for i in range(count) if not counts[i]]
        if not absent:
            continue
        kind = "coarse classes" if column == "coarse_labels" else "classes"
        shown = ", ".join(f"{name_of(i)} ({counts[i]} rows)" for i in range(count) if counts[i])
        message = (
            f"{origin}: of {count} {kind} the training split shows only {shown or 'none'}; it never shows "
            f"{listed(map(name_of, absent))}."
        )
        if policy == "allow":
            logger.warning("%s A model does not learn them.", message)
            continue
        fewer = count - len(absent)
        mend = ""
        if column == "labels" and absent == list(range(fewer, count)) and fewer > 1:
            mend = f"If there are only {fewer}, set `num_labels` to {fewer}. "
        raise DataError(f"{message} {mend}To train without them all the same, set `missing_classes` to allow.")
