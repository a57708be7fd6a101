"""Clips of a data set to choose from."""

from dataclasses import dataclass
from typing import Any

from hf_fusion.data.clip_classes import label_words
from hf_fusion.data.clips import SYNTHETIC, ClipSource, load_clips
from hf_fusion.data.splits import SPLITS
from hf_fusion.data.synthetic_clips import AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE
from hf_fusion.deployment.demo.checkpoints import DemoModel
from hf_fusion.models.pipeline_common import MODALITIES
from hf_fusion.utils.errors import DataError

MOST_CLIPS = 50
_TITLE = 60  # characters


@dataclass
class DemoClip:
    """A clip: its name in the list, its modalities, and its true label in words."""

    title: str
    modalities: dict[str, Any]
    label: str

    @property
    def facts(self) -> str:
        """The shapes of its frames, and the true label."""
        frames = [
            f"{name}: {len(self.modalities[name])} frames of {self.modalities[name].shape[1]} numbers"
            for name in MODALITIES[1:]
            if self.modalities.get(name) is not None
        ]
        return ". ".join([*frames, f"True label: {self.label}"]) + "."


def load_demo_clips(
    model: DemoModel, dataset: str | None = None, options: dict[str, Any] | None = None
) -> list[DemoClip]:
    """
    Loads the first clips of the test split.

    Args:
        model: the model that reads them.
        dataset: see [`ClipSource`]. By default `synthetic-clips`, and no clips if the model was trained on other
            frames.
        options: of the reader.

    Raises:
        DataError: if the model reads no clips, or frames of another width.
    """
    if not model.config.frame_columns:
        if dataset is not None:
            raise DataError(f"{model.name} reads text alone: `dataset` is for models of clips.")
        return []
    synthetic = {"audio": AUDIO_FEATURE_SIZE, "vision": VISION_FEATURE_SIZE}
    if dataset is None and (model.reads_media or any(synthetic[n] != size for n, size in model.frame_sizes.items())):
        return []
    clips = load_clips(ClipSource(dataset or SYNTHETIC, tuple(model.config.modalities), options=options or {}))
    rows = clips[[split for split in SPLITS if split in clips][-1]]
    rows = rows.select(range(min(len(rows), MOST_CLIPS)))
    labels = label_words(rows)
    found = []
    for row, label in zip(rows.with_format("numpy", columns=list(model.frame_sizes), output_all_columns=True), labels,
                          strict=True):  # fmt: skip
        given = {name: row.get(name) for name in model.config.modalities}
        given = {name: value for name, value in given.items() if value is not None and len(value)}
        for name, size in model.frame_sizes.items():
            if name in given and given[name].shape[1] != size:
                raise DataError(
                    f"{dataset or SYNTHETIC}: {name} has {given[name].shape[1]} numbers a frame, {model.name} reads "
                    f"{size}: choose the data set that it was trained on."
                )
        found.append(DemoClip(_title(len(found) + 1, given.get("text")), given, _label(label)))
    return found


def _title(number, text):
    text = " ".join((text or "without text").split())
    return f"{number}. {text if len(text) <= _TITLE else text[: _TITLE - 1] + '…'}"


def _label(label):
    if isinstance(label, (list, tuple)):
        return ", ".join(map(str, label)) or "none"
    return f"{label:+g}" if isinstance(label, float) else str(label)
