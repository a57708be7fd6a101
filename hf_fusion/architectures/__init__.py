"""What differs between architectures: one file each, behind one interface.

An installed package can add its own: a subclass of [`Architecture`] as an entry point of the group
`hf_fusion.architectures`.
"""

from importlib.metadata import entry_points

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
for _plugin in entry_points(group="hf_fusion.architectures"):
    register_architecture(_plugin.load()())

__all__ = ["Architecture", "architecture_of", "register_architecture", "registered_architectures"]
