"""What the report flags is said in the fate's sentence too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest
from axial.v1 import reporting_pb2
from pydicom.uid import UID
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.common.database import FateRow
from services.common.fates import Verdict
from services.common.lifecycle import JobState
from services.orchestrator import jobs
from services.orchestrator.jobs import JobOutput
from services.orchestrator.stages import release_stage, report_stage, select_stage
from tests.builders.catalogue import serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

LABELS = JobOutput("labels", "layers", "image", "labels", "d", {})
REMARK = "Brain measures 2256.0 mL, outside the expected 200 to 2100 mL."


class Reporting:
    """Has a result of one brain, with or without a remark."""

    def __init__(self, remark: str, voxels: int = 9) -> None:
        self._remark, self._voxels = remark, voxels
        self.asked: list[reporting_pb2.MakeResultsRequest] = []

    def make_results(
        self, request: reporting_pb2.MakeResultsRequest
    ) -> reporting_pb2.MakeResultsResponse:
        self.asked.append(request)
        brain = reporting_pb2.Measurement(
            segment_number=1,
            segment_label="Brain",
            name="volume",
            value=2256.0,
            unit="mL",
            remark=self._remark,
        )
        found = reporting_pb2.SearchedSegment(
            output="labels", number=1, label="Brain", voxels=self._voxels
        )
        return reporting_pb2.MakeResultsResponse(measurements=[brain], searched=[found])

    def release(self, job_uid: str) -> int:
        return 1


@pytest.mark.parametrize(("remark", "reason"), [(REMARK, "segmented_flagged"), ("", "segmented")])
def test_a_remark_of_the_report_stands_in_the_fate(
    remark: str, reason: str, engine: Engine, tmp_path: Path
) -> None:
    context = stage_context(engine, tmp_path)
    serve(context)
    context = replace(context, reporting=cast(Any, Reporting(remark)))
    files = write_head_like(tmp_path / "head")
    study_uid = register_revision(engine, files, store=context.store)
    ((job_uid, _),) = select_stage(context, study_uid, 1).to_run
    jobs.advance_job(engine, job_uid, JobState.INFERRED, outputs=[LABELS])
    assert report_stage(context, job_uid)
    release_stage(context, job_uid)
    with Session(engine) as session:
        fate = session.scalars(select(FateRow)).one()
        sentence = Verdict(fate.reason, fate.reason_values or {}).sentence
    assert fate.reason == reason
    assert remark in sentence
    assert "Brain 2256.0 mL" in sentence


def test_images_that_were_left_out_are_told_in_the_fate(engine: Engine, tmp_path: Path) -> None:
    context = stage_context(engine, tmp_path)
    serve(context)
    reporting = Reporting("")
    context = replace(context, reporting=cast(Any, reporting))
    files = write_head_like(tmp_path / "head")
    data = pydicom.dcmread(files[0])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID("2.25.900")
    data.InstanceNumber = 900
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    scout = tmp_path / "scout.dcm"
    data.save_as(scout)
    study_uid = register_revision(engine, [*files, scout], store=context.store)
    ((job_uid, _),) = select_stage(context, study_uid, 1).to_run
    places = jobs.read_job(engine, job_uid).inputs["image"].places
    assert "2.25.900" not in [uid for uid, _ in places]
    jobs.advance_job(engine, job_uid, JobState.INFERRED, outputs=[LABELS])
    assert report_stage(context, job_uid)
    release_stage(context, job_uid)
    with Session(engine) as session:
        fate = session.scalars(select(FateRow)).one()
        sentence = Verdict(fate.reason, fate.reason_values or {}).sentence
    told = "Image 900 of the series is no slice but a localizer and was left out."
    assert told in sentence
    assert [each.left_out for each in reporting.asked[0].selection] == [told], "for the report"
