"""A data set in another transfer syntax, where that needs no decoding of pixels.

What is sent goes out as it lies in its file. Only where a receiver takes none but another
uncompressed transfer syntax is the data set written anew, by the library.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from services.common.errors import TranscodingError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

# Transfer syntax -> what a data set of it can be written in instead, preferred ones first. Implicit
# VR Little Endian is offered for all that is not compressed (PS3.5 10.1).
ALTERNATIVES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {EXPLICIT: (IMPLICIT,), IMPLICIT: (EXPLICIT,), DEFLATED: (EXPLICIT, IMPLICIT)}
)


def data_set_in(file: Path | bytes, transfer_syntax_uid: str) -> bytes:
    """The data set of a file, written in one of the `ALTERNATIVES` of its transfer syntax.

    The transfer syntax is that of the file's head. Elements of groups 0000 and 0002 in front of the
    data set are their sender's mistake and are left out (PS3.10 7.1).

    Raises:
        TranscodingError: the data set cannot be read, or not be written.
        OSError: the disk does not give the file.
    """
    # What sends files as they are does without the library.
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    from services.common.stored_objects import StoredObjectError, read_whole
    from services.common.telemetry import get_logger

    try:
        with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            data = read_whole(stream)
    except StoredObjectError as error:
        raise TranscodingError(str(error)) from error
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    try:
        _leave_private_unknown(data)
        write_dataset(out, data)
    except Exception as error:
        # Whatever the library raises where a value is none of its VR.
        get_logger("common").info("object_not_written_anew", kind=type(error).__name__)
        raise TranscodingError("one of its elements does not hold what its VR says") from error
    return out.getvalue()


def _leave_private_unknown(data: Dataset) -> None:
    """Of private elements that came without a VR, no VR is guessed (PS3.5 6.2.2, UN).

    What a dictionary says of them is often not what is in them.
    """
    from pydicom.dataelem import DataElement, RawDataElement

    for tag in list(data.keys()):
        element = data.get_item(tag)
        unread = isinstance(element, RawDataElement) and element.VR is None
        if unread and tag.is_private:
            data[tag] = DataElement(tag, "UN", element.value)
        elif data[tag].VR == "SQ" if unread else element.VR == "SQ":
            for item in data[tag].value:
                _leave_private_unknown(item)
