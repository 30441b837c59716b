"""The tables, and which room writes each of them.

| table | written by |
|---|---|
| study, series, instance, revision, revision_instance, expectation, conflict | listener |
| job, job_input, job_output, measurement, job_stage, fate, executor, deployment | orchestrator |
| result, delivery | reporting |
| schema_version | whoever migrates |

Times are UTC. UIDs are DICOM UIDs. Everything may be read by every service. The gateway and the
command line write nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    false,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


def utc_now() -> dt.datetime:
    """The present, timezone-aware, in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A timezone-aware UTC time; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: dt.datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> dt.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("A time without zone must not reach the database.")
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(
        self,
        value: dt.datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    """Root of the tables."""


_UID = String(64)


class SchemaVersionRow(Base):
    """From which version on code may use the database as it is; one row."""

    __tablename__ = "schema_version"
    __table_args__ = ({"info": {"writer": "common"}},)

    # The newest migration.
    revision: Mapped[str] = mapped_column(String(32), primary_key=True)
    # The oldest migration that code has to know.
    usable_from: Mapped[str] = mapped_column(String(32))
    migrated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class StudyRow(Base):
    """A study, known since its first acknowledged instance."""

    __tablename__ = "study"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    first_received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    last_received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # Instances received since the newest revision was frozen; 0 when that revision is complete.
    unfrozen_instances: Mapped[int] = mapped_column(Integer, default=0)
    newest_revision: Mapped[int] = mapped_column(Integer, default=0)
    # high, normal or low: the highest of its senders' (listener.peers[].priority).
    priority: Mapped[str] = mapped_column(String(8), default="normal")
    # The longest of its senders' (listener.peers[].quiet_period_s).
    quiet_period_s: Mapped[float] = mapped_column(Float, default=0.0)
    # When images were last removed, and why (age, size, space).
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    deletion_cause: Mapped[str | None] = mapped_column(String(16))
    # True from the decision until the last object is gone from the study store.
    deletion_pending: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    # When labels and results were removed with the images.
    results_deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    # Patient and study attributes, as registered from the first instance (patient data).
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)


class SeriesRow(Base):
    """A series, with the attributes that selectors ask for."""

    __tablename__ = "series"
    __table_args__ = ({"info": {"writer": "listener"}},)

    series_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    # From the first instance (series-level attributes, models.manifest.attributes).
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    # The listener that an association sends it to at present.
    receiving_by: Mapped[str | None] = mapped_column(String(64), index=True)
    # Whether a sender broke off in it, and nobody has sent it whole since.
    broken_off: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class InstanceRow(Base):
    """An acknowledged instance: it is durable in a spool before the answer, the row follows."""

    __tablename__ = "instance"
    __table_args__ = ({"info": {"writer": "listener"}},)

    sop_instance_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), index=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    sop_class_uid: Mapped[str] = mapped_column(_UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(_UID)
    store_key: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # CRC-32 and length of the data set as sent (services.listener.door.part10.digest_text).
    data_digest: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # The calling AE title.
    peer: Mapped[str] = mapped_column(String(16))
    # The listener in whose spool the file lies; None when it lies in the study store.
    spooled_by: Mapped[str | None] = mapped_column(String(64), index=True)
    # Set when retention removed the image; cleared when it is sent again. Revisions keep it.
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    # services.common.headers.InstanceHeader as JSON.
    header: Mapped[dict[str, Any]] = mapped_column(JSON)


class RevisionRow(Base):
    """A numbered, frozen set of a study's instances."""

    __tablename__ = "revision"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    # services.common.lifecycle.RevisionState
    state: Mapped[str] = mapped_column(String(16), index=True)
    frozen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # When the last instance of this revision was acknowledged.
    last_received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # counted (what was declared is there), wanted (a model's inputs are there), told (by API call)
    # or quiet (nothing new for the quiet period).
    trigger: Mapped[str] = mapped_column(String(16))
    instances: Mapped[int] = mapped_column(Integer)
    # What was known to be missing when it was frozen: {announced, received} instances, series that
    # their senders broke off; None when nothing was.
    incomplete: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    # W3C trace context of the revision: one trace per revision, through all services.
    traceparent: Mapped[str] = mapped_column(String(64), default="")


class RevisionInstanceRow(Base):
    """Membership of an instance in a revision."""

    __tablename__ = "revision_instance"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("instance.sop_instance_uid"), primary_key=True
    )


