"""What other versions wrote down is shown, and takes nothing else with it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from services.common.database import DeploymentRow, FateRow, JobRow, utc_now
from tests.integration.gateway.conftest import SeededGateway

PATHS = ("/api/v1/studies", "/api/v1/studies/{}", "/api/v1/studies/{}/fate")


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("missing_slice", {"before": 1}),  # its sentence had fewer values then
        ("missing_slice", {}),
        ("quantum_noise", {"level": 3}),  # of a version that is newer
        ("quantum_noise", {}),
    ],
)
def test_a_stored_verdict_breaks_no_study(
    gateway: SeededGateway, reason: str, values: dict[str, Any]
) -> None:
    with gateway.engine.begin() as connection:
        connection.execute(update(FateRow).values(reason=reason, reason_values=values))
        connection.execute(
            update(JobRow)
            .where(JobRow.reason.is_not(None))
            .values(reason=reason, reason_values=values)
        )
    for path in PATHS:
        assert gateway.client.get(path.format(gateway.done)).status_code == 200
    fates = gateway.client.get(PATHS[2].format(gateway.done)).json()
    assert {fate["reason"] for fate in fates} == {reason}
    expected = "quantum_noise" if reason == "quantum_noise" else "(not said)"
    assert all(expected in fate["sentence"] for fate in fates)
    # Of a reason that is not known the fate is told all the same.
    assert {fate["fate"] for fate in fates} == {"processed", "refused"}


def test_an_unknown_state_and_fate_are_shown_as_they_are(gateway: SeededGateway) -> None:
    with gateway.engine.begin() as connection:
        connection.execute(update(FateRow).values(fate="postponed"))
        connection.execute(update(JobRow).values(state="shadowed"))
    study = gateway.client.get(PATHS[1].format(gateway.done)).json()
    assert {job["state"] for job in study["jobs"]} == {"shadowed"}
    assert {fate["fate"] for fate in study["fate"]} == {"postponed"}


def test_a_series_that_two_jobs_of_a_model_read_has_two_fates(gateway: SeededGateway) -> None:
    with gateway.engine.begin() as connection:
        (row,) = connection.execute(
            select(FateRow.__table__).where(FateRow.job_uid != "")
        ).mappings()
        connection.execute(insert(FateRow).values({**row, "job_uid": "2.25.77"}))
    fates = gateway.client.get(PATHS[2].format(gateway.done)).json()
    assert len(fates) == 3
    assert {fate["job_uid"] for fate in fates} == {row["job_uid"], "2.25.77", None}


def test_builds_are_listed_with_their_state(gateway: SeededGateway) -> None:
    with gateway.engine.begin() as connection:
        for digest, state in (("a" * 64, "draining"), ("b" * 64, "serving")):
            connection.execute(
                insert(DeploymentRow).values(
                    model_name="brain-extraction",
                    model_digest=digest,
                    target="cpu",
                    model_version="1.0.0",
                    precision="bf16",
                    state=state,
                    share=100,
                    requested_at=utc_now(),
                    changed_at=utc_now(),
                )
            )
    found = gateway.client.get("/api/v1/models").json()
    assert [(each["digest"][0], each["state"]) for each in found] == [
        ("b", "serving"),
        ("a", "draining"),
    ]
