"""Selects the files of a run folder to publish, and checks that they are complete."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

from hf_fusion.hub.checkpoint_names import no_such_folder
from hf_fusion.hub.notebook import NOTEBOOK_FILE
from hf_fusion.models.media_frames import WEIGHT_FILES
from hf_fusion.models.modeling_fingerprint import FINGERPRINT_FILE
from hf_fusion.utils.errors import FusionError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE

# Weights, configurations and tokenizers: the files that decide the predictions of a checkpoint.
CHECKPOINT_FILES = (
    SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "model-*.safetensors", ADAPTER_SAFE_WEIGHTS_NAME, ADAPTER_CONFIG_NAME,
    *WEIGHT_FILES.values(), FINGERPRINT_FILE,
    "config.json", "processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab*.json", "vocab*.txt", "merges.txt", "*.model", "*.bpe",
)  # fmt: skip
SECOND_TOKENIZER = "tokenizer_b"
RECORDS = ("config.yaml", METRICS_FILE, ENVIRONMENT_FILE)
# The folder of a run with the pictures of its calibration, which the model card shows.
CALIBRATION_FOLDER = "calibration"
CODE = (
    "configuration_*.py", "modeling_*.py", "processing_*.py", "feature_extraction_*.py", "media_*.py", "pipeline_*.py",
)  # fmt: skip
# Written for Inference Endpoints when a whole model is published.
HANDLER_FILES = ("handler.py", "requirements.txt")
_CARD_PICTURES = ("confusion_fine.png", "confusion_coarse.png")
_DIAGNOSTICS = "diagnostics"
_PRIVATE = "timeline_*"  # pictures of single clips with their words
_PICTURES = ("evaluation-*", "analysis-*", "robustness-*")  # folders with pictures of results


class PublishError(FusionError, ValueError):
    """The folder is not complete, or the upload failed; the message says what to do."""


def repository_files(folder: str | Path) -> dict[str, Path]:
    """
    Selects the files of a run folder to publish. Training states, pickles, logs, notes, predictions with the ids and
    labels of rows, and pictures of single clips are left out.

    Args:
        folder (`str` or `Path`): a run folder, or any folder with a checkpoint.

    Returns:
        `dict[str, Path]`: the files by their paths in the repository: weights, processor, records, the code that the
        configurations name together with its imports, and pictures of evaluations and analyses in `diagnostics/`.

    Raises:
        PublishError: if the folder does not exist, a configuration cannot be read, or a file links out of the folder.
    """
    folder = Path(folder)
    selected = select_files(folder)
    for path in selected.values():  # a link could publish any file of the machine
        if folder.resolve() not in path.resolve().parents:
            raise PublishError(
                f"{path} is a link out of the folder, or lies behind one; copy the file itself into the folder."
            )
    return selected


def select_files(folder: Path) -> dict[str, Path]:
    """Selects as [`repository_files`], but accepts links, of which snapshots in the cache of the Hub consist."""
    if not folder.is_dir():
        raise PublishError(no_such_folder(str(folder)))
    selected = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and matches(path.name, ("README.md", *RECORDS, *CHECKPOINT_FILES, *_CARD_PICTURES)):
            selected[path.name] = path
        elif path.is_dir() and path.name == SECOND_TOKENIZER:
            files = (file for file in sorted(path.iterdir()) if matches(file.name, CHECKPOINT_FILES))
            selected.update({f"{path.name}/{file.name}": file for file in files})
        elif path.is_dir() and path.name == CALIBRATION_FOLDER:
            selected.update({f"{path.name}/{file.name}": file for file in _pictures(path)})
        elif path.is_dir() and matches(path.name, _PICTURES):
            selected.update({f"{_DIAGNOSTICS}/{path.name}/{file.name}": file for file in _pictures(path)})
    code = {path.name: path for path in folder.glob("*.py")}
    selected.update({name: code[name] for name in sorted(needed_code({**code, **selected})) if name in code})
    return selected


def _pictures(folder):
    return [path for path in sorted(folder.glob("*.png")) if not fnmatch(path.name, _PRIVATE)]


def check_repository(folder: str | Path, repo_id: str, base_model: str | None = None) -> dict[str, Path]:
    """
    Returns the files of [`repository_files`] after checking that they can be published.

    Raises:
        PublishError: if `repo_id` is not a valid name on the Hub, the folder is not a complete checkpoint, or
            `base_model` is missing or not needed.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(str(error)) from error
    files = repository_files(folder)
    check_complete(files)
    check_base_model(files, folder, base_model)
    return files


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file name matches one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def is_ours(name: str) -> bool:
    """Whether a file of a repository comes from an earlier upload, so that it may be deleted."""
    folder, _, file = name.rpartition("/")
    own = (NOTEBOOK_FILE, *RECORDS, *CHECKPOINT_FILES, *CODE, *HANDLER_FILES, *_CARD_PICTURES)
    patterns = CHECKPOINT_FILES if folder == SECOND_TOKENIZER else own
    if folder == CALIBRATION_FOLDER:
        return file.endswith(".png")
    return folder.startswith(_DIAGNOSTICS) or (folder in ("", SECOND_TOKENIZER) and matches(file, patterns))


