#!/usr/bin/env python
"""Prepares the speech of RAVDESS for training on the voice alone, in five folds by actor.

    python scripts/prepare_ravdess.py RAVDESS data/ravdess --audio descriptors
    python scripts/prepare_ravdess.py RAVDESS data/ravdess --audio whisper --audio_encoder openai/whisper-tiny.en

RAVDESS holds the 1,440 recordings (zenodo.org/records/1188976, Audio_Speech_Actors_01-24.zip), in any folders and any
format of audio, under their own names. The frames of each recording are extracted once. Every fold is a folder of
features for `hf-fusion train`: data/ravdess/whisper/emotion/fold-0 (8 classes) and data/ravdess/whisper/valence/fold-0
(1 happy; 0 neutral, calm; -1 sad, angry, fearful, disgust; surprised is left out). The actors of a fold are its test
split, two men and two women of the next fold its validation split, and all others its training split.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np

from hf_fusion.media.extractor import DEFAULT_WHISPER, make_extractor, save_extractor
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import FusionError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # numbered from 1 in names
VALENCE = {"neutral": 0, "calm": 0, "happy": 1, "sad": -1, "angry": -1, "fearful": -1, "disgust": -1}
# The folds of Luna-Jiménez et al. (2021); odd numbers are men, even ones women.
FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
# Speech as sound alone: emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"03-01-0([1-8])-0[12]-0[12]-0[12]-(\d\d)")


def find_recordings(folder: Path) -> dict[str, Path]:
    """Returns the files of the recordings by their names, in order."""
    paths = [path for path in folder.rglob("*") if path.is_file() and _NAME.fullmatch(path.stem)]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def extract_frames(recordings: dict[str, Path], extractor, folder: Path) -> None:
    """Writes the audio frames of each recording to `folder/NAME.npz`; those that are there are kept."""
    save_extractor(extractor, folder)
    for name, path in recordings.items():
        target = folder / f"{name}.npz"
        if target.exists():
            continue
        clip = extractor.read(path, None, None, None, None, "cpu", None, ("audio",))
        if clip.audio is None:
            raise FusionError(f"{path}: no voice was found.")
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, audio=clip.audio)
        part.replace(target)


def split_of(actor: int, fold: int) -> str:
    """Returns the split of an actor: "test", "validation" or "train"."""
    if actor in FOLDS[fold]:
        return "test"
    following = FOLDS[(fold + 1) % len(FOLDS)]
    men, women = ([other for other in following if other % 2 == odd] for odd in (1, 0))
    return "validation" if actor in (*men[:2], *women[:2]) else "train"


def write_fold(folder: Path, frames: Path, labels: dict[str, str | int], fold: int) -> None:
    """Writes the labels of a fold, and links to the frames and to the files that say how they were made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "split"))
        writer.writerows((name, label, split_of(_actor(name), fold)) for name, label in labels.items())
    settings = [path.name for path in frames.iterdir() if path.suffix in (".json", ".safetensors")]
    for name in [*settings, *(f"{name}.npz" for name in labels)]:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to((frames / name).resolve())


def _actor(name):
    return int(_NAME.fullmatch(name)[2])


def _emotion(name):
    return EMOTIONS[int(_NAME.fullmatch(name)[1]) - 1]


def main(arguments: list[str] | None = None) -> int:
    """Extracts the frames and writes the folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of the recordings")
    parser.add_argument("output", type=Path, help="folder for frames and folds")
    parser.add_argument("--audio", choices=("descriptors", "whisper"), default="whisper", help="kind of the frames")
    parser.add_argument("--audio_encoder", default=DEFAULT_WHISPER, help=f"Whisper checkpoint ({DEFAULT_WHISPER})")
    args = parser.parse_args(arguments)
    recordings = find_recordings(args.recordings)
    if not recordings:
        print(f"{args.recordings}: no recordings with names of RAVDESS.", file=sys.stderr)
        return 2
    frames = args.output / args.audio / "frames"
    try:
        extractor = make_extractor(audio=args.audio, vision=None, audio_encoder=args.audio_encoder)
        extract_frames(recordings, extractor, frames)
    except (FusionError, InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    emotions = {name: _emotion(name) for name in recordings}
    valence = {name: VALENCE[emotion] for name, emotion in emotions.items() if emotion in VALENCE}
    for target, labels in (("emotion", emotions), ("valence", valence)):
        for fold in range(len(FOLDS)):
            write_fold(args.output / args.audio / target / f"fold-{fold}", frames, labels, fold)
    print(f"{len(emotions)} recordings of {len(set(map(_actor, emotions)))} actors: {args.output / args.audio}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
