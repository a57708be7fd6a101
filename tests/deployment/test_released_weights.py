"""Agreement with numbers that the DashFusion authors' own code computed, at random weights."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel
from transformers.modeling_outputs import BaseModelOutput

from hf_fusion.deployment.released_weights import (
    ConversionError,
    convert_released_weights,
    load_released_weights,
    released_text_config,
)
from hf_fusion.evaluation.metrics import SentimentRegressionMetrics
from hf_fusion.models.modeling_losses import encoded_partner_loss, nt_xent

REFERENCE = Path(__file__).parents[1] / "fixtures/dashfusion_reference.safetensors"
TEXT_CONFIG = BertConfig(
    hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10
)  # the reference has given text states in the place of BERT's
close = {"atol": 1e-5, "rtol": 0}


class GivenStates(torch.nn.Module):
    """Stands in for the text encoder."""

    def __init__(self, states):
        super().__init__()
        self.states = states

    def forward(self, **inputs):
        return BaseModelOutput(last_hidden_state=self.states)


@pytest.fixture(scope="module")
def reference():
    return load_file(REFERENCE)


@pytest.fixture(scope="module")
def released(reference):
    return {name.removeprefix("weights."): value for name, value in reference.items() if name.startswith("weights.")}


def inputs_of(reference, kind):
    masks = {name: 1 - reference[f"{kind}.{name}_padding_mask"][:, 1:].long() for name in ("audio", "vision")}
    return {
        "input_ids": torch.ones_like(reference[f"{kind}.text_mask"]),
        "attention_mask": reference[f"{kind}.text_mask"],
        "audio_features": reference[f"{kind}.audio"],
        "audio_attention_mask": masks["audio"],
        "vision_features": reference[f"{kind}.vision"],
        "vision_attention_mask": masks["vision"],
    }


def model_for(reference, released, kind, order):
    model = convert_released_weights(released, TEXT_CONFIG, exchanged=order == "released")
    model.dashfusion.text_encoder = GivenStates(reference[f"{kind}.text_hidden"])
    return model


@pytest.mark.parametrize("order", ["released", "named"])
@torch.no_grad()
def test_without_padding_everything_agrees(reference, released, order):
    model, inputs = model_for(reference, released, "full", order), inputs_of(reference, "full")
    base, outputs = model.dashfusion(**inputs), model(**inputs)
    streams = {
        "text": model.dashfusion.text_projector(reference["full.text_hidden"]),
        "audio": model.dashfusion.audio_encoder(inputs["audio_features"], inputs["audio_attention_mask"].bool())[0],
        "vision": model.dashfusion.vision_encoder(inputs["vision_features"], inputs["vision_attention_mask"].bool())[0],
    }
    for name, states in streams.items():
        torch.testing.assert_close(states, reference[f"full.{name}_sequence"], **close)
        torch.testing.assert_close(base[f"{name}_embeds"], reference[f"full.{name}_pooled"], **close)
    torch.testing.assert_close(base.last_hidden_state, reference["full.aligned"], **close)
    fused = reference[f"full.fused_{order}_order"]
    if order == "released":  # the head of the released code reads [bottleneck, text, vision, audio]
        bottleneck, text, vision, audio = fused.chunk(4, dim=1)
        fused = torch.cat([bottleneck, text, audio, vision], dim=1)
    torch.testing.assert_close(base.pooler_output, fused, **close)
    torch.testing.assert_close(outputs.logits[:, 0], reference[f"full.prediction_{order}_order"], **close)


@torch.no_grad()
def test_with_padding_the_encoders_agree_where_it_is_real(reference, released):
    model, inputs = model_for(reference, released, "padded", "released"), inputs_of(reference, "padded")
    base = model.dashfusion(**inputs)
    for name in ("text", "audio", "vision"):
        torch.testing.assert_close(base[f"{name}_embeds"], reference[f"padded.{name}_pooled"], **close)
    for name in ("audio", "vision"):
        encoder = getattr(model.dashfusion, f"{name}_encoder")
        states, mask = encoder(inputs[f"{name}_features"], inputs[f"{name}_attention_mask"].bool())
        torch.testing.assert_close(states[mask], reference[f"padded.{name}_sequence"][mask], **close)
        assert not states[~mask].any(), "padded positions are zero"


@pytest.mark.parametrize("order", ["released", "named"])
@torch.no_grad()
def test_padding_does_not_take_part(reference, released, order):
    """Unlike the released code, whose own padded predictions must not be met."""
    model, inputs = model_for(reference, released, "padded", order), inputs_of(reference, "padded")
    together = model(**inputs).logits[:, 0]
    assert (together - reference[f"padded.prediction_{order}_order"]).abs().max() > 1e-2
    for i in range(3):
        alone, lengths = {}, {}
        for name, mask in (("input_ids", "attention_mask"), ("audio_features", "audio_attention_mask"),
                           ("vision_features", "vision_attention_mask")):  # fmt: skip
            lengths[name] = int(inputs[mask][i].sum())
            alone |= {key: inputs[key][i : i + 1, : lengths[name]] for key in (name, mask)}
        model.dashfusion.text_encoder = GivenStates(reference["padded.text_hidden"][i : i + 1, : lengths["input_ids"]])
        torch.testing.assert_close(model(**alone).logits[0, 0], together[i], **close)


def test_contrastive_loss(reference):
    features = torch.nn.functional.normalize(reference["contrastive.features"], dim=-1)
    positives, negatives = torch.zeros(2, 28, 28, dtype=torch.bool)
    positives[tuple(reference["contrastive.positive_pairs"])] = True
    negatives[tuple(reference["contrastive.negative_pairs"])] = True
    loss = nt_xent(features @ features.T, positives, negatives, 0.5)
    torch.testing.assert_close(loss, reference["contrastive.loss"][0], **close)


def test_contrastive_loss_of_encoded_partners(reference):
    kinds = ("text", "audio", "vision", "aligned")
    embeds = dict(zip(kinds, reference["contrastive.features"].unflatten(0, (4, 7)), strict=True))
    present = {name: torch.ones(7, dtype=torch.bool) for name in kinds}
    partner_mask = torch.ones(1, 6, dtype=torch.bool)
    loss = encoded_partner_loss(embeds, present, partner_mask, 2, ("text",), True, 0.5)
    torch.testing.assert_close(loss, reference["contrastive.loss"][0], **close)


NAMES = {
    "mosi": {"acc2_has0": "Has0_acc_2", "f1_has0": "Has0_F1_score", "acc2_non0": "Non0_acc_2",
             "f1_non0": "Non0_F1_score", "acc5": "Mult_acc_5", "acc7": "Mult_acc_7", "mae": "MAE", "corr": "Corr"},
    "sims": {"acc2_has0": "Mult_acc_2", "acc3": "Mult_acc_3", "acc5": "Mult_acc_5", "f1_has0": "F1_score",
             "mae": "MAE", "corr": "Corr"},
}  # fmt: skip


@pytest.mark.parametrize("dataset", ["mosi", "sims"])
def test_metrics(reference, dataset):
    with safe_open(REFERENCE, "pt") as file:
        expected = json.loads(file.metadata()["json"])[f"metrics_{dataset}"]
    found = SentimentRegressionMetrics(dataset).compute(
        predictions=reference[f"metrics.{dataset}.predictions"].tolist(),
        references=reference[f"metrics.{dataset}.labels"].tolist(),
    )
    assert {NAMES[dataset][name]: round(value, 4) for name, value in found.items()} == {
        name: round(value, 4) for name, value in expected.items()
    }


class TestWeights:
    def test_of_the_text_encoder(self, released):
        """Their BERT lies under `text_encoder.extractor.`; its pooler is not used."""
        torch.manual_seed(0)
        bert = BertModel(TEXT_CONFIG)
        weights = {f"module.{name}": value for name, value in released.items()}
        weights |= {f"module.text_encoder.extractor.{name}": value for name, value in bert.state_dict().items()}
        model = convert_released_weights(weights, TEXT_CONFIG)
        ours = model.dashfusion.text_encoder.state_dict()
        assert all(torch.equal(ours[name], bert.state_dict()[name]) for name in ours)

    def test_text_configuration_from_the_weights(self):
        config = BertConfig(vocab_size=33, hidden_size=128, num_hidden_layers=3, num_attention_heads=2,
                            intermediate_size=64, max_position_embeddings=40)  # fmt: skip
        weights = {f"text_encoder.extractor.{name}": value for name, value in BertModel(config).state_dict().items()}
        found = released_text_config(weights)
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                     "max_position_embeddings", "type_vocab_size"):  # fmt: skip
            assert getattr(found, name) == getattr(config, name), name
        with pytest.raises(ConversionError, match="no weights of a text encoder"):
            released_text_config({})

    def test_sizes_are_read_from_the_weights(self, released):
        config = convert_released_weights(released, TEXT_CONFIG).config
        assert (config.hidden_size, config.audio_feature_size, config.vision_feature_size) == (32, 5, 20)
        assert (config.max_audio_length, config.max_vision_length) == (17, 13)
        assert (config.num_encoder_layers, config.num_fusion_layers, config.alignment_head_size) == (2, 2, 32)
        assert config.intermediate_size == 64 and config.num_labels == 1

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda w: w.pop("HBF.encoder_t.1.layers.0.0.norm.bias"), "No weights for 1 parameters, such as .*text"),
            (lambda w: w.update({"HBF.more.weight": torch.ones(1)}), "Unknown parameter HBF.more.weight"),
            (
                lambda w: w.update({"classifier.MLP.0.weight": torch.ones(64, 100)}),
                "expected .64, 128., found",
            ),
            (lambda w: w.pop("text_projector.MLP.2.weight"), "No weights named 'text_projector.MLP.2.weight'"),
            (lambda w: w.update({"classifier.MLP.6.bias": torch.ones(1)}), "are unknown to the model"),
        ],
        ids=["missing", "unknown", "shape", "essential", "more layers"],
    )
    def test_of_another_model(self, released, change, words):
        weights = dict(released)
        change(weights)
        with pytest.raises(ConversionError, match=words):
            convert_released_weights(weights, TEXT_CONFIG)


class TestFiles:
    @pytest.mark.parametrize("kind", ["pt", "wrapped.pth", "safetensors"])
    def test_kinds(self, released, tmp_path, kind):
        path = str(tmp_path / f"weights.{kind}")
        if kind == "safetensors":
            save_file({name: value.contiguous().clone() for name, value in released.items()}, path)
        else:
            torch.save({"state_dict": released, "epoch": 3} if "wrapped" in kind else released, path)
        loaded = load_released_weights(path)
        assert loaded.keys() == released.keys()
        assert all(torch.equal(loaded[name], released[name]) for name in released)

    def test_nothing_is_executed(self, tmp_path):
        canary = tmp_path / "canary"

        class Hostile:
            def __reduce__(self):
                return Path.touch, (canary,)

        for name, save in (("a.pt", lambda path: torch.save({"x": Hostile()}, path)),
                           ("b.pt", lambda path: path.write_bytes(pickle.dumps(Hostile())))):  # fmt: skip
            save(tmp_path / name)
            with pytest.raises(ConversionError, match="not a file of plain weights"):
                load_released_weights(str(tmp_path / name))
        assert not canary.exists()

    def test_files_that_are_no_state_dict(self, tmp_path):
        torch.save([1, 2], tmp_path / "list.pt")
        with pytest.raises(ConversionError, match=r"expected a state dict.*got list"):
            load_released_weights(str(tmp_path / "list.pt"))
        with pytest.raises(FileNotFoundError):
            load_released_weights(str(tmp_path / "nowhere.pt"))
