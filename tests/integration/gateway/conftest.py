"""A gateway over a database in which one study has ended and another is under way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from models.manifest import load_manifest
from services.common.database import migrate, open_database
from services.common.fates import Verdict
from services.common.lifecycle import JobState
from services.common.settings import load_settings
from services.gateway import make_app
from services.orchestrator import jobs
from services.orchestrator.recording import record_selection
from services.orchestrator.revision import read_revision
from services.orchestrator.selection import select_series
from tests.builders.catalogue import measured
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision
from tests.builders.trust import credentials
from tests.conftest import free_port

CATALOGUE = Path(__file__).parents[3] / "models" / "catalogue"


@dataclass
class SeededGateway:
    """The app, a client, and the studies it knows."""

    app: FastAPI
    client: TestClient
    engine: Engine
    done: str
    working: str


@pytest.fixture
def gateway(tmp_path: Path) -> Generator[SeededGateway]:
    engine = open_database(f"sqlite:///{tmp_path / 'axial.sqlite'}")
    migrate(engine)
    good = write_head_like(tmp_path, study="done", series="t1", number=2)
    torn = write_head_like(tmp_path, study="done", series="torn", number=3)
    del torn[12]
    done = register_revision(engine, [*good, *torn])
    (uid,) = _select(engine, done)
    jobs.advance_job(engine, uid, JobState.INFERRED)
    jobs.advance_job(engine, uid, JobState.REPORTED, measurements=[measured(1.5)])
    verdict = Verdict("segmented", {"model": "Brain extraction", "found": "Brain 1.5 mL"})
    jobs.end_job(engine, uid, verdict)
    working = register_revision(engine, write_head_like(tmp_path, study="working"))
    _select(engine, working)
    ports = {
        # The name by which schemathesis calls an application that it is handed.
        "AXIAL_GATEWAY__HOSTS": '["testserver"]',
        "AXIAL_LISTENER__INTAKE_ADDRESS": f"127.0.0.1:{free_port()}",
        "AXIAL_ORCHESTRATOR__ADDRESS": f"127.0.0.1:{free_port()}",
        "AXIAL_REPORTING__ADDRESS": f"127.0.0.1:{free_port()}",
    }
    app = make_app(load_settings(None, ports).settings, engine, credentials("gateway"))
    yield SeededGateway(
        app, TestClient(app, base_url="http://127.0.0.1:8042"), engine, done, working
    )
    engine.dispose()


def _select(engine: Engine, study_uid: str) -> list[str]:
    manifest = load_manifest(CATALOGUE / "brain-extraction")
    revision = read_revision(engine, study_uid, 1)
    selection = select_series(manifest, revision.series)
    recorded = record_selection(engine, revision, [(selection, "d" * 64)])
    return [uid for uid, _ in recorded.to_run]
