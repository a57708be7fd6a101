"""A Space with the page of a checkpoint: its files, and their upload to a small Hub on loopback."""

import ast
import re
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceCardData
from packaging.requirements import Requirement
from tiny_runs import script_here

import hf_fusion
from hf_fusion.hub.publish import publish
from hf_fusion.hub.repository import PublishError
from hf_fusion.hub.space import GRADIO_VERSION, publish_space, space_files

ROOT = Path(__file__).parents[2]
MODEL, SPACE = "acme/tiny-dyfulm", "acme/tiny-demo"


@pytest.fixture
def folder(make_model, processor, tmp_path):
    folder = tmp_path / "run"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def requirements(files):
    return {part.name: part for part in map(Requirement, files["requirements.txt"].splitlines())}


def test_the_files_of_a_space(folder):
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Mine\n")
    files = space_files(folder, MODEL, SPACE)
    assert set(files) == {"app.py", "requirements.txt", "README.md"}
    (call,) = (node for node in ast.walk(ast.parse(files["app.py"])) if isinstance(node, ast.Call))
    assert call.func.id == "launch_demo" and ast.literal_eval(call.args[0]) == [MODEL]
    needed = requirements(files)
    assert needed["hf-fusion"].extras == {"demo"} and str(needed["hf-fusion"].specifier) == f">={hf_fusion.__version__}"
    assert str(needed["gradio"].specifier) == f">={GRADIO_VERSION}"
    card = SpaceCard(files["README.md"])
    assert isinstance(card.data, SpaceCardData)
    data = card.data.to_dict()
    assert data["sdk"] == "gradio" and data["sdk_version"] == GRADIO_VERSION and data["app_file"] == "app.py"
    assert data["models"] == [MODEL] and data["license"] == "cc-by-4.0" and data["title"] == "tiny-demo"
    assert data["colorFrom"] in COLORS and data["colorTo"] in COLORS and len(data["short_description"]) <= 60
    assert "# tiny-demo" in card.text and f"[{MODEL}]" in card.text


# Of https://huggingface.co/docs/hub/spaces-config-reference
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_without_a_license_none_is_claimed(folder):
    assert "license" not in SpaceCard(space_files(folder, MODEL, SPACE)["README.md"]).data.to_dict()


def test_extras_of_checkpoints_that_need_more(media_checkpoint, folder):
    assert requirements(space_files(media_checkpoint, MODEL, SPACE))["hf-fusion"].extras == {"demo", "media"}
    (folder / "adapter_config.json").write_text("{}")
    assert requirements(space_files(folder, MODEL, SPACE))["hf-fusion"].extras == {"demo", "peft"}


def test_the_version_of_gradio_is_that_of_the_extra():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^demo = \["gradio>=([\d.]+)"\]', text, re.MULTILINE)[1] in (GRADIO_VERSION, GRADIO_VERSION[:-2])


@pytest.mark.parametrize("name", ["demo", "acme/de mo", "acme/../x"])
def test_names_that_the_hub_refuses(folder, name):
    with pytest.raises(PublishError, match=re.escape(repr(name)) + "|" + re.escape(name)):
        space_files(folder, MODEL, name)


def test_a_space_is_published_as_one_commit(online, folder):
    publish(folder, MODEL)
    files = space_files(folder, MODEL, SPACE)
    SpaceCard(files["README.md"]).validate()
    for _ in range(2):  # again: nothing is in its way
        commit = publish_space(folder, MODEL, SPACE, private=True)
    repo = online.repos[f"spaces/{SPACE}"]
    assert repo.private and repo.sdk == "gradio" and len(repo.commits) == 3
    uploaded = repo.commits[commit.oid]
    assert {name: uploaded[name].decode() for name in files} == files
    assert MODEL in online.repos and not any("spaces" in name for name in online.repos[MODEL].commits)


def test_a_public_space_is_not_called_private(online, folder):
    publish_space(folder, MODEL, SPACE)
    with pytest.raises(PublishError, match=f"{SPACE} exists and is public"):
        publish_space(folder, MODEL, SPACE, private=True)


def test_the_command(online, folder, monkeypatch, capsys):
    push = script_here("push", monkeypatch)
    assert push(folder, MODEL, "--space", SPACE, "--dry_run") == 0
    shown = capsys.readouterr().out
    assert f"The Space {SPACE}:" in shown and "launch_demo" in shown and "sdk: gradio" in shown
    assert online.repos == {}
    assert push(folder, MODEL, "--space", SPACE) == 0
    assert f"The Space: {online.url}/" in capsys.readouterr().out and f"spaces/{SPACE}" in online.repos
    assert push(folder, MODEL, "--space", SPACE, "--create_pr") == 2
    assert "leave --revision and --create_pr out" in capsys.readouterr().err
