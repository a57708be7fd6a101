"""
Predicts media files: each file gives one row, or one for each of its stretches of time.

The rows of each file are kept beside the output in `OUTPUT.parts` as soon as they are known, so that an interrupted run
continues with the next file. The folder is removed once the output is complete.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from tqdm import tqdm
from transformers import AutoProcessor

from hf_fusion.data.decoding import is_row_file
from hf_fusion.data.parts import stamp
from hf_fusion.deployment.prediction_shards import checkpoint_stamps, describe_differences
from hf_fusion.deployment.predictions import prediction_types
from hf_fusion.media.extraction import unexpected
from hf_fusion.media.folder import find_subtitles, is_media_name, names_in
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.media_decoding import MediaReader
from hf_fusion.models.media_frames import MediaClip, MediaSettings
from hf_fusion.models.media_text import Word
from hf_fusion.models.pipeline_common import MODALITIES
from hf_fusion.models.pipeline_media import check_window
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

_SETTINGS_FILE = "_settings.json"
_BAR = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of media [{elapsed}<{remaining}]"


def find_media(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """
    Finds the media files behind names, in the order of the names.

    Args:
        names: files; folders, of which all media files are taken, also those in folders inside, sorted by path, but
            none that is hidden (`.`); and patterns such as `lectures/**/*.mp4`, sorted by path.

    Returns:
        `tuple`: the media files, and the files of rows that are left out in the same folders. Both are empty if no name
        leads to a media file.

    Raises:
        DataError: if only some of the names lead to media files, or a file comes twice.
        FileNotFoundError: if a media file is not there.
    """
    files, beside, others = [], [], []
    for name in names:
        paths = _paths_behind(name)
        found = [str(path) for path in paths if is_media_name(path)]
        files += found
        if found:
            beside += [str(path) for path in paths if is_row_file(path)]
        else:
            others.append(name)
    if files and others:
        raise DataError(
            f"{files[0]} is a media file and {others[0]} leads to none: predict media files and rows in two runs."
        )
    seen = set()
    for path in files:
        if (real := os.path.realpath(path)) in seen:
            raise DataError(f"{path} is given twice.")
        seen.add(real)
    return files, beside


def _paths_behind(name):
    """The file of this name, or the files that a folder or a pattern holds."""
    path = Path(name)
    if path.is_dir():
        return sorted(path / name for name in names_in(path))
    if has_magic(name) and not path.exists():
        return [path for path in map(Path, sorted(glob(name, recursive=True))) if path.is_file()]
    if is_media_name(name) and not path.exists():
        raise FileNotFoundError(f"{name}: no such file.")
    return [path]


def media_types(config, flat: bool = False) -> dict[str, pa.DataType]:
    """
    Returns names and types of the columns of predicted media files.

    Args:
        config: the configuration of the model.
        flat: whether to return the columns of [`flat_media_row`].
    """
    place = {"file": pa.string(), "start": pa.float64(), "end": pa.float64(), "text": pa.string()}
    answer = prediction_types(config, flat)
    ends = {name: answer.pop(name) for name in ("truncated", "error")}
    shares = [(name, pa.float64()) for name in MODALITIES]
    flat_shares = {f"{name}_share": kind for name, kind in shares}
    return {**place, **answer, **(flat_shares if flat else {"modalities": pa.struct(shares)}), **ends}


def flat_media_row(row: dict[str, Any]) -> dict[str, Any]:
    """Flattens a row of [`MediaPrediction.rows`] for csv: `label` and `score`, `text_share`, `audio_share` ..."""
    answer = {
        "prediction": row["prediction"],
        "modalities": {f"{name}_share": share for name, share in row["modalities"].items()},
    }
    flat = {}
    for name, value in row.items():
        flat |= answer.get(name, {name: value})
    return flat


@dataclass
class MediaPrediction:
    """
    The answers to one media file.

    Args:
        file: the file.
        answers: the pipeline's answers to its stretches of time; a single one without a window.
        overall: the answer to the whole file; `None` if there is an error.
        error: why there is no answer.
        notes: the transcript that was used, and warnings.
    """

    file: str
    answers: list[dict[str, Any]] = field(default_factory=list)
    overall: dict[str, Any] | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def rows(self, several_labels: bool = False) -> list[dict[str, Any]]:
        """Returns a row for each answer, or one with the error; for `several_labels` the predictions have `labels`."""
        names = ("label", "score", *(["labels"] if several_labels else []))
        nothing = {"start": None, "end": None, "text": None, "label": None, "score": None, "truncated": None}
        answers = [{**nothing, "modalities": {}}] if self.error else self.answers
        return [
            {
                "file": self.file, "start": answer["start"], "end": answer["end"], "text": answer["text"],
                "prediction": {name: answer.get(name) for name in names},
                "modalities": {name: answer["modalities"].get(name) for name in MODALITIES},
                "truncated": answer["truncated"], "error": self.error,
            }
            for answer in answers
        ]  # fmt: skip


class MediaPredictor:
    """
    Predicts media files with a pipeline.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        window, hop, asr, language: the options of the pipeline for media files.
        batch_size: the number of stretches per forward pass.
        sandbox: the process that reads the files, for those of strangers; by default this one.
        checkpoint: the folder or name of the model, for the sandbox.
        modalities: the modalities that are read; all of the model by default.

    Raises:
        DataError: if the model reads no media files, or cannot read so long a window at once.
    """

    def __init__(
        self,
        classify,
        window: float | str | None = None,
        hop: float | None = None,
        asr: str | None = None,
        language: str | None = None,
        batch_size: int = 32,
        sandbox: Sandbox | None = None,
        checkpoint: str | None = None,
        modalities: Sequence[str] | None = None,
    ):
        try:
            check_window(window, hop)
        except ValueError as error:
            raise DataError(str(error)) from error
        self.classify, self.window, self.hop, self.batch_size = classify, window, hop, batch_size
        self.asr, self.language = asr, language
        self.sandbox, self.checkpoint = sandbox, checkpoint
        self._modalities = modalities or classify.model.config.modalities
        extractor = getattr(classify.processor, "feature_extractor", None)
        media = getattr(extractor, "media_extractor", None)
        if media is None:
            raise DataError(
                "This model reads no media files: it was trained on texts, or on frames that were made elsewhere. "
                "Train one on data that `hf-fusion prepare` made of media files."
            )
        self._settings = media.settings
        if isinstance(window, (int, float)) and window > (longest := self._longest(extractor)) + 1e-9:
            raise DataError(
                f"`window` is {window:g} seconds, but this model reads at most {longest:g} seconds at once."
            )

    def _longest(self, extractor):
        """Seconds of frames that the model reads at once."""
        rates = {name: getattr(self._settings, f"{name}_rate") for name in MODALITIES[1:] if name in self._modalities}
        return min(
            (getattr(extractor, f"max_{name}_length") / rate for name, rate in rates.items() if rate),
            default=float("inf"),
        )

    def seconds_of(self, file: str) -> float:
        """Returns the length of a file as its container gives it; 0 where it does not, or cannot be read."""
        try:
            return self._run(describe_file, file)["seconds"]
        except InputError:
            return 0.0

    def _run(self, function, *args):
        return self.sandbox.run(function, *args) if self.sandbox else function(*args)

    def predict(
        self, file: str, progress: Callable[[float], None] | None = None, transcript: str | os.PathLike | None = None
    ) -> MediaPrediction:
        """
        Predicts one file. One that cannot be read, or of which nothing is known, has an `error`.

        Args:
            file: the file.
            progress: called with the seconds of media that were read since the last call.
            transcript: a file of subtitles; by default the one beside the file.
        """
        transcript = (transcript or find_subtitles(Path(file))) if "text" in self._modalities else None
        notes = [f"the words are those of {transcript}"] if transcript else []
        try:
            clip = self._read(file, transcript, progress)
            notes += clip.report["warnings"]
            overall = self.classify(clip, batch_size=self.batch_size, return_truncated=True)
            answers = [overall] if self.window is None else self._answer_stretches(clip)
        except InputError as error:
            return MediaPrediction(file, error=error.reason, notes=notes)
        except (OSError, ImportError, torch.OutOfMemoryError):  # of networks and libraries
            raise
        except Exception as error:  # of a library, by what is in the file
            return MediaPrediction(file, error=unexpected(file, error), notes=notes)
        return MediaPrediction(file, answers, overall, notes=notes)

    def _read(self, file, transcript, progress):
        options = {
            "transcript": transcript and str(transcript), "asr": self.asr, "language": self.language,
            "device": self.classify.media_device, "modalities": list(self._modalities),
        }  # fmt: skip
        if self.sandbox:
            return read_apart(self.sandbox, file, self.checkpoint, options)
        facts = describe_file(file)
        has_vision = facts["has_video"] and self._settings.vision and "vision" in self._modalities
        streams = facts["has_audio"] + bool(has_vision)  # each reports its own seconds
        step = (lambda seconds: progress(seconds / streams)) if progress else None
        return self.classify.processor.read_media(file, progress=step, **options)

    def _answer_stretches(self, clip):
        answers = self.classify(
            clip, window=self.window, hop=self.hop, batch_size=self.batch_size, return_truncated=True
        )
        if not answers:
            raise InputError("No sentence is known, and no speech is heard in it: set a window in seconds.")
        return answers


def describe_file(file: str) -> dict[str, Any]:
    """Returns `seconds` (0 if unknown), `has_audio` and `has_video` of a media file; raises [`InputError`]."""
    facts = MediaReader(file).facts
    return {"seconds": facts.seconds or 0.0, "has_audio": facts.has_audio, "has_video": facts.has_video}


def read_apart(sandbox: Sandbox, file: str, checkpoint: str, options: dict[str, Any]) -> MediaClip:
    """Reads a media file in the process of a sandbox; the arguments are those of [`read_values`]."""
    values = sandbox.run(read_values, file, checkpoint, options)
    words = [Word(*word) for word in values["words"]]
    return MediaClip(**{**values, "words": words, "settings": MediaSettings.from_dict(values["settings"])})


def read_values(file: str, checkpoint: str, options: dict[str, Any]) -> dict[str, Any]:
    """
    Reads a media file in the process of a [`Sandbox`].

    Args:
        file: the file.
        checkpoint: the model that it is for.
        options: of [`DashFusionProcessor.read_media`].

    Returns:
        `dict`: the fields of the [`MediaClip`] as plain values.
    """
    clip = _load_processor(checkpoint).read_media(file, **options)
    return {**vars(clip), "words": [list(word) for word in clip.words], "settings": clip.settings.to_dict()}


@cache
def _load_processor(checkpoint):
    return AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)


class MediaParts:
    """
    The answers to the files of a run that are known so far, one JSON file each.

    Args:
        folder: the folder; created if it does not exist.
        settings: all that decides the answers besides the files.

    Raises:
        DataError: if the folder holds answers by other settings; names the differences.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _SETTINGS_FILE
        if not path.is_file():
            if other := next(self.folder.iterdir(), None):
                raise DataError(f"{self.folder} holds other files ({other.name} ...): choose another `output`.")
            write_json(path, settings)
        if differences := [*describe_differences(json.loads(path.read_text(encoding="utf-8")), settings)]:
            raise DataError(
                f"{self.folder} holds the answers of an interrupted run with other settings: {'; '.join(differences)}. "
                "Use the same settings to continue, or delete it to begin anew."
            )

    def load(self, file: str) -> MediaPrediction | None:
        """Returns the answers to a file; `None` if they are not known, or it or its transcript has changed since."""
        try:
            content = json.loads(self._path(file).read_text(encoding="utf-8"))
            prediction, stamps = MediaPrediction(**content["prediction"]), content["stamps"]
        except (FileNotFoundError, ValueError, TypeError, KeyError):  # absent, or damaged: predicted again
            return None
        return prediction if stamps == _stamps(file) else None

    def save(self, prediction: MediaPrediction, stamps: dict[str, list[int]]) -> None:
        """Keeps the answers to a file. `stamps` are those of [`MediaParts.stamps`] before it was read."""
        write_json(self._path(prediction.file), {"stamps": stamps, "prediction": asdict(prediction)})

    def _path(self, file):
        return self.folder / f"{hashlib.sha256(os.path.realpath(file).encode()).hexdigest()[:24]}.json"

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder)


