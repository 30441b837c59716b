"""The API tells of other bytes under known UIDs; nothing that was acknowledged is lost to view."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select

from services.common.database import ConflictRow, InstanceRow, SeriesRow, StudyRow, utc_now
from tests.integration.gateway.conftest import SeededGateway

COPY, SERIES = "2.25.5", "2.25.6"


def add_conflicts(gateway: SeededGateway, study_uid: str, series_uid: str, **values: Any) -> int:
    """Every instance of a series of the study that is done came again; how many."""
    now = utc_now()
    with gateway.engine.begin() as connection:
        kept = connection.execute(
            select(InstanceRow.__table__).where(InstanceRow.study_uid == gateway.done)
        ).all()
        first = kept[0].series_uid
        rows = [
            {
                "sop_instance_uid": row.sop_instance_uid,
                "data_digest": "0-1",
                "transfer_syntax_uid": row.transfer_syntax_uid,
                "study_uid": study_uid,
                "series_uid": series_uid or row.series_uid,
                "sop_class_uid": row.sop_class_uid,
                "kept_study_uid": row.study_uid,
                "kept_series_uid": row.series_uid,
                "differs": ["patient", "uids"],
                "among_own": False,
                "state": "open",
                "times": 1,
                "peer": "MR1",
                "received_at": now,
                "last_received_at": now,
                **values,
            }
            for row in kept
            if row.series_uid == first
        ]
        connection.execute(insert(ConflictRow), rows)
    return len(rows)


def add_copy(gateway: SeededGateway, state: str = "open") -> int:
    now = utc_now()
    with gateway.engine.begin() as connection:
        connection.execute(
            insert(StudyRow).values(
                study_uid=COPY, first_received_at=now, last_received_at=now, attributes={}
            )
        )
        connection.execute(
            insert(SeriesRow).values(
                series_uid=SERIES, study_uid=COPY, attributes={"SeriesNumber": "4"}
            )
        )
    return add_conflicts(gateway, COPY, SERIES, state=state)


def test_a_study_of_which_only_conflicts_came_is_listed_and_says_why(
    gateway: SeededGateway,
) -> None:
    count = add_copy(gateway)
    listed = {study["study_uid"]: study for study in _get(gateway, "studies")["studies"]}
    assert (listed[COPY]["state"], listed[COPY]["conflicts"]) == ("done", count)
    for path in (f"studies/{COPY}/fate", f"series/{SERIES}/fate"):
        (fate,) = _get(gateway, path)
        assert (fate["fate"], fate["reason"], fate["instances"]) == (
            "refused",
            "known_elsewhere",
            count,
        )
        assert gateway.done in fate["sentence"]
        assert "axial conflicts" in fate["remedy"]
    (event,) = _get(gateway, f"studies/{COPY}")["conflict_events"]
    assert (event["count"], event["differs"]) == (count, ["patient", "uids"])


def test_the_study_of_the_first_images_tells_of_them_too(gateway: SeededGateway) -> None:
    count = add_copy(gateway)
    study = _get(gateway, f"studies/{gateway.done}")
    assert study["conflicts"] == count
    told = [sentence for fate in study["fate"] for sentence in fate["conflicts"]]
    assert len(told) == 1
    assert COPY in told[0]
    assert {fate["reason"] for fate in study["fate"]} == {"segmented", "missing_slice"}


def test_another_version_of_the_same_series_is_told_with_its_fate(gateway: SeededGateway) -> None:
    count = add_conflicts(gateway, gateway.done, "", differs=["patient"])
    told = [
        sentence
        for fate in _get(gateway, f"studies/{gateway.done}/fate")
        for sentence in fate["conflicts"]
    ]
    assert told == [
        f"{count} images of this series came again with another patient; what came first is kept "
        "and used, what came later is kept beside it and not used (decide with `axial conflicts "
        "resolve`)."
    ]


def test_conflicts_are_listed_by_uid_and_state(gateway: SeededGateway) -> None:
    add_copy(gateway)
    assert [each["study_uid"] for each in _get(gateway, "conflicts")] == [COPY]
    for uid in (COPY, SERIES, gateway.done):
        assert len(_get(gateway, f"conflicts?uid={uid}")) == 1
    assert _get(gateway, "conflicts?uid=1.2.3") == []
    assert _get(gateway, "conflicts?state=taken") == []


def test_fates_of_images_that_are_another_studys_now_stay(gateway: SeededGateway) -> None:
    add_copy(gateway)
    with gateway.engine.begin() as connection:
        connection.execute(
            InstanceRow.__table__.update()  # pyright: ignore[reportAttributeAccessIssue]
            .where(InstanceRow.study_uid == gateway.done)
            .values(study_uid=COPY, series_uid=SERIES)
        )
    reasons = {fate["reason"] for fate in _get(gateway, f"studies/{gateway.done}/fate")}
    assert reasons >= {"segmented", "missing_slice"}


def test_a_series_whose_images_are_all_another_ones_now_says_so(gateway: SeededGateway) -> None:
    count = add_copy(gateway, "replaced")
    for path in (f"studies/{COPY}/fate", f"series/{SERIES}/fate"):
        (fate,) = _get(gateway, path)
        assert (fate["fate"], fate["reason"], fate["instances"]) == (
            "superseded",
            "taken_elsewhere",
            count,
        )
        assert gateway.done in fate["sentence"]


def test_a_decision_is_passed_on(gateway: SeededGateway) -> None:
    answer = gateway.client.post("/api/v1/conflicts/resolve?uid=1.2.3&keep=latest")
    assert (answer.status_code, answer.json()["type"]) == (503, "listener-unavailable")
    assert gateway.client.post("/api/v1/conflicts/resolve?uid=1.2.3").status_code == 422


def _get(gateway: SeededGateway, path: str) -> Any:
    answer = gateway.client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()
