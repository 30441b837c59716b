"""The numerical core of the model platform beside SciPy and scikit-image, on a whole-body CT.

The CT has 512 x 512 x 600 voxels of 0.7 x 0.7 x 1 mm and is resampled to 1.5 mm, beside
`scipy.ndimage.zoom`. Labels of 118 classes go back to its slices as labels, and as scores that are
interpolated and decided there. nnU-Net's way to export them (scikit-image's `resize` of each
class in double precision, then argmax) would need 74 GB; it is measured on one class and on four
slices, and multiplied. The scores are those of 117 balls; they are made once for some planes, which
come again and again, so that only the work is measured. Peaks are those of processes of their own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from models.runtime.crew import Crew
from models.runtime.grid import Grid
from models.runtime.merging.decision import decide_slabs, largest
from models.runtime.merging.merger import Merger
from models.runtime.merging.parts import add_part
from models.runtime.restoring import restore_classes
from models.runtime.sampling import samplings
from models.runtime.scores import Scores, Slab
from models.runtime.separable import Kinds, nearest_onto, resample
from models.runtime.tile_weights import tile_weights
from models.runtime.tiling import tile
from tests.benchmarks.rows import Row, budget

_CT = Grid((600, 512, 512), np.diag([1.0, 0.7, 0.7, 1.0]))
_WORK = _CT.resampled("half-pixel", spacing_mm=(1.5, 1.5, 1.5))
_CLASSES = 118
_THREADS = 2
# Peers that take a minute are measured once: what is asked of them is a factor, not a percentage.
_REPEATS, _ONCE = 3, 1
_FASTER = 5.0
_GIB = 1 << 30
# The working volume and the heads of TotalSegmentator's five part-models.
_MERGED = (300, 300, 500)
_PARTS = (25, 27, 19, 24, 27)
_PATCH = (128, 128, 128)
_STEP = 0.8
_MERGE_GIB = 5.0
# What a peak may be beside the result itself: rings of planes and what threads work on.
_RESAMPLE_PEAK = 1.5
# Labels of 150 MiB and some planes of 118 classes.
_RESTORE_GIB = 1.0
# Planes of scores that come again and again.
_PLANES = 40


def rows() -> list[Row]:
    """Measures ours and the peers in turn, in one run."""
    crew = Crew(_THREADS)
    found = [*_resampling(crew), *_restoring(crew)]
    found.append(_peak_of_resampling())
    found.append(
        budget("models-restore-scores-peak", _own_peak("restore") / _GIB, "GiB", _RESTORE_GIB)
    )
    found.append(budget("models-merge-parts-peak", _own_peak("merge") / _GIB, "GiB", _MERGE_GIB))
    return found


def _resampling(crew: Crew) -> list[Row]:
    volume = _volume()
    axes = samplings(_CT.shape, _WORK.shape, "aligned")
    zoom = [out / own for own, out in zip(_CT.shape, _WORK.shape, strict=True)]
    made: list[Row] = []
    all_linear: Kinds = ("linear", "linear", "linear")
    all_cubic: Kinds = ("cubic", "cubic", "cubic")
    for name, kinds, order, repeats in (
        ("linear", all_linear, 1, _REPEATS),
        ("cubic", all_cubic, 3, _ONCE),
    ):
        results: dict[str, Any] = {}

        def ours(kinds: Kinds = kinds, results: dict[str, Any] = results) -> None:
            results["ours"] = resample(volume, axes, kinds, crew)

        def peer(order: int = order, results: dict[str, Any] = results) -> None:
            results["peer"] = ndimage.zoom(
                volume, zoom, output=np.float32, order=order, mode="nearest"
            )

        own, other = _in_turn(ours, peer, repeats)
        apart = np.abs(results["ours"] - results["peer"]).max()
        assert apart <= 1e-4 * np.ptp(volume), apart
        made.append(_faster(f"models-resample-{name}", own, other))
    return made


def _restoring(crew: Crew) -> list[Row]:
    planes = _planes_of_scores()
    one_class = np.concatenate([slab.scores[1] for slab in _slabs(planes)]).astype(np.float64)
    some = np.zeros((_CLASSES, 4, *_CT.shape[1:]))
    resizing = _once(
        lambda: resize(one_class, _CT.shape, order=1, mode="edge", anti_aliasing=False)
    )
    comparing = _once(lambda: some.argmax(axis=0))
    peer = resizing * _CLASSES + comparing * _CT.shape[0] / 4
    labels = np.random.default_rng(2).integers(0, 118, _WORK.shape, np.uint8)
    nearest = _once(lambda: nearest_onto(labels, _WORK, _CT, crew))
    interpolated = _once(
        lambda: restore_classes(Scores(_slabs(planes), _WORK, _CLASSES), _CT, crew)
    )
    return [
        _faster("models-restore-labels", nearest, peer),
        _faster("models-restore-scores", interpolated, peer),
    ]


def _peak_of_resampling() -> Row:
    out_bytes = 4 * np.prod(_WORK.shape).item()
    peak = _own_peak("resample")
    return Row(
        "models-resample-peak",
        peak / 2**20,
        out_bytes / 2**20,
        "MiB",
        peak / out_bytes,
        _RESAMPLE_PEAK,
        "lower",
    )


def _faster(name: str, ours: float, peer: float) -> Row:
    return Row(name, ours, peer, "s", peer / ours, _FASTER, "higher")


def _in_turn(
    ours: Callable[[], None], peer: Callable[[], None], repeats: int
) -> tuple[float, float]:
    """Medians; every round runs both, so that both see the same machine."""
    ours()  # warm: operators, threads
    rounds = [(_once(ours), _once(peer)) for _ in range(repeats)]
    return (
        statistics.median(own for own, _ in rounds),
        statistics.median(other for _, other in rounds),
    )


def _once(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _volume() -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(-1000, 1500, _CT.shape, np.int16)


def _planes_of_scores() -> NDArray[np.float32]:
    """Logits of balls among each other, float32 [classes, planes, b, c]."""
    random = np.random.default_rng(1)
    shape = (_PLANES, *_WORK.shape[1:])
    places = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape), indexing="ij")
    scores = random.standard_normal((_CLASSES, *shape), np.float32)
    scores *= 0.5
    scores[0] += 2.0
    for of_class in scores[1:]:
        centre, radius = random.random(3) * shape, random.uniform(6, 28)
        apart = sum((axis - at) ** 2 for axis, at in zip(places, centre, strict=True))
        of_class += np.clip(12 - 10 * np.sqrt(apart) / radius, -12, 12)
    return scores


def _slabs(planes: NDArray[np.float32]) -> Iterator[Slab]:
    """The planes forth and back, so that they go on smoothly, in slabs of four."""
    side = _WORK.shape[0]
    for first in range(0, side, 4):
        end = min(first + 4, side)
        index = np.arange(first, end) % (2 * _PLANES)
        yield Slab(0, first, end, planes[:, np.minimum(index, 2 * _PLANES - 1 - index)])


def _own_peak(what: str) -> int:
    """What a task adds to a process's peak memory, in bytes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.models_numbers", what],
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    return int(done.stdout)


