"""Lazy imports: a module is imported at the first use of one of its names."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Creates the `__getattr__` and `__dir__` of a package.

    Args:
        package (`str`): the `__name__` of the package.
        modules (`Mapping[str, str]`): the module of the package that defines each name, by name.
    """

    def get(name: str) -> Any:
        if name in modules:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *modules})

    return get, names
