"""What TotalSegmentator does around its nnU-Nets, as the steps of a plan (2.18.0, nnunet.py).

The scan is turned to right, anterior, superior, brought to one spacing by SciPy's zoom and written
as whole numbers; nnU-Net reads that, slices first. Its labels are put together, a later part over
an earlier one, and come back by the nearest voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.importing.errors import NotImportableError
from models.importing.nnunet.preparing import normalisation, sliding_window
from models.importing.nnunet.training import Training

__all__ = ["Steps", "steps_of"]

Steps = list[dict[str, Any]]
# Slices first, of a volume that is turned to right, anterior, superior.
_AXES = "SAR"


def steps_of(
    trainings: Sequence[Training],
    members: Sequence[Sequence[str]],
    segments: Sequence[Sequence[int]],
    step: float,
) -> Steps:
    """Return the plan, from the role `image` to the value `found`.

    Args:
        trainings: the parts, in the order in which they are put together.
        members: of each part, the names of its networks.
        segments: of each part, the numbers that its labels 1, 2 and so on become.
        step: from one tile to the next, as a share of the tile.

    Raises:
        NotImportableError: parts that were trained on different grids, or that decide by regions.
    """
    _require_alike(trainings)
    first = trainings[0]
    axes = "".join(_AXES[axis] for axis in first.trained.plans.transpose_forward)
    steps: Steps = [
        {"do": "orient", "in": "image", "axes": axes, "out": "turned"},
        {
            "do": "resample",
            "in": "turned",
            "onto": {"spacing_mm": list(first.configuration.spacing)},
            "order": "linear",
            "centres": "aligned",
            "out": "even",
        },
        {"do": "normalise", "in": "even", "by": {"kind": "truncate"}, "out": "whole"},
        {
            "do": "crop",
            "in": "whole",
            "around": {"nonzero": "whole"},
            "margin": {"voxels": 0},
            "out": "body",
        },
    ]
    found: list[str] = []
    for place, training in enumerate(trainings):
        part = f"-{place + 1}" if len(trainings) > 1 else ""
        found.append(f"labels{part}")
        by = normalisation(training.configuration, training.trained.plans.intensities, 0)
        rule = {"kind": "argmax", "segments": list(segments[place])}
        steps += [
            {"do": "normalise", "in": "body", "by": by, "out": f"scaled{part}"},
            {
                "do": "infer",
                "in": f"scaled{part}",
                "members": list(members[place]),
                "tiling": sliding_window(step),
                "activation": "none",
                "out": f"logits{part}",
            },
            {"do": "decide", "in": f"logits{part}", "rule": rule, "out": found[-1]},
        ]
    if len(found) > 1:
        rule = {"kind": "parts", "wins": "later"}
        steps.append(
            {"do": "combine", "in": found[0], "and": found[1:], "rule": rule, "out": "parts"}
        )
    last = "parts" if len(found) > 1 else found[0]
    return [*steps, {"do": "restore", "in": last, "to": "image", "out": "found"}]


def _require_alike(trainings: Sequence[Training]) -> None:
    first = trainings[0]
    for training in trainings:
        plans, configuration = training.trained.plans, training.configuration
        if len(training.channels) != 1:
            raise NotImportableError(
                f"{training.called} takes {len(training.channels)} channels "
                f"({', '.join(training.channels)}), as no model of TotalSegmentator does. Import "
                "it with: axial models import nnunet."
            )
        if (configuration.spacing, plans.transpose_forward, training.channels) != (
            first.configuration.spacing,
            first.trained.plans.transpose_forward,
            first.channels,
        ):
            raise NotImportableError(
                f"{training.called} was trained on {training.channels[0]} of "
                f"{list(configuration.spacing)} mm, and {first.called} on {first.channels[0]} of "
                f"{list(first.configuration.spacing)} mm. Name the parts of one task alone."
            )
        if training.labels.rule["kind"] != "argmax" or len(configuration.patch_size) != 3:
            raise NotImportableError(
                f"{training.called} decides by regions or slice by slice, as no model "
                "of TotalSegmentator does. Import it with: axial models import nnunet."
            )
