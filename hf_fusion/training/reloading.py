"""Loads the saved model at the end of a run, and compares it with the trained one."""

import logging
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from hf_fusion.data.arrow_rows import ArrowRows
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.deployment.sample_answers import ANSWERS_FILE, sample_answers
from hf_fusion.training.checkpoints import CheckpointError
from hf_fusion.utils.records import write_json

logger = logging.getLogger(__name__)

# The number of rows whose outputs are compared.
ROWS = 8


def check_saved(trainer, rows: Dataset) -> None:
    """
    Loads the folder of a run as users do, and compares the configuration, the weights, the inputs from the processor
    for some rows, and the outputs for them. A collective call: every process of a training must make it.

    Args:
        trainer ([`FusionTrainer`]): a trainer after saving its model.
        rows (`Dataset`): reviews or clips before encoding; the first ones are compared.

    Raises:
        CheckpointError: if the folder cannot be loaded, or differs from the trained model; the message says how.
    """
    rows = ArrowRows(rows.select(range(min(ROWS, len(rows)))))
    inputs = _inputs(trainer.processing_class, trainer.model.config, rows)
    answers = _compute_outputs(trainer, trainer.model, inputs)
    problem = cause = None
    if trainer.is_world_process_zero():
        try:
            difference = _difference(trainer, rows, inputs, answers)
            problem = difference and f"the saved model differs from the trained one: {difference}"
        except torch.OutOfMemoryError:
            logger.warning(
                "%s: not enough memory to load the saved model beside the trained one; they were not compared.",
                trainer.args.output_dir,
            )
        except Exception as error:  # of any kind, since the other processes wait for the result
            cause = error
            reason = " ".join(str(error).split())[:500].rstrip(".") or type(error).__name__
            problem = f"the saved model cannot be loaded: {reason}"
    (problem,) = broadcast_object_list([problem])
    if problem is not None:
        raise CheckpointError(
            f"{trainer.args.output_dir}: the training is finished, but {problem}. Do not use or publish this folder."
        ) from cause


def _difference(trainer, rows, inputs, answers):
    """Describes the first difference between folder and memory; records sample answers and returns `None` if none."""
    adapted = hasattr(trainer.model, "peft_config")
    model, processor = load_checkpoint(trainer.args.output_dir, trainer.model.dtype, merge=not adapted)
    difference = (
        _other_fields(trainer.model.config, model.config)
        or _other_weights(trainer, model)
        or _other_tensors("the processor gives another", inputs, _inputs(processor, model.config, rows), 0)
        or _other_tensors(
            "the model gives another",
            answers,
            _compute_outputs(trainer, model.to(trainer.args.device), inputs),
            _tolerance(trainer),
        )
    )
    if difference is None:
        write_json(Path(trainer.args.output_dir, ANSWERS_FILE), sample_answers(model, processor))
    return difference


def _other_fields(ours, saved):
    for name in ours.field_names():
        if getattr(ours, name) != getattr(saved, name, None):
            return f"`{name}` was {getattr(ours, name)!r:.200} and is {getattr(saved, name, None)!r:.200}"
    return None


def _other_weights(trainer, model):
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # no process has all weights
        return None
    trained = trainer.accelerator.unwrap_model(trainer.model)
    unsaved = getattr(trained, "_keys_to_ignore_on_save", None) or ()
    ours = {name: values for name, values in trained.state_dict().items() if name not in unsaved}
    saved = model.state_dict()
    if odd := sorted(ours.keys() ^ saved.keys()):
        return f"{odd[0]} is among the weights {'in memory' if odd[0] in ours else 'in the folder'} alone"
    for name, values in ours.items():
        if values.shape != saved[name].shape or not torch.equal(values.cpu().to(saved[name].dtype), saved[name].cpu()):
            return f"the weights {name} differ"
    return None


def _other_tensors(what, ours, others, tolerance):
    for name in sorted({*ours, *others}):
        pair = [tensors.get(name) for tensors in (ours, others)]
        if any(values is None for values in pair) or pair[0].shape != pair[1].shape:
            return f"{what} `{name}`"
        if not torch.allclose(*pair, rtol=tolerance, atol=tolerance, equal_nan=True):
            largest = (pair[0].double() - pair[1].double()).abs().max().item()
            return f"{what} `{name}` (by {largest:.2g} at most)"
    return None


def _inputs(processor, config, rows):
    """Creates the input tensors of the rows in the same way as the pipeline."""
    modalities = getattr(config, "modalities", ("text",))
    rows = list(map(rows.__getitem__, range(len(rows))))
    columns = {name: [row[name] for row in rows] for name in modalities if name in rows[0]}
    return dict(processor(**columns, padding=True, return_tensors="pt"))


def _compute_outputs(trainer, model, inputs):
    """Returns the outputs of the heads by name."""
    model.eval()
    inputs = {name: values.to(trainer.args.device) for name, values in inputs.items()}
    with torch.no_grad(), trainer.accelerator.autocast():
        outputs = model(**inputs)
    names = set(outputs) - {"loss", *model.config.keys_to_ignore_at_inference}
    return {name: outputs[name].float().cpu() for name in names if torch.is_tensor(outputs[name])}


def _tolerance(trainer):
    """Returns the tolerance of the outputs: libraries sum in another order if memory is aligned differently."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    if half is None and trainer.model.dtype == torch.float32:
        return 1e-5 if trainer.args.device.type == "cpu" else 1e-3  # accelerators may take TF32
    return 2 * torch.finfo(half or trainer.model.dtype).eps