def _stamps(file):
    """Stamps of a file and its transcript, by their names."""
    return {str(path): stamp(path) for path in (file, find_subtitles(Path(file))) if path}


def run_settings(predictor: MediaPredictor, checkpoint: str, **others) -> dict[str, Any]:
    """Returns all that decides the answers of a run besides its files: checkpoint, options and `others`."""
    return {
        "checkpoint": checkpoint,
        "files of the checkpoint": checkpoint_stamps(checkpoint),
        "revision": getattr(predictor.classify.model.config, "_commit_hash", None),
        **{name: getattr(predictor, name) for name in ("window", "hop", "asr", "language")},
        **others,
    }


def predict_media(
    predictor: MediaPredictor,
    files: list[str],
    parts: MediaParts | None = None,
    on_new: Callable[[MediaPrediction], None] = lambda prediction: None,
) -> Iterator[MediaPrediction]:
    """
    Predicts files, in their order, with a progress bar by seconds of media.

    Args:
        predictor: the predictor.
        files: the files.
        parts: answers that are known, which are not computed again, and the place for those that are not.
        on_new: called with each prediction before it is kept.
    """
    seconds = {file: predictor.seconds_of(file) for file in files}
    with tqdm(total=sum(seconds.values()) or 1, file=sys.stderr, bar_format=_BAR) as bar:
        end = 0.0
        for file in files:
            end += seconds[file]
            prediction = parts.load(file) if parts else None
            if prediction is None:
                stamps = _stamps(file)
                prediction = predictor.predict(file, _steps_to(end, bar))
                on_new(prediction)
                if parts:
                    parts.save(prediction, stamps)
            bar.update(end - bar.n)
            yield prediction


def _steps_to(end, bar):
    """The function that moves a bar, but not beyond a place: a container may name less time than there is."""
    return lambda seconds: bar.update(min(seconds, end - bar.n))
