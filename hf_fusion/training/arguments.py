"""The arguments of a training, in addition to those of `transformers.TrainingArguments`."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.training.class_weights import SETTINGS, parse_class_weights
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import check_choices
from hf_fusion.utils.languages import check_language

logger = logging.getLogger(__name__)

# Fields of `TrainingArguments` with the only value that works in a `FusionTrainer`, and the reason.
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
    """Warns if `accelerate launch --cpu` was called with several processes: it silently starts a single one.

    Args:
        environment (`Mapping[str, str]`): the environment variables of this process. accelerate sets the address of the
            main process if several processes were requested; launchers that start several also set their number.
    """
    several_requested = environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in environment
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
    if several_requested and not any(name in environment for name in sizes):
        logger.warning(
            "`accelerate launch --cpu` starts one process and ignores `num_processes`. For several on a CPU: "
            "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no "
            "SCRIPT --use_cpu true"
        )


@dataclass
class FusionTrainingArguments(TrainingArguments):
    """
    `TrainingArguments` with three learning rates, length buckets and early stopping.

    Defaults that differ from `TrainingArguments`: evaluate and save every epoch, keep the two newest checkpoints and
    restore the best one at the end, log to TensorBoard, push to the Hub at the end.

    Example:

    ```python
    from hf_fusion import FusionTrainingArguments

    args = FusionTrainingArguments("run", learning_rate=2e-5, fusion_learning_rate=1e-3, layer_decay=0.9)
    args.save_strategy  # every epoch; the best checkpoint is restored at the end
    ```
    """

    eval_strategy: Literal["epoch", "steps", "no"] = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: Literal["epoch", "steps", "best", "no"] = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep in addition to the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Restore the checkpoint best on validation."})
    logging_steps: float = field(default=20, metadata={"help": "Steps between two logs."})
    report_to: None | str | list[str] = field(default="tensorboard", metadata={"help": "Where to log, or none."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Also resume early stopping and loss means."}
    )
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = field(
        default="end",
        metadata={
            "help": "Uploads of push_to_hub: end, the finished run; the others also upload checkpoints as Trainer does."
        },
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks the columns it needs."})

    fusion_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of fusion and heads; by default learning_rate, that of the encoders."},
    )
    loss_weighting_learning_rate: float = field(
        default=1e-2,
        metadata={"help": "Learning rate of the three loss uncertainties, which must change much in few steps."},
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor of the learning rate per layer below the last one of an encoder; 1 = none."},
    )
    log_gradients_every: int | None = field(
        default=None,
        metadata={
            "help": "Steps between two logs of the gradient norm of each loss on the shared parameters, and of the "
            "cosine of each pair (negative: they conflict); `hf-fusion analyze` checks them. Costs a backward pass "
            "per loss."
        },
    )
    bucket_by_length: bool = field(
        default=True,
        metadata={"help": "Batch rows of similar length, by the longer tokenisation or the longest modality."},
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round padded lengths up to a multiple: fewer shapes, and use of tensor cores."}
    )
    contrastive_partners: Literal["batch", "mined", "encoded"] = field(
        default="batch",
        metadata={
            "help": "DashFusion: the clips that the contrastive loss compares. batch: those of a random batch; mined "
            "(experimental): batches consist of clips and their most and least similar ones, and the loss compares "
            "the nearest in the batch; encoded: as in the paper, the partners of each clip are encoded again for it "
            "(slow)."
        },
    )
    mining_embeddings: Literal["bank", "refresh"] | None = field(
        default=None,
        metadata={
            "help": "Source of the embeddings for mining: bank (the training passes of the previous epoch; the default "
            "for mined) or refresh (a pass over the training data every mining_refresh_epochs epochs, as in the paper; "
            "the default for encoded)."
        },
    )
    mining_refresh_epochs: int = field(default=2, metadata={"help": "Epochs between two refreshes."})
    mining_negatives: Literal["nearest", "random"] = field(
        default="nearest", metadata={"help": "nearest: the most and least similar clips; random: any of other classes."}
    )
    mining_rank_range: list[int] | None = field(
        default=None, metadata={"help": "First and last rank of hard negatives; 10 50 skips the ten nearest."}
    )
    mining_margin: float | None = field(
        default=None, metadata={"help": "Least difference in similarity of hard negatives to the nearest positive."}
    )
    mining_relative_margin: float | None = field(
        default=None, metadata={"help": "mining_margin relative to the similarity of the positive, such as 0.05."}
    )
    mining_index: Literal["exact", "faiss"] = field(
        default="exact", metadata={"help": "Search of neighbours; faiss (approximate) is for very large data."}
    )
    non_finite_loss: Literal["stop", "skip"] = field(
        default="stop",
        metadata={
            "help": "If a loss is NaN or infinite: stop and name the rows, or skip the step and count it "
            "(skipped_steps in the logs)."
        },
    )
    long_texts: Literal["cut", "window"] = field(
        default="cut",
        metadata={
            "help": "DyFuLM: texts of more than max_length tokens. cut: their beginning alone; window: the whole text, "
            "in overlapping windows, in training and evaluation. The windows of a batch of texts share a forward pass, "
            "so that long texts need memory: use fewer of them per batch. Predictions of the pipeline are by windows "
            "in any case."
        },
    )
    class_weights: list[float] | str | None = field(
        default=None,
        metadata={
            "help": "Weights of the (fine) classes in the loss of training and evaluation: balanced (by the training "
            "labels), or one number per class, such as '[4, 4, 2, 1, 1]'. Not saved with the model."
        },
    )
    coarse_class_weights: list[float] | str | None = field(
        default=None, metadata={"help": "Weights of the coarse classes in the loss, likewise, such as '[2, 4, 1]'."}
    )
    evidence: bool = field(
        default=True,
        metadata={
            "help": "Recipes for reviews: report beside the metrics the majority class and bag of words fitted on the "
            "same rows, intervals, the classes and their confusion, and warn where the model is not ahead of bag "
            "of words or never answers a class. Studies leave it out, since it would be repeated for each run."
        },
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": "Recipes: the license of the trained weights for the model card, an identifier of the Hub such as "
            "apache-2.0 or cc-by-nc-4.0; none by default."
        },
    )
    language: str | None = field(
        default=None,
        metadata={
            "help": "Recipes: the language of the texts for the model card, a code of two or three letters such as en; "
            "none by default, but English for synthetic data."
        },
    )
    keep_optimizer: bool = field(
        default=False,
        metadata={
            "help": "Recipes: keep the optimizer state (twice the size of the model) in the checkpoints of a finished "
            "run, so that it can be resumed for more epochs."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Evaluations without improvement before training stops; needs metric_for_best_model."},
    )

    def __post_init__(self):
        # YAML reads a bare `no` as False
        for name in ("eval_strategy", "save_strategy", "logging_strategy", "report_to"):
            if getattr(self, name) in (False, "False", "no"):
                setattr(self, name, "none" if name == "report_to" else "no")
        check_choices(self)
        self._check_inherited()
        self._names_metric = self.metric_for_best_model is not None
        self._set_direction()
        if not torch.accelerator.is_available():
            # otherwise bf16 requires `use_cpu`, and every loader warns about pinned memory
            self.use_cpu, self.dataloader_pin_memory = True, False
        super().__post_init__()
        warn_of_single_process()
        if self.n_gpu > 1:
            logger.warning("One of %d GPUs is used; `accelerate launch` uses them all.", self.n_gpu)
            self._n_gpu = 1  # prevents `nn.DataParallel`, which cannot gather the outputs of these models
        for name in SETTINGS:
            setattr(self, name, parse_class_weights(getattr(self, name), name))
        for name in ("log_gradients_every", "mining_refresh_epochs", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie in (0, 1], got {self.layer_decay}.")
        if self.early_stopping_patience is not None and self.metric_for_best_model is None:
            raise ValueError("`early_stopping_patience` needs `metric_for_best_model`, or `load_best_model_at_end`.")
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise ValueError(
                "`license` must be an identifier of the Hub in lower case, such as apache-2.0, cc-by-nc-4.0 or other "
                f"(https://huggingface.co/docs/hub/repositories-licenses lists them), got {self.license!r:.100}."
            )
        if self.language is not None:
            check_language(self.language)
        self._check_partners()

    def _check_inherited(self):
        """
        Raises `ValueError` for values of inherited fields that have no effect, or do harm, in a [`FusionTrainer`].
        """
        for name, (accepted, reason) in REFUSED.items():
            if (value := getattr(self, name, accepted)) != accepted:
                raise ValueError(f"`{name}` must stay {accepted!r}, got {value!r:.100}: {reason}.")
        strategy = self.train_sampling_strategy
        if strategy not in ("random", "sequential"):
            raise ValueError(
                f"`train_sampling_strategy` must be random or sequential, got {strategy!r:.100}: `bucket_by_length` "
                "batches rows of similar length."
            )
        if strategy == "sequential" and (self.bucket_by_length or self.contrastive_partners != "batch"):
            raise ValueError(
                "`train_sampling_strategy` sequential does nothing with bucket_by_length (set it to false), nor with "
                "mined or encoded partners."
            )

    def set_default_metric(self, metric: str | None) -> None:
        """Sets `metric_for_best_model`, unless the user set it or no checkpoint is chosen."""
        if metric and not self._names_metric and self.metric_for_best_model is not None:  # type: ignore[has-type]
            self.metric_for_best_model, self.greater_is_better = metric, None
            self._set_direction()

    def _set_direction(self):
        """Sets the direction of `metric_for_best_model` from [`METRICS`], since `Trainer` maximises all but losses.

        For custom metrics `greater_is_better` decides; schedulers that watch the metric use the same direction.
        """
        metric = self.metric_for_best_model or "loss"
        try:
            greater = not lower_is_better(metric)
        except RecipeError as error:
            if self.greater_is_better is None:
                raise RecipeError(
                    f"`metric_for_best_model`: {error} For a custom metric set `greater_is_better`."
                ) from error
            greater = self.greater_is_better
        if self.greater_is_better not in (None, greater):
            raise ValueError(
                f"`greater_is_better` {self.greater_is_better} contradicts the metric {metric}, of which "
                f"{'more' if greater else 'less'} is better: remove it."
            )
        if self.metric_for_best_model is not None:
            self.greater_is_better = greater
        if self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):
            options = self.lr_scheduler_kwargs or {}
            if isinstance(options, dict):
                self.lr_scheduler_kwargs = {"mode": "max" if greater else "min", **options}

    def _check_partners(self):
        """Raises `ValueError` for fields without effect on the chosen `contrastive_partners`."""
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
