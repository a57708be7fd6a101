"""Runs a model once over labelled rows for all diagnoses, and reads its training logs."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.models.feature_extraction_dashfusion import STREAMS

_STATE_FILE = "trainer_state.json"

Track = Callable[[Iterable, str, int], Iterable]


def untracked(steps: Iterable, name: str, total: int) -> Iterable:
    """The default of `track`: no progress bar."""
    return steps


class Diagnosis:
    """
    A section of the report that needs the outputs of the model. The model runs once for all diagnoses; each one keeps
    from every batch only the values for its section.
    """

    applies = True  # whether the diagnosis fits the model and the rows

    def observe(self, numbers: list[int], outputs: dict[str, Any]) -> None:
        """Receives the outputs for the rows with these numbers."""
        raise NotImplementedError

    def section(self) -> Section | None:
        """Returns the section after all rows were observed; `None` if there is nothing to report."""
        raise NotImplementedError

    def report(self) -> Section | None:
        """Returns the section if the diagnosis applies."""
        return self.section() if self.applies else None


def observe_rows(
    classify, inputs: list[dict], diagnoses: Sequence[Diagnosis], batch_size: int = 32, track: Track = untracked
) -> None:
    """
    Runs the model once over the rows, and passes its outputs to each diagnosis that applies.

    Args:
        classify ([`FusionSentimentPipeline`]): model and processor.
        inputs (`list[dict]`): the result of [`row_inputs`].
        diagnoses (`Sequence[Diagnosis]`): the observers.
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        track (`Callable`, *optional*): wraps the batches for a progress bar; called with the batches, their name and
            their number.
    """
    applying = [diagnosis for diagnosis in diagnoses if diagnosis.applies]
    batches = -(-len(inputs) // batch_size) if applying else 0
    for numbers, outputs in track(iterate_outputs(classify, inputs, batch_size), "model", batches) if applying else ():
        for diagnosis in applying:
            diagnosis.observe(numbers, outputs)


def read_training_logs(checkpoint: str | Path, prefix: str) -> list[dict[str, float]]:
    """Returns the training logs with a name that starts with `prefix`; none if the folder is not a run folder."""
    path = Path(checkpoint) / _STATE_FILE
    if not path.is_file():
        return []
    logs = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return [log for log in logs if any(name.startswith(prefix) for name in log)]


def row_inputs(rows: Dataset) -> list[dict]:
    """Returns the pipeline's input for each row: text as string, frames as arrays, without missing modalities."""
    names = [name for name in ("text", *STREAMS) if name in rows.column_names]
    inputs = []
    for row in rows.select_columns(names).with_format("numpy"):
        clip = {name: row[name] for name in names if row[name] is not None and len(row[name])}
        inputs.append({**clip, "text": str(clip["text"])} if "text" in clip else clip)
    return inputs


def iterate_outputs(classify, inputs: list[dict], batch_size: int = 32) -> Iterator[tuple[list[int], dict]]:
    """
    Runs the model with `output_fusion=True`.

    Args:
        classify ([`FusionSentimentPipeline`]): model and processor.
        inputs (`list[dict]`): of [`row_inputs`].
        batch_size (`int`, defaults to 32): rows of a forward pass; neighbours have like length.

    Yields:
        `tuple[list[int], dict]`: numbers of the rows, and the outputs of the model in float32 on the CPU.
    """
    order = sorted(range(len(inputs)), key=lambda i: max(map(len, inputs[i].values())), reverse=True)
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        batch = classify.preprocess([inputs[i] for i in numbers])
        on_device = classify._ensure_tensor_on_device(batch, device=classify.device)
        with torch.inference_mode():
            outputs = classify.model(**on_device, output_fusion=True)
        yield numbers, {name: _on_cpu(value) for name, value in outputs.items()}


def _on_cpu(value):
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    return value.float().cpu() if value.is_floating_point() else value.cpu()
