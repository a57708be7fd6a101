"""Architectures for reviews: texts with a fine class and, where the data has them, a coarse class and an intensity."""

from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PretrainedConfig

from hf_fusion.architectures.base import Architecture
from hf_fusion.architectures.rows import TRUNCATED, WINDOWS, token_counts
from hf_fusion.data.label_plan import check_classes_shown
from hf_fusion.data.labels import CLASS_NAMES, LabelRules, are_placeholders, word_key
from hf_fusion.data.reviews import read_reviews
from hf_fusion.evaluation.baselines import fit_review_baselines, majority_baseline, tfidf_baseline
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews
from hf_fusion.evaluation.review_evidence import gather_evidence
from hf_fusion.models.processing_dyfulm import rows_without_tokens
from hf_fusion.utils.errors import RecipeError


class ReviewArchitecture(Architecture):
    """Loads, encodes and evaluates reviews; subclasses build the model and diagnose it."""

    data_kind = "reviews"
    main_metrics = ("fine_accuracy", "coarse_accuracy")

    def load(self, data_args, config=None) -> DatasetDict:
        """Loads reviews with the classes of `config`, or of the data; see [`Architecture.load`]."""
        if config is not None:
            data_args.adopt_classes(config)
        reviews, rules = read_reviews(data_args.source())
        data_args.settle(rules)
        if data_args.num_coarse_labels not in (None, rules.num_coarse_labels) and config is None:
            raise RecipeError(
                f"`num_coarse_labels` is {data_args.num_coarse_labels}, but there are {rules.num_coarse_labels} coarse "
                "classes: set `coarse_starts` to the fine class that each of them begins with, or leave it out."
            )
        return reviews

    def check_training(self, train, data_args, is_sample=False) -> None:
        """Checks that all classes occur, unless `is_sample`; see [`Architecture.check_training`]."""
        policy = "allow" if is_sample else data_args.missing_classes
        check_classes_shown(train, data_args.rules(), data_args.dataset, policy)

    def check_data(self, config, data_args, rows) -> None:
        """Checks the classes; see [`Architecture.check_data`]."""
        check_classes(config, data_args.rules())

    def encode(self, rows, processor, long_texts="cut") -> Dataset:
        """Encodes reviews by [`encode_reviews`]; see [`Architecture.encode`]."""
        return encode_reviews(rows, processor, long_texts)

    def evaluate(self, predictions, folder=None, picture_format="png") -> dict[str, float]:
        """Evaluates reviews by [`evaluate_reviews`]; see [`Architecture.evaluate`]."""
        return evaluate_reviews(predictions, folder, picture_format)

    def gather_evidence(self, parts, rows, train=None, kept=None) -> dict[str, Any]:
        """Gathers evidence by [`gather_evidence`]; see [`Architecture.gather_evidence`]."""
        return gather_evidence(parts, kept if train is None else fit_review_baselines(train, rows))

    def measure_baselines(self, splits, data_args) -> dict[str, dict[str, float]]:
        """Measures the majority class, and linear models on TF-IDF."""
        train, test = splits["train"], splits["test"]
        return {"majority": majority_baseline(train, test), "TF-IDF + linear": tfidf_baseline(train, test)}

    def zero_shot_outputs(self, probabilities, data_args) -> dict[str, np.ndarray]:
        """
        Derives the outputs from the fine classes: a coarse class has the sum of their probabilities, the intensity is
        the expected place of the class on the intensity range. See [`Architecture.zero_shot_outputs`].
        """
        rules = data_args.rules()
        tiny = np.finfo(np.float32).tiny  # a probability of 0 has no logarithm
        outputs = {"logits": np.log(np.maximum(probabilities, tiny))}
        if rules.has_coarse:
            coarse = np.add.reduceat(probabilities, rules.coarse, axis=1)  # (rows, coarse classes)
            outputs["coarse_logits"] = np.log(np.maximum(coarse, tiny))
        if rules.has_intensity:
            outputs["intensity"] = probabilities @ np.linspace(*rules.intensity_range, rules.num_labels)
        return outputs


