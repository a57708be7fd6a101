#!/usr/bin/env python
"""Divides the speech of RAVDESS into five folds by actor, for training on voice, face and text.

    hf-fusion extract RAVDESS/Actor_* data/ravdess/frames_whisper --audio whisper --vision none
    python scripts/prepare_ravdess.py data/ravdess/frames_whisper data/ravdess/whisper
    python scripts/prepare_ravdess.py data/ravdess/frames_whisper data/ravdess/whisper_face --face frames.npz
    python scripts/prepare_ravdess.py frames.npz data/ravdess/voice_face --average 10 --face frames.npz --by_actor

RAVDESS holds the 1,440 recordings of speech (zenodo.org/records/1188976, Audio_Speech_Actors_01-24.zip) under their own
names, in any format of audio. The frames of the voice come from a folder that `hf-fusion extract` wrote, or from an
array file with `ids`, `n_frames` and `frames` (of all recordings, one after another). The face is one frame for each
recording, from an array file with `ids` and tables such as `au_mean` (recordings, columns): the means over the video
of the same take, such as the action units of OpenFace. The text is the sentence that is spoken, one of two.

Every fold is a folder of features for `hf-fusion train`, with links to the frames: data/ravdess/whisper/emotion/fold-0
(8 classes) and data/ravdess/whisper/valence/fold-0 (1 happy; 0 neutral, calm; -1 sad, angry, fearful, disgust;
surprised is left out). The actors of a fold are its test split, two men and two women of the next fold its validation
split, and all others its training split.

With --by_actor every column of voice and face is standardised over all recordings of an actor, without their labels.
This removes how a person sounds and looks at all times; for a new speaker it needs several recordings in several moods.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # numbered from 1 in names
VALENCE = {"neutral": 0, "calm": 0, "happy": 1, "sad": -1, "angry": -1, "fearful": -1, "disgust": -1}
SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door.")  # numbered from 1 in names
# The folds of Luna-Jiménez et al. (2021); odd numbers are men, even ones women.
FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
# Speech as sound alone: emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"03-01-0([1-8])-0[12]-0([12])-0[12]-(\d\d)")
CLIPS = "clips"


def split_of(actor: int, fold: int) -> str:
    """Returns the split of an actor: "test", "validation" or "train"."""
    if actor in FOLDS[fold]:
        return "test"
    following = FOLDS[(fold + 1) % len(FOLDS)]
    men, women = ([other for other in following if other % 2 == odd] for odd in (1, 0))
    return "validation" if actor in (*men[:2], *women[:2]) else "train"


def read_voice(source: Path) -> dict[str, np.ndarray]:
    """Returns the frames of the voice `(frames, columns)` by recording, of a folder or an array file."""
    if source.is_dir():
        names = _of_speech(sorted(path.stem for path in source.glob("*.npz")))
        return {name: np.load(source / f"{name}.npz")["audio"] for name in names}
    content = np.load(source)
    frames = content["frames"].astype(np.float32)
    parts = np.split(frames, np.cumsum(content["n_frames"])[:-1])
    frames_of = dict(zip(map(str, content["ids"]), parts, strict=True))
    return {name: frames_of[name] for name in _of_speech(list(frames_of))}


def _of_speech(names):
    """Returns the names of recordings of speech; says how many others there are, such as songs."""
    if others := [name for name in names if not _NAME.fullmatch(name)]:
        print(f"{len(others)} recordings without a name of RAVDESS's speech are left out: {others[0]} ...")
    return [name for name in names if _NAME.fullmatch(name)]


def read_face(source: Path, tables: list[str]) -> dict[str, np.ndarray]:
    """Returns the only frame of the face `(1, columns)` by recording: the tables of an array file side by side."""
    content = np.load(source)
    values = np.concatenate([content[name] for name in tables], axis=1).astype(np.float32)
    return {str(name): row[None] for name, row in zip(content["ids"], values, strict=True)}


def average_frames(frames: np.ndarray, count: int) -> np.ndarray:
    """Returns the means of `count` frames that follow each other; of fewer at the end."""
    starts = np.arange(0, len(frames), count)
    sums = np.add.reduceat(frames, starts, axis=0)
    return sums / np.diff([*starts, len(frames)])[:, None].astype(np.float32)


def standardize_by_actor(stream: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns frames whose columns have mean 0 and deviation 1 over the recordings of each actor."""
    standardized = {}
    for actor in sorted(set(map(_actor, stream))):
        own = {name: frames for name, frames in stream.items() if _actor(name) == actor}
        together = np.concatenate(list(own.values())).astype(np.float64)
        deviation = together.std(axis=0)
        deviation[deviation < 1e-6] = 1  # a constant column
        standardized |= {
            name: ((frames - together.mean(axis=0)) / deviation).astype(np.float32) for name, frames in own.items()
        }
    return standardized


