"""The audit trail: the standard's vocabulary, one line per event, durable, rotated, no patient."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.identity import hashed
from services.common.settings import AuditSettings
from services.common.telemetry import audit as audit_module
from services.common.telemetry.audit import (
    KINDS,
    Audited,
    AuditEvent,
    AuditTrail,
    EventOutcome,
    audit,
    compose,
    setup_audit,
)

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "audit.md"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(autouse=True)
def own_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves its trail to the next one."""
    monkeypatch.setattr(audit_module, "_trail", None)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def composed(event: AuditEvent, **values: Any) -> dict[str, Any]:
    return compose(event, Audited(**values), service="listener", at=NOON)


def test_a_transfer_in_the_standards_words() -> None:
    message = composed(
        AuditEvent.INSTANCES_RECEIVED,
        peer="CT 1",
        ae_title="CT1",
        own_ae_title="AXIAL",
        address="10.1.2.3",
        study_uid="1.2.3",
        instances={CT: 170},
    )
    assert message["EventIdentification"] == {
        "EventID": {
            "csd-code": "110104",
            "codeSystemName": "DCM",
            "originalText": "DICOM Instances Transferred",
        },
        "EventActionCode": "C",
        "EventDateTime": "2024-01-31T12:00:00.000+00:00",
        "EventOutcomeIndicator": 0,
    }
    theirs, ours = message["ActiveParticipant"]
    assert theirs["UserID"] == "CT 1"
    assert theirs["AlternativeUserID"] == "AETITLES=CT1"
    assert (theirs["NetworkAccessPointID"], theirs["NetworkAccessPointTypeCode"]) == (
        "10.1.2.3",
        "2",
    )
    assert theirs["RoleIDCode"]["csd-code"] == "110153"  # source
    assert ours["RoleIDCode"]["csd-code"] == "110152"  # destination
    assert (theirs["UserIsRequestor"], ours["UserIsRequestor"]) == (True, False)
    (study,) = message["ParticipantObjectIdentification"]
    assert study["ParticipantObjectIDTypeCode"]["csd-code"] == "110180"
    assert study["ParticipantObjectID"] == "1.2.3"
    assert study["ParticipantObjectDescription"] == {
        "SOPClass": [{"UID": CT, "NumberOfInstances": 170}]
    }


def test_what_is_sent_has_the_roles_the_other_way_round() -> None:
    theirs, ours = composed(AuditEvent.INSTANCES_SENT, peer="PACS", study_uid="1.2.3")[
        "ActiveParticipant"
    ]
    assert theirs["RoleIDCode"]["csd-code"] == "110152"
    assert (theirs["UserIsRequestor"], ours["UserIsRequestor"]) == (False, True)


def test_a_rejection_is_a_node_authentication_failure() -> None:
    message = composed(
        AuditEvent.ASSOCIATION_REJECTED, ae_title="X", address="192.0.2.1", reason="tls_required"
    )
    said = message["EventIdentification"]
    assert said["EventID"]["csd-code"] == "110113"
    assert said["EventTypeCode"]["csd-code"] == "110126"
    assert said["EventOutcomeIndicator"] == EventOutcome.MINOR_FAILURE
    assert said["EventOutcomeDescription"] == "tls_required"
    assert "ParticipantObjectIdentification" not in message


def test_our_own_deeds_have_us_as_the_one_who_asked() -> None:
    (ours,) = composed(AuditEvent.STUDY_DELETED, study_uid="1.2.3", reason="age")[
        "ActiveParticipant"
    ]
    assert ours["UserIsRequestor"] is True


@pytest.mark.parametrize("event", AuditEvent)
def test_every_event_has_its_words_and_its_row_in_the_page(event: AuditEvent) -> None:
    kind = KINDS[event]
    assert re.fullmatch(r"1101\d\d", kind.event_id.value)
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{event}` |"))
    assert f"{kind.event_id.value} {kind.event_id.meaning}" in row
    if kind.event_type is not None:
        assert f"{kind.event_type.value} {kind.event_type.meaning}" in row
    assert f"| {kind.action} |" in row


def test_uids_leave_the_site_as_hashes(tmp_path: Path) -> None:
    trail = AuditTrail("listener", tmp_path, AuditSettings(hash_uids=True))
    trail.write(AuditEvent.STUDY_DELETED, Audited(study_uid="1.2.840.99.1"))
    text = (tmp_path / "listener.jsonl").read_text()
    assert "1.2.840.99.1" not in text
    assert hashed("1.2.840.99.1") in text


def test_an_event_is_one_line_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    setup_audit("listener", tmp_path / "audit", AuditSettings())
    assert not (tmp_path / "audit").exists()  # nothing before the first event
    audit(AuditEvent.ASSOCIATION_ACCEPTED, peer="CT\n1", ae_title="CT1")
    audit(AuditEvent.ASSOCIATION_ENDED, peer="CT\n1")
    written = lines(tmp_path / "audit" / "listener.jsonl")
    assert [line["event"] for line in written] == ["association_accepted", "association_ended"]
    assert len(synced) == 2


def test_full_files_are_kept_under_numbers_and_the_oldest_go(tmp_path: Path) -> None:
    trail = AuditTrail("listener", tmp_path, AuditSettings(max_file_bytes=1 << 16, keep_files=2))
    (tmp_path / "listener-other.000001.jsonl").write_text("{}\n")
    for _ in range(600):
        trail.write(AuditEvent.ASSOCIATION_ACCEPTED, Audited(peer="p" * 64))
    trail.close()
    files = sorted(file.name for file in tmp_path.glob("listener.*"))
    assert len(files) == 3
    assert files[-1] == "listener.jsonl"
    assert all(file.stat().st_size <= 1 << 16 for file in tmp_path.iterdir())
    numbers = [int(name.split(".")[1]) for name in files[:-1]]
    assert numbers[1] == numbers[0] + 1
    assert numbers[0] > 1
    assert (tmp_path / "listener-other.000001.jsonl").exists()


def test_a_torn_last_line_spoils_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "listener.jsonl"
    file.write_text('{"event": "stud')
    trail = AuditTrail("listener", tmp_path, AuditSettings())
    trail.write(AuditEvent.STUDY_DELETED, Audited(study_uid="1.2.3"))
    torn, whole = file.read_text().splitlines()
    assert torn == '{"event": "stud'
    assert json.loads(whole)["event"] == "study_deleted"


def test_a_line_that_does_not_fit_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_audit("listener", tmp_path, AuditSettings())
    audit(AuditEvent.STUDY_DELETED, study_uid="1.2.3")
    lost = REGISTRY.get_sample_value("axial_audit_events_lost_total") or 0.0
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    audit(AuditEvent.STUDY_DELETED, study_uid="1.2.4")  # the work goes on
    monkeypatch.undo()
    assert REGISTRY.get_sample_value("axial_audit_events_lost_total") == lost + 1
    assert len(lines(tmp_path / "listener.jsonl")) == 1


def test_a_value_that_no_event_has_is_an_error() -> None:
    with pytest.raises(TypeError):
        audit(AuditEvent.SECURITY_ALERT, patient_name="Zebra^Quagga")
