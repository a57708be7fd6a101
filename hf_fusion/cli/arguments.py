"""Arguments that several commands share."""

import json
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass, field, replace
from pathlib import Path

FRAME_FLAGS = ("audio", "vision", "audio_rate", "vision_rate", "audio_encoder", "vision_encoder")
MEDIA_FLAGS = (*FRAME_FLAGS, "checkpoint", "asr", "language", "workers", "timeout", "cache")


@dataclass
class CheckpointArguments:
    """The arguments of commands that evaluate a checkpoint on labelled data."""

    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the results; default: in the run folder."}
    )
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})


def make_parser(command: str, description: str) -> ArgumentParser:
    """Creates the parser of a command."""
    formatter = RawDescriptionHelpFormatter
    return ArgumentParser(f"hf-fusion {command}", description=description, formatter_class=formatter)


def json_object(text: str) -> dict:
    """Parses the value of a flag that holds a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'expected an object such as {{"name": 1}}, got {text:.50}')
    return value


def add_text_format(parser: ArgumentParser) -> None:
    """Adds the flags for [`make_text_format`]."""
    parser.add_argument("--encoding", help="encoding of text files, if detection fails: cp1252 ...")
    parser.add_argument("--delimiter", help="delimiter of .csv and .tsv, if detection fails; or tab")
    parser.add_argument(
        "--header", choices=["true", "false"],
        help="whether the first line holds the column names, if detection fails; without them columns are 1, 2 ...",
    )  # fmt: skip


def make_text_format(args: Namespace):
    """Creates the [`TextFormat`] from the flags of [`add_text_format`]."""
    from hf_fusion.data.decoding import TextFormat

    header = None if args.header is None else args.header == "true"
    return TextFormat(args.encoding, args.delimiter, header)


def add_media(parser: ArgumentParser) -> None:
    """Adds the flags for [`make_extraction`]."""
    group = parser.add_argument_group("extraction from media files")
    add = group.add_argument
    add("--audio", choices=["descriptors", "whisper", "none"], help="audio frames: 23 named columns (default), or "
        "those of a Whisper encoder")  # fmt: skip
    add("--vision", choices=["face", "clip", "none"], help="vision frames: 58 named columns of a face (default), or "
        "those of an image encoder")  # fmt: skip
    add("--audio_rate", type=int, help="frames per second (default: 20 for descriptors, 10 for whisper)")
    add("--vision_rate", type=int, help="frames per second (default: 10 for face, 2 for clip)")
    add("--audio_encoder", help="Whisper checkpoint for --audio whisper (default: openai/whisper-tiny.en)")
    add("--vision_encoder", help="image encoder for --vision clip (default: openai/clip-vit-base-patch32)")
    add("--checkpoint", "-c", help="extract as this checkpoint reads media, in place of the flags above")
    add("--asr", help="speech recognition checkpoint for files without text and subtitles: openai/whisper-tiny.en ...")
    add("--language", help="what is spoken, for --asr (default: recognised)")
    add("--workers", type=int, help="processes, with one thread each (default: the cores); 0 extracts in this one")
    add("--timeout", type=float, help="seconds for a file, after which it counts as unreadable (default: no limit)")
    add("--cache", help="folder that keeps what was extracted (default: hf_fusion/media in the cache of Hugging Face)")


def given_media(args: Namespace) -> list[str]:
    """Returns the flags of [`add_media`] that are set."""
    return [f"--{name}" for name in MEDIA_FLAGS if getattr(args, name) is not None]


def make_extraction(args: Namespace):
    """Creates the [`FileExtraction`] from the flags of [`add_media`]."""
    from hf_fusion.media.cache import DEFAULT_FOLDER
    from hf_fusion.media.extraction import FileExtraction
    from hf_fusion.utils.errors import DataError

    for name, least in (("workers", 0), ("audio_rate", 1), ("vision_rate", 1)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise DataError(f"--{name} must be at least {least}, got {getattr(args, name)}.")
    if args.timeout is not None and not args.timeout > 0:
        raise DataError(f"--timeout must be above 0 seconds, got {args.timeout:g}.")
    if args.timeout is not None and args.workers == 0:
        raise DataError("--timeout ends another process: set --workers to 1 or more.")
    try:
        extractor = _make_extractor(args) if args.checkpoint is None else _extractor_of(args)
        extractor.columns("audio")  # refuses a rate that the kind does not have
    except ValueError as error:
        raise DataError(str(error)) from error
    workers = _count_cores() if args.workers is None else args.workers
    cache = Path(args.cache or DEFAULT_FOLDER)
    return FileExtraction(extractor, cache, workers, args.timeout, args.asr, args.language)


def _make_extractor(args):
    """The extractor of the flags."""
    from hf_fusion.media.extractor import DEFAULT_IMAGE_ENCODER, DEFAULT_WHISPER, make_extractor

    kinds = {"audio": args.audio or "descriptors", "vision": args.vision or "face"}
    return make_extractor(
        **{name: None if kind == "none" else kind for name, kind in kinds.items()},
        audio_rate=args.audio_rate, vision_rate=args.vision_rate,
        audio_encoder=args.audio_encoder or DEFAULT_WHISPER,
        vision_encoder=args.vision_encoder or DEFAULT_IMAGE_ENCODER,
        asr=args.asr, language=args.language,
    )  # fmt: skip


def _extractor_of(args):
    """The extractor of a checkpoint."""
    from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
    from hf_fusion.models.media_frames import MediaExtractor
    from hf_fusion.utils.errors import DataError

    set_twice = [name for name in FRAME_FLAGS if getattr(args, name) is not None]
    if set_twice:
        raise DataError(f"--checkpoint says how frames are made: remove --{set_twice[0]}.")
    extractor = DashFusionFeatureExtractor.from_pretrained(args.checkpoint).media_extractor
    if extractor is None:
        raise DataError(f"{args.checkpoint} was trained on arrays of frames, and has no settings for media files.")
    settings = extractor.settings
    # of the new data; a model that is trained on them carries them on
    settings = replace(settings, asr=args.asr or settings.asr, language=args.language or settings.language)
    return MediaExtractor(settings, extractor.networks)


def _count_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
