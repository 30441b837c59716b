"""The routes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Literal

from axial.v1 import reporting_pb2
from fastapi import FastAPI, Path, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine

from services.common.database import database_problems
from services.common.settings import Settings
from services.common.telemetry import metrics
from services.common.trust import Credentials
from services.gateway import answers, problems, views
from services.gateway.conflicts import conflict_page
from services.gateway.guard import Guard
from services.gateway.model_views import deployments
from services.gateway.passing_on import Owners
from services.gateway.problems import GatewayError, responses

_DESCRIPTION = """
Studies that were received, what became of every series and why, and where the results went.

Answers carry UIDs and no patient data. Errors are problem details (RFC 9457).
"""

StudyUid = Annotated[
    str,
    Path(
        description="Study Instance UID",
        pattern=r"^[0-9.]{1,64}$",
        examples=[answers.STUDY_UID],
    ),
]
SeriesUid = Annotated[
    str,
    Path(
        description="Series Instance UID",
        pattern=r"^[0-9.]{1,64}$",
        examples=[answers.SERIES_UID],
    ),
]


def make_app(settings: Settings, engine: Engine, credentials: Credentials) -> FastAPI:
    """The gateway's application over an open database."""
    app = FastAPI(
        title="Axial",
        version=version("axial"),
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": f"http://{settings.gateway.host}:{settings.gateway.port}"}],
    )
    problems.install(app)
    app.add_middleware(Guard, routes=app.router.routes, settings=settings)
    _add_health(app, engine)
    _add_studies(app, engine)
    _add_actions(app, Owners(settings, credentials))
    return app


def _add_health(app: FastAPI, engine: Engine) -> None:
    shown: set[str] = set()

    @app.get("/healthz", tags=["health"], summary="Is the gateway alive?")
    def healthz() -> answers.Health:  # pyright: ignore[reportUnusedFunction]
        return answers.Health(status="alive", problems=[])

    @app.get(
        "/readyz", tags=["health"], summary="Can the gateway answer?", responses=responses(503)
    )
    def readyz() -> answers.Health:  # pyright: ignore[reportUnusedFunction]
        found = database_problems(engine)
        if found:
            raise GatewayError(503, "not-ready", " ".join(found))
        return answers.Health(status="ready", problems=[])

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"example": "axial_queue_depth 0"}}}},
    )
    def metrics_page() -> Response:  # pyright: ignore[reportUnusedFunction]
        depths = views.queue_depths(engine)
        # A destination with nothing left to send is not among them, and its gauge would stay.
        for queue in shown - depths.keys():
            metrics.QUEUE_DEPTH.labels(queue).set(0)
        for queue, depth in depths.items():
            metrics.QUEUE_DEPTH.labels(queue).set(depth)
        shown.update(depths)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_studies(app: FastAPI, engine: Engine) -> None:
    @app.get("/api/v1/studies", tags=["studies"], summary="Studies, the newest first")
    def studies(  # pyright: ignore[reportUnusedFunction]
        offset: Annotated[int, Query(ge=0, le=10_000_000, description="Studies to skip")] = 0,
        limit: Annotated[int, Query(ge=1, le=500, description="Studies on a page")] = 50,
    ) -> answers.StudyPage:
        return views.study_page(engine, offset, limit)

    @app.get(
        "/api/v1/studies/{study_uid}",
        tags=["studies"],
        summary="One study with everything that became of it",
        responses=responses(404, 422),
    )
    def study(study_uid: StudyUid) -> answers.StudyDetail:  # pyright: ignore[reportUnusedFunction]
        found = views.study_detail(engine, study_uid)
        if found is None:
            raise _unknown("study", study_uid)
        return found

    @app.get(
        "/api/v1/studies/{study_uid}/fate",
        tags=["studies"],
        summary="How every series of a study ended, and why",
        responses=responses(404, 422),
    )
    def fate_of_study(  # pyright: ignore[reportUnusedFunction]
        study_uid: StudyUid,
    ) -> Sequence[answers.SeriesFate]:
        found = views.study_fate(engine, study_uid)
        if found is None:
            raise _unknown("study", study_uid)
        return found

    @app.get(
        "/api/v1/series/{series_uid}/fate",
        tags=["studies"],
        summary="How a series ended, and why",
        responses=responses(404, 422),
    )
    def fate_of_series(  # pyright: ignore[reportUnusedFunction]
        series_uid: SeriesUid,
    ) -> Sequence[answers.SeriesFate]:
        found = views.series_fate(engine, series_uid)
        if found is None:
            raise _unknown("series", series_uid)
        return found

    @app.get("/api/v1/models", tags=["models"], summary="Which builds of the models are served")
    def models() -> Sequence[answers.Deployment]:  # pyright: ignore[reportUnusedFunction]
        return deployments(engine)

    @app.get(
        "/api/v1/conflicts",
        tags=["conflicts"],
        summary="Other bytes that came under known SOP Instance UIDs",
        responses=responses(422),
    )
    def conflicts(  # pyright: ignore[reportUnusedFunction]
        uid: Annotated[
            str,
            Query(description="Of a study, a series or an instance", pattern=r"^[0-9.]{0,64}$"),
        ] = "",
        state: Annotated[
            Literal["", "open", "kept", "taking", "taken", "replaced", "removed"],
            Query(description="Only those in this state"),
        ] = "",
    ) -> Sequence[answers.Conflict]:
        return conflict_page(engine, uid, state)


