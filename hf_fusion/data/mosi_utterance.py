"""CMU-MOSI by utterances: one audio and one vision vector for each, and its text."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from hf_fusion.utils.errors import DataError, listed

SPLIT_COLUMNS = ("split", "split_standard", "split_bclstm")
_VECTORS = ("audio", "vision", "text_cnn")
_FIELDS = ("ids", "video_id", "clip_id", "raw_text", "audio", "vision", "regression_label")


def read_mosi_utterance(
    path: str,
    split: str = "split",
    context: int = 0,
    text_features: bool = False,
    modalities: tuple[str, ...] = ("text", "audio", "vision"),
) -> Iterator[dict[str, Any]]:
    """
    Utterances of MOSI, one by one.

    The file has one vector for each utterance and modality. A time axis can be had over the utterances of the video:
    the frames of a clip are its own vector first, then those of the utterances before it, back in time.

    Args:
        path: an .npz file with `ids`, `video_id`, `clip_id`, `raw_text`, `audio`, `vision`, `regression_label`
            (-3 to 3) and the column of the split.
        split: "split", "split_standard" or "split_bclstm" (which has no validation part).
        context: how many utterances before the own one to add as frames.
        text_features: whether to add the column `text_features` (`text_cnn` of the file), for linear baselines.
        modalities: which ones will be used. The vision vectors and `text_cnn` were learned with the labels of videos
            that lie in the test part of "split_standard": with this split only text is allowed.

    Raises:
        DataError: if the file lacks a field, or if the split would leak labels.
    """
    if split not in SPLIT_COLUMNS:
        raise DataError(f"{path}: the split column must be one of {', '.join(SPLIT_COLUMNS)}, got {split!r:.100}.")
    if split == "split_standard" and (text_features or set(modalities) - {"text"}):
        raise DataError(
            f"{path}: with split_standard the features leak: they were learned with labels of its test videos. Use "
            "the text alone (`modalities`), or the column 'split'."
        )
    if isinstance(context, bool) or not isinstance(context, int) or context < 0:
        raise DataError(f"{path}: `context` must be a whole number of at least 0, got {context!r:.100}.")
    try:
        with np.load(path, allow_pickle=False) as content:
            wanted = (*_FIELDS, split, *(["text_cnn"] if text_features else []))
            missing = [name for name in wanted if name not in content]
            if missing:
                raise DataError(f"{path}: no field {missing[0]!r}; there are {listed(content)}.")
            data = {name: content[name] for name in wanted}
    except DataError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file.") from error
    except Exception as error:  # wrong bytes can make numpy and zipfile fail in any way
        raise DataError(f"{path}: cannot be read as arrays: {error}") from error
    for name, values in data.items():
        if values.ndim != (2 if name in _VECTORS else 1):
            raise DataError(f"{path}: the field {name!r} has the shape {values.shape}, which is none of its kind.")
    for name, kind in (("clip_id", int), ("regression_label", float)):
        try:
            data[name] = [kind(value) for value in data[name]]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the field {name!r} is not of numbers: {str(error)[:200]}") from error
    counts = {name: len(values) for name, values in data.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: the fields differ in length: {counts}.")
    yield from _utterances(data, split, context)


def _utterances(data, split, context):
    before = _utterances_before(data["video_id"], data["clip_id"])
    for i, clip_id in enumerate(data["ids"].tolist()):
        frames = [i]
        while len(frames) <= context and before[frames[-1]] is not None:
            frames.append(before[frames[-1]])
        row = {
            "id": str(clip_id),
            "split": str(data[split][i]),
            "text": str(data["raw_text"][i]).lower(),  # transcripts are in capitals
            "audio": data["audio"][frames],
            "vision": data["vision"][frames],
            "label": data["regression_label"][i],
        }
        if "text_cnn" in data:
            row["text_features"] = data["text_cnn"][i]
        yield row


def _utterances_before(video_ids, clip_ids):
    """For each utterance the row of the one before it in its video, or `None`."""
    before = [None] * len(video_ids)
    order = sorted(range(len(video_ids)), key=lambda i: (str(video_ids[i]), clip_ids[i]))
    for earlier, later in pairwise(order):
        if video_ids[earlier] == video_ids[later]:
            before[later] = earlier
    return before
