"""Fusion models for sentiment analysis from recent papers, on the Hugging Face stack.

Importing the package registers its models with the Auto classes: `AutoModel.from_pretrained` then needs no
`trust_remote_code`. Without torch there are configurations, processors and `hf_fusion.deployment.OnnxFusion`.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names
from hf_fusion.utils.versions import check_transformers

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hf_fusion.data.clips import load_clips
    from hf_fusion.data.collator import FusionCollator
    from hf_fusion.data.reviews import load_reviews
    from hf_fusion.models.configuration_dashfusion import DashFusionConfig
    from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
    from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
    from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification, DashFusionModel
    from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification, DyFuLMModel
    from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
    from hf_fusion.models.processing_dashfusion import DashFusionProcessor
    from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
    from hf_fusion.training.arguments import FusionTrainingArguments
    from hf_fusion.training.functions import evaluate, train
    from hf_fusion.training.result import TrainingResult
    from hf_fusion.training.trainer import FusionTrainer
else:
    # Each module is imported when a name of it is first used.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DashFusionConfig": "models.configuration_dashfusion",
            "DashFusionFeatureExtractor": "models.feature_extraction_dashfusion",
            "DashFusionForSequenceClassification": "models.modeling_dashfusion",
            "DashFusionModel": "models.modeling_dashfusion",
            "DashFusionProcessor": "models.processing_dashfusion",
            "DyFuLMConfig": "models.configuration_dyfulm",
            "DyFuLMForSequenceClassification": "models.modeling_dyfulm",
            "DyFuLMModel": "models.modeling_dyfulm",
            "DyFuLMProcessor": "models.processing_dyfulm",
            "FusionCollator": "data.collator",
            "FusionSentimentPipeline": "models.pipeline_fusion_sentiment",
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

check_transformers()


def _is_command() -> bool:
    """Whether this process is `hf-fusion ...` or `python -m hf_fusion...`."""
    if sys.argv[:1] == ["-m"]:  # Python is looking for the module that it is to run
        words = sys.orig_argv
        return "-m" in words and words[words.index("-m") + 1].partition(".")[0] == __name__
    return Path(*sys.argv[:1]).name in ("hf-fusion", "hf-fusion.exe")


# A command imports the models, which registers them, when it needs them: `hf-fusion --help` does not wait for torch.
if not _is_command():
    import_module(f"{__name__}.models")
