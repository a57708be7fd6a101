"""LoRA on the encoders; fusion and heads are trained in full (needs the extra `peft`)."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from hf_fusion.deployment.whole_model import load_whole_model
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.extras import import_extra

ENCODERS = ("a", "b", "both", "text")
# What models call the query and value projections of their attention.
_ATTENTION_NAMES = ("query", "value", "query_proj", "value_proj", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv")


def add_lora(model, encoders: str = "both", rank: int = 8, alpha: int = 16, dropout: float = 0.05):
    """
    Wraps a model so that its text encoders train by low-rank updates.

    Args:
        model ([`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`]): the model; the weights
            of its text encoders stay as they are.
        encoders: which encoders get LoRA matrices: "a", "b" or "both" of a DyFuLM (also where it is the text encoder of
            a DashFusion), or "text", the single text encoder of a DashFusion. An encoder without them is frozen.
        rank, alpha, dropout: of the LoRA matrices on the query and value projections.

    Returns:
        `peft.PeftModel`. Everything outside the encoders is trainable, and is saved with the adapter.

    Raises:
        ImportError: if `peft` is not installed.
        ValueError: if the model has no such encoder, or none of its layers has a known name.
    """
    peft = import_extra("peft", "peft")
    if encoders not in ENCODERS:
        raise ValueError(f"`encoders` must be one of {', '.join(ENCODERS)}, got {encoders!r}.")
    present = model.base_model.encoders
    wanted = [name for name in present if name != "text"] if encoders == "both" else [encoders]
    absent = [name for name in wanted if name not in present]
    if absent or not wanted:
        raise ValueError(f"The model has no encoder {encoders}; it has {', '.join(present)}.")
    targets = [target for name in wanted for target in _attention_projections(model, present[name])]
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        modules_to_save=_trained_modules(model),
    )
    return peft.get_peft_model(model, config)


def is_adapter(checkpoint: str) -> bool:
    """Whether a folder or a repository on the Hub holds a LoRA adapter instead of a whole model."""
    return find_adapter_config_file(checkpoint) is not None


def load_merged(checkpoint: str):
    """
    A model from a run folder, or a repository on the Hub, that holds an adapter.

    Args:
        checkpoint: where it is. The model that it was trained on is in the folder's `base/`, else where
            `adapter_config.json` says.

    Returns:
        [`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`] with the adapter merged in.

    Raises:
        ImportError: if `peft` is not installed.
        OSError: if adapter or model have no weights in `.safetensors`: pickles are not read.
        DataError: if the adapter or its model lacks weights: parts would be random, or those of before the training.
    """
    return load_adapter(checkpoint).merge_and_unload().eval()


def load_adapter(checkpoint: str, dtype: torch.dtype = torch.float32, base_model: str | None = None):
    """
    As [`load_merged`], but the adapter stays beside the weights.

    Args:
        checkpoint: where it is.
        dtype: of the weights.
        base_model: the model that it was trained on, where the folder has no `base/`; by default the one that
            `adapter_config.json` names.

    Returns:
        `peft.PeftModel`.
    """
    peft = import_extra("peft", "peft")
    base, revision = Path(checkpoint) / "base", None
    if not (Path(checkpoint) / "adapter_config.json").is_file() or not base.is_dir():
        config = peft.PeftConfig.from_pretrained(checkpoint)
        base, revision = (config.base_model_name_or_path, config.revision) if base_model is None else (base_model, None)
    weights = cached_file(checkpoint, peft.utils.SAFETENSORS_WEIGHTS_NAME)  # without it peft takes a pickle
    model = peft.PeftModel.from_pretrained(load_whole_model(base, dtype, revision), checkpoint)
    with safe_open(weights, framework="pt") as saved:
        missing = sorted(set(peft.get_peft_model_state_dict(model)) - set(saved.keys()))
    if missing:  # of which peft only warns
        raise DataError(
            f"{checkpoint} has no weights for {missing[0]}, {len(missing)} parameters of the adapter in all."
        )
    return model


def _attention_projections(model, encoder):
    prefix = _path(model, encoder)
    found = [
        f"{prefix}.{path}"
        for path, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in _ATTENTION_NAMES
    ]
    if not found:
        raise ValueError(
            f"The encoder {prefix} ({type(encoder).__name__}) has no projections named {', '.join(_ATTENTION_NAMES)}."
        )
    return found


def _path(model, module):
    return next(path for path, candidate in model.named_modules() if candidate is module)


def _trained_modules(model):
    """The largest modules that hold no encoder and own parameters or a history to save, by their full names."""
    encoders = [_path(model, encoder) for encoder in model.base_model.encoders.values()]
    found = []
    waiting = list(model.named_children())
    while waiting:
        path, module = waiting.pop(0)
        inside = any(encoder == path for encoder in encoders)
        holds_encoder = any(encoder.startswith(f"{path}.") for encoder in encoders)
        if holds_encoder or isinstance(module, nn.ModuleDict):  # which peft cannot wrap as a whole
            waiting += [(f"{path}.{name}", child) for name, child in module.named_children()]
        elif not inside and module.state_dict():
            found.append(path)
    return found
