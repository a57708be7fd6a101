"""Exported folders that others wrote or that are damaged: finite answers, or a `ValueError`."""

import json
import math
import shutil

import pytest
from hostile import cases, changed, damaged, result_or
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.deployment import OnnxFusion

ort = pytest.importorskip("onnxruntime")
FILES = ("onnx_fusion.json", "model.onnx", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
INPUTS = ["Not a bad room.", "?", {"text": "good " * 60}]


@pytest.fixture(autouse=True)
def _quiet_runtime():
    ort.set_default_logger_severity(4)
    yield
    ort.set_default_logger_severity(2)


@pytest.fixture(params=["exported_reviews", "exported_clips"])
def folder(request, tmp_path):
    return shutil.copytree(request.getfixturevalue(request.param)[1], tmp_path / "export")


def assert_answers(answers):
    assert len(answers) == len(INPUTS)
    for answer in answers:
        assert isinstance(answer["label"], str) and math.isfinite(answer["score"])


def test_descriptions(folder):
    path = folder / "onnx_fusion.json"
    description = json.loads(path.read_bytes())

    @cases(8)
    @given(config=changed(description["config"]), fields=st.none() | changed(description))
    def check(config, fields):
        path.write_text(json.dumps(fields or {**description, "config": config}))
        with result_or(ValueError, seconds=20):
            assert_answers(OnnxFusion.from_pretrained(folder, num_threads=1)(INPUTS))

    check()


@st.composite
def poisoned(draw, data):
    """A graph in which four bytes, most likely of a weight, became no number or an endless one."""
    start = draw(st.integers(0, len(data) - 4))
    return data[:start] + draw(st.sampled_from([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4])) + data[start + 4 :]


def test_files(folder):
    sound = {name: (folder / name).read_bytes() for name in FILES}

    @cases(4)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(FILES))
        way = damaged([sound[name]])
        content = data.draw(way | poisoned(sound[name]) if name == "model.onnx" else way)
        for other, original in sound.items():
            (folder / other).write_bytes(original)
        if content:
            (folder / name).write_bytes(content)
        else:
            (folder / name).unlink()
        with result_or(ValueError, seconds=20):
            assert_answers(OnnxFusion.from_pretrained(folder, num_threads=1)(INPUTS))

    check()
