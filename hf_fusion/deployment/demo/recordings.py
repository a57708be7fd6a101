"""Predicts an uploaded video or recording: its score over time, as a picture under the player."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock

from hf_fusion.deployment.demo.checkpoints import DemoModel
from hf_fusion.deployment.predict_media import MediaPredictor, describe_file
from hf_fusion.media.folder import is_media_name
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.media_text import SUBTITLE_ENDINGS
from hf_fusion.utils.errors import DataError

# Answers of one recording, at most; longer ones need a longer hop.
MOST_WINDOWS = 600
WIDTH, HEIGHT = 1000, 200  # of the picture, in units of its own


@dataclass
class Stretch:
    """The answer to a stretch of time; `label` is `None` where nothing is known."""

    start: float
    end: float
    text: str
    label: str | None
    score: str
    # of the picture: from the left and from the top, in its units
    left: float = 0.0
    width: float = 0.0
    height: float | None = None
    color: int = 0


@dataclass
class Curve:
    """
    The answers of a model to a recording.

    Args:
        model: the name of the model.
        error: why there is no answer.
        overall, score: the answer to the whole recording.
        stretches: the answers over time.
        lines: the scores as points `x,y` of the picture, one text for each run without a gap; empty for classes.
        classes: the classes that occur, in the order of their colors.
        shares: of the time with words, a voice, a face, in words.
        ends: the names of the lower and the upper end of the picture.
        notes: the transcript that was used, and warnings.
    """

    model: str
    error: str | None = None
    overall: str = ""
    score: str = ""
    stretches: list[Stretch] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    shares: str = ""
    ends: tuple[str, str] = ("0", "1")
    notes: list[str] = field(default_factory=list)


@dataclass
class Recording:
    """An uploaded file and the curves of the models."""

    path: str
    has_video: bool
    seconds: float
    curves: list[Curve]


class RecordingReader:
    """
    Reads the recordings of strangers, in a process of its own.

    Args:
        models (`list[DemoModel]`): the checkpoints.
        timeout (`float`): seconds for each file.
        asr, language: of [`FusionSentimentPipeline`], for recordings without subtitles.
    """

    def __init__(self, models: list[DemoModel], timeout: float, asr: str | None = None, language: str | None = None):
        self._models, self._options = models, {"asr": asr, "language": language}
        self._sandbox, self._lock = Sandbox(timeout), Lock()

    def close(self) -> None:
        """Ends the process."""
        self._sandbox.close()

    def predict(self, files: list[str], window: float, hop: float, chosen: list[str]) -> Recording:
        """
        Predicts a recording.

        Args:
            files: the recording, and its subtitles if there are any.
            window, hop: seconds of each answer, and from one to the next.
            chosen: the modalities that are switched on.

        Raises:
            DataError: if the files are not one recording, or the settings would give too many answers.
            InputError: if the recording cannot be read.
        """
        path, transcript = _recording_of(files)
        if not chosen:
            raise DataError("Switch on at least one modality.")
        with self._lock:  # the process does one thing after the other
            return self._predict(path, transcript, window, hop, chosen)

    def _predict(self, path, transcript, window, hop, chosen):
        facts = self._sandbox.run(describe_file, path, name=Path(path).name)
        if facts["seconds"] / hop > MOST_WINDOWS:
            raise DataError(
                f"The recording has {facts['seconds']:,.0f} seconds: choose a hop of at least "
                f"{facts['seconds'] / MOST_WINDOWS:.1f} seconds."
            )
        curves = [self._curve(model, path, transcript, window, hop, chosen) for model in self._models]
        ends = [stretch.end for curve in curves for stretch in curve.stretches]
        return Recording(path, facts["has_video"], max([facts["seconds"], *ends]), curves)

    def _curve(self, model, path, transcript, window, hop, chosen):
        predictor = MediaPredictor(
            model, window, hop, **self._options, sandbox=self._sandbox, checkpoint=model.checkpoint,
            modalities=[name for name in model.config.modalities if name in chosen],
        )  # fmt: skip
        prediction = predictor.predict(path, transcript=transcript)
        # the folder of uploads is nobody's concern
        notes = [note.replace(str(Path(transcript or path).parent) + "/", "") for note in prediction.notes]
        if prediction.error:
            return Curve(model.name, prediction.error.replace(path, Path(path).name), notes=notes)
        return draw(model, prediction, notes)


def _recording_of(files):
    """The recording among uploaded files, and its subtitles."""
    recordings = [path for path in files if is_media_name(path)]
    subtitles = [path for path in files if path.lower().endswith(SUBTITLE_ENDINGS)]
    if len(recordings) != 1 or len(subtitles) > 1 or len(recordings) + len(subtitles) < len(files):
        names = ", ".join(Path(path).name for path in files) or "nothing"
        raise DataError(f"Upload one video or recording, and its subtitles (.srt, .vtt) if there are any; got {names}.")
    return recordings[0], next(iter(subtitles), None)


def draw(model: DemoModel, prediction, notes: list[str]) -> Curve:
    """Makes the curve of a [`MediaPrediction`]."""
    overall, answers = prediction.overall, prediction.answers
    seconds = max(overall["end"], answers[-1]["end"]) or 1.0
    classes = list(dict.fromkeys(answer["label"] for answer in answers if answer["label"] is not None))
    curve = Curve(model.name, None, overall["label"], model.written(overall["score"]), notes=notes)
    curve.classes = classes if model.has_classes else []
    curve.ends = ("0 %", "100 %") if model.has_classes else tuple(f"{end:+g}" for end in model.config.label_range)
    curve.shares = ", ".join(f"{name} {share:.0%}" for name, share in overall["modalities"].items())
    for answer, (left, right) in zip(answers, _cells(answers), strict=True):
        stretch = Stretch(
            answer["start"], answer["end"], answer["text"] or "", answer["label"], model.written(answer["score"])
        )
        stretch.left, stretch.width = left / seconds * WIDTH, (right - left) / seconds * WIDTH
        if answer["label"] is not None:
            stretch.height = model.place(answer["score"]) * HEIGHT
            stretch.color = classes.index(answer["label"])
        curve.stretches.append(stretch)
    if not model.has_classes:
        curve.lines = _lines(curve.stretches)
    return curve


def _cells(answers):
    """The stretch of time that each answer has in the picture: overlapping ones meet halfway."""
    edges = [[answer["start"], answer["end"]] for answer in answers]
    for before, after in pairwise(edges):
        if after[0] < before[1]:
            before[1] = after[0] = (before[1] + after[0]) / 2
    return edges


def _lines(stretches):
    """The points of each run of answers without a gap."""
    runs = [[]]
    for stretch in stretches:
        if stretch.height is None:
            runs.append([])
            continue
        top = HEIGHT - stretch.height
        runs[-1] += [f"{x:.1f},{top:.1f}" for x in (stretch.left, stretch.left + stretch.width)]
    return [" ".join(run) for run in runs if run]
