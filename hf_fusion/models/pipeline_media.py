"""Media files in the `fusion-sentiment` pipeline: a file to stretches of time, their answers to one."""

from collections.abc import Mapping
from itertools import pairwise
from math import ceil

from transformers.utils import logging

from .configuration_common import check_choice
from .processing_text import InputError

logger = logging.get_logger(__name__)

OPTIONS = ("window", "hop", "asr", "language")
SENTENCE = "sentence"
_STREAMS = ("audio", "vision")
# The shortest stretch that is worth an answer, in seconds: the end of a file may leave a crumb.
_SHORTEST = 0.2
_ARRAYS_ALONE = (
    "This model was trained on arrays of frames that were made elsewhere, and reads no media files: give such arrays "
    "as 'audio' and 'vision'."
)
_LEAST = 0.05  # seconds of a window and a hop


def is_media(value):
    """`bool`: whether an input is a media file or what was read of one."""
    return (isinstance(value, Mapping) and value.get("media") is not None) or hasattr(value, "between")


def check_window(window, hop):
    """Raises `ValueError` unless these are seconds, 0.05 or more, or "sentence" without `hop`."""
    if isinstance(window, str):
        check_choice("window", window, (SENTENCE,))
    for name, value in (("window", window), ("hop", hop)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not isinstance(value, str) and not (number and _LEAST <= value < float("inf")):
            raise ValueError(f"`{name}` must be seconds, {_LEAST} or more, got {value!r:.100}.")
    if hop is not None and (window is None or window == SENTENCE or isinstance(hop, str)):
        raise ValueError("`hop` is the time from one window to the next: it needs a `window` in seconds.")


def read(value, processor, modalities, options, device):
    """
    The clip of a media input.

    Args:
        value (`dict` or `MediaClip`): `{"media": file, "text": transcript}`, or a clip that was read before.
        processor ([`DashFusionProcessor`]): of the model.
        modalities (`tuple[str]`): what the model reads.
        options (`dict`): `asr` and `language`.
        device (`str`): where networks run.

    Raises:
        InputError: if it cannot be read, or was extracted by other settings.
    """
    if isinstance(value, Mapping):
        unknown = sorted(set(map(str, value)) - {"media", "text"})
        if unknown:
            raise InputError(
                f"A media input has 'media' and, if there is a transcript, 'text'; got {unknown[0]!r} too."
            )
        clip, transcript = value["media"], value.get("text")
    else:
        clip, transcript = value, None
    if not hasattr(processor, "read_media"):
        raise InputError("This model reads text only: it takes no media files.")
    extractor = processor.feature_extractor.media_extractor
    if not hasattr(clip, "between"):
        if extractor is None:
            raise InputError(_ARRAYS_ALONE)
        name = f"{len(clip)} bytes of media" if isinstance(clip, bytes) else clip
        asr, language = options.get("asr"), options.get("language")
        clip = processor.read_media(clip, transcript, asr, language, device=device, modalities=modalities)
        for warning in clip.report["warnings"]:
            logger.warning(f"{name}: {warning}")
        return clip
    if transcript is not None:
        raise InputError("The clip was read before, with its words: leave 'text' out.")
    if extractor is not None:
        extractor.settings.check_same(clip.settings, "The clip")
    elif any(getattr(clip, name) is not None for name in _STREAMS if name in modalities):
        raise InputError(_ARRAYS_ALONE)
    return clip


def stretches_of(clip, processor, window=None, hop=None):
    """
    The stretches of time that get an answer each.

    Without `window`, the whole file, in equal parts of at most the longest time that the model reads at once. With
    seconds, windows from 0 on, each `hop` later than the one before (by default `window`; with a longer `hop`, the time
    between them gets no answer); the last one ends with the file. With "sentence", the sentences of the transcript;
    without words, the stretches between pauses of the voice.

    Returns:
        `list[tuple(float, float)]`: starts and ends in seconds.

    Raises:
        InputError: if a window is longer than the model reads at once.
    """
    longest = _longest(clip, processor)
    if window is None:
        return _parts(0.0, clip.seconds, longest)
    if window == SENTENCE:
        return [part for start, end in clip.sentences() for part in _parts(start, end, longest)]
    if window > longest + 1e-9:
        raise InputError(f"`window` is {window:g} seconds, but the model reads at most {longest:g} seconds at once.")
    starts, hop = [0.0], hop or window
    while starts[-1] + window < clip.seconds - _SHORTEST:
        starts.append(len(starts) * hop)
    stretches = [(start, min(start + window, clip.seconds)) for start in starts if start < clip.seconds]
    start, end = stretches[-1] if stretches else (0.0, clip.seconds)
    if clip.seconds - _SHORTEST <= end and clip.seconds - start <= longest:
        stretches[-1:] = [(start, clip.seconds)]
    return stretches


def _longest(clip, processor):
    """Seconds that the model reads at once of the streams that the clip has."""
    extractor, settings = processor.feature_extractor, clip.settings
    return min(
        (
            getattr(extractor, f"max_{name}_length") / getattr(settings, f"{name}_rate")
            for name in _STREAMS
            if getattr(clip, name) is not None
        ),
        default=float("inf"),
    )


def _parts(start, end, longest):
    """Equal parts of a stretch, none longer than `longest`."""
    count = max(1, ceil(round((end - start) / longest, 6)))
    edges = [start + (end - start) * i / count for i in range(count)] + [end]
    return list(pairwise(edges))


def with_place(clip, stretch, answer):
    """The answer of a stretch, with its place: `start`, `end`, `text` and `modalities`."""
    start, end = stretch
    return {
        "start": round(start, 3), "end": round(end, 3), "text": clip.between(start, end)["text"], **answer,
        "modalities": clip.shares(start, end),
    }  # fmt: skip
