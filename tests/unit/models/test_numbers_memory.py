"""What resampling, merging and restoring hold beside their results, as their pages promise."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from models.runtime.crew import Crew
from models.runtime.grid import Grid
from models.runtime.members import MembersWatch
from models.runtime.merging.decision import decide_slabs, largest
from models.runtime.merging.merger import Merger, bytes_needed
from models.runtime.restoring import restore_classes
from models.runtime.sampling import samplings
from models.runtime.scores import Scores, Slab
from models.runtime.separable import Kinds, resample
from models.runtime.tile_weights import tile_weights
from models.runtime.tiling import tile

CREW = Crew(2)
MIB = 1 << 20
# Results of single steps on pieces, and Python's own.
SLACK = 6 * MIB


def peak_of(work: Callable[[], Any]) -> int:
    """Bytes that were held at most while it ran, its result among them."""
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


def test_resampling_holds_its_result_and_some_planes() -> None:
    volume = np.zeros((400, 128, 128), np.int16)
    axes = samplings((400, 128, 128), (350, 100, 100), "half-pixel")
    kinds: Kinds = ("cubic", "cubic", "cubic")
    out = 4 * 350 * 100 * 100
    resample(volume, axes, kinds, CREW)  # the operators are kept from here on
    # Each of two threads has a ring of about 40 planes, and 4 planes to work on.
    planes = 2 * 4 * (45 * 100 * 100 + 4 * 128 * 128 + 4 * 100 * 128)
    assert (
        peak_of(lambda: resample(volume, axes, kinds, CREW, clip="volume")) < out + planes + SLACK
    )


def test_members_that_are_watched_hold_a_byte_a_voxel_and_no_scores() -> None:
    members, classes, shape = 8, 6, (200, 64, 64)
    grid = Grid(shape, np.eye(4), "image")
    planes = np.random.default_rng(1).random((classes, 4, 64, 64), np.float32)

    def slabs() -> Iterator[Slab]:
        for first in range(0, shape[0], 4):
            yield Slab(0, first, first + 4, planes, (planes,) * members)

    def watched() -> Any:
        scores = Scores(slabs(), grid, classes, kind="softmax")
        watch = MembersWatch(scores, tuple(range(1, classes)), lambda one: largest(one, CREW))
        decide_slabs(watch.scores, lambda one: largest(one, CREW))
        return watch.members()

    voxels = int(np.prod(shape))
    # Each member, the whole, and the segments; of a slab its foreground, some times over.
    assert peak_of(watched) < (members + 2) * voxels + 4 * planes.nbytes + SLACK
    assert (members + 2) * voxels + SLACK < members * classes * 4 * voxels / 4


def test_merging_holds_what_it_said_and_no_whole_volume_of_classes() -> None:
    classes, shape = 30, (48, 50, 400)
    tiling = tile(shape, (32, 32, 32), 0.5, "nnunet")
    scores = np.zeros((classes, 32, 32, 32), np.float32)
    weights = tile_weights(tiling.size, "gaussian-nnunet")
    needed = bytes_needed(tiling, classes)
    assert needed < classes * 4 * np.prod(shape) // 2

    def work() -> Any:
        merger = Merger(tiling, range(classes), weights, needed, CREW)

        def slabs() -> Iterator[Slab]:
            for start in tiling:
                merger.add(start, scores)
                yield from merger.slabs()

        merged = Scores(slabs(), Grid(shape, np.eye(4)), classes)
        return decide_slabs(merged, lambda slab: largest(slab, CREW))

    labels = int(np.prod(shape))
    assert peak_of(work) < needed + labels + SLACK


def test_restoring_scores_holds_some_planes_of_them() -> None:
    classes, shape, out = 20, (200, 60, 60), (300, 128, 128)
    slab = np.random.default_rng(1).standard_normal((classes, 4, 60, 60)).astype(np.float32)
    affine = np.diag([1.5, 128 / 60, 128 / 60, 1.0])
    affine[:3, 3] = 0.5 * np.diag(affine)[:3] - 0.5

    def work() -> Any:
        slabs = (Slab(0, first, first + 4, slab) for first in range(0, 200, 4))
        scores = Scores(slabs, Grid(shape, affine), classes)
        return restore_classes(scores, Grid(out, np.eye(4)), CREW)

    labels = int(np.prod(out))
    # Eight planes of labels look at seven of scores; a slab of four is the test's own.
    planes = 7 * 4 * classes * 60 * 60
    assert peak_of(work) < labels + planes + SLACK
