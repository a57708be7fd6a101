"""Model cards and publishing."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.hub.model_card import CardError, write_model_card
    from hf_fusion.hub.repository import PublishError
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "CardError": "model_card",
            "PublishError": "repository",
            "write_model_card": "model_card",
        },
    )

__all__ = [
    "CardError",
    "PublishError",
    "write_model_card",
]
