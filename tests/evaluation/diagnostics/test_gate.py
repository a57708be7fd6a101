"""Verdicts on models that are built to fail, and on one that is not."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics.collect import observe_rows, row_inputs
from hf_fusion.evaluation.diagnostics.gate import GateDiagnosis, LayerDiagnosis, compute_span_gates, plot_gate_words


@pytest.fixture
def reviews(corpus):
    return Dataset.from_dict({"text": corpus[:24], "labels": [i % 3 for i in range(24)]})


@pytest.fixture
def make_pipe(make_model, processor):
    def make(**fields):
        return FusionSentimentPipeline(make_model(**fields), processor=processor, device="cpu")

    return make


def examine(kind, pipe, reviews):
    diagnosis = kind(pipe, reviews)
    observe_rows(pipe, row_inputs(reviews), [diagnosis], batch_size=5)
    return diagnosis.report()


def verdicts(section):
    return {finding.name: finding.ok for finding in section.findings}


def set_gate(pipe, bias):
    dense = pipe.model.dyfulm.cross_fusion.dense
    with torch.no_grad():
        dense.weight.zero_()
        dense.bias.fill_(bias)


def test_a_gate_that_chooses(make_pipe, reviews):
    pipe = make_pipe()
    section = examine(GateDiagnosis, pipe, reviews)
    assert all(verdicts(section).values())
    found = section.data["gate"]
    gates = [pipe.model(**pipe.processor([t], return_tensors="pt"), output_fusion=True) for t in reviews["text"]]
    means = [g.gate[0][g.span_mask[0]].mean().item() for g in gates]
    near = [((g.gate[0][g.span_mask[0]] - 0.5).abs() <= 0.05).float().mean().item() for g in gates]
    assert found["mean"] == pytest.approx(np.mean(means), abs=1e-5)
    assert found["share_near_half"] == pytest.approx(np.mean(near), abs=0.01)
    assert found["deviation_between_texts"] == pytest.approx(np.std(means), abs=1e-5)
    assert sum(found["histogram"]["shares"]) == pytest.approx(1)
    values = torch.cat([g.gate[0][g.span_mask[0]] for g in gates])  # (spans, hidden)
    assert found["deviation_of_features"] == pytest.approx(values.std(0, correction=0).mean().item(), abs=1e-5)
    words = section.figures["gate_words"].axes[0].texts
    assert [text.get_text() for text in words if text.get_bbox_patch()][:2] == reviews["text"][0].split()[:2]


@pytest.mark.parametrize(
    ("bias", "failing"),
    [
        (0.0, {"share of gate values in 0.5 ± 0.05", "deviation of a feature's gate between pieces of text"}),
        (5.0, {"mean of the gate, from above", "deviation of a feature's gate between pieces of text"}),
        (-5.0, {"mean of the gate", "deviation of a feature's gate between pieces of text"}),
    ],
    ids=["mean", "only a", "only b"],
)
def test_collapsed_gates(make_pipe, reviews, bias, failing):
    pipe = make_pipe()
    set_gate(pipe, bias)
    found = verdicts(examine(GateDiagnosis, pipe, reviews))
    assert {name for name, ok in found.items() if not ok} == failing


def test_features_that_move_against_each_other(make_pipe, reviews):
    """The mean of the gate stays the same, but the gate does depend on its input, as its histogram shows."""
    pipe = make_pipe()
    diagnosis = GateDiagnosis(pipe, reviews)
    gate = torch.full((len(reviews), 3, 2), 0.5)
    gate[::2, :, 0], gate[::2, :, 1] = 0.2, 0.8
    outputs = {"gate": gate, "span_mask": torch.ones(len(reviews), 3), "logits": torch.zeros(len(reviews), 3)}
    diagnosis.observe(list(range(len(reviews))), outputs)
    section = diagnosis.report()
    assert section.data["gate"]["deviation_between_texts"] < 1e-6 and section.findings[3].ok
    assert section.findings[3].value == pytest.approx(0.15, abs=1e-3)


def test_one_gate_for_the_text(make_pipe, reviews):
    section = examine(GateDiagnosis, make_pipe(gate_level="sequence"), reviews)
    assert list(section.figures) == ["gate_histogram"]
    assert section.data["gate"]["deviation_between_spans"] == 0


def test_models_without_gate(make_pipe, reviews):
    assert examine(GateDiagnosis, make_pipe(cross_fusion="mean"), reviews) is None
    assert examine(LayerDiagnosis, make_pipe(layer_fusion="last"), reviews) is None


def test_which_encoder_wins_where(make_pipe):
    pipe = make_pipe()
    text = "The room was not bad."
    spans = compute_span_gates(pipe, text)
    assert "".join(span["text"] for span in spans).replace(" ", "") == text.replace(" ", "")
    outputs = pipe.model(**pipe.processor([text], return_tensors="pt"), output_fusion=True)
    expected = outputs.gate[0][outputs.span_mask[0]].mean(1)
    assert [span["gate"] for span in spans] == pytest.approx(expected.tolist(), abs=1e-5)
    assert compute_span_gates(make_pipe(gate_level="sequence"), text) == []


def test_words_are_red_for_encoder_a_and_blue_for_encoder_b():
    """On a scale that is fixed, whatever the other gates are."""
    gates = {"A": 0.95, "weakly-A": 0.55, "weakly-B": 0.45, "B": 0.05}

    def colors(names):
        spans = [{"start": 0, "end": 9, "text": name, "gate": gates[name]} for name in names]
        texts = plot_gate_words([spans]).axes[0].texts
        return {text.get_text(): text.get_bbox_patch().get_facecolor() for text in texts if text.get_bbox_patch()}

    found = colors(gates)
    redness = {name: red - blue for name, (red, _, blue, _) in found.items()}
    assert redness["A"] > 0.4 > redness["weakly-A"] > 0 > redness["weakly-B"] > -0.4 > redness["B"]
    assert colors(["weakly-A", "weakly-B"]) == {name: found[name] for name in ("weakly-A", "weakly-B")}


class TestLayers:
    def test_means_by_class(self, make_pipe, reviews):
        pipe = make_pipe()
        section = examine(LayerDiagnosis, pipe, reviews)
        outputs = [pipe.model(**pipe.processor([t], return_tensors="pt")) for t in reviews["text"]]
        alpha = torch.cat([out.layer_attention_b for out in outputs])
        found = section.data["layer_attention"]["b"]
        assert found["mean"] == pytest.approx(alpha.mean(0).tolist(), abs=1e-5)
        assert found["by_class"]["negative"] == pytest.approx(alpha[1::3].mean(0).tolist(), abs=1e-5)
        assert 0 < found["entropy"] <= 1
        encoder_b = section.figures["layer_attention"].axes[1]
        lines = {line.get_label(): list(line.get_ydata()) for line in encoder_b.lines}
        assert lines["negative"] == pytest.approx(found["by_class"]["negative"])
        assert lines["equal weights"] == pytest.approx([1 / alpha.shape[1]] * 2) and encoder_b.get_ylim()[0] == 0

    def test_a_plain_mean_of_the_layers(self, make_pipe, reviews):
        diagnosis = LayerDiagnosis(make_pipe(), reviews)
        even = {f"layer_attention_{name}": torch.full((len(reviews), 3), 1 / 3) for name in "ab"}
        diagnosis.observe(list(range(len(reviews))), even)
        names = {finding.name: finding for finding in diagnosis.report().findings}
        failing = names["evenness of the layers of encoder A"]
        assert failing.value == pytest.approx(1) and failing.verdict == "warning"

    def test_one_layer_alone(self, make_pipe, reviews):
        pipe = make_pipe()
        fusion = pipe.model.dyfulm.layer_fusion_a
        real = fusion.forward

        def only_second(hidden_states, mask):
            states, alpha = real(hidden_states, mask)
            return states, torch.nn.functional.one_hot(torch.full((len(alpha),), 1), alpha.shape[1]).to(alpha.dtype)

        fusion.forward = only_second
        section = examine(LayerDiagnosis, pipe, reviews)
        names = {finding.name: finding for finding in section.findings}
        failing = names["weight of the strongest layer of encoder A"]
        assert failing.ok is False and "only layer 2 counts" in failing.text
        assert section.data["layer_attention"]["a"]["entropy"] == pytest.approx(0, abs=1e-6)


def test_the_gate_by_class_by_text_and_by_word(make_pipe, reviews):
    pipe = make_pipe()
    section = examine(GateDiagnosis, pipe, reviews)
    spans = [compute_span_gates(pipe, text) for text in reviews["text"]]
    means = np.array([np.mean([span["gate"] for span in text]) for text in spans])
    by_class = section.tables["Gate by class"]
    assert [row["texts"] for row in by_class] == [8, 8, 8]
    assert [row["gate"] for row in by_class] == pytest.approx([means[label::3].mean() for label in range(3)], abs=1e-5)
    groups = section.tables["Texts by their gate"]
    assert [row["texts"] for row in groups] == [8, 8, 8]
    lowest = np.argsort(means)[:8]
    answers = np.array(
        [pipe.model(**pipe.processor([t], return_tensors="pt")).logits.argmax() for t in reviews["text"]]
    )
    assert groups[0]["accuracy"] == (answers == np.array(reviews["labels"]))[lowest].mean()
    assert groups[0]["median words"] == np.median([len(reviews["text"][i].split()) for i in lowest])
    words = {}
    for number, text in enumerate(spans):
        for span in text:
            words.setdefault(span["text"].strip().lower(), {}).setdefault(number, []).append(span["gate"])
    expected = {word: np.mean([np.mean(gates) for gates in texts.values()])
                for word, texts in words.items() if len(texts) >= 5 and word.isalnum()}  # fmt: skip
    (lowest_word, *_), (highest_word, *_) = section.tables["Words of encoder B"], section.tables["Words of encoder A"]
    assert lowest_word["word"] == min(expected, key=expected.get)
    assert highest_word["word"] == max(expected, key=expected.get)
    assert highest_word["gate"] == pytest.approx(max(expected.values()), abs=1e-5)


def test_without_labels_and_without_quotes(make_pipe, reviews):
    section = examine(GateDiagnosis, make_pipe(), reviews.remove_columns("labels"))
    assert [row["class"] for row in section.tables["Gate by class"]] == ["all"]
    assert "accuracy" not in section.tables["Texts by their gate"][0]
    hidden = section.without_quotes()
    assert "gate_words" in section.figures and list(hidden.figures) == ["gate_histogram"]
    assert section.data["gate"]["words"] and "words" not in hidden.data["gate"]
    assert hidden.data["gate"]["mean"] == section.data["gate"]["mean"] and hidden.findings == section.findings
