"""The gRPC door: other processes may tell the listener that a study is complete, or when it is."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from axial.v1 import intake_pb2, intake_pb2_grpc
from sqlalchemy import Engine

from services.common.database import utc_now
from services.common.identity import is_uid
from services.common.rpc import rpc_errors
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.expectations import count_received, expect_study
from services.listener.assembling.revisions import count_revision, read_activity
from services.listener.registering.conflicts import decide

# Registering what was acknowledged takes milliseconds; this long only a database takes that is
# away.
_REGISTERED_WITHIN_S = 10.0


class Intake(intake_pb2_grpc.IntakeServicer):
    """Serves ``axial.v1.Intake``."""

    def __init__(
        self,
        engine: Engine,
        assembly: Assembly,
        registered: Callable[[float], bool],
        resolve: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        registered: waits until everything acknowledged so far is registered, at most so many
            seconds; False when it is not.
        resolve: has done what was decided of conflicts.
        """
        self._resolve = resolve
        self._engine = engine
        self._registered = registered
        self._assembly = assembly

    def register(self, server: grpc.Server) -> None:
        """Adds this servicer to a server."""
        intake_pb2_grpc.add_IntakeServicer_to_server(self, server)

    def CompleteStudy(  # noqa: N802 - the name in the contract
        self, request: intake_pb2.CompleteStudyRequest, context: grpc.ServicerContext
    ) -> intake_pb2.CompleteStudyResponse:
        """Freezes the study's next revision now, if anything arrived since the newest one."""
        with rpc_errors(context):
            if not self._registered(_REGISTERED_WITHIN_S):
                context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    "Instances wait to be registered: the database does not answer. Ask again.",
                )
            frozen = self._assembly.tell(request.study_uid)
            if frozen is not None:
                return intake_pb2.CompleteStudyResponse(
                    revision=frozen.number, frozen_now=True, instances=frozen.instances
                )
            activity = read_activity(self._engine, request.study_uid)
            if activity is None:
                context.abort(
                    grpc.StatusCode.NOT_FOUND,
                    f"No instance of study {request.study_uid} was received. Send it first.",
                )
            instances = count_revision(self._engine, request.study_uid, activity.newest_revision)
            return intake_pb2.CompleteStudyResponse(
                revision=activity.newest_revision,
                frozen_now=False,
                instances=instances,
                held=self._assembly.is_held(request.study_uid),
            )

    def ExpectStudy(  # noqa: N802 - the name in the contract
        self, request: intake_pb2.ExpectStudyRequest, context: grpc.ServicerContext
    ) -> intake_pb2.ExpectStudyResponse:
        """Notes what a study consists of, and freezes it if all of that is there."""
        with rpc_errors(context):
            problem = _contradiction(request)
            if problem is not None:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
            instances = request.instances or sum(request.series.values())
            expect_study(self._engine, request.study_uid, instances, dict(request.series))
            # Whatever is registered after this finds the expectation by itself.
            frozen = self._assembly.count(request.study_uid)
            activity = read_activity(self._engine, request.study_uid)
            return intake_pb2.ExpectStudyResponse(
                received=sum(count_received(self._engine, request.study_uid).values()),
                revision=0 if activity is None else activity.newest_revision,
                frozen_now=frozen is not None,
            )

    def ResolveConflicts(  # noqa: N802 - the name in the contract
        self, request: intake_pb2.ResolveConflictsRequest, context: grpc.ServicerContext
    ) -> intake_pb2.ResolveConflictsResponse:
        """Decides open conflicts: the first instance stays, or what came last takes its place."""
        with rpc_errors(context):
            if not is_uid(request.uid):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"'{request.uid}' is no UID.")
            now = utc_now()
            count, changed = decide(self._engine, request.uid, latest=request.latest, at=now)
            if request.latest:
                self._resolve()
            for study_uid in changed:
                self._assembly.instance_stored(study_uid, 0.0)
            return intake_pb2.ResolveConflictsResponse(conflicts=count)


def _contradiction(request: intake_pb2.ExpectStudyRequest) -> str | None:
    """Why what is said of a study cannot be meant; None when it can."""
    wrong = [uid for uid in (request.study_uid, *request.series) if not is_uid(uid)]
    if wrong:
        return f"'{wrong[0]}' is no UID."
    together = sum(request.series.values())
    if not all(request.series.values()) or not (request.instances or together):
        return "A study and each of its series have at least one instance."
    if request.instances and together > request.instances:
        return f"The series have {together} instances together, the study {request.instances}."
    return None
