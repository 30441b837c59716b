"""Triton and reporting of another version: what they say is kept; no job ends well by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from axial.v1 import inference_pb2, reporting_pb2
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.common.database import FateRow
from services.common.lifecycle import JobState
from services.orchestrator import jobs
from services.orchestrator.inference import Inference, Output
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import infer_stage, release_stage, report_stage, select_stage
from tests.builders.catalogue import DIGEST, serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision


class Triton:
    """Answers what the test says, and keeps what it was asked."""

    def __init__(self, refusal: tuple[str, dict[str, str]] | None = None) -> None:
        self.refusal = refusal
        self.asked: list[inference_pb2.InferenceRequest] = []

    def ensure_loaded(self, model: str) -> None:
        """It is loaded."""

    def infer(
        self,
        model: str,
        request: inference_pb2.InferenceRequest,
        volumes: Mapping[str, SentVolume],
    ) -> Inference:
        self.asked.append(request)
        answer = inference_pb2.InferenceAnswer(model_digest=DIGEST)
        if self.refusal is None:
            labels = np.ones(volumes["image"].shape, np.uint8)
            return Inference((Output("labels", "layers", "image", labels),), answer)
        answer.refusal.reason = self.refusal[0]
        answer.refusal.values.update(self.refusal[1])
        return Inference((), answer)


class Reporting:
    """Answers what the test says, and keeps what it was asked."""

    def __init__(self, answer: reporting_pb2.MakeResultsResponse) -> None:
        self.answer = answer
        self.asked: list[reporting_pb2.MakeResultsRequest] = []

    def make_results(
        self, request: reporting_pb2.MakeResultsRequest
    ) -> reporting_pb2.MakeResultsResponse:
        self.asked.append(request)
        return self.answer

    def release(self, job_uid: str) -> int:
        return 1


def _job(
    engine: Engine, folder: Path, triton: Triton, reporting: Reporting | None = None
) -> tuple[StageContext, str]:
    context = stage_context(engine, folder)
    serve(context)
    context = replace(context, inference=cast(Any, triton), reporting=cast(Any, reporting))
    study_uid = register_revision(engine, write_head_like(folder / "head"), store=context.store)
    ((uid, _),) = select_stage(context, study_uid, 1).to_run
    return context, uid


def _fate(engine: Engine) -> tuple[str, str]:
    with Session(engine) as session:
        row = session.scalars(select(FateRow)).one()
        return row.fate, row.reason


@pytest.mark.parametrize(
    ("refusal", "fate"),
    [
        (("quantum_noise", {"level": "3"}), ("refused", "quantum_noise")),
        (("blank_image", {}), ("refused", "blank_image")),  # its sentence wants a value
        (("model_digest_mismatch", {}), ("failed", "model_digest_mismatch")),
        (("segmented", {}), ("failed", "internal_error")),  # none by which anything is refused
        (("newer_revision", {}), ("failed", "internal_error")),
    ],
)
def test_a_reason_of_another_triton_ends_the_job_as_it_means(
    engine: Engine, tmp_path: Path, refusal: tuple[str, dict[str, str]], fate: tuple[str, str]
) -> None:
    context, uid = _job(engine, tmp_path, Triton(refusal))
    assert not infer_stage(context, uid)
    assert _fate(engine) == fate


@pytest.mark.parametrize("reason", ["quantum_noise", "object_check_failed"])
def test_a_reason_of_another_reporting_withholds_the_result(
    engine: Engine, tmp_path: Path, reason: str
) -> None:
    answer = reporting_pb2.MakeResultsResponse()
    answer.withholding.reason = reason
    context, uid = _job(engine, tmp_path, Triton(), Reporting(answer))
    assert infer_stage(context, uid)
    assert not report_stage(context, uid)
    assert _fate(engine) == ("withheld", reason)


@pytest.mark.parametrize(
    ("kinds", "reason"), [(("SEG", "SR"), "segmented"), (("SR",), "looked_for_not_found")]
)
def test_reporting_of_before_says_what_was_found_by_the_kinds_of_its_results(
    engine: Engine, tmp_path: Path, kinds: tuple[str, ...], reason: str
) -> None:
    answer = reporting_pb2.MakeResultsResponse()
    for kind in kinds:
        answer.results.add(kind=kind)
    context, uid = _job(engine, tmp_path, Triton(), Reporting(answer))
    assert infer_stage(context, uid)
    assert report_stage(context, uid)
    release_stage(context, uid)
    assert _fate(engine) == ("processed", reason)


def test_a_number_that_is_not_known_is_kept_without_a_value(engine: Engine, tmp_path: Path) -> None:
    answer = reporting_pb2.MakeResultsResponse()
    answer.searched.add(output="labels", number=1, label="Brain", voxels=9)
    answer.measurements.add(
        segment_number=1,
        segment_label="Brain",
        name="volume",
        unit="mL",
        why_unknown="The slices overlap.",
    )
    answer.measurements.add(
        segment_number=1,
        segment_label="Brain",
        name="other",
        unit="mL",
        value=2.0,
        low=1.5,
        high=2.5,
    )
    context, uid = _job(engine, tmp_path, Triton(), Reporting(answer))
    assert infer_stage(context, uid)
    assert report_stage(context, uid)
    unknown, known = jobs.measurements_of(engine, uid)
    assert (unknown.value, unknown.why_unknown) == (None, "The slices overlap.")
    assert (known.value, known.low, known.high, known.why_unknown) == (2.0, 1.5, 2.5, "")


def test_messages_say_what_several_inputs_and_outputs_need(engine: Engine, tmp_path: Path) -> None:
    answer = reporting_pb2.MakeResultsResponse()
    triton, reporting = Triton(), Reporting(answer)
    context, uid = _job(engine, tmp_path, triton, reporting)
    assert infer_stage(context, uid)
    assert report_stage(context, uid)
    (asked,) = triton.asked
    (role,) = asked.roles
    assert (asked.grid_role, role.role, role.tensor) == ("image", "image", "VOLUME.image.int16")
    assert (role.dtype, role.slope != 0, bool(role.frame_of_reference_uid)) == ("int16", True, True)
    assert asked.priority == 2
    assert asked.deadline.endswith("+00:00")
    (made,) = reporting.asked
    (output,) = made.outputs
    assert (output.name, output.kind, output.grid_role) == ("labels", "layers", "image")
    assert output.store_key == made.labels_key
    assert len(output.digest) == 64
    assert jobs.read_job(engine, uid).state is JobState.REPORTED
