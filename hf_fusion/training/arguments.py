"""What can be set for a training run, beyond `transformers.TrainingArguments`."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.training.class_weights import parse_class_weights
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import check_choices

logger = logging.getLogger(__name__)

# Fields of `TrainingArguments` with the only value that makes sense for a `FusionTrainer`, and the reason.
REFUSED: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "it would replace the losses of all tasks by one on the fine classes"),
    "remove_unused_columns": (
        False,
        "the collator picks the columns that the model reads, and needs the rows' numbers",
    ),
    "enable_jit_checkpoint": (False, "FusionTrainer saves a checkpoint on SIGTERM by itself"),
    "use_liger_kernel": (False, "Liger has no kernels for these models"),
    "liger_kernel_config": (None, "Liger has no kernels for these models"),
    "use_cache": (False, "it is for models that generate text"),
    "optim_target_modules": (None, "FusionTrainer groups the parameters by `fusion_learning_rate` and `layer_decay`"),
    "eval_do_concat_batches": (True, "metrics are computed over the whole data set"),
    "batch_eval_metrics": (False, "metrics are computed over the whole data set, not as means of batches"),
    "include_for_metrics": ([], "the metrics read predictions and labels alone"),
}


def warn_of_single_process(environment: Mapping[str, str] = os.environ) -> None:
    """Warns where `accelerate launch --cpu` was asked for several processes: it starts a single one, and says nothing.

    Args:
        environment: of this process; accelerate names a main process in it where it was asked for several, and the
            launchers that start them their number.
    """
    asked = environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in environment
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
    if asked and not any(name in environment for name in sizes):
        logger.warning(
            "`accelerate launch --cpu` starts one process, whatever `num_processes` says. For several on a CPU: "
            "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no "
            "SCRIPT --use_cpu true"
        )


@dataclass
class FusionTrainingArguments(TrainingArguments):
    """
    `TrainingArguments` with three learning rates, length buckets and early stopping.

    Defaults that differ from `TrainingArguments`: evaluate and save every epoch, keep the two newest checkpoints and
    restore the best one at the end, log to TensorBoard, push to the Hub at the end. See the fields for what is new.

    Example:

    ```python
    from hf_fusion import FusionTrainingArguments

    args = FusionTrainingArguments("run", learning_rate=2e-5, fusion_learning_rate=1e-3, layer_decay=0.9)
    args.save_strategy  # every epoch; the best checkpoint is restored at the end
    ```
    """

    eval_strategy: Literal["epoch", "steps", "no"] = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: Literal["epoch", "steps", "best", "no"] = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Restore the checkpoint best on validation."})
    logging_steps: float = field(default=20, metadata={"help": "Log every so many steps."})
    report_to: None | str | list[str] = field(default="tensorboard", metadata={"help": "Where logs go, or none."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Resume early stopping and loss means too."}
    )
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = field(
        default="end",
        metadata={
            "help": "What push_to_hub uploads: end, the finished run; the others also what Trainer uploads on the way."
        },
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
    log_gradients_every: int | None = field(
        default=None,
        metadata={
            "help": "Every so many steps log the gradient norm of each loss on the shared parameters, and the cosine "
            "of each pair (negative: they pull against each other); `hf-fusion analyze` judges them. Costs a backward "
            "pass for each loss."
        },
    )
    bucket_by_length: bool = field(
        default=True,
        metadata={"help": "Put rows of like length into one batch, by the longer tokenisation or longest modality."},
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round padded lengths up: fewer shapes to prepare for, and tensor cores."}
    )
    contrastive_partners: Literal["batch", "mined", "encoded"] = field(
        default="batch",
        metadata={
            "help": "DashFusion: which clips the contrastive loss compares. batch: those of the batch as it comes; "
            "mined (experimental): batches are made of clips and their most and least similar ones, of which the loss "
            "takes the nearest that met; encoded: the paper's way, the partners of each clip are encoded once more for "
            "it (slow)."
        },
    )
    mining_embeddings: Literal["bank", "refresh"] | None = field(
        default=None,
        metadata={
            "help": "What partners are mined from: bank (what the training passes of the epoch before saw, every "
            "epoch; the default for mined) or refresh (a pass over the training data every mining_refresh_epochs "
            "epochs; the default for encoded, and the paper's way)."
        },
    )
    mining_refresh_epochs: int = field(default=2, metadata={"help": "Epochs from one refresh to the next."})
    mining_negatives: Literal["nearest", "random"] = field(
        default="nearest", metadata={"help": "nearest: the most and least similar ones; random: any of other classes."}
    )
    mining_rank_range: list[int] | None = field(
        default=None, metadata={"help": "First and last rank of hard negatives; 10 50 leaves out the ten nearest."}
    )
    mining_margin: float | None = field(
        default=None, metadata={"help": "Hard negatives must be less similar than the nearest positive by this."}
    )
    mining_relative_margin: float | None = field(
        default=None, metadata={"help": "The same as a share of the positive's similarity, such as 0.05."}
    )
    mining_index: Literal["exact", "faiss"] = field(
        default="exact", metadata={"help": "How neighbours are searched; faiss (approximate) is for very large data."}
    )
    non_finite_loss: Literal["stop", "skip"] = field(
        default="stop",
        metadata={
            "help": "Where a loss is NaN or infinite: stop and say of which rows, or skip the step and count it "
            "(skipped_steps in the logs)."
        },
    )
    class_weights: list[float] | str | None = field(
        default=None,
        metadata={
            "help": "Weights of the (fine) classes in the loss of training and evaluation: balanced, by the training "
            "labels, or a number for each class, such as '[4, 4, 2, 1, 1]'. Not saved with the model."
        },
    )
    keep_optimizer: bool = field(
        default=False,
        metadata={
            "help": "Recipes: keep the state of the optimizer in the checkpoints of a finished run, twice the size of "
            "the model, so that it can be resumed for more epochs."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations without improvement; needs metric_for_best_model."},
    )

    def __post_init__(self):
        # YAML reads a bare `no` as False
        for name in ("eval_strategy", "save_strategy", "logging_strategy", "report_to"):
            if getattr(self, name) in (False, "False", "no"):
                setattr(self, name, "none" if name == "report_to" else "no")
        check_choices(self)
        self._check_inherited()
        self._set_direction()
        if not torch.accelerator.is_available():
            # else bf16 asks for `use_cpu`, and every loader warns about pinned memory
            self.use_cpu, self.dataloader_pin_memory = True, False
        super().__post_init__()
        warn_of_single_process()
        if self.n_gpu > 1:
            logger.warning("One of %d GPUs is used; `accelerate launch` uses them all.", self.n_gpu)
            self._n_gpu = 1  # instead of `nn.DataParallel`, which cannot gather the outputs of these models
        self.class_weights = parse_class_weights(self.class_weights)
        for name in ("log_gradients_every", "mining_refresh_epochs", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie in (0, 1], got {self.layer_decay}.")
        if self.early_stopping_patience is not None and self.metric_for_best_model is None:
            raise ValueError("`early_stopping_patience` needs `metric_for_best_model`, or `load_best_model_at_end`.")
        self._check_partners()

    def _check_inherited(self):
        """Refuses values of inherited fields that would do nothing, or do harm, in a [`FusionTrainer`]."""
        for name, (accepted, reason) in REFUSED.items():
            if (value := getattr(self, name, accepted)) != accepted:
                raise ValueError(f"`{name}` must stay {accepted!r}, got {value!r:.100}: {reason}.")
        strategy = self.train_sampling_strategy
        if strategy not in ("random", "sequential"):
            raise ValueError(
                f"`train_sampling_strategy` must be random or sequential, got {strategy!r:.100}: `bucket_by_length` "
                "puts rows of like length into one batch."
            )
        if strategy == "sequential" and (self.bucket_by_length or self.contrastive_partners != "batch"):
            raise ValueError(
                "`train_sampling_strategy` sequential does nothing with bucket_by_length (set it to false), nor with "
                "mined or encoded partners."
            )

    def _set_direction(self):
        """Sets what [`METRICS`] says of `metric_for_best_model`: `Trainer` takes all but losses for better if greater.

        `greater_is_better` decides for a metric of one's own; schedulers that watch the metric follow.
        """
        metric = self.metric_for_best_model or "loss"
        try:
            greater = not lower_is_better(metric)
        except RecipeError as error:
            if self.greater_is_better is None:
                raise RecipeError(
                    f"`metric_for_best_model`: {error} For one of your own set `greater_is_better`."
                ) from error
            greater = self.greater_is_better
        if self.greater_is_better not in (None, greater):
            raise ValueError(
                f"`greater_is_better` {self.greater_is_better} contradicts the metric {metric}, of which "
                f"{'more' if greater else 'less'} is better: leave it out."
            )
        if self.metric_for_best_model is not None:
            self.greater_is_better = greater
        if self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):
            options = self.lr_scheduler_kwargs or {}
            if isinstance(options, dict):
                self.lr_scheduler_kwargs = {"mode": "max" if greater else "min", **options}

    def _check_partners(self):
        """Refuses fields that mined or encoded partners, or those of the batch, leave without effect."""
        mining = [item for item in fields(self) if item.name.startswith("mining_")]
        idle = [item.name for item in mining if getattr(self, item.name) != item.default]
        if self.contrastive_partners == "batch":
            if idle:
                raise ValueError(f"`{idle[0]}` does nothing with contrastive_partners batch; choose mined or encoded.")
            return
        if self.dataloader_drop_last:
            raise ValueError("`dataloader_drop_last` does nothing with mined or encoded partners: no batch is short.")
        if self.accelerator_config.split_batches or self.accelerator_config.dispatch_batches:
            raise ValueError(
                "`accelerator_config` split_batches and dispatch_batches do nothing with mined or encoded partners: "
                "each process makes its own batches."
            )
