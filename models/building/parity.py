"""Parity: a built model beside the trained networks, through the whole pipeline on one volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.building.errors import ParityError
from models.building.phantoms import ReferenceVolume
from models.evaluate import dice, differing_voxels
from models.manifest import Manifest, Precision
from models.manifest.record import Parity, SegmentParity
from models.runtime.known_answer import KnownAnswer
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume

__all__ = ["ParityReference", "compare", "known_answer_of", "require_accepted", "segment_volume"]

# Every third voxel keeps an organ recognisable and the known answer small.
_KNOWN_ANSWER_STEP = 3
# Voxels that are kept around what was found, and the most a side in all.
_AROUND, _LARGEST_SIDE = 16, 128


@dataclass(frozen=True, slots=True)
class ParityReference:
    """A volume and what the trained networks make of it: labels uint8 [k, j, i]."""

    case: ReferenceVolume
    labels: NDArray[np.uint8]


def segment_volume(
    manifest: Manifest, networks: Mapping[str, Network], case: ReferenceVolume
) -> NDArray[np.uint8]:
    """Run the whole pipeline on a volume, which every role sees.

    Raises:
        ParityError: the pipeline refuses the volume, or finds nothing.
    """
    return _segment(manifest, networks, case)[0]


def _segment(
    manifest: Manifest, networks: Mapping[str, Network], case: ReferenceVolume
) -> tuple[NDArray[np.uint8], int]:
    """Return the labels, and how often a network was asked for them."""
    volume = SourceVolume(case.pixels, case.affine_lps)
    result = Pipeline(manifest, networks).run(dict.fromkeys(manifest.roles, volume))
    if result.labels is None or not result.labels.any():
        raise ParityError(
            f"{manifest.name}: the networks find nothing in the volume of acceptance.parity.case "
            f"(refusal: {result.refusal}). Choose a volume that shows what the model segments."
        )
    return result.labels, len(result.networks)


def compare(
    manifest: Manifest,
    precision: Precision,
    labels: NDArray[np.uint8],
    reference: ParityReference,
) -> Parity:
    """Compare labels uint8 [k, j, i] with the reference and judge by the manifest's bound."""
    bound = manifest.acceptance.parity.bounds[precision]
    of_segments = tuple(
        _of_segment(segment.number, labels, reference.labels) for segment in manifest.segments
    )
    # The worst segment counts: two that were exchanged agree as one foreground.
    agreement = min(one.dice for one in of_segments)
    differing = int(np.count_nonzero(labels != reference.labels))
    return Parity(
        precision=precision,
        head_sha256=reference.case.sha256,
        dice=agreement,
        differing_voxels=differing,
        reference_voxels=int(np.count_nonzero(reference.labels)),
        segments=of_segments,
        accepted=agreement >= bound.min_dice and differing <= bound.max_differing_voxels,
    )


def _of_segment(
    number: int, labels: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> SegmentParity:
    ours, theirs = labels == number, reference == number
    return SegmentParity(
        number=number,
        dice=dice(ours, theirs),
        differing_voxels=differing_voxels(ours, theirs),
        reference_voxels=int(np.count_nonzero(theirs)),
    )


def require_accepted(manifest: Manifest, parity: Parity) -> None:
    """Check a comparison against the manifest's bound.

    Raises:
        ParityError: the comparison is outside the bound.
    """
    if not parity.accepted:
        bound = manifest.acceptance.parity.bounds[parity.precision]
        raise ParityError(
            f"{manifest.name} in {parity.precision.value}: Dice {parity.dice:.5f} (at least "
            f"{bound.min_dice}), {parity.differing_voxels} voxels differ (at most "
            f"{bound.max_differing_voxels}). Build another precision, or find the cause."
        )


def known_answer_of(
    manifest: Manifest,
    networks: Mapping[str, Network],
    case: ReferenceVolume,
    labels: NDArray[np.uint8],
) -> KnownAnswer:
    """Make a small volume and record what the built networks make of it.

    The volume of the parity check is shrunk. Where nothing is found then (what is looked for is
    small, or the networks see values of a unit), or a network is asked more than once, it is cut to
    the part around what was found, if that is answered with less: every load waits for the answer.

    Args:
        manifest: of the model.
        networks: as built.
        case: the volume of the parity check.
        labels: uint8 [k, j, i] that were found in it.
    """
    if manifest.acceptance.parity.case.phantom is not None:
        # Small, and in the units that the plan's windows are of.
        return _known(manifest, networks, case)[0]
    small = case.pixels[::_KNOWN_ANSWER_STEP, ::_KNOWN_ANSWER_STEP, ::_KNOWN_ANSWER_STEP]
    low, high = float(small.min()), float(small.max())
    shrunk = np.round((small - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)
    affine = case.affine_lps.copy()
    affine[:3, :3] *= _KNOWN_ANSWER_STEP
    try:
        first = _known(manifest, networks, ReferenceVolume(shrunk.astype(np.float32), affine))
    except ParityError:
        return _known(manifest, networks, _around(case, labels))[0]
    if first[1] <= len(manifest.networks):
        return first[0]
    try:
        second = _known(manifest, networks, _around(case, labels))
    except ParityError:
        return first[0]
    return min(first, second, key=lambda one: one[1])[0]


def _known(
    manifest: Manifest, networks: Mapping[str, Network], volume: ReferenceVolume
) -> tuple[KnownAnswer, int]:
    labels, asked = _segment(manifest, networks, volume)
    known = KnownAnswer(manifest.grid_role, _compact(volume.pixels), volume.affine_lps, labels)
    return known, asked


def _compact(pixels: NDArray[np.float32]) -> NDArray[Any]:
    """Return the same values in the smallest type of three that holds them."""
    for kind in (np.uint8, np.int16):
        limits = np.iinfo(kind)
        inside = pixels.min() >= limits.min and pixels.max() <= limits.max
        if inside and not (pixels % 1).any():
            return pixels.astype(kind)
    return pixels


def _around(case: ReferenceVolume, labels: NDArray[np.uint8]) -> ReferenceVolume:
    """Cut a volume to the part around what was found, of so many voxels a side at most."""
    box: list[slice] = []
    for axis, side in enumerate(labels.shape):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(labels.any(axis=others))
        first, end = int(found[0]) - _AROUND, int(found[-1]) + 1 + _AROUND
        more = max(end - first - _LARGEST_SIDE, 0)
        first, end = first + more // 2, end - (more - more // 2)
        box.append(slice(max(first, 0), min(end, side)))
    affine = case.affine_lps.copy()
    starts = np.array([part.start for part in reversed(box)], np.float64)
    affine[:3, 3] += affine[:3, :3] @ starts
    return ReferenceVolume(np.ascontiguousarray(case.pixels[tuple(box)]), affine)
