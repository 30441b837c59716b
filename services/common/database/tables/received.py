"""What was received: studies, series and instances, what freezes them, what conflicts with them.

Written by the listener.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Integer, String, false
from sqlalchemy.orm import Mapped, mapped_column

from services.common.database.tables.base import UID, Base, UtcDateTime


class StudyRow(Base):
    """A study, known since its first acknowledged instance."""

    __tablename__ = "study"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
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

    series_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    # From the first instance (series-level attributes, models.manifest.attributes).
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    # The listener that an association sends it to at present.
    receiving_by: Mapped[str | None] = mapped_column(String(64), index=True)
    # Whether a sender broke off in it, and nobody has sent it whole since.
    broken_off: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class InstanceRow(Base):
    """An acknowledged instance: durable in a spool before the answer; its row follows."""

    __tablename__ = "instance"
    __table_args__ = ({"info": {"writer": "listener"}},)

    sop_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), index=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("study.study_uid"), index=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
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

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("instance.sop_instance_uid"), primary_key=True
    )


class ExpectationRow(Base):
    """What a study or a series is to consist of; the study need not be known yet."""

    __tablename__ = "expectation"
    __table_args__ = ({"info": {"writer": "listener"}},)

    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    # Empty for the whole study.
    series_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    # instances (they declare it) or told (by API call).
    source: Mapped[str] = mapped_column(String(16), primary_key=True)
    instances: Mapped[int | None] = mapped_column(Integer)
    # Of a whole study: the number of its series.
    series: Mapped[int | None] = mapped_column(Integer)
    noted_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class ConflictRow(Base):
    """Other bytes that came under the SOP Instance UID of a registered instance.

    The bytes are kept beside the instance. Study and series are those that the bytes were sent
    under; the instance's own are those with `kept_` before them.
    """

    __tablename__ = "conflict"
    __table_args__ = ({"info": {"writer": "listener"}},)

    sop_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    data_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    series_uid: Mapped[str] = mapped_column(UID, index=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    kept_study_uid: Mapped[str] = mapped_column(UID, index=True)
    kept_series_uid: Mapped[str] = mapped_column(UID)
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
