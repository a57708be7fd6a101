"""Checkpoints of a training: written aside and then renamed, so that each is whole; and which one to go on from."""

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

# Where a checkpoint is written before it gets its name; only a name with PREFIX_CHECKPOINT_DIR is a checkpoint, and one
# that begins with _ is never uploaded by `Trainer`.
STAGING = "_saving"
_ASIDE = "_passed_over-"
# What file systems answer that cannot make the entries of a folder wait for the disk.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
_TORCH_SAVE_FAILURES = ("PytorchStreamWriter", "inline_container", "basic_ios")


# Of a training in one piece, of FSDP in one file or in shards, of DeepSpeed.
_OPTIMIZER_STATES = (OPTIMIZER_NAME, "optimizer.bin", "optimizer_*", "global_step*")


class CheckpointError(FusionError, OSError):
    """Something of a run could not be written; says what, why, and how to go on."""


@contextmanager
def writing(what: str, run_folder: str | Path):
    """
    Says what a full disk or a folder that cannot be written to mean for a run; what was written aside is removed.

    Args:
        what: is being written.
        run_folder: where.

    Raises:
        CheckpointError: for what the file system refuses.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_of_the_disk(error):
            raise
        shutil.rmtree(Path(run_folder, STAGING), ignore_errors=True)
        newest, _ = newest_sound_checkpoint(run_folder)
        left = f"{newest.name} is whole" if newest else "There is no checkpoint yet"
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{what} could not be written to {run_folder} ({reason}){_room(run_folder)}. {left}. Make room or mend the "
            "folder, then go on: set `resume_from_checkpoint` to last."
        ) from error


def _is_of_the_disk(error):
    """Not what a network or a device refuses."""
    if isinstance(error, RuntimeError):  # what torch.save turns errors of the file system into
        return any(word in str(error) for word in _TORCH_SAVE_FAILURES)
    return isinstance(error, SafetensorError) or error.errno is not None


def _room(folder):
    try:
        return f"; {shutil.disk_usage(folder).free / 2**20:.0f} MiB are free there"
    except OSError:
        return ""


class BestCheckpoint(TrainerCallback):
    """
    Finds the best checkpoint of a training that goes on, in the folder of the run or in that of the checkpoint,
    whatever it was called when the state was written.

    Attributes:
        resumed_from (`str`, *optional*): the checkpoint to go on from.
    """

    resumed_from: str | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """If it is gone, the best is that of those to come."""
        if self.resumed_from is None or not state.best_global_step:
            return
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
        places = (Path(args.output_dir, name), Path(self.resumed_from).with_name(name))
        found = next((str(path) for path in places if path.is_dir()), None)
        state.best_model_checkpoint = found
        if found is None:
            logger.warning("%s, the best so far, is gone: the best of those to come is restored.", name)
            state.best_metric = state.best_global_step = None


def publish_checkpoint(staged: Path, final: str, best: str | None) -> None:
    """
    Gives a checkpoint that is complete its name.

    Args:
        staged: the folder that it was written to.
        final: the folder that it becomes; what was there is replaced.
        best: the best checkpoint, which may be this one; its state says so.
    """
    path = staged / TRAINER_STATE_NAME
    state = json.loads(path.read_text(encoding="utf-8"))
    if state["best_model_checkpoint"] != best:
        state["best_model_checkpoint"] = best
        path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _to_disk(*staged.rglob("*"), staged)
    if os.path.exists(final):  # of an earlier start, and passed over
        os.rename(final, staged.with_name(f"replaced-{staged.name}"))
    staged.rename(final)
    _to_disk(Path(final).parent)
    shutil.rmtree(staged.parent)


def _to_disk(*paths):
    """Waits until files and folders are on the disk: after a power failure a name must not stand for half a file."""
    if os.name != "posix":  # elsewhere folders cannot be opened
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
    Renames the checkpoints of a run that are newer than the one to go on from: broken ones, or those of a branch that
    is left. Else they would be taken for the newest ones of the training that goes on.
    """
    if Path(checkpoint).resolve().parent != Path(folder).resolve():
        return
    for path in checkpoints_of(folder):
        if _step_of(path) > _step_of(Path(checkpoint)):
            aside = path.with_name(_ASIDE + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            logger.warning("%s is newer than %s; it is now called %s.", path, checkpoint, aside.name)


def remove_old_checkpoints(folder: str | Path, limit: int | None, step: int, best: str | None) -> None:
    """
    Leaves the newest `limit` checkpoints of a training that is at `step` (`None`, 0 or less: all), and the best one
    beside them.
    """
    if limit is None or limit <= 0:
        return
    own = [path for path in checkpoints_of(folder) if _step_of(path) <= step]
    for path in own[limit:]:
        if path != Path(best or ""):
            aside = Path(folder, STAGING, f"removed-{path.name}")  # half of one must not look like a checkpoint
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
            shutil.rmtree(aside.parent)


def checkpoints_of(folder: str | Path) -> list[Path]:
    """The checkpoints in a run folder, newest first."""
    found = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=_step_of, reverse=True)


