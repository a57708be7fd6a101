"""Media files to clips: the settings of the extraction, the networks that it needs, and what it finds."""

import hashlib
import json
import os
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from math import ceil

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from transformers.utils import is_torch_available, logging

from .media_decoding import SAMPLE_RATE, MediaLimits, MediaReader
from .media_text import sentences_of, single_words, spread_words, text_of, words_beyond, words_of
from .media_voice import DESCRIPTORS, VoiceDescriptors, speech_regions
from .processing_text import InputError

if is_torch_available():
    import torch

    from .media_face import FaceFrames, FaceNetworks
    from .media_image import ImageFrames, build_image_encoder
    from .media_transcription import Transcriber
    from .media_whisper import WhisperFrames
    from .media_whisper import build_encoder as build_whisper_encoder

logger = logging.get_logger(__name__)

MEDIA_VERSION = 1  # of the algorithms: features of another version are not the same
KINDS = {"audio": ("descriptors", "whisper"), "vision": ("face", "clip")}
DEFAULT_RATES = {"descriptors": 20, "whisper": 10, "face": 10, "clip": 2}  # frames per second
# Rates of the kinds that do not take every one.
_RATES = {"descriptors": (1, 2, 4, 5, 10, 20, 25, 50, 100), "whisper": (10, 25, 50)}
# Files of the networks, beside those of the processor.
WEIGHT_FILES = {"whisper": "whisper.safetensors", "face": "face.safetensors", "clip": "clip.safetensors"}
_VOICING_RATE = 20
_FEW_FACES = 0.5  # share of the pictures; fewer are told


@dataclass(frozen=True)
class MediaSettings:
    """
    How frames are made of media files.

    Args:
        audio (`str`, *optional*): "descriptors" (23 named columns, no network), "whisper" (frames of a Whisper
            encoder), or `None` for no audio.
        audio_rate (`int`, *optional*): audio frames per second.
        vision (`str`, *optional*): "face" (58 named columns), "clip" (frames of an image encoder), or `None`.
        vision_rate (`int`, *optional*): vision frames per second.
        version (`int`): of the algorithms.
        audio_weights, vision_weights (`str`, *optional*): SHA-256 of the networks.
        asr (`str`, *optional*): the speech recognition checkpoint that wrote the transcripts of the training data; the
            default where a prediction needs one. It makes no difference to frames.
        language (`str`, *optional*): the language for `asr`.

    Example:

    ```python
    from hf_fusion.models.media_frames import MediaSettings

    settings = MediaSettings(audio="descriptors", audio_rate=20)
    settings.to_dict()  # as a checkpoint keeps them
    ```
    """

    audio: str | None = None
    audio_rate: int | None = None
    vision: str | None = None
    vision_rate: int | None = None
    version: int = MEDIA_VERSION
    audio_weights: str | None = None
    vision_weights: str | None = None
    asr: str | None = field(default=None, compare=False)
    language: str | None = field(default=None, compare=False)

    def __post_init__(self):
        if self.version != MEDIA_VERSION:
            raise InputError(
                f"The media settings have the version {self.version!r}, this code extracts version {MEDIA_VERSION}: "
                "use the code that was saved with the checkpoint (`trust_remote_code=True`) or another release."
            )
        for name in ("audio_weights", "vision_weights", "asr", "language"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"`media`: {name!r} must be a string or None, got {getattr(self, name)!r:.100}.")
        for name, kinds in KINDS.items():
            kind, rate = getattr(self, name), getattr(self, f"{name}_rate")
            if kind is not None and kind not in kinds:
                raise ValueError(f"`media`: {name!r} must be {', '.join(map(repr, kinds))} or None, got {kind!r:.100}.")
            if kind is None and rate is not None:
                raise ValueError(f"`media`: '{name}_rate' is {rate}, but there is no {name!r}.")
            if kind is not None and (type(rate) is not int or not 1 <= rate <= 100):
                raise ValueError(f"`media`: '{name}_rate' must be an integer from 1 to 100, got {rate!r:.100}.")
            if rate not in _RATES.get(kind, (rate,)):
                rates = ", ".join(map(str, _RATES[kind]))
                raise ValueError(f"`media`: '{name}_rate' of {kind!r} frames must be one of {rates}, got {rate}.")

    @classmethod
    def from_dict(cls, values):
        """The settings of a mapping; raises `ValueError` for unknown names."""
        known = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or set(values) - known:
            raise ValueError(f"`media` must be a mapping with some of {', '.join(sorted(known))}, got {values!r:.200}.")
        return cls(**values)

    def only(self, streams):
        """The settings without the streams that are not named."""
        none = {name: None for name in asdict(self) if name.startswith(tuple(set(KINDS) - set(streams)) or "-")}
        return replace(self, **none)

    def to_dict(self):
        """The settings that are set; `audio`, `vision` and their rates always."""
        optional = ("audio_weights", "vision_weights", "asr", "language")
        return {name: value for name, value in asdict(self).items() if value is not None or name not in optional}

    def check_same(self, other, what):
        """
        Raises [`InputError`] if frames of `other` settings are not what a model with these reads.

        Args:
            other (`MediaSettings`): of the frames.
            what (`str`): the frames, for the message, such as "The clip".
        """
        names = [item.name for item in fields(self) if item.compare]
        unread = tuple(name for name in KINDS if getattr(self, name) is None)  # and the same for its rate and weights
        read = [name for name in names if not name.startswith(unread)] if unread else names
        differing = [name for name in read if getattr(self, name) != getattr(other, name)]
        if differing:
            name = differing[0]
            raise InputError(
                f"{what} was extracted with {name} = {getattr(other, name)!r}, this model reads {name} = "
                f"{getattr(self, name)!r}: extract it again by this model's processor (`read_media`)."
            )


