"""What happens when a loss is NaN or infinite: the training stops and says where, or leaves the step out."""

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
    """A loss that is NaN or infinite; says of which rows, and where it came from."""


class NonFiniteGuard(TrainerCallback, ExportableState):
    """
    Takes every loss of a training that is NaN or infinite.

    With `non_finite_loss="skip"` the whole optimizer step is left out, on all processes and with all its accumulation
    steps (a gradient once added up cannot be taken apart); the learning rate moves on. How many were left out is in
    the logs as `skipped_steps`, and part of a checkpoint.
    """

    def __init__(self):
        self.skipped_steps = 0
        self._is_hit = False

    def state(self):
        """What is saved with a checkpoint."""
        return {"args": {}, "attributes": {"skipped_steps": self.skipped_steps}}

    def take(self, outputs, model, ids, step: int, skip: bool) -> None:
        """
        Reports a loss that is not finite.

        Args:
            outputs: of the model.
            model: whose weights are looked at.
            ids: of the rows in the batch; `None` if they are not known.
            step: how many optimizer steps were done before.
            skip: whether to leave the step out instead of stopping.

        Raises:
            NonFiniteLossError: unless such steps are skipped; and if weights are not finite, so that no step would be
                any better.
        """
        weight = next((name for name, values in model.named_parameters() if not torch.isfinite(values).all()), None)
        message = f"The loss of step {step + 1} is {outputs['loss'].item()}: {_fault(outputs, weight)}. {_rows(ids)}"
        if not skip or weight:
            raise NonFiniteLossError(f"{message} {_advice(weight)}")
        logger.warning("%s The step is left out.", message)
        self._is_hit = True

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Without gradients an optimizer changes nothing."""
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
        return "each component is finite, so it is their weights"
    if not torch.isfinite(outputs["logits"]).all():
        return f"{', '.join(losses)}; the logits are not finite either, so it comes from the inputs or the encoders"
    return f"{', '.join(losses)}; the logits are finite, so it comes from the labels or the loss itself"


def _rows(ids):
    if ids is None:
        return "Which rows the batch holds is not known."
    more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
    return f"The batch holds {', '.join(map(str, ids[:_MOST_IDS]))}{more}."


def _advice(weight):
    if weight:
        return (
            "Begin a new run from the weights of a checkpoint before it (`checkpoint`, and another `output_dir`), "
            "with a lower learning rate or in float32."
        )
    return "Look at these rows, lower the learning rate, or set `non_finite_loss` to skip, which leaves such steps out."
