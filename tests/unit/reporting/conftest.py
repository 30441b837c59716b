"""Objects that many tests only read, written once; and a place to make results in."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN, Form
from tests.builders.forms import form_of
from tests.builders.reporting import (
    Workplace,
    analysis_of,
    blobs,
    series_in,
    three_segments,
    workplace,
)


@dataclass(frozen=True)
class Written:
    """A job's objects as a receiver reads them."""

    analysis: Analysis
    files: list[Path]
    segmentation: bytes
    report: bytes

    def seg(self) -> pydicom.FileDataset:
        """The SEG, freshly read."""
        return pydicom.dcmread(io.BytesIO(self.segmentation))

    def sr(self) -> pydicom.FileDataset:
        """The SR, freshly read."""
        return pydicom.dcmread(io.BytesIO(self.report))

    def source(self, k: int = 0) -> Dataset:
        """The source instance of slice k."""
        return pydicom.dcmread(self.files[k])


Write = Callable[..., Written]


def write(
    files: list[Path], analysis: Analysis, form: Form = PLAIN, context: Context | None = None
) -> Written:
    """Both objects of an analysis."""
    segmentation = encode_segmentation(analysis, form, 9000) if analysis.found else b""
    report = encode_report(analysis, form, 9001, context or Context())
    return Written(analysis, files, segmentation, report)


@pytest.fixture
def place(tmp_path: Path) -> Generator[Workplace]:
    """A registered axial series."""
    made = workplace(tmp_path, series_in(tmp_path / "series", "axial", (7, 12, 10)))
    yield made
    made.engine.dispose()


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One segment on an oblique series."""
    files = series_in(tmp_path_factory.mktemp("one"), "oblique")
    return write(files, analysis_of(files, blobs((7, 12, 10))))


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Three segments are looked for, the first and the third are found."""
    files = series_in(tmp_path_factory.mktemp("several"), "sagittal")
    labels = blobs((7, 12, 10), numbers=(1, 3))
    return write(files, analysis_of(files, labels, three_segments()))


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Three segments are looked for, none is found."""
    files = series_in(tmp_path_factory.mktemp("nothing"), "axial")
    labels = blobs((7, 12, 10), numbers=())
    return write(files, analysis_of(files, labels, three_segments()))


@pytest.fixture(scope="session")
def for_viewers(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The other forms: empty frames kept, regions of the key slice in the report."""
    files = series_in(tmp_path_factory.mktemp("viewers"), "coronal")
    labels = blobs((7, 12, 10), numbers=(1, 3))
    form = form_of("keep_empty_frames", "key_slice")
    return write(files, analysis_of(files, labels, three_segments()), form)
