"""What differs between the architectures in a training run: which data, which model, which tensors."""

import logging

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from hf_fusion.data.arrow_rows import lengths_of
from hf_fusion.data.clips import load_clips
from hf_fusion.data.label_columns import check_classes_shown
from hf_fusion.data.labels import warn_of_other_scale
from hf_fusion.data.reviews import read_reviews
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.training.build import build_dashfusion, build_dyfulm

logger = logging.getLogger(__name__)


class ReviewTask:
    """Reviews for a DyFuLM."""

    unit = "review"

    @staticmethod
    def load(data_args, config=None) -> DatasetDict:
        """Reads the reviews; for a model that is there, with its classes. `data_args` then tell all classes."""
        if config is not None:
            data_args.adopt_classes(config)
        reviews, rules = read_reviews(data_args.source())
        data_args.settle(rules)
        return reviews

    @staticmethod
    def check_training(train: Dataset, data_args, is_sample: bool = False) -> None:
        """Raises `DataError` if the training split never shows a class; warns if that is allowed, or of a sample."""
        policy = "allow" if is_sample else data_args.missing_classes
        check_classes_shown(train, data_args.rules(), data_args.dataset, policy)

    @staticmethod
    def build(model_args, data_args, train, teacher=None):
        """Model and processor for a training split; of a student, with the pipeline of its teacher."""
        return build_dyfulm(model_args, data_args.rules(), train["text"], teacher)

    @staticmethod
    def encode(reviews: Dataset, processor) -> Dataset:
        """Adds the model's inputs and `length`, the longer of the two tokenisations; drops the text."""

        def encode(batch):  # columns of texts -> columns of ids, masks and spans
            encoded = processor.encode_text(batch["text"])
            return {**encoded, "length": _token_counts(encoded)}

        unused = [name for name in ("text", "source") if name in reviews.column_names]
        return reviews.map(encode, batched=True, remove_columns=unused, desc="tokenizing")


class ClipTask:
    """Clips for a DashFusion."""

    unit = "clip"

    @staticmethod
    def load(data_args, config=None) -> DatasetDict:
        """Reads the clips."""
        return load_clips(data_args.source())

    @staticmethod
    def check_training(train: Dataset, data_args, is_sample: bool = False) -> None:
        """Warns if the labels lie in a small part of their range: they may be on another scale."""
        warn_of_other_scale(np.array(train["label"], dtype=float), data_args.label_range, data_args.dataset)

    @staticmethod
    def build(model_args, data_args, train, teacher=None):
        """Model and processor for a training split, on which the normalisation is fitted. (Nothing teaches it.)"""
        return build_dashfusion(model_args, data_args, train)

    @staticmethod
    def encode(clips: Dataset, processor) -> Dataset:
        """The text's tensors, `audio` and `vision` as they are, `labels`, and `length`: of the longest modality."""
        parts = []
        lengths = [0] * len(clips)
        if "text" in clips.column_names:
            texts = clips.select_columns(["text"])
            parts.append(
                texts.map(
                    lambda batch: processor.encode_text(batch["text"]),
                    batched=True,
                    remove_columns=["text"],
                    desc="tokenizing",
                )
            )
            lengths = _token_counts(parts[0])
        for name in STREAMS:
            if name not in clips.column_names:
                continue
            frames = clips.select_columns([name])
            parts.append(frames)
            counts = lengths_of(frames, name)
            limit = getattr(processor.feature_extractor, f"max_{name}_length")
            if too_long := sum(count > limit for count in counts):
                logger.warning("%d of %d clips are cut to their first %d %s frames.", too_long, len(clips), limit, name)
            lengths = [max(length, min(count, limit)) for length, count in zip(lengths, counts, strict=True)]
        rest = clips.select_columns(["id", "label"]).rename_column("label", "labels").add_column("length", lengths)
        return concatenate_datasets([rest, *parts], axis=1)


TASKS = {"dyfulm": ReviewTask, "dashfusion": ClipTask}


def _token_counts(encoded):
    """Tokens of each row; with two tokenisations, of the longer one."""
    if isinstance(encoded, Dataset):
        sides = [lengths_of(encoded, name) for name in encoded.column_names if name.startswith("input_ids")]
    else:
        sides = [list(map(len, encoded[name])) for name in encoded if name.startswith("input_ids")]
    return [max(pair) for pair in zip(*sides, strict=True)]