class Network:
    """
    The weights of a network that makes frames, with its description. They are never changed, so that copies share them.

    Args:
        tensors (`dict[str, np.ndarray]`): the weights by name.
        metadata (`dict[str, str]`): what is needed to build it, and where it comes from.
    """

    def __init__(self, tensors, metadata):
        # files hold the values in the order of memory
        self.tensors = {name: np.asarray(values, order="C") for name, values in tensors.items()}
        self.metadata = metadata

    def __deepcopy__(self, memo):
        return self

    @classmethod
    def load(cls, path):
        """Reads a `.safetensors` file; raises `ValueError` if it is damaged."""
        try:
            with safe_open(path, framework="np") as content:
                return cls(load_file(path), content.metadata() or {})
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}.") from error

    def save(self, path):
        """Writes a `.safetensors` file."""
        with open(path, "wb") as file:  # `save_file` would make one that others cannot read
            file.write(save(self.tensors, metadata=self.metadata))

    @property
    def fingerprint(self):
        """`str`: SHA-256 of weights and description."""
        digest = hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode())
        for name in sorted(self.tensors):
            values = self.tensors[name]
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def state_dict(self):
        """The weights as tensors, those in half precision in float32."""
        tensors = {name: torch.from_numpy(np.array(values)) for name, values in self.tensors.items()}
        return {name: values.float() if values.is_floating_point() else values for name, values in tensors.items()}


