"""Writes checkpoints atomically (staged, then renamed), and finds the one to resume from."""

import errno
import json
import logging
import os
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from hf_fusion.utils.errors import FusionError

logger = logging.getLogger(__name__)

# The folder in which a checkpoint is staged. Only names with PREFIX_CHECKPOINT_DIR are checkpoints, and `Trainer` never
# uploads names that begin with _.
STAGING = "_saving"
_ASIDE = "_passed_over-"
# Errors of file systems that cannot sync folders.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
_TORCH_SAVE_FAILURES = ("PytorchStreamWriter", "inline_container", "basic_ios")


# Optimizer states of plain training, of FSDP (one file or shards) and of DeepSpeed.
_OPTIMIZER_STATES = (OPTIMIZER_NAME, "optimizer.bin", "optimizer_*", "global_step*")


class CheckpointError(FusionError, OSError):
    """A part of a run could not be written; the message names it, the reason and the next step."""


@contextmanager
def writing(what: str, run_folder: str | Path):
    """
    Turns errors of the local file system into [`CheckpointError`], and removes staged files.

    Args:
        what (`str`): the name of the written part, for the message.
        run_folder (`str` or `Path`): the run folder.

    Raises:
        CheckpointError: if the file system refuses a write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_disk_error(error):
            raise
        shutil.rmtree(Path(run_folder, STAGING), ignore_errors=True)
        newest, _ = newest_sound_checkpoint(run_folder)
        state = f"{newest.name} is complete" if newest else "There is no checkpoint yet"
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{what} could not be written to {run_folder} ({reason}){_describe_free_space(run_folder)}. {state}. "
            "Free disk space or repair the folder, then set `resume_from_checkpoint` to last to continue "
            "(--resume_from_checkpoint last)."
        ) from error


def _is_disk_error(error):
    """True for errors of the local file system."""
    if isinstance(error, RuntimeError):  # torch.save turns errors of the file system into RuntimeErrors
        return any(word in str(error) for word in _TORCH_SAVE_FAILURES)
    return isinstance(error, SafetensorError) or error.errno is not None


def _describe_free_space(folder):
    try:
        return f"; {shutil.disk_usage(folder).free / 2**20:.0f} MiB are free there"
    except OSError:
        return ""


class BestCheckpoint(TrainerCallback):
    """
    Finds the best checkpoint of a resumed training, in the run folder or beside the checkpoint, if the folder was
    renamed or moved.

    Attributes:
        resumed_from (`str`, *optional*): the checkpoint to resume from.
    """

    resumed_from: str | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Sets the path of the best checkpoint; if it is gone, the best of the later ones is restored."""
        if self.resumed_from is None or not state.best_global_step:
            return
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
        places = (Path(args.output_dir, name), Path(self.resumed_from).with_name(name))
        best = next((str(path) for path in places if path.is_dir()), None)
        state.best_model_checkpoint = best
        if best is None:
            logger.warning("%s, the best so far, is gone: the best of the later ones will be restored.", name)
            state.best_metric = state.best_global_step = None


def publish_checkpoint(staged: Path, final: str, best: str | None) -> None:
    """
    Renames a complete checkpoint to its final name.

    Args:
        staged (`Path`): the staging folder.
        final (`str`): the final folder; an existing one is replaced.
        best (`str`, *optional*): the best checkpoint, possibly this one, to record in its state.
    """
    path = staged / TRAINER_STATE_NAME
    state = json.loads(path.read_text(encoding="utf-8"))
    if state["best_model_checkpoint"] != best:
        state["best_model_checkpoint"] = best
        path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _sync(*staged.rglob("*"), staged)
    if os.path.exists(final):  # left by an earlier start
        os.rename(final, staged.with_name(f"replaced-{staged.name}"))
    staged.rename(final)
    _sync(Path(final).parent)
    shutil.rmtree(staged.parent)


def _sync(*paths):
    """Syncs files and folders to the disk, so that no incomplete file remains after a power failure."""
    if os.name != "posix":  # folders cannot be opened on other systems
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if not (path.is_dir() and error.errno in _NOT_FOR_FOLDERS):
                raise
        finally:
            os.close(descriptor)


