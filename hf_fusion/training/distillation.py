"""Distillation of a trained DyFuLM to one with a single, smaller encoder.

In addition to the labels, the student learns the teacher's softened class probabilities (Hinton, Vinyals & Dean 2015),
its intensity and the pooled vector that its heads read. The outputs of the teacher for the training texts are computed
once, before the training: they do not change, the teacher has its own tokenizers, and it needs no memory afterwards.
"""

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from hf_fusion.architectures.reviews import check_classes
from hf_fusion.data.collator import FusionCollator
from hf_fusion.deployment.adapters import is_adapter
from hf_fusion.deployment.predictions import WINDOW_BATCHES, load_pipeline
from hf_fusion.hub.checkpoint_names import check_checkpoint_name
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.modeling_losses import at_least_float32, distillation_loss
from hf_fusion.models.processing_dyfulm import vocabulary_fingerprint
from hf_fusion.training.trainer import FusionTrainer
from hf_fusion.utils.errors import RecipeError

# The answers of a teacher with all heads: the columns of the training data, and the fields of its output.
ANSWERS = {
    "teacher_logits": "logits",
    "teacher_coarse_logits": "coarse_logits",
    "teacher_intensity": "intensity",
    "teacher_pooled": "pooler_output",
}
# Losses of a student, in the order of `distillation_weights`.
DISTILLATION_LOSSES = tuple(f"{name}_distillation_loss" for name in ("fine", "coarse", "intensity", "pooled"))
PROJECTION_FILE = "projection.safetensors"


def answers_of(config) -> dict[str, str]:
    """Returns those of `ANSWERS` that a model with the configuration gives."""
    return {name: field for name, field in ANSWERS.items() if field == "pooler_output" or field in config.heads}


def load_teacher(name: str, rules):
    """
    Loads the pipeline of a trained DyFuLM on the CPU.

    Args:
        name (`str`): a run folder (also one with a LoRA adapter), or a name on the Hub.
        rules ([`LabelRules`]): the classes of the data.

    Raises:
        RecipeError: if it cannot be loaded, is not a DyFuLM, or its classes differ from those of the data.
    """
    try:
        check_checkpoint_name(name)
        if not is_adapter(name):
            _check_teacher(name, AutoConfig.from_pretrained(name, trust_remote_code=False))
        teacher = load_pipeline(name, device="cpu")
        _check_teacher(name, teacher.model.config)
    except RecipeError:
        raise
    except (OSError, ValueError) as error:
        raise RecipeError(f"`teacher` {name} cannot be loaded: {str(error).splitlines()[0]}") from error
    try:
        check_classes(teacher.model.config, rules)
    except RecipeError as error:
        raise RecipeError(f"`teacher` {name}: {error}") from error
    return teacher


def _check_teacher(name, config):
    if not isinstance(config, DyFuLMConfig):
        raise RecipeError(f"`teacher` must be a DyFuLM; {name} is a {config.model_type}.")


def check_student(student, teacher, is_new: bool) -> None:
    """
    Copies the class names and values and the intensity range of a teacher to a new student.

    Args:
        student, teacher ([`DyFuLMForSequenceClassification`]): two models with the same number of classes.
        is_new (`bool`): whether the student's heads are untrained; otherwise it must have the same names and range.

    Raises:
        RecipeError: if the student has two encoders, or its names or its range differ from those of the teacher.
    """
    if len(student.config.encoder_configs) != 1:
        raise RecipeError(
            f"A student has a single encoder: set cross_fusion to a (or b); it is {student.config.cross_fusion!r}."
        )
    if is_new and teacher.config.class_values is not None:
        student.config.class_values = list(teacher.config.class_values)
    for name in ("id2label", "label2id", "coarse_id2label", "intensity_range"):
        ours, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if is_new:
            setattr(student.config, name, copy.copy(theirs))
        elif ours != theirs:
            raise RecipeError(f"Student and teacher differ in `{name}`: {ours} and {theirs}.")
    student.config.coarse_starts = copy.copy(teacher.config.coarse_starts)


