"""Jobs: what each reads and made, how long its stages took, and how the series ended.

Written by the orchestrator.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, Float, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.common.database.tables.base import UID, Base, UtcDateTime


class JobRow(Base):
    """One model on one selection of one revision."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_study", "study_uid", "revision"),
        {"info": {"writer": "orchestrator"}},
    )

    job_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID)
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
    # The share of its network passes that is done, of a job that takes long; 0 to 1.
    progress: Mapped[float | None] = mapped_column(Float)
    # The verdict, once the job has ended.
    reason: Mapped[str | None] = mapped_column(String(48))
    reason_values: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    # The job of an earlier revision whose results this one replaces.
    supersedes_job_uid: Mapped[str | None] = mapped_column(UID)
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

    job_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    role: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Place of the role in the manifest.
    ordinal: Mapped[int] = mapped_column(Integer)
    series_uid: Mapped[str] = mapped_column(UID, index=True)
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

    job_uid: Mapped[str] = mapped_column(UID, primary_key=True)
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
    # Of values: by the quantity's name, of segments then by their number. Of maps: slope and
    # intercept. Of layers: {"touching_unmeasured": segment numbers}.
    numbers: Mapped[dict[str, Any]] = mapped_column(JSON)


class MeasurementRow(Base):
    """A number about a segment or a lesion of a job, or why there is none."""

    __tablename__ = "measurement"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(UID, primary_key=True)
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


class JobStageRow(Base):
    """How long a stage of a job took; a repeated stage overwrites its row."""

    __tablename__ = "job_stage"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    job_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    # select, gate, load, infer, report, deliver; parts as "infer.network:fine".
    stage: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    seconds: Mapped[float] = mapped_column(Float)


class FateRow(Base):
    """How one series of one revision ended for one model, or for one of its jobs."""

    __tablename__ = "fate"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True)
    series_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    model_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    # The job that the series was an input of; "" where it was of none.
    job_uid: Mapped[str] = mapped_column(UID, primary_key=True, default="", server_default="")
    # services.common.fates.Fate
    fate: Mapped[str] = mapped_column(String(16), index=True)
    reason: Mapped[str] = mapped_column(String(48))
    reason_values: Mapped[dict[str, Any]] = mapped_column(JSON)
    decided_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
