"""Publishing a run folder as one commit on the Hub."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from transformers.utils import ADAPTER_CONFIG_NAME

from hf_fusion.hub.model_card import CardError, model_card
from hf_fusion.hub.repository import (
    RECORDS,
    PublishError,
    check_repository,
    is_ours,
    read_json,
)
from hf_fusion.utils.records import ENVIRONMENT_FILE

_WHAT_NOW = "Look at the repository whether it has the commit, and try again."


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
    files = check_repository(folder, repo_id, base_model)
    content = {name: str(path) for name, path in files.items()}
    content.update({name: _without_folders(files[name]) for name in ("config.yaml", ENVIRONMENT_FILE) if name in files})
    api = HfApi(token=token)
    revision_of_base = _newest_commit(api, base_model) if base_model else None
    if "README.md" not in files or set(RECORDS) <= set(files):
        try:
            content["README.md"] = str(model_card(folder, repo_id, base_model, revision_of_base)).encode()
        except CardError as error:
            raise PublishError(str(error)) from error
    if base_model:
        pinned = {"base_model_name_or_path": base_model, "revision": revision_of_base}
        adapter = {**read_json(files[ADAPTER_CONFIG_NAME]), **pinned}
        content[ADAPTER_CONFIG_NAME] = json.dumps(adapter, indent=2).encode()
    with hub_errors(repo_id, api.endpoint):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private:
            check_private(api, repo_id)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        head = api.repo_info(repo_id, revision=revision)
        stale = {file.rfilename for file in head.siblings if is_ours(file.rfilename)} - set(content)
        operations = [CommitOperationAdd(name, source) for name, source in content.items()]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        return api.create_commit(
            repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr, parent_commit=head.sha
        )


def check_private(api: HfApi, repo_id: str) -> None:
    """Raises [`PublishError`] if anybody can read a repository."""
    if not api.repo_info(repo_id).private:
        raise PublishError(f"{repo_id} exists and is public. Make it private on the Hub, or choose another name.")


@contextmanager
def hub_errors(repo_id: str, endpoint: str) -> Iterator[None]:
    """What the Hub at `endpoint` refuses, and what network and disk do, as a [`PublishError`]."""
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
    return re.sub(r"(?<![\w:/.])(?:file://)?(?:~|\.{1,2})?(?:/[\w.-]+)+/(?=[\w.-])", "", text).encode()


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
    if isinstance(error, HFValidationError):
        return f"{repo_id!r} can be no name on the Hub, which is USER/NAME: {error}"
    if isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return f"{endpoint} cannot be reached, or broke off: {error}. {_WHAT_NOW}"
    return f"{repo_id} could not be published: {error}. {_WHAT_NOW}"
