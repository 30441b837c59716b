"""What is told of a removed study, and what happens when its images are sent again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import time_machine
from sqlalchemy import Engine, select

from services.common.database import InstanceRow, RevisionInstanceRow, StudyRow
from services.common.settings import AuditSettings
from services.common.store import StudyStore
from services.common.telemetry.audit import setup_audit
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.keeping.removal import begin_removal
from services.listener.registering.registry import Novelty
from tests.builders.retention import DAY, NOW, OLD, retention_of, stored_keys
from tests.builders.stored_studies import decided_revision, receive, received, stored_study


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """This process's audit trail."""
    setup_audit("listener", tmp_path / "audit", AuditSettings())
    return tmp_path / "audit" / "listener.jsonl"


@pytest.mark.usefixtures("clock")
class TestAfterwards:
    """What is told of a removed study, and what happens when it is sent again."""

    def test_rows_and_audit_tell_it(self, engine: Engine, store: StudyStore, trail: Path) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        retention_of(engine, store, max_age_d=1).run()
        with engine.connect() as connection:
            study = connection.execute(select(StudyRow.__table__)).one()
            deleted = connection.execute(select(InstanceRow.deleted_at)).scalars().all()
            members = connection.execute(select(RevisionInstanceRow.sop_instance_uid)).all()
        assert (study.deleted_at, study.deletion_cause) == (NOW, "age")
        assert not study.deletion_pending
        assert deleted == [NOW] * 3
        assert len(members) == 3
        (line,) = trail.read_text(encoding="utf-8").splitlines()
        event = json.loads(line)
        assert event["event"] == "study_deleted"
        assert event["EventIdentification"]["EventOutcomeDescription"] == "age"
        assert OLD in line

    def test_conflicting_copies_go_too(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        store.put(f"conflicts/{OLD}.1.1/abc.dcm", [b"other bytes"])
        store.put("conflicts/1.2.77/abc.dcm", [b"of another study"])
        retention_of(engine, store, max_age_d=1).run()
        assert stored_keys(store) == {"conflicts/1.2.77/abc.dcm"}

    def test_study_sent_again_is_a_new_revision_of_what_came(
        self, engine: Engine, store: StudyStore
    ) -> None:
        keys = stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        retention_of(engine, store, max_age_d=1).run()
        again = [received(OLD, n, NOW, content=b"again, anonymised") for n in (1, 2)]
        novelties = receive(engine, store, again, b"again, anonymised")
        assert novelties == [Novelty.STORED] * 2
        frozen = freeze_revision(engine, OLD, Trigger.TOLD, NOW)
        assert frozen is not None
        assert (frozen.number, frozen.instances, frozen.new_instances) == (2, 2, 2)
        assert frozen.new_bytes == 2 * len(b"again, anonymised")
        assert store.read(keys[0]) == b"again, anonymised"
        assert not store.exists(keys[2])

    def test_image_sent_again_during_a_removal_is_kept(
        self, engine: Engine, store: StudyStore
    ) -> None:
        keys = stored_study(engine, store, OLD, NOW - 9 * DAY)
        assert begin_removal(engine, OLD, "age", NOW)
        receive(engine, store, [received(OLD, 1, NOW, content=b"again")], b"again")
        retention_of(engine, store).run()
        assert store.read(keys[0]) == b"again"
        assert not store.exists(keys[1])

    def test_study_is_removed_again_when_it_is_old_again(
        self, engine: Engine, store: StudyStore, clock: time_machine.Traveller
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        retention = retention_of(engine, store, max_age_d=1)
        retention.run()
        receive(engine, store, [received(OLD, 1, NOW, content=b"again")], b"again")
        decided_revision(engine, OLD, NOW)
        assert retention.run() == []
        clock.move_to(NOW + 2 * DAY)
        (removed,) = retention.run()
        assert sum(removed.instances.values()) == 1
        assert stored_keys(store) == set()
