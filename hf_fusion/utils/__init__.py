"""Records, typed fields and errors for all parts of the package. Imports nothing from the other parts."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.utils.errors import DataError, FusionError, RecipeError
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DataError": "errors",
            "FusionError": "errors",
            "RecipeError": "errors",
        },
    )

__all__ = [
    "DataError",
    "FusionError",
    "RecipeError",
]
