"""Compares the outputs of a checkpoint for fixed inputs with a record, to detect exchanged files."""

import json
from pathlib import Path

import numpy as np
import torch

from hf_fusion.utils.errors import DataError

ANSWERS_FILE = "answers.json"

_TEXTS = ("The room was lovely, but nobody came to clean it.", "It broke on the second day, and they kept my money!")
# Outputs of the same weights differ by less between machines; those of other weights differ by far more.
_TOLERANCE = 1e-3


def sample_inputs(config) -> list[dict]:
    """Returns two clips of random frames, or two texts, as the pipeline reads them."""
    rows: list[dict] = [{"text": text} if "text" in config.modalities else {} for text in _TEXTS]
    for name in set(config.modalities) - {"text"}:
        frames = min(6, getattr(config, f"max_{name}_length"))
        shape = (len(rows), frames, getattr(config, f"{name}_feature_size"))
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def sample_answers(model, processor) -> dict[str, list]:
    """
    Computes the outputs of the heads by name for [`sample_inputs`].

    Args:
        model: a DyFuLM or DashFusion with a head; it is converted to float32 on the CPU.
        processor: the processor of the model.
    """
    model = model.float().cpu().eval()
    config = model.config
    rows = sample_inputs(config)
    columns = {name: [row[name] for row in rows] for name in config.modalities}
    inputs = processor(**columns, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    names = sorted(set(outputs) - {"loss", *config.keys_to_ignore_at_inference})
    return {name: outputs[name].tolist() for name in names if torch.is_tensor(outputs[name])}


def check_answers(folder: str, model, processor) -> bool:
    """
    Compares the outputs of a loaded checkpoint with those that its run recorded at the end of the training.

    Args:
        folder: the run folder.
        model, processor: loaded from this folder.

    Returns:
        `bool`: whether the folder has a record. Older runs and other folders have none.

    Raises:
        DataError: if the outputs differ, or the record cannot be read.
    """
    path = Path(folder, ANSWERS_FILE)
    if not path.is_file():
        return False
    answers = sample_answers(model, processor)
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        same = recorded.keys() == answers.keys() and all(
            np.allclose(recorded[name], answers[name], rtol=_TOLERANCE, atol=_TOLERANCE) for name in answers
        )
    except (ValueError, TypeError, AttributeError) as error:  # also raised for lists of other shapes
        raise DataError(f"{path} cannot be compared with the outputs of the model: {error}") from error
    if not same:
        raise DataError(
            f"{folder}: the outputs of the model differ from those at the end of its training ({ANSWERS_FILE}): its "
            f"weights, processor or configuration were exchanged. If that was on purpose, delete {ANSWERS_FILE}."
        )
    return True
