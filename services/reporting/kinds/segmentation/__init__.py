"""The segmentation: labels as a DICOM Segmentation object (PS3.3 A.51).

`SEGMENTATION` is the kind. `names` says what its objects are called, `writing`
(`encode_segmentation`) makes them, with `packing` for the bits of their frames; `checking`
(`check_segmentation`) reads the file back and compares every voxel with the labels.
"""

from __future__ import annotations

from pathlib import Path

from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.kind import Kind, Option, Order
from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.kinds.segmentation.names import KEEP_EMPTY_FRAMES, SEG
from services.reporting.kinds.segmentation.writing import encode_segmentation

__all__ = ["SEG", "SEGMENTATION"]


def _write(analysis: Analysis, order: Order) -> tuple[bytes, ...]:
    return (encode_segmentation(analysis, order.form, order.series_number),)


def _check(files: tuple[Path, ...], analysis: Analysis, order: Order) -> str | None:
    return check_segmentation(files[0], analysis, order.form)


SEGMENTATION = Kind(
    names=SEG,
    makes=lambda analysis: analysis.found,
    write=_write,
    check=_check,
    options=(Option(KEEP_EMPTY_FRAMES, lambda destination: destination.keep_empty_frames),),
)
