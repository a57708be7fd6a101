"""Publishing a run folder: which files make a repository, whether they are complete, and their upload as one commit."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, RepositoryNotFoundError
from transformers.utils import ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME

from hf_fusion.evaluation.records import ENVIRONMENT_FILE, METRICS_FILE
from hf_fusion.hub.model_card import CardError, model_card

# What belongs to a checkpoint; everything else stays here: training states, logs, pickles, notes.
_BELONGS = (
    "*.py", "*.safetensors", "*.safetensors.index.json", "config.json", "processor_config.json",
    "preprocessor_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "*.model", "*.bpe", "README.md", "config.yaml", "metrics.json", "environment.json", ADAPTER_CONFIG_NAME,
)  # fmt: skip
_SECOND_TOKENIZER = "tokenizer_b"
_DIAGNOSTICS = "diagnostics"
_PICTURES = ("evaluation-*", "analysis-*", "robustness-*")  # folders whose pictures show what it can do
_WHAT_NOW = "Look at the repository whether it has the commit, and try again."


class PublishError(ValueError):
    """A folder that is no complete repository, or an upload that failed; says what to do."""


def repository_files(folder: str | Path) -> dict[str, Path]:
    """
    What of a run folder belongs into a repository.

    Args:
        folder: of a run; or any folder with a checkpoint.

    Returns:
        By its path in the repository each file: weights, code, processor and records, and pictures of evaluations and
        analyses below `diagnostics/`.

    Raises:
        PublishError: if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PublishError(f"{folder} is no folder.")
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and _belongs(path.name):
            found[path.name] = path
        elif path.is_dir() and path.name == _SECOND_TOKENIZER:
            found.update({f"{path.name}/{file.name}": file for file in sorted(path.iterdir()) if _belongs(file.name)})
        elif path.is_dir() and any(fnmatch(path.name, pattern) for pattern in _PICTURES):
            found.update({f"{_DIAGNOSTICS}/{path.name}/{file.name}": file for file in sorted(path.glob("*.png"))})
    for path in found.values():  # what lies elsewhere may be anything
        if path.is_symlink() and folder.resolve() not in path.resolve().parents:
            raise PublishError(f"{path} is a link to a file outside of the folder; put the file itself there.")
    return found


def _belongs(name):
    return any(fnmatch(name, pattern) for pattern in _BELONGS)


def _is_ours(name):
    """Whether a file of the repository is of the kind that is published here, so that an old one may be deleted."""
    folder, _, file = name.rpartition("/")
    return folder.startswith(_DIAGNOSTICS) or (folder in ("", _SECOND_TOKENIZER) and _belongs(file))


def check_complete(files: dict[str, Path]) -> None:
    """
    Raises [`PublishError`] if weights, configurations, code or tokenizers are missing, and names them.

    A LoRA adapter has its own weights and configuration, and the processor; the model is in its base's repository.
    """
    needed = ["processor_config.json", "tokenizer_config.json"]
    needed += [ADAPTER_SAFE_WEIGHTS_NAME] if ADAPTER_CONFIG_NAME in files else ["config.json"]
    missing = [name for name in needed if name not in files]
    index = "model.safetensors.index.json"
    if index in files:
        shards = _json(files[index]).get("weight_map")
        if not isinstance(shards, dict):
            raise PublishError(f"{files[index]} has no weight_map.")
        missing += sorted(set(map(str, shards.values())) - set(files))
    elif "model.safetensors" not in files and ADAPTER_CONFIG_NAME not in files:
        missing.append("model.safetensors")
    named = [_code_of(_json(files[name])) for name in ("config.json", "processor_config.json") if name in files]
    missing += sorted(_with_siblings(set().union(*named), files) - set(files))
    if missing:
        raise PublishError(
            f"The folder is no complete checkpoint: it lacks {', '.join(dict.fromkeys(missing))}. Save model and "
            "processor into it with `save_pretrained`, as scripts/train.py does."
        )


def check_base_model(files: dict[str, Path], folder: str | Path, base_model: str | None) -> None:
    """Raises [`PublishError`] if a LoRA adapter has no base on the Hub, or another model has one."""
    is_adapter = ADAPTER_CONFIG_NAME in files
    if is_adapter and not base_model:
        raise PublishError(
            f"{folder} holds a LoRA adapter, which needs the model that it was trained on. Publish that first "
            f"({Path(folder) / 'base'}) and name it with --base_model USER/NAME, or train with --merge_lora true."
        )
    if base_model and not is_adapter:
        raise PublishError(f"{folder} holds a whole model, no LoRA adapter: leave --base_model out.")


def _json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PublishError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise PublishError(f"{path} is no JSON object.")
    return content


