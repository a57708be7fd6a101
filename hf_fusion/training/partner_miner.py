"""Keeps embeddings of the training clips during a training, and mines their contrastive partners."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from hf_fusion.data.collator import ROW_NUMBER
from hf_fusion.models.modeling_dashfusion import contrastive_embeds
from hf_fusion.models.modeling_losses import joint_features
from hf_fusion.training.mining import MiningRules, mine_partners
from hf_fusion.utils.errors import RecipeError

MINING_FILE = "mining.safetensors"


class IndexedRows(Dataset):
    """A data set whose rows have their number in the field `_row`."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {**self.rows[index], ROW_NUMBER: index}

    def __getitems__(self, indices):
        read = getattr(self.rows, "__getitems__", None)
        rows = read(indices) if read else [self.rows[i] for i in indices]
        return [{**row, ROW_NUMBER: i} for i, row in zip(indices, rows, strict=True)]


class PartnerMiner:
    """
    Keeps an embedding of every training clip, and mines partners from them at the start of an epoch.

    The embeddings come from the training passes (at no cost, at most one epoch old), or from a separate pass. Each
    process keeps the embeddings of its clips; they are gathered before mining and saving, so that all processes mine
    the same partners. Checkpoints hold embeddings and partners, so that a resumed epoch has the same batches.

    Args:
        classes (`torch.LongTensor` of shape `(clips,)`): see [`clip_classes`].
        rules ([`MiningRules`]): the selection of partners.
        every (`int`, *optional*, defaults to 1): the number of epochs between two minings.
        refresh (`Callable`, *optional*): called with the miner before mining, to add the embeddings of all clips. By
            default they come from the training passes, and there are no partners in the first epoch.
        device (*optional*, defaults to `"cpu"`): the device of the embeddings.
        index (`str`, *optional*, defaults to `"exact"`): see [`mine_partners`].
    """

    def __init__(self, classes, rules, every=1, refresh=None, device="cpu", index="exact"):
        self.classes = classes
        self.rules = rules
        self.every = every
        self.refresh = refresh
        self.device = torch.device(device)
        self.index = index
        self.reset()

    def reset(self) -> None:
        """Clears the state for a new training."""
        self.epoch = None  # the epoch of the last call of `partners`
        self.table = None  # (clips, partners)
        self._embeddings = None  # (clips, width)
        self._known = torch.zeros(len(self.classes), dtype=torch.bool, device=self.device)
        self._fresh = torch.zeros_like(self._known)  # not yet shared with the other processes

    def add(self, index: torch.Tensor, outputs, config) -> None:
        """
        Stores the embeddings of the clips `index` from the outputs of the model, without synchronising the device.
        """
        embeds, present = contrastive_embeds(outputs, config)
        count = len(index)
        features = joint_features(
            {name: value[:count] for name, value in embeds.items()},
            {name: value[:count] for name, value in present.items()},
        )
        if self._embeddings is None:
            self._embeddings = torch.zeros(len(self.classes), features.shape[1], device=self.device)
        index = index.to(self.device)
        self._embeddings[index] = features.detach().to(self.device, torch.float32)
        self._known[index] = self._fresh[index] = True

    def partners(self, epoch: int) -> torch.Tensor | None:
        """Returns the partners `(clips, partners)` for an epoch, positives first; `None` without embeddings."""
        if epoch != self.epoch:
            if epoch % self.every == 0 or self.table is None:
                self._mine(epoch)
            self.epoch = epoch
        return self.table

    def _mine(self, epoch):
        if self.refresh is not None:
            self.refresh(self)
        self._gather()
        if self._embeddings is None or not self._known.any():
            return
        classes = torch.where(self._known.cpu(), self.classes, -1)
        rules = replace(self.rules, seed=self.rules.seed + epoch)  # random negatives change
        self.table = mine_partners(self._embeddings, classes, rules, index=self.index).table()

    def _gather(self):
        """Gathers the embeddings of all processes since the last call."""
        if self._embeddings is None or PartialState().num_processes == 1:
            return
        fresh = self._fresh.unsqueeze(1).float()
        count = reduce(fresh.clone(), reduction="sum")
        total = reduce(self._embeddings * fresh, reduction="sum")
        self._embeddings = torch.where(count > 0, total / count.clamp(min=1), self._embeddings)
        self._known |= count.squeeze(1) > 0
        self._fresh.zero_()

    def save(self, folder, write: bool) -> None:
        """Saves the state to a checkpoint folder. A collective call; only processes with `write` write files."""
        self._gather()
        if not write:
            return
        state = {"known": self._known.cpu(), "epoch": torch.tensor(-1 if self.epoch is None else self.epoch)}
        if self._embeddings is not None:
            state["embeddings"] = self._embeddings.cpu()
        if self.table is not None:
            state["table"] = self.table
        save_file(state, Path(folder) / MINING_FILE)

    def load(self, folder) -> None:
        """
        Loads the state of a checkpoint.

        Raises:
            RecipeError: if the checkpoint has no such state, or belongs to other data.
        """
        path = Path(folder) / MINING_FILE
        if not path.is_file():
            raise RecipeError(
                f"{folder} has no {MINING_FILE}: it was trained without mined partners, or saved with save_only_model."
            )
        state = load_file(path)
        if len(state["known"]) != len(self.classes):
            raise RecipeError(f"{path} is of {len(state['known'])} clips, the training data has {len(self.classes)}.")
        self._known = state["known"].to(self.device)
        self._fresh = torch.zeros_like(self._known)
        self._embeddings = state["embeddings"].to(self.device) if "embeddings" in state else None
        self.table = state.get("table")
        epoch = int(state["epoch"])
        self.epoch = None if epoch < 0 else epoch


def clip_classes(labels, config) -> torch.Tensor:
    """
    Returns the class of each clip for mining, in the same way as [`label_classes`] inside a batch.

    Args:
        labels: scores (`None` or NaN = missing), classes (-100 = missing), or several labels per clip.
        config ([`DashFusionConfig`]): the configuration of the model; `contrastive_label_step` rounds scores.

    Returns:
        `torch.LongTensor` of shape `(clips,)`: the class numbers; -1 for missing labels.
    """
    width = max((np.size(label) for label in labels if label is not None), default=1)
    rows = np.array([np.full(width, np.nan) if label is None else np.reshape(label, width) for label in labels])
    rows = rows.reshape(len(labels), width).astype(np.float32)  # the data type of the labels in the loss
    known = ~np.isnan(rows).any(1) & (rows != -100).all(1)
    if config.num_labels == 1:
        rows = np.round(rows / np.float32(config.contrastive_label_step))
    classes = np.full(len(rows), -1, dtype=np.int64)
    if known.any():
        classes[known] = np.unique(rows[known], axis=0, return_inverse=True)[1].reshape(-1)
    return torch.from_numpy(classes)


def make_rules(args, config) -> MiningRules:
    """Creates the rules from training arguments and a model's configuration."""
    return MiningRules(
        num_positives=config.num_positives,
        num_hard=config.num_hard_negatives,
        num_easy=config.num_easy_negatives,
        negatives=args.mining_negatives,
        rank_range=None if args.mining_rank_range is None else tuple(args.mining_rank_range),
        margin=args.mining_margin,
        relative_margin=args.mining_relative_margin,
        seed=args.seed,
    )
