"""LoRA adapters on the text encoders; fusion and heads are trained in full. Needs the extra `peft`."""

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
# The names of the query and value projections in the attention of common encoders.
_ATTENTION_NAMES = ("query", "value", "query_proj", "value_proj", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv")


def add_lora(model, encoders: str = "both", rank: int = 8, alpha: int = 16, dropout: float = 0.05):
    """
    Wraps a model so that its text encoders are trained by low-rank updates.

    Args:
        model ([`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`]): the model. The weights
            of its text encoders are frozen.
        encoders (`str`, *optional*, defaults to `"both"`): the encoders that get LoRA matrices: `"a"`, `"b"` or
            `"both"` for a DyFuLM (also for the DyFuLM inside a DashFusion), or `"text"` for the single text encoder of
            a DashFusion. The other encoders are frozen.
        rank (`int`, *optional*, defaults to 8): the rank of the LoRA matrices.
        alpha (`int`, *optional*, defaults to 16): the scale of the LoRA matrices, relative to `rank`.
        dropout (`float`, *optional*, defaults to 0.05): the dropout probability of the LoRA layers.

    Returns:
        `peft.PeftModel`: the wrapped model. All modules outside the encoders are trained, and saved with the adapter.

    Raises:
        ImportError: if `peft` is not installed.
        ValueError: if the model has no such encoder, or the encoder has no query or value projection with a known name.
    """
    peft = import_extra("peft", "peft")
    if encoders not in ENCODERS:
        raise ValueError(f"`encoders` must be one of {', '.join(ENCODERS)}, got {encoders!r}.")
    present = model.base_model.encoders
    selected = [name for name in present if name != "text"] if encoders == "both" else [encoders]
    absent = [name for name in selected if name not in present]
    if absent or not selected:
        raise ValueError(f"The model has no encoder {encoders}; it has {', '.join(present)}.")
    targets = [target for name in selected for target in _attention_projections(model, present[name])]
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
    """Whether a folder or a repository on the Hub holds a LoRA adapter, not a whole model."""
    return find_adapter_config_file(checkpoint) is not None


def load_merged(checkpoint: str):
    """
    Loads a LoRA adapter and merges it into its base model.

    Args:
        checkpoint (`str`): a run folder or a name on the Hub. The base model is in its folder `base`, otherwise the one
            that `adapter_config.json` names.

    Returns:
        [`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`]: the merged model.

    Raises:
        ImportError: if `peft` is not installed.
        OSError: if the adapter or its base has no weights in `.safetensors`; pickles are not read.
        DataError: if the adapter or its base lacks weights, so that parts would be random or untrained.
    """
    return load_adapter(checkpoint).merge_and_unload().eval()


def load_adapter(checkpoint: str, dtype: torch.dtype = torch.float32, base_model: str | None = None):
    """
    Loads a LoRA adapter on its base model without merging it; raises the errors of [`load_merged`].

    Args:
        checkpoint (`str`): a run folder or a name on the Hub.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): the data type of the weights.
        base_model (`str`, *optional*): the base model, if the checkpoint has no folder `base`; by default the one that
            `adapter_config.json` names.

    Returns:
        `peft.PeftModel`: the base model with the adapter.
    """
    peft = import_extra("peft", "peft")
    base, revision = find_base(checkpoint, base_model)
    # raises an error if there is none, where peft would read a pickle
    weights = cached_file(checkpoint, peft.utils.SAFETENSORS_WEIGHTS_NAME)
    model = peft.PeftModel.from_pretrained(load_whole_model(base, dtype, revision), checkpoint)
    with safe_open(weights, framework="pt") as saved:
        missing = sorted(set(peft.get_peft_model_state_dict(model)) - set(saved.keys()))
    if missing:  # peft only warns
        raise DataError(
            f"{checkpoint} has no weights for {missing[0]}, {len(missing)} parameters of the adapter in total."
        )
    return model


def find_base(checkpoint: str, base_model: str | None = None) -> tuple[str | Path, str | None]:
    """Returns the base model of a LoRA adapter and its revision; for the arguments see [`load_adapter`]."""
    base = Path(checkpoint) / "base"
    if (Path(checkpoint) / "adapter_config.json").is_file() and base.is_dir():
        return base, None
    if base_model is not None:
        return base_model, None
    config = import_extra("peft", "peft").PeftConfig.from_pretrained(checkpoint)
    return config.base_model_name_or_path, config.revision


def _attention_projections(model, encoder):
    prefix = _path(model, encoder)
    projections = [
        f"{prefix}.{path}"
        for path, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in _ATTENTION_NAMES
    ]
    if not projections:
        raise ValueError(
            f"The encoder {prefix} ({type(encoder).__name__}) has no projections named {', '.join(_ATTENTION_NAMES)}."
        )
    return projections


def _path(model, module):
    return next(path for path, candidate in model.named_modules() if candidate is module)


def _trained_modules(model):
    """Returns the full names of the largest modules with state (parameters or buffers) that hold no encoder."""
    encoders = [_path(model, encoder) for encoder in model.base_model.encoders.values()]
    trained = []
    waiting = list(model.named_children())
    while waiting:
        path, module = waiting.pop(0)
        inside = any(encoder == path for encoder in encoders)
        holds_encoder = any(encoder.startswith(f"{path}.") for encoder in encoders)
        if holds_encoder or isinstance(module, nn.ModuleDict):  # peft cannot wrap these as a whole
            waiting += [(f"{path}.{name}", child) for name, child in module.named_children()]
        elif not inside and module.state_dict():
            trained.append(path)
    return trained
