import pytest
from conftest import encoder_config
from transformers import AutoConfig, BertConfig, DebertaV2Config, RobertaConfig

from hf_fusion import DashFusionConfig, DyFuLMConfig
from hf_fusion.models.configuration_common import fine_to_coarse
from hf_fusion.models.configuration_dyfulm import COARSE_LABELS, FINE_LABELS


def test_defaults_are_the_papers_pair():
    config = DyFuLMConfig()
    assert isinstance(config.encoder_a_config, RobertaConfig)
    assert isinstance(config.encoder_b_config, DebertaV2Config)
    assert config.fusion_hidden_size == config.hidden_size == config.encoder_a_config.hidden_size
    assert (config.num_labels, config.num_coarse_labels) == (5, 3)
    assert config.id2label[4] == "very positive" and config.coarse_id2label[1] == "neutral"


def test_encoder_left_out_has_no_configuration():
    assert DyFuLMConfig(cross_fusion="a").encoder_b_config is None
    assert DyFuLMConfig(cross_fusion="b").encoder_a_config is None
    assert list(DyFuLMConfig(cross_fusion="b").encoder_configs) == ["b"]


def test_sub_configs_may_be_of_any_kind():
    config = DyFuLMConfig(encoder_a_config=BertConfig(hidden_size=36), encoder_b_config={"model_type": "electra"})
    assert config.fusion_hidden_size == 36
    assert config.encoder_b_config.model_type == "electra"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layer_fusion": "max"}, ["layer_fusion", "'max'", "'bilstm'"]),
        ({"cross_fusion": "c"}, ["cross_fusion", "'c'", "'gate'"]),
        ({"gate_level": "token"}, ["gate_level", "'token'", "'span'"]),
        ({"pooling": "max"}, ["pooling", "'max'", "'first'"]),
        ({"pooling": "first"}, ["pooling='first'", "cross_fusion", "'gate'"]),
        ({"loss_weighting": "auto"}, ["loss_weighting", "'auto'", "'dwa'"]),
        ({"loss_weights": (1, 1)}, ["loss_weights", "three", "(1, 1)"]),
        ({"loss_weights": (1, 1, -1)}, ["loss_weights", "at least 0"]),
        ({"intensity_range": (1, 0)}, ["intensity_range", "(1, 0)"]),
        ({"num_labels": 1}, ["num_labels", "at least 2"]),
        ({"num_labels": 0}, ["number of labels", "from 1"]),
        ({"num_coarse_labels": 1}, ["num_coarse_labels", "at least 2", "or 0"]),
        ({"coarse_starts": [0, 2]}, ["coarse_starts", "each of 3", "[0, 2]"]),
        ({"coarse_starts": [0, 2, 5]}, ["coarse_starts", "below 5"]),
        ({"coarse_starts": [1, 2, 3]}, ["coarse_starts", "from 0"]),
        ({"num_coarse_labels": 0, "coarse_starts": []}, ["coarse_starts", "each of 0"]),
        ({"num_coarse_labels": 2, "coarse_id2label": {0: "x"}}, ["coarse_id2label", "0 to 1"]),
        ({"fusion_hidden_size": 0}, ["fusion_hidden_size", "positive"]),
        ({"dwa_temperature": 0}, ["dwa_temperature", "above 0"]),
        ({"classifier_dropout": 1.0}, ["classifier_dropout", "[0, 1)"]),
        ({"fine_loss": "mse"}, ["fine_loss", "'mse'", "'corn'"]),
        ({"focal_gamma": -1}, ["focal_gamma", "at least 0", "-1"]),
        ({"focal_gamma": "2"}, ["focal_gamma", "'2'"]),
        ({"focal_gamma": 2, "fine_loss": "corn"}, ["focal_gamma", "`fine_loss` is corn", "cross_entropy"]),
        ({"class_values": [1, 2, 3]}, ["class_values", "each of the 5 classes", "[1, 2, 3]"]),
        ({"class_values": [5, 4, 3, 2, 1]}, ["class_values", "ascending"]),
        ({"class_values": [1, 2, 3, 4, float("inf")]}, ["class_values", "a number for each"]),
        ({"class_values": 3}, ["class_values", "got 3"]),
    ],
)
def test_refuses_values_that_make_no_sense(fields, words):
    with pytest.raises(ValueError) as error:
        DyFuLMConfig(**fields)
    for word in words:
        assert word in str(error.value)


def test_does_not_tell_where_encoders_were_loaded_from(tmp_path):
    """A published configuration holds no folder of the machine that it was trained on."""
    encoder_config("bert").save_pretrained(tmp_path / "encoder")
    encoder = AutoConfig.from_pretrained(tmp_path / "encoder")
    encoder._name_or_path = str(tmp_path / "encoder")
    config = DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder.to_dict())
    for whole in (config, DashFusionConfig(text_config=config)):
        whole.save_pretrained(tmp_path / "saved")
        assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()


@pytest.mark.parametrize("num_coarse", [0, 3])
@pytest.mark.parametrize("has_intensity", [True, False])
def test_heads_are_those_of_the_model(num_coarse, has_intensity):
    config = DyFuLMConfig(num_coarse_labels=num_coarse, has_intensity=has_intensity)
    expected = ["logits", *["coarse_logits"] * bool(num_coarse), *["intensity"] * has_intensity]
    assert list(config.heads) == expected and list(DyFuLMConfig.heads) == ["logits", "coarse_logits", "intensity"]


def test_other_classes_have_another_mapping():
    config = DyFuLMConfig(coarse_starts=[0, 1, 4])
    config.num_labels = 7
    assert config.coarse_starts is None
    saved = DyFuLMConfig(coarse_starts=[0, 1, 4]).to_dict()
    assert DyFuLMConfig.from_dict(saved).coarse_starts == [0, 1, 4]
    assert DyFuLMConfig.from_dict(saved, num_labels=7).coarse_starts is None
    assert DyFuLMConfig.from_dict(saved, num_coarse_labels=0).coarse_starts is None


@pytest.mark.parametrize(
    ("fine", "coarse", "fields", "expected"),
    [
        (FINE_LABELS, COARSE_LABELS, {}, [0, 0, 1, 2, 2]),
        (FINE_LABELS, COARSE_LABELS, {"coarse_starts": [0, 1, 4]}, [0, 1, 1, 1, 2]),
        (["bad", "ok", "good"], ["bad", "ok", "good"], {}, [0, 1, 2]),
        (["Very_Bad", "bad", "good"], ["bad", "good"], {}, [0, 0, 1]),
        (["bad", "ok", "good"], ["negative", "positive"], {}, None),
        (["bad", "good", "very good"], ["bad", "ok", "good"], {}, None),
        ([f"{i} stars" for i in range(10)], COARSE_LABELS, {"coarse_starts": [0, 4, 6]}, [0] * 4 + [1] * 2 + [2] * 4),
    ],
)
def test_coarse_classes_of_fine_ones(fine, coarse, fields, expected):
    names = {"id2label": dict(enumerate(fine)), "coarse_id2label": dict(enumerate(coarse))}
    assert fine_to_coarse(DyFuLMConfig(**names, **fields)) == expected
