"""Fusion models for sentiment analysis from recent papers, on the Hugging Face stack.

Importing the package registers its models with the Auto classes: `AutoModel.from_pretrained` then needs no
`trust_remote_code`. Without torch there are configurations, processors and `hf_fusion.deployment.OnnxFusion`.
"""

from importlib import import_module

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import is_torch_available

from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.versions import check_transformers

check_transformers()

if is_torch_available():
    from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification, DashFusionModel
    from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification, DyFuLMModel
    from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline

__version__ = "0.1.0"

# Names whose modules need more than inference does; loaded when first used.
_LAZY = {
    "FusionCollator": "hf_fusion.data.collator",
    "TrainingResult": "hf_fusion.training.result",
    "evaluate": "hf_fusion.training.functions",
    "load_clips": "hf_fusion.data.clips",
    "load_reviews": "hf_fusion.data.reviews",
    "train": "hf_fusion.training.functions",
    "FusionTrainer": "hf_fusion.training.trainer",
    "FusionTrainingArguments": "hf_fusion.training.arguments",
}

__all__ = [
    "DashFusionConfig",
    "DashFusionFeatureExtractor",
    "DashFusionForSequenceClassification",
    "DashFusionModel",
    "DashFusionProcessor",
    "DyFuLMConfig",
    "DyFuLMForSequenceClassification",
    "DyFuLMModel",
    "DyFuLMProcessor",
    "FusionCollator",
    "FusionSentimentPipeline",
    "FusionTrainer",
    "FusionTrainingArguments",
    "TrainingResult",
    "evaluate",
    "load_clips",
    "load_reviews",
    "train",
]


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(_LAZY))


for _config, _processor in [(DyFuLMConfig, DyFuLMProcessor), (DashFusionConfig, DashFusionProcessor)]:
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoProcessor.register(_config, _processor, exist_ok=True)
    # and, for those who load a checkpoint without the package: write the code next to the weights
    _config.register_for_auto_class()
    _processor.register_for_auto_class("AutoProcessor")

AutoFeatureExtractor.register(DashFusionConfig, DashFusionFeatureExtractor, exist_ok=True)
DashFusionFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

if is_torch_available():
    for _config, _model, _classifier in [
        (DyFuLMConfig, DyFuLMModel, DyFuLMForSequenceClassification),
        (DashFusionConfig, DashFusionModel, DashFusionForSequenceClassification),
    ]:
        AutoModel.register(_config, _model, exist_ok=True)
        AutoModelForSequenceClassification.register(_config, _classifier, exist_ok=True)
        _model.register_for_auto_class("AutoModel")
        _classifier.register_for_auto_class("AutoModelForSequenceClassification")

    PIPELINE_REGISTRY.register_pipeline(
        "fusion-sentiment",
        pipeline_class=FusionSentimentPipeline,
        pt_model=AutoModelForSequenceClassification,
        type="text",
    )
