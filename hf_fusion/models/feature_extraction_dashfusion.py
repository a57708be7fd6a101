"""Audio and vision frames of DashFusion: checked, normalised, padded."""

import logging
import os

import numpy as np
from transformers import FeatureExtractionMixin
from transformers.utils import cached_file, is_torch_available

from .media_decoding import MediaReader  # noqa: F401 - as the others: travels too
from .media_frames import MediaExtractor, MediaSettings, read_networks
from .media_text import Word  # noqa: F401
from .media_voice import VoiceDescriptors  # noqa: F401
from .processing_text import InputError

if is_torch_available():
    from .media_face import FaceFrames  # noqa: F401
    from .media_image import ImageFrames  # noqa: F401
    from .media_transcription import Transcriber  # noqa: F401
    from .media_whisper import WhisperFrames  # noqa: F401

logger = logging.getLogger(__name__)

STREAMS = ("audio", "vision")
AUTO_MAP = {
    "AutoProcessor": "processing_dashfusion.DashFusionProcessor",
    "AutoFeatureExtractor": "feature_extraction_dashfusion.DashFusionFeatureExtractor",
}
# Frames that are looked at together while the statistics are taken.
_BLOCK = 2**14
# Larger features, after normalisation, would overflow in the model and give NaN.
MAX_FEATURE = 1e10
# Widths of the frames of MOSI.
DEFAULT_SIZES = {"audio": 5, "vision": 20}


def real_numbers(values):
    """
    The values as an array, unchanged if they are one.

    Raises:
        ValueError, TypeError, OverflowError: if they are no real numbers: texts, dates, complex numbers, integers
            beyond all floats.
    """
    array = np.asarray(values)
    if array.dtype == object:  # `None` and nested lists, which become NaN and an error
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        example = f", such as {array.flat[0].item()!r:.50}" if array.size else ""
        raise TypeError(f"they are of the type {array.dtype.name}{example}")
    return array


class FrameStatistics:
    """Mean and standard deviation of each column over the frames of many clips, in one pass."""

    def __init__(self):
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._waiting, self._frames = [], 0

    def add(self, frames):
        """Takes the frames of a clip, an array of shape `(frames, features)`."""
        if len(frames):
            self._waiting.append(frames)
            self._frames += len(frames)
        if self._frames >= _BLOCK:
            self._take()

    def _take(self):
        frames = np.concatenate(self._waiting, dtype=np.float64)
        self._waiting, self._frames = [], 0
        # pairwise update of mean and squared deviations (Chan et al. 1979), stable for large offsets
        mean = frames.mean(axis=0)
        frames -= mean
        delta, total = mean - self._mean, self._count + len(frames)
        self._squares += np.einsum("ij,ij->j", frames, frames) + delta**2 * self._count * len(frames) / total
        self._mean, self._count = self._mean + delta * len(frames) / total, total

    def mean_and_std(self):
        """Two lists with a number for each column, the deviation of a constant column 1; `None` without a frame."""
        if self._waiting:
            self._take()
        if not self._count:
            return None, None
        std = np.sqrt(self._squares / self._count)
        # differences within the rounding of float32 are no variation
        varies = std > 1e-7 * np.maximum(np.abs(self._mean), 1)
        return self._mean.tolist(), np.where(varies, std, 1.0).tolist()


