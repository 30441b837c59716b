"""A manifest's networks as they are built for the CPU, without a build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.building.exporting import save_ir
from models.building.network_modules import save_network
from models.manifest import Manifest
from models.runtime.openvino_network import OpenVinoScores

__all__ = ["cpu_networks"]


def cpu_networks(
    manifest: Manifest, weights_of: Callable[[str], Path], folder: Path
) -> dict[str, OpenVinoScores]:
    """Each network of one channel in OpenVINO, f32, on two threads.

    Args:
        manifest: of the model.
        weights_of: the file of trained weights, by the network's name.
        folder: for what is written.
    """
    built: dict[str, OpenVinoScores] = {}
    for name, network in manifest.networks.items():
        module = folder / f"{name}.pt"
        save_network(network, manifest.head_of(name), weights_of(name), module)
        save_ir(module, (1, *network.patch), None, folder / f"{name}.xml")
        built[name] = OpenVinoScores(name, folder / f"{name}.xml", "f32", 2)
    return built
