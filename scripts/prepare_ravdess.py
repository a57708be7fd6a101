#!/usr/bin/env python
"""Divides the speech of RAVDESS into five folds by actor, for training on the voice alone.

    hf-fusion extract RAVDESS/Actor_* data/ravdess/frames_whisper --audio whisper --vision none
    python scripts/prepare_ravdess.py data/ravdess/frames_whisper data/ravdess/whisper

RAVDESS holds the 1,440 recordings of speech (zenodo.org/records/1188976, Audio_Speech_Actors_01-24.zip) under their own
names, in any format of audio. Every fold is a folder of features for `hf-fusion train`, with links to the frames:
data/ravdess/whisper/emotion/fold-0 (8 classes) and data/ravdess/whisper/valence/fold-0 (1 happy; 0 neutral, calm; -1
sad, angry, fearful, disgust; surprised is left out). The actors of a fold are its test split, two men and two women of
the next fold its validation split, and all others its training split.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import csv
import re
import sys
from pathlib import Path

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # numbered from 1 in names
VALENCE = {"neutral": 0, "calm": 0, "happy": 1, "sad": -1, "angry": -1, "fearful": -1, "disgust": -1}
# The folds of Luna-Jiménez et al. (2021); odd numbers are men, even ones women.
FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
# Speech as sound alone: emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"03-01-0([1-8])-0[12]-0[12]-0[12]-(\d\d)")


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
    settings = ["media.json", *(path.name for path in frames.glob("*.safetensors"))]
    for name in [*settings, *(f"{name}.npz" for name in labels)]:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to((frames / name).resolve())


def _actor(name):
    return int(_NAME.fullmatch(name)[2])


def _emotion(name):
    return EMOTIONS[int(_NAME.fullmatch(name)[1]) - 1]


def main(arguments: list[str] | None = None) -> int:
    """Writes the folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path, help="folder that `hf-fusion extract` wrote")
    parser.add_argument("output", type=Path, help="folder for the folds")
    args = parser.parse_args(arguments)
    names = sorted(path.stem for path in args.frames.glob("*.npz") if _NAME.fullmatch(path.stem))
    emotions = {name: _emotion(name) for name in names}
    if not names:
        print(f"{args.frames}: no frames with names of RAVDESS.", file=sys.stderr)
        return 2
    valence = {name: VALENCE[emotion] for name, emotion in emotions.items() if emotion in VALENCE}
    for target, labels in (("emotion", emotions), ("valence", valence)):
        for fold in range(len(FOLDS)):
            write_fold(args.output / target / f"fold-{fold}", args.frames, labels, fold)
    print(f"{len(emotions)} recordings of {len(set(map(_actor, emotions)))} actors: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
