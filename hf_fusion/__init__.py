"""Fusion models for sentiment analysis from recent papers, on the Hugging Face stack.

Importing the package registers its models with the Auto classes: `AutoModel.from_pretrained` then needs no
`trust_remote_code`. Without torch there are configurations, processors and `hf_fusion.deployment.OnnxFusion`.
"""

import sys
from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"

# Where the public names are; each module is imported when a name of it is first used.
_MODULES = {
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
}

__all__ = list(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES})


def _is_command() -> bool:
    """Whether this process is `hf-fusion ...` or `python -m hf_fusion...`."""
    if sys.argv[:1] == ["-m"]:  # Python is looking for the module that it is to run
        words = sys.orig_argv
        return "-m" in words and words[words.index("-m") + 1].partition(".")[0] == __name__
    return Path(*sys.argv[:1]).name in ("hf-fusion", "hf-fusion.exe")


# A command imports the models, which registers them, when it needs them: `hf-fusion --help` does not wait for torch.
if not _is_command():
    import_module(f"{__name__}.models")
