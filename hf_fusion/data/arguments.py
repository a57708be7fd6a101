"""The fields of a recipe that describe the data."""

import logging
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
from datasets import Dataset

from hf_fusion.data.clips import SYNTHETIC as SYNTHETIC_CLIPS
from hf_fusion.data.clips import ClipSource
from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.in_memory import Splits
from hf_fusion.data.labels import CLASS_NAMES, LabelError, LabelRules, are_placeholders, coarse_starts
from hf_fusion.data.protocols import PROTOCOLS, TrainingMasks
from hf_fusion.data.reviews import SYNTHETIC as SYNTHETIC_REVIEWS
from hf_fusion.data.reviews import ReviewSource, rules_for
from hf_fusion.utils.errors import RecipeError, listed
from hf_fusion.utils.fields import check_choices, has_changed, list_option, option

logger = logging.getLogger(__name__)

# Fields of a training under a protocol for missing modalities, and all that are for training alone.
MISSING_FIELDS = ("missing_protocol", "missing_rates", "missing_redraw", "missing_validation")
TRAINING_FIELDS = ("augmentations", *MISSING_FIELDS)
DataKind = Literal["reviews", "clips"]
_DEFAULTS = {"reviews": SYNTHETIC_REVIEWS, "clips": SYNTHETIC_CLIPS}


@dataclass
class ReviewFields:
    """Fields that only reviews have."""

    columns: dict | str | None = option(
        "The data's own name for each of text, id, split, stars, score, label, coarse_label, intensity, source (JSON); "
        "null leaves a field out. Other fields are found by their names; labels only if the mapping names none."
    )
    scale: list[float] | None = option("Lowest and highest score; 1 5 for files, 0 1 for the synthetic corpus.")
    sources: list[str] | None = option("Take only the reviews whose `source` is one of these.")
    num_labels: int | None = option(
        "Fine classes; by default as many as the data has: one a star, one for each value of label, five of a score."
    )
    class_words: list[str] | None = option(
        "Names of the fine classes, from worst to best: the words of a label column, or names for its numbers in "
        "rising order, for stars or for the parts of a score."
    )
    coarse_starts: list[int] | None = option(
        "The fine class that each coarse class begins with; 0 2 3 (the default for five classes) means 1-2 / 3 / 4-5 "
        "stars. By default those in the middle are neutral; two or three classes are their own coarse ones."
    )
    num_coarse_labels: int | None = option(
        "Coarse classes; 0 trains without them. By default as many as the data has, 0 if they would be the fine ones."
    )
    has_intensity: bool | None = option(
        "Whether intensities are learnt; by default if the data has stars, a score or an intensity."
    )
    intensity_range: list[float] | None = option(
        "Lowest and highest intensity, of the data's own ones and of those that scores give; 0 1 by default."
    )
    missing_classes: Literal["error", "allow"] = option(
        "Classes that the training data never shows are an error, or allowed with a warning.", "error"
    )


@dataclass
class ClipFields:
    """Fields that only clips have."""

    modalities: list[str] = list_option("Which modalities to use; the rest is taken away.", ("text", "audio", "vision"))
    label_range: list[float] = list_option(
        "Lowest and highest score; -1 1 (CH-SIMS) also chooses the metrics of CH-SIMS.", (-3.0, 3.0)
    )
    classes: list[str] | None = option(
        "Labels are classes: their names in the order of their numbers, or auto, the classes of the training rows in "
        "alphabetical (numbers in rising) order. By default labels are scores, except in a folder that was prepared "
        "with classes."
    )
    several_labels: bool = option(
        "Each clip has any number of the classes at once, also none: a list of names or numbers, a vector of 0 and 1 "
        "for `classes`, or text with ; , or | between names. Known of a folder that was prepared so.",
        False,
    )
    normalize: bool = option("Whether audio and vision are normalised by the training split.", True)
    allow_missing_features: bool = option(
        "Whether more than a tenth of the clips of a folder of features may have no file of features.", False
    )


