"""Weights of another program as safetensors, once: what is built later reads tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from models.building.architectures.loading import load_strictly
from models.building.architectures.registry import build_network
from models.building.weights.state_dict import load_plain, read_safetensors, tensors_of
from models.manifest.networks import ArchitectureOf

__all__ = ["convert_to_safetensors", "save_as_safetensors"]

# Keys under which trainers leave a state dict beside other things.
_WITHIN: Final = ("model", "state_dict", "net", "network")


def convert_to_safetensors(architecture: ArchitectureOf, weights: Path, file: Path) -> None:
    """Read a state dict, alone in its file or below a key that trainers use, and save it.

    Args:
        architecture: the network.
        weights: of `torch.save`, or safetensors.
        file: where to.

    Raises:
        ArchitectureError: there is no such network.
        WeightsError: the file holds code, or tensors of another network.
    """
    if weights.suffix == ".safetensors":
        save_as_safetensors(architecture, read_safetensors(weights), file)
        return
    content = load_plain(weights)
    nested = [key for key in _WITHIN if isinstance(content, dict) and key in content]
    tensors = tensors_of(content, tuple(nested[:1]), weights)
    save_as_safetensors(architecture, tensors, file)


def save_as_safetensors(
    architecture: ArchitectureOf, tensors: Mapping[str, torch.Tensor], file: Path
) -> None:
    """Put tensors into the network that they are of, and save its variables, each once.

    Args:
        architecture: the network.
        tensors: by the network's names; of one that has several, one is enough.
        file: where to.

    Raises:
        ArchitectureError: there is no such network.
        WeightsError: the tensors are not this network's.
    """
    from safetensors.torch import save_file

    named = {_without_wrappers(name): tensor for name, tensor in tensors.items()}
    network = load_strictly(build_network(architecture.name, architecture.arguments), named)
    variables = dict(network.named_parameters()) | dict(network.named_buffers())
    save_file({name: one.detach().contiguous() for name, one in variables.items()}, file)


def _without_wrappers(name: str) -> str:
    """Take off what training on several devices or compiling put before a network's own names."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")
