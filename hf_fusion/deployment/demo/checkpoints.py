"""The checkpoints of the page."""

from pathlib import Path
from threading import Lock

from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.utils.errors import DataError, listed


class DemoModel:
    """
    A checkpoint of the page. It is called as its pipeline is; several threads take turns.

    Args:
        name (`str`): the name that the page shows.
        pipeline ([`FusionSentimentPipeline`]): the pipeline.
        checkpoint (`str`, *optional*): the folder or name on the Hub, from which another process reads media files.
    """

    def __init__(self, name, pipeline, checkpoint=None):
        self.name, self.checkpoint = name, checkpoint
        self.model, self.processor, self.media_device = pipeline.model, pipeline.processor, pipeline.media_device
        self.explains = pipeline.explains
        self._pipeline, self._lock = pipeline, Lock()

    def __call__(self, inputs, **options):
        with self._lock:
            return self._pipeline(inputs, **options)

    @property
    def config(self):
        """The configuration of the model."""
        return self.model.config

    @property
    def has_classes(self) -> bool:
        """Whether answers are classes with probabilities, not scores."""
        return self.config.num_labels > 1

    def written(self, score: float | None) -> str:
        """A score, or the probability of a class, in figures."""
        return "" if score is None else f"{score:.0%}" if self.has_classes else f"{score:+.2f}"

    def place(self, score: float) -> float:
        """A score as the share of the way from the lowest to the highest one; a probability as it is."""
        if self.has_classes:
            return score
        low, high = self.config.label_range
        return min(max((score - low) / (high - low), 0.0), 1.0)

    @property
    def reads_media(self) -> bool:
        """Whether it reads videos and recordings."""
        return getattr(getattr(self.processor, "feature_extractor", None), "media_extractor", None) is not None

    @property
    def frame_sizes(self) -> dict[str, int]:
        """The width of the frames of audio and vision, as far as the model reads them."""
        streams = [name for name in self.config.frame_columns if name in self.config.modalities]
        return {name: getattr(self.config, f"{name}_feature_size") for name in streams}


def load_models(checkpoints: list[str], device: str | None = None) -> list[DemoModel]:
    """
    Loads one checkpoint, or two to compare.

    Args:
        checkpoints (`list[str]`): run folders, or names on the Hub.
        device (`str`, *optional*): see [`load_pipeline`].

    Raises:
        DataError: if two checkpoints are one, or do not read the same, or one cannot be loaded.
        OSError: if there is no such checkpoint.
    """
    short = [_short_name(checkpoint) for checkpoint in checkpoints]
    if len({str(Path(name).resolve()) if Path(name).is_dir() else name for name in checkpoints}) < len(checkpoints):
        raise DataError(f"{checkpoints[0]} is given twice: name another checkpoint to compare it with.")
    names = checkpoints if len(set(short)) < len(short) else short
    models = [
        DemoModel(name, load_pipeline(checkpoint, device=device), checkpoint)
        for name, checkpoint in zip(names, checkpoints, strict=True)
    ]
    check_comparable(models)
    return models


def _short_name(checkpoint):
    """The end of a folder's path: the rest concerns nobody who sees the page."""
    return "/".join(Path(checkpoint).resolve().parts[-2:]) if Path(checkpoint).is_dir() else checkpoint


def check_comparable(models: list[DemoModel]) -> None:
    """Raises [`DataError`] if the checkpoints cannot answer the same inputs."""
    first, *others = models
    for other in others:
        if _reads(other) != _reads(first):
            raise DataError(
                f"{first.name} reads {_reads(first)}, {other.name} reads {_reads(other)}: compare two checkpoints that "
                "read the same."
            )


def _reads(model):
    """The modalities of a model in words, with the widths of frames."""
    words = [
        f"{name} ({model.frame_sizes[name]} features a frame)" if name in model.frame_sizes else name
        for name in model.config.modalities
    ]
    return listed(words) + (" of media files" if model.reads_media else "")
