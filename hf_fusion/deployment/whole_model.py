"""Loads a whole model, and refuses incomplete checkpoints."""

import torch
from transformers import AutoModelForSequenceClassification

import hf_fusion.models  # noqa: F401 - registers the models
from hf_fusion.hub.checkpoint_names import check_checkpoint_name
from hf_fusion.utils.errors import DataError


def load_whole_model(checkpoint: str, dtype: torch.dtype = torch.float32, revision: str | None = None):
    """Loads a model that is not an adapter; raises `DataError` unless all weights fit."""
    checkpoint = str(checkpoint)
    check_checkpoint_name(checkpoint)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        checkpoint,
        revision=revision,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # an error with their names is raised below
        use_safetensors=True,
        trust_remote_code=False,
    )
    if report["mismatched_keys"]:
        name, saved, needed = sorted(report["mismatched_keys"])[0]
        raise DataError(
            f"{checkpoint}: the weights {name} have the shape {tuple(saved)}, but the configuration makes it "
            f"{tuple(needed)}: {model.config.num_labels} classes, and {len(report['mismatched_keys'])} parameters of "
            "another shape in total."
        )
    for kind, problem in (("missing_keys", "has no weights for"), ("unexpected_keys", "has unexpected weights:")):
        if report[kind]:
            names = sorted(report[kind])
            raise DataError(
                f"{checkpoint} {problem} {names[0]}, {len(names)} parameters in total: it is not a trained checkpoint "
                "of this version."
            )
    if broken := [name for name, values in model.state_dict().items() if not values.isfinite().all()]:
        raise DataError(
            f"{checkpoint}: the weights {broken[0]} hold NaN or infinite values, {len(broken)} parameters in total: "
            "its training failed, or the file is damaged."
        )
    return model
