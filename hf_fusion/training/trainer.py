"""`FusionTrainer`: `transformers.Trainer` for models with several losses."""

from transformers import EarlyStoppingCallback, Trainer
from transformers.training_args import ParallelMode

from hf_fusion.data.collator import LABEL_FILLS, FusionCollator
from hf_fusion.evaluation.metrics import metrics_of
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.loss_tracker import LossTracker
from hf_fusion.training.optimization import parameter_groups
from hf_fusion.training.sampler import LengthBucketSampler


class FusionTrainer(Trainer):
    """
    Trains DyFuLM and DashFusion. Beside what `Trainer` does, it

    - logs each loss component (and for DyFuLM each loss weight and the mean and spread of the gate), averaged over
      samples, whatever the number of processes and accumulation steps;
    - gives encoders, fusion and loss weighting their own learning rates (see [`FusionTrainingArguments`]);
    - batches rows of like length, by the column `length` of the training set;
    - hands each epoch's mean losses to the model, for dynamic weight averaging;
    - computes [`ReviewMetrics`] (DyFuLM), [`SentimentRegressionMetrics`] (DashFusion on scores) or accuracy and macro
      F1 (DashFusion on classes) in evaluation, over the whole set, unless `compute_metrics` is given.

    Args:
        model, args, train_dataset, eval_dataset: as `Trainer` takes them; the data sets are tokenised.
        processing_class ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): is saved with the model, and pads unless
            `data_collator` is given.
        kwargs: everything else that `Trainer` takes.
    """

    def __init__(self, model=None, args=None, data_collator=None, *, processing_class=None, **kwargs):
        args = FusionTrainingArguments() if args is None else args
        if not isinstance(args, FusionTrainingArguments):
            raise TypeError(f"`args` must be FusionTrainingArguments, got {type(args).__name__}; it takes the same.")
        if data_collator is None and processing_class is None:
            raise ValueError("Give the model's processor as `processing_class` (or a `data_collator` of your own).")
        data_collator = data_collator or FusionCollator(processing_class, args.pad_to_multiple_of)
        if args.label_names is None:
            # A label that the data lacks would otherwise switch evaluation off without a word.
            names = _column_names(kwargs.get("eval_dataset")) or _column_names(kwargs.get("train_dataset"))
            args.label_names = [name for name in LABEL_FILLS if name in names] or None
        if args.ddp_find_unused_parameters is None and args.parallel_mode == ParallelMode.DISTRIBUTED:
            # a batch in which all clips lack a modality gives its encoder no gradient
            args.ddp_find_unused_parameters = True
        kwargs.setdefault("compute_metrics", self._metrics)
        super().__init__(model, args, data_collator, processing_class=processing_class, **kwargs)
        self.add_callback(LossTracker())
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    @property
    def loss_tracker(self):
        """The [`LossTracker`] in use; resuming replaces it."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, LossTracker))

    def _metrics(self, prediction):
        label_ids = prediction.label_ids
        label_ids = label_ids if isinstance(label_ids, (tuple, list)) else (label_ids,)
        return metrics_of(self.model.config, prediction.predictions, label_ids, self.label_names)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The model's loss; in training its components are added to the logs."""
        if model.training and self.model.config.model_type == "dyfulm":
            inputs = {**inputs, "output_fusion": True}  # the gate, for the logs
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            self.loss_tracker.add(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        """Adds the components to a log of the training loss."""
        if "loss" in logs:
            logs.update(self.loss_tracker.pop_logs(self.args.device))
        super().log(logs, start_time)

    def create_optimizer(self, *args, **kwargs):
        """The optimizer of `args.optim` over [`parameter_groups`]."""
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = parameter_groups(self.model, self.args, self.get_decay_parameter_names(self.model))
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.args.bucket_by_length or "length" not in (getattr(dataset, "column_names", None) or ()):
            return super()._get_train_sampler(train_dataset)
        global_batch_size = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthBucketSampler(list(dataset["length"]), global_batch_size, seed)

    def _save_checkpoint(self, model, trial):
        self.loss_tracker.flush(self.args.device)
        super()._save_checkpoint(model, trial)


def _column_names(dataset):
    """Names of a data set's columns; those of its first row, where it does not tell; of the first of several."""
    if isinstance(dataset, dict):
        dataset = next(iter(dataset.values()), None)
    if dataset is None or getattr(dataset, "column_names", None):
        return () if dataset is None else dataset.column_names
    return next(iter(dataset), ()) if not hasattr(dataset, "__getitem__") else dataset[0] if len(dataset) else ()
