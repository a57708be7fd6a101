"""What differs between the architectures in a training run: which data, which model, which tensors."""

import logging

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from hf_fusion.architectures.build import build_dashfusion, build_dyfulm
from hf_fusion.data.arrow_rows import lengths_of
from hf_fusion.data.clips import load_clips
from hf_fusion.data.label_columns import check_classes_shown
from hf_fusion.data.labels import warn_of_other_scale
from hf_fusion.data.reviews import read_reviews
from hf_fusion.data.splits import report_rejected
from hf_fusion.data.tally import tally
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.processing_dyfulm import rows_without_tokens
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

# Columns of encoded rows that say whether a modality was cut.
TRUNCATED = {name: f"{name}_truncated" for name in ("text", *STREAMS)}


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
        """
        Adds the model's inputs, `length`, the longer of the two tokenisations, and `text_truncated`; drops the text.
        The length of a text without a token is 0, see [`drop_unreadable`].
        """

        def encode(batch):  # columns of texts -> columns of ids, masks and spans
            encoded = processor.encode_text(batch["text"], return_truncated=True)
            truncated = encoded.pop("truncated")
            lengths = _token_counts(encoded)
            for i in rows_without_tokens(encoded, processor.tokenizers):
                lengths[i] = 0
            return {**encoded, "length": lengths, TRUNCATED["text"]: truncated}

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
        if not is_sample:
            warn_of_other_scale(np.array(train["label"], dtype=float), data_args.label_range, data_args.dataset)

    @staticmethod
    def build(model_args, data_args, train, teacher=None):
        """Model and processor for a training split, on which the normalisation is fitted. (Nothing teaches it.)"""
        return build_dashfusion(model_args, data_args, train)

    @staticmethod
    def encode(clips: Dataset, processor) -> Dataset:
        """
        The text's tensors, `audio` and `vision` as they are, `labels`, `length`: of the longest modality, and for each
        modality whether it is cut (`text_truncated` ...). A text without a token counts as missing; the length of a
        clip with nothing else is 0, see [`drop_unreadable`].
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
            lengths = _token_counts(parts[0])
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
            limit = limit_of(processor, name)
            parts.append(Dataset.from_dict({TRUNCATED[name]: [count > limit for count in counts]}))
            lengths = [max(length, min(count, limit)) for length, count in zip(lengths, counts, strict=True)]
        rest = clips.select_columns(["id", "label"]).rename_column("label", "labels").add_column("length", lengths)
        return concatenate_datasets([rest, *parts], axis=1)


TASKS = {"dyfulm": ReviewTask, "dashfusion": ClipTask}


def drop_unreadable(encoded: Dataset, rows: Dataset, place: str, policy: str) -> tuple[Dataset, Dataset]:
    """
    Leaves out rows without a token, or anything else, that the model could read.

    Args:
        encoded: the rows as `encode` of a task returns them.
        rows: the same rows before.
        place: of the rows, for messages.
        policy: "error" raises, "drop" logs a warning.

    Returns:
        Both without these rows.

    Raises:
        DataError: with `policy="error"`, if there are any; or if no row is left.
    """
    lengths = np.array(encoded["length"])
    empty = np.flatnonzero(lengths == 0)
    if not len(empty):
        return encoded, rows
    texts = rows.select_columns([name for name in ("id", "text") if name in rows.column_names]).select(empty)
    named = [f"{row.get('id', empty[i] + 1)} ({row.get('text')!r:.100})" for i, row in enumerate(texts)]
    report_rejected(place, {"no token that the tokenizers know": named}, policy)
    if len(empty) == len(lengths):
        raise DataError(f"{place}: no row is left.")
    kept = np.flatnonzero(lengths)
    return encoded.select(kept), rows.select(kept)


def limit_of(processor, modality: str) -> int:
    """The most tokens, or frames, that are read of a modality."""
    if modality == "text":
        return processor.max_length
    return getattr(processor.feature_extractor, f"max_{modality}_length")


def take_truncated(encoded: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Takes the columns away that say what was cut; returns the other ones, and by modality the number of cut rows."""
    counts = {name: sum(encoded[column]) for name, column in TRUNCATED.items() if column in encoded.column_names}
    return encoded.remove_columns([TRUNCATED[name] for name in counts]), counts


def warn_of_truncation(counts: dict[str, dict[str, int]], rows: dict[str, int], unit: str, processor) -> None:
    """
    Logs what is cut, a line for each split and modality.

    Args:
        counts: for each split what [`take_truncated`] returns.
        rows: number of rows of each split.
        unit: "review" or "clip".
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): knows the limits.
    """
    for split, found in counts.items():
        for name, count in found.items():
            if count:
                parts = "tokens" if name == "text" else f"{name} frames"
                logger.warning(
                    "%s of %s %s %ss are cut to their first %d %s.",
                    f"{count:,}", f"{rows[split]:,}", split, unit, limit_of(processor, name), parts,
                )  # fmt: skip


def _encode_texts(texts, processor):
    """Columns of the text's tensors, empty where no tokenizer finds a token."""
    columns = processor.encode_text(texts, return_truncated=True)
    truncated = columns.pop("truncated")
    for i in rows_without_tokens(columns, processor.tokenizers):
        for values in columns.values():
            values[i] = []
    return {**columns, TRUNCATED["text"]: truncated}


def _token_counts(encoded):
    """Tokens of each row; with two tokenisations, of the longer one."""
    if isinstance(encoded, Dataset):
        sides = [lengths_of(encoded, name) for name in encoded.column_names if name.startswith("input_ids")]
    else:
        sides = [list(map(len, encoded[name])) for name in encoded if name.startswith("input_ids")]
    return [max(pair) for pair in zip(*sides, strict=True)]
