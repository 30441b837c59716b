"""The REST API: what it answers, and how it says no."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.database import (
    DeliveryRow,
    InstanceRow,
    JobOutputRow,
    JobRow,
    StudyRow,
    utc_now,
)
from services.common.lifecycle import DeliveryState
from tests.builders.job_rows import write_result
from tests.integration.gateway.conftest import SeededGateway


def test_health_and_readiness(gateway: SeededGateway) -> None:
    assert gateway.client.get("/healthz").json()["status"] == "alive"
    assert gateway.client.get("/readyz").json()["status"] == "ready"


def test_metrics_count_what_waits(gateway: SeededGateway) -> None:
    assert 'axial_queue_depth{queue="jobs"} 1.0' in gateway.client.get("/metrics").text


def test_queue_that_ran_empty_shows_nothing_waiting(gateway: SeededGateway) -> None:
    with Session(gateway.engine) as session:
        job_uid = session.scalars(select(JobRow.job_uid)).all()[0]
    result_uid = write_result(gateway.engine, job_uid, gateway.done)
    with Session(gateway.engine) as session, session.begin():
        session.add(
            DeliveryRow(
                delivery_uid="2.25.1",
                job_uid=job_uid,
                sop_instance_uid=result_uid,
                destination="pacs",
                sequence=1,
                state=DeliveryState.PENDING,
                attempts=0,
                next_attempt_at=utc_now(),
                created_at=utc_now(),
            )
        )
    gauge = 'axial_queue_depth{queue="delivery:pacs"}'
    assert f"{gauge} 1.0" in gateway.client.get("/metrics").text
    with Session(gateway.engine) as session, session.begin():
        session.execute(update(DeliveryRow).values(state=DeliveryState.DELIVERED))
    assert f"{gauge} 0.0" in gateway.client.get("/metrics").text


def test_studies_tell_their_state_and_fates(gateway: SeededGateway) -> None:
    studies = {s["study_uid"]: s for s in gateway.client.get("/api/v1/studies").json()["studies"]}
    assert studies[gateway.done]["state"] == "done"
    assert studies[gateway.done]["fates"] == {"processed": 1, "refused": 1}
    assert studies[gateway.working]["state"] == "working"


def test_pages_follow_one_another(gateway: SeededGateway) -> None:
    first = gateway.client.get("/api/v1/studies", params={"limit": 1}).json()
    second = gateway.client.get(
        "/api/v1/studies", params={"limit": 1, "offset": first["next_offset"]}
    ).json()
    assert {page["studies"][0]["study_uid"] for page in (first, second)} == {
        gateway.done,
        gateway.working,
    }
    assert second["next_offset"] is None


def test_fate_says_why_in_a_sentence(gateway: SeededGateway) -> None:
    fates = gateway.client.get(f"/api/v1/studies/{gateway.done}/fate").json()
    assert [(f["series_number"], f["reason"]) for f in fates] == [
        ("2", "segmented"),
        ("3", "missing_slice"),
    ]
    assert fates[1]["sentence"].startswith("At least one slice is missing")
    assert fates[1]["values"]["gap_mm"] == pytest.approx(10.0)
    assert fates[1]["remedy"]


def test_fate_under_way_says_so(gateway: SeededGateway) -> None:
    (fate,) = gateway.client.get(f"/api/v1/studies/{gateway.working}/fate").json()
    assert fate["fate"] is None
    assert fate["sentence"] == "Work on this series is under way."


@pytest.mark.parametrize(
    ("frames", "images"), [("520", 531), (["520"], 531), ("9" * 5000, 12), ("many", 12), (None, 12)]
)
def test_frames_of_multi_frame_objects_are_counted_as_images(
    gateway: SeededGateway, frames: Any, images: int
) -> None:
    with Session(gateway.engine) as session, session.begin():
        (torn,) = [
            fate["series_uid"]
            for fate in gateway.client.get(f"/api/v1/studies/{gateway.done}/fate").json()
            if fate["reason"] == "missing_slice"
        ]
        row = session.scalars(select(InstanceRow).where(InstanceRow.series_uid == torn)).first()
        assert row is not None
        attributes = {**row.header["attributes"], "NumberOfFrames": frames}
        row.header = {**row.header, "attributes": attributes}
    fates = gateway.client.get(f"/api/v1/studies/{gateway.done}/fate").json()
    found = next(fate for fate in fates if fate["series_uid"] == torn)
    assert found["images"] - found["instances"] == images - 12


def test_objects_without_pixels_are_no_images(gateway: SeededGateway) -> None:
    """Raw data in a series made it one image longer than its slices."""
    with Session(gateway.engine) as session, session.begin():
        row = session.scalars(
            select(InstanceRow).where(InstanceRow.study_uid == gateway.done)
        ).first()
        assert row is not None
        row.header = {**row.header, "has_pixels": False}
        series_uid = row.series_uid
    (found,) = gateway.client.get(f"/api/v1/series/{series_uid}/fate").json()
    assert found["images"] == found["instances"] - 1


def test_fate_of_a_single_series(gateway: SeededGateway) -> None:
    fates = gateway.client.get(f"/api/v1/studies/{gateway.done}/fate").json()
    uid = fates[1]["series_uid"]
    assert gateway.client.get(f"/api/v1/series/{uid}/fate").json() == [fates[1]]


def test_answers_hold_no_patient_data(gateway: SeededGateway) -> None:
    for path in ("", f"/{gateway.done}", f"/{gateway.done}/fate"):
        text = gateway.client.get(f"/api/v1/studies{path}").text
        assert "Secret" not in text
        assert "SECRET" not in text


def test_unknown_study_is_a_problem_detail(gateway: SeededGateway) -> None:
    answer = gateway.client.get("/api/v1/studies/1.2.3")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "study-not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "No study 1.2.3 was received.",
        "instance": "/api/v1/studies/1.2.3",
    }


def test_invalid_uid_is_a_problem_detail_that_names_the_field(gateway: SeededGateway) -> None:
    answer = gateway.client.get("/api/v1/studies/not-a-uid")
    assert answer.status_code == 422
    assert "study_uid" in answer.json()["detail"]


def test_silent_service_is_a_problem_and_no_traceback(gateway: SeededGateway) -> None:
    answer = gateway.client.post(f"/api/v1/studies/{gateway.done}/complete")
    assert answer.status_code == 503
    assert answer.json()["type"] == "listener-unavailable"


@pytest.mark.parametrize(
    ("document", "status", "kind"),
    [
        ({"instances": 175, "series": {"1.2.3.1": 170}}, 503, "listener-unavailable"),
        ({"instances": -1}, 422, "invalid-request"),
        ({"series": {"no uid": 3}}, 422, "invalid-request"),
        ({"series": {"1.2.3.1": 0}}, 422, "invalid-request"),
        ({"images": 175}, 422, "invalid-request"),
    ],
)
def test_an_expectation_is_checked_and_passed_on(
    gateway: SeededGateway, document: dict[str, Any], status: int, kind: str
) -> None:
    answer = gateway.client.post("/api/v1/studies/1.2.3/expectation", json=document)
    assert (answer.status_code, answer.json()["type"]) == (status, kind)


def test_every_route_is_described_with_examples(gateway: SeededGateway) -> None:
    description = gateway.client.get("/openapi.json").json()
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), f"{method} {path}"
    schemas = description["components"]["schemas"]
    for name in ("StudySummary", "SeriesFate", "Expectation", "Problem"):
        assert schemas[name]["examples"], name
    assert "example" in json.dumps(description["paths"]["/api/v1/studies/{study_uid}"])


def test_api_keeps_to_its_own_description(gateway: SeededGateway) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", gateway.app).include(method="GET")
    operations: list[Any] = [result.ok() for result in cast(Any, schema).get_all_operations()]
    assert len(operations) == 9

    for operation in operations:

        @settings(
            max_examples=15,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy())
        def answers_as_described(case: Any) -> None:
            case.call_and_validate()

        answers_as_described()


def test_fate_outlives_the_images_and_says_when_they_went(gateway: SeededGateway) -> None:
    removed_at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    with gateway.engine.begin() as connection:
        of_study = InstanceRow.study_uid == gateway.done
        connection.execute(update(InstanceRow).where(of_study).values(deleted_at=removed_at))
        connection.execute(
            update(StudyRow)
            .where(StudyRow.study_uid == gateway.done)
            .values(deleted_at=removed_at, deletion_cause="age")
        )
    fates = gateway.client.get(f"/api/v1/studies/{gateway.done}/fate").json()
    assert [(f["reason"], f["images_removed_because"]) for f in fates] == [
        ("segmented", "age"),
        ("missing_slice", "age"),
    ]
    assert {f["images_removed_at"] for f in fates} == {"2026-03-01T00:00:00Z"}
    (other,) = gateway.client.get(f"/api/v1/studies/{gateway.working}/fate").json()
    assert other["images_removed_at"] is None


def test_a_job_shows_how_far_it_has_come_while_a_model_works_on_it(gateway: SeededGateway) -> None:
    with gateway.engine.begin() as connection:
        connection.execute(update(JobRow).values(progress=0.43))
    for study_uid, progress in ((gateway.working, 0.43), (gateway.done, None)):
        study = gateway.client.get(f"/api/v1/studies/{study_uid}").json()
        assert [job["progress"] for job in study["jobs"]] == [progress]


def test_a_job_tells_the_numbers_that_its_model_gave_beside_segments(
    gateway: SeededGateway,
) -> None:
    given = {"members": 5.0, "disagreement": {"1": 0.25}}
    with Session(gateway.engine) as session, session.begin():
        job = session.scalars(select(JobRow).where(JobRow.study_uid == gateway.done)).one()
        for place, (name, kind, numbers) in enumerate(
            [("labels", "layers", {"touching_unmeasured": []}), ("uncertainty", "values", given)]
        ):
            session.add(
                JobOutputRow(job_uid=job.job_uid, name=name, ordinal=place, kind=kind,
                             grid_role="", store_key="", digest="", numbers=numbers)
            )  # fmt: skip
    study = gateway.client.get(f"/api/v1/studies/{gateway.done}").json()
    (told,) = study["jobs"]
    assert told["numbers"] == {"uncertainty": given}