@dataclass
class DataArguments(ClipFields, ReviewFields):
    """Where the data is, and the meaning of its columns and labels."""

    dataset: str | None = option(
        "Reviews: synthetic-reviews (default), a file (.csv, .tsv, .jsonl, .json, .xlsx, .parquet ...), a folder or "
        "pattern of such files, or the name of a data set on the Hub. Clips: synthetic-clips (default), an "
        "MMSA pickle (.pkl), the MOSI utterances (.npz), a folder written by `hf-fusion prepare`, a folder "
        "of features, or a data set on the Hub."
    )
    dataset_options: dict | str | None = option(
        "Options of the synthetic corpus, of the reader or of datasets.load_dataset (JSON)."
    )
    encoding: str | None = option("Of files of text, where it is not found: cp1252 ...")
    delimiter: str | None = option("Between the fields of .csv and .tsv, where it is not found: one character, or tab.")
    header: bool | None = option(
        "Whether the first line names the columns, where it looks like data; if not, they are called 1, 2 ..."
    )
    rejected_rows: Literal["error", "drop"] = option("Unusable rows are an error, or dropped with a warning.", "error")
    split_shares: list[float] = list_option(
        "Shares of train, validation, test where there is no split, or none but train; drawn by a hash of the text "
        "(reviews) or of the video's name (clips).",
        (0.8, 0.1, 0.1),
    )
    split_seed: int = option("Seed of that split.", 0)
    augmentations: dict | str | None = option(
        "Training only: adds a corrupted copy of each row; highest severity, 1 to 5, by corruption (JSON), such as "
        '{"typos": 3, "audio_noise": 4}; the kinds are those of `hf-fusion robustness`.'
    )
    missing_protocol: str | None = option(
        f"Training only: rows lose tokens, frames or whole modalities, others in every epoch, as in a protocol for "
        f"missing modalities: {', '.join(PROTOCOLS)}. See `hf-fusion robustness --protocol`."
    )
    missing_rates: list[float] | None = option(
        "The rates that `missing_protocol` draws from, such as 0.3; those of the protocol by default. For imbalanced "
        "the rates of text, audio and vision."
    )
    missing_redraw: bool = option("Whether the lost parts change from epoch to epoch.", True)
    missing_validation: bool = option(
        "Whether the best checkpoint is selected on validation rows that lose parts as well (three copies, the same "
        "ones in every epoch), or on complete ones. Metrics of the finished run are those of complete rows.",
        False,
    )
    damage: dict | str | None = option(
        'Evaluation only: corrupts the rows; severity 1 to 5 by corruption (JSON), such as {"word_dropout": 3}; see '
        "`hf-fusion robustness`. Modalities that the model does not read stay unchanged."
    )
    max_train_samples: int | None = option(
        "Number of training rows, drawn with the run's data_seed or seed; all by default."
    )
    max_eval_samples: int | None = option(
        "Number of rows of validation and of test; every run draws the same ones. All by default."
    )
    kind: DataKind = field(default="reviews", init=False)
    # the rows by split, where they are in memory; `dataset` is then their name for messages
    data: Splits | None = field(default=None, init=False, repr=False)
    _settled = None  # the rules of the data that was read

    def complete(self, kind: DataKind) -> None:
        """Fits the fields to a kind of data; raises [`RecipeError`] if one was set that is of another kind."""
        self.kind = kind
        for other, group in (("reviews", ReviewFields), ("clips", ClipFields)):
            for item in fields(group) if other != kind else ():
                if has_changed(item, getattr(self, item.name)):
                    raise RecipeError(f"`{item.name}` is a field of {other}, but this model reads {kind}.")
        for name in ("max_train_samples", "max_eval_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise RecipeError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.class_words is not None and len(self.class_words) == 1:
            raise RecipeError(
                f"`class_words` needs the words of at least two classes, got {self.class_words}. As flags they are "
                "separated by spaces: --class_words bad ok good"
            )
        self.dataset = self.dataset or _DEFAULTS[kind]
        check_choices(self)
        self.train_masks()

    def train_masks(self, seed: int = 0) -> TrainingMasks | None:
        """
        Creates the masks of a training under `missing_protocol`; `None` without one.

        Args:
            seed (`int`, *optional*, defaults to 0): seed of the masks.

        Raises:
            RecipeError: if there is no such protocol, or the other fields do not fit it.
        """
        if self.missing_protocol is not None:
            return TrainingMasks(self.missing_protocol, self.missing_rates, self.missing_redraw, seed)
        for item in (item for item in fields(self) if item.name in MISSING_FIELDS):
            if has_changed(item, getattr(self, item.name)):
                raise RecipeError(f"`{item.name}` does nothing without `missing_protocol`.")
        return None

    def source(self) -> ReviewSource | ClipSource:
        """The source that the readers take; raises [`RecipeError`] if the fields contradict each other."""
        shared = {
            "name": self.dataset or _DEFAULTS[self.kind],
            "rejected": self.rejected_rows,
            "split_shares": tuple(self.split_shares),
            "split_seed": self.split_seed,
            "options": self.dataset_options or {},
            "data": self.data,
        }
        if self.kind == "clips":
            low_high = tuple(self.label_range)
            has_classes = bool(self.classes) or self.several_labels
            if has_classes:
                self._check_no_range()
            if len(low_high) != 2 or not low_high[0] < low_high[1]:
                raise RecipeError(f"`label_range` must be the lowest and the highest label, got {self.label_range}.")
            return ClipSource(
                **shared,
                modalities=tuple(self.modalities),
                label_range=None if has_classes else low_high,
                classes=tuple(self.classes) if self.classes else None,
                several_labels=self.several_labels,
                allow_missing_features=self.allow_missing_features,
                text_format=TextFormat(self.encoding, self.delimiter, self.header),
            )
        sources = None if self.sources is None else tuple(self.sources)
        text_format = {"encoding": self.encoding, "delimiter": self.delimiter, "header": self.header}
        return ReviewSource(**shared, **text_format, columns=self.columns or {}, rules=self.rules(), sources=sources)

    def adopt_clip_classes(self, config) -> None:
        """
        Takes the classes of a model, or none for a model of scores, and whether a clip has several (clips).

        Raises:
            RecipeError: if the fields declare other classes, or several labels for a model of one class or a score.
        """
        names = None if config.num_labels == 1 else list(config.id2label.values())
        if names is None and (self.classes or self.several_labels):
            name = "classes" if self.classes else "several_labels"
            raise RecipeError(f"`{name}` is set, but the model predicts scores: remove it, or train a new model.")
        several = config.problem_type == "multi_label_classification"
        if self.several_labels and not several:
            raise RecipeError("`several_labels` is set, but the model predicts one class: remove it, or train anew.")
        self.several_labels = several
        if names and are_placeholders(names):
            self.classes = self.classes or ["auto"]
        elif names:
            if self.classes and self.classes not in (["auto"], names):
                raise RecipeError(
                    f"The model's classes are {listed(names)}, `classes` is {listed(self.classes)}: remove `classes`."
                )
            self.classes = names

    def settle_classes(self, names: list[str] | None, several_labels: bool = False) -> None:
        """Records the classes that the data has, and whether a clip has several, so that the recipe repeats the run."""
        if names:
            self._check_no_range()
        self.classes, self.several_labels = names, several_labels

    def _check_no_range(self):
        range_field = next(item for item in fields(ClipFields) if item.name == "label_range")
        if has_changed(range_field, self.label_range):
            raise RecipeError("`label_range` is for scores, but the labels are classes: remove it.")

    def adopt_classes(self, config) -> None:
        """Takes number and names of the classes from a model's configuration where they are not declared (reviews)."""
        names = list(config.id2label.values())
        if self.num_coarse_labels is None:
            self.num_coarse_labels = getattr(config, "num_coarse_labels", 0)
        if self.has_intensity is None:
            self.has_intensity = "intensity" in config.heads
        if self.num_labels is None and not self.class_words:
            self.num_labels = config.num_labels
        if self.intensity_range is None and "intensity" in config.heads:
            self.intensity_range = list(config.intensity_range)
        if self.coarse_starts is None and "coarse_logits" in config.heads:
            self._adopt_coarse_classes(config)
        if not self.class_words and self.num_labels == len(names) and not are_placeholders(names):
            self.class_words = names

    def _adopt_coarse_classes(self, config):
        """As [`adopt_classes`], of the coarse classes where there are not the usual ones."""
        parts = config.num_coarse_labels
        if config.coarse_starts is not None and tuple(config.coarse_starts) != coarse_starts(config.num_labels):
            self.coarse_starts = list(config.coarse_starts)
            return
        if parts == len(coarse_starts(config.num_labels)):
            return
        self.coarse_starts = [i * config.num_labels // parts for i in range(parts)]
        logger.warning(
            "The model has %d coarse classes; they are taken to begin at the fine classes %s. Where the data has no "
            "coarse labels of its own, `coarse_starts` says otherwise.",
            parts,
            self.coarse_starts,
        )

    def settle(self, rules: LabelRules) -> None:
        """Records classes that were derived from the data, so that the recipe repeats the run (reviews)."""
        self._settled = rules
        self.num_labels = rules.num_labels
        if rules.has_coarse and rules.coarse_follows:
            self.coarse_starts = list(rules.coarse)
        if rules.names and rules.names != CLASS_NAMES.get(rules.num_labels):
            self.class_words = list(rules.names)

    def limit_evaluation(self, rows: Dataset) -> Dataset:
        """At most `max_eval_samples` of the rows, in their order: a file may be sorted, by source or by label."""
        if not self.max_eval_samples or self.max_eval_samples >= len(rows):
            return rows
        drawn = np.random.default_rng(0).choice(len(rows), self.max_eval_samples, replace=False)
        return rows.select(sorted(drawn.tolist()))

    def rules(self) -> LabelRules:
        """Rules from ratings to labels (reviews); open ones are known once the data was read ([`settle`])."""
        if self._settled is not None:
            return self._settled
        try:
            return rules_for(
                self.dataset,
                self.scale,
                self.num_labels,
                self.class_words,
                self.coarse_starts,
                self.intensity_range,
                has_coarse=None if self.num_coarse_labels is None else self.num_coarse_labels > 0,
                has_intensity=self.has_intensity,
            )
        except LabelError as error:
            raise RecipeError(
                f"scale, num_labels, class_words, coarse_starts and intensity_range do not fit together: {error}"
            ) from error
