"""All nine networks of brats17 through the recipe's plan and by hand, on a part of a real glioma.

By hand is the authors' program, step by step: NumPy, SciPy's morphology, and the networks in torch.
What it leaves to chance, noise where nothing was measured, is the recipe's own; where two answers
overlap it takes their mean, as the recipe does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.building.architectures import build_network, load_strictly, published_keys
from models.building.network_modules import save_network
from models.building.reference_volumes import read_nifti
from models.building.weights import read_tensorflow_checkpoint
from models.building.weights.layout import channels_first
from models.manifest import Manifest, lint_manifest
from models.manifest.networks import Network
from models.runtime.crew import Crew
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.noise import AROUND, standard_noise
from models.runtime.pipeline import Pipeline
from models.runtime.record import PipelineResult, Stopwatch
from models.runtime.running import Run
from models.runtime.scores import Scores
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step
from models.runtime.torch_network import TorchScores
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.scans import shared_data
from tests.conftest import Scan

pytestmark = EXPORTER_WARNS

RECIPES = Path(__file__).resolve().parents[3] / "models" / "recipes"
F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

# Channels in the networks' order: the role, and the file of the contrast.
CONTRASTS = {"flair": "fla", "t1": "t1", "t1c": "t1c", "t2": "t2"}
# The part of the scan: in the tumour. So little is seen of the brain that each stage sees it all.
PART = (slice(98, 126), slice(76, 128), slice(78, 122))
# Of each view: the image's axes in the order in which it sees them.
VIEWS = {"axial": (0, 1, 2), "sagittal": (2, 0, 1), "coronal": (1, 0, 2)}
STAGES = ("whole", "core", "enhancing")
# Sides of an input in the plane, smaller and larger than the part's: multiples of 4.
SIDES = {"axial": (48, 44), "sagittal": (32, 56), "coronal": (28, 48)}
NEIGHBOURS = ndimage.generate_binary_structure(3, 2)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """The recipe with smaller patches."""
    whole = lint_manifest(RECIPES / "glioma")
    networks = {
        name: network.model_copy(update={"patch": (19, *SIDES[name.split("-")[1]])})
        for name, network in whole.networks.items()
    }
    return whole.model_copy(update={"networks": networks})


class Loaded:
    """A network of the recipe with the published weights and its head, not converted."""

    target, precision = "torch", "f32"

    def __init__(self, name: str, network: Network, folder: Path) -> None:
        self.name, self.shape = name, network.patch
        described, weights = network.architecture, network.weights
        assert described is not None
        self._answers: dict[bytes, F32] = {}
        self._module = load_strictly(
            build_network(described.name, described.arguments),
            channels_first(read_tensorflow_checkpoint(folder / Path(weights.path).name)),
            published_keys(described.name, described.arguments).within(weights.scope),
        )

    def scores(self, batch: F32) -> F32:
        """See `ScoringNetwork.scores`; what was asked before is answered as it was."""
        asked = hashlib.sha256(batch.tobytes()).digest()
        if asked not in self._answers:
            with torch.inference_mode():
                self._answers[asked] = self._module(torch.from_numpy(batch)).softmax(dim=1).numpy()
        return self._answers[asked].copy()

    def release(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def networks(manifest: Manifest, weights: Scan) -> dict[str, Loaded]:
    folder = weights("brats17-msnet")
    return {name: Loaded(name, one, folder) for name, one in manifest.networks.items()}


@pytest.fixture(scope="module")
def scans() -> dict[str, SourceVolume]:
    """The part of each contrast, all on one grid (TCGA-LGG, DU-7294; CC BY 3.0)."""
    folder = shared_data() / "images" / "tcga-du-7294"
    if not folder.is_dir():
        pytest.skip("needs the glioma's images (TCGA-LGG, DU-7294) in the shared folder")
    made: dict[str, SourceVolume] = {}
    for role, name in CONTRASTS.items():
        scan = read_nifti(folder / f"{name}.nii.gz")
        made[role] = SourceVolume(np.ascontiguousarray(scan.pixels[PART]), scan.affine_lps)
    return made


class ByHand:
    """brats17's test.py on arrays [z, y, x]."""

    def __init__(self, networks: Mapping[str, Loaded]) -> None:
        self.networks = networks
        # The mean of the three views' probability of each stage, on that stage's box.
        self.seen: dict[str, F32] = {}

    def labels(self, contrasts: F32) -> NDArray[np.uint8]:
        """Segments of contrasts [4, z, y, x]: 1 oedema, 2 the rest of the core, 3 enhancing."""
        brain = around(contrasts[0] > 0, 5)
        head = contrasts[(slice(None), *brain)]
        weight = head[0] > 0
        scaled = np.stack([normalised(channel, place) for place, channel in enumerate(head)])
        first = self.stage("whole", scaled) & weight
        solid = large(closed(first)) if first.any() else first
        # Where nothing is left the authors' program fails.
        box = around(solid, 5) if solid.any() else everything(first)
        second = self.stage("core", scaled[(slice(None), *box)]) & weight[box]
        inner = around(two_largest(closed(second)), 5) if second.any() else everything(second)
        third = self.stage("enhancing", scaled[(slice(None), *box)][(slice(None), *inner)])
        third &= weight[box][inner]
        core, enhancing = np.zeros_like(first), np.zeros_like(first)
        core[box] = second
        enhancing[box][inner] = third
        whole, core, enhancing = fused(first, core, enhancing)
        found = np.zeros(contrasts.shape[1:], np.uint8)
        for number, part in ((1, whole), (2, core), (3, enhancing)):
            found[brain][part] = number
        return found

    def stage(self, name: str, scaled: F32) -> Mask:
        """Where the mean of three views says that the part is."""
        total = np.zeros((2, *scaled.shape[1:]), np.float32)
        for view, axes in VIEWS.items():
            total += self.view(name, view, axes, scaled)
        self.seen[name] = total[1] / 3
        return total[1] > total[0]

    def view(self, name: str, view: str, axes: tuple[int, int, int], scaled: F32) -> F32:
        """The probabilities [2, z, y, x] of one network."""
        network = self.networks[f"{name}-{view}"]
        slices, height, width = (scaled.shape[1 + axis] for axis in axes)
        sides = SIDES[view]
        lines = [line(height, sides[0]), line(width, sides[1])]
        stacks = stack_starts(slices)
        # Noise lies around as far as a network looks, by the image's own axes.
        before = (max(0, -stacks[0]) + 4, -lines[0][0], -lines[1][0])
        behind = (
            stacks[-1] + 15 - slices,
            max(lines[0]) + sides[0] - height,
            max(lines[1]) + sides[1] - width,
        )
        pads = [(max(one, 0), max(other, 0)) for one, other in zip(before, behind, strict=True)]
        by_image = [pads[axes.index(axis)] for axis in range(3)]
        wide = [side + sum(pad) for side, pad in zip(scaled.shape[1:], by_image, strict=True)]
        around_it = standard_noise((4, *wide), AROUND)
        inside = [
            slice(pad[0], pad[0] + n) for pad, n in zip(by_image, scaled.shape[1:], strict=True)
        ]
        around_it[(slice(None), *inside)] = scaled
        seen = around_it.transpose(0, *(1 + axis for axis in axes))
        found = np.zeros((2, slices + 22, seen.shape[2], seen.shape[3]), np.float32)
        count = np.zeros(found.shape[1:], np.float32)
        for start in stacks:
            for row in lines[0]:
                for column in lines[1]:
                    k, i, j = start + pads[0][0] - 4, row + pads[1][0], column + pads[2][0]
                    patch = seen[:, k : k + 19, i : i + sides[0], j : j + sides[1]]
                    scores = network.scores(patch[None].copy())
                    place = (
                        slice(start + 11, start + 22),
                        slice(i, i + sides[0]),
                        slice(j, j + sides[1]),
                    )
                    found[(slice(None), *place)] += scores[0]
                    count[place] += 1
        found = (found / np.maximum(count, 1)).astype(np.float32)
        inner = found[
            :,
            11 : 11 + slices,
            pads[1][0] : pads[1][0] + height,
            pads[2][0] : pads[2][0] + width,
        ]
        return inner.transpose(0, *(1 + axes.index(axis) for axis in range(3)))


