"""Data sets of the Hub."""

from typing import Any

from datasets import Dataset, DatasetDict, load_dataset

from hf_fusion.data.files import DataError


def load_from_hub(name: str, options: dict[str, Any]) -> dict[str | None, Dataset]:
    """
    The splits of a data set on the Hub, by their names; `None` where there are none.

    Args:
        name: of the data set.
        options: keyword arguments of `datasets.load_dataset`.

    Raises:
        DataError: if it cannot be had; a mistyped folder looks like a name on the Hub, too.
    """
    try:
        found = load_dataset(name, **options)
    except (OSError, ValueError, RuntimeError) as error:  # no network, no such data set, files of an unknown kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{name}: no file or folder here, and no data set of the Hub by this name: {reason}") from error
    return dict(found) if isinstance(found, DatasetDict) else {None: found}
