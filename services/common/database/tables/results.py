"""Results, and their deliveries to destinations.

Written by reporting.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from services.common.database.tables.base import UID, Base, UtcDateTime


class ResultRow(Base):
    """An object made by a job, registered only after it passed its checks."""

    __tablename__ = "result"
    __table_args__ = ({"info": {"writer": "reporting"}},)

    sop_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    job_uid: Mapped[str] = mapped_column(UID, index=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    series_uid: Mapped[str] = mapped_column(UID)
    sop_class_uid: Mapped[str] = mapped_column(UID)
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

    delivery_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    job_uid: Mapped[str] = mapped_column(UID, index=True)
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