@dataclass
class MediaClip:
    """
    What was found in a media file.

    Attributes:
        text (`str`, *optional*): all that is said; `None` without a transcript.
        words (`list[Word]`): with `start`, `end` (seconds) and `text`.
        audio, vision (`np.ndarray` of shape `(frames, features)`, *optional*): frames at `settings.audio_rate` and
            `settings.vision_rate`; `None` if there is no such track, no voice, or no face.
        seconds (`float`): the length.
        settings ([`MediaSettings`]): how the frames were made.
        voiced (`np.ndarray` of shape `(frames,)`): where a voice is heard, at 20 Hz.
        speech (`list[tuple(float, float)]`): stretches of speech between pauses, in seconds.
        report (`dict`): `seconds`, `audio_seconds`, `vision_seconds`, `voiced_share`, `face_share`, `words`,
            `transcript` (where the words are from) and `warnings`.

    Example:

    ```python
    from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor
    from transformers import BertTokenizer

    extractor = DashFusionFeatureExtractor(media={"audio": "descriptors", "audio_rate": 20})
    tokenizer = BertTokenizer({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "the": 5})
    clip = DashFusionProcessor(tokenizer, extractor).read_media("talk.mp4", "talk.srt")
    clip.between(0.0, 2.0)["text"], clip.shares(0.0, 2.0), clip.sentences()
    ```
    """

    text: str | None
    words: list
    audio: np.ndarray | None
    vision: np.ndarray | None
    seconds: float
    settings: MediaSettings
    voiced: np.ndarray
    speech: list
    report: dict

    def between(self, start, end):
        """
        The modalities of a stretch, as the processor and the pipeline take them.

        Args:
            start, end (`float`): seconds. Words count where their middle lies.

        Returns:
            `dict` with `text`, `audio` and `vision`; `None` where nothing is known: no word, no voice, no face.
        """
        whole = start <= 0 and end >= self.seconds
        return {
            "text": self.text if whole else text_of(self.words_between(start, end)),
            "audio": self._frames("audio", start, end),
            "vision": self._frames("vision", start, end),
        }

    def shares(self, start, end):
        """
        How much of a stretch is known.

        Returns:
            `dict[str, float]`: for each modality that the stretch has, the share of its time with words, a voice, a
            face, in (0, 1].
        """
        length, found = max(end - start, 1e-3), self.between(start, end)
        known = {}  # seconds
        if found["text"] is not None:
            starts, ends = self._word_times.T.clip(start, end)
            known["text"] = (ends - starts).sum() if self.words else length
        if found["audio"] is not None:
            known["audio"] = _cut(self.voiced, _VOICING_RATE, start, end).sum() / _VOICING_RATE
        if found["vision"] is not None:
            known["vision"] = _is_known(self.settings, found["vision"]).sum() / self.settings.vision_rate
        return {name: min(1.0, float(seconds / length)) for name, seconds in known.items()}

    def sentences(self):
        """`list[tuple(float, float)]`: times of the sentences; without words, of the speech between pauses."""
        if not self.words:
            return self.speech
        stretches = []
        for start, end, _ in sentences_of(self.words):
            start = max(start, stretches[-1][1]) if stretches else start  # a word belongs to one of them
            if start < end:
                stretches.append((start, end))
        return stretches

    @cached_property
    def _word_times(self):
        """`(words, 2)`: starts and ends; a recording of an hour has thousands of words and of windows."""
        return np.array([word[:2] for word in self.words], dtype=np.float64).reshape(-1, 2)

    def words_between(self, start, end):
        """`list[Word]`: those whose middle lies in a stretch."""
        middles = self._word_times.mean(axis=1)
        return [self.words[i] for i in np.flatnonzero((start <= middles) & (middles < end))]

    def _frames(self, name, start, end):
        frames = getattr(self, name)
        if frames is None:
            return None
        frames = _cut(frames, getattr(self.settings, f"{name}_rate"), start, end)
        known = _cut(self.voiced, _VOICING_RATE, start, end) if name == "audio" else _is_known(self.settings, frames)
        return frames if len(frames) and known.any() else None


def _cut(frames, rate, start, end):
    """The frames whose middle lies in a stretch: of stretches of the same length no two differ by more than one."""
    first, last = (max(0, ceil(round(time * rate - 0.5, 6))) for time in (start, end))
    return frames[first:last]


def _is_known(settings, vision):
    """For each vision frame whether it shows something; a face is the last column."""
    return vision[:, -1] > 0 if settings.vision == "face" else np.ones(len(vision), dtype=bool)


