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

    Raises:
        Exception: whatever the library raises where it cannot read or write the data set.
    """
    # What sends files as they are does without the library.
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    source = io.BytesIO(file) if isinstance(file, bytes) else file
    data = pydicom.dcmread(source)
    _leave_private_unknown(data)
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    write_dataset(out, data)
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
