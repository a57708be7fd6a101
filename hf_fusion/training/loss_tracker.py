"""Means of loss components over samples, across accumulation steps, processes and interruptions."""

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_fusion.evaluation.similarity import SIMILARITIES, clip_vectors, pair_similarities
from hf_fusion.models.modeling_losses import corn_answers, label_weight

# The labels over which each loss is a mean; contrastive losses are means over all rows of the batch.
LOSSES = {
    "fine_loss": "labels",
    "coarse_loss": "coarse_labels",
    "intensity_loss": "intensity_labels",
    "prediction_loss": "labels",
    "contrastive_loss": None,
    "semantic_loss": None,
    "supervised_loss": None,
    "distillation_loss": None,
    "fine_distillation_loss": None,
    "coarse_distillation_loss": None,
    "intensity_distillation_loss": None,
    "pooled_distillation_loss": None,
}
WEIGHTS = ("fine_weight", "coarse_weight", "intensity_weight")
NAMES = (*LOSSES, *WEIGHTS, "gate", "gate_squared", *SIMILARITIES)


class LossTracker(TrainerCallback, ExportableState):
    """
    Sums each loss component with its number of labels, so that means are means over samples.

    There are two windows: since the last log, and since the start of the epoch (for dynamic weight averaging). Both are
    saved in `trainer_state.json` and resumed. Sums stay on the device until a window is read; they are then reduced
    over all processes.
    """

    def __init__(self):
        self.logged: dict[str, list[float]] = {}  # sum and count by name
        self.epoch: dict[str, list[float]] = {}
        self.epoch_number = None
        self._pending = None

    def state(self):
        """Returns the state for a checkpoint; call [`flush`] first."""
        return {
            "args": {},
            "attributes": {"logged": self.logged, "epoch": self.epoch, "epoch_number": self.epoch_number},
        }

    def add(self, outputs, inputs, config, class_weights=None):
        """Adds the outputs, inputs and class weights (by the name of the labels) of a training batch, without
        synchronising the device."""
        device = outputs["loss"].device
        rows = torch.zeros(len(NAMES), 2, device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)
        places = [i for i, name in enumerate(LOSSES) if outputs.get(name) is not None]
        labels = [list(LOSSES.values())[i] for i in places]
        if class_weights is None or config.problem_type == "multi_label_classification":
            class_weights = {}
        counts = {label: _count(label, inputs[label], config, class_weights) for label in set(labels) if label}
        counts[None] = rows.new_tensor(len(outputs["logits"]))
        if places:  # a model may have a loss without components
            losses = torch.stack([outputs[NAMES[i]].detach().to(rows.dtype) for i in places])
            count = torch.stack([counts[label].to(rows.dtype) for label in labels])
            rows[places] = torch.stack([losses * count, count], dim=1)
        if outputs.get("loss_weights") is not None:
            weights = [NAMES.index(f"{head.task}_weight") for head in config.heads.values()]
            rows[weights, 0] = outputs["loss_weights"].detach().to(rows.dtype)
            rows[weights, 1] = (outputs["loss_weights"].detach() != 0).to(rows.dtype)
        if outputs.get("gate") is not None:
            gate = outputs["gate"].detach().to(rows.dtype)  # (batch, spans, hidden) or (batch, hidden)
            mask = outputs.get("span_mask")
            mask = torch.ones_like(gate[..., 0]) if mask is None else mask.to(rows.dtype)
            count = mask.sum() * gate.shape[-1]
            for name, values in (("gate", gate), ("gate_squared", gate**2)):
                rows[NAMES.index(name)] = torch.stack([(values * mask.unsqueeze(-1)).sum(), count])
        if getattr(config, "supervised_contrastive", False) and inputs.get("labels") is not None:
            # encoded partners follow the clips of the batch
            vectors = clip_vectors(outputs, config)[: len(inputs["labels"])]
            cosines, *pairs = pair_similarities(vectors, inputs["labels"], config)
            for name, mask in zip(SIMILARITIES, pairs, strict=True):
                rows[NAMES.index(name)] = torch.stack([(cosines * mask).sum(), mask.sum()])
        self._pending = rows if self._pending is None else self._pending + rows

    def flush(self, device):
        """Adds the batches since the last flush to both windows. A collective call: all processes must make it."""
        pending = torch.zeros(len(NAMES), 2, device=device) if self._pending is None else self._pending
        self._pending = None
        total = reduce(pending, reduction="sum").tolist()
        for window in (self.logged, self.epoch):
            for name, (value, count) in zip(NAMES, total, strict=True):
                before = window.get(name, (0.0, 0.0))
                window[name] = [before[0] + value, before[1] + count]

    def pop_logs(self, device):
        """Returns the means since the last call, and mean and standard deviation of the gate, as `dict[str, float]`."""
        self.flush(device)
        means = {name: total / count for name, (total, count) in self.logged.items() if count}
        self.logged = {}
        if "gate" in means:
            means["gate_mean"] = means.pop("gate")
            means["gate_spread"] = max(means.pop("gate_squared") - means["gate_mean"] ** 2, 0.0) ** 0.5
        return means

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        """Closes the previous epoch, since the checkpoint of its last step is saved before `on_epoch_end`."""
        epoch = round(state.epoch or 0.0, 6) // 1
        if self.epoch_number is not None and self.epoch_number != epoch:
            self._close_epoch(args, model)
        self.epoch_number = epoch  # an equal number means that training resumed inside the epoch

    def on_train_end(self, args, state, control, model=None, **kwargs):
        """Closes the last epoch."""
        self._close_epoch(args, model)
        self.epoch_number = None

    def _close_epoch(self, args, model):
        """Passes the mean losses of the epoch to the model, for dynamic weight averaging."""
        self.flush(args.device)
        means = {name: total / count if count else 0.0 for name, (total, count) in self.epoch.items()}
        for name, module in model.named_modules():
            if name.rpartition(".")[2] == "loss_weighting" and hasattr(module, "record_epoch"):
                module.record_epoch([means[f"{task}_loss"] for task in module.tasks])
        self.epoch = {}


def _count(name, labels, config, class_weights):
    """How much the labels of a batch count in the mean that is their loss."""
    if labels.is_floating_point():
        return (~torch.isnan(labels)).sum()
    is_corn = name == "labels" and getattr(config, "fine_loss", None) == "corn"
    return label_weight(labels, class_weights.get(name), corn_answers(labels, config.num_labels) if is_corn else None)
