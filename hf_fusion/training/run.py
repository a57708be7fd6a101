"""A training run, from a recipe to a complete run folder."""

import logging
import os
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import yaml
from datasets import DatasetDict, concatenate_datasets
from transformers import AutoConfig, set_seed

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.encoders import resolve_name
from hf_fusion.architectures.rows import count_windows, encode_readable, report_windows, warn_of_truncation
from hf_fusion.data.corruption import augment
from hf_fusion.data.files import read_yaml
from hf_fusion.data.tally import tallied
from hf_fusion.data.temporary import temporary_data
from hf_fusion.data.transfer_reviews import read_transfer_reviews
from hf_fusion.deployment.adapters import add_lora
from hf_fusion.evaluation.metrics import metric_names
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.evaluation.review_evidence import draw_confusions
from hf_fusion.hub.model_card import write_model_card
from hf_fusion.hub.repository import PublishError
from hf_fusion.training.calibration import calibrate_trained
from hf_fusion.training.checkpoints import (
    CheckpointError,
    drop_optimizer_states,
    find_problem,
    folder_size,
    has_optimizer_state,
    newest_sound_checkpoint,
    writing,
)
from hf_fusion.training.distillation import DistillationTrainer, add_answers, check_student, load_teacher
from hf_fusion.training.kept import SPLITS, evaluate_split, keep_run_predictions
from hf_fusion.training.recipe import resolved_recipe
from hf_fusion.training.reloading import check_saved
from hf_fusion.training.result import TrainingResult
from hf_fusion.training.trainer import FusionTrainer
from hf_fusion.utils.errors import DataError, RecipeError, TrainingInterrupted
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE, describe_environment, fingerprint, write_json

logger = logging.getLogger(__name__)

# The value of `transfer_dataset` that means further rows of `dataset`.
DATASET = "dataset"

# Fields that resuming takes from the saved state of the optimizer.
_FIELDS_OF_OPTIMIZER = (
    "learning_rate", "fusion_learning_rate", "loss_weighting_learning_rate", "layer_decay", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon",
)  # fmt: skip


@temporary_data()
def run_training(model_args, data_args, training_args, callbacks=None) -> dict:
    """Calls [`train_by_recipe`] and returns the content of its `metrics.json`."""
    return train_by_recipe(model_args, data_args, training_args, callbacks).metrics