def write_clips(folder: Path, streams: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes the frames of each recording."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in streams["audio"]:
        np.savez(folder / f"{name}.npz", **{stream: frames[name] for stream, frames in streams.items()})


def write_fold(folder: Path, frames: Path, labels: dict[str, str | int], fold: int) -> None:
    """Writes the labels of a fold, and links to the frames and to the files that say how they were made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "label", "split", "text", "video"))
        writer.writerows(
            (name, label, split_of(_actor(name), fold), _sentence(name), f"actor-{_actor(name):02}")
            for name, label in labels.items()
        )
    settings = [path.name for path in (frames / "media.json", *frames.glob("*.safetensors")) if path.exists()]
    for link in folder.iterdir():
        if link.is_symlink():  # of an earlier call, perhaps with other options
            link.unlink()
    for name in [*settings, *(f"{name}.npz" for name in labels)]:
        (folder / name).symlink_to((frames / name).resolve())


def _actor(name):
    return int(_NAME.fullmatch(name)[3])


def _emotion(name):
    return EMOTIONS[int(_NAME.fullmatch(name)[1]) - 1]


def _sentence(name):
    return SENTENCES[int(_NAME.fullmatch(name)[2]) - 1]


def prepare_clips(args) -> tuple[Path, list[str]]:
    """Returns the folder with the frames of each recording, and the names of the recordings.

    Frames of an extraction that stay as they are are not copied: with them come the settings by which a trained model
    reads recordings.
    """
    voice = read_voice(args.voice)
    if args.voice.is_dir() and args.face is None and args.average == 1 and not args.by_actor:
        return args.voice, list(voice)
    streams = {"audio": {name: average_frames(frames, args.average) for name, frames in voice.items()}}
    if args.face is not None:
        face = read_face(args.face, args.tables)
        if missing := sorted(voice.keys() - face.keys()):
            raise ValueError(f"{args.face}: no face for {len(missing)} recordings, such as {missing[0]}.")
        streams["vision"] = {name: face[name] for name in voice}
    if args.by_actor:
        streams = {name: standardize_by_actor(stream) for name, stream in streams.items()}
    write_clips(args.output / CLIPS, streams)
    return args.output / CLIPS, list(voice)


def parse_args(arguments: list[str] | None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voice", type=Path, help="folder that `hf-fusion extract` wrote, or an array file (.npz)")
    parser.add_argument("output", type=Path, help="folder for the folds")
    parser.add_argument("--face", type=Path, help="array file (.npz) with tables of the face")
    parser.add_argument(
        "--tables", nargs="+", default=["au_mean", "au_mean_b"], help="its tables, side by side (default: two)"
    )
    parser.add_argument("--average", type=int, default=1, help="voice frames that become one (default: 1)")
    parser.add_argument("--by_actor", action="store_true", help="standardise voice and face over each actor")
    args = parser.parse_args(arguments)
    if args.average < 1:
        parser.error(f"--average must be at least 1, got {args.average}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Writes the folds."""
    args = parse_args(arguments)
    try:
        frames, names = prepare_clips(args)
    except (OSError, KeyError, ValueError) as error:
        print(f"prepare_ravdess.py: {error}", file=sys.stderr)
        return 2
    if not names:
        print(f"{args.voice}: no frames with names of RAVDESS.", file=sys.stderr)
        return 2
    emotions = {name: _emotion(name) for name in names}
    valence = {name: VALENCE[emotion] for name, emotion in emotions.items() if emotion in VALENCE}
    for target, labels in (("emotion", emotions), ("valence", valence)):
        for fold in range(len(FOLDS)):
            write_fold(args.output / target / f"fold-{fold}", frames, labels, fold)
    print(f"{len(emotions)} recordings of {len(set(map(_actor, emotions)))} actors: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