def check_complete(files: dict[str, Path]) -> None:
    """
    Raises [`PublishError`] if weights, configurations, code or tokenizers are missing; the message names them.

    A LoRA adapter needs its own weights and configuration and the processor; the model is in the base repository.
    """
    needed = ["processor_config.json", "tokenizer_config.json"]
    needed += [ADAPTER_SAFE_WEIGHTS_NAME] if ADAPTER_CONFIG_NAME in files else ["config.json"]
    missing = [name for name in needed if name not in files]
    if SAFE_WEIGHTS_INDEX_NAME in files:
        shards = read_json(files[SAFE_WEIGHTS_INDEX_NAME]).get("weight_map")
        if not isinstance(shards, dict):
            raise PublishError(f"{files[SAFE_WEIGHTS_INDEX_NAME]} has no weight_map.")
        missing += sorted(set(map(str, shards.values())) - set(files))
    elif SAFE_WEIGHTS_NAME not in files and ADAPTER_CONFIG_NAME not in files:
        missing.append(SAFE_WEIGHTS_NAME)
    missing += sorted(needed_code(files) - set(files))
    if missing:
        raise PublishError(
            f"The folder is not a complete checkpoint: it lacks {', '.join(dict.fromkeys(missing))}. Save model and "
            "processor into it with `save_pretrained`, as `hf-fusion train` does."
        )


def check_base_model(files: dict[str, Path], folder: str | Path, base_model: str | None) -> None:
    """Raises [`PublishError`] if `base_model` is missing for a LoRA adapter, or given for a whole model."""
    is_adapter = ADAPTER_CONFIG_NAME in files
    if is_adapter and not base_model:
        raise PublishError(
            f"{folder} holds a LoRA adapter, which needs the model that it was trained on. Publish that model "
            f"first ({Path(folder) / 'base'}) and pass its name as `base_model`, or train with `merge_lora`."
        )
    if base_model and not is_adapter:
        raise PublishError(f"{folder} holds a whole model, not a LoRA adapter: remove `base_model`.")


def read_json(path: Path) -> dict:
    """Reads a JSON file that holds an object; raises [`PublishError`] if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PublishError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise PublishError(f"{path} does not hold a JSON object.")
    return content


def _named_code(content):
    """Returns the Python files that a configuration names for its classes and pipelines."""
    classes, pipelines = (content.get(name) or {} for name in ("auto_map", "custom_pipelines"))
    try:
        values = [*classes.values(), *(pipeline.get("impl") for pipeline in pipelines.values())]
    except AttributeError as error:
        raise PublishError("`auto_map` and `custom_pipelines` must be mappings.") from error
    names = [name for value in values for name in (value if isinstance(value, list) else [value]) if name]
    if not all(isinstance(name, str) for name in names):
        raise PublishError(f"`auto_map` and `custom_pipelines` must name classes, got {names!r:.200}.")
    return {name.rpartition("--")[2].partition(".")[0] + ".py" for name in names}


def needed_code(files: dict[str, Path]) -> set[str]:
    """Returns the Python files that the configurations name, and all that these import by `from .sibling`."""
    named = [_named_code(read_json(files[name])) for name in ("config.json", "processor_config.json") if name in files]
    waiting, selected = [name for names in named for name in names], set()
    while waiting:
        name = waiting.pop()
        if name not in selected:
            selected.add(name)
            text = files[name].read_text(encoding="utf-8", errors="replace") if name in files else ""
            waiting += [f"{sibling}.py" for sibling in re.findall(r"^[ \t]*from \.(\w+) import", text, re.MULTILINE)]
    return selected
