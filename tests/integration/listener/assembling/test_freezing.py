"""Studies that are sent become revisions: when they are quiet, counted, wanted or told of."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import grpc
import pydicom
import pytest
from axial.v1 import intake_pb2, intake_pb2_grpc
from sqlalchemy import Engine, select, update

from services.common.database import RevisionRow, StudyRow
from tests.builders.front_door import associate
from tests.builders.head_like import write_head_like
from tests.builders.orchestrator_peer import orchestrator_peer
from tests.builders.peers import wait_until
from tests.builders.running_listener import wait_until_registered
from tests.builders.series import sound_series
from tests.builders.trust import to_intake
from tests.integration.listener.conftest import OpenListener


def frozen_by(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(RevisionRow.trigger)).scalars())


def test_a_sent_study_becomes_a_revision_by_itself_when_it_is_quiet(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with (
        orchestrator_peer() as (peer, address),
        open_front_door(quiet_period_s=1.5, orchestrator=address) as listener,
    ):
        association = associate(listener)
        for file in files:
            assert association.store(file) == 0x0000
        association.release()
        ((study_uid, number),) = peer.wait_for(1)
    assert (study_uid, number) == (pydicom.dcmread(files[0]).StudyInstanceUID, 1)
    with lite_engine.connect() as connection:
        row = connection.execute(select(RevisionRow.__table__)).one()
    assert (row.trigger, row.instances, row.traceparent != "") == ("quiet", len(files), True)


def test_a_study_left_unfrozen_by_a_stopped_listener_is_frozen_by_the_next(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    file = sound_series(tmp_path / "dicom")[0]
    with open_front_door() as listener:
        association = associate(listener)
        association.store(file)
        association.release()
    with lite_engine.begin() as connection:
        long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        # Its sender may go on as soon as the doors are open: so long it is given.
        given = {"last_received_at": long_ago, "quiet_period_s": 0.2}
        connection.execute(update(StudyRow).values(**given))
    with (
        orchestrator_peer() as (peer, address),
        open_front_door(orchestrator=address),
    ):
        assert len(peer.wait_for(1)) == 1


def test_a_study_is_frozen_when_what_it_was_said_to_consist_of_is_there(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    first = pydicom.dcmread(files[0])
    study_uid, series_uid = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    with (
        orchestrator_peer() as (peer, address),
        open_front_door(orchestrator=address) as listener,
        to_intake(listener.intake_port) as channel,
    ):
        intake = intake_pb2_grpc.IntakeStub(channel)
        request = intake_pb2.ExpectStudyRequest(
            study_uid=study_uid, instances=len(files), series={series_uid: len(files)}
        )
        noted = intake.ExpectStudy(request, timeout=10)
        assert (noted.received, noted.revision, noted.frozen_now) == (0, 0, False)
        association = associate(listener)
        for file in files:
            association.store(file)
        assert wait_until_registered(listener, 20)
        assert peer.announced == []  # the association may bring more
        association.release()
        assert peer.wait_for(1) == [(study_uid, 1)]
        noted = intake.ExpectStudy(request, timeout=10)
        assert (noted.received, noted.revision, noted.frozen_now) == (len(files), 1, False)
    with lite_engine.connect() as connection:
        assert connection.execute(select(RevisionRow.trigger)).scalar_one() == "counted"


def test_a_wanted_series_is_announced_while_its_association_sends_the_next(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    wanted = write_head_like(tmp_path / "dicom", series="wanted", slices=5)
    other = write_head_like(tmp_path / "dicom", series="other", slices=5)
    first = pydicom.dcmread(wanted[0])
    with (
        orchestrator_peer() as (peer, address),
        open_front_door(orchestrator=address, settle_period_s=0.05) as listener,
    ):
        peer.wanted = [str(first.SeriesInstanceUID)]
        association = associate(listener)
        for file in [*wanted, other[0]]:
            assert association.store(file) == 0x0000
        assert peer.wait_for(1) == [(str(first.StudyInstanceUID), 1)]
        for file in other[1:]:
            assert association.store(file) == 0x0000
        association.release()
    with lite_engine.connect() as connection:
        rows = connection.execute(select(RevisionRow.trigger, RevisionRow.instances)).all()
    assert [tuple(row) for row in rows] == [("wanted", len(wanted))]


@pytest.mark.parametrize(
    "how",
    [{"orchestrator": "127.0.0.1:9"}, {"start_when_wanted": False}],
    ids=["the orchestrator is away", "switched off"],
)
def test_without_an_answer_from_models_the_quiet_period_decides(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path, how: dict[str, Any]
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        peer.wanted = [str(pydicom.dcmread(files[0]).SeriesInstanceUID)]
        given = {"orchestrator": address, "settle_period_s": 0, "quiet_period_s": 0.5, **how}
        with open_front_door(**given) as listener:
            association = associate(listener)
            for file in files:
                association.store(file)
            association.release()
            wait_until(lambda: frozen_by(lite_engine) != [], 20, "the study is frozen")
        assert peer.examined == []
    assert frozen_by(lite_engine) == ["quiet"]


@pytest.mark.parametrize(
    "contradiction",
    [
        {"study_uid": "1.2", "instances": 0},
        {"study_uid": "1.2", "instances": 3, "series": {"1.2.1": 2, "1.2.2": 2}},
        {"study_uid": "1.2", "instances": 3, "series": {"1.2.1": 0}},
        {"study_uid": "../1", "instances": 3},
        {"study_uid": "1.2", "instances": 3, "series": {"": 3}},
    ],
    ids=["nothing", "series exceed the study", "empty series", "no UID", "no UID of a series"],
)
def test_counts_that_cannot_be_meant_are_refused(
    open_front_door: OpenListener, contradiction: dict[str, Any]
) -> None:
    request = intake_pb2.ExpectStudyRequest(**contradiction)
    with (
        open_front_door() as listener,
        to_intake(listener.intake_port) as channel,
    ):
        intake = intake_pb2_grpc.IntakeStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            intake.ExpectStudy(request, timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # pyright: ignore[reportAttributeAccessIssue]


def test_a_study_is_frozen_at_once_when_the_intake_is_told(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    study_uid = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with (
        orchestrator_peer() as (peer, address),
        open_front_door(orchestrator=address) as listener,
        to_intake(listener.intake_port) as channel,
    ):
        intake = intake_pb2_grpc.IntakeStub(channel)
        request = intake_pb2.CompleteStudyRequest(study_uid=study_uid)
        with pytest.raises(grpc.RpcError) as refused:
            intake.CompleteStudy(request, timeout=10)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # pyright: ignore[reportAttributeAccessIssue]
        association = associate(listener)
        for file in files:
            association.store(file)
        association.release()
        first = intake.CompleteStudy(request, timeout=10)
        assert (first.revision, first.frozen_now, first.instances) == (1, True, len(files))
        again = intake.CompleteStudy(request, timeout=10)
        assert (again.revision, again.frozen_now, again.instances) == (1, False, len(files))
        assert peer.wait_for(1) == [(study_uid, 1)]
