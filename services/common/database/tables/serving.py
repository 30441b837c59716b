"""What serves: builds of models on targets, and the workers of the orchestrator.

Written by the orchestrator.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.common.database.tables.base import Base, UtcDateTime


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


class ExecutorRow(Base):
    """The heartbeat of a worker of the orchestrator."""

    __tablename__ = "executor"
    __table_args__ = ({"info": {"writer": "orchestrator"}},)

    executor_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    beat_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    # Set when another worker took up what this one left; cleared by its next beat.
    adopted_by: Mapped[str | None] = mapped_column(String(128))
