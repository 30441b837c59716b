"""Telling the orchestrator of frozen revisions until it has confirmed each.

The revision's row is the outbox: it stays ``frozen`` until the orchestrator answered, and whatever
is ``frozen`` at the start is announced again. Announcing twice begins one workflow.

A revision waits until all of its instances are in the study store. Several listeners may hold
parts of a study: each announces what became whole by what it shipped itself, and looks again
seldom at what another one may have shipped before it died. Now and then each takes up what nobody
here announces: the listener that froze it is gone, or the answer to its commit was lost.
"""

from __future__ import annotations

import random

import grpc
from axial.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.identity import hashed
from services.common.telemetry import get_logger
from services.listener.assembling.revisions import in_store, mark_announced, unannounced_revisions
from services.listener.backoff import LONGEST_BACKOFF_S, backoff_s
from services.listener.wheel import Wheel

_log = get_logger("listener")

# The orchestrator answers when the workflow is durable: milliseconds. One that takes longer than
# this is taken for stuck, and is asked again.
_DEADLINE_S = 10.0
_ADOPT_EVERY_S = 60.0

_Revision = tuple[str, int]
_ADOPT: _Revision = ("", 0)


class Announcer:
    """Announces revisions; a context manager that owns the channel and the thread.

    Args:
        channel: to the orchestrator, which need not be up.
        adopt_every_s: how often is looked for revisions that nobody here announces.
    """

    def __init__(
        self,
        engine: Engine,
        channel: grpc.Channel,
        adopt_every_s: float = _ADOPT_EVERY_S,
    ) -> None:
        self._engine = engine
        self._adopt_every_s = adopt_every_s
        self._channel = channel
        self._stub = orchestrator_pb2_grpc.OrchestratorStub(self._channel)
        # Written by the wheel's thread alone.
        self._failures: dict[_Revision, int] = {}
        self._looks: dict[_Revision, int] = {}
        self._wheel: Wheel[_Revision] = Wheel("announce", self._act)

    def __enter__(self) -> Announcer:
        self._wheel.__enter__()
        for study_uid, number in unannounced_revisions(self._engine):
            self.announce(study_uid, number)
        self._wheel.arm(_ADOPT, self._adopt_every_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()  # ends a call under way
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether revisions are being announced."""
        return self._wheel.alive()

    def announce(self, study_uid: str, number: int) -> None:
        """Has the revision announced at once; returns without waiting for that."""
        self._wheel.arm((study_uid, number), 0.0)

    def announce_study(self, study_uid: str) -> None:
        """Has the study's waiting revisions announced: more of the study lies in the store now.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        for revision in unannounced_revisions(self._engine, study_uid):
            self.announce(*revision)

    def adopt(self) -> list[_Revision]:
        """Has frozen revisions announced that nobody here announces; returns those revisions.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        return [
            revision
            for revision in unannounced_revisions(self._engine)
            if self._wheel.arm_idle(revision, 0.0)
        ]

    def _act(self, due: _Revision) -> None:
        if due != _ADOPT:
            self._attempt(due)
            return
        self._wheel.arm(_ADOPT, self._adopt_every_s)
        try:
            self.adopt()
        except SQLAlchemyError as error:
            _log.warning("revisions_not_taken_up", problem=type(error).__name__)

    def _attempt(self, revision: _Revision) -> None:
        study_uid, number = revision
        try:
            if not in_store(self._engine, study_uid, number):
                self._look_again(revision)
                return
            self._looks.pop(revision, None)
            self._begin(study_uid, number)
            crashpoint("listener.revision.begun")
            mark_announced(self._engine, study_uid, number)
        except (grpc.RpcError, ValueError, SQLAlchemyError) as error:
            self._try_again(revision, error)  # ValueError: the channel was closed
            return
        self._failures.pop(revision, None)
        crashpoint("listener.revision.announced")
        _log.info("revision_announced", study_uid_hash=hashed(study_uid), revision=number)

    def _look_again(self, revision: _Revision) -> None:
        looks = self._looks.get(revision, 0) + 1
        self._looks[revision] = looks
        self._wheel.arm(revision, backoff_s(looks, random.random()))  # noqa: S311 - no secret

    def _begin(self, study_uid: str, number: int) -> None:
        request = orchestrator_pb2.BeginRevisionRequest(study_uid=study_uid, revision=number)
        self._stub.BeginRevision(request, timeout=_DEADLINE_S)

    def _try_again(self, revision: _Revision, error: Exception) -> None:
        failures = self._failures.get(revision, 0) + 1
        self._failures[revision] = failures
        wait_s = backoff_s(failures, random.random())  # noqa: S311 - no secret
        if failures == 1 or wait_s > LONGEST_BACKOFF_S / 2:
            _log.warning(
                "revision_not_announced",
                study_uid_hash=hashed(revision[0]),
                revision=revision[1],
                problem=(
                    str(error.code()) if isinstance(error, grpc.Call) else type(error).__name__
                ),
                failures=failures,
            )
        self._wheel.arm(revision, wait_s)
