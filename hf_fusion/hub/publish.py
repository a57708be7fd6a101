"""Publishes a run folder as one commit on the Hub."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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

from hf_fusion.hub.endpoint import endpoint_files
from hf_fusion.hub.model_card import (
    CardDetails,
    CardError,
    describe_gaps,
    model_card,
    read_dataset,
    read_notebook_facts,
)
from hf_fusion.hub.notebook import NOTEBOOK_FILE, make_notebook
from hf_fusion.hub.repository import (
    HANDLER_FILES,
    RECORDS,
    PublishError,
    check_repository,
    is_ours,
    read_json,
)
from hf_fusion.utils.languages import is_language
from hf_fusion.utils.records import ENVIRONMENT_FILE

logger = logging.getLogger(__name__)

_RETRY_ADVICE = "Check whether the repository has the commit, then try again."


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a checkpoint",
    create_pr: bool = False,
    base_model: str | None = None,
    token: str | None = None,
    details: CardDetails | None = None,
) -> CommitInfo:
    """
    Uploads a run folder as one commit, so that nobody loads a partly uploaded repository.

    The model card is rewritten with the repository's name in its snippets, a notebook that runs the checkpoint is
    added, and local directories are removed from the records. The metadata names the data set, and its language, if it
    is public on the Hub. A whole model gets `handler.py` and `requirements.txt` for Inference Endpoints. Weights, code,
    tokenizers and pictures of an earlier upload that the folder no longer has are deleted in the same commit; all
    other files of the repository stay.

    Args:
        folder (`str` or `Path`): the run folder.
        repo_id (`str`): "user/name" on the Hub; created if it does not exist.
        private (`bool`, *optional*, defaults to `False`): whether a new repository is private.
        revision (`str`, *optional*): the branch, created if it does not exist; the main branch by default.
        message (`str`, *optional*, defaults to `"Upload a checkpoint"`): the commit message.
        create_pr (`bool`, *optional*, defaults to `False`): whether to open a pull request instead of a commit.
        base_model (`str`, *optional*): required for a LoRA adapter, refused for a whole model: the repository of the
            model that the adapter was trained on (the folder `base` of its run, published before).
        token (`str`, *optional*): the access token; by default the one of `hf auth login` or `HF_TOKEN`.
        details ([`CardDetails`], *optional*): facts for the model card that the run does not record.

    Returns:
        `CommitInfo`: the commit; its `oid` is the revision to pin.

    Raises:
        PublishError: if the folder is not a complete checkpoint, or the upload fails.
    """
    files = check_repository(folder, repo_id, base_model)
    content = {name: str(path) for name, path in files.items()}
    content.update(
        {name: _strip_directories(files[name]) for name in ("config.yaml", ENVIRONMENT_FILE) if name in files}
    )
    if base_model is None:  # an adapter has no model of its own to load
        content.update(endpoint_files())
    api = HfApi(token=token)
    revision_of_base = _newest_commit(api, base_model) if base_model else None
    check_details(folder, files, details)
    if has_written_card(files):
        try:
            details = _ask_for_dataset(api, folder, details or CardDetails())
            card = model_card(folder, repo_id, base_model, revision_of_base, details)
        except CardError as error:
            raise PublishError(str(error)) from error
        content["README.md"] = str(card).encode()
        for sentence in describe_gaps(card):
            logger.warning(sentence)
    notebook = make_notebook(read_notebook_facts(folder, repo_id, base_model, revision_of_base))
    content[NOTEBOOK_FILE] = json.dumps(notebook, indent=1, ensure_ascii=False).encode()
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


def has_written_card(files: dict[str, Path]) -> bool:
    """Whether publishing writes the model card: not over a README.md that no run wrote."""
    return "README.md" not in files or set(RECORDS) <= set(files)


def check_details(folder: str | Path, files: dict[str, Path], details: CardDetails | None) -> None:
    """Raises [`PublishError`] if there are facts for a model card that is not written."""
    if details not in (None, CardDetails()) and not has_written_card(files):
        raise PublishError(f"{folder} has a README.md of its own, and no records of a run: write such facts into it.")


def written_files(files: dict[str, Path], base_model: str | None = None) -> list[str]:
    """Returns the names of the files that publishing writes, beside those of the folder or in their place."""
    names = [NOTEBOOK_FILE, *(() if base_model else HANDLER_FILES)]
    return ["README.md", *names] if has_written_card(files) else names


def add_to_collection(repo_id: str, collection: str, private: bool = False, token: str | None = None) -> str:
    """
    Adds a model to a collection; nothing happens if it is in there already.

    Args:
        repo_id (`str`): the model.
        collection (`str`): the slug of a collection, as in its address ("user/title-0123456789abcdef01234567"), or a
            title: that collection of the model's owner, created if there is none.
        private (`bool`, *optional*, defaults to `False`): whether a new collection is private.
        token (`str`, *optional*): as for [`publish`].

    Returns:
        `str`: the address of the collection.

    Raises:
        PublishError: if the collection cannot be changed.
    """
    api = HfApi(token=token)
    with hub_errors(repo_id, api.endpoint, f"{repo_id} was published, but not added to the collection"):
        slug = collection
        if "/" not in collection:
            owner = repo_id.partition("/")[0]
            slug = api.create_collection(collection, namespace=owner, private=private, exists_ok=True).slug
        return api.add_collection_item(slug, item_id=repo_id, item_type="model", exists_ok=True).url


def _ask_for_dataset(api, folder, details):
    """Completes the details by those of the data set on the Hub."""
    source = read_dataset(folder)
    if source is None or details.dataset is not None:
        return details
    try:
        info = api.dataset_info(source)
    except (HfHubHTTPError, HTTPError, OSError, ValueError):
        logger.warning("The card does not name the data set: %s is not on %s.", source, api.endpoint)
        return replace(details, dataset=False)
    known = info.card_data.get("language") if info.card_data else None
    languages = [known] if isinstance(known, str) else known or ()
    return replace(details, dataset=not info.private, dataset_languages=tuple(filter(is_language, languages)))


def check_private(api: HfApi, repo_id: str, repo_type: str = "model") -> None:
    """Raises [`PublishError`] if the repository is public."""
    if not api.repo_info(repo_id, repo_type=repo_type).private:
        raise PublishError(f"{repo_id} exists and is public. Make it private on the Hub, or choose another name.")


@contextmanager
def hub_errors(repo_id: str, endpoint: str, before: str | None = None) -> Iterator[None]:
    """
    Re-raises errors of the Hub at `endpoint`, the network and the disk as [`PublishError`], whose message begins with
    `before`.
    """
    try:
        yield
    except PublishError:
        raise
    except (HfHubHTTPError, HTTPError, OSError, ValueError, RuntimeError) as error:
        raise PublishError(": ".join(filter(None, (before, _explain(error, repo_id, endpoint))))) from error


def _newest_commit(api, base_model):
    """Returns the newest commit of the base model, so that the adapter stays pinned to the weights it fits."""
    try:
        return api.model_info(base_model).sha
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise PublishError(
            f"The base model {base_model!r} cannot be found on {api.endpoint} ({str(error).splitlines()[0]}). Publish "
            "it first, and pass its name on the Hub, USER/NAME."
        ) from error


def _strip_directories(path):
    """Strips local directories from the paths in a record of the run."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.sub(r"(?<![\w:/.])(?:file://)?(?:~|\.{1,2})?(?:/[\w.-]+)+/(?=[\w.-])", "", text).encode()


def _explain(error, repo_id, endpoint):
    """Returns the error message of a failed upload, with advice."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, (LocalTokenNotFoundError, RepositoryNotFoundError)) or status in (401, 403):
        return (
            f"{endpoint} does not let you write to {repo_id}. Log in (`hf auth login`, or set HF_TOKEN to a token that "
            "may write), and check the name."
        )
    if status is not None:
        return f"{endpoint} answered {status} for {repo_id}: {error}. {_RETRY_ADVICE}"
    if isinstance(error, HFValidationError):
        return f"{repo_id!r} is not a valid name on the Hub (USER/NAME): {error}"
    if isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return f"{endpoint} cannot be reached, or closed the connection: {error}. {_RETRY_ADVICE}"
    return f"{repo_id} could not be published: {error}. {_RETRY_ADVICE}"
