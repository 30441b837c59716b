"""Networks whose published weights come without code: built by name and declared arguments.

Own modules (DeepMedic, MeshNet, MSNet, hippodeep's three) and the classes of MONAI and
dynamic-network-architectures stand in one registry. A network here answers with raw scores: the
activation belongs to the head (`models.building.heads`). No code that a file of weights names is
ever run.
"""

from models.building.architectures.keys import KeyMap
from models.building.architectures.loading import load_strictly
from models.building.architectures.registry import (
    architecture_names,
    build_network,
    needs_fixed_batch,
    published_keys,
)

__all__ = [
    "KeyMap",
    "architecture_names",
    "build_network",
    "load_strictly",
    "needs_fixed_batch",
    "published_keys",
]
