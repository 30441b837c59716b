"""Scores back onto the source's grid, interpolated linearly and decided there, block by block.

nnU-Net resamples every class to the source's grid and then decides, which takes one float a class
for each of its voxels. Here a block of the source's grid is interpolated and decided at once, from
the few planes of scores that it needs, and only classes that can win inside it are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.grid import Grid
from models.runtime.interpolation import AxisOperator, Block, operator
from models.runtime.merging.decision import label_type
from models.runtime.orientation import Turn
from models.runtime.placing import place
from models.runtime.scores import Scores, Slab
from models.runtime.separate_z import separate_axis

__all__ = ["Decide", "restore_classes", "restore_scores"]

F32 = NDArray[np.float32]
# Makes labels [...] of scores [k, ...].
Decide = Callable[[Any], Any]
Weights = tuple[F32, F32, F32]

# The sides of a block on the source's grid: along the planes as they come, and inside them. Large
# enough that the calls do not show, small enough that few classes meet in it.
_PLANES: Final = 8
_SIDE: Final = 32


def restore_classes(scores: Scores, to: Grid, crew: Crew, *, nearest_across: bool = False) -> Any:
    """Return labels [a0, a1, a2]: the class with the greatest score interpolated at each voxel.

    Costs a pass over the scores, and work where classes meet. Outside the scores' grid 0.

    Args:
        scores: logits or probabilities, as the system says which of the two is interpolated.
        to: a grid whose axes run along the same lines.
        crew: shares the blocks.
        nearest_across: planes that lie far apart are not mixed (`separate_z.separate_axis`).
    """
    kind = label_type(scores.classes)
    return _restore(scores, to, kind, crew, _write_largest, _largest, nearest_across)


def restore_scores(
    scores: Scores,
    to: Grid,
    decide: Decide,
    labels: int,
    crew: Crew,
    *,
    nearest_across: bool = False,
) -> Any:
    """Return what a rule decides at each voxel of a grid from the scores interpolated there.

    Args:
        scores: logits or probabilities, as the system says which of the two is interpolated.
        to: a grid whose axes run along the same lines.
        decide: such as thresholds of regions; voxel by voxel.
        labels: how many labels it may give, background among them.
        crew: shares the blocks.
        nearest_across: as of `restore_classes`.
    """

    def write(support: F32, weights: Weights, out: NDArray[Any]) -> None:
        out[...] = decide(_between(support, weights))

    return _restore(scores, to, label_type(labels), crew, write, decide, nearest_across)


def _restore(
    scores: Scores,
    to: Grid,
    kind: type[np.uint8] | type[np.uint16],
    crew: Crew,
    write: Callable[[F32, Weights, NDArray[Any]], None],
    decide: Decide,
    nearest_across: bool,
) -> Any:
    placement = place(scores.grid, to)
    slabs = iter(scores.slabs)
    head = next(slabs)
    xp = array_namespace(head.scores)
    where = device(head.scores)
    labels = xp.zeros(to.shape, dtype=getattr(xp, np.dtype(kind).name), device=where)
    if placement.part is None:
        return labels
    back = placement.turn.back
    # The labels as the scores lie: a turned view, so that planes of scores are taken as they come.
    apart = _planes_apart(scores.grid, to, back) if nearest_across else None
    own = [
        operator(
            placement.axes[axis],
            "nearest" if source == apart else "linear",
            rows=_PLANES if source == head.axis else _SIDE,
        )
        for source, axis in enumerate(back.order)
    ]
    along = [each.backwards if flip else each for each, flip in zip(own, back.flipped, strict=True)]
    order = (head.axis, *(axis for axis in range(3) if axis != head.axis))
    if is_numpy_array(labels):
        out = back.apply(labels[placement.part]).transpose(order)
        _write_blocks(slabs, head, [along[axis] for axis in order], out, crew, write)
        return labels
    lying = xp.zeros([each.size_out for each in along], dtype=labels.dtype, device=where)
    out = xp.permute_dims(lying, order)
    _write_whole_planes(slabs, head, [along[axis] for axis in order], out, decide)
    labels[placement.part] = placement.turn.apply(lying)
    return labels


def _planes_apart(own: Grid, to: Grid, back: Turn) -> int | None:
    """Return the axis of the scores across planes that lie far apart, as nnU-Net has it."""
    first, second, third = (to.spacing_mm[axis] for axis in back.order)
    return separate_axis(own.spacing_mm, (first, second, third))


def _write_blocks(
    slabs: Iterator[Slab],
    head: Slab,
    along: list[AxisOperator],
    out: NDArray[Any],
    crew: Crew,
    write: Callable[[F32, Weights, NDArray[Any]], None],
) -> None:
    across, rows, columns = along
    for block, planes in _supports(slabs, head, across):
        blocks = rows.blocks

        def work(first: int, end: int, block: Block = block, planes: F32 = planes) -> None:
            for row in rows.blocks[first:end]:
                for column in columns.blocks:
                    write(
                        planes[:, :, row.low : row.high, column.low : column.high],
                        (block.weights, row.weights, column.weights),
                        out[
                            block.first : block.end,
                            row.first : row.end,
                            column.first : column.end,
                        ],
                    )

        crew.share(len(blocks), work, fewest=2)


def _write_whole_planes(
    slabs: Iterator[Slab], head: Slab, along: list[AxisOperator], out: Any, decide: Decide
) -> None:
    """The same on a tensor's device: plane by plane, all classes at once."""
    xp = array_namespace(head.scores)
    where = device(head.scores)
    across = along[0]
    rows, columns = (xp.asarray(each.matrix, device=where) for each in along[1:])
    for block, planes in _supports(slabs, head, across):
        weights = xp.asarray(block.weights, device=where)
        for plane in range(block.first, block.end):
            share = xp.reshape(weights[plane - block.first], (1, -1, 1, 1))
            one = xp.sum(planes * share, axis=1)
            out[plane] = xp.astype(decide((rows @ one) @ columns.T), out.dtype)


