"""Step `register`: see `models.manifest.plan.register`."""

from __future__ import annotations

import numpy as np

from models.manifest.plan.register import Register
from models.runtime.filling import fill_unmeasured
from models.runtime.images import Image
from models.runtime.record import PipelineRefusal
from models.runtime.registration import F32
from models.runtime.registration import register as find_place
from models.runtime.running import Refused, Run

__all__ = ["register"]


def register(step: Register, run: Run) -> Image:
    """Move an image's grid to where it agrees best with another image."""
    moving, fixed = run.image(step.in_), run.image(step.to)
    role = moving.grid.role
    align = run.aligns[role]
    if align.by == "same-frame" or align.refuse_below is None:
        raise TypeError(f"nothing says that {role} is registered")
    if role in run.made_of_zeros:
        # Nothing to be seen: it lies as what it was made like.
        return Image(moving.grid.moved(np.eye(4)), moving.channels)
    found = find_place(
        _with_contrast(fixed, run), fixed.grid, _with_contrast(moving, run), moving.grid, align.by
    )
    if found.agreement < align.refuse_below:
        values = {
            "role": run.titles[role],
            "other": run.titles[align.to],
            "agreement": f"{found.agreement:.3f}",
            "least": f"{align.refuse_below:g}",
        }
        raise Refused(PipelineRefusal("alignment_failed", values))
    return Image(moving.grid.moved(found.to_fixed), moving.channels)


def _with_contrast(image: Image, run: Run) -> F32:
    """Return the values of the one channel, finite; what was not measured as what lies near."""
    values = image.arrays(run.crew)[0]
    unmeasured = ~np.isfinite(values)
    known = values[~unmeasured]
    if not known.size or known.min() == known.max():
        low = f"{known.min():g}" if known.size else "no number"
        raise Refused(PipelineRefusal("blank_image", {"low": low, "high": low}))
    return fill_unmeasured(values, unmeasured, run.crew) if unmeasured.any() else values
