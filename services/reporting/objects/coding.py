"""Codes: the manifest's as pydicom's, and as items of a code sequence (PS3.3 8.8)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode

from models.manifest import Code
from services.reporting.objects.texts import ascii_text


def dicom_code(code: Code) -> DicomCode:
    """A code of the manifest as pydicom's."""
    return DicomCode(code.value, code.scheme, ascii_text(code.meaning, 64))


def code_item(code: DicomCode) -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
