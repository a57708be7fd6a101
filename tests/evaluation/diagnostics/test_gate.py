"""Verdicts on models that are built to fail, and on one that is not."""

import matplotlib.image
import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics.gate import gate_of_spans, gate_section, layer_section


@pytest.fixture
def reviews(corpus):
    return Dataset.from_dict({"text": corpus[:24], "labels": [i % 3 for i in range(24)]})


@pytest.fixture
def make_pipe(make_model, processor):
    def make(**fields):
        return FusionSentimentPipeline(make_model(**fields), processor=processor, device="cpu")

    return make


def verdicts(section):
    return {finding.name: finding.ok for finding in section.findings}


def set_gate(pipe, bias):
    dense = pipe.model.dyfulm.cross_fusion.dense
    with torch.no_grad():
        dense.weight.zero_()
        dense.bias.fill_(bias)


def test_a_gate_that_chooses(make_pipe, reviews, tmp_path):
    pipe = make_pipe()
    section = gate_section(pipe, reviews, tmp_path)
    assert all(verdicts(section).values())
    found = section.data["gate"]
    gates = [pipe.model(**pipe.processor([t], return_tensors="pt"), output_fusion=True) for t in reviews["text"]]
    means = [g.gate[0][g.span_mask[0]].mean().item() for g in gates]
    near = [((g.gate[0][g.span_mask[0]] - 0.5).abs() <= 0.05).float().mean().item() for g in gates]
    assert found["mean"] == pytest.approx(np.mean(means), abs=1e-5)
    assert found["share_near_half"] == pytest.approx(np.mean(near), abs=0.01)
    assert found["deviation_between_texts"] == pytest.approx(np.std(means), abs=1e-5)
    assert sum(found["histogram"]["shares"]) == pytest.approx(1)
    for picture in section.pictures:
        assert matplotlib.image.imread(picture).std() > 0.01


@pytest.mark.parametrize(
    ("bias", "failing"),
    [
        (0.0, {"share of gate values in .5 +- .05", "deviation between texts and between spans"}),
        (5.0, {"mean of the gate, from above", "deviation between texts and between spans"}),
        (-5.0, {"mean of the gate", "deviation between texts and between spans"}),
    ],
    ids=["mean", "only a", "only b"],
)
def test_collapsed_gates(make_pipe, reviews, tmp_path, bias, failing):
    pipe = make_pipe()
    set_gate(pipe, bias)
    found = verdicts(gate_section(pipe, reviews, tmp_path))
    assert {name for name, ok in found.items() if not ok} == failing


def test_one_gate_for_the_text(make_pipe, reviews, tmp_path):
    section = gate_section(make_pipe(gate_level="sequence"), reviews, tmp_path)
    assert [picture.name for picture in section.pictures] == ["gate_histogram.png"]
    assert section.data["gate"]["deviation_between_spans"] == 0


def test_models_without_gate(make_pipe, reviews, tmp_path):
    assert gate_section(make_pipe(cross_fusion="mean"), reviews, tmp_path) is None
    assert layer_section(make_pipe(layer_fusion="last"), reviews, tmp_path) is None


def test_which_encoder_wins_where(make_pipe):
    pipe = make_pipe()
    text = "The room was not bad."
    spans = gate_of_spans(pipe, text)
    assert "".join(span["text"] for span in spans).replace(" ", "") == text.replace(" ", "")
    outputs = pipe.model(**pipe.processor([text], return_tensors="pt"), output_fusion=True)
    expected = outputs.gate[0][outputs.span_mask[0]].mean(1)
    assert [span["gate"] for span in spans] == pytest.approx(expected.tolist(), abs=1e-5)
    assert gate_of_spans(make_pipe(gate_level="sequence"), text) == []


class TestLayers:
    def test_means_by_class(self, make_pipe, reviews, tmp_path):
        pipe = make_pipe()
        section = layer_section(pipe, reviews, tmp_path)
        outputs = [pipe.model(**pipe.processor([t], return_tensors="pt")) for t in reviews["text"]]
        alpha = torch.cat([out.layer_attention_b for out in outputs])
        found = section.data["layer_attention"]["b"]
        assert found["mean"] == pytest.approx(alpha.mean(0).tolist(), abs=1e-5)
        assert found["by_class"]["negative"] == pytest.approx(alpha[1::3].mean(0).tolist(), abs=1e-5)
        assert 0 < found["entropy"] <= 1

    def test_one_layer_alone(self, make_pipe, reviews, tmp_path):
        pipe = make_pipe()
        fusion = pipe.model.dyfulm.layer_fusion_a
        real = fusion.forward

        def only_second(hidden_states, mask):
            states, alpha = real(hidden_states, mask)
            return states, torch.nn.functional.one_hot(torch.full((len(alpha),), 1), alpha.shape[1]).to(alpha.dtype)

        fusion.forward = only_second
        section = layer_section(pipe, reviews, tmp_path)
        names = {finding.name: finding for finding in section.findings}
        failing = names["weight of the strongest layer of encoder A"]
        assert failing.ok is False and "only layer 2 counts" in failing.text
        assert section.data["layer_attention"]["a"]["entropy"] == pytest.approx(0, abs=1e-6)
