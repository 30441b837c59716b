"""The structured report: measurements as a Comprehensive 3D SR, TID 1500 (PS3.16).

`REPORT` is the kind; it names segments of a segmentation, and needs it. `names` says what its
objects are called, `writing` (`encode_report`, `Context`) makes the document, with `regions` for
outlines in a key slice; `checking` (`check_report`) reads the file back by way of `reading` and
computes every number anew.
"""

from __future__ import annotations

from pathlib import Path

from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.kind import Kind, Option, Order
from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.report.names import KEY_SLICE, SR
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation import SEG

__all__ = ["REPORT", "SR"]


def _write(analysis: Analysis, order: Order) -> tuple[bytes, ...]:
    context = Context(order.remarks, order.predecessor)
    return (encode_report(analysis, order.form, order.series_number, context),)


def _check(files: tuple[Path, ...], analysis: Analysis, order: Order) -> str | None:
    return check_report(files[0], analysis, order.form)


REPORT = Kind(
    names=SR,
    makes=lambda _: True,  # what was looked for and not found is reported, too
    write=_write,
    check=_check,
    options=(Option(KEY_SLICE, lambda destination: destination.key_slice_regions),),
    needs=(SEG.kind,),
)
