"""Series of a revision, and rows as the listener writes them, from real DICOM files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services.common.database import (
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
    utc_now,
)
from services.common.headers import Registration, read_registration
from services.common.identity import sha256_hex
from services.common.store import StudyStore, instance_key
from services.common.telemetry import root_traceparent
from services.orchestrator.revision import SeriesOfRevision


def series_of(files: Iterable[Path], **attributes: str | list[str]) -> SeriesOfRevision:
    """A series as selection sees it; `attributes` override those of its images."""
    contents = [file.read_bytes() for file in files]
    read = [read_registration(content) for content in contents]
    return SeriesOfRevision(
        series_uid=read[0].header.series_uid,
        attributes={
            **read[0].series_attributes,
            "NumberOfInstances": str(len(read)),
            **attributes,
        },
        headers=tuple(
            replace(item.header, attributes={**item.header.attributes, **attributes})
            for item in read
        ),
        data_digests={
            item.header.sop_instance_uid: sha256_hex(content)
            for item, content in zip(read, contents, strict=True)
        },
        made_by_axial=False,
    )


def register_revision(
    engine: Engine, files: Iterable[Path], number: int = 1, store: StudyStore | None = None
) -> str:
    """Writes study, series, instances and a frozen revision over `files`; returns the study UID.

    Instances that are registered already are kept; the revision holds all of `files`.
    """
    now = utc_now()
    read = [(read_registration(content := file.read_bytes()), content) for file in files]
    study_uid = read[0][0].header.study_uid
    with Session(engine) as session, session.begin():
        study = session.get(StudyRow, study_uid)
        if study is None:
            study = StudyRow(
                study_uid=study_uid,
                first_received_at=now,
                last_received_at=now,
                unfrozen_instances=0,
                newest_revision=number,
                attributes=dict(read[0][0].study_attributes),
            )
            session.add(study)
        study.newest_revision = number
        session.flush()
        for registration, content in read:
            _register(session, registration, content, store)
        _freeze(session, study_uid, number, [each.header.sop_instance_uid for each, _ in read])
    return study_uid


def _freeze(session: Session, study_uid: str, number: int, members: list[str]) -> None:
    now = utc_now()
    session.add(
        RevisionRow(
            study_uid=study_uid,
            number=number,
            state="frozen",
            frozen_at=now,
            last_received_at=now,
            trigger="told",
            instances=len(members),
            traceparent=root_traceparent(study_uid, number),
        )
    )
    session.flush()
    for uid in members:
        session.add(RevisionInstanceRow(study_uid=study_uid, number=number, sop_instance_uid=uid))


def _register(
    session: Session, registration: Registration, content: bytes, store: StudyStore | None
) -> None:
    header = registration.header
    key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
    if store is not None:
        store.put(key, [content])
    if session.get(SeriesRow, header.series_uid) is None:
        session.add(
            SeriesRow(
                series_uid=header.series_uid,
                study_uid=header.study_uid,
                attributes=dict(registration.series_attributes),
            )
        )
        session.flush()
    if session.get(InstanceRow, header.sop_instance_uid) is None:
        session.add(
            InstanceRow(
                sop_instance_uid=header.sop_instance_uid,
                series_uid=header.series_uid,
                study_uid=header.study_uid,
                sop_class_uid=header.sop_class_uid,
                transfer_syntax_uid=header.transfer_syntax_uid,
                store_key=key,
                size_bytes=len(content),
                data_digest=sha256_hex(content),
                received_at=utc_now(),
                peer="TEST",
                header=header.as_json(),
            )
        )
