"""The result of a training with a recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_fusion.training.trainer import FusionTrainer


@dataclass(repr=False)
class TrainingResult:
    """
    A finished training. Its `repr` is a table of its metrics, with its warnings.

    Args:
        folder (`Path`): the run folder with the checkpoint, which [`FusionSentimentPipeline.from_pretrained`] takes.
        metrics (`dict`): the content of its `metrics.json`; `metrics["validation"]` and `metrics["test"]` hold the
            metrics of these splits by name, and for reviews `metrics["evidence"]` the result of [`gather_evidence`].
        trainer ([`FusionTrainer`]): the trainer with the model that was best on validation.
    """

    folder: Path
    metrics: dict[str, Any]
    trainer: FusionTrainer = field(compare=False)

    @property
    def warnings(self) -> list[str]:
        """`list[str]`: where the model is not ahead of bag of words on the last split, and classes it never answers."""
        parts = list(self.metrics.get("evidence", {}).get("splits", {}).values())
        return parts[-1].get("warnings", []) if parts else []

    def __repr__(self):
        splits = [split for split in ("validation", "test") if split in self.metrics]
        lines = [f"{self.folder} (seed {self.metrics['seed']}, {self.metrics['train_seconds']:.0f} s)"]
        names = list(self.metrics[splits[0]]) if splits else []
        width = max(map(len, names), default=0)
        if splits:
            lines.append("".join([" " * width, *(f"{split:>12}" for split in splits)]))
        for name in names:
            values = (self.metrics[split].get(name) for split in splits)
            shown = (f"{'' if value is None else format(value, '.4f'):>12}" for value in values)
            lines.append("".join([f"{name:<{width}}", *shown]))
        return "\n".join([*lines, *(f"Warning: {text}" for text in self.warnings)])
