"""What can be set for a training run, beyond `transformers.TrainingArguments`."""

import logging
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

logger = logging.getLogger(__name__)


@dataclass
class FusionTrainingArguments(TrainingArguments):
    """
    `TrainingArguments` with three learning rates, length buckets and early stopping.

    Defaults that differ from `TrainingArguments`: evaluate and save every epoch, keep the two newest checkpoints and
    restore the best one at the end, log to TensorBoard. See the fields for what is new.
    """

    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: epoch, steps or no."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: epoch, steps, best or no."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Restore the checkpoint best on validation."})
    logging_steps: float = field(default=20, metadata={"help": "Log every so many steps."})
    report_to: None | str | list[str] = field(default="tensorboard", metadata={"help": "Where logs go, or none."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Resume early stopping and loss means too."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks the columns it needs."})

    fusion_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of fusion and heads; defaults to learning_rate, which is the encoders'."},
    )
    loss_weighting_learning_rate: float = field(
        default=1e-2,
        metadata={"help": "Learning rate of the three uncertainties; they must travel far in few steps."},
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor on the learning rate for each layer below an encoder's last one; 1 = none."},
    )
    bucket_by_length: bool = field(
        default=True,
        metadata={"help": "Put rows of like length into one batch, by the longer tokenisation or longest modality."},
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round padded lengths up: fewer shapes to prepare for, and tensor cores."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations without improvement; needs metric_for_best_model."},
    )

    def __post_init__(self):
        # YAML reads a bare `no` as False
        for name in ("eval_strategy", "save_strategy", "logging_strategy", "report_to"):
            if getattr(self, name) in (False, "False"):
                setattr(self, name, "none" if name == "report_to" else "no")
        if not torch.accelerator.is_available():
            # else bf16 asks for `use_cpu`, and every loader warns about pinned memory
            self.use_cpu, self.dataloader_pin_memory = True, False
        super().__post_init__()
        if self.n_gpu > 1:
            logger.warning("One of %d GPUs is used; `accelerate launch` uses them all.", self.n_gpu)
            self._n_gpu = 1  # instead of `nn.DataParallel`, which cannot gather the outputs of these models
        if self.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` would replace the losses of all tasks by one on the fine classes; leave it 0."
            )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie in (0, 1], got {self.layer_decay}.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(f"`early_stopping_patience` must be at least 1, got {self.early_stopping_patience}.")
