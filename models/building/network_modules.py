"""A described network with its trained weights and its head, as TorchScript."""

from __future__ import annotations

from pathlib import Path

import torch

from models.building.architectures.loading import load_strictly
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.architectures.registry import build_network, published_keys
from models.building.errors import BuildError, ClassesError, WeightsError
from models.building.exporting import save_module
from models.building.foreground import Head as DecidingHead
from models.building.foreground import save_foreground_module
from models.building.heads import ScoringHead
from models.building.weights import (
    read_safetensors,
    read_state_dict,
    read_tensorflow_checkpoint,
    read_tfjs_layers,
    read_torchscript,
)
from models.building.weights.layout import channels_first
from models.manifest.networks import ArchitectureOf, Network
from models.manifest.plan.heads import Head

__all__ = ["deciding_head", "save_network"]


def save_network(network: Network, head: Head, weights: Path, module_file: Path) -> None:
    """Read a network's weights and save it with its head.

    Args:
        network: as the manifest describes it.
        head: what the plan builds into it.
        weights: the file, of the hash that was pinned.
        module_file: where to.

    Raises:
        ClassesError: the network has another number of classes than was said.
        BuildError: the weights are not those of the network, or it takes no such patch.
    """
    deciding = deciding_head(network, head)
    if deciding is not None:
        save_foreground_module(_module(network, weights), weights, deciding, module_file)
        return
    module = _module(network, weights)
    takes = (network.channels, *network.patch)
    scoring = ScoringHead(kind="scores", activation=head.activation)
    answers = save_module(module, scoring, takes, module_file)
    _require_as_described(network, weights, answers)


def deciding_head(network: Network, head: Head) -> DecidingHead | None:
    """Return what a network answers with whose decision is built in; None: it gives scores."""
    rule = head.threshold
    if rule is None:
        return None
    return DecidingHead(network.classes, head.activation, rule.channel, rule.at)


def _module(network: Network, weights: Path) -> torch.nn.Module:
    described = network.architecture
    if described is None:
        return read_torchscript(weights)
    module = build_network(described.name, described.arguments)
    keys = published_keys(described.name, described.arguments)
    form = network.weights.format
    if form == "tensorflow-checkpoint":
        tensors = channels_first(read_tensorflow_checkpoint(weights))
        return load_strictly(module, tensors, keys.within(network.weights.scope))
    if form == "tfjs-layers":
        return _of_layers(module, described, weights)
    read = read_safetensors if form == "safetensors" else read_state_dict
    return load_strictly(module, read(weights), keys)


def _of_layers(
    module: torch.nn.Module, described: ArchitectureOf, weights: Path
) -> torch.nn.Module:
    """Load a chain of layers that says itself what it is made of.

    Raises:
        WeightsError: that is something else than the manifest says.
    """
    model = read_tfjs_layers(weights)
    arguments, keys = meshnet_of(model)
    for name, found in arguments.items():
        if name in described.arguments and described.arguments[name] != found:
            raise WeightsError(
                f"{weights}: {name} is {found}, and the manifest says "
                f"{described.arguments[name]}. Correct networks.*.architecture.arguments."
            )
    return load_strictly(module, channels_first(model.tensors), keys)


def _require_as_described(network: Network, weights: Path, answers: tuple[int, ...]) -> None:
    """Compare the shape [n, k, *out] of a network's answer to a patch with what was said."""
    if answers[1] != network.classes:
        raise ClassesError(
            f"{weights} has {answers[1]} classes, not {network.classes}.", answers[1]
        )
    left = tuple(side - 2 * lost for side, lost in zip(network.patch, network.margin, strict=True))
    if answers[2:] != left:
        raise BuildError(
            f"{weights} answers a patch of {list(network.patch)} with {list(answers[2:])} voxels, "
            f"and the manifest's margin leaves {list(left)}. Correct the margin."
        )
