"""Extractors for new checkpoints: their networks from where they are published, and their files in a folder."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hf_fusion.media.face_weights import load_face_weights
from hf_fusion.models.media_frames import DEFAULT_RATES, MediaExtractor, MediaSettings, Network, read_networks
from hf_fusion.models.media_image import image_encoder_from_pretrained
from hf_fusion.models.media_whisper import encoder_from_pretrained as whisper_encoder_from_pretrained
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

SETTINGS_FILE = "media.json"
DEFAULT_WHISPER = "openai/whisper-tiny.en"
DEFAULT_IMAGE_ENCODER = "openai/clip-vit-base-patch32"


def make_extractor(
    audio: str | None = "descriptors",
    vision: str | None = "face",
    audio_rate: int | None = None,
    vision_rate: int | None = None,
    audio_encoder: str = DEFAULT_WHISPER,
    vision_encoder: str = DEFAULT_IMAGE_ENCODER,
    asr: str | None = None,
    language: str | None = None,
) -> MediaExtractor:
    """
    Makes an extractor for a new data set or checkpoint. Networks are fetched where they are not in the cache.

    Args:
        audio: "descriptors", "whisper" or `None`.
        vision: "face", "clip" or `None`.
        audio_rate, vision_rate: frames per second; by default 20 (descriptors), 10 (whisper), 10 (face) and 2 (clip).
        audio_encoder: the Whisper checkpoint whose encoder gives the frames: a name on the Hub, or a folder.
        vision_encoder: the image encoder for "clip": a name on the Hub, or a folder.
        asr: the speech recognition checkpoint for files without a transcript.
        language: what is spoken, for `asr`.

    Raises:
        ValueError: for an unknown kind or a rate that the kind does not have.
        OSError: if a network cannot be fetched; says how to get it.
    """
    networks = {}
    if audio == "whisper":
        config, weights = whisper_encoder_from_pretrained(audio_encoder)
        networks[audio] = _network(weights, audio_encoder, config=config)
    if vision == "face":
        networks[vision] = load_face_weights()
    elif vision == "clip":
        config, preprocessing, weights = image_encoder_from_pretrained(vision_encoder)
        networks[vision] = _network(weights, vision_encoder, config=config, preprocessing=preprocessing)
    settings = MediaSettings(
        audio, audio_rate or DEFAULT_RATES.get(audio), vision, vision_rate or DEFAULT_RATES.get(vision),
        audio_weights=_fingerprint(networks, audio), vision_weights=_fingerprint(networks, vision),
        asr=asr, language=language,
    )  # fmt: skip
    return MediaExtractor(settings, networks)


def for_checkpoint(extractor: MediaExtractor, streams: Iterable[str]) -> dict[str, Any]:
    """
    The arguments `media` and `networks` of a [`DashFusionFeatureExtractor`].

    Args:
        extractor: how the frames of the training data were made.
        streams: those of "audio" and "vision" that the model reads. A speech recogniser in a folder of this machine,
            which is nothing to others, is left out.
    """
    extractor = extractor.only(streams)
    settings = replace(extractor.settings, asr=_public_name(extractor.settings.asr))
    return {"media": settings.to_dict(), "networks": extractor.networks}


def save_extractor(extractor: MediaExtractor, folder: str | Path) -> None:
    """Writes the settings into `media.json`, and the networks beside it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    extractor.save(folder)
    write_json(Path(folder) / SETTINGS_FILE, extractor.settings.to_dict())


def load_extractor(folder: str | Path) -> MediaExtractor | None:
    """
    Reads what [`save_extractor`] wrote; `None` if the folder has no `media.json`.

    Raises:
        DataError: if a file is damaged, or was written by another version; names it.
    """
    settings = load_settings(folder)
    if settings is None:
        return None
    try:
        networks = read_networks(settings, lambda name: _existing(Path(folder) / name))
    except (ValueError, OSError, SafetensorError) as error:
        raise DataError(f"{folder}: {error}") from error
    return MediaExtractor(settings, networks)


def load_settings(folder: str | Path) -> MediaSettings | None:
    """Reads `media.json` of a folder; `None` if it has none. Raises [`DataError`] if it is damaged."""
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        return MediaSettings.from_dict(json.loads(path.read_text("utf-8")))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error


def check_extraction(processor, data: str | Path) -> None:
    """
    Checks that features were extracted as the model of a processor reads them.

    Args:
        processor: the processor of the model.
        data: a folder of features; one without `media.json` passes, as does any other name of data.

    Raises:
        DataError: if the settings differ; names the first difference.
    """
    made = load_settings(data)
    expected = getattr(getattr(processor, "feature_extractor", None), "media_extractor", None)
    if made is None or expected is None:
        return
    try:
        expected.settings.check_same(made, f"{data}")
    except InputError as error:
        raise DataError(str(error)) from error


def _existing(path):
    return str(path) if path.is_file() else None


def _network(state_dict, source, **descriptions):
    """The network of an encoder. Of a folder only the last name is kept, which says nothing about this machine."""
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in descriptions.items()}
    metadata["source"] = _public_name(source) or Path(source).name
    return Network({name: values.numpy() for name, values in state_dict.items()}, metadata)


def _public_name(checkpoint):
    """The name of a checkpoint on the Hub; `None` for a folder, which is nothing to others."""
    return None if checkpoint is None or Path(checkpoint).exists() else str(checkpoint)


def _fingerprint(networks, kind):
    return networks[kind].fingerprint if kind in networks else None