class DashFusionFeatureExtractor(FeatureExtractionMixin):
    r"""
    Turns audio and vision frames into padded tensors.

    Features are normalised by the mean and standard deviation of each column, which [`fit`] takes from the training
    split; before that they pass unchanged.

    Args:
        audio_feature_size, vision_feature_size (`int`, *optional*): width of a frame; by default those that `media`
            gives, else 5 and 20 as in MOSI.
        max_audio_length, max_vision_length (`int`): most frames of a clip; longer ones are cut at the end.
        audio_mean, audio_std, vision_mean, vision_std (`list[float]`, *optional*): of each column, in the units of the
            features.
        media (`dict`, *optional*): how frames are made of media files: the fields of [`MediaSettings`]. Without it,
            frames come as arrays only.
        networks (`dict[str, Network]`, *optional*): the networks that `media` needs; they are saved in files of their
            own.

    Example:

    ```python
    import numpy as np
    from hf_fusion import DashFusionFeatureExtractor

    extractor = DashFusionFeatureExtractor(audio_feature_size=2, vision_feature_size=3)
    clips = [np.random.default_rng(0).normal(5.0, 2.0, (frames, 2)) for frames in (10, 20)]
    extractor.fit("audio", clips)
    extractor.audio_mean, extractor.audio_std  # near [5, 5] and [2, 2]
    ```
    """

    def __init__(
        self,
        audio_feature_size=None,
        vision_feature_size=None,
        max_audio_length=375,
        max_vision_length=500,
        audio_mean=None,
        audio_std=None,
        vision_mean=None,
        vision_std=None,
        media=None,
        networks=None,
        **kwargs,
    ):
        kwargs.setdefault("auto_map", {**AUTO_MAP})
        super().__init__(**kwargs)
        self.set_media(media, networks)
        self.audio_feature_size = self._size("audio", audio_feature_size)
        self.vision_feature_size = self._size("vision", vision_feature_size)
        self.max_audio_length = max_audio_length
        self.max_vision_length = max_vision_length
        for field in (f"{name}_{what}" for name in STREAMS for what in ("feature_size", "length")):
            field = field if hasattr(self, field) else f"max_{field}"
            if type(getattr(self, field)) is not int or getattr(self, field) < 1:
                raise ValueError(f"`{field}` must be a positive integer, got {getattr(self, field)!r:.100}.")
        given = {"audio_mean": audio_mean, "audio_std": audio_std, "vision_mean": vision_mean, "vision_std": vision_std}
        for field, values in given.items():
            setattr(self, field, None if values is None else self._statistics(field, values))
        for name in STREAMS:
            if (given[f"{name}_mean"] is None) != (given[f"{name}_std"] is None):
                raise ValueError(f"`{name}_mean` and `{name}_std` belong together: give both or none.")

    @property
    def media_extractor(self):
        """[`MediaExtractor`]: reads media files; `None` without `media`."""
        return self._media_extractor

    def set_media(self, media, networks=None):
        """Sets how frames are made of media files; see the arguments of the class."""
        settings = None if media is None else MediaSettings.from_dict(media)
        self.media = None if settings is None else settings.to_dict()
        self._media_extractor = None if settings is None else MediaExtractor(settings, networks)

    def _size(self, name, size):
        """The width of a stream's frames."""
        extractor = self._media_extractor
        kind = None if extractor is None else getattr(extractor.settings, name)
        if kind is None or not extractor.has_network(kind):
            return DEFAULT_SIZES[name] if size is None else size
        made = len(extractor.columns(name))
        if size not in (None, made):
            raise ValueError(f"`{name}_feature_size` is {size}, but {kind!r} frames of `media` have {made} features.")
        return made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Loads the settings, and the networks of `media`; see `FeatureExtractionMixin.from_pretrained`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        extractor = loaded[0] if isinstance(loaded, tuple) else loaded
        if extractor.media is not None:
            names = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
            options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}

            def find(file):
                return cached_file(
                    pretrained_model_name_or_path, file, **options, _raise_exceptions_for_missing_entries=False
                )

            extractor.set_media(extractor.media, read_networks(extractor.media_extractor.settings, find))
        return loaded

    def save_pretrained(self, save_directory, push_to_hub=False, **kwargs):
        """Saves settings, code and the networks of `media`; see `FeatureExtractionMixin.save_pretrained`."""
        os.makedirs(save_directory, exist_ok=True)
        self.save_networks(save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def save_networks(self, folder):
        """Saves the networks of `media`, if there are any."""
        if self._media_extractor is not None:
            self._media_extractor.save(folder)

    def to_dict(self):
        """All settings, without the weights of networks."""
        content = {**super().to_dict()}
        content.pop("_media_extractor")
        return content

    def _statistics(self, field, values):
        try:
            values = [float(value) for value in real_numbers(values).reshape(-1)]
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"`{field}` must be a list of numbers: {error}") from error
        size = getattr(self, f"{field.split('_')[0]}_feature_size")
        if len(values) != size:
            raise ValueError(f"`{field}` must have {size} values, one for each column, got {len(values)}.")
        if not np.isfinite(values).all():
            raise ValueError(f"`{field}` must be finite in every column, got {values}.")
        if field.endswith("std") and not min(values) > 0:
            raise ValueError(f"`{field}` must be above 0 in every column, got {min(values)}.")
        return values

    def fit(self, name, clips):
        """
        Takes the normalisation statistics of one stream over all frames of `clips`, in one pass.

        Args:
            name (`str`): "audio" or "vision".
            clips (`Iterable` of arrays of shape `(frames, features)` or `None`): the training split. A constant column
                keeps its scale.

        Raises:
            ValueError: if a clip has another width, or a value that is not finite.
        """
        statistics = FrameStatistics()
        for i, clip in enumerate(clips):
            frames = self._frames(name, clip, i)
            if not np.isfinite(frames).all():
                raise ValueError(f"Clip {i}: the {name} features are not all finite.")
            statistics.add(frames)
        self.set_statistics(name, *statistics.mean_and_std())

    def set_statistics(self, name, mean, std):
        """Sets the normalisation statistics of one stream, each a list with one number for each column, or `None`."""
        for statistic, values in (("mean", mean), ("std", std)):
            field = f"{name}_{statistic}"
            setattr(self, field, None if values is None else self._statistics(field, values))

    def _frames(self, name, clip, index):
        """One clip of shape `(frames, features)`, in float32 if it comes so, else in float64; it may have no frame."""
        size = getattr(self, f"{name}_feature_size")
        try:
            frames = real_numbers(np.zeros((0, size)) if clip is None else clip)
            frames = frames if frames.dtype == np.float32 else frames.astype(np.float64)
        # RuntimeError: a tensor that requires gradients
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise InputError(f"The {name} features are no array of numbers: {error}", index) from error
        if frames.size == 0:
            return np.zeros((0, size))
        if frames.ndim != 2 or frames.shape[1] != size:
            width = f": width {frames.shape[1]} where {size} is expected" if frames.ndim == 2 else ""
            raise InputError(
                f"The {name} features must have the shape (frames, {size}), got {frames.shape}{width}.", index
            )
        return frames

    def is_too_long(self, name, clip):
        """`bool`: whether [`prepare`] cuts a clip of one stream."""
        return clip is not None and len(clip) > getattr(self, f"max_{name}_length")

    def prepare(self, name, clips, truncation=True):
        """
        Checks, cuts and normalises the clips of one stream.

        Args:
            name (`str`): "audio" or "vision".
            clips (`list` of arrays of shape `(frames, features)` or `None`): one for each clip.
            truncation (`bool`): whether longer clips are cut to the first `max_{name}_length` frames.

        Returns:
            `list` of float32 arrays `(frames, features)`. Values that are not finite count as 0 in the units of the
            features, as in the readers of training data, and their number is logged; so is that of values which are
            cut to [`MAX_FEATURE`] and would overflow in the model. A clip without any finite value has no frames.

        Raises:
            InputError: if a clip has another width, or is too long and `truncation` is off.
        """
        longest = getattr(self, f"max_{name}_length")
        mean, std = (getattr(self, f"{name}_{statistic}") for statistic in ("mean", "std"))
        prepared, replaced, cut, lost = [], 0, 0, 0
        for i, clip in enumerate(clips):
            frames = self._frames(name, clip, i)
            if len(frames) > longest and not truncation:
                raise InputError(f"{len(frames)} {name} frames; at most {longest} are read.", i)
            frames = frames[:longest]
            finite = np.isfinite(frames.astype(np.float32, copy=False))
            if finite.size and not finite.any():
                lost += 1
                frames = frames[:0]
            elif not finite.all():
                replaced += int((~finite).sum())
                frames = np.where(finite, frames, 0)
            if mean is not None:
                with np.errstate(over="ignore"):
                    frames = np.subtract(frames, mean, dtype=np.float64)
                    frames /= std
            if frames.size and max(frames.max(), -frames.min()) > MAX_FEATURE:
                cut += int((np.abs(frames) > MAX_FEATURE).sum())
                frames = np.clip(frames, -MAX_FEATURE, MAX_FEATURE)
            prepared.append(frames.astype(np.float32, copy=False))
        if lost:
            logger.warning("%d clips have no finite %s value, which counts as missing.", lost, name)
        if replaced:
            logger.warning("%d %s values were not finite and became 0.", replaced, name)
        if cut:
            logger.warning("%d %s values were beyond %g and were cut.", cut, name, MAX_FEATURE)
        return prepared

    def pad(self, name, prepared, padding=True, pad_to_multiple_of=None):
        """
        Prepared clips of one stream -> features `(batch, frames, features)` and mask `(batch, frames)`, 1 = real.

        Args:
            name (`str`): "audio" or "vision".
            prepared (`list` of arrays): result of [`prepare`].
            padding (`bool` or `str`): to the longest clip (`True`, "longest") or to the limit ("max_length").
            pad_to_multiple_of (`int`, *optional*): rounds the length up, within the limit.
        """
        limit = getattr(self, f"max_{name}_length")
        longest = limit if padding == "max_length" else max(map(len, prepared))
        if pad_to_multiple_of:
            longest = min(-(-longest // pad_to_multiple_of) * pad_to_multiple_of, limit)
        features = np.zeros((len(prepared), longest, getattr(self, f"{name}_feature_size")), dtype=np.float32)
        mask = np.zeros((len(prepared), longest), dtype=np.int64)
        for row, frames in enumerate(prepared):
            features[row, : len(frames)] = frames
            mask[row, : len(frames)] = 1
        return features, mask


__all__ = ["DashFusionFeatureExtractor"]
