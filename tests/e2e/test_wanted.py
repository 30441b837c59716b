"""The models' series first, everything else after it: the result does not wait for the rest."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.front_door import associate_at
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SENDER, SR, StackUnderTest, running_stack


@pytest.fixture
def patient_stack(tmp_path: Path) -> Generator[StackUnderTest]:
    """A stack in which nothing is ever frozen for being quiet."""
    with running_stack(tmp_path / "stack", listener={"quiet_period_s": 3600}) as stack:
        yield stack


def test_the_result_of_a_wanted_series_is_delivered_before_the_next_series_ends(
    patient_stack: StackUnderTest, tmp_path: Path
) -> None:
    stack, uid = patient_stack, study_uid("wanted")
    wanted = write_head(tmp_path, "wanted", series="t1", number=2)
    other = write_head(tmp_path, "wanted", series="flair", number=3, description="T2 FLAIR")
    half = len(other) // 2
    listener = stack.settings.listener
    with associate_at(listener.host, listener.port, listener.ae_title, SENDER) as association:
        association.store_all([*wanted, *other[:half]])
        study = stack.wait(uid, _delivered, "be delivered while its second series arrives")
        assert (study["state"], study["revision"]) == ("receiving", 1)
        (revision,) = study["revisions"]
        assert (revision["trigger"], revision["instances"]) == ("wanted", len(wanted))
        assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
        assert len(stack.in_pacs(uid, SEG)) == len(stack.in_pacs(uid, SR)) == 1
        association.store_all(other[half:])
    stack.client.post(f"/api/v1/studies/{uid}/complete")
    study = stack.wait_until_done(uid, revision=2)
    triggers = [(item["trigger"], item["instances"]) for item in study["revisions"]]
    assert triggers == [("wanted", len(wanted)), ("told", len(wanted) + len(other))]
    assert sorted(fate["reason"] for fate in study["fate"]) == ["attribute_mismatch", "unchanged"]
    assert len(stack.in_pacs(uid, SEG)) == len(stack.in_pacs(uid, SR)) == 1


def _delivered(study: dict[str, Any]) -> bool:
    deliveries = [delivery for job in study["jobs"] for delivery in job["deliveries"]]
    return bool(deliveries) and {item["state"] for item in deliveries} == {"delivered"}