def add_answers(
    encoded: Dataset,
    texts: Dataset,
    teacher,
    folder: str | Path,
    batch_size: int,
    device,
    dtype: torch.dtype = torch.float32,
    long_texts: str = "cut",
) -> Dataset:
    """
    Adds the teacher's outputs for its text to each row: in evaluation mode, independent of the other texts of the batch
    (except for rounding).

    Args:
        encoded (`Dataset`): rows with the inputs of the student.
        texts (`Dataset`): the same rows with their `text`.
        teacher ([`FusionSentimentPipeline`]): the result of [`load_teacher`]; it stays on its device.
        folder (`str` or `Path`): the folder for the cache file of the outputs. Its name holds a hash of the teacher's
            weights, vocabularies and `max_length`, of `dtype`, `long_texts`, and of the texts.
        batch_size (`int`): the number of texts per forward pass.
        device: the device to compute on.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): the precision of the forward pass; the weights
            stay in float32.
        long_texts (`str`, *optional*, defaults to `"cut"`): `"window"` lets the teacher read long texts whole.

    Returns:
        `Dataset`: the rows with the columns of [`answers_of`] the teacher.
    """
    model = teacher.model
    path = Path(folder) / f"teacher_answers-{_fingerprint(teacher, texts, dtype, long_texts)}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    home = model.device
    model.eval().to(device)
    try:
        answers = texts.select_columns(["text"]).map(
            lambda batch: _compute_outputs(teacher, batch["text"], batch_size, dtype, long_texts),
            batched=True,
            batch_size=batch_size * WINDOW_BATCHES,
            remove_columns=["text"],
            cache_file_name=str(path),  # datasets writes it atomically
            load_from_cache_file=True,
            new_fingerprint=path.stem.rpartition("-")[2],
            desc="running the teacher",
        )
    finally:
        model.to(home)
    return concatenate_datasets([encoded, answers], axis=1)


def _fingerprint(teacher, texts, dtype, long_texts):
    processor = teacher.processor
    reader = (processor.max_length, *map(vocabulary_fingerprint, processor.tokenizers), str(dtype))
    reader += () if long_texts == "cut" else (long_texts,)  # answers of earlier versions, which cut, are still found
    digest = hashlib.sha256(repr(reader).encode())
    for name, tensor in teacher.model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for text in texts["text"]:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


@torch.no_grad()
def _compute_outputs(teacher, texts, batch_size, dtype, long_texts):
    """Returns the columns of the outputs in the order of the texts; batches texts of similar length."""
    rows = teacher.processor.encode_text(texts, return_windows=long_texts == "window")
    order = np.argsort([-len(ids) for ids in rows["input_ids"]], kind="stable")
    answers = answers_of(teacher.model.config)
    columns = {name: [None] * len(texts) for name in answers}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size].tolist()
        batch = teacher.processor.pad([{name: rows[name][i] for name in rows} for i in places], return_tensors="pt")
        device = teacher.model.device
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            outputs = teacher.model(**batch.to(device), output_fusion=True)
        for name, field in answers.items():
            for place, value in zip(places, outputs[field].float().cpu().numpy(), strict=True):
                columns[name][place] = value
    return columns


def distillation_losses(outputs, targets, temperature: float) -> dict[str, torch.Tensor]:
    """
    Computes the `DISTILLATION_LOSSES`; each is 0 if student and teacher agree.

    Args:
        outputs (`ModelOutput`): the outputs of the student: `logits` (batch, classes), `coarse_logits`, `intensity`
            (batch,) and `pooler_output` (batch, width of the teacher).
        targets (`dict[str, torch.Tensor]`): the outputs of the teacher by `ANSWERS`, with the same shapes; without
            those of heads that the student does not have.
        temperature (`float`): the temperature T of the class probabilities.

    Returns:
        `dict[str, torch.Tensor]`: means over the batch: T^2 KL(softmax(teacher / T) || softmax(student / T)) for fine
        and coarse classes (T^2 keeps the scale of the gradients, Hinton et al. 2015), and the mean squared error for
        intensity and pooled vector.
    """
    losses = {}
    for loss, (name, field) in zip(DISTILLATION_LOSSES, ANSWERS.items(), strict=True):
        if name not in targets:
            continue
        ours, theirs = outputs[field], targets[name]
        if field.endswith("logits"):
            scaled = (ours / temperature, theirs / temperature)
            losses[loss] = temperature**2 * distillation_loss(*scaled, "single_label_classification")
        else:
            losses[loss] = nn.functional.mse_loss(at_least_float32(ours), theirs)
    return losses


class DistillationCollator(FusionCollator):
    """A [`FusionCollator`] that also batches the teacher's outputs of rows that have them."""

    def __call__(self, features):
        batch = super().__call__(features)
        for name in ANSWERS:
            if all(name in row for row in features):
                batch[name] = torch.tensor(np.array([row[name] for row in features], dtype=np.float32))
        return batch


