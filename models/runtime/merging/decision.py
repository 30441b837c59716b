"""From merged scores to labels: the class with the greatest score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.scores import Scores, Slab

__all__ = ["Best", "decide_slabs", "label_type", "largest"]

# Scores that are compared at once: a few classes of them stay in the cache.
_PIECE: Final = 1 << 15


def label_type(labels: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smaller type that holds so many labels, background among them."""
    if labels > 1 << 16:
        raise RequestError(f"{labels} labels do not fit in 16 bits.")
    return np.uint8 if labels <= 1 << 8 else np.uint16


def largest(scores: Any, crew: Crew) -> Any:
    """Return the class [...] with the greatest of the scores [k, ...]; the lowest of equal ones.

    One pass over the scores. (`numpy.argmax` over the first axis copies what it compares.)
    """
    if not is_numpy_array(scores):
        xp = array_namespace(scores)
        name = np.dtype(label_type(int(scores.shape[0]))).name
        return xp.astype(xp.argmax(scores, axis=0), getattr(xp, name))
    labels = np.zeros(scores.shape[1:], label_type(len(scores)))

    def work(first: int, end: int) -> None:
        best = np.array(scores[0, first:end])
        _improve(scores[1:, first:end], 1, best, labels[first:end])

    _in_pieces(labels, crew, work)
    return labels


def decide_slabs(scores: Scores, decide: Callable[[Any], Any]) -> Any:
    """Return the labels [a0, a1, a2] that a rule makes of scores [k, ...] that come in slabs."""
    labels: Any = None
    for slab in scores.slabs:
        found = decide(slab.scores)
        if labels is None:
            xp = array_namespace(found)
            labels = xp.empty(scores.grid.shape, dtype=found.dtype, device=found.device)
        labels[_planes(slab)] = found
    return labels


class Best:
    """The greatest score so far and its class, where classes are merged group after group.

    Costs one float32 and one label a voxel of the whole volume, for as many runs of the tiles as
    there are groups.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, crew: Crew) -> None:
        self._best: Final = np.full(shape, -np.inf, np.float32)
        self._crew: Final = crew
        self.labels: Final[NDArray[Any]] = np.zeros(shape, label_type(classes))

    def take(self, slab: Slab, first_class: int) -> None:
        """Compare a slab of the group that begins with a class; groups in rising order."""
        best, labels = self._best[_planes(slab)], self.labels[_planes(slab)]

        def work(first: int, end: int) -> None:
            _improve(slab.scores[:, first:end], first_class, best[first:end], labels[first:end])

        _in_pieces(labels, self._crew, work)


def _improve(scores: Any, first_class: int, best: Any, labels: Any) -> None:
    """Write to `labels` the classes whose scores are above `best`, and to `best` those scores."""
    for place, of_class in enumerate(scores, first_class):
        np.copyto(labels, labels.dtype.type(place), where=of_class > best)
        np.maximum(best, of_class, out=best)


def _in_pieces(labels: NDArray[Any], crew: Crew, work: Any) -> None:
    """Share rows of the first axis, so few at once that they stay in the cache."""
    step = max(_PIECE * len(labels) // max(labels.size, 1), 1)

    def share(first: int, end: int) -> None:
        for begin in range(first, end, step):
            work(begin, min(begin + step, end))

    crew.share(len(labels), share, fewest=2)


def _planes(slab: Slab) -> tuple[slice, ...]:
    return (slice(None),) * slab.axis + (slice(slab.first, slab.end),)