def train_by_recipe(model_args, data_args, training_args, callbacks=None) -> TrainingResult:
    """
    Trains a model, restores the checkpoint that is best on validation, evaluates it on validation and test, and saves
    it. Then loads the saved model and compares it with the trained one.

    The run folder (`training_args.output_dir`) then holds the checkpoint with its code, `config.yaml` (the resolved
    recipe), `metrics.json`, `predictions.parquet` (ids, labels and outputs of validation and test, see
    [`write_predictions`]), `trainer_state.json`, `environment.json` and `answers.json` (the outputs for two fixed
    inputs, by which [`check_answers`] detects exchanged files).

    Args:
        model_args, data_args, training_args: the result of [`parse_recipe`].
        callbacks (`list[TrainerCallback]`, *optional*): additional callbacks of the trainer.

    Returns:
        [`TrainingResult`].

    Raises:
        RecipeError: if the folder holds another run, or the recipe is not valid.
        DataError: if the data does not fit its declaration.
        TrainingInterrupted: if SIGTERM stopped the training; a checkpoint holds its state.
        NonFiniteLossError: if a loss is NaN or infinite, unless `non_finite_loss` is "skip".
        CheckpointError: if a checkpoint or the model cannot be written, or differs after loading.
        PublishError: if `push_to_hub` is set and the upload fails.
    """
    if training_args.push_to_hub and model_args.lora_encoders and not model_args.merge_lora:
        raise RecipeError(
            "`push_to_hub` publishes one model, and an adapter needs its base: set `merge_lora`, or publish both after "
            "the training with `hf-fusion push`."
        )
    if data_args.damage:
        raise RecipeError("`damage` is for evaluation; `augmentations` adds corrupted copies to the training data.")
    architecture = architecture_of(model_args.model_type)
    if data_args.missing_validation and training_args.eval_strategy == "no":
        raise RecipeError("`missing_validation` does nothing, since `eval_strategy` is no: set it to epoch or steps.")
    checkpoint = _checkpoint_to_resume(training_args)
    set_seed(training_args.seed)
    with tallied() as unused:
        data, left_out = _load(architecture, model_args, data_args, training_args)
        training_args.set_default_metric(architecture.select_metric(data_args))
        with _as_recipe_error():
            trainer, encoded, facts = _trainer(architecture, model_args, data_args, training_args, data, callbacks)
    if "transfer" in data:
        facts["transfer"] = {"rows": len(data["transfer"]), "left_out": left_out}
    _check_metric(trainer)
    if checkpoint is not None:
        _check_recipe(Path(training_args.output_dir), resolved_recipe(model_args, data_args, training_args))
    if training_args.should_save:
        prints = _write_before(model_args, data_args, training_args, data)
    metrics = {
        "seed": training_args.seed,
        "train_samples": len(data["train"]),
        **facts,
        "left_out_or_filled": dict(unused),
        **_train(trainer, checkpoint),
    }
    predictions = {}
    started = time.perf_counter()
    for split in SPLITS:
        if split in encoded:
            metrics[split], predictions[split] = evaluate_split(trainer, encoded[split], split)
    metrics["evaluation_seconds"] = round(time.perf_counter() - started, 3)
    predictions = calibrate_trained(trainer, model_args, predictions, metrics)
    _save(trainer, model_args)
    if training_args.should_save:
        folder = Path(training_args.output_dir)
        keep_run_predictions(folder, list(predictions.values()), data_args.dataset, prints, training_args.seed)
        if training_args.evidence and predictions:
            metrics |= _gather_evidence(architecture, predictions, data, folder)
        write_json(Path(training_args.output_dir) / METRICS_FILE, metrics)
        write_model_card(training_args.output_dir)
    with _finished_if_saved(training_args):
        check_saved(trainer, data["validation" if "validation" in data else "train"])
    if training_args.should_save and not training_args.keep_optimizer:
        _drop_optimizer(training_args.output_dir)
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return TrainingResult(Path(training_args.output_dir), metrics, trainer)


def _drop_optimizer(folder):
    if freed := drop_optimizer_states(folder):
        logger.warning(
            "%s takes %.1f MB; the optimizer state in its checkpoints, %.1f MB, was removed (see `keep_optimizer`).",
            folder, folder_size(folder) / 1e6, freed / 1e6,
        )  # fmt: skip


def _load(architecture, model_args, data_args, training_args):
    """
    Loads the splits of a run, with the classes of its initial model or its teacher if there is one. A transfer set is
    the split "transfer"; also returns the counts of the texts that were left out of it.
    """
    with training_args.main_process_first(desc=f"reading the {architecture.unit}s"):
        data = architecture.load(data_args, _earlier_config(model_args))
    if "train" in data:
        architecture.check_training(data["train"], data_args)
    whole = data
    data = _limit(data, data_args, training_args)
    if data_args.max_train_samples and "train" in data:
        architecture.check_training(data["train"], data_args, is_sample=True)
    has_validation = training_args.eval_strategy != "no" or model_args.target_accuracy is not None
    needed = ["train", "validation"] if has_validation else ["train"]
    if missing := [split for split in needed if split not in data]:
        raise RecipeError(f"{data_args.dataset} has no {missing[0]} split; it has {', '.join(data)}.")
    if model_args.transfer_dataset is None:
        return data, {}
    with training_args.main_process_first(desc="reading the transfer set"):
        texts, left_out = _load_transfer(model_args, data_args, data["train"], whole, _data_seed(training_args))
    return DatasetDict({**data, "transfer": texts}), left_out


