"""From data sets to a checkpoint: the trainer, recipes, runs."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.training.arguments import FusionTrainingArguments
    from hf_fusion.training.functions import evaluate, train
    from hf_fusion.training.result import TrainingResult
    from hf_fusion.training.trainer import FusionTrainer
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "FusionTrainer": "trainer",
            "FusionTrainingArguments": "arguments",
            "TrainingResult": "result",
            "evaluate": "functions",
            "train": "functions",
        },
    )

__all__ = [
    "FusionTrainer",
    "FusionTrainingArguments",
    "TrainingResult",
    "evaluate",
    "train",
]
