"""Writes the seeds of the door's corpus: real traffic of real senders, cut down.

``python -m tests.fuzz.make_corpus``. What the fuzzers find is added by hand, under a telling name.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from services.dimse.commands import C_ECHO_RQ, C_STORE_RQ
from services.dimse.pdu import (
    A_ASSOCIATE_RQ,
    A_RELEASE_RQ,
    APPLICATION_CONTEXT,
    P_DATA_TF,
    PDV_HEAD,
    pdu,
)
from tests.fuzz.dicom_door import CT, SYNTAXES

CORPUS = Path(__file__).parent / "corpus" / "pdu"
_PARSE, _ALONE, _ASSOCIATED = b"\x00", b"\x01", b"\x02"


def request(called: str = "AXIAL", abstract: str = CT) -> bytes:
    """An A-ASSOCIATE-RQ with a context for each transfer syntax and one for verification."""
    contexts = [(abstract, syntax) for syntax in SYNTAXES] + [("1.2.840.10008.1.1", SYNTAXES[0])]
    items = _item(0x10, APPLICATION_CONTEXT.encode())
    for number, (abstract, syntax) in enumerate(contexts):
        body = bytes((2 * number + 1, 0, 0, 0))
        items += _item(0x20, body + _item(0x30, abstract.encode()) + _item(0x40, syntax.encode()))
    role = struct.pack(">H", len(CT)) + CT.encode() + b"\x01\x00"
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3") + _item(0x54, role)
    items += _item(0x50, user + _item(0x55, b"FUZZ"))
    titles = called.encode().ljust(16) + b"FUZZER".ljust(16)
    return pdu(A_ASSOCIATE_RQ, struct.pack(">H2x", 1) + titles + bytes(32) + items)


def command(field: int, **uids: str) -> bytes:
    """A command set: an echo, or a store of an instance."""
    values = [(0x0100, struct.pack("<H", field)), (0x0110, struct.pack("<H", 7))]
    values.append((0x0800, struct.pack("<H", 0x0101 if field == C_ECHO_RQ else 1)))
    if uids:
        values += [(0x0002, _even(uids["sop_class"])), (0x1000, _even(uids["instance"]))]
    body = b"".join(struct.pack("<HHI", 0, tag, len(v)) + v for tag, v in sorted(values))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def values(context_id: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF with one presentation data value."""
    return pdu(P_DATA_TF, PDV_HEAD.pack(len(data) + 2, context_id, control) + data)


def data_set(syntax: str) -> bytes:
    """A small CT image without its file's head."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = UID(CT), UID("1.2.3.4")
    data.StudyInstanceUID, data.SeriesInstanceUID = UID("1.2.3"), UID("1.2.3.1")
    data.Modality, data.PatientName = "CT", "Müller^Jörg"
    data.ImagePositionPatient, data.ImageType = [0, 0, 1.5], ["ORIGINAL", "PRIMARY"]
    item = Dataset()
    item.CodeValue = "1"
    data.ProcedureCodeSequence = [item]
    data.Rows = data.Columns = 2
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = bytes(8)
    if "1.2.4" in syntax:
        data.PixelData = encapsulate([bytes(8)])
        data["PixelData"].is_undefined_length = True
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = io.BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    content = buffer.getvalue()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def store(context_id: int, syntax: str) -> bytes:
    """A C-STORE in two fragments of data."""
    asked = command(C_STORE_RQ, sop_class=CT, instance="1.2.3.4")
    sent = data_set(syntax)
    half = len(sent) // 2
    return (
        values(context_id, 3, asked)
        + values(context_id, 0, sent[:half])
        + values(context_id, 2, sent[half:])
    )


def main() -> None:
    """Writes all seeds."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    release = pdu(A_RELEASE_RQ, bytes(4))
    seeds = {
        "request": _ALONE + request(),
        "request_release": _ALONE + request() + release,
        "request_body": _PARSE + request()[6:],
        "echo": _ASSOCIATED + values(11, 3, command(C_ECHO_RQ)) + release,
        "echo_command": _PARSE + command(C_ECHO_RQ),
        "http": _ALONE + b"GET / HTTP/1.1\r\n\r\n",
        "huge_pdu": _ASSOCIATED + struct.pack(">BxI", P_DATA_TF, 0xFFFFFFFF),
        "data_without_command": _ASSOCIATED + values(1, 2, b"data"),
    }
    for number, syntax in enumerate(SYNTAXES):
        seeds[f"store_{syntax}"] = _ASSOCIATED + store(2 * number + 1, syntax) + release
        seeds[f"data_set_{syntax}"] = _PARSE + data_set(syntax)
    for name, seed in seeds.items():
        (CORPUS / name).write_bytes(seed)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _even(text: str) -> bytes:
    value = text.encode()
    return value + b"\0" if len(value) % 2 else value


if __name__ == "__main__":
    main()
