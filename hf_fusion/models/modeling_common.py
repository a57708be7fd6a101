"""Pickling, saving and loading of models that hold text encoders of transformers."""

import copy
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from transformers import PreTrainedModel

from .modeling_fingerprint import FINGERPRINT_FILE, check_loaded, write_fingerprint

# Encoder classes that were built in this process, see `FusionModelMixin`.
_BUILT = set()


class FusionModelMixin:
    """
    For models that hold text encoders of transformers, before `PreTrainedModel`.

    A model that has answered can be pickled, and used in another process: transformers records hidden states by hooks,
    which it installs at the first call and which are no part of a pickle, and by a table of the classes that were built
    in this process. Weights are saved with the permissions of the files beside them, and with a fingerprint by which
    loading finds weights that are not the saved ones.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        """As `PreTrainedModel.from_pretrained`; raises `ValueError` if the loaded weights are not the saved ones."""
        options = dict(kwargs)  # transformers removes some
        model, report = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        if pretrained_model_name_or_path is not None and options.get("state_dict") is None:
            check_loaded(model, report, pretrained_model_name_or_path, **options)
        return (model, report) if output_loading_info else model

    def __getstate__(self):
        return _without_recorders(self, {}).__dict__

    def __setstate__(self, state):
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PreTrainedModel) and not isinstance(module, FusionModelMixin):
                _note_class(module)

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, **kwargs):
        """As `PreTrainedModel.save_pretrained`."""
        if is_main_process and not getattr(self, "_hf_peft_config_loaded", False):  # else it saves an adapter
            write_fingerprint(self, save_directory, state_dict)
        super().save_pretrained(save_directory, is_main_process=is_main_process, state_dict=state_dict, **kwargs)
        make_readable(save_directory)

    def _get_files_timestamps(self, working_dir):
        # With `push_to_hub=True` those files are uploaded that are newer than this: the fingerprint is one of them.
        times = super()._get_files_timestamps(working_dir)
        return {name: time for name, time in times.items() if name != FINGERPRINT_FILE}


def make_readable(folder):
    """Gives the weights in a folder the permissions of the configuration beside them.

    safetensors writes files that only their owner can read.
    """
    for name in ("config.json", "adapter_config.json"):
        if Path(folder, name).is_file():
            for weights in Path(folder).glob("*.safetensors"):
                shutil.copymode(Path(folder, name), weights)


def _without_recorders(module, copies):
    """A copy of a module and its submodules, which shares all else with it, without the hooks that record outputs."""
    if id(module) not in copies:
        twin = copies[id(module)] = type(module).__new__(type(module))
        twin.__dict__.update(module.__dict__)
        twin.__dict__.pop("_output_capturing_hooks_installed", None)
        twin.__dict__["_forward_hooks"] = OrderedDict(
            (number, hook) for number, hook in module._forward_hooks.items() if not _is_recorder(hook)
        )
        twin.__dict__["_modules"] = {
            name: child if child is None else _without_recorders(child, copies)
            for name, child in module._modules.items()
        }
    return copies[id(module)]


def _is_recorder(hook):
    return getattr(hook, "__module__", None) == "transformers.utils.output_capturing"


def _note_class(encoder):
    """Builds an encoder without weights if its class was never built in this process: transformers then knows the
    outputs that it can record."""
    if type(encoder) not in _BUILT:
        with torch.device("meta"):
            type(encoder)(copy.deepcopy(encoder.config))
        _BUILT.add(type(encoder))
