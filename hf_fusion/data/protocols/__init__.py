"""The field's protocols for missing and noisy modalities: conditions, masks, and damaged data sets."""

from hf_fusion.data.protocols.apply import apply_masks, maskable_lengths
from hf_fusion.data.protocols.base import Condition, Protocol
from hf_fusion.data.protocols.masks import keep_masks, measure_rates
from hf_fusion.data.protocols.registry import PROTOCOLS
from hf_fusion.data.protocols.training import MaskedRows, TrainingMasks

__all__ = [
    "PROTOCOLS",
    "Condition",
    "MaskedRows",
    "Protocol",
    "TrainingMasks",
    "apply_masks",
    "keep_masks",
    "maskable_lengths",
    "measure_rates",
]
