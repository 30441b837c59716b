"""A manifest's pipeline as it is run: the parameters that decide, and no others.

What the networks' heads hold (channel, threshold, activation) is in the built networks; what
selects, describes and judges is other rooms' matter. Each field here is read by a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.manifest import Manifest
from models.manifest.networks import LargestComponent

__all__ = ["BoxRule", "CoarseToFine", "KeepLargest", "Scale", "compile_pipeline"]


@dataclass(frozen=True, slots=True)
class BoxRule:
    """Planes whose mean exceeds `plane_mean` span the box, which grows by `margin` on each side."""

    plane_mean: float
    margin: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Quantiles `low` and `high` become the window's ends; its values get `mean` and `std`."""

    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class KeepLargest:
    """A step of cleaning: the largest component stays."""

    connectivity: Literal[6, 18, 26]


@dataclass(frozen=True, slots=True)
class CoarseToFine:
    """A coarse network finds the box, a fine one segments it, and the mask is cleaned.

    `cleaning`: steps in order; None fills holes. The mask becomes `segment`, on `grid_role`'s grid.
    """

    grid_role: str
    coarse: str
    fine: str
    box: BoxRule
    scale: Scale
    cleaning: tuple[KeepLargest | None, ...]
    segment: int


def compile_pipeline(manifest: Manifest) -> CoarseToFine:
    """Take from a manifest what a run needs."""
    scheme, intensity = manifest.pipeline, manifest.intensity
    return CoarseToFine(
        grid_role=manifest.grid_role,
        coarse=scheme.coarse.network,
        fine=scheme.fine.network,
        box=BoxRule(scheme.coarse.plane_mean, scheme.coarse.margin),
        scale=Scale(intensity.low, intensity.high, intensity.mean, intensity.std),
        cleaning=tuple(
            KeepLargest(step.connectivity) if isinstance(step, LargestComponent) else None
            for step in manifest.postprocess
        ),
        segment=scheme.fine.segment,
    )