def _code_of(content):
    """The Python files that a configuration names as its code: of its classes, and of its pipelines."""
    classes, pipelines = (content.get(name) or {} for name in ("auto_map", "custom_pipelines"))
    try:
        values = [*classes.values(), *(pipeline.get("impl") for pipeline in pipelines.values())]
    except AttributeError as error:
        raise PublishError("`auto_map` and `custom_pipelines` must be mappings.") from error
    names = [name for value in values for name in (value if isinstance(value, list) else [value]) if name]
    if not all(isinstance(name, str) for name in names):
        raise PublishError(f"`auto_map` and `custom_pipelines` must name classes, got {names!r:.200}.")
    return {name.rpartition("--")[2].partition(".")[0] + ".py" for name in names}


def _with_siblings(code, files):
    """The files and all that they import by `from .sibling`."""
    waiting, found = list(code), set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            text = files[name].read_text(encoding="utf-8", errors="replace") if name in files else ""
            waiting += [f"{sibling}.py" for sibling in re.findall(r"^[ \t]*from \.(\w+) import", text, re.MULTILINE)]
    return found


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a checkpoint",
    create_pr: bool = False,
    base_model: str | None = None,
    token: str | None = None,
) -> CommitInfo:
    """
    Uploads a run folder as one commit: whoever loads the repository sees the old state or the new one, nothing between.

    The model card of a run is written anew, with the repository's name in its snippets, and records are without the
    folders of this machine. Weights, code, tokenizers and pictures of an earlier upload that are no longer there are
    deleted in the same commit; whatever else the repository has, stays.

    Args:
        folder: of a run.
        repo_id: "user/name" on the Hub; made if it does not exist.
        private: whether a new repository is private.
        revision: a branch, made if it does not exist; the main one by default.
        message: of the commit.
        create_pr: whether to open a pull request instead.
        base_model: of a LoRA adapter, and only of one: the repository on the Hub with the model that it was trained on
            (the folder `base` of its run, published before).
        token: of the Hub; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        The commit, with `commit_url` and `oid`: the revision to pin.

    Raises:
        PublishError: if the folder is no complete checkpoint, or the Hub refuses.
    """
    files = repository_files(folder)
    check_complete(files)
    check_base_model(files, folder, base_model)
    content = {name: str(path) for name, path in files.items()}
    content.update({name: _without_folders(files[name]) for name in ("config.yaml", ENVIRONMENT_FILE) if name in files})
    api = HfApi(token=token)
    revision_of_base = _newest_commit(api, base_model) if base_model else None
    if "README.md" not in files or {METRICS_FILE, ENVIRONMENT_FILE, "config.yaml"} <= set(files):
        try:
            content["README.md"] = str(model_card(folder, repo_id, base_model, revision_of_base)).encode()
        except CardError as error:
            raise PublishError(str(error)) from error
    if base_model:
        pinned = {"base_model_name_or_path": base_model, "revision": revision_of_base}
        content[ADAPTER_CONFIG_NAME] = json.dumps({**_json(files[ADAPTER_CONFIG_NAME]), **pinned}, indent=2).encode()
    with hub_errors(repo_id, api.endpoint):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise PublishError(f"{repo_id} exists and is public. Make it private on the Hub, or choose another name.")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        head = api.repo_info(repo_id, revision=revision)
        stale = {file.rfilename for file in head.siblings if _is_ours(file.rfilename)} - set(content)
        operations = [CommitOperationAdd(name, source) for name, source in content.items()]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        return api.create_commit(
            repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr, parent_commit=head.sha
        )


@contextmanager
def hub_errors(repo_id: str, endpoint: str) -> Iterator[None]:
    """What the Hub at `endpoint` refuses, and what the network does, as a [`PublishError`]."""
    try:
        yield
    except PublishError:
        raise
    except (HfHubHTTPError, HTTPError, OSError, ValueError, RuntimeError) as error:
        raise PublishError(_explain(error, repo_id, endpoint)) from error


def _newest_commit(api, base_model):
    """What an adapter fits: its base as it is now, whatever is pushed there later."""
    try:
        return api.model_info(base_model).sha
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise PublishError(
            f"The base model {base_model!r} cannot be found on {api.endpoint} ({str(error).splitlines()[0]}). Publish "
            "it first, and give its name there: USER/NAME."
        ) from error


def _without_folders(path):
    """A record of the run, of whose paths the last part is left where they are of this machine."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.sub(r"(?<![\w:/.])~?(?:/[\w.-]+)+/(?=[\w.-]+)", "", text).encode()


def _explain(error, repo_id, endpoint):
    """What a user can do about an upload that failed."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, (LocalTokenNotFoundError, RepositoryNotFoundError)) or status in (401, 403):
        return (
            f"{endpoint} does not let you write to {repo_id}. Log in (`hf auth login`, or set HF_TOKEN to a token that "
            "may write), and check the name."
        )
    if status is not None:
        return f"{endpoint} answered {status} for {repo_id}: {error}. {_WHAT_NOW}"
    return f"{endpoint} cannot be reached, or broke off: {error}. {_WHAT_NOW}"
