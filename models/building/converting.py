"""Weights of another program as safetensors, once: what is built later reads tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from models.building.architectures.loading import load_strictly
from models.building.architectures.registry import build_network
from models.manifest.networks import ArchitectureOf

__all__ = ["save_as_safetensors"]


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
