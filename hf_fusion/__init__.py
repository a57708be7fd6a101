"""Fusion models for sentiment analysis from recent papers, on the Hugging Face stack.

Importing the package registers its models with the Auto classes: `AutoModel.from_pretrained` then needs no
`trust_remote_code`. Without torch there are configurations, processors and `hf_fusion.deployment.OnnxFusion`.
"""

from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import is_torch_available

from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.lazy import lazy_names
from hf_fusion.utils.versions import check_transformers

check_transformers()

if is_torch_available():
    from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification, DashFusionModel
    from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification, DyFuLMModel
    from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hf_fusion.data.clips import load_clips
    from hf_fusion.data.collator import FusionCollator
    from hf_fusion.data.reviews import load_reviews
    from hf_fusion.training.arguments import FusionTrainingArguments
    from hf_fusion.training.functions import evaluate, train
    from hf_fusion.training.result import TrainingResult
    from hf_fusion.training.trainer import FusionTrainer
else:
    # Names whose modules need more than inference does; imported when they are first used.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "FusionCollator": "data.collator",
            "FusionTrainer": "training.trainer",
            "FusionTrainingArguments": "training.arguments",
            "TrainingResult": "training.result",
            "evaluate": "training.functions",
            "load_clips": "data.clips",
            "load_reviews": "data.reviews",
            "train": "training.functions",
        },
    )

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
