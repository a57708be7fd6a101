"""`handler.py` as Inference Endpoints use it: without this package, and as the class that the server mounts."""

import json
import os

import pytest
from asserts import assert_close
from conftest import TEXTS
from fresh_python import run_fresh
from test_dependencies import PROJECT

from hf_fusion.hub.endpoint import endpoint_files
from hf_fusion.models.handler import EndpointHandler, RequestError

# Imports the file as the toolkit of Inference Endpoints does: by its path, outside of any package.
STRANGER = """
import importlib.util, json, sys
sys.modules["hf_fusion"] = None
folder, requests = sys.argv[1], json.loads(sys.argv[2])
spec = importlib.util.spec_from_file_location("handler", folder + "/handler.py")
module = importlib.util.module_from_spec(spec)
sys.modules["handler"] = module
spec.loader.exec_module(module)
handle = module.EndpointHandler(folder)
results = []
for request in requests:
    try:
        results.append(handle(request))
    except ValueError as error:
        results.append({"error": str(error)})
print("RESULT", json.dumps(results))
"""


def test_answers_without_the_package(review_classifier, review_checkpoint, tmp_path):
    for name, content in endpoint_files().items():
        (review_checkpoint / name).write_bytes(content)
    requests = [
        {"inputs": TEXTS}, {"inputs": TEXTS[0], "parameters": {"top_k": 2}}, {"inputs": ["Good.", ""]},
        {"inputs": ""}, {"inputs": "Good.", "parameters": {"top_k": "2"}},
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_MODULES_CACHE")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    process = run_fresh(STRANGER, review_checkpoint, json.dumps(requests), cwd=tmp_path, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("RESULT "))
    many, best, mixed, empty, wrong = json.loads(line.removeprefix("RESULT "))
    assert_close(many, review_classifier(TEXTS))
    assert_close(best, review_classifier(TEXTS[0], top_k=2))
    assert mixed[0]["label"] and mixed[1]["error"]["field"] == "inputs[1]"
    assert "empty" in empty["error"] and wrong["error"] == "parameters.top_k: Expected integer or null, got '2'."


def test_a_handler_around_a_loaded_pipeline(review_classifier):
    handle = EndpointHandler(classify=review_classifier)
    assert_close(handle({"inputs": TEXTS}), review_classifier(TEXTS))
    with pytest.raises(RequestError, match=r"inputs\.text: At most 50,000 characters"):
        handle({"inputs": {"text": "x" * 50_001}})


def test_an_error_of_the_model_is_none_of_the_request():
    def classify(inputs, **options):
        raise ValueError("The graph is damaged")

    with pytest.raises(ValueError, match="damaged") as caught:
        EndpointHandler(classify=classify)({"inputs": "Good."})
    assert not isinstance(caught.value, RequestError)


def test_an_exported_folder_says_how_it_is_loaded(tmp_path):
    (tmp_path / "onnx_fusion.json").write_text("{}")
    with pytest.raises(ValueError, match=r"OnnxFusion\.from_pretrained"):
        EndpointHandler(str(tmp_path))


def test_requirements_are_the_packages_own():
    lines = endpoint_files()["requirements.txt"].decode().split()
    assert set(lines) <= set(PROJECT["dependencies"]) and any(line.startswith("torch") for line in lines)
