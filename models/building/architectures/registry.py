"""Every network by name: own modules, and the classes of MONAI and dynamic-network-architectures.

A library is imported when a network of it is asked for. A name is one of the list, never a path
that a file of weights may choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

import torch
from pydantic import ValidationError

from models.building.architectures.described import Architecture
from models.building.architectures.keys import KeyMap
from models.building.errors import ArchitectureError

__all__ = ["architecture_names", "build_network", "needs_fixed_batch", "published_keys"]

_HERE: Final = "models.building.architectures"
# Own networks: name -> module and the name in it.
_OWN: Final[Mapping[str, tuple[str, str]]] = {
    "deepmedic": ("deepmedic", "ARCHITECTURE"),
    "meshnet": ("meshnet", "ARCHITECTURE"),
    "msnet": ("msnet", "ARCHITECTURE"),
    "hippodeep-head": ("hippodeep", "HEAD"),
    "hippodeep-affine": ("hippodeep", "AFFINE"),
    "hippodeep-hippocampus": ("hippodeep", "HIPPOCAMPUS"),
}
# Classes by the names that bundles and plans give them.
_MONAI: Final = (
    "AttentionUnet",
    "BasicUNet",
    "DenseNet121",
    "DynUNet",
    "SegResNet",
    "SegResNetDS",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
_DYNAMIC: Final = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
# Networks that reckon with the sizes of their tensors while they run: a traced graph of them is
# right only when every size in it is a constant.
_FIXED: Final = frozenset({"monai.networks.nets.SwinUNETR"})
_MONAI_PREFIX: Final = "monai.networks.nets."
_DYNAMIC_PREFIX: Final = "dynamic_network_architectures.architectures.unet."


def architecture_names() -> tuple[str, ...]:
    """Return every name that a network can be built by."""
    return (
        *_OWN,
        *(_MONAI_PREFIX + name for name in _MONAI),
        *(_DYNAMIC_PREFIX + name for name in _DYNAMIC),
    )


def build_network(name: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Build a network with weights of no meaning, in evaluation mode.

    Args:
        name: one of `architecture_names()`.
        arguments: as the manifest declares them: numbers, text, lists.

    Raises:
        ArchitectureError: the name is not known, an argument is wrong, or the library is missing.
    """
    if name in _OWN:
        described = _described(name)
        return described.build(_checked(name, described, arguments)).eval()
    make = _library(name)
    try:
        return make(arguments).eval()
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ArchitectureError(
            f"{name} cannot be built of {dict(arguments)}: {error}. Correct the arguments."
        ) from error


def published_keys(name: str, arguments: Mapping[str, Any]) -> KeyMap:
    """Return how the published files of a network name its variables; as for `build_network`."""
    if name not in _OWN:
        _library(name)
        return KeyMap()
    described = _described(name)
    return described.keys(_checked(name, described, arguments))


def needs_fixed_batch(name: str) -> bool:
    """Return whether a network is saved for one number of patches alone."""
    return name in _FIXED


def _described(name: str) -> Architecture:
    module, attribute = _OWN[name]
    found: Architecture = getattr(import_module(f"{_HERE}.{module}"), attribute)
    return found


def _checked(name: str, described: Architecture, arguments: Mapping[str, Any]) -> Any:
    try:
        return described.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'arguments'}: {one['msg']}"
            for one in error.errors()
        )
        raise ArchitectureError(f"{name}: {said}. Correct the arguments.") from error


def _library(name: str) -> Callable[[Mapping[str, Any]], torch.nn.Module]:
    library, _, known = name.rpartition(".")
    if library + "." == _MONAI_PREFIX and known in _MONAI:
        return partial(_imported("monai_networks", "monai"), known)
    if library + "." == _DYNAMIC_PREFIX and known in _DYNAMIC:
        return partial(_imported("dynamic_networks", "dynamic-network-architectures"), known)
    raise ArchitectureError(
        f"There is no architecture {name}. Known are: {', '.join(architecture_names())}."
    )


def _imported(module: str, package: str) -> Callable[..., torch.nn.Module]:
    try:
        build: Callable[..., torch.nn.Module] = import_module(f"{_HERE}.{module}").build
    except ImportError as error:
        raise ArchitectureError(
            f"The package {package} is missing ({error}). Install it as `make setup` does."
        ) from error
    return build
