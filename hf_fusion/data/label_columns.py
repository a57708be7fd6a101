"""Which column makes which label of a review, and by which rule: as declared, or derived from the values themselves."""

import json
import logging
import shlex
from dataclasses import replace

from hf_fusion.data.class_values import (
    ClassValues,
    ascending,
    by_number,
    by_rating,
    ids_of_words,
    is_rating,
    values_of_names,
)
from hf_fusion.data.label_plan import CLASS_FIELDS, LABEL_FIELDS, LabelPlan
from hf_fusion.data.labels import CLASS_NAMES, LabelRules, from_worst_to_best, read_rating, word_key
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

# More different values are no classes that somebody meant, but scores or free text.
MAX_CLASSES = 20
# Numbers of polarity that do not count from 0, and the classes that they are.
_POLARITIES = ((-1, 1), (-1, 0, 1), (0, 4), (0, 2, 4))
_MAX_SHOWN = 20


class PlanMaker:
    """
    Derives a [`LabelPlan`].

    Args:
        origin: where the reviews come from, for messages.
        columns: the data's own name of each field that counts, labels and others.
        rules: the declared ones.
        values (`dict[str, ClassValues]`): of the columns of classes that have a value.
    """

    def __init__(self, origin: str, columns: dict[str, str], rules: LabelRules, values: dict[str, ClassValues]):
        self.origin, self.declared, self.values = origin, rules, dict(values)
        self.columns = {name: columns[name] for name in LABEL_FIELDS if name in columns}
        for name, wanted in {"coarse_label": rules.has_coarse, "intensity": rules.has_intensity}.items():
            if wanted is False:
                self.columns.pop(name, None)
                self.values.pop(name, None)
        self.mapping = columns
        self.ratings = [name for name in ("stars", "score") if name in self.columns]
        self.lowest_star = 1

    def make(self) -> LabelPlan:
        """
        Derives the plan.

        Raises:
            DataError: if the values are not what is declared, or no classes; says what to declare.
        """
        label, coarse = (self.values.get(name) for name in CLASS_FIELDS)
        needs_ratings = label is None or (self.ratings and label.missing)
        rules = self._rules_of_ratings() if needs_ratings else self.declared
        fine_line, ids = self._line_of_ratings(rules) if needs_ratings else "", {}
        if label is not None:
            if needs_ratings and self.declared.num_labels is None:
                self._check_same(label, rules.num_labels, f"column {self.columns[self.ratings[0]]!r}")
            names, ids["label"], how = self._classes(label, rules.num_labels, self.declared.names)
            count = len(ids["label"]) if names is None else len(names)
            rules = replace(rules, num_labels=count, names=names or rules.names)
            fine_line = f"from column {label.column!r}: {how}" + (fine_line and f"; where it is empty, {fine_line}")
        rules = replace(rules, values=self._values(label, rules, ids.get("label")))
        rules, coarse_ids, coarse_line = self._coarse(coarse, rules)
        rules = self._choose_heads(rules)
        if not rules.has_coarse:
            coarse_line = "none, not wanted" if self.declared.has_coarse is False else "none beside the fine ones"
        lines = [f"fine classes: {fine_line}", f"coarse classes: {coarse_line}", f"intensity: {self._intensity(rules)}"]
        return LabelPlan(self.columns, rules, ids | coarse_ids, self.lowest_star, lines)

    def _choose_heads(self, rules):
        """Rules that say whether there are coarse classes and an intensity."""
        has_coarse, has_intensity = rules.has_coarse, rules.has_intensity
        if has_coarse is None:
            declared = self.declared.declares_coarse or "coarse_label" in self.values
            has_coarse = declared or len(rules.coarse) < rules.num_labels
        if has_intensity is None:
            has_intensity = bool(self.ratings or "intensity" in self.columns)
        return replace(rules, has_coarse=has_coarse, has_intensity=has_intensity)

    def _check_same(self, values, count, other):
        """Raises `DataError` if values are classes by themselves, but not as many as those that fill empty cells."""
        if values.are_words:
            classes = [values.spellings[word] for word in from_worst_to_best(values.words) or ()]
        else:
            classes = values.numbers
            whole = classes == [*range(len(classes))] or tuple(classes) in _POLARITIES
            classes = [int(number) for number in classes] if whole else []
        if values.names or len(classes) in (0, 1, count):
            return
        fewer = self._columns_with(None, values.field)
        mend = f"leave this column out ({fewer})"
        if values.field == "label":
            alone = {name: own for name, own in self.columns.items() if name not in self.ratings}
            mapping = {name: own for name, own in self.mapping.items() if name not in LABEL_FIELDS and name != own}
            other_columns = json.dumps(mapping | alone, ensure_ascii=False)
            mend += f", or the other: set `columns` to {other_columns} and `rejected_rows` to drop"
        raise self._wrong(
            values,
            f"holds the {len(classes)} classes {_joined(classes)}, and {values.missing} "
            f"empty cells, but {other} would fill these with {count} classes. Take one of them: {mend}",
        )

    def _rules_of_ratings(self):
        """The rules, if classes come from stars or a score."""
        rules, (low, high) = self.declared, self.declared.scale
        if self.ratings[:1] != ["stars"]:
            count = rules.num_labels or 5
            return replace(rules, num_labels=count, names=rules.names or CLASS_NAMES.get(count))
        steps = int(high - low) + 1 if low == int(low) and high == int(high) and "score" not in self.ratings else None
        count = rules.num_labels or steps or 5
        if steps == count:
            self.lowest_star = int(low)
        elif steps and (low, high) != (1, 5):
            raise DataError(
                f"{self.origin}: the scale {low:g} to {high:g} has {steps} stars, but there are {count} classes, one "
                f"a star. Leave out the number of classes, or cut the scale into {count} equal parts: "
                f"{self._columns_with('score', 'stars')}"
            )
        stars = range(self.lowest_star, self.lowest_star + count)
        usual = CLASS_NAMES[5] if count == 5 else tuple(f"{star} star" + "s" * (star != 1) for star in stars)
        return replace(rules, num_labels=count, names=rules.names or usual)

    def _values(self, label, rules, ids):
        """The value of each fine class on the scale of its labels; `None` if it is not known."""
        if label is not None:
            if label.names or label.are_words:
                return values_of_names(rules.names)
            return ascending([float(key) for key in sorted(ids, key=ids.get)])
        count, (low, high) = rules.num_labels, map(float, rules.scale)
        if self.ratings[:1] == ["stars"]:
            return tuple(float(self.lowest_star + i) for i in range(count))
        if not self.ratings:
            return None
        if high - low == count - 1 and low == int(low):  # one step of the scale for each class
            return tuple(low + i for i in range(count))
        return tuple(low + (high - low) * (i + 0.5) / count for i in range(count))  # middles of equal parts

    def _line_of_ratings(self, rules):
        names = f" ({listed(rules.names)})" if rules.names else ""
        if not self.ratings:
            return "none; that head is not trained, and what it answers means nothing"
        first, *rest = self.ratings
        lines = {
            "stars": f"one class a star, {self.lowest_star} to {self.lowest_star + rules.num_labels - 1}{names}",
            "score": "the scale {:g} to {:g} in {} equal parts{}".format(*rules.scale, rules.num_labels, names),
        }
        line = f"from column {self.columns[first]!r}: {lines[first]}"
        return line + "".join(f"; where it is empty, from column {self.columns[name]!r}" for name in rest)

    def _intensity(self, rules):
        if not rules.has_intensity:
            return "none, not wanted" if self.declared.has_intensity is False else "none, as there is no score"
        own = f"as it is in column {self.columns['intensity']!r}" if "intensity" in self.columns else None
        score = "from column {!r} on the scale {:g} to {:g}".format(self.columns.get("score"), *rules.scale)
        sources = [own, score if "score" in self.columns else None]
        if self.ratings or "label" in self.values:
            sources.append("from the fine class, at even distances from {:g} to {:g}".format(*rules.intensity_range))
        return "; where it is empty, ".join(source for source in sources if source) or "none; that head is not trained"

    def _coarse(self, values, rules):
        """Rules with the coarse classes, the class of each value, and the line."""
        from_fine = bool(self.ratings or "label" in self.values)
        if values is None:
            rules = replace(rules, coarse_names=self._coarse_names(rules))
            return rules, {}, self._line_of_coarse(rules) if from_fine else "none; that head is not trained"
        told = self.declared.declares_coarse or (from_fine and values.missing)
        if told and not self.declared.declares_coarse:
            self._check_same(values, len(rules.coarse), "the fine classes")
        names, ids, how = self._classes(values, len(rules.coarse) if told else None, None)
        rules = replace(rules, coarse_follows=told)
        count = max(ids.values()) + 1 if names is None else len(names)
        if count != len(rules.coarse):
            if count > rules.num_labels:
                raise DataError(f"{self.origin}: {count} coarse classes, but {rules.num_labels} fine ones.")
            rules = replace(rules, coarse=tuple(i * rules.num_labels // count for i in range(count)))
        rules = replace(rules, coarse_names=names or CLASS_NAMES.get(count))
        line = f"from column {values.column!r}: {how}"
        if values.missing and from_fine:
            line += f"; where it is empty, {self._line_of_coarse(rules)}"
        return rules, {"coarse_label": ids}, line

    def _coarse_names(self, rules):
        """Names of the fine classes, if the coarse ones are the same; else the usual names of that many classes."""
        count = len(rules.coarse)
        if count == rules.num_labels and "label" in self.values:
            return rules.names or tuple(f"LABEL_{i}" for i in range(count))
        return CLASS_NAMES.get(count)

    def _line_of_coarse(self, rules):
        if len(rules.coarse) == rules.num_labels and rules.coarse_names == rules.names:
            return "the fine classes themselves"
        ends = [*rules.coarse[1:], rules.num_labels]
        names = rules.coarse_names or range(len(rules.coarse))
        parts = [
            f"{name} = {listed(rules.fine_name(fine) for fine in range(start, end))}"
            for name, start, end in zip(names, rules.coarse, ends, strict=True)
        ]
        return f"from the fine classes: {'; '.join(parts)}"

    def _classes(self, values, count, names):
        """Names (or `None`), the class of each value, and how they were found."""
        if values.names:
            return self._of_class_label(values, count, names)
        if not values.counts:
            raise DataError(f"{self.origin}: column {values.column!r} holds no class.")
        return (self._of_words if values.are_words else self._of_numbers)(values, count, names)

    def _of_class_label(self, values, count, names):
        order = from_worst_to_best(values.names) or by_rating(values.names) or by_number(values.names)
        if names is None:
            if order is None or len(order) < 2:
                raise self._unordered(values)
            how = "in the order of the words"
            names = tuple(order)
            if count is not None and count != len(names):
                raise self._wrong(values, f"has {len(names)} classes ({listed(names)}), but {count} are declared")
        else:
            how = "by their names"
        ids = ids_of_words(values.names, names)
        if unknown := [name for name in values.names if word_key(name) not in ids]:
            raise self._wrong(
                values,
                f"has the classes {listed(values.names)}; {listed(unknown)} is none of the class words {listed(names)}",
            )
        numbers = {str(i): ids[word_key(name)] for i, name in enumerate(values.names)}
        shown = _shown_classes(values.names, [names[i] for i in numbers.values()])
        return names, {**ids, **numbers, "-1": None}, f"{shown} ({how})"

    def _of_words(self, values, count, names):
        words, how = values.words, "words of sentiment from worst to best"
        order = from_worst_to_best(words)
        if order is None and (order := _every_star(values)):
            how = f"ratings in their order; for intensities too {self._columns_with('stars', values.field)}"
        if names is None:
            if len(words) > MAX_CLASSES:
                raise self._wrong(values, f"holds {len(words)} different texts ({values.shown(words)}), no classes")
            if order is None or len(order) < 2:
                raise self._unordered(values)
            names = tuple(values.spellings[word] for word in order)
            if count is not None and count != len(names):
                raise self._wrong(
                    values, f"holds {len(names)} words ({values.shown(words)}), but {count} classes are declared"
                )
        else:
            how = "from worst to best, as declared"
        ids = ids_of_words([values.spellings[word] for word in words], names)
        if not set(ids) & set(words):
            raise self._wrong(values, f"holds {values.shown(words)}, none of the classes {listed(names)}")
        found = sorted((word for word in words if word in ids), key=ids.get)
        shown = _shown_classes([values.spellings[word] for word in found], [names[ids[word]] for word in found])
        return names, ids, f"{shown} ({how})"

    def _unordered(self, values):
        shown = f"the classes {listed(values.names)}" if values.names else values.shown(values.words)
        if len(values.names or values.words) < 2:
            return self._wrong(values, f"holds one class alone, {shown}; at least two are needed")
        if not values.names and all(is_rating(values.spellings[word]) for word in values.words):
            return self._wrong(
                values, f"holds ratings ({values.shown(values.words)}): {self._columns_with('stars', values.field)}"
            )
        words = values.names or [values.spellings[word] for word in values.words]
        mend = (
            "say it: set `class_words` to WORST ... BEST. Put these words in their order: in a recipe "
            f"`class_words: {json.dumps(words, ensure_ascii=False)}`, in a command `--class_words {shlex.join(words)}`"
        )
        if values.field == "coarse_label":
            mend = f"number the classes, or leave them out: {self._columns_with(None, values.field)}"
        return self._wrong(values, f"holds words whose order from worst to best is not known ({shown}): {mend}")

    def _of_numbers(self, values, count, names):
        numbers = values.numbers
        if fractions := [number for number in numbers if number != int(number)]:
            raise self._wrong(
                values,
                f"holds fractions such as {fractions[0]:g}: these are scores, no classes: "
                f"{self._columns_with('score', values.field)} and `scale` to LOWEST HIGHEST",
            )
        numbers = [int(number) for number in numbers]
        if count is None and numbers[0] == 0 and len(numbers) == numbers[-1] + 1 > MAX_CLASSES:
            raise self._wrong(
                values,
                f"holds {len(numbers)} different numbers: if they are scores, "
                f"{self._columns_with('score', values.field)} and `scale` to LOWEST HIGHEST; else set `num_labels` "
                f"to {len(numbers)}",
            )
        if len(numbers) == 1 and count is None:
            raise self._wrong(values, f"holds one class alone, {numbers[0]}; at least two are needed")
        limit = count or len(numbers)
        if numbers[0] >= 0 and numbers[-1] < limit:
            if names is not None and len(numbers) < len(names):
                logger.warning(
                    "%s: column %r holds %s of the %d classes, read as %s. If its numbers do not count the classes "
                    "from 0, these are the wrong ones: write the names of the classes into the column.",
                    self.origin, values.column, _joined(numbers), len(names),
                    _shown_classes(numbers, [names[number] for number in numbers]),
                )  # fmt: skip
            return _counted_from_0(limit, names)
        return self._of_other_numbers(values, numbers, count, names)

    def _of_other_numbers(self, values, numbers, count, names):
        """Of numbers that do not count from 0: polarities, and those that were given names."""
        by_name = names is not None and len(names) == len(numbers)
        if by_name or (tuple(numbers) in _POLARITIES and count in (None, len(numbers))):
            names = tuple(names) if names else CLASS_NAMES[len(numbers)]
            ids = {str(number): i for i, number in enumerate(numbers)}
            return names, ids, _shown_classes(numbers, names)
        if names is not None and not set(range(len(names))) <= set(numbers):
            raise self._wrong(
                values,
                f"holds the numbers {_joined(numbers)}, which are neither 0 to {len(names) - 1} nor one for each of "
                f"the {len(names)} classes {listed(names)}: which is which is not known. Number the classes from 0, or "
                "write their names",
            )
        if numbers[0] == 1 and numbers[-1] == (count or len(numbers)):
            stars = self._columns_with("stars", values.field)
            if numbers[-1] != 5:
                stars += f" and `num_labels` to {numbers[-1]}"
            raise self._wrong(
                values,
                f"numbers its classes from 1 to {numbers[-1]}, not from 0. If they are stars: {stars}. Else name the "
                "classes in their order: set `class_words` to WORST ... BEST.",
            )
        if count is not None:  # the rows that do not fit are refused one by one
            return _counted_from_0(count, names)
        raise self._wrong(
            values,
            f"holds the classes {_joined(numbers)}, which do not count 0, 1, 2 ... without a gap. If there are others "
            f"that do not occur, set `num_labels` to {max(numbers[-1] + 1, 2)}. Else name those that occur, in their "
            f"order: set `class_words` to WORST ... BEST ({len(numbers)} names).",
        )

    def _wrong(self, values, text):
        return DataError(f"{self.origin}: column {values.column!r} ({values.field}) {text.rstrip('.')}.")

    def _columns_with(self, field_name, instead_of):
        """Says how to read a column as another field, or to leave it out."""
        own = self.columns[instead_of]
        mapping = {name: column for name, column in self.mapping.items() if name not in LABEL_FIELDS and name != column}
        mapping |= {name: column for name, column in self.columns.items() if name != instead_of}
        mapping[field_name or instead_of] = own if field_name else None
        return f"set `columns` to {json.dumps(mapping, ensure_ascii=False)}"


def _every_star(values):
    """Words for 1, 2 ... stars in their order; `None` if they are others, or one of them does not occur."""
    if not all(is_rating(values.spellings[word]) for word in values.words):
        return None
    stars = {word: read_rating(values.spellings[word])[0] for word in values.words}
    order = sorted(stars, key=lambda word: stars[word])
    return order if [stars[word] for word in order] == [*range(1, len(order) + 1)] else None


def _counted_from_0(count, names):
    names = tuple(names) if names else CLASS_NAMES[5] if count == 5 else None
    return names, {str(i): i for i in range(count)}, _shown_classes(range(count), names)


def _shown_classes(values, names):
    pairs = zip(values, names or values, strict=True)
    return ", ".join(str(value) if value == name else f"{value} = {name}" for value, name in pairs)


def _joined(values):
    return ", ".join(map(str, values[:_MAX_SHOWN])) + (" ..." if len(values) > _MAX_SHOWN else "")
