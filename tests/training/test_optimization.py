import pytest
from transformers.trainer_pt_utils import get_parameter_names

from hf_fusion import FusionTrainingArguments
from hf_fusion.training.optimization import parameter_groups


def rates(model, tmp_path, **fields):
    args = FusionTrainingArguments(output_dir=str(tmp_path), learning_rate=1.0, weight_decay=0.1, **fields)
    decay = [name for name in get_parameter_names(model, []) if "bias" not in name and "LayerNorm" not in name]
    found = {}
    for group in parameter_groups(model, args, decay):
        for parameter in group["params"]:
            found[id(parameter)] = (group["lr"], group["weight_decay"])
    return {name: found[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_every_parameter_in_one_group(make_model, tmp_path):
    model = make_model()
    args = FusionTrainingArguments(output_dir=str(tmp_path))
    groups = parameter_groups(model, args, [])
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))


def test_three_rates(make_model, tmp_path):
    found = rates(make_model(), tmp_path, fusion_learning_rate=5.0, loss_weighting_learning_rate=0.3)
    for name, (rate, decay) in found.items():
        expected = 1.0 if ".encoder_" in name else 0.3 if "loss_weighting" in name else 5.0
        assert rate == expected, name
        assert decay == (0.0 if "bias" in name or "LayerNorm" in name or "loss_weighting" in name else 0.1), name


def test_fusion_rate_defaults_to_the_encoders(make_model, tmp_path):
    assert rates(make_model(), tmp_path)["classifier.weight"][0] == 1.0


def test_layer_decay(make_model, tmp_path):
    found = rates(make_model(), tmp_path, layer_decay=0.5, fusion_learning_rate=1.0)  # A: 2 layers, B: 3 layers
    assert found["dyfulm.encoder_a.encoder.layer.1.attention.self.query.weight"][0] == 1.0
    assert found["dyfulm.encoder_a.encoder.layer.0.attention.self.query.weight"][0] == 0.5
    assert found["dyfulm.encoder_a.embeddings.word_embeddings.weight"][0] == 0.25
    assert found["dyfulm.encoder_b.encoder.layer.0.attention.self.query_proj.weight"][0] == 0.25
    assert found["dyfulm.encoder_b.embeddings.word_embeddings.weight"][0] == 0.125
    assert found["classifier.weight"][0] == 1.0


def test_frozen_parameters_stay_out(make_model, tmp_path):
    model = make_model()
    model.dyfulm.encoder_a.requires_grad_(False)
    assert not any("encoder_a" in name for name in rates(model, tmp_path))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"early_stopping_patience": 0}, "patience"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, fields, word):
    with pytest.raises(ValueError, match=word):
        FusionTrainingArguments(output_dir=str(tmp_path), **fields)


def test_dashfusion_with_one_text_encoder(clip_model, tmp_path):
    found = rates(clip_model(), tmp_path, layer_decay=0.5, fusion_learning_rate=5.0)  # BERT: 3 layers
    base = "dashfusion.text_encoder"
    assert found[f"{base}.encoder.layer.2.attention.self.query.weight"][0] == 1.0
    assert found[f"{base}.encoder.layer.0.attention.self.query.weight"][0] == 0.25
    assert found[f"{base}.embeddings.word_embeddings.weight"][0] == 0.125
    for name, (rate, _) in found.items():
        assert rate <= 1 if name.startswith(base) else rate == 5.0, name


def test_dashfusion_with_a_dyfulm_as_text_encoder(clip_model, tmp_path):
    found = rates(clip_model("dyfulm"), tmp_path, layer_decay=0.5, fusion_learning_rate=5.0)
    base = "dashfusion.text_encoder"
    assert found[f"{base}.encoder_a.encoder.layer.1.attention.self.query.weight"][0] == 1.0
    assert found[f"{base}.encoder_b.encoder.layer.0.attention.self.query_proj.weight"][0] == 0.25
    for name, (rate, _) in found.items():
        assert rate <= 1 if ".encoder_a." in name or ".encoder_b." in name else rate == 5.0, name
