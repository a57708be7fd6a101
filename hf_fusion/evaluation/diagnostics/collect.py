"""What diagnoses look at: a model over labelled rows with all that it can tell of itself, and its training's logs."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset

from hf_fusion.models.feature_extraction_dashfusion import STREAMS

_STATE_FILE = "trainer_state.json"


def training_logs(checkpoint: str | Path, prefix: str) -> list[dict[str, float]]:
    """The logs of a run folder's training that have a name with this prefix; none if it is no run folder."""
    path = Path(checkpoint) / _STATE_FILE
    if not path.is_file():
        return []
    logs = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return [log for log in logs if any(name.startswith(prefix) for name in log)]


def inputs_of(rows: Dataset) -> list[dict]:
    """What the pipeline reads of each row: text as a string, frames as arrays, without what is missing."""
    names = [name for name in ("text", *STREAMS) if name in rows.column_names]
    given = []
    for row in rows.select_columns(names).with_format("numpy"):
        clip = {name: row[name] for name in names if row[name] is not None and len(row[name])}
        given.append({**clip, "text": str(clip["text"])} if "text" in clip else clip)
    return given


def outputs_over(classify, rows: Dataset, batch_size: int = 32) -> Iterator[tuple[list[int], dict, dict]]:
    """
    Runs the model with `output_fusion=True`.

    Args:
        classify ([`FusionSentimentPipeline`]): model and processor.
        rows: with what the model reads.
        batch_size: rows of a forward pass; neighbours have like length.

    Yields:
        Numbers of the rows, the model's inputs, and its outputs on the CPU (in float32).
    """
    inputs = inputs_of(rows)
    order = sorted(range(len(inputs)), key=lambda i: max(map(len, inputs[i].values())), reverse=True)
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        batch = classify.preprocess([inputs[i] for i in members])
        on_device = classify._ensure_tensor_on_device(batch, device=classify.device)
        with torch.inference_mode():
            outputs = classify.model(**on_device, output_fusion=True)
        yield members, batch, {name: _on_cpu(value) for name, value in outputs.items()}


def _on_cpu(value):
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    return value.float().cpu() if value.is_floating_point() else value.cpu()
