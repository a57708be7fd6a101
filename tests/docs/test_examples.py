"""Examples in docstrings of public classes and functions run as they stand; snippets of the pages name what exists."""

import ast
import doctest
import importlib
import inspect
import re
import shutil
import textwrap

import numpy as np
import pytest
import torch
from document_paths import DOCUMENTS, ROOT

import hf_fusion
from hf_fusion.media.synthetic_talks import draw_sentence, write_talk

API_PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
_CODE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_REFERENCE = re.compile(r"^::: ([\w.]+)", re.MULTILINE)


def resolve(path):
    """The object of a dotted path, through classes too."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def code_blocks(text):
    return [textwrap.dedent(block) for _, block in _CODE.findall(text)]


DOCUMENTED = [path for page in API_PAGES for path in _REFERENCE.findall(page.read_text(encoding="utf-8"))]
WITH_EXAMPLE = [path for path in DOCUMENTED if code_blocks(inspect.getdoc(resolve(path)) or "")]
# Their examples would need what a test does not have: a run, a folder of videos, the Hub, a cluster.
WITHOUT_EXAMPLE = {
    "hf_fusion.architectures.base.Architecture",
    "hf_fusion.deployment.onnx_fusion.OnnxFusion",
    "hf_fusion.media.extraction.FileExtraction",
    "hf_fusion.studies.study.Study",
    "hf_fusion.studies.verification.checks.FileChecks",
    "hf_fusion.studies.tuning.Search",
    "hf_fusion.training.distillation.DistillationTrainer",
    "hf_fusion.training.result.TrainingResult",
}
# Their examples load a checkpoint of the Hub.
OF_THE_HUB = {
    "hf_fusion.models.media_image.ImageFrames",
    "hf_fusion.models.media_transcription.Transcriber",
    "hf_fusion.models.media_whisper.WhisperFrames",
}
SNIPPETS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in DOCUMENTS
    for number, block in enumerate(code_blocks(page.read_text(encoding="utf-8")))
]


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """A folder with `talk.mp4` and `talk.srt`."""
    folder, rng = tmp_path_factory.mktemp("talk"), np.random.default_rng(0)
    write_talk(folder / "talk.mp4", [draw_sentence(rng) for _ in range(2)], rng)
    return folder


@pytest.mark.parametrize("path", [path for path in WITH_EXAMPLE if path not in OF_THE_HUB])
def test_examples_run(path, tmp_path, monkeypatch, talk):
    shutil.copytree(talk, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for block in code_blocks(inspect.getdoc(resolve(path))):
        if ">>>" not in block:
            exec(compile(block, path, "exec"), {})
            continue
        test = doctest.DocTestParser().get_doctest(block, {}, path, None, None)
        output = []
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.DocTestRunner(optionflags=flags).run(test, out=output.append).failed == 0, "".join(output)


def test_public_classes_have_an_example():
    classes = {path for path in DOCUMENTED if inspect.isclass(resolve(path)) and "Output" not in path}
    assert classes - set(WITH_EXAMPLE) == WITHOUT_EXAMPLE


def test_the_reference_lists_what_the_package_exports():
    documented = {path.rpartition(".")[2] for path in DOCUMENTED}
    assert set(hf_fusion.__all__) - documented == set()


@pytest.mark.parametrize("block", SNIPPETS)
def test_snippets_import_what_exists(block):
    """Snippets of the pages need data and checkpoints; their syntax and the names that they import are checked."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "hf_fusion":
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{node.module} has no {', '.join(missing)}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hf_fusion":
            assert hasattr(hf_fusion, node.attr), f"hf_fusion has no {node.attr}"
