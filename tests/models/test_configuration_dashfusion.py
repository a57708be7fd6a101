import pytest
from transformers import BertConfig, RobertaConfig

from hf_fusion import DashFusionConfig, DyFuLMConfig


def test_defaults_are_the_papers_for_mosi():
    config = DashFusionConfig()
    assert isinstance(config.text_config, BertConfig) and config.text_config.hidden_size == 768
    assert (config.audio_feature_size, config.max_audio_length) == (5, 375)
    assert (config.vision_feature_size, config.max_vision_length) == (20, 500)
    assert (config.hidden_size, config.intermediate_size, config.num_attention_heads) == (128, 256, 8)
    assert (config.num_encoder_layers, config.num_fusion_layers, config.num_bottleneck_tokens) == (2, 2, 8)
    assert (config.contrastive_weight, config.temperature, config.num_labels) == (0.2, 0.5, 1)
    assert config.anchors == ("text",)


def test_other_settings_of_text_generation_are_still_refused(tmp_path):
    config = DashFusionConfig()
    config.top_k = 5
    with pytest.raises(ValueError, match="top_k"):
        config.save_pretrained(tmp_path)


def test_the_text_configuration_is_a_copy():
    text_config = RobertaConfig(hidden_size=48)
    config = DashFusionConfig(text_config)
    text_config.hidden_size = 96
    assert config.text_config.hidden_size == 48


def test_the_vocabulary_is_the_text_encoders():
    assert DashFusionConfig(RobertaConfig(vocab_size=77)).get_text_config().vocab_size == 77
    dyfulm = DyFuLMConfig(encoder_a_config=RobertaConfig(vocab_size=55))
    assert DashFusionConfig(dyfulm).get_text_config().vocab_size == 55


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fusion": "sum"}, "`fusion` must be one of 'hbf', 'concat_attention', 'concat', got 'sum'"),
        ({"anchor": "video"}, "`anchor` must be one of"),
        ({"hidden_size": 100}, r"multiple of `num_attention_heads` \(8\)"),
        ({"audio_feature_size": 0}, "`audio_feature_size` must be a positive integer, got 0"),
        ({"num_fusion_layers": 1.5}, "`num_fusion_layers` must be a positive integer, got 1.5"),
        ({"label_range": (1, -1)}, "`label_range` must be"),
        ({"temperature": 0}, "`temperature` must be above 0"),
        ({"contrastive_weight": -1}, "`contrastive_weight` must be at least 0"),
        ({"modality_dropout": 1.0}, r"`modality_dropout` must lie in \[0, 1\)"),
        ({"num_hard_negatives": 0, "num_easy_negatives": 0}, "not both 0"),
        ({"problem_type": "ranking"}, "problem_type"),
        ({"problem_type": "regression", "num_labels": 2}, "Regression predicts one score"),
        ({"problem_type": "single_label_classification"}, "num_labels"),
        ({"problem_type": "multi_label_classification"}, "needs `num_labels` of at least 2"),
        ({"modalities": ()}, "`modalities` must be some of text, audio, vision"),
        ({"modalities": ("text", "smell")}, "`modalities` must be one of .*got 'smell'"),
        ({"modalities": ("text", "text")}, "each once"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_impossible_values(fields, words):
    with pytest.raises(ValueError, match=words):
        DashFusionConfig(**fields)
