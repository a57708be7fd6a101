"""Data sets of the Hub, of the packaged readers of `datasets`, and folders that `save_to_disk` wrote."""

from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetNotFoundError

from hf_fusion.data.decoding import KNOWN_FILES, is_row_file
from hf_fusion.utils.errors import DataError

_SAVED = ("dataset_dict.json", "state.json")


def load_from_hub(name: str, options: dict[str, Any]) -> dict[str | None, Dataset | IterableDataset]:
    """
    The splits of a data set on the Hub or of a folder, by their names; `None` where there are none.

    Args:
        name: of the data set, or a folder.
        options: keyword arguments of `datasets.load_dataset`; with `streaming=True`, rows come as they are needed.

    Raises:
        DataError: if it cannot be had; a mistyped folder looks like a name on the Hub, too.
        FileNotFoundError: if the name is that of a file or folder, and there is none.
    """
    check_exists(name)
    try:
        loaded = load_from_disk(name, **options) if is_saved(name) else load_dataset(name, **options)
    except DatasetNotFoundError as error:
        raise DataError(
            f"{name}: no file or folder here, and no data set of the Hub by this name: {_reason(error)}"
        ) from error
    except ConnectionError as error:  # also where the Hub is switched off
        raise DataError(f"{name}: no file or folder here, and the Hub cannot be asked: {_reason(error)}") from error
    except Exception as error:  # options of the user, files of others, scripts: datasets can fail in any way
        options = f" with the options {options!r:.200}" if options else ""
        cause = f" ({_reason(error.__cause__)})" if error.__cause__ else ""
        raise DataError(f"{name}: cannot be loaded{options}: {_reason(error)}{cause}") from error
    if isinstance(loaded, (DatasetDict, IterableDatasetDict)):
        return dict(loaded)
    if isinstance(loaded, (Dataset, IterableDataset)):
        return {None: loaded}
    raise DataError(
        f"{name}: the options {options!r:.200} give a {type(loaded).__name__}; expected is one data set, or one with "
        "splits."
    )


def is_saved(name: str) -> bool:
    """Whether a name is that of a folder that `save_to_disk` wrote."""
    return any((Path(name) / file).is_file() for file in _SAVED)


def check_exists(name: str) -> None:
    """
    Checks a name before the Hub is asked for it.

    Raises:
        DataError: if it is a file of an unknown kind.
        FileNotFoundError: if it must be a file or folder by its form, and there is none.
    """
    path = Path(name)
    if path.is_file():
        raise DataError(f"{name}: unknown kind of file; known are {KNOWN_FILES}.")
    if not path.exists() and is_path(name):
        raise FileNotFoundError(f"{name}: no such file or folder.")


def is_path(name: str) -> bool:
    """Whether a name can only be that of a file or folder by its form: names on the Hub have one slash at most."""
    if name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or is_row_file(name):
        return True
    return name.count("/") > 1 and "://" not in name


def _reason(error):
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0][:300]}"
