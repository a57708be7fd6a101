"""A fingerprint of the weights of a checkpoint: a few values of each tensor, saved beside them and compared at loading.

Loading can go wrong without a message: some versions of transformers gave weights of custom models their initial values
after reading them, and a file of weights can be exchanged. The configuration cannot hold the fingerprint, since it
stays in memory while the weights are trained, and is saved without them.
"""

import json
import math
from pathlib import Path

import torch
import transformers
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_enabled
from transformers.utils import cached_file

FINGERPRINT_FILE = "weight_fingerprint.json"

_FORMAT = 1
# Values of each tensor. That all of them agree by chance is improbable, but for a tensor that training left constant.
_COUNT = 4
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Weights are saved and loaded in any of these types: the tolerance is that of the coarsest one, bfloat16.
_RELATIVE, _ABSOLUTE = 2.0**-7, 1e-6
# Larger values become infinite where weights are loaded as float16.
_LARGEST = torch.finfo(torch.float16).max
_PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def sample_weights(model, state_dict=None) -> dict[str, list[float]]:
    """
    Takes a few values of each tensor of a model, at places that depend on its size alone.

    Args:
        model (`PreTrainedModel`): the model.
        state_dict (`dict[str, torch.Tensor]`, *optional*): its weights, where the model itself does not hold them.

    Returns:
        `dict[str, list[float]]`: four values by the names of the weights, which are those of the model without a head.
        Left out are integers, quantised and distributed tensors, and those without values.
    """
    weights = model.state_dict() if state_dict is None else state_dict
    names, taken = [], []
    for name, values in weights.items():
        if _has_values(values):
            places = [values.numel() * (2 * i + 1) // (2 * _COUNT) for i in range(_COUNT)]
            taken.append(torch.take(values.detach(), torch.tensor(places, device=values.device)).float())
            names.append(name.removeprefix(f"{model.base_model_prefix}."))
    # one transfer from each device
    places = [values.device for values in taken]
    rows: list = [None] * len(taken)
    for device in dict.fromkeys(places):
        numbers = [i for i, place in enumerate(places) if place == device]
        for i, row in zip(numbers, torch.stack([taken[i] for i in numbers]).cpu(), strict=True):
            rows[i] = row
    return {name: row.tolist() for name, row in zip(names, rows, strict=True)}


def write_fingerprint(model, folder, state_dict=None) -> None:
    """Writes the fingerprint of a model that is saved into `folder`; removes an earlier one if none can be made."""
    path = Path(folder, FINGERPRINT_FILE)
    weights = {name: row for name, row in sample_weights(model, state_dict).items() if all(map(math.isfinite, row))}
    if not weights:
        path.unlink(missing_ok=True)
        return
    rows = ",\n".join(
        f"  {json.dumps(name)}: [{', '.join(f'{value:.9g}' for value in values)}]" for name, values in weights.items()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{\n "format": {_FORMAT},\n "weights": {{\n{rows}\n }}\n}}\n', encoding="utf-8")


def read_fingerprint(checkpoint, **options) -> dict[str, list[float]] | None:
    """
    Reads the fingerprint of a checkpoint.

    Args:
        checkpoint (`str` or `os.PathLike`): a folder, or a name on the Hub.
        options: of `from_pretrained`; those that name the place are used (`revision`, `token` ...).

    Returns:
        `dict[str, list[float]]`: as [`sample_weights`] returns it; `None` if the checkpoint has none, or one of a later
        format.

    Raises:
        ValueError: if the file is damaged.
    """
    path = cached_file(
        checkpoint, FINGERPRINT_FILE, _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        **{name: options[name] for name in _PLACE if options.get(name) is not None},
    )  # fmt: skip
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        weights = {name: [float(value) for value in values] for name, values in content["weights"].items()}
        if not weights or not all(len(row) == _COUNT and all(map(math.isfinite, row)) for row in weights.values()):
            raise ValueError(f"not {_COUNT} numbers for each tensor")
        return weights
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): download the checkpoint again.") from error


def changed_weights(fingerprint, weights) -> list[str]:
    """Returns the names of weights that differ from a fingerprint; both as [`sample_weights`] returns them."""
    return [name for name in fingerprint if name in weights and not all(map(_agree, fingerprint[name], weights[name]))]


def _agree(saved, loaded):
    if math.isinf(loaded) and abs(saved) > _LARGEST:
        return True
    return abs(saved - loaded) <= _RELATIVE * abs(saved) + _ABSOLUTE  # never true of NaN


def check_loaded(model, report, checkpoint, **options) -> None:
    """
    Compares a model with the fingerprint of the checkpoint that it was just loaded from. Takes milliseconds.

    Args:
        model (`PreTrainedModel`): the model.
        report (`dict`): the loading info of `from_pretrained`. Weights that transformers reported as missing or of
            another shape have new values on purpose.
        checkpoint (`str` or `os.PathLike`): a folder, or a name on the Hub.
        options: of `from_pretrained`.

    Raises:
        ValueError: if loaded weights differ from the saved ones, or the fingerprint is damaged.
    """
    if is_fsdp_enabled() or is_deepspeed_zero3_enabled():
        return  # processes hold parts of the weights, or none before they are sent to them
    fingerprint = read_fingerprint(checkpoint, **options)
    if fingerprint is None:
        return
    reported = {key if isinstance(key, str) else key[0] for kind in ("missing_keys", "mismatched_keys")
                for key in report[kind]}  # fmt: skip
    reported = {name.removeprefix(f"{model.base_model_prefix}.") for name in reported}
    changed = [name for name in changed_weights(fingerprint, sample_weights(model)) if name not in reported]
    if changed:
        raise ValueError(
            f"{checkpoint}: {len(changed)} of {len(fingerprint)} weights are not those that were saved, such as "
            f"{changed[0]}. Either transformers {transformers.__version__} gave them new values while loading, as some "
            "versions before 5.13 do with custom models: pip install --upgrade transformers. Or the file of weights "
            f"was exchanged: if that was on purpose, delete {FINGERPRINT_FILE}."
        )


def _has_values(values):
    """Whether a tensor has floating-point values in this process (not those of a quantiser or of a device mesh)."""
    is_plain = type(values) in (torch.Tensor, torch.nn.Parameter) and values.dtype in _FLOATS
    return is_plain and not values.is_meta and values.numel() > 0
