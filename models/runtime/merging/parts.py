"""Labels of several part-models as one label volume."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from models.runtime.crew import Crew

__all__ = ["Wins", "add_part"]

Wins = Literal["later", "earlier"]


def add_part(
    whole: Any, part: Any, numbers: NDArray[np.uint8 | np.uint16], wins: Wins, crew: Crew
) -> None:
    """Write a part-model's labels into the label volume `whole`, in place.

    Args:
        whole: uint8 or uint16 [a0, a1, a2]; begins as zeros.
        part: the part's own labels on the same grid.
        numbers: for each label of the part its number in the whole, of `whole`'s type; a label
            that is not wanted has 0.
        wins: whether a later part overwrites what an earlier one found, as in TotalSegmentator.
        crew: shares the planes.
    """
    if not is_numpy_array(whole):
        xp = array_namespace(whole)
        table = xp.asarray(numbers, device=device(whole))
        renamed = xp.take(table, xp.reshape(xp.astype(part, xp.int64), (-1,)))
        renamed = xp.reshape(renamed, whole.shape)
        taken = (renamed != 0) if wins == "later" else (renamed != 0) & (whole == 0)
        whole[...] = xp.where(taken, renamed, whole)
        return

    def work(first: int, end: int) -> None:
        for plane in range(first, end):
            renamed = numbers[part[plane]]
            taken = renamed != 0
            if wins == "earlier":
                taken &= whole[plane] == 0
            np.copyto(whole[plane], renamed, where=taken)

    crew.share(len(whole), work)
