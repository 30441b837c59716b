"""References to planes and series of the source, as bytes (see `sequences`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from pydicom.sr.coding import Code

from services.common.headers import InstanceHeader
from services.reporting.objects.coding import code_item
from services.reporting.objects.sequences import element, item_of, sequence, sequence_item


def reference(sop_class_uid: str, sop_instance_uid: str, frames: Iterable[int] = ()) -> bytes:
    """The elements of a reference to an instance (PS3.3 10.8), and to frames of it (10.3)."""
    numbers = "\\".join(map(str, frames))
    return b"".join(
        [
            element("ReferencedSOPClassUID", sop_class_uid),
            element("ReferencedSOPInstanceUID", sop_instance_uid),
            element("ReferencedFrameNumber", numbers) if numbers else b"",
        ]
    )


def referenced_series(series_uid: str, keyword: str, instances: Sequence[InstanceHeader]) -> bytes:
    """An item of ReferencedSeriesSequence with every instance.

    Args:
        keyword: of the sequence of instances: ReferencedInstanceSequence or ReferencedSOPSequence.
    """
    named = [
        sequence_item(reference(each.sop_class_uid, each.sop_instance_uid)) for each in instances
    ]
    return sequence_item(sequence(keyword, named), element("SeriesInstanceUID", series_uid))


@cache
def code_sequence(keyword: str, code: Code) -> bytes:
    """A code sequence with one code (PS3.3 8.8)."""
    return sequence(keyword, [item_of(code_item(code))])


def decimal_text(sent: str | Sequence[str] | None) -> str:
    """Decimal strings as they were sent, without the spaces around them (PS3.5 6.2)."""
    if sent is None or isinstance(sent, str):
        sent = (sent or "").split("\\")
    return "\\".join(value.strip() for value in sent)
