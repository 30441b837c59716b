"""brainchop's two networks through the recipe's plan and by hand, on a part of a real head.

By hand: the published head as it is conformed there, NumPy, SciPy's components, and the networks in
torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.building.architectures import build_network, load_strictly
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.weights import read_tfjs_layers
from models.building.weights.layout import channels_first
from models.manifest import Manifest, lint_manifest
from models.runtime.openvino_network import OpenVinoScores
from models.runtime.pipeline import Pipeline
from models.runtime.record import PipelineResult
from models.runtime.source_volume import SourceVolume
from tests.builders.cpu_networks import cpu_networks
from tests.conftest import Scan

RECIPE = Path(__file__).resolve().parents[3] / "models" / "recipes" / "brain-tissue"
FILES = {"mask": "model5_gw_ae", "tissue": "model30chan18cls"}
# To the left, to the feet, to the front: a side of the head, from air to the deep structures.
PART = (slice(44, 140), slice(92, 180), slice(76, 172))
PATCHES = {"mask": (96, 88, 96), "tissue": (92, 96, 100)}
MARGIN = 8
F32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """The recipe with smaller patches."""
    whole = lint_manifest(RECIPE)
    networks = {
        name: network.model_copy(update={"patch": PATCHES[name]})
        for name, network in whole.networks.items()
    }
    return whole.model_copy(update={"networks": networks})


@pytest.fixture(scope="module")
def networks(
    manifest: Manifest, weights: Scan, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, OpenVinoScores]:
    """The networks as they are built for the CPU."""
    files = weights("brainchop")
    folder = tmp_path_factory.mktemp("networks")
    return cpu_networks(manifest, lambda name: files / FILES[name] / "model.json", folder)


@pytest.fixture(scope="module")
def head(weights: Scan) -> F32:
    """The part of the head [left, feet, front]."""
    file: nibabel.Nifti1Image = nibabel.load(weights("brainchop") / "t1_crop.nii.gz")  # pyright: ignore[reportAssignmentType, reportPrivateImportUsage]
    assert nibabel.aff2axcodes(file.affine) == ("L", "I", "A")  # pyright: ignore[reportPrivateImportUsage]
    return np.asarray(file.dataobj, np.float32)[PART]


def scores(name: str, image: F32, weights: Scan) -> F32:
    """Probabilities [classes, left, feet, front]."""
    layers = read_tfjs_layers(weights("brainchop") / FILES[name] / "model.json")
    arguments, keys = meshnet_of(layers)
    network = load_strictly(
        build_network("meshnet", arguments), channels_first(layers.tensors), keys
    )
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None, None]).softmax(dim=1)[0].numpy()


@pytest.fixture(scope="module")
def by_hand(head: F32, weights: Scan) -> F32:
    """Probabilities [18, left, feet, front]; of what the box leaves out background."""
    low, high = np.quantile(head, [0.0, 0.999])
    scaled = np.clip((head - low) / (high - low), 0.0, 1.0).astype(np.float32)
    seen = scores("mask", scaled, weights).argmax(axis=0) > 0
    labelled, _ = ndimage.label(seen, np.ones((3, 3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    largest = labelled == np.bincount(labelled[seen]).argmax()
    assert 0 < (seen & ~largest).sum() < largest.sum() < seen.size / 2
    box = tuple(
        slice(max(side.start - MARGIN, 0), min(side.stop + MARGIN, size))
        for side, size in zip(
            ndimage.find_objects(largest.astype(np.uint8))[0], seen.shape, strict=True
        )
    )
    part = scaled[box]
    assert part.size < 0.9 * scaled.size
    # A smaller image lies in the middle of the patch, zero around it.
    room = [patch - side for patch, side in zip(PATCHES["tissue"], part.shape, strict=True)]
    padded = np.pad(part, [(one // 2, one - one // 2) for one in room])
    inner = tuple(
        slice(one // 2, one // 2 + side) for one, side in zip(room, part.shape, strict=True)
    )
    probabilities = np.zeros((18, *head.shape), np.float32)
    probabilities[0] = 1.0
    probabilities[(slice(None), *box)] = scores("tissue", padded, weights)[(slice(None), *inner)]
    return probabilities


def stored(head: F32, order: tuple[int, int, int], flipped: tuple[int, ...]) -> SourceVolume:
    """The head as a scanner might store it: [k, j, i] along other axes, some against them."""
    to_lps = np.zeros((3, 3))
    for axis, direction in enumerate(((1, 0, 0), (0, 0, -1), (0, -1, 0))):
        to_lps[:, axis] = direction
    affine = np.eye(4)
    for place, axis in enumerate(order):
        step = to_lps[:, axis] * (-1 if place in flipped else 1)
        affine[:3, 2 - place] = step
        if place in flipped:
            affine[:3, 3] -= step * (head.shape[axis] - 1)
    turned = np.flip(head.transpose(order), flipped)
    return SourceVolume(np.ascontiguousarray(turned), affine)


def run(manifest: Manifest, networks: dict[str, Any], volume: SourceVolume) -> PipelineResult:
    return Pipeline(manifest, networks, 2).run({"image": volume})


@pytest.mark.parametrize(("order", "flipped"), [((2, 0, 1), (0, 2)), ((1, 0, 2), (1,))])
def test_the_labels_are_those_by_hand_however_the_head_is_stored(
    manifest: Manifest,
    networks: dict[str, OpenVinoScores],
    head: F32,
    by_hand: F32,
    order: tuple[int, int, int],
    flipped: tuple[int, ...],
) -> None:
    result = run(manifest, networks, stored(head, order, flipped))
    assert result.labels is not None
    back = np.flip(result.labels, flipped).transpose(np.argsort(order))
    wanted = by_hand.argmax(axis=0)
    best = np.sort(by_hand, axis=0)
    sure = best[-1] - best[-2] > 1e-3
    assert sure.mean() > 0.99
    assert len(np.unique(wanted)) > 12, "the part must show most of the structures"
    assert np.array_equal(back[sure], wanted[sure])
    assert [time.network for time in result.networks] == ["mask", "tissue"]


def test_axes_in_another_order_find_no_deep_structures(
    manifest: Manifest, networks: dict[str, OpenVinoScores], head: F32
) -> None:
    """The file of a network does not tell its axes; the recipe's are those that find them."""
    deep = (7, 8, 9, 10, 17)
    right = run(manifest, networks, stored(head, (0, 1, 2), ())).voxels
    # The same voxels, said to lie otherwise: what lies to the front is shown as what lies below.
    said = stored(head.transpose(0, 2, 1), (0, 1, 2), ())
    wrong = run(manifest, networks, said).voxels
    assert sum(right[number] for number in deep) > 5000
    assert sum(wrong[number] for number in deep) < sum(right[number] for number in deep) / 10
