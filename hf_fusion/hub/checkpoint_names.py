"""Names of checkpoints: local folders, or models on the Hub."""

from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME

_MOST_LISTED = 8


def check_folder_name(name: str) -> None:
    """
    Refuses names of local folders that do not exist, before the Hub is asked for a model of that name.

    Args:
        name (`str`): a folder, or a name on the Hub. A name means a folder if it begins with `.`, `/` or `~`, has
            several slashes or one at the end, is not valid on the Hub, or if its parent folder exists and holds a
            checkpoint or a folder with a similar name.

    Raises:
        FileNotFoundError: if the folder does not exist; the message lists folders with similar names.
    """
    if Path(name).is_file():
        raise FileNotFoundError(f"{name} is a file: give the folder that it is in, {Path(name).parent}.")
    if not Path(name).is_dir() and _is_path(name):
        raise FileNotFoundError(no_such_folder(name))


def check_checkpoint_name(name: str) -> None:
    """
    Like [`check_folder_name`], and also refuses folders without a checkpoint, and names on a Hub that does not answer.

    Raises:
        FileNotFoundError: if there is no such folder, or no checkpoint in it; the message lists its content.
        ConnectionError: if the Hub cannot be reached. The libraries would ask it for a minute or more.
    """
    check_folder_name(name)
    folder = Path(name)
    if not folder.is_dir():
        _check_hub(name)
    elif not any((folder / file).is_file() for file in (CONFIG_NAME, ADAPTER_CONFIG_NAME)):
        inside = [path for path in _list_folders(folder) if (path / CONFIG_NAME).is_file()]
        advice = (
            f"Name a folder inside it: {_list_names(inside)}."
            if inside
            else f"It holds {_list_names(folder.iterdir())}."
        )
        raise FileNotFoundError(f"{folder} holds no checkpoint: it has no {CONFIG_NAME}. {advice}")


def _check_hub(name):
    """Asks the Hub once for the configuration of a model, or of an adapter, that is not in the cache."""
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in (CONFIG_NAME, ADAPTER_CONFIG_NAME)):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, CONFIG_NAME))
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return  # loading says what it means
    except Exception as error:  # of the library that connects, another one in each version
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConnectionError(
            f"{name}: no such folder, and the Hub, which may have a model of this name, cannot be reached ({reason}). "
            "HF_HUB_OFFLINE=1 uses downloaded models alone."
        ) from error


def no_such_folder(name: str) -> str:
    """Returns the error message for a folder that does not exist; it lists folders with similar names."""
    folder = Path(name).expanduser()
    if folder.is_dir():  # `~`, which the shell has not replaced
        return f"{name}: no such folder. Did you mean {folder}?"
    missing = folder
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    there = _list_folders(missing.parent)
    rest = folder.relative_to(missing)
    close = get_close_matches(missing.name, [path.name for path in there], n=3, cutoff=0.6)
    meant = [path for path in (missing.with_name(other) / rest for other in close) if path.is_dir()]
    if meant:
        return f"{name}: no such folder. Did you mean {' or '.join(map(str, meant))}?"
    if there:
        return f"{name}: no such folder. In {missing.parent} there are {_list_names(there)}."
    return f"{name}: no such folder."


def _is_path(name):
    if name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name:
        return True
    try:
        validate_repo_id(name)
    except HFValidationError:
        return True
    if "/" not in name or isinstance(try_to_load_from_cache(name, CONFIG_NAME), str):
        return False
    # A local folder may share its name with an owner on the Hub. The local one is meant if it holds a checkpoint or a
    # folder with a similar name.
    there = _list_folders(Path(name).parent)
    near = get_close_matches(Path(name).name, [path.name for path in there], n=1)
    return bool(near) or any((path / CONFIG_NAME).is_file() for path in there)


def _list_folders(folder):
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    except OSError:
        return []


def _list_names(paths):
    names = sorted(path.name for path in paths)
    if not names:
        return "nothing"
    return ", ".join(names[:_MOST_LISTED]) + (" ..." if len(names) > _MOST_LISTED else "")


def result_folder(checkpoint: str | Path, name: str) -> Path:
    """
    Returns the folder for results of a checkpoint.

    Args:
        checkpoint (`str` or `Path`): a run folder, or a name on the Hub.
        name (`str`): the name of the folder.

    Returns:
        `Path`: a folder in the run folder. For a name on the Hub a folder in `runs/`: a local folder of the same name
        would hide the checkpoint.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint) / name
    return Path("runs") / str(checkpoint).replace("/", "_") / name
