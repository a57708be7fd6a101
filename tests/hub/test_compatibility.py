"""Checkpoints of this and earlier versions: the package and their own code load them, and they answer the same."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from asserts import assert_close
from fresh_python import run_fresh

from hf_fusion.deployment.predictions import load_pipeline

CHECKPOINTS = sorted((Path(__file__).parents[1] / "fixtures").glob("checkpoint-*.zip"))

STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
import torch
from transformers import pipeline
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    inputs = json.load(open(folder + "/expected.json"))["inputs"]
    classify = pipeline("fusion-sentiment", model=folder, trust_remote_code=True, device="cpu")
    print("RESULT", json.dumps(classify(inputs)))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {path.stem: tmp_path_factory.mktemp(path.stem) for path in CHECKPOINTS}
    for path in CHECKPOINTS:
        zipfile.ZipFile(path).extractall(found[path.stem])
    return found


def assert_same_answers(answers, folder):
    expected = json.loads((folder / "expected.json").read_text())["answers"]
    assert [list(answer) for answer in answers] == [list(answer) for answer in expected]
    assert_close(answers, expected)


def test_there_are_some_of_both():
    assert {path.stem.rpartition("-")[2] for path in CHECKPOINTS} == {"dyfulm", "dashfusion"}


@pytest.mark.parametrize("name", [path.stem for path in CHECKPOINTS])
def test_by_the_package(folders, name):
    inputs = json.loads((folders[name] / "expected.json").read_text())["inputs"]
    options = {"consistent": False} if name.endswith("dyfulm") else {}  # the coarse head's own answers, as then
    assert_same_answers(load_pipeline(str(folders[name]), device="cpu")(inputs, **options), folders[name])


def test_by_their_own_code(folders, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "HF_MODULES_CACHE"}
    environment |= {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    process = run_fresh(STRANGER, *folders.values(), cwd=tmp_path, env=environment)
    answers = [json.loads(line[7:]) for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(answers) == len(folders), process.stderr[-3000:]
    for found, folder in zip(answers, folders.values(), strict=True):
        assert_same_answers(found, folder)
