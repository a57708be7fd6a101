"""Optional packages: each belongs to an extra, and is imported where it is used."""

import importlib
from types import ModuleType

from hf_fusion.utils.errors import FusionError


class MissingExtraError(FusionError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


def import_extra(module: str, extra: str) -> ModuleType:
    """
    Imports a module of an optional package.

    Args:
        module (`str`): name of the module, such as `"matplotlib.figure"`.
        extra (`str`): the extra of hf-fusion that installs its package.

    Raises:
        MissingExtraError: if the package is not installed; the message holds the command that installs it.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(missing_extra(package, extra)) from error


def missing_extra(package: str, extra: str) -> str:
    """Returns the error message for a package that is not installed."""
    return f"This needs {package}, which is not installed: pip install 'hf-fusion[{extra}]'"