class MediaExtractor:
    """
    Reads media files by one set of settings.

    Args:
        settings ([`MediaSettings`]): what to extract.
        networks (`dict[str, Network]`): the networks of the kinds that have one, by kind.
    """

    def __init__(self, settings, networks=None):
        self.settings = settings
        self.networks = networks or {}
        self._built = {}

    def __deepcopy__(self, memo):
        return MediaExtractor(self.settings, self.networks)

    def only(self, streams):
        """The same extractor for some of "audio" and "vision"."""
        settings = self.settings.only(streams)
        kinds = (settings.audio, settings.vision)
        return MediaExtractor(settings, {kind: self.networks[kind] for kind in kinds if kind in self.networks})

    def __getstate__(self):
        return {**self.__dict__, "_built": {}}

    def has_network(self, kind):
        """`bool`: whether frames of this kind can be made: its network is there, or it needs none."""
        return kind not in WEIGHT_FILES or (kind in self.networks and is_torch_available())

    def columns(self, name):
        """`tuple[str]`: names of the features of "audio" or "vision"; empty if it is not extracted."""
        kind = getattr(self.settings, name)
        return () if kind is None else tuple(self._reader(name, "cpu").columns)

    def save(self, folder):
        """Writes the networks into a folder, as the files of [`WEIGHT_FILES`]."""
        for kind, network in self.networks.items():
            network.save(os.path.join(folder, WEIGHT_FILES[kind]))

    def read(self, source, transcript, asr, language, limits, device, progress, modalities):
        """See [`DashFusionProcessor.read_media`]."""
        warnings = []
        words = words_of(transcript, warn=warnings.append)
        origin = None if words is None else "given"
        reader = MediaReader(source, limits or MediaLimits())
        facts, step = reader.facts, progress or (lambda seconds: None)
        wanted = [name for name in KINDS if getattr(self.settings, name) and name in modalities]
        sound = _Sound(self._reader("audio", device) if "audio" in wanted else None)
        if facts.has_audio:
            blocks = sound.listen(reader.audio_blocks(), step)
            asr = asr or self.settings.asr
            if words is None and asr is not None and "text" in modalities:
                words = self._transcriber(asr, language or self.settings.language, device, warnings.append)(blocks)
                origin = str(getattr(getattr(asr, "model", None), "name_or_path", asr))
            deque(blocks, maxlen=0)  # what nobody has asked for
        vision, vision_seconds = None, 0.0
        if facts.has_video and "vision" in wanted:
            vision, vision_seconds = self._read_vision(reader, device, step)
        if words is None and facts.has_audio and "text" in modalities:
            warnings.append("No transcript is given, and no `asr` to write one: the text counts as missing.")
        seconds = max(sound.seconds, vision_seconds) or facts.seconds or 0.0
        clip = self._assemble(words, sound.finish(), vision, seconds, warnings)
        clip.report = {
            "seconds": round(seconds, 3), "audio_seconds": round(sound.seconds, 3),
            "vision_seconds": round(vision_seconds, 3), **clip.report, "transcript": origin,
            "warnings": [*reader.warnings, *warnings],
        }  # fmt: skip
        return clip

    def _assemble(self, words, heard, vision, seconds, warnings):
        """The clip of what was found. Sound without a voice and pictures without a face count as missing."""
        audio, voiced, speech = heard
        text = text_of(words)
        if isinstance(words, str):
            words = spread_words(words, speech or [(0.0, seconds)])
            warnings.append("The transcript has no times: its words were spread evenly over the voiced time.")
        words, known = single_words(words or []), np.zeros(0) if vision is None else _is_known(self.settings, vision)
        warnings += words_beyond(words, seconds)
        report = {
            "voiced_share": float(voiced.mean()) if len(voiced) else 0.0,
            "face_share": float(known.mean()) if len(known) else 0.0,
            "words": len(words),
        }
        if 0 < report["face_share"] < _FEW_FACES:
            warnings.append(f"A face is seen in only {report['face_share']:.0%} of the pictures.")
        audio, vision = audio if voiced.any() else None, vision if known.any() else None
        return MediaClip(text, words, audio, vision, seconds, self.settings, voiced, speech, report)

    def _reader(self, name, device):
        """A new reader of frames of a stream."""
        return self._frames(getattr(self.settings, name), getattr(self.settings, f"{name}_rate"), device)

    def _read_vision(self, reader, device, step):
        frames, rate, count = self._reader("vision", device), self.settings.vision_rate, 0
        for picture in reader.pictures(rate):
            frames.feed(picture)
            count += 1
            step(1 / rate)
        found = frames.finish()
        return found if len(found) else None, count / rate

    def _frames(self, kind, rate, device):
        """A new reader of frames; its network is built once."""
        if kind == "descriptors":
            return VoiceDescriptors(rate)
        _check_torch(f"{kind!r} frames")
        if kind not in self.networks:
            raise OSError(f"The {kind!r} frames need {WEIGHT_FILES[kind]}, which is not beside the processor.")
        with _named_errors(kind):
            network = self._network(kind, device)
            if kind == "clip":
                return ImageFrames(network, json.loads(self.networks[kind].metadata["preprocessing"]))
        return (WhisperFrames if kind == "whisper" else FaceFrames)(network, rate)

    def _network(self, kind, device):
        if (kind, device) not in self._built:
            self._built[kind, device] = _build(kind, self.networks[kind]).to(device)
        return self._built[kind, device]

    def _transcriber(self, asr, language, device, warn):
        _check_torch("a transcript")
        key = ("asr", asr if isinstance(asr, str) else id(asr), language, device)
        if key not in self._built:
            self._built[key] = Transcriber(asr, language=language, device=device if isinstance(asr, str) else None)
        self._built[key].warn = warn
        return self._built[key]