def encode_reviews(reviews: Dataset, processor, long_texts: str = "cut") -> Dataset:
    """
    Replaces the text by the inputs of the model, `length` (of the longer tokenisation) and `text_truncated`; with
    `long_texts` "window" also `text_windows` and the lengths of the windows. A text without tokens has the length 0,
    see [`drop_unreadable`].
    """
    in_windows = long_texts == "window"

    def encode_batch(batch):  # columns of texts -> columns of ids, masks and spans
        encoded = processor.encode_text(batch["text"], return_truncated=True, return_windows=in_windows)
        truncated = encoded.pop("truncated")
        if in_windows:
            encoded[WINDOWS] = list(map(len, encoded["window_lengths"]))
        lengths = token_counts(encoded)
        for i in rows_without_tokens(encoded, processor.tokenizers):
            lengths[i] = 0
        return {**encoded, "length": lengths, TRUNCATED["text"]: truncated}

    unused = [name for name in ("text", "source") if name in reviews.column_names]
    return reviews.map(encode_batch, batched=True, remove_columns=unused, desc="tokenizing")


def class_fields(rules: LabelRules, recipe_fields: dict[str, Any]) -> dict[str, Any]:
    """
    Returns the configuration fields of the classes and of the intensity range.

    Args:
        rules ([`LabelRules`]): the rules of the data.
        recipe_fields (`dict`): configuration fields of the recipe; they take precedence.

    Raises:
        RecipeError: if the recipe's `id2label` renames classes that the data names.
    """
    fields = {
        "num_labels": rules.num_labels,
        "num_coarse_labels": rules.num_coarse_labels,
        "coarse_starts": list(rules.coarse) if rules.has_coarse and rules.coarse_follows else None,
        "has_intensity": rules.has_intensity,
        "intensity_range": rules.intensity_range,
        "class_values": None if rules.values is None else list(rules.values),
    }
    if "id2label" in recipe_fields:
        names, usual = list(recipe_fields["id2label"].values()), CLASS_NAMES.get(rules.num_labels)
        if rules.names not in (None, usual) and not _same_names(names, rules.names):
            raise RecipeError(
                f"`id2label` names the classes {', '.join(names)}, but the data calls them {', '.join(rules.names)}: "
                "remove `id2label`."
            )
    elif rules.names:
        fields["id2label"] = dict(enumerate(rules.names))
        fields["label2id"] = {name: i for i, name in enumerate(rules.names)}
    if rules.coarse_names and rules.has_coarse:
        fields["coarse_id2label"] = dict(enumerate(rules.coarse_names))
    return {**fields, **recipe_fields}


def check_classes(config: PretrainedConfig, rules: LabelRules) -> None:
    """Raises [`RecipeError`] if the classes of the data are not those of the model in the same order."""
    ours, theirs = [config.num_labels], [rules.num_labels]
    if hasattr(config, "num_coarse_labels"):
        ours, theirs = [*ours, config.num_coarse_labels], [*theirs, rules.num_coarse_labels]
    if ours != theirs:
        raise RecipeError(
            f"The model has {_describe_counts(ours)} classes, the labels of the data have {_describe_counts(theirs)}; "
            "set num_labels and coarse_starts to match."
        )
    names = list(config.id2label.values())
    if rules.names is not None and not _same_names(rules.names, names) and not are_placeholders(names):
        raise RecipeError(
            f"The model's classes are {', '.join(names)}, those of the data {', '.join(rules.names)}: set class_words "
            "to those of the model, or remove it."
        )
    if rules.has_intensity and not getattr(config, "has_intensity", True):
        raise RecipeError("The model has no intensity: leave has_intensity out.")
    if "intensity" in config.heads and tuple(config.intensity_range) != rules.intensity_range:
        raise RecipeError(
            "The model's intensities lie from {:g} to {:g}, those of the data from {:g} to {:g}: leave intensity_range "
            "out.".format(*config.intensity_range, *rules.intensity_range)
        )


def name_classes(config: PretrainedConfig, rules: LabelRules) -> None:
    """Replaces placeholder names of classes by the names of the data, and adds their values."""
    for field, names in (("id2label", rules.names), ("coarse_id2label", rules.coarse_names)):
        ours = getattr(config, field, None)
        if names and ours and len(ours) == len(names) and are_placeholders(ours.values()):
            setattr(config, field, dict(enumerate(names)))
    config.label2id = {name: i for i, name in config.id2label.items()}
    add_class_values(config, rules)


def add_class_values(config: PretrainedConfig, rules: LabelRules) -> None:
    """Sets `class_values` to those of the data, if the configuration has such a field and no values yet."""
    if "class_values" in config.answer_fields and config.class_values is None and rules.values is not None:
        config.class_values = list(rules.values)


def _same_names(first, second):
    return [*map(word_key, first)] == [*map(word_key, second)]


def _describe_counts(counts):
    return " and ".join(f"{count} {name}" for count, name in zip(counts, ("fine", "coarse"), strict=False))