def _step_of(checkpoint):
    return int(checkpoint.name.rpartition("-")[2])


def newest_sound_checkpoint(folder: str | Path) -> tuple[Path | None, dict[str, str]]:
    """
    The newest checkpoint of a run that can be read.

    Args:
        folder: of the run.

    Returns:
        The checkpoint, or `None` if there is none; and the newer ones that cannot be read, by name, with the reason.
    """
    skipped = {}
    for path in checkpoints_of(folder):
        problem = problem_of(path)
        if problem is None:
            return path, skipped
        skipped[path.name] = problem
    return None, skipped


def problem_of(checkpoint: str | Path) -> str | None:
    """What keeps a training from going on from a checkpoint: the file, and what is wrong with it; `None` if nothing."""
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
        except Exception as error:  # wrong bytes can make the libraries fail in any way
            return f"{path.relative_to(checkpoint).as_posix()}: {str(error)[:300] or type(error).__name__}"
    if not isinstance(_json_of(checkpoint / TRAINER_STATE_NAME), dict):
        return f"{TRAINER_STATE_NAME}: no object"
    if index.is_file():
        content = _json_of(index)
        shards = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            return f"{SAFE_WEIGHTS_INDEX_NAME}: no weight_map of names to files"
        shards = sorted(set(shards.values()))
        if missing := [name for name in shards if not (checkpoint / name).is_file()]:
            return f"no {missing[0]}"
    # a training with `save_only_model` has neither, an interrupted copy may have one
    has_optimizer = has_optimizer_state(checkpoint)
    has_scheduler = (checkpoint / SCHEDULER_NAME).is_file()
    if has_scheduler and not has_optimizer:
        return f"no {OPTIMIZER_NAME}"
    if has_optimizer and not next(checkpoint.glob("rng_state*.pth"), None):
        return "no rng_state.pth"
    return f"no {SCHEDULER_NAME}" if (checkpoint / OPTIMIZER_NAME).is_file() and not has_scheduler else None


def has_optimizer_state(checkpoint: str | Path) -> bool:
    """Whether a checkpoint has the state of an optimizer, in any of the ways to train."""
    return any(next(Path(checkpoint).glob(pattern), None) for pattern in _OPTIMIZER_STATES)


def drop_optimizer_states(folder: str | Path) -> int:
    """
    Removes from all checkpoints of a run the states of optimizer, scheduler and random numbers, which only a training
    that goes on needs.

    Returns:
        The bytes that are freed.
    """
    patterns = (*_OPTIMIZER_STATES, SCHEDULER_NAME, "rng_state*.pth", SCALER_NAME)
    paths = [path for checkpoint in checkpoints_of(folder) for pattern in patterns for path in checkpoint.glob(pattern)]
    before = size_of(folder)
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return before - size_of(folder)


def size_of(folder: str | Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _json_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _read(path):
    """Raises an error if a file is cut off or no longer what its ending says; nothing in it is executed."""
    if path.suffix == ".json":
        _json_of(path)
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="numpy"):
            pass
    elif path.suffix in (".pt", ".pth", ".bin"):  # zip archives, with a checksum for each part
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing: what would unpack to more than the file is a bomb
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")
            broken = archive.testzip()
        if broken:
            raise ValueError(f"{broken} does not have its checksum")