def stack_starts(slices: int) -> list[int]:
    """First slices of the answers of 11, as the authors count them."""
    if slices <= 11:
        return [slices // 2 - 5]
    return [min(center, slices - 5) - 5 for center in range(5, slices + 5, 11)]


def line(side: int, patch: int) -> list[int]:
    """Where patches begin along a side: it lies in the middle, or they stand side by side."""
    if side <= patch:
        return [side // 2 - patch // 2]
    return [min(first, side - patch) for first in range(0, side, patch)]


def normalised(channel: F32, place: int) -> F32:
    pixels = channel[channel > 0].astype(np.float64)
    out = ((channel - pixels.mean()) / pixels.std()).astype(np.float32)
    out[channel == 0] = standard_noise(channel.shape, place)[channel == 0]
    return out


def around(mask: Mask, margin: int) -> Box:
    places = np.nonzero(mask)
    first, second, third = (
        slice(max(one.min() - margin, 0), min(one.max() + margin, side - 1) + 1)
        for one, side in zip(places, mask.shape, strict=True)
    )
    return first, second, third


def everything(mask: Mask) -> Box:
    return around(np.ones_like(mask), 0)


def closed(mask: Mask) -> Mask:
    """SciPy's closing takes what touches the array's edge away: room is put around."""
    padded = np.asarray(ndimage.binary_closing(np.pad(mask, 2), NEIGHBOURS), np.bool_)
    return padded[2:-2, 2:-2, 2:-2]


def pieces(mask: Mask) -> tuple[NDArray[Any], NDArray[Any]]:
    labelled, count = ndimage.label(mask, NEIGHBOURS)  # pyright: ignore[reportGeneralTypeIssues]
    return labelled, np.array(ndimage.sum(mask, labelled, range(1, count + 1)))


def large(mask: Mask) -> Mask:
    labelled, sizes = pieces(mask)
    return mask if len(sizes) == 1 else np.isin(labelled, np.flatnonzero(sizes > 2000) + 1)


def two_largest(mask: Mask) -> Mask:
    labelled, sizes = pieces(mask)
    order = np.argsort(sizes)[::-1]
    kept = [order[0], *(one for one in order[1:2] if sizes[one] * 10 > sizes[order[0]])]
    return np.isin(labelled, np.array(kept) + 1)


def fused(whole: Mask, core: Mask, enhancing: Mask) -> tuple[Mask, Mask, Mask]:
    extent = large(closed(whole | core | enhancing))
    whole = whole & extent
    inner = closed((core | enhancing) & extent)
    labelled, sizes = pieces(inner)
    near = [
        place + 1
        for place, size in enumerate(sizes)
        if (whole & (labelled == place + 1)).sum() / size >= 0.5
    ]
    inner = np.isin(labelled, near)
    inner = two_largest(inner) if inner.any() else inner
    enhancing = inner & enhancing
    if enhancing.sum() < 30:
        enhancing = np.zeros_like(enhancing)
    return whole | inner, inner, enhancing


@pytest.fixture(scope="module")
def by_hand(
    networks: dict[str, Loaded], scans: Mapping[str, SourceVolume]
) -> tuple[NDArray[np.uint8], ByHand]:
    hand = ByHand(networks)
    return hand.labels(np.stack([scans[role].voxels for role in CONTRASTS])), hand


@pytest.fixture(scope="module")
def result(
    manifest: Manifest, networks: dict[str, Loaded], scans: dict[str, SourceVolume]
) -> PipelineResult:
    return Pipeline(manifest, networks, 2).run(scans)


def test_labels_are_those_of_the_authors_steps(
    result: PipelineResult, by_hand: tuple[NDArray[np.uint8], ByHand]
) -> None:
    wanted, _ = by_hand
    assert result.labels is not None
    # Probabilities differ by some 1e-5, so that single voxels at one half may fall otherwise.
    assert (result.labels != wanted).sum() <= 3
    assert result.voxels == {number: int((result.labels == number).sum()) for number in (1, 2, 3)}


def test_every_network_is_asked_and_in_its_stage(result: PipelineResult) -> None:
    asked = list(dict.fromkeys(time.network for time in result.networks))
    order = [name.split("-")[0] for name in asked]
    assert len(asked) == 9
    assert order == sorted(order, key=STAGES.index)


def test_each_stage_is_the_mean_of_three_views(
    manifest: Manifest,
    networks: dict[str, Loaded],
    scans: dict[str, SourceVolume],
    by_hand: tuple[NDArray[np.uint8], ByHand],
) -> None:
    facts = {name: network.facts for name, network in manifest.networks.items()}
    run = Run(scans, networks, Crew(2), Stopwatch(), facts, 1 << 30)
    for role, scan in scans.items():
        run.keep(role, Image(source_grid(role, scan), ()))
    for step in manifest.plan:
        run_step(step, run)
        scores = run.values[step.out]
        if not (step.do == "combine" and isinstance(scores, Scores)):
            continue
        slabs = list(scores.slabs)
        merged = np.concatenate([slab.scores for slab in slabs], axis=1 + slabs[0].axis)
        wanted = by_hand[1].seen[step.out.removesuffix("-scores")]
        assert np.abs(merged[1] - wanted).max() < 1e-3
        run.keep(step.out, replace(scores, slabs=iter(slabs)))


def test_contrasts_on_other_grids_are_brought_onto_flairs(
    manifest: Manifest, networks: dict[str, Loaded], scans: dict[str, SourceVolume]
) -> None:
    """T1 comes turned and mirrored, with planes of nothing around: the same voxels elsewhere."""
    t1 = scans["t1"]
    wider = np.pad(t1.voxels, ((2, 3), (0, 0), (1, 0)))[::-1].transpose(2, 0, 1)
    affine = t1.affine_lps.copy()
    affine[:3, 3] = t1.affine_lps[:3] @ np.array([-1.0, 0.0, len(t1.voxels) + 2.0, 1.0])
    affine[:3, 2] *= -1
    stored = SourceVolume(np.ascontiguousarray(wider), affine[:, [1, 2, 0, 3]])
    volumes = {**scans, "t1": stored}
    run = Run(volumes, networks, Crew(2), Stopwatch(), {}, 1 << 30)
    for role, scan in volumes.items():
        run.keep(role, Image(source_grid(role, scan), ()))
    for step in manifest.plan:
        run_step(step, run)
        if step.out == "contrasts":
            break
    stacked = run.image("contrasts").arrays(run.crew)
    for channel, role in zip(stacked, CONTRASTS, strict=True):
        assert np.array_equal(channel, scans[role].voxels)


def test_a_network_is_built_of_its_two_files(
    manifest: Manifest, networks: dict[str, Loaded], weights: Scan, tmp_path: Path
) -> None:
    name = "enhancing-coronal"
    network = manifest.networks[name]
    file = tmp_path / "network.pt"
    trained = weights("brats17-msnet") / Path(network.weights.path).name
    save_network(network, manifest.head_of(name), trained, file)
    image = standard_noise((1, 4, *network.patch), 0)
    built = TorchScores(name, file, network.patch, "f32", "cpu")
    assert np.abs(built.scores(image) - networks[name].scores(image)).max() < 1e-5


def without(scan: SourceVolume, value: float) -> SourceVolume:
    return SourceVolume(np.full(scan.shape, value, np.float32), scan.affine_lps)


@pytest.mark.parametrize("value", [0.0, float("nan")])
@pytest.mark.parametrize("role", ["t1", "t2"])
def test_a_contrast_without_contrast_or_numbers_is_refused(
    manifest: Manifest,
    networks: dict[str, Loaded],
    scans: dict[str, SourceVolume],
    role: str,
    value: float,
) -> None:
    spoiled = {**scans, role: without(scans[role], value)}
    refusal = Pipeline(manifest, networks).run(spoiled).refusal
    assert refusal is not None
    assert refusal.reason == "blank_image"


def test_contrasts_of_two_frames_of_reference_are_refused(
    manifest: Manifest, networks: dict[str, Loaded], scans: dict[str, SourceVolume]
) -> None:
    named = partial(_in_frame, scans)
    apart = {role: named(role, "1.2" if role == "t2" else "1.1") for role in scans}
    refusal = Pipeline(manifest, networks).run(apart).refusal
    assert refusal is not None
    assert refusal.reason == "frames_of_reference_differ"
    assert refusal.values == {"role": "T2-weighted MR of the brain", "other": "FLAIR of the brain"}


def _in_frame(scans: Mapping[str, SourceVolume], role: str, uid: str) -> SourceVolume:
    scan = scans[role]
    return SourceVolume(scan.voxels, scan.affine_lps, frame_of_reference_uid=uid)