class _Sound:
    """The sound of a file, in one pass: its frames and where a voice is heard."""

    def __init__(self, frames):
        self.frames = frames
        self.descriptors = VoiceDescriptors(_VOICING_RATE)
        self.samples = 0

    @property
    def seconds(self):
        return self.samples / SAMPLE_RATE

    def listen(self, blocks, step):
        """Yields the blocks as it takes them."""
        for block in blocks:
            self.descriptors.feed(block)
            if self.frames is not None:
                self.frames.feed(block)
            self.samples += len(block)
            step(len(block) / SAMPLE_RATE)
            yield block

    def finish(self):
        """The frames (or `None`), for each twentieth of a second whether it is voiced, and the stretches of speech."""
        described = self.descriptors.finish()
        voiced = described[:, DESCRIPTORS.index("f0_semitones")] > 0
        frames = None if self.frames is None else self.frames.finish()
        return frames, voiced, speech_regions(described, _VOICING_RATE)


def read_networks(settings, find):
    """
    The networks of settings, from their files.

    Args:
        settings ([`MediaSettings`]): what to extract.
        find (`Callable[[str], str | None]`): the path of a file by its name.

    Returns:
        `dict[str, Network]`, for [`MediaExtractor`]; without those whose file is absent.

    Raises:
        ValueError: if a file does not hold the weights that the settings name.
    """
    networks = {}
    for name in KINDS:
        kind, expected = getattr(settings, name), getattr(settings, f"{name}_weights")
        path = find(WEIGHT_FILES[kind]) if kind in WEIGHT_FILES else None
        if path is None:
            continue
        networks[kind] = Network.load(path)
        if networks[kind].fingerprint != expected:
            raise ValueError(
                f"{path} holds other weights than the settings of the processor name (SHA-256 "
                f"{networks[kind].fingerprint[:12]}..., {str(expected)[:12]}... is expected): copy it from the "
                "checkpoint again."
            )
    return networks


def _check_torch(what):
    if not is_torch_available():
        raise ImportError(f"Reading {what} from media needs torch: pip install torch. Or give arrays of frames.")


@contextmanager
def _named_errors(kind):
    """Raises an `OSError` for whatever goes wrong with the weights and the description in a file."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {str(error)[:300]}"
        raise OSError(f"{WEIGHT_FILES[kind]} describes no network that gives {kind!r} frames: {problem}") from error


def _build(kind, network):
    """The module of a network."""
    if kind == "face":
        return FaceNetworks.from_state_dict(network.state_dict())
    build = build_whisper_encoder if kind == "whisper" else build_image_encoder
    return build(json.loads(network.metadata["config"]), network.state_dict())