def _add_actions(app: FastAPI, owners: Owners) -> None:
    @app.post(
        "/api/v1/conflicts/resolve",
        tags=["actions"],
        summary="Decide conflicts: the first images stay, or the latest take their place",
        responses=responses(422, 503),
    )
    def resolve(  # pyright: ignore[reportUnusedFunction]
        uid: Annotated[
            str,
            Query(description="Of a study, a series or an instance", pattern=r"^[0-9.]{1,64}$"),
        ],
        keep: Annotated[Literal["first", "latest"], Query(description="Which images count")],
    ) -> answers.Count:
        return answers.Count(count=owners.resolve_conflicts(uid, latest=keep == "latest"))

    @app.post(
        "/api/v1/studies/{study_uid}/complete",
        tags=["actions"],
        summary="The study is complete: begin now, without waiting for the quiet period",
        responses=responses(404, 422, 503),
    )
    def complete(study_uid: StudyUid) -> answers.Completed:  # pyright: ignore[reportUnusedFunction]
        done = owners.complete_study(study_uid)
        return answers.Completed(
            study_uid=study_uid,
            revision=done.revision,
            frozen_now=done.frozen_now,
            instances=done.instances,
            held=done.held,
        )

    @app.post(
        "/api/v1/studies/{study_uid}/expectation",
        tags=["actions"],
        summary="What the study consists of: begin when all of it is there",
        responses=responses(422, 503),
    )
    def expectation(  # pyright: ignore[reportUnusedFunction]
        study_uid: StudyUid, expected: answers.Expectation
    ) -> answers.Expected:
        noted = owners.expect_study(study_uid, expected.instances, expected.series)
        return answers.Expected(
            study_uid=study_uid,
            received=noted.received,
            revision=noted.revision,
            frozen_now=noted.frozen_now,
        )

    @app.post(
        "/api/v1/studies/{study_uid}/retry",
        tags=["actions"],
        summary="Run the study's failed jobs again",
        responses=responses(422, 503),
    )
    def retry(study_uid: StudyUid) -> answers.Count:  # pyright: ignore[reportUnusedFunction]
        return answers.Count(count=owners.retry_study(study_uid))

    @app.post(
        "/api/v1/deliveries/resend",
        tags=["actions"],
        summary="Send results again: of a study, to a destination, one result or one delivery",
        description="Those that are dead or wait leave again at once, with all their attempts; "
        "those that were delivered only with `delivered`. What a newer result replaces stays.",
        responses=responses(422, 503),
    )
    def resend(  # pyright: ignore[reportUnusedFunction]
        destination: Annotated[str, Query(description="Name of the destination")] = "",
        delivery_uid: Annotated[str, Query(description="UID of one delivery")] = "",
        study_uid: Annotated[str, Query(description="Study Instance UID")] = "",
        sop_instance_uid: Annotated[str, Query(description="SOP Instance UID of a result")] = "",
        delivered: Annotated[bool, Query(description="Also what was delivered")] = False,
    ) -> answers.Resent:
        if not (destination or delivery_uid or study_uid or sop_instance_uid):
            said = "Give a study_uid, a sop_instance_uid, a destination or a delivery_uid."
            raise GatewayError(422, "invalid-request", said)
        again = owners.resend(
            reporting_pb2.ResendRequest(
                destination=destination,
                delivery_uid=delivery_uid,
                study_uid=study_uid,
                sop_instance_uid=sop_instance_uid,
                delivered=delivered,
            )
        )
        return answers.Resent(
            count=again.deliveries,
            delivered=again.delivered,
            superseded=again.superseded,
            held=again.held,
        )


def _unknown(kind: str, uid: str) -> GatewayError:
    return GatewayError(404, f"{kind}-not-found", f"No {kind} {uid} was received.")
