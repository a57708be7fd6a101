"""What travels with a checkpoint, and nothing else; importing it registers the models with the Auto classes.

Every other module here imports only siblings, by one dot.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import is_torch_available

from .configuration_dashfusion import DashFusionConfig
from .configuration_dyfulm import DyFuLMConfig
from .feature_extraction_dashfusion import DashFusionFeatureExtractor
from .processing_dashfusion import DashFusionProcessor
from .processing_dyfulm import DyFuLMProcessor

for _config, _processor in [(DyFuLMConfig, DyFuLMProcessor), (DashFusionConfig, DashFusionProcessor)]:
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoProcessor.register(_config, _processor, exist_ok=True)
    # and, for those who load a checkpoint without the package: write the code next to the weights
    _config.register_for_auto_class()
    _processor.register_for_auto_class("AutoProcessor")

AutoFeatureExtractor.register(DashFusionConfig, DashFusionFeatureExtractor, exist_ok=True)
DashFusionFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")

if is_torch_available():
    from .modeling_dashfusion import DashFusionForSequenceClassification, DashFusionModel
    from .modeling_dyfulm import DyFuLMForSequenceClassification, DyFuLMModel
    from .pipeline_fusion_sentiment import FusionSentimentPipeline

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
