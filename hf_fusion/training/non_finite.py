"""Handles losses that are NaN or infinite: stops the training with a diagnosis, or skips the step."""

import logging

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_fusion.training.loss_tracker import LOSSES
from hf_fusion.utils.errors import FusionError

logger = logging.getLogger(__name__)

_MOST_IDS = 20


class NonFiniteLossError(FusionError, ArithmeticError):
    """A loss is NaN or infinite; the message names the rows and the source."""


class NonFiniteGuard(TrainerCallback, ExportableState):
    """
    Receives every loss of a training that is NaN or infinite.

    With `non_finite_loss="skip"` the whole optimizer step is skipped, on all processes and with all its accumulation
    steps, since accumulated gradients cannot be separated; the learning rate schedule advances. The number of skipped
    steps is logged as `skipped_steps` and saved in checkpoints.
    """

    def __init__(self):
        self.skipped_steps = 0
        self._is_hit = False

    def state(self):
        """Returns the state for a checkpoint."""
        return {"args": {}, "attributes": {"skipped_steps": self.skipped_steps}}

    def take(self, outputs, model, ids, step: int, skip: bool) -> None:
        """
        Handles a loss that is not finite.

        Args:
            outputs (`ModelOutput`): the outputs of the model.
            model (`nn.Module`): the model, whose weights are checked.
            ids (`list`, *optional*): the ids of the rows in the batch, if known.
            step (`int`): the number of optimizer steps before this one.
            skip (`bool`): whether to skip the step instead of stopping.

        Raises:
            NonFiniteLossError: unless such steps are skipped; always if weights are not finite, since all later losses
                would be the same.
        """
        weight = next((name for name, values in model.named_parameters() if not torch.isfinite(values).all()), None)
        message = f"The loss of step {step + 1} is {outputs['loss'].item()}: {_fault(outputs, weight)}. {_rows(ids)}"
        if not skip or weight:
            raise NonFiniteLossError(f"{message} {_advice(weight)}")
        logger.warning("%s The step is skipped.", message)
        self._is_hit = True

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Removes the gradients of a step to skip, so that the optimizer changes nothing."""
        if args.non_finite_loss != "skip":
            return
        hits = reduce(torch.tensor(float(self._is_hit), device=args.device), reduction="sum")
        self._is_hit = False
        if hits.item():
            model.zero_grad()
            self.skipped_steps += 1


def _fault(outputs, weight):
    if weight:
        return f"the weights {weight} are not finite"
    losses = [name for name in LOSSES if outputs.get(name) is not None and not torch.isfinite(outputs[name])]
    if not losses:
        return "each component is finite, so it is their weights, or a loss that was added to them"
    if not torch.isfinite(outputs["logits"]).all():
        return f"{', '.join(losses)}; the logits are not finite either, so it comes from the inputs or the encoders"
    return f"{', '.join(losses)}; the logits are finite, so it comes from the labels or the loss itself"


def _rows(ids):
    if ids is None:
        return "The rows of the batch are not known."
    more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
    return f"The batch holds {', '.join(map(str, ids[:_MOST_IDS]))}{more}."


def _advice(weight):
    if weight:
        return (
            "Start a new run from the weights of an earlier checkpoint (`checkpoint`, and another `output_dir`), "
            "with a lower learning rate or in float32."
        )
    return "Check these rows, lower the learning rate, or set `non_finite_loss` to skip, which skips such steps."
