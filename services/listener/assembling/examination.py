"""Asking the orchestrator which models have all that they want of a study."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from axial.v1 import orchestrator_pb2, orchestrator_pb2_grpc

from services.common.identity import hashed
from services.common.telemetry import get_logger

_log = get_logger("listener")

# It reads headers only; one that takes longer than this is taken for stuck.
_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection that a model could work on.

    Attributes:
        series_uids: its series.
        rivals: series that the model may choose instead once more of their instances are there.
    """

    series_uids: frozenset[str]
    rivals: frozenset[str] = frozenset()


class Examiner:
    """Asks the orchestrator; a context manager that owns the channel.

    Args:
        channel: to the orchestrator, which need not be up.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._stub = orchestrator_pb2_grpc.OrchestratorStub(self._channel)
        self._answers = True

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()  # ends a call under way

    def ask(self, study_uid: str) -> list[Wanted]:
        """The selections that could be worked on now; none without an answer."""
        request = orchestrator_pb2.ExamineStudyRequest(study_uid=study_uid)
        try:
            answer = self._stub.ExamineStudy(request, timeout=_DEADLINE_S)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
            if self._answers:
                problem = str(error.code()) if isinstance(error, grpc.Call) else "closed"
                _log.warning(
                    "study_not_examined", study_uid_hash=hashed(study_uid), problem=problem
                )
            self._answers = False
            return []
        self._answers = True
        return [
            Wanted(frozenset(ready.series_uids), frozenset(ready.rival_series_uids))
            for ready in answer.ready
        ]
