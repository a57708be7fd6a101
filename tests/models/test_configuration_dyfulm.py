import pytest
from conftest import encoder_config
from transformers import AutoConfig, BertConfig, DebertaV2Config, RobertaConfig

from hf_fusion import DashFusionConfig, DyFuLMConfig


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
