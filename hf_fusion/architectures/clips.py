"""Architectures for clips: text, audio and vision with a sentiment score or a class."""

import logging
from collections import Counter
from itertools import chain

import numpy as np
from datasets import Dataset, DatasetDict, List, Value, concatenate_datasets

from hf_fusion.architectures.base import Architecture
from hf_fusion.architectures.rows import TRUNCATED, get_length_limit, token_counts
from hf_fusion.data.arrow_rows import lengths_of
from hf_fusion.data.clip_classes import class_names, has_label_sets
from hf_fusion.data.clips import load_clips
from hf_fusion.data.label_sets import label_vectors
from hf_fusion.data.labels import are_placeholders, warn_of_other_scale
from hf_fusion.data.tally import tally
from hf_fusion.evaluation.baselines import class_baselines, label_set_baselines, mean_baseline, ridge_baseline
from hf_fusion.evaluation.evaluate_clips import evaluate_clips
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.processing_dyfulm import rows_without_tokens
from hf_fusion.utils.errors import DataError, RecipeError, listed

logger = logging.getLogger(__name__)


class ClipArchitecture(Architecture):
    """Loads, encodes and evaluates clips; subclasses build the model and diagnose it."""

    data_kind = "clips"
    main_metrics = (
        "mae", "acc2_has0", "acc2_non0", "hamming_loss", "micro_f1", "macro_f1", "uar", "accuracy",
    )  # fmt: skip

    def load(self, data_args, config=None) -> DatasetDict:
        """Loads clips with scores, or with the classes of `config` or of the data; see [`Architecture.load`]."""
        if config is not None:
            data_args.adopt_clip_classes(config)
        clips = load_clips(data_args.source())
        first = next(iter(clips.values()))
        data_args.settle_classes(class_names(first), has_label_sets(first))
        return clips

    def select_metric(self, data_args) -> str | None:
        """Returns `uar` for classes and `macro_f1` for several labels; see [`Architecture.select_metric`]."""
        if data_args.several_labels:
            return "macro_f1"
        return "uar" if data_args.classes else None

    def check_training(self, train, data_args, is_sample=False) -> None:
        """
        Warns if the labels seem to have another scale than `label_range`, or if a class has no row; see
        [`Architecture.check_training`].
        """
        if data_args.classes:
            _warn_of_absent_classes(train, data_args)
        elif not is_sample:
            warn_of_other_scale(np.array(train["label"], dtype=float), data_args.label_range, data_args.dataset)

    def check_data(self, config, data_args, rows) -> None:
        """Checks classes and the widths of the frames; see [`Architecture.check_data`]."""
        check_clip_classes(config, data_args.classes, data_args.several_labels)
        check_widths(config, rows)

    def encode(self, rows, processor, long_texts="cut") -> Dataset:
        """Encodes clips by [`encode_clips`]; see [`Architecture.encode`]."""
        if long_texts == "window":
            raise RecipeError("`long_texts` window is for reviews; the texts of clips are cut: remove it.")
        return encode_clips(rows, processor)

    def evaluate(self, predictions, folder=None, picture_format="png") -> dict[str, float]:
        """Evaluates clips by [`evaluate_clips`]; see [`Architecture.evaluate`]."""
        return evaluate_clips(predictions, folder, picture_format)

    def measure_baselines(self, splits, data_args) -> dict[str, dict[str, float]]:
        """
        Measures the mean score and ridge regression, or for classes the largest class and logistic regression, for
        several labels their shares and one logistic regression each: on single modalities and on all of them.
        """
        if "validation" not in splits:
            raise DataError(f"{data_args.dataset} has no validation split; it has {', '.join(splits)}.")
        present = [name for name in MODALITIES if name in splits["train"].column_names]
        if data_args.classes:
            return (label_set_baselines if data_args.several_labels else class_baselines)(splits, present)
        results = {"mean": mean_baseline(splits, data_args.label_range)}
        for modalities in [[name] for name in present] + ([present] if len(present) > 1 else []):
            name = "ridge: " + " + ".join(modalities)
            results[name] = ridge_baseline(splits, modalities, data_args.label_range)
        return results


