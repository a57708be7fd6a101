"""Tiny checkpoints of the page, with random weights, which all its tests share."""

import pytest
import torch
from conftest import encoder_config, far_from_the_start

from hf_fusion import (
    DashFusionConfig,
    DashFusionFeatureExtractor,
    DashFusionForSequenceClassification,
    DashFusionProcessor,
    DyFuLMConfig,
    DyFuLMForSequenceClassification,
    DyFuLMProcessor,
    FusionSentimentPipeline,
)
from hf_fusion.data.synthetic_clips import AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE
from hf_fusion.deployment.demo.checkpoints import DemoModel


def review_pipeline(bpe, unigram, seed=1, **fields):
    torch.manual_seed(seed)
    encoders = encoder_config("roberta", num_hidden_layers=1), encoder_config("bert", num_hidden_layers=1)
    config = DyFuLMConfig(*encoders, layer_fusion_hidden_size=8, class_values=[1, 2, 3, 4, 5], **fields)
    model = far_from_the_start(DyFuLMForSequenceClassification(config))
    return FusionSentimentPipeline(model, processor=DyFuLMProcessor(bpe, unigram, max_length=64), device="cpu")


@pytest.fixture(scope="session")
def review_model(bpe, unigram):
    """A DyFuLM."""
    return DemoModel("acme/reviews", review_pipeline(bpe, unigram))


@pytest.fixture(scope="session")
def other_model(bpe, unigram):
    """A second one, which is always unsure. Its name is hostile."""
    return DemoModel("<b>other</b>", review_pipeline(bpe, unigram, seed=2, num_coarse_labels=0, abstain_below=0.99))


@pytest.fixture(scope="session")
def spoken_model(wordpiece):
    """A DashFusion for synthetic-clips."""
    torch.manual_seed(1)
    config = DashFusionConfig(
        encoder_config("bert", num_hidden_layers=1), audio_feature_size=AUDIO_FEATURE_SIZE,
        vision_feature_size=VISION_FEATURE_SIZE, max_audio_length=60, max_vision_length=40, hidden_size=16,
        num_attention_heads=4, alignment_head_size=4, num_encoder_layers=1, num_bottleneck_tokens=4,
    )  # fmt: skip
    model = far_from_the_start(DashFusionForSequenceClassification(config))
    with torch.no_grad():
        model.classifier[-1].weight.mul_(0.1)  # scores of a few units, as labels are
    extractor = DashFusionFeatureExtractor(AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE, 60, 40)
    processor = DashFusionProcessor(wordpiece, extractor, max_length=40)
    return DemoModel("acme/clips", FusionSentimentPipeline(model, processor=processor, device="cpu"))


@pytest.fixture(scope="session")
def recording_model(media_pipeline, media_checkpoint):
    """A DashFusion that reads recordings."""
    return DemoModel("acme/talks", media_pipeline, str(media_checkpoint))
