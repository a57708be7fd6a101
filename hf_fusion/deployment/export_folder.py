"""The folder of an export: written beside its place and moved there once it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_fusion.utils.errors import FusionError

# Each format of an export has its description, by which an earlier export is known.
ONNX_DESCRIPTION = "onnx_fusion.json"
CLASSIFIER_DESCRIPTION = "sequence_classification.json"


class ExportError(FusionError, ValueError):
    """The model cannot be exported, or the outputs of the export differ from those of the model."""


@contextmanager
def export_folder(folder: Path) -> Iterator[Path]:
    """
    Gives an empty folder to write an export to. At the end of the `with` statement it replaces an earlier export; an
    error removes it.

    Args:
        folder (`Path`): the place of the export.

    Raises:
        ExportError: if the folder holds other files.
    """
    is_export = any((folder / name).is_file() for name in (ONNX_DESCRIPTION, CLASSIFIER_DESCRIPTION))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not is_export:
        raise ExportError(f"{folder} exists and is not an earlier export: choose another folder.")
    staged, replaced = (folder.with_name(f".{folder.name}.{state}") for state in ("exporting", "replaced"))
    if replaced.exists():  # an export was killed between the two renames, or after them
        shutil.rmtree(replaced) if folder.exists() else replaced.rename(folder)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
        if folder.exists():
            folder.rename(replaced)
        staged.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