def encode_clips(clips: Dataset, processor) -> Dataset:
    """
    Tokenises the texts; keeps `audio` and `vision`; adds `labels` (label sets as vectors of 0 and 1), `length` (of the
    longest modality) and `{modality}_truncated`. A text without tokens counts as missing. A clip without any modality
    has the length 0, see [`drop_unreadable`].
    """
    parts = []
    lengths = [0] * len(clips)
    if "text" in clips.column_names:
        texts = clips.select_columns(["text"])
        parts.append(
            texts.map(
                lambda batch: _encode_texts(batch["text"], processor),
                batched=True,
                remove_columns=["text"],
                desc="tokenizing",
            )
        )
        lengths = token_counts(parts[0])
        tokenless = sum(text is not None and not n for text, n in zip(clips["text"], lengths, strict=True))
        if tokenless:
            tally("texts have no token and count as missing", tokenless)
            logger.warning("%d texts have no token that the tokenizers know and count as missing.", tokenless)
    for name in STREAMS:
        if name not in clips.column_names:
            continue
        frames = clips.select_columns([name])
        parts.append(frames)
        counts = lengths_of(frames, name)
        limit = get_length_limit(processor, name)
        parts.append(Dataset.from_dict({TRUNCATED[name]: [count > limit for count in counts]}))
        lengths = [max(length, min(count, limit)) for length, count in zip(lengths, counts, strict=True)]
    rest = clips.select_columns(["id", "label"])
    if has_label_sets(clips):
        count = len(class_names(clips))
        vectors = label_vectors(rest["label"], count).tolist()
        rest = rest.remove_columns("label").add_column("labels", vectors, feature=List(Value("float32"), length=count))
    else:
        rest = rest.rename_column("label", "labels")
    rest = rest.add_column("length", lengths)
    return concatenate_datasets([rest, *parts], axis=1)


def _encode_texts(texts, processor):
    """Returns the columns of the text inputs, empty for texts without tokens."""
    columns = processor.encode_text(texts, return_truncated=True)
    truncated = columns.pop("truncated")
    for i in rows_without_tokens(columns, processor.tokenizers):
        for values in columns.values():
            values[i] = []
    return {**columns, TRUNCATED["text"]: truncated}


def check_clip_classes(config, names, several_labels=False):
    """
    Raises `RecipeError` if a data set has other classes than the model, scores where the model has classes, or one
    class where the model has several.
    """
    if config.num_labels == 1 and names:
        raise RecipeError(f"The model predicts scores, but the labels of the data are classes ({listed(names)}).")
    if config.num_labels == 1:
        return
    if several_labels != (config.problem_type == "multi_label_classification"):
        words = ("one class", "several labels")
        model, data = (words[several] for several in (not several_labels, several_labels))
        raise RecipeError(f"The model predicts {model} for each clip, the data has {data}: see `several_labels`.")
    ours = list(config.id2label.values())
    if names is None or len(names) != len(ours) or not (names == ours or are_placeholders(ours)):
        theirs = f"classes {listed(names)}" if names else "scores"
        raise RecipeError(f"The model has the classes {listed(ours)}, the data has {theirs}.")


def name_clip_classes(config, names):
    """Replaces placeholder names of classes by the names of the data."""
    if names and are_placeholders(config.id2label.values()):
        config.id2label = dict(enumerate(names))


def _warn_of_absent_classes(train, data_args):
    counts = Counter(chain.from_iterable(train["label"]) if data_args.several_labels else train["label"])
    if absent := [name for i, name in enumerate(data_args.classes) if not counts[i]]:
        logger.warning(
            "%s: no training row has the class %s: a model cannot learn it.", data_args.dataset, listed(absent)
        )


def check_widths(config, clips):
    """Raises `RecipeError` if the frames of the data do not have the widths of the model."""
    for name in STREAMS:
        expected = getattr(config, f"{name}_feature_size")
        if name in clips.column_names and clips.features[name].shape[1] != expected:
            raise RecipeError(
                f"The model reads {name} frames of {expected} features, those of the data have "
                f"{clips.features[name].shape[1]}."
            )
