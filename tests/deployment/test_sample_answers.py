import json

import numpy as np
import pytest
import torch

from hf_fusion.deployment.adapters import add_lora
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.deployment.sample_answers import ANSWERS_FILE, check_answers, sample_answers
from hf_fusion.utils.errors import DataError


@pytest.fixture(params=["dyfulm", "dashfusion", "without text"])
def folder(request, make_model, processor, clip_model, clip_processor, tmp_path):
    """A folder that holds a model, its processor and its answers."""
    if request.param == "dyfulm":
        parts = make_model(), processor
    else:
        modalities = ["audio", "vision"] if request.param == "without text" else ["text", "audio", "vision"]
        parts = clip_model(modalities=modalities), clip_processor
    for part in parts:
        part.save_pretrained(tmp_path)
    (tmp_path / ANSWERS_FILE).write_text(json.dumps(sample_answers(*parts)))
    return tmp_path


def test_as_it_was(folder):
    recorded = json.loads((folder / ANSWERS_FILE).read_text())
    assert {"logits"} <= recorded.keys() and "loss" not in recorded
    assert np.ptp(recorded["logits"], axis=0).max() > 0.01  # two inputs, two answers
    assert check_answers(folder, *load_checkpoint(folder))
    (folder / ANSWERS_FILE).unlink()
    assert not check_answers(folder, *load_checkpoint(folder))


def test_an_exchanged_head(folder):
    model, processor = load_checkpoint(folder)
    with torch.no_grad():
        list(model.classifier.parameters())[-1].add_(1)
    with pytest.raises(DataError, match="differ from those at the end of its training"):
        check_answers(folder, model, processor)


@pytest.mark.parametrize("content", ["", "[]", '{"logits": "x"}', '{"logits": [[0.1], [0.2, 0.3]]}'])
def test_a_damaged_record(folder, content):
    (folder / ANSWERS_FILE).write_text(content)
    with pytest.raises(DataError, match=ANSWERS_FILE):
        check_answers(folder, *load_checkpoint(folder))


def test_an_adapter_and_what_is_merged(make_model, processor):
    pytest.importorskip("peft")
    model = add_lora(make_model())
    apart = sample_answers(model, processor)
    merged = sample_answers(model.merge_and_unload(), processor)
    for name, values in apart.items():
        np.testing.assert_allclose(values, merged[name], rtol=1e-4, atol=1e-5)
