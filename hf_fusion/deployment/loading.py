"""Loads the model and the processor of a checkpoint, and refuses incomplete ones."""

from pathlib import Path

import torch
from transformers import AutoProcessor

import hf_fusion.models  # noqa: F401 - registers the models
from hf_fusion.deployment.adapters import is_adapter, load_adapter
from hf_fusion.deployment.export_folder import ONNX_DESCRIPTION
from hf_fusion.deployment.whole_model import load_whole_model
from hf_fusion.hub.checkpoint_names import check_checkpoint_name
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.quiet import quiet_libraries


def load_checkpoint(
    checkpoint: str, dtype: torch.dtype = torch.float32, merge: bool = True, base_model: str | None = None
):
    """
    Loads the model and the processor of a checkpoint with this package's code. The weights of the checkpoint and those
    of the model must be the same: no missing, no unexpected ones.

    Args:
        checkpoint (`str`): a folder (also one with a LoRA adapter), or a name on the Hub.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): the data type of the weights.
        merge (`bool`, *optional*, defaults to `True`): whether to merge a LoRA adapter into its base model. Otherwise
            the model is a `peft.PeftModel`.
        base_model (`str`, *optional*): the base model of a LoRA adapter, if the checkpoint has no folder `base`.

    Returns:
        `tuple`: the [`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`], and its processor.

    Raises:
        DataError: if weights are missing, unexpected or have other shapes, a file of the checkpoint is damaged, the
            model is not one of this package, or the folder is an export.
        OSError: if there is no such checkpoint, or it has no weights in `.safetensors`; pickles are not read.
        ImportError: if the checkpoint is a LoRA adapter and `peft` is not installed.
    """
    if (Path(checkpoint) / ONNX_DESCRIPTION).is_file():
        raise DataError(
            f"{checkpoint} is an exported model, which hf_fusion.deployment.OnnxFusion loads. Name the checkpoint that "
            "it was exported from."
        )
    check_checkpoint_name(checkpoint)
    try:
        with quiet_libraries():  # everything that their reports warn about raises an error here
            if is_adapter(checkpoint):
                model = load_adapter(checkpoint, dtype, base_model)
                model = (model.merge_and_unload() if merge else model).eval()
            else:
                model = load_whole_model(checkpoint, dtype)
            return model, AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
    except OSError as error:
        if Path(checkpoint).is_dir():
            raise
        reason = " ".join(str(error).split())[:300]
        raise OSError(f"{checkpoint}: no such folder, and no such model on the Hub: {reason}") from error
    except (DataError, ImportError):
        raise
    except Exception as error:  # damaged files make the libraries fail in many ways
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise DataError(f"{checkpoint} cannot be loaded: {reason}") from error
