"""Codes of segments: from a person's file, or generic ones that claim nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from models.importing.errors import NotImportableError
from models.manifest.base import Code, Part
from models.manifest.document import Document, read_document
from models.manifest.schema import CIELab

__all__ = ["GENERIC", "SegmentCodes", "read_codes", "read_known_codes"]


class SegmentCodes(Part):
    """Of one label: what its segment is in codes, and how it is called and painted."""

    category: Code
    type: Code
    region: Code | None = None
    label: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    colour_cielab: CIELab | None = None


# Some region of the image, somewhere in the body: true of every segment, and of no use to a reader.
GENERIC: Final = SegmentCodes(
    category=Code(scheme="SCT", value="309825002", meaning="Spatial and Relational Concept"),
    type=Code(scheme="DCM", value="111030", meaning="Image Region"),
    region=Code(scheme="SCT", value="38266002", meaning="Entire body"),
)


def read_codes(file: Path, labels: tuple[str, ...]) -> dict[str, SegmentCodes]:
    """Read a file of codes: YAML, each label's name with `category`, `type`, `region` and so on.

    Args:
        file: the file.
        labels: the names that there are.

    Raises:
        NotImportableError: it names a label that is not there, or leaves one out, or a code is
            none; with the line.
        ManifestError: it is no YAML.
    """
    document = _mapping(file)
    for name in document.data:
        if name not in labels:
            line, _ = document.line_of((name,))
            raise NotImportableError(
                f"{file}:{line}: there is no label {name}. There are {', '.join(labels)}."
            )
    found = {name: _codes(file, document, name) for name in document.data}
    missing = [name for name in labels if name not in found]
    if missing:
        raise NotImportableError(
            f"{file} leaves out {', '.join(missing)}. Give every label its codes."
        )
    return found


def read_known_codes(file: Path, labels: tuple[str, ...]) -> dict[str, SegmentCodes]:
    """Read the codes of those labels that a file of many knows; as for `read_codes`."""
    document = _mapping(file)
    return {name: _codes(file, document, name) for name in labels if name in document.data}


def _mapping(file: Path) -> Document:
    document = read_document(file)
    if not isinstance(document.data, dict):
        raise NotImportableError(f"{file} is no mapping of labels to codes.")
    return document


def _codes(file: Path, document: Document, name: str) -> SegmentCodes:
    try:
        return SegmentCodes.model_validate(document.data[name])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        line, known = document.line_of((name, *first["loc"]))
        field = ".".join(str(step) for step in known)
        raise NotImportableError(f"{file}:{line}: {field}: {first['msg']}.") from error
