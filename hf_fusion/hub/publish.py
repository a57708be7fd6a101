"""Publishing a run folder: which files make a repository, whether they are complete, and their upload as one commit."""

import json
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

from hf_fusion.evaluation.records import METRICS_FILE
from hf_fusion.hub.model_card import model_card

# Traces of the training, and whatever can run code when it is opened: nothing that a user of the checkpoint needs.
_LEFT_OUT = ("training_args.bin", "*.bin", "*.pt", "*.pth", "*.pkl", "*.tmp", "*.log", "trainer_state.json",
             "study_settings.json", "transfer.json", ".*")  # fmt: skip
_PARTS = ("tokenizer_b", "base")  # folders that belong to the checkpoint
_PICTURES = ("evaluation-*", "analysis-*", "robustness-*")  # folders whose pictures show what it can do
_KEPT = {".gitattributes"}


class PublishError(ValueError):
    """A folder that is no complete repository, or an upload that failed; says what to do."""


def repository_files(folder: str | Path) -> dict[str, Path]:
    """
    What of a run folder belongs into a repository.

    Args:
        folder: of a run; or any folder with a checkpoint.

    Returns:
        By its path in the repository each file: weights, code, processor and records as they are, and pictures of
        evaluations and analyses below `diagnostics/`.
    """
    folder = Path(folder)
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not _is_left_out(path):
            found[path.name] = path
        elif path.is_dir() and path.name in _PARTS:
            inside = (file for file in sorted(path.rglob("*")) if file.is_file() and not _is_left_out(file))
            found.update({file.relative_to(folder).as_posix(): file for file in inside})
        elif path.is_dir() and any(fnmatch(path.name, pattern) for pattern in _PICTURES):
            found.update({f"diagnostics/{path.name}/{file.name}": file for file in sorted(path.glob("*.png"))})
    return found


def _is_left_out(path):
    return any(fnmatch(path.name, pattern) for pattern in _LEFT_OUT)


def check_complete(files: dict[str, Path]) -> None:
    """Raises [`PublishError`] if something is missing without which nobody could load the model; names all of it."""
    adapter = "adapter_config.json" in files
    needed = ["adapter_config.json" if adapter else "config.json"]
    weights = [name for name in files if "/" not in name and name.endswith(".safetensors")]
    missing = [name for name in needed if name not in files]
    missing += [] if weights else ["weights (.safetensors)"]
    if "processor_config.json" not in files and not adapter:
        missing.append("the processor (processor_config.json)")
    for name in ("config.json", "processor_config.json"):
        if name in files:
            missing += [code for code in _code_of(files[name]) if code not in files]
    index = "model.safetensors.index.json"
    if index in files:
        shards = set(json.loads(files[index].read_text(encoding="utf-8"))["weight_map"].values())
        missing += sorted(shards - set(files))
    if missing:
        raise PublishError(
            f"The folder is no complete checkpoint: it lacks {', '.join(dict.fromkeys(missing))}. Save model and "
            "processor into it with `save_pretrained`, as scripts/train.py does."
        )


def _code_of(config_file):
    """The Python files that a configuration names as its code."""
    content = json.loads(config_file.read_text(encoding="utf-8"))
    values = content.get("auto_map", {}).values()
    names = [name for value in values for name in (value if isinstance(value, list) else [value]) if name]
    return sorted({name.rpartition("--")[2].partition(".")[0] + ".py" for name in names})


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a checkpoint",
    create_pr: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """
    Uploads a run folder as one commit: whoever loads the repository sees the old state or the new one, nothing between.

    The model card is written anew, with the repository's name in its snippets. Files of an earlier upload that are no
    longer there are deleted in the same commit.

    Args:
        folder: of a run.
        repo_id: "user/name" on the Hub; made if it does not exist.
        private: whether a new repository is private.
        revision: a branch, made if it does not exist; the main one by default.
        message: of the commit.
        create_pr: whether to open a pull request instead.
        token: of the Hub; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        The commit, with `commit_url` and `oid`: the revision to pin.

    Raises:
        PublishError: if the folder is no complete checkpoint, or the Hub refuses.
    """
    files = repository_files(folder)
    check_complete(files)
    content = {name: str(path) for name, path in files.items()}
    if METRICS_FILE in files:
        content["README.md"] = str(model_card(folder, repo_id)).encode()
    elif "README.md" not in files:
        raise PublishError(f"{folder} has neither a README.md nor the {METRICS_FILE} to write one from.")
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        stale = set(api.list_repo_files(repo_id, revision=revision)) - set(content) - _KEPT
        operations = [CommitOperationAdd(name, source) for name, source in content.items()]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr)
    except (HfHubHTTPError, LocalTokenNotFoundError, HTTPError, OSError) as error:
        raise PublishError(_explain(error, repo_id, api.endpoint)) from error


def _explain(error, repo_id, endpoint):
    """What a user can do about an upload that failed."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, (LocalTokenNotFoundError, RepositoryNotFoundError)) or status in (401, 403):
        return (
            f"{endpoint} does not let you write to {repo_id}. Log in (`hf auth login`, or set HF_TOKEN to a token that "
            "may write), and check the name."
        )
    if status is not None:
        return f"{endpoint} answered {status} for {repo_id}: {error}. Nothing was published; try again."
    return f"{endpoint} cannot be reached or broke off: {error}. Nothing was published; try again."
