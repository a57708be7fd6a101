"""Makes synthetic talks, extracts them, and trains a model that reads videos and recordings."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from hf_fusion.data.clips import ClipSource
from hf_fusion.evaluation.baselines import ridge_baseline
from hf_fusion.media.extraction import FileExtraction
from hf_fusion.media.extractor import SETTINGS_FILE, make_extractor
from hf_fusion.media.prepare import prepare_media
from hf_fusion.media.synthetic_talks import LABEL_RANGE, draw_sentence, write_talk, write_talks
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.studies.launch import Run
from hf_fusion.studies.quickstart import clip_baselines
from hf_fusion.utils.errors import RecipeError

TALKS = "dashfusion_talks"
EXAMPLE = "talk.mp4"
_FOLDERS = ("videos", "data", "features", "dashfusion")
_FILES = (EXAMPLE, "talk.srt")
# Strength and tone of each sentence of the example: it begins badly and ends well, with a voice of its own course.
_COURSE = ((-2, -1), (-2, 0), (-1, -1), (-1, 0), (1, -1), (-1, 1), (1, 0), (1, 1), (2, 0), (2, 1))
_SILENCE = {4: 9.0}  # seconds after sentences


def write_examples(folder: Path, talks: int = 24) -> None:
    """
    Writes the videos of the quickstart: the folder `videos` with labels, and `talk.mp4`, which is none of them.

    Args:
        folder (`Path`): of the quickstart.
        talks (`int`): the number of labelled videos.

    Raises:
        MissingExtraError: if PyAV is not installed.
    """
    write_talks(folder / "videos", talks)
    rng = np.random.default_rng(999)
    write_talk(folder / EXAMPLE, [draw_sentence(rng, *course) for course in _COURSE], rng, _SILENCE)


def prepare_examples(folder: Path, face: bool, track_files: Callable[[float, float], None]) -> None:
    """
    Extracts the videos into the folder `data`.

    Args:
        folder (`Path`): of the quickstart.
        face (`bool`): whether to read the face too, by networks that are fetched once.
        track_files (`Callable`): see [`FileExtraction.extract`].
    """
    logging.getLogger("hf_fusion.media").setLevel(logging.ERROR)  # pauses without words are no news here
    extractor = make_extractor(vision="face" if face else None)
    source = ClipSource(str(folder / "videos"), MODALITIES if face else MODALITIES[:2])
    prepare_media(
        source, str(folder / "data"), FileExtraction(extractor, folder / "features", os.cpu_count() or 1), track_files
    )


def media_run(folder: Path, flags: list[str] | None = None) -> Run:
    """
    Returns the run that trains the recipe `dashfusion_talks` on the folder `data`; its run folder is `dashfusion`.

    Args:
        folder (`Path`): of the quickstart.
        flags (`list[str]`, *optional*): for other fields of the recipe.
    """
    settings = json.loads((folder / "data" / SETTINGS_FILE).read_text(encoding="utf-8"))
    modalities = [name for name in MODALITIES if name == "text" or settings.get(name)]
    own = ["--dataset", str(folder / "data"), "--modalities", *modalities]
    return Run("DashFusion", TALKS, folder / "dashfusion", [*own, *(flags or [])])


def media_baselines(run: Run) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """Measures the mean and ridge regression on the data of the run; returns their metrics and the clips."""
    baselines, clips = clip_baselines(run)
    modalities = [name for name in MODALITIES if name in clips["test"].column_names]
    return {**baselines, "ridge regression": ridge_baseline(clips, modalities, LABEL_RANGE)}, clips


def remove_previous(folder: Path) -> None:
    """
    Removes what an earlier quickstart wrote.

    Raises:
        RecipeError: if the folder holds other files; nothing is removed then.
    """
    others = sorted({path.name for path in folder.iterdir()} - {*_FOLDERS, *_FILES}) if folder.exists() else []
    if others:
        raise RecipeError(f"{folder} holds {others[0]!r}, which is not of the quickstart: choose another folder.")
    shutil.rmtree(folder, ignore_errors=True)