def _load_transfer(model_args, data_args, train, data, seed):
    """
    Loads the texts without labels; they have the columns and, if it is the same data, the options of `dataset`.

    Args:
        train (`Dataset`): the rows to train on with their labels.
        data (`DatasetDict`): the splits before they were limited: no text of validation or test is learnt.
    """
    held_out = [text for split in ("validation", "test") if split in data for text in data[split]["text"]]
    name, sources = _transfer_name(model_args, data_args), model_args.transfer_sources
    source = replace(
        data_args.source(),
        name=name,
        options=data_args.dataset_options or {} if name == data_args.dataset else {},
        sources=None if sources is None else tuple(sources),
    )
    return read_transfer_reviews(source, train["text"], held_out, model_args.max_transfer_samples, seed)


def _transfer_name(model_args, data_args):
    return data_args.dataset if model_args.transfer_dataset == DATASET else model_args.transfer_dataset


def _earlier_config(model_args):
    """Returns the configuration of the initial model or the teacher of a run; `None` if it has none."""
    name = model_args.checkpoint or model_args.teacher
    if name is None:
        return None
    try:
        config = AutoConfig.from_pretrained(resolve_name(name), trust_remote_code=False)
    except (OSError, ValueError):  # loading the model will raise the error
        return None
    return config if isinstance(config, architecture_of(model_args.model_type).config_class) else None


def _trainer(architecture, model_args, data_args, training_args, data, callbacks):
    """
    Creates the trainer of a run; returns it with the encoded splits, and the facts on model and data for
    `metrics.json`. Rows that the model cannot read are removed from `data`.
    """
    teacher = _teacher(model_args, data_args)
    model, processor = architecture.build(model_args, data_args, data["train"], teacher)
    rows_of = dict(data)
    if data_args.augmentations:  # after fitting the normalisation, which uses the clean data
        rows_of["train"] = augment(data["train"], data_args.augmentations, training_args.seed)
    encoded, truncated = DatasetDict(), {}
    for split, rows in rows_of.items():
        name = _transfer_name(model_args, data_args) if split == "transfer" else data_args.dataset
        place = f"{name} ({split})"
        encoded[split], rows_of[split], truncated[split] = encode_readable(
            architecture, rows, processor, place, data_args.rejected_rows, training_args.long_texts
        )
        if not data_args.augmentations or split != "train":
            data[split] = rows_of[split]
    warn_of_truncation(truncated, {split: len(rows) for split, rows in rows_of.items()}, architecture.unit, processor)
    if model_args.lora_encoders:
        model = _with_lora(model, processor, model_args, training_args)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "truncated": truncated}
    if training_args.long_texts == "window":
        facts["windows"] = {split: count_windows(rows) for split, rows in encoded.items()}
        report_windows(facts["windows"], architecture.unit)
    make_trainer = FusionTrainer
    if teacher is not None:
        make_trainer = _distillation(model, model_args, teacher)
        encoded["train"] = _with_answers(encoded, rows_of, teacher, model_args, training_args)
    train_masks, validation = data_args.train_masks(_data_seed(training_args)), encoded.get("validation")
    if data_args.missing_validation:
        validation = train_masks.erase_validation(validation, processor)
    trainer = make_trainer(
        model,
        training_args,
        train_dataset=encoded["train"],
        eval_dataset=validation,
        processing_class=processor,
        train_masks=train_masks,
        callbacks=callbacks,
    )
    return trainer, encoded, facts


def _train(trainer, checkpoint):
    """Trains, and returns the facts on the training for `metrics.json`."""
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.was_interrupted:
        raise TrainingInterrupted(
            f"{trainer.args.output_dir}: SIGTERM stopped the training after step {trainer.state.global_step} of "
            f"{trainer.state.max_steps}; its checkpoint is complete. To continue, set `resume_from_checkpoint` to last "
            "(--resume_from_checkpoint last)."
        )
    return {
        "train_seconds": round(time.perf_counter() - started, 1),
        "epochs": round(trainer.state.epoch, 2),
        "learning_rate": trainer.args.learning_rate,
        "best_checkpoint": os.path.basename(trainer.state.best_model_checkpoint or "") or None,
        **({"skipped_steps": trainer.skipped_steps} if trainer.skipped_steps else {}),
    }


