"""Step `measure-uncertainty`: see `models.manifest.plan.measure_uncertainty`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.measure_uncertainty import MeasureUncertainty, VolumeQuantiles
from models.runtime.members import Members
from models.runtime.merging.uncertainty import pair_disagreement, volume_interval
from models.runtime.numbers import Numbers
from models.runtime.running import Run
from models.runtime.segments import Segments, box_around, within

__all__ = ["measure_uncertainty"]

F64 = NDArray[np.float64]


def measure_uncertainty(step: MeasureUncertainty, run: Run) -> Numbers:
    """Count what each member found, and compare each with each.

    Costs a restoration and a count a member, one after another, and a pass over what any of them
    found for each pair.
    """
    members = run.members[step.in_]
    whole = _volumes_ml(members.whole, members, run)
    each = np.stack([_volumes_ml(one, members, run) for one in members.each])
    interval = step.interval
    ends = (interval.low, interval.high) if isinstance(interval, VolumeQuantiles) else (0.0, 1.0)
    low, high = volume_interval(each, *ends)
    of_all = {
        "volume_ml": whole,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "members_finding": np.count_nonzero(each, axis=0),
        "disagreement": _disagreement(members),
    }
    numbers = {
        name: {number: float(found[number]) for number in members.segments}
        for name, found in of_all.items()
    }
    for name in ("entropy", "mutual_information") if members.unsure else ():
        numbers[name] = {number: getattr(one, name) for number, one in members.unsure.items()}
    return Numbers({"members": float(len(each))}, numbers)


def _volumes_ml(found: Segments, members: Members, run: Run) -> F64:
    """Return the volume of each segment number, [256], where `members` are wanted."""
    wanted = found.restored(run.crew) if members.on_slices else found
    if wanted.labels is None:
        return np.zeros(256)
    voxels = np.bincount(wanted.labels.ravel(), minlength=256)
    return voxels.astype(np.float64) * wanted.grid.voxel_ml


def _disagreement(members: Members) -> F64:
    """Return the disagreement of each segment number, [256], on the grid of the scores."""
    box = box_around(members.each)
    if box is None:
        return np.zeros(256)
    return pair_disagreement([within(one, box) for one in members.each])
