"""A Space on the Hub that shows a checkpoint on the page of `hf-fusion demo`."""

from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, ModelCard, SpaceCard, SpaceCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import ADAPTER_CONFIG_NAME

from hf_fusion import __version__
from hf_fusion.hub.publish import check_private, hub_errors
from hf_fusion.hub.repository import PublishError, read_json, repository_files

# The version of gradio that the page is tested with, which the Space runs, and the Python of the Space.
GRADIO_VERSION, PYTHON_VERSION = "6.31.0", "3.11"
_APP = '''"""The page of `hf-fusion demo` for {model_id}."""

from hf_fusion.deployment.demo.page import launch_demo

launch_demo(["{model_id}"])
'''
_TEXT = """# {title}

Try [{model_id}](https://huggingface.co/{model_id}) in the browser. The page is that of `hf-fusion demo`; answers are
guesses of a model.
"""


def space_files(folder: str | Path, model_id: str, space_id: str) -> dict[str, str]:
    """
    Writes the files of a Space.

    Args:
        folder (`str` or `Path`): the run folder of the checkpoint.
        model_id (`str`): the repository of the checkpoint, "user/name" on the Hub.
        space_id (`str`): the name of the Space, "user/name".

    Returns:
        `dict[str, str]`: `app.py`, `requirements.txt` and `README.md` with their content.

    Raises:
        PublishError: if a name is not a full one on the Hub, or the folder does not exist.
    """
    for name in (model_id, space_id):
        _check_name(name)
    files = repository_files(folder)
    title = space_id.rpartition("/")[2]
    text = _TEXT.format(title=title, model_id=model_id)
    return {
        "app.py": _APP.format(model_id=model_id),
        "requirements.txt": f"hf-fusion[{','.join(_extras(files))}]>={__version__}\ngradio>={GRADIO_VERSION}\n",
        "README.md": str(SpaceCard(f"---\n{_metadata(files, model_id, title).to_yaml()}\n---\n\n{text}")),
    }


def publish_space(
    folder: str | Path, model_id: str, space_id: str, private: bool = False, token: str | None = None
) -> CommitInfo:
    """
    Uploads a Space as one commit; it is created if it does not exist, and its other files stay.

    Args:
        folder, model_id, space_id: see [`space_files`].
        private (`bool`, *optional*, defaults to `False`): whether a new Space is private.
        token (`str`, *optional*): the access token; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        `CommitInfo`: the commit.

    Raises:
        PublishError: if a name is not valid, or the upload fails.
    """
    operations = [
        CommitOperationAdd(name, content.encode()) for name, content in space_files(folder, model_id, space_id).items()
    ]
    api = HfApi(token=token)
    with hub_errors(space_id, api.endpoint):
        api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        if private:
            check_private(api, space_id, "space")
        return api.create_commit(
            space_id, operations, repo_type="space", commit_message=f"A page for {model_id} by hf_fusion {__version__}"
        )


def _check_name(name):
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise PublishError(str(error)) from error
    if "/" not in name:
        raise PublishError(f"{name!r} is no full name on the Hub: USER/NAME or ORGANISATION/NAME.")


def _extras(files):
    """The extras of hf-fusion that the page of a checkpoint needs."""
    needed = {"demo": True, "media": _reads_media(files), "peft": ADAPTER_CONFIG_NAME in files}
    return [name for name, is_needed in needed.items() if is_needed]


def _reads_media(files):
    """Whether the checkpoint reads videos and recordings."""
    settings = read_json(files["processor_config.json"]) if "processor_config.json" in files else {}
    return (settings.get("feature_extractor") or {}).get("media") is not None


def _metadata(files, model_id, title):
    return SpaceCardData(
        title=title, sdk="gradio", sdk_version=GRADIO_VERSION, python_version=PYTHON_VERSION, app_file="app.py",
        emoji="💬", colorFrom="blue", colorTo="indigo", short_description="Sentiment, word by word",
        license=_license(files), models=[model_id], tags=["sentiment-analysis", "hf-fusion"],
    )  # fmt: skip


def _license(files):
    """The license of the weights, if the card of the checkpoint names one."""
    if "README.md" not in files:
        return None
    return ModelCard.load(files["README.md"], ignore_metadata_errors=True).data.get("license")
