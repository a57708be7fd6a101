"""LoRA on the encoders; fusion and heads are trained in full (needs the extra `peft`)."""

from pathlib import Path

from torch import nn
from transformers import AutoModelForSequenceClassification

ENCODERS = ("a", "b", "both")
# What models call the query and value projections of their attention.
_ATTENTION_NAMES = ("query", "value", "query_proj", "value_proj", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv")


def add_lora(model, encoders: str = "both", rank: int = 8, alpha: int = 16, dropout: float = 0.05):
    """
    Wraps a [`DyFuLMForSequenceClassification`] so that encoders train by low-rank updates.

    Args:
        model: the model; its encoder weights stay as they are.
        encoders: "a", "b" or "both" get LoRA matrices. An encoder without them is frozen.
        rank, alpha, dropout: of the LoRA matrices on the query and value projections.

    Returns:
        `peft.PeftModel`. Everything outside the encoders is trainable, and is saved with the adapter.

    Raises:
        ImportError: if `peft` is not installed.
        ValueError: if the model has no such encoder, or none of its layers has a known name.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("LoRA needs the extra `peft`: pip install 'hf-fusion[peft]'") from error

    if encoders not in ENCODERS:
        raise ValueError(f"`encoders` must be one of {', '.join(ENCODERS)}, got {encoders!r}.")
    present = model.dyfulm.encoders
    wanted = list(present) if encoders == "both" else [encoders]
    absent = [name for name in wanted if name not in present]
    if absent:
        raise ValueError(f"The model has no encoder {absent[0]} (cross_fusion={model.config.cross_fusion!r}).")
    targets = [target for name in wanted for target in _attention_projections(model, name)]
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        modules_to_save=_trained_modules(model),
    )
    return get_peft_model(model, config)


def load_merged(folder):
    """
    A model from a run folder that holds an adapter and, in `base/`, the model that it was trained on.

    Returns:
        [`DyFuLMForSequenceClassification`] with the adapter merged in.
    """
    from peft import PeftModel

    base = AutoModelForSequenceClassification.from_pretrained(Path(folder) / "base")
    return PeftModel.from_pretrained(base, folder).merge_and_unload().eval()


def _attention_projections(model, name):
    prefix = f"dyfulm.encoder_{name}"
    found = [
        f"{prefix}.{path}"
        for path, module in model.dyfulm.encoders[name].named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in _ATTENTION_NAMES
    ]
    if not found:
        raise ValueError(
            f"Encoder {name} ({type(model.dyfulm.encoders[name]).__name__}) has no projections named "
            f"{', '.join(_ATTENTION_NAMES)}."
        )
    return found


def _trained_modules(model):
    """Modules outside the encoders that own parameters or a history to save, by their full names."""
    outside = [(f"dyfulm.{name}", child) for name, child in model.dyfulm.named_children() if "encoder_" not in name]
    outside += [(name, child) for name, child in model.named_children() if name != "dyfulm"]
    return [name for name, child in outside if child.state_dict()]
