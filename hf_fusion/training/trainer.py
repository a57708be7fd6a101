"""`FusionTrainer`: `transformers.Trainer` for models with several losses."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import reduce
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PreTrainedModel, ProcessorMixin, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.training_args import ParallelMode

from hf_fusion.architectures.encoding import encode_rows, needs_encoding
from hf_fusion.data.arrow_rows import ArrowRows, values_of
from hf_fusion.data.collator import LABEL_FILLS, ROW_NUMBER, FusionCollator
from hf_fusion.data.protocols import MaskedRows, TrainingMasks
from hf_fusion.evaluation.kept_predictions import PREDICTIONS_FILES
from hf_fusion.evaluation.metrics import compute_metrics
from hf_fusion.hub.publish import check_private, hub_errors, publish
from hf_fusion.models.modeling_common import make_readable
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.checkpoints import (
    STAGING,
    BestCheckpoint,
    publish_checkpoint,
    remove_old_checkpoints,
    set_aside_newer,
    writing,
)
from hf_fusion.training.class_weights import SETTINGS, compute_class_weights
from hf_fusion.training.interruption import StopOnSigterm
from hf_fusion.training.loss_tracker import LossTracker
from hf_fusion.training.non_finite import NonFiniteGuard
from hf_fusion.training.optimization import parameter_groups
from hf_fusion.training.partner_miner import IndexedRows, PartnerMiner, clip_classes, make_rules
from hf_fusion.training.sampler import EpochSampler, LengthBucketSampler, PartnerBatchSampler, SetEpoch
from hf_fusion.training.task_gradients import task_gradients, weighted_losses
from hf_fusion.utils.errors import RecipeError, listed

logger = logging.getLogger(__name__)


class FusionTrainer(Trainer):
    """
    Trains DyFuLM and DashFusion. In addition to `Trainer`, it

    - logs each loss component as mean over samples, for any number of processes and accumulation steps; for DyFuLM also
      each loss weight and the mean and standard deviation of the gate, for DashFusion with supervised contrastive loss
      also the mean cosine of pairs of one class and of different classes in each batch;
    - uses separate learning rates for encoders, fusion and loss weighting (see [`FusionTrainingArguments`]);
    - batches rows of similar length, by the column `length_column_name` of the training set;
    - passes the mean losses of each epoch to the model, for dynamic weight averaging;
    - stops if a loss is NaN or infinite and names the rows, or skips the step (`non_finite_loss`);
    - saves a checkpoint and stops on SIGTERM (`was_interrupted` is then true);
    - computes [`ReviewMetrics`] (DyFuLM), [`SentimentRegressionMetrics`] (DashFusion on scores) or accuracy and macro
      F1 (DashFusion on classes) in evaluation, over the whole set, unless `compute_metrics` is set.

    Args:
        model, args, train_dataset, eval_dataset: see `Trainer`. A `Dataset` with the fields of reviews (`text`, and
            `label`, `stars`, `score` ...) or of clips (`text`, `audio`, `vision` and `label`) is labelled for the
            classes of the model and encoded, unless `data_collator` is set; also in `evaluate` and `predict`. Other
            data sets must be encoded.
        processing_class ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor. It is saved with the model,
            encodes the data, and pads batches unless `data_collator` is set.
        column_mapping (`dict[str, str]`, *optional*): the field of each column with another name, such as
            `{"body": "text", "rating": "stars"}`.
        rejected_rows (`str`, *optional*, defaults to `"error"`): `"drop"` leaves out unusable rows, and logs them.
        train_masks ([`TrainingMasks`], *optional*): the parts that training rows lose, by a protocol for missing
            modalities; other ones in every epoch.
        kwargs: other arguments of `Trainer`.

    Example:

    ```python
    from datasets import Dataset
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor
    from hf_fusion import FusionTrainer, FusionTrainingArguments
    from hf_fusion.data.tokenizers import train_tokenizer

    rows = Dataset.from_dict({"body": ["The bed was good.", "The room was not clean."] * 8, "rating": [5, 1] * 8})
    processor = DyFuLMProcessor(train_tokenizer(rows["body"], "wordpiece", 200), max_length=32)
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMForSequenceClassification(DyFuLMConfig(encoder_a_config=encoder, cross_fusion="a"))
    args = FusionTrainingArguments(
        "run", max_steps=1, eval_strategy="no", save_strategy="no", load_best_model_at_end=False, report_to="none"
    )
    trainer = FusionTrainer(
        model,
        args,
        train_dataset=rows,
        processing_class=processor,
        column_mapping={"body": "text", "rating": "stars"},
    )
    trainer.train()
    ```
    """

    label_names: list[str]

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: FusionTrainingArguments | None = None,
        data_collator: Callable | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        processing_class: ProcessorMixin | None = None,
        column_mapping: Mapping[str, str] | None = None,
        rejected_rows: Literal["error", "drop"] = "error",
        train_masks: TrainingMasks | None = None,
        **kwargs: Any,
    ):
        args = FusionTrainingArguments() if args is None else args
        if not isinstance(args, FusionTrainingArguments):
            raise TypeError(f"`args` must be FusionTrainingArguments, got {type(args).__name__}; it takes the same.")
        if data_collator is None and processing_class is None:
            raise ValueError("Pass the processor of the model as `processing_class` (or a custom `data_collator`).")
        if data_collator is not None and column_mapping:
            raise ValueError("`column_mapping` has no effect with a custom `data_collator`, which reads all columns.")
        if data_collator is not None and train_masks is not None:
            raise ValueError("`train_masks` are for encoded rows: leave out `data_collator`.")
        self._encodes = data_collator is None
        self._column_mapping, self._rejected_rows = column_mapping, rejected_rows
        data_collator = data_collator or FusionCollator(processing_class, args.pad_to_multiple_of)
        if args.ddp_find_unused_parameters is None and args.parallel_mode == ParallelMode.DISTRIBUTED:
            # the encoder of a modality has no gradient if all clips of a batch lack it
            args.ddp_find_unused_parameters = True
        kwargs.setdefault("compute_metrics", self._metrics)
        self._num_parameters = None
        self._is_saving = False
        self._batch_rows = self._batch_clips = (
            None  # numbers of the rows of a batch; of its clips without encoded partners
        )
        self._gradients: list[dict[str, float]] = []  # in the first process, since the last log
        super().__init__(
            model, args, data_collator, train_dataset, eval_dataset, processing_class=processing_class, **kwargs
        )
        self._encode_data_sets()
        self._masked_rows = None if train_masks is None else self._mask_rows(train_masks)
        if args.label_names is None:
            self.label_names = find_labels(self.eval_dataset) or find_labels(self.train_dataset) or self.label_names
        self.add_callback(SetEpoch())
        self.add_callback(LossTracker())
        self.add_callback(NonFiniteGuard())
        self.add_callback(StopOnSigterm())
        self.add_callback(BestCheckpoint())
        if self.args.non_finite_loss == "skip":
            self._check_skipping()
        for name in SETTINGS:
            if getattr(self.args, name) is not None:
                self._weigh_classes(name)
        self.miner = None
        if self.args.contrastive_partners != "batch" and self.train_dataset is not None:
            self.miner = self._partner_miner()
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def _encode_data_sets(self):
        """Encodes the data sets for training and evaluation if needed."""
        train, evaluation = self.train_dataset, self.eval_dataset
        self.train_dataset = self._encode_if_needed(train, "train_dataset")
        if isinstance(evaluation, dict):
            self.eval_dataset = {
                name: self._encode_if_needed(rows, f"eval_dataset[{name!r}]", train)
                for name, rows in evaluation.items()
            }
        else:
            self.eval_dataset = self._encode_if_needed(evaluation, "eval_dataset", train)

    def _encode_if_needed(self, rows, place, train=None):
        """Encodes a data set for the collator, with the classes of `train` if it is set."""
        if not self._encodes or not needs_encoding(rows):
            return rows
        with self.args.main_process_first(desc="encoding the data"):
            return encode_rows(
                rows, self.model.config, self.processing_class, place, self._column_mapping, train, self._rejected_rows,
                self.args.long_texts,
            )  # fmt: skip

    def _mask_rows(self, train_masks):
        """Returns the training rows, which lose parts when they are read."""
        if not isinstance(self.train_dataset, Dataset):
            raise ValueError(f"`train_masks` are for a `Dataset`, got {type(self.train_dataset).__name__}.")
        rows = IndexedRows(_read_as_views(self.train_dataset))
        return MaskedRows(rows, self.train_dataset, train_masks, self.processing_class)

    def _check_skipping(self):
        """Raises `ValueError` for `skip` where DeepSpeed or fp16 skips steps itself."""
        if self.is_deepspeed_enabled or self.accelerator.mixed_precision == "fp16":
            other = "DeepSpeed" if self.is_deepspeed_enabled else "fp16, which scales the loss,"
            raise ValueError(f"`non_finite_loss` skip: {other} skips steps itself; keep `stop` (or use bf16).")

    @property
    def _classifier(self):
        """Returns the model with the heads, without wrappers."""
        return next((module for module in self.model.modules() if "class_weights" in module._buffers), None)

    def _weigh_classes(self, setting):
        """Sets the weights of fine ("class_weights") or coarse classes of the model; they are not saved."""
        if self.train_dataset is None:
            return
        column, names_field = SETTINGS[setting]
        if column not in _column_names(self.train_dataset):
            raise ValueError(f"`{setting}` is for data with `{column}`; the training data has none.")
        if column == "labels" and self.compute_loss_func is not None:
            raise ValueError("`class_weights` has no effect with `compute_loss_func`, which is the loss of `labels`.")
        value, labels = getattr(self.args, setting), _column(self.train_dataset, column)
        weights = compute_class_weights(value, labels, self.model.config, setting)
        names = getattr(self.model.config, names_field)
        weight_list = ", ".join(f"{names[i]} {weight:.4g}" for i, weight in enumerate(weights))
        if self.args.should_log:
            kind = "coarse classes" if column == "coarse_labels" else "classes"
            logger.warning("Weights of the %s in the loss: %s.", kind, weight_list)
        setattr(self._classifier, setting, torch.tensor(weights, device=self._classifier.device))

    def _partner_miner(self):
        config = self.model.config
        if not config.has_contrastive_loss:
            raise RecipeError("`contrastive_partners` is for a DashFusion with contrastive losses.")
        labels = _column(self.train_dataset, "labels")
        default = "refresh" if self.args.contrastive_partners == "encoded" else "bank"
        from_bank = (self.args.mining_embeddings or default) == "bank"
        return PartnerMiner(
            clip_classes(labels, config),
            make_rules(self.args, config),
            every=1 if from_bank else self.args.mining_refresh_epochs,
            refresh=None if from_bank else self._refresh_embeddings,
            device=self.args.device,
            index=self.args.mining_index,
        )

    def _refresh_embeddings(self, miner):
        """Computes the embeddings of the training data, each process for its share."""
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            rows, size = IndexedRows(_read_as_views(self.train_dataset)), self.args.eval_batch_size
            for batch in super()._get_dataloader(rows, "Mining", size, self._get_eval_sampler):
                inputs = self._prepare_inputs(batch)
                index = self._batch_rows
                inputs = {name: value for name, value in inputs.items() if name not in LABEL_FILLS}
                miner.add(index, self.model(**inputs), self.model.config)
        self.model.train()

    @property
    def loss_tracker(self):
        """[`LossTracker`]: the tracker in use; resuming replaces it."""
        return self._own_callback(LossTracker)

    @property
    def skipped_steps(self):
        """`int`: the number of optimizer steps skipped because a loss was NaN or infinite."""
        return self._own_callback(NonFiniteGuard).skipped_steps

    @property
    def was_interrupted(self):
        """`bool`: whether SIGTERM stopped the training."""
        return self._own_callback(StopOnSigterm).is_hit

    def _own_callback(self, kind):
        return next(callback for callback in self.callback_handler.callbacks if isinstance(callback, kind))

    def _metrics(self, prediction):
        label_ids = prediction.label_ids
        label_ids = label_ids if isinstance(label_ids, (tuple, list)) else (label_ids,)
        return compute_metrics(self.model.config, prediction.predictions, label_ids, self.label_names)

    def _prepare_inputs(self, inputs):
        """Keeps the arguments of the model's `forward`, and stores the row numbers; see `Trainer`."""
        inputs = super()._prepare_inputs(inputs)
        self._batch_rows = self._batch_clips = inputs.pop(ROW_NUMBER, None)
        if self.miner is not None and self.model.training:
            if self._batch_rows is None:
                raise RecipeError(f"`data_collator` must keep {ROW_NUMBER!r} where all rows have it: partners need it.")
            inputs, self._batch_clips = self._with_partners(inputs, self._batch_rows)
        return inputs

    def evaluation_loop(self, dataloader, *args, **kwargs):
        """Evaluates with the labels of this data set, unless `label_names` is set; see `Trainer`."""
        before = self.label_names
        if self.args.label_names is None:
            # `Trainer` silently skips the metrics if the data lacks one of the labels.
            self.label_names = find_labels(dataloader.dataset) or before
        try:
            return super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self.label_names = before

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Returns the predictions of all tasks (for DyFuLM a tuple of three arrays); see `Trainer`."""
        if ignore_keys is None:
            config = self.model.config
            ignore_keys = [name for name in config.keys_to_ignore_at_inference if name not in config.heads]
        absent = [name for name in self.label_names if inputs.get(name) is None]
        if absent and len(absent) < len(self.label_names):
            raise ValueError(
                f"A batch has no `{absent[0]}`, by which its data set is evaluated: add the column to every row (None "
                "for missing labels), or remove the name from `label_names`."
            )
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Computes the loss of the model; in training its components are logged.

        A subclass may override it: `inputs` are the arguments of `forward`. Without `super().compute_loss` the
        components are not logged, and losses that are not finite are not detected. `compute_loss_func(outputs, labels,
        num_items_in_batch)` is called with the fine labels instead of the model's loss of them; `outputs["loss"]` is
        the loss of the other tasks.
        """
        if model.training and self.model.config.has_gate:
            inputs = {**inputs, "output_fusion": True}  # the gate, for the logs
        index = self._batch_clips
        loss, outputs = self.model_loss(model, inputs, num_items_in_batch)
        if self.miner is not None and model.training:
            loss = self._weigh_by_clips(loss, len(index))
        if model.training and not torch.isfinite(loss):
            skip = self.args.non_finite_loss == "skip"
            step = self.state.global_step
            self._own_callback(NonFiniteGuard).take(outputs, self.model, self._ids(self._batch_rows), step, skip)
        elif model.training:
            self._note_step(model, inputs, outputs, index)
        return (loss, outputs) if return_outputs else loss

    def model_loss(self, model, inputs, num_items_in_batch=None):
        """Returns the loss of a batch and the outputs with its components; subclasses may add further losses."""
        # a copy, since `Trainer` takes `labels` out for `compute_loss_func`
        loss, outputs = super().compute_loss(model, {**inputs}, True, num_items_in_batch)
        return loss, outputs if self.compute_loss_func is None else {**outputs, "loss": loss}

    def _weigh_by_clips(self, loss, count):
        """Scales the loss so that its mean over processes is a mean over clips, if processes have different numbers."""
        if self.args.world_size == 1:
            return loss
        return loss * (count / reduce(loss.new_tensor(count), reduction="mean"))

    def _note_step(self, model, inputs, outputs, index):
        """Passes a training batch to loss tracking and mining."""
        class_weights = {column: getattr(self._classifier, name, None) for name, (column, _) in SETTINGS.items()}
        self.loss_tracker.add(outputs, inputs, self.model.config, class_weights)
        every = self.args.log_gradients_every
        if every and self.state.global_step % every == 0:
            losses = weighted_losses(outputs, self.model.config)
            self._gradients.append(task_gradients(self.accelerator.unwrap_model(model), losses))
        if self.miner is not None and self.miner.refresh is None:
            self.miner.add(index, outputs, self.model.config)

    def _ids(self, index):
        """Returns the `id` of the rows with these numbers, or their numbers."""
        if index is None:
            return None
        rows = index.tolist()
        if isinstance(self.train_dataset, Dataset) and "id" in self.train_dataset.column_names:
            return self.train_dataset.select(rows)["id"][:]
        return [f"row {row}" for row in rows]

    def _with_partners(self, inputs, index):
        """Returns the inputs of the model, and the numbers of the clips to predict."""
        table = self.miner.table
        if self.args.contrastive_partners != "encoded" or table is None:
            return inputs, index
        index = index[: len(index) // (1 + table.shape[1])]
        inputs["labels"] = inputs["labels"][: len(index)]
        inputs["partner_mask"] = (table[index.cpu()] >= 0).to(index.device)
        return inputs, index

    def floating_point_ops(self, inputs):
        """Estimates 6 operations per parameter and token; the parameters are counted only once."""
        if self._num_parameters is None:
            self._num_parameters = self.model.num_parameters(exclude_embeddings=True)
        tokens = inputs.get(self.model.main_input_name)
        return 0 if tokens is None else 6 * tokens.numel() * self._num_parameters

    def log(self, logs, start_time=None):
        """Adds the loss components to the log of the training loss."""
        if "loss" in logs:
            logs.update(self.loss_tracker.pop_logs(self.args.device))
            if self.skipped_steps:
                logs["skipped_steps"] = self.skipped_steps
            for name in sorted({name for gradients in self._gradients for name in gradients}):
                values = [gradients[name] for gradients in self._gradients if name in gradients]
                logs[name] = sum(values) / len(values)
            self._gradients = []
        super().log(logs, start_time)

    def create_optimizer(self, *args, **kwargs):
        """Creates the optimizer of `args.optim` over the [`parameter_groups`]."""
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = parameter_groups(self.model, self.args, self.get_decay_parameter_names(self.model))
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _get_train_sampler(self, train_dataset=None):
        lengths = self._lengths()
        if lengths is None and self._masked_rows is None:
            return super()._get_train_sampler(train_dataset)
        return self._with_epochs(self._bucket_sampler(lengths))

    def _bucket_sampler(self, lengths):
        """Returns the order of training rows; equal lengths give a random one."""
        lengths = lengths or [1] * len(self.train_dataset)
        return LengthBucketSampler(lengths, self._global_batch_size, self._data_seed)

    def _with_epochs(self, sampler):
        return sampler if self._masked_rows is None else EpochSampler(sampler, len(self._masked_rows))

    def _lengths(self):
        """Returns the length of each training row for length buckets, if it is known."""
        if not self.args.bucket_by_length:
            return None
        name, columns = self.args.length_column_name, getattr(self.train_dataset, "column_names", None) or ()
        if name not in columns and name != "length":
            raise ValueError(f"`length_column_name` {name!r} is not a column of the training data ({listed(columns)}).")
        return _column(self.train_dataset, name) if name in columns else None

    @property
    def _global_batch_size(self):
        return self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps

    @property
    def _data_seed(self):
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Clears mined partners and half-written checkpoints, then trains; see `Trainer.train`."""
        if self.miner is not None:
            self.miner.reset()
        resumed_from = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        self._own_callback(BestCheckpoint).resumed_from = resumed_from
        if self.args.should_save:
            shutil.rmtree(Path(self.args.output_dir, STAGING), ignore_errors=True)
            if resumed_from is not None:
                set_aside_newer(self.args.output_dir, resumed_from)
        self.accelerator.wait_for_everyone()
        with self._own_callback(StopOnSigterm).listening(), self._own_checkpoint_rotation():
            return super().train(resume_from_checkpoint, *args, **kwargs)

    @contextmanager
    def _own_checkpoint_rotation(self):
        """Disables the rotation of `Trainer`, which with a limit of 1 would delete the checkpoint saved on SIGTERM."""
        self._save_total_limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield
        finally:
            self.args.save_total_limit = self._save_total_limit

    def _get_dataloader(self, dataset, *args, **kwargs):
        """Creates a loader of encoded rows, read as views; training rows have their number. See `Trainer`."""
        rows = _read_as_views(self._encode_if_needed(dataset, "the data set"))
        if kwargs.get("is_training") and _has_named_fields(rows):
            rows = self._masked_rows or IndexedRows(rows)
        return super()._get_dataloader(rows, *args, **kwargs)

    def get_train_dataloader(self):
        """Creates the training loader, with [`PartnerBatchSampler`] for mined or encoded partners."""
        if self.miner is None:
            return super().get_train_dataloader()
        args, lengths = self.args, self._lengths()
        sampler = PartnerBatchSampler(
            self._bucket_sampler(lengths),
            self._train_batch_size,
            self.miner.partners,
            lengths,
            args.world_size,
            args.process_index,
            encode_partners=args.contrastive_partners == "encoded",
            gathered=self.model.config.gather_negatives,
        )
        loader = DataLoader(
            self._masked_rows or IndexedRows(_read_as_views(self.train_dataset)),
            batch_sampler=self._with_epochs(sampler),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(
                args, "dataloader_multiprocessing_context", None
            ),  # exists in newer versions
            in_order=getattr(args, "dataloader_in_order", True),
        )
        # not dispatched, since the sampler yields the batches of this process
        return prepare_data_loader(loader, args.device, num_processes=1, process_index=0, put_on_device=True)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.miner is not None:
            self.miner.load(resume_from_checkpoint)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.miner is not None:
            self.miner.save(output_dir, self.args.should_save)

    def init_hf_repo(self, token=None, private=None):
        """Creates the repository before the training; raises `PublishError` if that fails. See `Trainer`."""
        private = self.args.hub_private_repo if private is None else private
        api = huggingface_hub.HfApi(token=token or self.args.hub_token)
        with hub_errors(self.args.hub_model_id or Path(self.args.output_dir).name, api.endpoint):
            super().init_hf_repo(token, private)
            if private and self.is_world_process_zero():
                check_private(api, self.hub_model_id)

    def push_to_hub(self, commit_message="End of training", blocking=True, token=None, revision=None, private=None):
        """Saves the model and publishes the run folder by [`publish`], with the model card of the run."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        options = {"message": commit_message, "revision": revision or self.args.hub_revision}
        options["token"] = token or self.args.hub_token
        upload = partial(publish, self.args.output_dir, self.hub_model_id, **options)
        return upload() if blocking else huggingface_hub.HfApi().run_as_future(upload)

    def _push_from_checkpoint(self, checkpoint_folder):
        if self._is_saving:  # a checkpoint in staging has no final name yet
            return
        if kept := sorted(Path(self.args.output_dir).rglob(PREDICTIONS_FILES)):
            # `Trainer` uploads all files of the folder, also the rows' ids and labels of an earlier evaluation
            logger.warning(
                "%s is not published before the training ends, since the folder holds predictions (%s): move them.",
                Path(checkpoint_folder).name, kept[0],
            )  # fmt: skip
            return
        super()._push_from_checkpoint(checkpoint_folder)

    def _get_output_dir(self, trial):
        run_folder = super()._get_output_dir(trial)
        return os.path.join(run_folder, STAGING) if self._is_saving else run_folder

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            make_readable(output_dir or self.args.output_dir)  # also for an adapter

    def _save_checkpoint(self, model, trial):
        """Writes a checkpoint to a staging folder and renames it, so that no partial one is visible; see `Trainer`."""
        self.loss_tracker.flush(self.args.device)
        for callback in (self._own_callback(kind) for kind in (LossTracker, NonFiniteGuard)):
            # missing in the state of older checkpoints
            self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        run_folder = self._get_output_dir(trial)
        staged, final = Path(run_folder, STAGING, name), os.path.join(run_folder, name)
        self._is_saving = True
        try:
            with writing(name, run_folder):
                super()._save_checkpoint(model, trial)
        finally:
            self._is_saving = False
        self.accelerator.wait_for_everyone()
        if Path(self.state.best_model_checkpoint or "") == staged:
            self.state.best_model_checkpoint = final
        best = self.state.best_model_checkpoint
        if self.args.should_save:
            with writing(name, run_folder):
                publish_checkpoint(staged, final, best)
            if self.args.push_to_hub:
                self._push_from_checkpoint(final)
            remove_old_checkpoints(run_folder, self._save_total_limit, self.state.global_step, best)
        self.accelerator.wait_for_everyone()


def _read_as_views(dataset):
    """Sets a format that reads rows as views, unless the data set has a transform."""
    own = isinstance(dataset, Dataset) and (
        dataset.format["type"] == "custom" or set(dataset.format["columns"]) != set(dataset.column_names)
    )
    return ArrowRows(dataset) if isinstance(dataset, Dataset) and not own else dataset


def _has_named_fields(rows):
    """Whether rows are indexed mappings, so that their number can be added as a field."""
    if isinstance(rows, (IterableDataset, torch.utils.data.IterableDataset)):
        return False
    return isinstance(rows, ArrowRows) or (len(rows) > 0 and isinstance(rows[0], Mapping))


def _column(dataset, name):
    if isinstance(dataset, Dataset):
        return values_of(dataset, name)
    return [row.get(name) for row in dataset]


def find_labels(dataset):
    """Returns the label names of a data set (of the first one of several), from its columns or its first row."""
    if isinstance(dataset, dict):
        dataset = next(iter(dataset.values()), None)
    if isinstance(dataset, list):
        return [name for name in LABEL_FILLS if any(name in row for row in dataset)]
    names = _column_names(dataset)
    return [name for name in LABEL_FILLS if name in names]


def _column_names(dataset):
    """Returns the column names of a data set; the keys of its first row if it has no columns."""
    if dataset is None or getattr(dataset, "column_names", None):
        return () if dataset is None else dataset.column_names
    return next(iter(dataset), ()) if not hasattr(dataset, "__getitem__") else dataset[0] if len(dataset) else ()