def _supports(
    slabs: Iterator[Slab], head: Slab, across: AxisOperator
) -> Iterator[tuple[Block, Any]]:
    """Give each block of output planes with the planes of scores [k, planes, b, c] it needs.

    Holds as many planes as one block needs, and the slab that comes.
    """
    xp = array_namespace(head.scores)
    slab, scores = head, _planes_first(head)
    most = max(block.high - block.low for block in across.blocks)
    held = xp.empty(
        (scores.shape[0], most, *scores.shape[2:]), dtype=xp.float32, device=device(scores)
    )
    # The planes that are held: `first` to before `end`.
    first = end = across.blocks[0].low
    for block in across.blocks:
        _drop(held, min(block.low, end) - first, end - first)
        first = block.low
        end = max(end, first)
        while end < block.high:
            while slab.end <= end:
                follows, slab = slab.end, next(slabs, slab)
                if (slab.axis, slab.first) != (head.axis, follows):
                    raise RequestError(f"The slabs of scores break off at plane {follows}.")
                scores = _planes_first(slab)
            until = min(slab.end, block.high)
            part = scores[:, end - slab.first : until - slab.first]
            held[:, end - first : until - first] = part
            end = until
        yield block, held[:, : block.high - block.low]


def _drop(held: Any, count: int, of: int) -> None:
    """Move the planes that stay to the front; class by class, so that no second copy is held."""
    if count <= 0 or count == of:
        return
    xp = array_namespace(held)
    for of_class in held:
        of_class[: of - count] = xp.asarray(of_class[count:of], copy=True)


def _planes_first(slab: Slab) -> Any:
    xp = array_namespace(slab.scores)
    axes = [0, slab.axis + 1, *(axis for axis in (1, 2, 3) if axis != slab.axis + 1)]
    return xp.permute_dims(slab.scores, axes)


def _write_largest(support: F32, weights: Weights, out: NDArray[Any]) -> None:
    """Write the class with the greatest interpolated score of [k, s0, s1, s2] to a block of labels.

    An interpolated score lies between those around it. So a class whose greatest score in the block
    is below what some class has at least, everywhere in it, cannot win there.
    """
    flat = support.reshape(len(support), -1)
    greatest = flat.max(axis=1)
    candidates = np.flatnonzero(greatest >= flat.min(axis=1).max())
    if len(candidates) > 1:
        candidates = _that_can_win(support, flat, greatest, candidates)
    if len(candidates) == 1:
        out[...] = candidates[0]
        return
    best = _between(support[candidates], weights)
    out[...] = candidates.astype(out.dtype)[_largest(best)]


def _that_can_win(
    support: F32, flat: F32, greatest: F32, candidates: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Narrow the candidates, cell by cell of eight voxels.

    Everywhere in a cell the winner has at least the greatest of the classes' least scores at its
    corners. Classes that win at some voxel are enough to find that.
    """
    present = np.unique(candidates[_largest(flat[candidates])])
    if len(present) == 1:
        return present
    floor: F32 | None = None
    for of_class in support[present]:
        least = of_class
        for axis in range(3):
            least = _lesser_of_neighbours(least, axis)
        floor = least if floor is None else np.maximum(floor, least)
    assert floor is not None
    return candidates[greatest[candidates] >= floor.min()]


def _lesser_of_neighbours(values: Any, axis: int) -> Any:
    """Return the lesser of each two neighbours along an axis; of a single voxel, itself."""
    if values.shape[axis] == 1:
        return values
    before = (slice(None),) * axis
    return np.minimum(values[(*before, slice(1, None))], values[(*before, slice(None, -1))])


def _between(support: F32, weights: Weights) -> F32:
    """Interpolate scores [k, s0, s1, s2] to [k, o0, o1, o2]; each product is a small one."""
    across, rows, columns = weights
    classes, planes, height, width = support.shape
    by_columns: Any = support.reshape(classes, planes * height, width) @ columns.T
    by_planes = across @ by_columns.reshape(classes, planes, -1)
    return rows @ by_planes.reshape(classes, len(across), height, -1)


def _largest(scores: Any) -> Any:
    """The first of the greatest scores [k, ...], for few classes or voxels."""
    return array_namespace(scores).argmax(scores, axis=0)
