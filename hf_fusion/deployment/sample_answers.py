"""What a checkpoint answers to inputs that never change: tells a folder in which something was exchanged."""

import json
from pathlib import Path

import numpy as np
import torch

from hf_fusion.utils.errors import DataError

ANSWERS_FILE = "answers.json"

_TEXTS = ("The room was lovely, but nobody came to clean it.", "It broke on the second day, and they kept my money!")
# The same weights answer so far apart on other machines; a text of another meaning answers much farther.
_TOLERANCE = 1e-3


def sample_answers(model, processor) -> dict[str, list]:
    """
    The outputs that count at inference, by name, for two clips of random frames or two texts.

    Args:
        model: a DyFuLM or DashFusion with a head; its weights become float32, on the CPU.
        processor: makes its inputs.
    """
    model = model.float().cpu().eval()
    config = model.config
    columns = {"text": list(_TEXTS)}
    for name in set(config.modalities) - {"text"}:
        frames = min(6, getattr(config, f"max_{name}_length"))
        shape = (len(_TEXTS), frames, getattr(config, f"{name}_feature_size"))
        columns[name] = list(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    inputs = processor(**{name: columns[name] for name in config.modalities}, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    names = sorted(set(outputs) - {"loss", *config.keys_to_ignore_at_inference})
    return {name: outputs[name].tolist() for name in names if torch.is_tensor(outputs[name])}


def check_answers(folder: str, model, processor) -> bool:
    """
    Compares a loaded checkpoint with what its run recorded at the end of the training.

    Args:
        folder: of the run.
        model, processor: what was loaded from it.

    Returns:
        Whether the run recorded its answers; older runs and other folders did not.

    Raises:
        DataError: if it answers otherwise, or the record cannot be read.
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
    except (ValueError, TypeError, AttributeError) as error:  # also lists of other shapes
        raise DataError(f"{path} cannot be compared with what the model answers: {error}") from error
    if not same:
        raise DataError(
            f"{folder}: the model does not answer as it did at the end of its training ({ANSWERS_FILE}): its weights, "
            f"processor or configuration were exchanged. If that was on purpose, delete {ANSWERS_FILE}."
        )
    return True
