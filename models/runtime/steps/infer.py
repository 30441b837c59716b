"""Step `infer`: see `models.manifest.plan.infer`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.infer import Infer, Tiles, Whole
from models.manifest.plan.merge import Mean
from models.runtime.images import Image
from models.runtime.merging.activation import sigmoid, softmax
from models.runtime.merging.merger import Merger, bytes_needed
from models.runtime.merging.rules import rule_of
from models.runtime.networks import DecidingNetwork, ScoringNetwork
from models.runtime.noise import AROUND, standard_noise
from models.runtime.running import Run, Seen
from models.runtime.scores import Scores, Slab
from models.runtime.segments import Segments
from models.runtime.tile_weights import tile_weights
from models.runtime.tiling import Rule, Tiling, read_patch, tile

__all__ = ["infer"]

F32 = NDArray[np.float32]


def infer(step: Infer, run: Run) -> Seen | Scores:
    """Run the networks on an image.

    Every tile is read once and goes through all members and mirror passes, unless the plan says
    that tiles like it are empty; what is merged leaves in slabs, when a later step asks for them.
    """
    image = run.image(step.in_)
    networks = [run.networks[name] for name in step.members]
    first = networks[0]
    if isinstance(first, DecidingNetwork) and isinstance(step.tiling, Whole):
        for channel in image.channels:
            channel.write(first.image(), run.crew)
        passed = run.begin_passes(1)
        with run.passing(first):
            foreground = first.foreground()
        passed(1)
        return Seen(Segments.of(image.grid, foreground))
    scoring = [network for network in networks if isinstance(network, ScoringNetwork)]
    if len(scoring) != len(networks):
        raise TypeError(f"{step.members} were built with a decision of their own")
    tiling = _tiling(step, image, scoring[0].shape, run)
    classes = run.facts[step.members[0]].outputs
    apart = step.out in run.apart or not isinstance(step.merge, Mean)
    run.require_room(
        f"Merging the scores of {classes} classes on a grid of "
        f"{' x '.join(map(str, image.grid.shape))} voxels",
        (len(networks) if apart else 1) * bytes_needed(tiling, classes),
    )
    slabs = _slabs(step, image, scoring, tiling, run)
    return Scores(slabs, image.grid, classes, kind=step.activation)


def _tiling(step: Infer, image: Image, patch: tuple[int, int, int], run: Run) -> Tiling:
    patch = step.by_image_axes(patch)
    margin = step.by_image_axes(run.facts[step.members[0]].margin)
    if isinstance(step.tiling, Whole):
        return tile(image.grid.shape, patch, 1.0, "monai", margin)
    starts: Rule = "blast" if step.tiling.starts == "edge-to-edge" else step.tiling.starts
    return tile(image.grid.shape, patch, step.tiling.step, starts, margin)


def _slabs(
    step: Infer, image: Image, networks: list[ScoringNetwork], tiling: Tiling, run: Run
) -> Iterator[Slab]:
    tiles = step.tiling if isinstance(step.tiling, Tiles) else None
    array = np.stack(image.arrays(run.crew))
    weights = tile_weights(tiling.size, "constant" if tiles is None else tiles.weight)
    read = _reader(array, tiling, None if tiles is None else tiles.outside)
    flips = _flips(step)
    # A mean is made tile by tile; what weighs members voxel by voxel needs each of them whole, and
    # so does what a later step asks of each.
    apart = step.out in run.apart
    together = isinstance(step.merge, Mean) and not apart
    groups = [networks] if together else [[network] for network in networks]
    rule = rule_of(step.merge)
    mergers: list[Merger] = []
    passed = run.begin_passes(tiling.count * len(groups))
    for start in tiling:
        # Contiguous once, not once a member.
        patch = np.ascontiguousarray(read(start), np.float32)
        certain = _certain(patch, tiling, tiles, run.facts[step.members[0]].outputs)
        for place, group in enumerate(groups):
            total = _averaged(patch, group, step, flips, run) if certain is None else certain
            if place == len(mergers):
                budget = run.budget_bytes // len(groups)
                mergers.append(Merger(tiling, range(len(total)), weights, budget, run.crew))
            mergers[place].add(start, total)
            passed(1)
        for slabs in zip(*(merger.slabs() for merger in mergers), strict=True):
            first, scores = slabs[0], [slab.scores for slab in slabs]
            merged = first.scores if together else rule(scores)
            members = tuple(scores) if apart else ()
            yield _activated(replace(first, scores=merged, members=members), step)


def _reader(
    array: F32, tiling: Tiling, outside: float | Literal["noise"] | None
) -> Callable[[tuple[int, int, int]], F32]:
    """Return what reads the patch [c, *patch] of a tile that starts somewhere."""
    if outside != "noise":
        fill = "edge" if outside is None else outside
        return lambda start: read_patch(array, tiling, start, fill)
    sides = [side + 2 * lost for side, lost in zip(tiling.padded, tiling.margin, strict=True)]
    whole = standard_noise((len(array), *sides), AROUND)
    firsts = [before + lost for before, lost in zip(tiling.before, tiling.margin, strict=True)]
    inside = [slice(one, one + side) for one, side in zip(firsts, tiling.shape, strict=True)]
    whole[(slice(None), *inside)] = array
    patch = [side + 2 * lost for side, lost in zip(tiling.size, tiling.margin, strict=True)]

    def read(start: tuple[int, int, int]) -> F32:
        part = [slice(one, one + side) for one, side in zip(start, patch, strict=True)]
        return whole[(slice(None), *part)]

    return read


def _activated(slab: Slab, step: Infer) -> Slab:
    """Make probabilities of merged logits; those of single tiles were made in the network."""
    if not step.merges_logits:
        return slab
    make = softmax if step.activation == "softmax" else sigmoid
    members = tuple(make(scores) for scores in slab.members)
    return replace(slab, scores=make(slab.scores), members=members)


def _certain(patch: F32, tiling: Tiling, tiles: Tiles | None, classes: int) -> F32 | None:
    """Return the scores [k, *tile] of a tile that is empty; None where networks are asked."""
    empty = None if tiles is None else tiles.empty
    if empty is None:
        return None
    own = tuple(
        slice(lost, lost + side) for lost, side in zip(tiling.margin, tiling.size, strict=True)
    )
    if patch[(slice(None), *own)].max() > empty.at_most:
        return None
    scores = np.zeros((classes, *tiling.size), np.float32)
    scores[empty.as_class] = 1.0
    return scores


def _averaged(
    patch: F32, networks: list[ScoringNetwork], step: Infer, flips: list[tuple[int, ...]], run: Run
) -> F32:
    """Return the mean over networks and mirror passes, float32 [k, *tile].

    Of a single pass it may be the network's own memory: valid until the network runs again.
    """
    passes = list(itertools.product(networks, flips))
    view = (0, *(axis + 1 for axis in step.view))
    back_to_image = tuple(view.index(axis) for axis in range(4))
    total = np.empty(0, np.float32)
    for place, (network, flip) in enumerate(passes):
        shown = np.flip(patch, tuple(axis + 1 for axis in flip)) if flip else patch
        with run.passing(network):
            found = network.scores(np.ascontiguousarray(shown.transpose(view))[None])[0]
        found = found.transpose(back_to_image)
        back = np.flip(found, tuple(axis + 1 for axis in flip)) if flip else found
        if len(passes) == 1:
            return np.ascontiguousarray(back, np.float32)
        if place == 0:
            total = np.zeros(back.shape, np.float32)
        _add(back, total, 1.0 / len(passes) if place == len(passes) - 1 else None, run)
    return total


def _add(scores: F32, total: F32, share: float | None, run: Run) -> None:
    """Add a pass [k, *tile] to the total; after the last one the total becomes a mean."""

    def work(first: int, end: int) -> None:
        for of_class in range(first, end):
            total[of_class] += scores[of_class]
            if share is not None:
                total[of_class] *= np.float32(share)

    run.crew.share(len(total), work, fewest=2)


def _flips(step: Infer) -> list[tuple[int, ...]]:
    """Return the sets of axes along which the image is shown mirrored; the first is none."""
    return [
        axes
        for count in range(len(step.mirror) + 1)
        for axes in itertools.combinations(step.mirror, count)
    ]
