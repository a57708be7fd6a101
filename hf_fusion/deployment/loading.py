"""A checkpoint -> its model and processor, complete or not at all."""

from pathlib import Path

import torch
from transformers import AutoProcessor

import hf_fusion.models  # noqa: F401 - registers the models
from hf_fusion.deployment.adapters import is_adapter, load_adapter
from hf_fusion.deployment.whole_model import load_whole_model
from hf_fusion.hub.checkpoint_names import check_checkpoint_name
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.quiet import quiet_libraries


def load_checkpoint(
    checkpoint: str, dtype: torch.dtype = torch.float32, merge: bool = True, base_model: str | None = None
):
    """
    Model and processor of a checkpoint, by this package's code. Every weight of the model comes from the checkpoint,
    and every weight of the checkpoint goes into the model.

    Args:
        checkpoint: a folder (also of a LoRA run that was not merged), or a name on the Hub.
        dtype: of the weights.
        merge: whether to merge a LoRA adapter into its model; else the model is a `peft.PeftModel`.
        base_model: of a LoRA adapter: the model that it was trained on, where the folder has none.

    Returns:
        ([`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`], its processor).

    Raises:
        DataError: if weights are missing or too many or have other shapes, or a file of the checkpoint is damaged or
            none of this package's models.
        OSError: if there is no such checkpoint, or none with weights in `.safetensors`: pickles are not read.
        ImportError: if it is a LoRA adapter and `peft` is not installed.
    """
    check_checkpoint_name(checkpoint)
    try:
        with quiet_libraries():  # all that their reports say is an error here
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
        raise OSError(f"{checkpoint}: no such folder, and the Hub gave no such model: {reason}") from error
    except (DataError, ImportError):
        raise
    except Exception as error:  # damaged files can make the libraries fail in any way
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise DataError(f"{checkpoint} cannot be loaded: {reason}") from error
