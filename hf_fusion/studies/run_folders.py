"""The folders of the runs of a study, and the names of their files."""

from pathlib import Path
from typing import Any

TRANSFER_FILE = "transfer.json"
ANSWERS_FOLDER = "teacher_answers"


def get_run_folder(folder: Path, name: str, seed: int, fold: Any = None) -> Path:
    """Returns the folder of a run."""
    place = folder / file_name(name)
    return (place if fold is None else place / f"fold-{file_name(str(fold))}") / f"seed-{seed}"


def file_name(name: str) -> str:
    """Returns the name of a variant, fold or protocol as part of a path."""
    return name.replace(" ", "_").replace("/", "_")


def other_predictions_file(name: str) -> str:
    """Returns the name of the file, in a run folder, with the predictions on other data."""
    return f"predictions_{file_name(name)}.parquet"