class ExpectationRow(Base):
    """What a study or a series is to consist of; the study need not be known yet."""

    __tablename__ = "expectation"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    # Empty for the whole study.
    series_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    # instances (they declare it) or told (by API call).
    source: Mapped[str] = mapped_column(String(16), primary_key=True)
    instances: Mapped[int | None] = mapped_column(Integer)
    # Of a whole study: the number of its series.
    series: Mapped[int | None] = mapped_column(Integer)
    noted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class ConflictRow(Base):
    """Other bytes that came under the SOP Instance UID of a registered instance.

    They are kept beside it. Study and series are those that they were sent under; the instance's
    own are those with `kept_` before them.
    """

    __tablename__ = "conflict"
    __table_args__ = ({"info": {"writer": "listener"}},)

    sop_instance_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    data_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    transfer_syntax_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(_UID, index=True)
    series_uid: Mapped[str] = mapped_column(_UID, index=True)
    sop_class_uid: Mapped[str] = mapped_column(_UID)
    kept_study_uid: Mapped[str] = mapped_column(_UID, index=True)
    kept_series_uid: Mapped[str] = mapped_column(_UID)
    # Of patient, uids, place, pixels, attributes: what differs from the instance.
    differs: Mapped[list[str]] = mapped_column(JSON)
    # Two images of one series share a UID: the series lacks one of them.
    among_own: Mapped[bool] = mapped_column(Boolean, default=False)
    # services.common.lifecycle.ConflictState
    state: Mapped[str] = mapped_column(String(16), index=True)
    # How often these bytes came.
    times: Mapped[int] = mapped_column(Integer, default=1)
    peer: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    last_received_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # Where what is not the instance lies; None while it waits in a spool.
    store_key: Mapped[str | None] = mapped_column(String(255))
    resolved_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class JobRow(Base):
    """One model on one selection of one revision."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_study", "study_uid", "revision"),
        {"info": {"writer": "orchestrator"}},
    )

    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(_UID)
    revision: Mapped[int] = mapped_column(Integer)
    model_name: Mapped[str] = mapped_column(String(64))
    model_version: Mapped[str] = mapped_column(String(32))
    model_digest: Mapped[str] = mapped_column(String(64))
    # The role on whose slices the outputs lie.
    grid_role: Mapped[str] = mapped_column(String(64), default="image", server_default="image")
    # SHA-256 over the roles, their instances and their bytes: equal digests, equal inputs.
    selection_digest: Mapped[str] = mapped_column(String(64))
    # services.common.lifecycle.JobState
    state: Mapped[str] = mapped_column(String(16), index=True)
    # The verdict, once the job has ended.
    reason: Mapped[str | None] = mapped_column(String(48))
    reason_values: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    # The job of an earlier revision whose results this one replaces.
    supersedes_job_uid: Mapped[str | None] = mapped_column(_UID)
    # Later revisions that chose the same inputs while this job was still under way.
    carried_into: Mapped[list[int]] = mapped_column(JSON, default=list)
    # How often a worker began to work on it: a job that kills its workers has an end.
    starts: Mapped[int] = mapped_column(Integer, default=0)
    # Raised when a person asks for a failed job again; part of its workflow's id.
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    # W3C trace context of the revision: stages need not read the revision for it.
    traceparent: Mapped[str] = mapped_column(String(64), default="", server_default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class JobInputRow(Base):
    """The volume that a job reads in one role."""

    __tablename__ = "job_input"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    role: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Place of the role in the manifest.
    ordinal: Mapped[int] = mapped_column(Integer)
    series_uid: Mapped[str] = mapped_column(_UID, index=True)
    # Which of the volumes that the series holds, from 1.
    volume: Mapped[int] = mapped_column(Integer, default=1)
    # SOP instance UIDs in slice order.
    instances: Mapped[list[str]] = mapped_column(JSON)
    # The number of each slice's frame in its instance; 0 where the instance is one slice.
    frames: Mapped[list[int]] = mapped_column(JSON)
    # A sentence about images of the series that are no slices.
    left_out: Mapped[str] = mapped_column(Text, default="")


class JobOutputRow(Base):
    """An array, or numbers, that a model made in a job."""

    __tablename__ = "job_output"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    # The output's name in the manifest.
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    # layers, map or values
    kind: Mapped[str] = mapped_column(String(16))
    # The role on whose slices it lies; "" of values.
    grid_role: Mapped[str] = mapped_column(String(64))
    # Of layers and maps: gzip of a .npy [k, j, i]; "" of values.
    store_key: Mapped[str] = mapped_column(String(255))
    # SHA-256 of the stored object; "" of values and of what older code stored.
    digest: Mapped[str] = mapped_column(String(64))
    # Of values: by the quantity's name. Of maps: slope and intercept. Of layers:
    # {"touching_unmeasured": segment numbers}.
    numbers: Mapped[dict[str, Any]] = mapped_column(JSON)


class MeasurementRow(Base):
    """A number about a segment or a lesion of a job, or why there is none."""

    __tablename__ = "measurement"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    output: Mapped[str] = mapped_column(String(64))
    segment_number: Mapped[int] = mapped_column(Integer)
    segment_label: Mapped[str] = mapped_column(String(64))
    # Number of the lesion within the segment, from 1; 0: of the whole segment.
    lesion: Mapped[int] = mapped_column(Integer, default=0)
    # The manifest's name of the measurement, e.g. volume.
    name: Mapped[str] = mapped_column(String(64))
    # None where it is not known; `why_unknown` says why.
    value: Mapped[float | None] = mapped_column(Float)
    low: Mapped[float | None] = mapped_column(Float)
    high: Mapped[float | None] = mapped_column(Float)
    # UCUM
    unit: Mapped[str] = mapped_column(String(64))
    why_unknown: Mapped[str] = mapped_column(Text, default="")
    # Sentences about the segment that a reader has to see.
    remark: Mapped[str] = mapped_column(Text, default="")


class DeploymentRow(Base):
    """A build of a model on a target, and whether new studies are given to it."""

    __tablename__ = "deployment"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    model_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    # cpu, tensorrt or torch
    target: Mapped[str] = mapped_column(String(16), primary_key=True)
    model_version: Mapped[str] = mapped_column(String(32))
    precision: Mapped[str] = mapped_column(String(16))
    # services.common.lifecycle.DeploymentState
    state: Mapped[str] = mapped_column(String(16), index=True)
    # Percent of the studies that this build is given, of those that serve the model.
    share: Mapped[int] = mapped_column(Integer, default=100)
    # Why it does not serve, as a sentence.
    problem: Mapped[str | None] = mapped_column(Text)
    requested_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class JobStageRow(Base):
    """How long a stage of a job took; a repeated stage overwrites its row."""

    __tablename__ = "job_stage"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    # select, gate, load, infer, report, deliver; parts as "infer.network:fine".
    stage: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    seconds: Mapped[float] = mapped_column(Float)


class FateRow(Base):
    """How one series of one revision ended for one model, or for one of its jobs."""

    __tablename__ = "fate"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    study_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True)
    series_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    model_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    # The job that the series was an input of; "" where it was of none.
    job_uid: Mapped[str] = mapped_column(_UID, primary_key=True, default="", server_default="")
    # services.common.fates.Fate
    fate: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(String(48))
    reason_values: Mapped[dict[str, Any]] = mapped_column(JSON)
    decided_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class ExecutorRow(Base):
    """The heartbeat of a worker of the orchestrator."""

    __tablename__ = "executor"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    executor_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    beat_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # Set when another worker took up what this one left; cleared by its next beat.
    adopted_by: Mapped[str | None] = mapped_column(String(128))


class ResultRow(Base):
    """An object made by a job, registered only after it passed its checks."""

    __tablename__ = "result"
    __table_args__ = ({"info": {"writer": "reporting"}},)

    sop_instance_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    job_uid: Mapped[str] = mapped_column(_UID, index=True)
    study_uid: Mapped[str] = mapped_column(_UID, index=True)
    series_uid: Mapped[str] = mapped_column(_UID)
    sop_class_uid: Mapped[str] = mapped_column(_UID)
    # SEG, SR
    kind: Mapped[str] = mapped_column(String(16))
    # Variant of the kind for destinations that ask for it, e.g. keep_empty_frames; else "".
    form: Mapped[str] = mapped_column(String(64), default="")
    # Order of sending within a job: what is referred to goes first.
    sequence: Mapped[int] = mapped_column(Integer)
    store_key: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class DeliveryRow(Base):
    """One result on its way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("ix_delivery_due", "destination", "state", "next_attempt_at"),
        {"info": {"writer": "reporting"}},
    )

    delivery_uid: Mapped[str] = mapped_column(_UID, primary_key=True)
    job_uid: Mapped[str] = mapped_column(_UID, index=True)
    sop_instance_uid: Mapped[str] = mapped_column(ForeignKey("result.sop_instance_uid"))
    destination: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(Integer)
    # services.common.lifecycle.DeliveryState
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # While SENDING: the replica that holds it (settings.reporting.sender_id).
    sender: Mapped[str | None] = mapped_column(String(128))
    # While SENDING: until when the sender holds it; after that another may take it up.
    lease_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str | None] = mapped_column(Text)
    # While WAITING: the last attempt found no association; a probe that is answered ends the wait.
    not_reached: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    # How often a person had it sent again.
    sent_again: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    delivered_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
