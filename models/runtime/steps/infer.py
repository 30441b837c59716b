"""Step `infer`: see `models.manifest.plan.infer`."""

from __future__ import annotations

from models.manifest.plan.infer import Infer, Whole
from models.runtime.running import Run, Seen
from models.runtime.segments import Segments

__all__ = ["infer"]


def infer(step: Infer, run: Run) -> Seen:
    """Run the networks on an image."""
    image = run.image(step.in_)
    if not isinstance(step.tiling, Whole) or len(step.members) != 1:
        raise NotImplementedError(step.tiling.kind)
    network = run.networks[step.members[0]]
    for channel in image.channels:
        channel.write(network.image(), run.crew)
    with run.watch.network(network.name, network.target, network.precision):
        found = network.foreground()
    return Seen(Segments.of(image.grid, found))