def _gather_evidence(architecture, predictions, data, folder):
    """Returns the evidence for `metrics.json`, and draws the confusions of the last split; nothing for clips."""
    rows = {split: data[split] for split in predictions}
    evidence = architecture.gather_evidence(predictions, rows, data["train"])
    if evidence is None:
        return {}
    if plots_available():
        *_, last = predictions.values()
        draw_confusions(last, folder)
    return {"evidence": evidence}


def _save(trainer, model_args):
    """Saves the model in the form that the recipe requests, without publishing it."""
    if model_args.lora_encoders and model_args.merge_lora:
        trainer.model = trainer.model.merge_and_unload()
    with writing("The model", trainer.args.output_dir):
        trainer.save_model(_internal_call=True)
        trainer.save_state()
        if model_args.lora_encoders and not model_args.merge_lora and trainer.args.should_save:
            # saved before the training, which detected the type of the labels
            trainer.model.config.save_pretrained(Path(trainer.args.output_dir) / "base")


@contextmanager
def _as_recipe_error():
    """Turns ValueErrors of the model classes into RecipeErrors."""
    try:
        yield
    except (RecipeError, DataError, PublishError):
        raise
    except ValueError as error:
        raise RecipeError(str(error)) from error


@contextmanager
def _finished_if_saved(training_args):
    """Renames `metrics.json`, which marks a run as finished, if the saved model differs from the trained one."""
    try:
        yield
    except CheckpointError:
        if training_args.should_save:
            path = Path(training_args.output_dir) / METRICS_FILE
            path.replace(path.with_name("metrics.failed.json"))
        raise


def _with_lora(model, processor, model_args, training_args):
    base = Path(training_args.output_dir) / "base"
    if not model_args.merge_lora and training_args.should_save:
        model.save_pretrained(base)
        processor.save_pretrained(base)
    model = add_lora(
        model, model_args.lora_encoders, model_args.lora_rank, model_args.lora_alpha, model_args.lora_dropout
    )
    if not model_args.merge_lora:
        model.peft_config["default"].base_model_name_or_path = str(base)
    return model


def _teacher(model_args, data_args):
    if model_args.teacher is None:
        return None
    return load_teacher(model_args.teacher, data_args.rules())


def _distillation(student, model_args, teacher):
    """Returns class and arguments of the trainer for a student."""
    check_student(student, teacher.model, is_new=model_args.checkpoint is None)
    return partial(
        DistillationTrainer,
        temperature=model_args.distillation_temperature,
        weights=model_args.distillation_weights,
        label_weight=model_args.label_weight,
    )


def _with_answers(encoded, rows, teacher, model_args, training_args):
    """Returns the rows to train on, those of the transfer set too, with the teacher's answers."""
    folder = model_args.teacher_answers or training_args.output_dir
    size, device = training_args.per_device_eval_batch_size, training_args.device
    dtype = torch.bfloat16 if training_args.bf16 else torch.float16 if training_args.fp16 else torch.float32
    with training_args.main_process_first(desc="running the teacher"):
        answered = [
            add_answers(encoded[split], rows[split], teacher, folder, size, device, dtype, training_args.long_texts)
            for split in ("train", "transfer")
            if split in encoded
        ]
    return concatenate_datasets(answered)  # rows of the transfer set have `None` for each label


def _check_metric(trainer):
    """Raises `RecipeError` for an unknown metric before the first epoch."""
    metric = (trainer.args.metric_for_best_model or "loss").removeprefix("eval_")
    names = ["loss", *metric_names(trainer.model.config, trainer.label_names)]
    if metric not in names:
        raise RecipeError(f"`metric_for_best_model` must be one of {', '.join(names)}, got {metric!r}.")
    columns = {"fine": "labels", "coarse": "coarse_labels", "accuracy": "labels", "uar": "labels", "macro": "labels"}
    column = columns.get(metric.partition("_")[0])
    rows = trainer.eval_dataset
    if column and rows is not None and column in rows.column_names and len(set(map(str, rows[column])) - {"None"}) < 2:
        raise RecipeError(
            f"`metric_for_best_model` {metric} is undefined on a validation split with a single class: choose "
            "another metric (loss), or a validation split with several classes."
        )