def set_aside_newer(folder: str | Path, checkpoint: str) -> None:
    """
    Renames the checkpoints of a run that are newer than the one to resume from (broken ones, or those of another
    branch), so that they do not count as the newest ones of the resumed training.
    """
    if Path(checkpoint).resolve().parent != Path(folder).resolve():
        return
    for path in list_checkpoints(folder):
        if _get_step(path) > _get_step(Path(checkpoint)):
            aside = path.with_name(_ASIDE + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            logger.warning("%s is newer than %s; it is now called %s.", path, checkpoint, aside.name)


def remove_old_checkpoints(folder: str | Path, limit: int | None, step: int, best: str | None) -> None:
    """
    Removes all checkpoints of a training at `step` except the newest `limit` (`None`, 0 or less: all) and the best one.
    """
    if limit is None or limit <= 0:
        return
    own = [path for path in list_checkpoints(folder) if _get_step(path) <= step]
    for path in own[limit:]:
        if path != Path(best or ""):
            aside = Path(
                folder, STAGING, f"removed-{path.name}"
            )  # a partly removed folder must not look like a checkpoint
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
            shutil.rmtree(aside.parent)


def list_checkpoints(folder: str | Path) -> list[Path]:
    """Returns the checkpoints in a run folder, newest first."""
    paths = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(paths, key=_get_step, reverse=True)


def _get_step(checkpoint):
    return int(checkpoint.name.rpartition("-")[2])


def newest_sound_checkpoint(folder: str | Path) -> tuple[Path | None, dict[str, str]]:
    """
    Finds the newest readable checkpoint of a run.

    Args:
        folder (`str` or `Path`): the run folder.

    Returns:
        `tuple[Path | None, dict[str, str]]`: the checkpoint, and the reasons why newer ones cannot be read, by name.
    """
    skipped = {}
    for path in list_checkpoints(folder):
        problem = find_problem(path)
        if problem is None:
            return path, skipped
        skipped[path.name] = problem
    return None, skipped


def find_problem(checkpoint: str | Path) -> str | None:
    """Returns the reason why a checkpoint cannot be resumed from (a file and its problem), or `None`."""
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        return "no such folder"
    if not (checkpoint / TRAINER_STATE_NAME).is_file():
        return f"no {TRAINER_STATE_NAME}"
    weights = [name for name in (SAFE_WEIGHTS_NAME, ADAPTER_SAFE_WEIGHTS_NAME) if (checkpoint / name).is_file()]
    index = checkpoint / SAFE_WEIGHTS_INDEX_NAME
    if not weights and not index.is_file():
        return "no weights (.safetensors)"
    for path in sorted(checkpoint.rglob("*")):
        try:
            _read(path)
        except Exception as error:  # damaged files make the libraries fail in many ways
            return f"{path.relative_to(checkpoint).as_posix()}: {str(error)[:300] or type(error).__name__}"
    if not isinstance(_load_json(checkpoint / TRAINER_STATE_NAME), dict):
        return f"{TRAINER_STATE_NAME}: not an object"
    if index.is_file():
        content = _load_json(index)
        shards = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            return f"{SAFE_WEIGHTS_INDEX_NAME}: no weight_map of names to files"
        shards = sorted(set(shards.values()))
        if missing := [name for name in shards if not (checkpoint / name).is_file()]:
            return f"no {missing[0]}"
    # checkpoints of `save_only_model` have neither; an interrupted copy may have one of them
    has_optimizer = has_optimizer_state(checkpoint)
    has_scheduler = (checkpoint / SCHEDULER_NAME).is_file()
    if has_scheduler and not has_optimizer:
        return f"no {OPTIMIZER_NAME}"
    if has_optimizer and not next(checkpoint.glob("rng_state*.pth"), None):
        return "no rng_state.pth"
    return f"no {SCHEDULER_NAME}" if (checkpoint / OPTIMIZER_NAME).is_file() and not has_scheduler else None


def has_optimizer_state(checkpoint: str | Path) -> bool:
    """Whether a checkpoint has an optimizer state (plain, FSDP or DeepSpeed)."""
    return any(next(Path(checkpoint).glob(pattern), None) for pattern in _OPTIMIZER_STATES)


def drop_optimizer_states(folder: str | Path) -> int:
    """
    Removes the states of optimizer, scheduler and random numbers from all checkpoints of a run. Only resuming needs
    them.

    Returns:
        `int`: the number of bytes freed.
    """
    patterns = (*_OPTIMIZER_STATES, SCHEDULER_NAME, "rng_state*.pth", SCALER_NAME)
    paths = [
        path for checkpoint in list_checkpoints(folder) for pattern in patterns for path in checkpoint.glob(pattern)
    ]
    before = folder_size(folder)
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return before - folder_size(folder)


def folder_size(folder: str | Path) -> int:
    """Returns the number of bytes of all files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _load_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _read(path):
    """Raises an error if a file is truncated or does not have the format of its suffix; executes nothing in it."""
    if path.suffix == ".json":
        _load_json(path)
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="numpy"):
            pass
    elif path.suffix in (".pt", ".pth", ".bin"):  # zip archives with a checksum per member
        with zipfile.ZipFile(path) as archive:
            # torch does not compress: members larger than the file mean a decompression bomb
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")
            broken = archive.testzip()
        if broken:
            raise ValueError(f"{broken} does not have its checksum")
