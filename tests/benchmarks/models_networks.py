"""Two published networks over a scan, beside MONAI's sliding window in PyTorch eager.

MONAI's SegResNet as its bundles have it, and nnU-Net's network in the size of TotalSegmentator's
part-models (25 classes, patches of 128 cubed), both with seeded weights: the time depends on what
is computed, not on what is found. Ours is the whole pipeline of a model that was imported, from
stored voxels to labels on the slices; the peer gets the image prepared, and decides by argmax. Both
f32.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray

from models.building.architectures import build_network
from models.building.exporting import save_ir
from models.building.network_modules import save_network
from models.importing import Said, Shown, import_network
from models.manifest import lint_manifest
from models.runtime.networks import Network
from models.runtime.openvino_network import OpenVinoScores
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume
from tests.benchmarks.rows import Row, budget

_THREADS: Final = 2
_REPEATS: Final = 3
_FASTER: Final = 1.6
# What is done beside the networks, as a share of one pass of a network over its patch.
_BESIDE: Final = 0.10
_SCAN: Final = (128, 128, 192)
_NNUNET: Final = {
    "input_channels": 1,
    "num_classes": 25,
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_SEGRESNET: Final = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 5,
    "init_filters": 16,
    "blocks_down": [1, 2, 2, 4],
    "blocks_up": [1, 1, 1],
    "dropout_prob": 0.2,
}
# Name of the figure, architecture, its arguments, classes, patch.
_NETWORKS: Final[tuple[tuple[str, str, dict[str, Any], int, tuple[int, int, int]], ...]] = (
    ("segresnet", "monai.networks.nets.SegResNet", _SEGRESNET, 5, (96, 96, 96)),
    (
        "nnunet-part",
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        _NNUNET,
        25,
        (128, 128, 128),
    ),
)


def rows() -> list[Row]:
    """Measures ours and MONAI in turn, in one run."""
    torch.set_num_threads(_THREADS)
    made: list[Row] = []
    for name, architecture, arguments, classes, patch in _NETWORKS:
        torch.manual_seed(3)
        network = build_network(architecture, arguments).eval()
        made += _of_network(name, network, classes, patch)
    return made


def _of_network(
    name: str, network: torch.nn.Module, classes: int, patch: tuple[int, int, int]
) -> list[Row]:
    scan = np.random.default_rng(4).integers(-200, 300, _SCAN, np.int16)
    scaled = (np.clip(scan, -160, 240).astype(np.float32) + np.float32(160)) / np.float32(400)
    with tempfile.TemporaryDirectory() as made:
        pipeline = _pipeline(Path(made), network, classes, patch)
        # Slices, rows, columns as they lie: feet to head, front to back, right to left (LPS).
        volume = SourceVolume(scan, np.eye(4))
        results: dict[str, Any] = {}

        def ours() -> None:
            results["ours"] = pipeline.run({"image": volume})

        def peer() -> None:
            results["peer"] = _by_monai(network, scaled, patch)

        ours()
        peer()
        rounds = [(_once(ours), _once(peer)) for _ in range(_REPEATS)]
        found = results["ours"]
        own, other = (statistics.median(one[place] for one in rounds) for place in (0, 1))
        apart = float((found.labels != results["peer"]).mean())
        assert apart <= 1e-3, apart
        beside = own - sum(each.seconds for each in found.networks)
        one_pass = statistics.median(each.seconds for each in found.networks)
    return [
        Row(f"models-{name}-sliding-window", own, other, "s", other / own, _FASTER, "higher"),
        budget(f"models-{name}-beside-network", beside / one_pass, "of one pass", _BESIDE),
    ]


def _pipeline(
    folder: Path, network: torch.nn.Module, classes: int, patch: tuple[int, int, int]
) -> Pipeline:
    archive = folder / "network.ts"
    with torch.inference_mode():
        traced = torch.jit.trace(network, torch.zeros(1, 1, *patch), check_trace=False)  # pyright: ignore[reportPrivateImportUsage, reportUnknownMemberType]
    torch.jit.save(traced, str(archive))  # pyright: ignore[reportPrivateImportUsage, reportUnknownMemberType]
    named = tuple(f"part-{number}" for number in range(1, classes))
    window = {"kind": "window", "low": -160.0, "high": 240.0, "to": [0.0, 1.0]}
    shown = Shown(named, patch, "SPL", None, window)
    said = Said("measured", folder / "catalogue", modality="CT")
    imported = import_network(archive, said, shown, lambda step: None)
    manifest = lint_manifest(imported.folder)
    described = manifest.networks["network"]
    save_network(described, manifest.head_of("network"), archive, folder / "network.pt")
    save_ir(folder / "network.pt", (1, *patch), None, folder / "network.xml")
    built: dict[str, Network] = {
        "network": OpenVinoScores("network", folder / "network.xml", "f32", _THREADS)
    }
    return Pipeline(manifest, built, _THREADS)


def _by_monai(
    network: torch.nn.Module, scaled: NDArray[np.float32], patch: tuple[int, int, int]
) -> NDArray[np.uint8]:
    with torch.inference_mode():
        scores = sliding_window_inference(
            torch.from_numpy(scaled)[None, None], patch, 1, network, 0.5, "gaussian"
        )
        assert isinstance(scores, torch.Tensor)
        return scores[0].argmax(dim=0).to(torch.uint8).numpy()


def _once(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