def _checkpoint_to_resume(training_args):
    """Returns the checkpoint to resume from; "last" finds the newest one, if any."""
    wish = training_args.resume_from_checkpoint
    folder = Path(training_args.output_dir)
    newest, skipped = newest_sound_checkpoint(folder)
    is_last = wish in ("last", "true", "True", True)
    _check_has_optimizer(newest if is_last else wish)
    if is_last:
        problems = [f"{folder / name} cannot be read ({problem})" for name, problem in skipped.items()]
        if newest is None and problems:
            raise RecipeError(f"{'; '.join(problems)}. To start again, choose another `output_dir`.")
        if newest is None and (folder / METRICS_FILE).exists():
            raise RecipeError(f"{folder} holds a finished run without checkpoints: choose another `output_dir`.")
        for problem in problems:
            logger.warning("%s; resuming from %s.", problem, newest)
        if newest is not None:
            logger.warning("Resuming from %s.", newest)
        return None if newest is None else str(newest)
    if wish is not None and (problem := find_problem(wish)):
        raise RecipeError(
            f"{wish} cannot be read ({problem}). Set `resume_from_checkpoint` to last for the newest readable one."
        )
    if wish is None and (newest or skipped or (folder / METRICS_FILE).exists()):
        raise RecipeError(
            f"{folder} holds a run already. Resume it (set `resume_from_checkpoint` to last: --resume_from_checkpoint "
            "last), or choose another `output_dir` (--output_dir)."
        )
    return wish


def _check_has_optimizer(checkpoint):
    """Raises `RecipeError` for a checkpoint without optimizer state, from which training would silently start again."""
    if checkpoint is None or find_problem(checkpoint) or has_optimizer_state(checkpoint):
        return
    reason = "a finished run removes the optimizer state (`keep_optimizer` keeps it)"
    if not (Path(checkpoint).parent / METRICS_FILE).exists():
        reason = "it has no optimizer state (`save_only_model` leaves it out)"
    raise RecipeError(
        f"{checkpoint} cannot be resumed: {reason}. To continue from its weights, set "
        "`checkpoint` to this folder, and another `output_dir`."
    )


def _check_recipe(folder, recipe):
    """Refuses changes that resuming would ignore; warns about all others."""
    path = folder / "config.yaml"
    if not path.is_file():
        return
    before = read_yaml(path)
    changes = {
        name: f"{name} was {before.get(name, 'the default')} and is {recipe.get(name, 'the default')}"
        for name in sorted({*before, *recipe} - {"output_dir", "resume_from_checkpoint"})
        if before.get(name) != recipe.get(name)
    }
    if restored := [text for name, text in changes.items() if name in _FIELDS_OF_OPTIMIZER]:
        raise RecipeError(
            f"{folder}: {restored[0]}, but resuming restores it from the checkpoint. Keep it, or start a new run from "
            "the weights: set `checkpoint` to this folder, and another `output_dir`."
        )
    if changes:
        logger.warning("The resumed run has changed fields: %s.", "; ".join(changes.values()))


def _data_seed(training_args):
    return training_args.seed if training_args.data_seed is None else training_args.data_seed


def _limit(data, data_args, training_args):
    limited = DatasetDict(data)
    if data_args.max_train_samples and "train" in limited:
        count = min(data_args.max_train_samples, len(limited["train"]))
        limited["train"] = limited["train"].shuffle(seed=_data_seed(training_args)).select(range(count))
    for split in ("validation", "test"):
        if split in limited:
            limited[split] = data_args.limit_evaluation(limited[split])
    return limited


def _write_before(model_args, data_args, training_args, data):
    """
    Writes recipe and environment before the training, so that an interrupted run can be repeated; returns the
    [`fingerprint`] of the data.
    """
    folder = Path(training_args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_dump(resolved_recipe(model_args, data_args, training_args), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(recipe, encoding="utf-8")
    facts = {
        "seed": training_args.seed,
        "dataset": data_args.dataset,
        "data_fingerprint": fingerprint(data),
        "rows": {split: len(rows) for split, rows in data.items()},
    }
    write_json(folder / ENVIRONMENT_FILE, describe_environment(**facts))
    return facts["data_fingerprint"]
