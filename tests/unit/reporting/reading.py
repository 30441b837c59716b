"""How tests read what was written: frames of a SEG, content items of an SR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from services.reporting.source.modules import raw_bytes
from tests.builders.series import headers_of


def frames(dataset: Dataset) -> list[Dataset]:
    """The per-frame functional groups."""
    return list(dataset.PerFrameFunctionalGroupsSequence)


def source_instance(frame: Dataset) -> str:
    """The source instance that a frame names."""
    image = frame.DerivationImageSequence[0].SourceImageSequence[0]
    return str(image.ReferencedSOPInstanceUID)


def digits(item: Dataset, keyword: str) -> list[str]:
    """The characters of a decimal string attribute as they lie in the file."""
    value = raw_bytes(item, keyword)
    assert value is not None
    return value.decode("ascii").split("\\")


def seg_slice(files: list[Path], frame: Dataset) -> int:
    """The slice that a frame names by its source instance."""
    headers = headers_of(files)
    return [header.sop_instance_uid for header in headers].index(source_instance(frame))


def write_to(folder: Path, content: bytes) -> Path:
    """A file with an object's bytes."""
    file = folder / "object.dcm"
    file.write_bytes(content)
    return file


def items(parent: Dataset) -> list[Dataset]:
    """Content items directly below one."""
    return list(parent.get("ContentSequence") or [])


def named(parent: Dataset, code: str) -> list[Dataset]:
    """Items below `parent` whose concept name has this code value."""
    return [item for item in items(parent) if concept(item) == code]


def concept(item: Dataset) -> str:
    """Code value of the concept name."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def meaning(item: Dataset) -> str:
    """Code meaning of the concept name."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def value(item: Dataset) -> tuple[str, str]:
    """Code value and designator of a CODE item."""
    code = item.ConceptCodeSequence[0]
    return str(code.CodeValue), str(code.CodingSchemeDesignator)


def groups(report: Dataset) -> list[Dataset]:
    """The measurement groups."""
    (container,) = named(report, "126010")
    return named(container, "125007")


def walk(parent: Dataset) -> Iterator[Dataset]:
    """All content items below one."""
    for item in items(parent):
        yield item
        yield from walk(item)
