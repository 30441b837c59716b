"""Studies as the listener keeps them, without images: real rows, objects of any bytes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine, insert

from services.common.database import DeliveryRow, FateRow, ResultRow, utc_now
from services.common.headers import InstanceHeader, Registration
from services.common.lifecycle import DeliveryState, JobState
from services.common.store import StudyStore, instance_key, job_key
from services.listener.assembling.revisions import Trigger, freeze_revision, mark_announced
from services.listener.registering.registry import (
    Novelty,
    ReceivedInstance,
    mark_in_store,
    register_instances,
)
from tests.builders.job_rows import write_job

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
LISTENER = "listener-1"


def received(
    study_uid: str, number: int, at: dt.datetime, *, content: bytes = b"", series: int = 1
) -> ReceivedInstance:
    """An instance with one of the study's numbers; its digest stands for `content`."""
    header = InstanceHeader(
        sop_instance_uid=f"{study_uid}.{series}.{number}",
        sop_class_uid=CT,
        series_uid=f"{study_uid}.{series}",
        study_uid=study_uid,
        transfer_syntax_uid=EXPLICIT,
        attributes={},
        pixel_offset=None,
        pixel_length=None,
    )
    return ReceivedInstance(
        registration=Registration(header, {}, {"Modality": "CT"}),
        store_key=instance_key(study_uid, header.series_uid, header.sop_instance_uid),
        size_bytes=len(content),
        data_digest=content[:60].hex()[:64],
        received_at=at,
        peer="TEST",
    )


def receive(
    engine: Engine, store: StudyStore | None, instances: Sequence[ReceivedInstance], content: bytes
) -> list[Novelty]:
    """Registers instances and (with a store) puts their objects there."""
    novelties = register_instances(engine, instances, LISTENER)
    if store is not None:
        for one, novelty in zip(instances, novelties, strict=True):
            if novelty is Novelty.STORED:
                store.put(one.store_key, [content])
        mark_in_store(engine, [one.registration.header.sop_instance_uid for one in instances])
    return novelties


def stored_study(
    engine: Engine,
    store: StudyStore,
    study_uid: str,
    at: dt.datetime,
    *,
    instances: int = 2,
    size: int = 1000,
) -> list[str]:
    """A study that was received, announced and decided; nothing needs it. Returns its keys."""
    content = study_uid.encode().ljust(size, b".")
    batch = [received(study_uid, n, at, content=content) for n in range(1, instances + 1)]
    receive(engine, store, batch, content)
    decided_revision(engine, study_uid, at)
    return [one.store_key for one in batch]


def decided_revision(engine: Engine, study_uid: str, at: dt.datetime) -> int:
    """Freezes the next revision, has it announced, and gives every series a fate."""
    frozen = freeze_revision(engine, study_uid, Trigger.TOLD, at)
    assert frozen is not None
    mark_announced(engine, study_uid, frozen.number)
    with engine.begin() as connection:
        connection.execute(
            insert(FateRow).values(
                study_uid=study_uid,
                revision=frozen.number,
                series_uid=f"{study_uid}.1",
                model_name="brain-extraction",
                fate="refused",
                reason="single_slice",
                reason_values={"slices": 1, "minimum": 2},
                decided_at=at,
            )
        )
    return frozen.number


def job(engine: Engine, store: StudyStore, study_uid: str, state: JobState) -> str:
    """A job of the study with labels and one result in the store; returns its UID."""
    uid = f"{study_uid}.99"
    write_job(engine, uid, study_uid, state)
    with engine.begin() as connection:
        connection.execute(
            insert(ResultRow).values(
                sop_instance_uid=f"{uid}.1",
                job_uid=uid,
                study_uid=study_uid,
                series_uid=f"{uid}.2",
                sop_class_uid=CT,
                kind="SEG",
                sequence=1,
                store_key=job_key(uid, "seg.dcm"),
                digest="0" * 64,
                size_bytes=3,
                created_at=utc_now(),
            )
        )
    store.put(job_key(uid, "labels.npy.gz"), [b"labels"])
    store.put(job_key(uid, "seg.dcm"), [b"seg"])
    return uid


def delivery(engine: Engine, job_uid: str, state: DeliveryState) -> None:
    """A delivery of the job's result."""
    with engine.begin() as connection:
        connection.execute(
            insert(DeliveryRow).values(
                delivery_uid=f"{job_uid}.3",
                job_uid=job_uid,
                sop_instance_uid=f"{job_uid}.1",
                destination="pacs",
                sequence=1,
                state=state,
                next_attempt_at=utc_now(),
                created_at=utc_now(),
            )
        )


def spooled(folder: Path, name: str, content: bytes) -> Path:
    """A file as it lies in a spool."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.dcm"
    file.write_bytes(content)
    return file
