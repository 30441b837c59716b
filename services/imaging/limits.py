"""The limits of the geometry gate, as a model's manifest states them."""

from __future__ import annotations

import math

from models.manifest import Role
from services.imaging.series_geometry import GeometryLimits


def limits_of(role: Role, model: str) -> GeometryLimits:
    """The gate's limits for one role of a model.

    Args:
        role: the role, from the manifest.
        model: the model's title, for the sentences of refusals.
    """
    gate = role.gate
    return GeometryLimits(
        model=model,
        min_slices=gate.min_slices,
        max_slices=gate.max_slices,
        min_spacing_mm=gate.spacing_mm.min or 0.0,
        max_spacing_mm=math.inf if gate.spacing_mm.max is None else gate.spacing_mm.max,
        min_extent_mm=gate.min_extent_mm,
        accepts_gantry_tilt=gate.accepts.gantry_tilt,
        accepts_uneven_spacing=gate.accepts.uneven_spacing,
    )
