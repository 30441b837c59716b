"""From a built model's folder to a pipeline that runs: record, manifest, networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import (
    BuildRecord,
    Manifest,
    Target,
    lint_manifest,
    load_build_record,
    plan_model_name,
)
from models.runtime.bls_network import BlsNetwork
from models.runtime.errors import NetworkUnavailableError
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline

__all__ = ["BlsCall", "assemble"]

BlsCall = Callable[[str, NDArray[np.float32]], NDArray[np.uint8]]


def assemble(
    model_folder: Path, threads: int, bls_call: BlsCall | None = None
) -> tuple[Pipeline, BuildRecord]:
    """Load the pipeline of a Triton model's folder (with `1/` below it).

    Raises:
        NetworkUnavailableError: the folder was built by another version of the code than runs
            here: its digest would then promise results that this process does not give.
    """
    record = load_build_record(model_folder)
    version = model_folder / "1"
    manifest = lint_manifest(version / "manifest.yaml")
    digest = manifest.digest_for(record.precision, record.target)
    if digest != record.digest:
        raise NetworkUnavailableError(
            f"{record.model} was built as {record.digest[:12]}, this code makes it "
            f"{digest[:12]}. Build the model again."
        )
    networks = {
        name: _network(name, manifest, record, version, threads, bls_call)
        for name in manifest.networks
    }
    return Pipeline(manifest, networks, threads), record


def _network(
    name: str,
    manifest: Manifest,
    record: BuildRecord,
    folder: Path,
    threads: int,
    bls_call: BlsCall | None,
) -> Network:
    shape = manifest.networks[name].patch
    precision = record.precision.value
    scores = manifest.head_of(name).threshold is None
    if record.target is Target.CPU:
        from models.runtime.openvino_network import OpenVinoNetwork, OpenVinoScores

        on_cpu = OpenVinoScores if scores else OpenVinoNetwork
        return on_cpu(name, folder / f"{name}.xml", precision, threads)
    if record.target is Target.TORCH:
        from models.runtime.torch_network import TorchNetwork, TorchScores

        on_gpu = TorchScores if scores else TorchNetwork
        return on_gpu(name, folder / f"{name}.pt", shape, precision, "cuda")
    if bls_call is None:
        raise NetworkUnavailableError(
            f"Network {name} is a TensorRT plan, which only Triton can run. Load it there."
        )
    plan = plan_model_name(manifest.name, record.digest, name)
    return BlsNetwork(name, plan, shape, precision, bls_call)
