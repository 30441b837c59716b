"""The catalogue's brain extraction with networks small enough for a test."""

from __future__ import annotations

from typing import Any

__all__ = ["shrink"]


def shrink(data: dict[str, Any], coarse: int, fine: int) -> None:
    """Gives the manifest's networks cubes of so many voxels a side, in place."""
    for name, side in (("coarse", coarse), ("fine", fine)):
        data["networks"][name]["patch"] = [side] * 3
    grids = [step for step in data["plan"] if step["do"] == "resample"]
    for step, side in zip(grids, (coarse, fine), strict=True):
        step["onto"]["shape"] = [side] * 3
