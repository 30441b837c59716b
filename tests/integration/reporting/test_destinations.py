"""Real archives: pynetdicom's qrscp and Debian's Orthanc hold what was sent, unchanged."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.objects.forms import PLAIN
from tests.builders.peers import ORTHANC, destination, orthanc, qrscp, wait_until
from tests.builders.reporting import Workplace, analysis_of, blobs
from tests.integration.reporting.conftest import SHAPE, Open, states

DONE = ["delivered", "delivered"]


def test_qrscp_holds_both_objects_as_they_were_checked(
    tmp_path: Path, place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        qrscp(tmp_path / "pacs") as (port, instances),
        deliver(destination(port)) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        files = [file for file in instances.rglob("*") if file.is_file()]
    by_kind = {pydicom.dcmread(file).Modality: file for file in files}
    assert len(files) == 2
    _check(place, by_kind["SEG"], by_kind["SR"])


@pytest.mark.skipif(not ORTHANC.exists(), reason="needs Orthanc (Debian: orthanc)")
def test_air_7_orthanc_holds_both_objects_as_they_were_checked(
    tmp_path: Path, place: Workplace, job_uid: str, deliver: Open
) -> None:
    with orthanc(tmp_path) as archive, deliver(destination(archive.dicom_port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        identifiers = archive.get("/instances")
        assert len(identifiers) == 2
        assert len(archive.get("/studies")) == 1  # the patient and study of the source
        by_kind: dict[str, Path] = {}
        for identifier in identifiers:
            content = archive.file(identifier)
            kind = str(pydicom.dcmread(BytesIO(content)).Modality)
            by_kind[kind] = tmp_path / f"{kind}.dcm"
            by_kind[kind].write_bytes(content)
    _check(place, by_kind["SEG"], by_kind["SR"])


@pytest.mark.skipif(not ORTHANC.exists(), reason="needs Orthanc (Debian: orthanc)")
def test_orthanc_keeps_the_same_results_sent_twice_as_one(
    tmp_path: Path, place: Workplace, job_uid: str, deliver: Open
) -> None:
    with orthanc(tmp_path) as archive:
        with deliver(destination(archive.dicom_port)) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        with deliver(destination(archive.dicom_port, "again")) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: states(place, "again") == DONE, 20, "both are delivered again")
        assert len(archive.get("/instances")) == 2


def _check(place: Workplace, segmentation: Path, report: Path) -> None:
    """The archive's files pass the checks that ours passed, but for their file meta."""
    analysis = analysis_of(place.files, blobs(SHAPE))
    for file, kind in ((segmentation, "seg"), (report, "sr")):
        kept = pydicom.dcmread(file)
        sent = pydicom.dcmread(next(place.store.root.glob(f"jobs/*/{kind}.dcm")))
        kept.file_meta.ImplementationClassUID = sent.file_meta.ImplementationClassUID
        kept.save_as(file)
    assert check_segmentation(segmentation, analysis, PLAIN) is None
    assert check_report(report, analysis, PLAIN) is None
