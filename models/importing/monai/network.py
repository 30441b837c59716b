"""A bundle's network: one of MONAI's classes that are known, by its arguments."""

from __future__ import annotations

from typing import Any, Final

from models.building.architectures.registry import architecture_names
from models.importing.monai.components import component
from models.importing.monai.configuration import Configuration
from models.manifest.networks import ArchitectureOf

__all__ = ["architecture_of", "classes_of"]

_PREFIX: Final = "monai.networks.nets."
# Newer MONAI finds the size out by itself, and refuses to be told.
_NO_LONGER: Final = {"SwinUNETR": ("img_size",)}
_TRAINING: Final = ("use_checkpoint",)


def architecture_of(configuration: Configuration) -> ArchitectureOf:
    """Return the network of a bundle.

    Raises:
        NotImportableError: it is not one that is known, or takes several images or slices.
    """
    name = "network_def" if "network_def" in configuration else "network"
    found = component(configuration, configuration.get(name), name)
    known = [one.removeprefix(_PREFIX) for one in architecture_names() if one.startswith(_PREFIX)]
    if found.name not in known:
        raise found.refused(f"is not known as a network. Known are {', '.join(known)}.")
    arguments: dict[str, Any] = {
        key: value
        for key, value in found.plain().items()
        if key not in (*_TRAINING, *_NO_LONGER.get(found.name, ()))
    }
    if arguments.get("spatial_dims", 3) != 3:
        raise found.refused("looks at single slices; networks of volumes are imported.")
    if arguments.get("in_channels", 1) != 1:
        raise found.refused(f"takes {arguments['in_channels']} channels; one is imported.")
    return ArchitectureOf(name=_PREFIX + found.name, arguments=arguments)


def classes_of(architecture: ArchitectureOf, configuration: Configuration) -> int:
    """Return the scores of a voxel.

    Raises:
        NotImportableError: the arguments do not say it.
    """
    found = architecture.arguments.get("out_channels", 2 if "SegResNet" in architecture.name else 0)
    if not isinstance(found, int) or found < 1:
        raise configuration.refused("network_def", "out_channels does not say how many classes.")
    return found