def _memory(what: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM at most since it was set back."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def _forget_peak() -> None:
    """Set VmHWM back to what is held now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _merge_parts() -> NDArray[np.uint8]:
    """Five part-models one after another: tiles merged, decided, and put into one label volume."""
    crew = Crew(_THREADS)
    grid = Grid(_MERGED, np.eye(4))
    tiling = tile(_MERGED, _PATCH, _STEP, "nnunet")
    weights = tile_weights(tiling.size, "gaussian-nnunet")
    whole = np.zeros(_MERGED, np.uint8)
    first = 0
    for classes in _PARTS:
        scores = np.random.default_rng(first).standard_normal((classes, *_PATCH), np.float32)
        merger = Merger(tiling, range(classes), weights, 4 * _GIB, crew)

        def slabs(merger: Merger = merger, scores: NDArray[np.float32] = scores) -> Iterator[Slab]:
            for start in tiling:
                merger.add(start, scores)
                yield from merger.slabs()

        part = decide_slabs(Scores(slabs(), grid, classes), lambda slab: largest(slab, crew))
        numbers = np.arange(classes, dtype=np.uint8)
        numbers[1:] += np.uint8(first)
        add_part(whole, part, numbers, "later", crew)
        first += classes - 1
    return whole


def main() -> int:
    """Prints the bytes that one task adds to this process's peak."""
    crew = Crew(_THREADS)
    what = sys.argv[1]
    if what == "resample":
        volume, axes = _volume(), samplings(_CT.shape, _WORK.shape, "aligned")
        _forget_peak()
        before = _memory("VmRSS")
        kept: Any = resample(volume, axes, ("cubic", "cubic", "cubic"), crew)
    elif what == "restore":
        planes = _planes_of_scores()
        _forget_peak()
        before = _memory("VmRSS")
        kept = restore_classes(Scores(_slabs(planes), _WORK, _CLASSES), _CT, crew)
    else:
        # Everything: also the tiles' scores, as a network would hand them over.
        before = 0
        kept = _merge_parts()
    after = _memory("VmHWM")
    del kept
    print(after - before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