class DistillationTrainer(FusionTrainer):
    """
    Trains a student on the outputs of its teacher and on the labels:

        loss = label_weight * (loss of the student) + sum of weights * distillation losses

    It logs each of `DISTILLATION_LOSSES` and their weighted sum, `distillation_loss`. If the widths of student and
    teacher differ, a learned linear projection of the student's pooled vector is compared; it is not saved with the
    model. Evaluation and the choice of the best checkpoint depend on the labels alone.

    Args:
        model ([`DyFuLMForSequenceClassification`]): the student.
        args, eval_dataset, processing_class, kwargs: see [`FusionTrainer`].
        train_dataset (`Dataset`): the training data with the columns of [`add_answers`].
        temperature (`float`): the temperature of the class probabilities.
        weights (`Sequence[float]`): the weights of fine classes, coarse classes, intensity and pooled vector.
        label_weight (`float`): the weight of the loss on the labels.

    Raises:
        ValueError: if the teacher's outputs are missing, or `compute_loss_func` is set.
    """

    def __init__(
        self,
        model,
        args,
        data_collator=None,
        *,
        train_dataset,
        processing_class=None,
        temperature=2.0,
        weights=(1.0, 1.0, 10.0, 0.0),
        label_weight=1.0,
        **kwargs,
    ):
        self.answers = answers_of(model.config)
        if missing := [name for name in self.answers if name not in train_dataset.column_names]:
            raise ValueError(f"`train_dataset` has no {missing[0]}; add the outputs of the teacher by `add_answers`.")
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("`compute_loss_func` has no effect on a student: override `model_loss` in a subclass.")
        self.temperature = temperature
        self.weights = dict(zip(DISTILLATION_LOSSES, weights, strict=True))
        self.label_weight = label_weight
        self.projection = _add_projection(model, len(train_dataset[0]["teacher_pooled"]))
        if data_collator is None and processing_class is not None:
            data_collator = DistillationCollator(processing_class, args.pad_to_multiple_of)
        super().__init__(
            model, args, data_collator, train_dataset=train_dataset, processing_class=processing_class, **kwargs
        )

    def model_loss(self, model, inputs, num_items_in_batch=None):
        """Computes the loss as in [`FusionTrainer`], and adds the distillation losses in training."""
        if not model.training:
            return super().model_loss(model, inputs, num_items_in_batch)
        targets = {name: inputs[name] for name in self.answers}
        inputs = {name: value for name, value in inputs.items() if name not in ANSWERS}
        outputs = model(**{**inputs, "output_fusion": True})  # the pooled vector
        losses = distillation_losses(outputs, targets, self.temperature)
        weighted = (self.weights[name] * value for name, value in losses.items() if self.weights[name])
        total = loss = sum(weighted, start=outputs.logits.new_zeros(()))
        extra = {**losses, "distillation_loss": total}
        if outputs.loss is not None:
            loss = self.label_weight * outputs.loss + total
            extra["loss_weights"] = self.label_weight * outputs.loss_weights
        return loss, {**outputs, **extra, "loss": loss}

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.projection is not None:
            if not Path(resume_from_checkpoint, PROJECTION_FILE).is_file():
                raise RecipeError(
                    f"{resume_from_checkpoint} has no {PROJECTION_FILE}: this training cannot be resumed."
                )
            self.projection.load_state_dict(load_file(Path(resume_from_checkpoint) / PROJECTION_FILE))

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.projection is not None and self.args.should_save:
            save_file(self.projection.state_dict(), Path(output_dir) / PROJECTION_FILE)


def _add_projection(student, width):
    """
    Projects the student's pooled vector to the teacher's width inside its forward pass, where several processes average
    the gradients. The student is saved without the projection. Returns it, or `None` if the widths are equal.
    """
    if student.config.fusion_hidden_size == width:
        return None
    projection = nn.Linear(student.config.fusion_hidden_size, width).to(student.device)
    student.distillation_projection = projection

    def project(module, args, outputs):
        if module.training and outputs.get("pooler_output") is not None:
            outputs["pooler_output"] = projection(outputs["pooler_output"])  # (batch, width)
        return outputs

    student.register_forward_hook(project)
    names = {f"distillation_projection.{name}" for name in projection.state_dict()}
    student._keys_to_ignore_on_save = {*(student._keys_to_ignore_on_save or ()), *names}
    return projection
