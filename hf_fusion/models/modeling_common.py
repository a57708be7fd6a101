"""Pickling and saving of models that hold text encoders of transformers."""

import copy
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from transformers import PreTrainedModel

# Encoder classes that were built in this process, see `FusionModelMixin`.
_BUILT = set()


class FusionModelMixin:
    """
    For models that hold text encoders of transformers, before `PreTrainedModel`.

    A model that has answered can be pickled, and used in another process: transformers records hidden states by hooks,
    which it installs at the first call and which are no part of a pickle, and by a table of the classes that were built
    in this process. Weights are saved with the permissions of the files beside them.
    """

    def __getstate__(self):
        return _without_recorders(self, {}).__dict__

    def __setstate__(self, state):
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PreTrainedModel) and not isinstance(module, FusionModelMixin):
                _note_class(module)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`."""
        super().save_pretrained(save_directory, *args, **kwargs)
        make_readable(save_directory)


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
