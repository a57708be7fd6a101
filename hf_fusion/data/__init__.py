"""From files, tables and data sets of the Hub to labelled rows in train, validation and test."""

from typing import TYPE_CHECKING

from hf_fusion.utils.lazy import lazy_names

if TYPE_CHECKING:
    from hf_fusion.data.arguments import DataArguments
    from hf_fusion.data.clips import ClipSource, load_clips
    from hf_fusion.data.collator import FusionCollator
    from hf_fusion.data.corruption import augment, corrupt
    from hf_fusion.data.labels import LabelRules
    from hf_fusion.data.reviews import ReviewSource, load_reviews
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ClipSource": "clips",
            "DataArguments": "arguments",
            "FusionCollator": "collator",
            "LabelRules": "labels",
            "ReviewSource": "reviews",
            "augment": "corruption",
            "corrupt": "corruption",
            "load_clips": "clips",
            "load_reviews": "reviews",
        },
    )

__all__ = [
    "ClipSource",
    "DataArguments",
    "FusionCollator",
    "LabelRules",
    "ReviewSource",
    "augment",
    "corrupt",
    "load_clips",
    "load_reviews",
]
