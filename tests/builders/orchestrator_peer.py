"""A small real gRPC server in the orchestrator's place: it notes what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import grpc
from axial.v1 import orchestrator_pb2, orchestrator_pb2_grpc

from services.common.identity import revision_workflow_id
from services.common.rpc import serve_rpc
from tests.builders.trust import credentials

Announced = tuple[str, int]


class OrchestratorPeer(orchestrator_pb2_grpc.OrchestratorServicer):
    """Notes announced revisions.

    Attributes:
        announced: (study UID, revision) in the order of the calls that were answered.
        refusals_left: so many calls are answered UNAVAILABLE first.
        wanted: the series that a model wants to work on; asked about: `examined`.
    """

    def __init__(self, refusals: int = 0) -> None:
        self.announced: list[Announced] = []
        self.refusals_left = refusals
        self.wanted: list[str] = []
        self.examined: list[str] = []
        self._changed = threading.Condition()

    def BeginRevision(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.BeginRevisionRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.BeginRevisionResponse:
        with self._changed:
            if self.refusals_left > 0:
                self.refusals_left -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
            self.announced.append((request.study_uid, request.revision))
            self._changed.notify_all()
        workflow = revision_workflow_id(request.study_uid, request.revision)
        return orchestrator_pb2.BeginRevisionResponse(workflow_id=workflow)

    def RetryStudy(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.RetryStudyRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.RetryStudyResponse:
        return orchestrator_pb2.RetryStudyResponse(jobs=0)

    def ExamineStudy(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.ExamineStudyRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.ExamineStudyResponse:
        self.examined.append(request.study_uid)
        ready = [
            orchestrator_pb2.ReadySelection(model_name="tested", series_uids=[uid])
            for uid in self.wanted
        ]
        return orchestrator_pb2.ExamineStudyResponse(ready=ready)

    def wait_for(self, count: int, timeout_s: float = 20.0) -> list[Announced]:
        """The announcements once there are so many; fails when they do not come."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self.announced) < count:
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"{len(self.announced)} of {count} announcements came"
                self._changed.wait(left_s)
            return list(self.announced)


@contextmanager
def orchestrator_peer(
    address: str = "127.0.0.1:0", refusals: int = 0
) -> Generator[tuple[OrchestratorPeer, str]]:
    """Serves until left; yields the peer and its address."""
    peer = OrchestratorPeer(refusals)

    def register(server: grpc.Server) -> None:
        orchestrator_pb2_grpc.add_OrchestratorServicer_to_server(peer, server)

    with serve_rpc(address, register, credentials("orchestrator"), workers=2, grace_s=0.2) as port:
        yield peer, f"127.0.0.1:{port}"
