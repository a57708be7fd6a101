"""What differs between architectures: one file each, behind one interface."""

from hf_fusion.architectures.base import (
    Architecture,
    architecture_of,
    register_architecture,
    registered_architectures,
)
from hf_fusion.architectures.dashfusion import DashFusionArchitecture
from hf_fusion.architectures.dyfulm import DyFuLMArchitecture

register_architecture(DyFuLMArchitecture())
register_architecture(DashFusionArchitecture())

__all__ = ["Architecture", "architecture_of", "register_architecture", "registered_architectures"]
