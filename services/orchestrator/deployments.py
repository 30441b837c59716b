"""Deployments: which builds of the models are served. One row a build, written here alone.

A build is made known (LOADING) when the builder wants it served, and is given studies (SERVING)
when it has answered. The build of before is given no more (DRAINING), ends its open jobs, and is
then unloaded (RETIRED): jobs are pinned to their build, so that none is mixed. A build that cannot
be loaded (FAILED) changes nothing about the one that serves.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, exists, select
from sqlalchemy.orm import Session

from models.manifest import ServedBuild, triton_model_name
from services.common.database import DeploymentRow, JobRow, utc_now
from services.common.lifecycle import (
    DEPLOYMENT_TRANSITIONS,
    DeploymentState,
    require,
)
from services.common.telemetry import get_logger
from services.orchestrator.jobs import ENDED

_S = DeploymentState
# Given studies; a build that is being loaded only where none serves.
_ACTIVE = (_S.SERVING, _S.LOADING, _S.FAILED)
_log = get_logger("orchestrator")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A build of a model on a target.

    Attributes:
        share: percent of the studies that the build is given, of the builds that serve the model.
        problem: why the build does not serve, as a sentence; None where nothing is known to be
            wrong.
    """

    model: str
    digest: str
    target: str
    version: str
    state: DeploymentState
    share: int
    problem: str | None
    requested_at: dt.datetime
    changed_at: dt.datetime

    @property
    def triton_name(self) -> str:
        """The build's name in Triton."""
        return triton_model_name(self.model, self.digest)


def read_deployments(engine: Engine, target: str) -> tuple[Deployment, ...]:
    """All deployments of a target that are not retired, by model and digest."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.scalars(
            select(DeploymentRow)
            .where(DeploymentRow.target == target, DeploymentRow.state != _S.RETIRED)
            .order_by(DeploymentRow.model_name, DeploymentRow.model_digest)
        )
        return tuple(_deployment(row) for row in rows)


def register(
    engine: Engine, target: str, wanted: Sequence[ServedBuild], untold: Container[str] = ()
) -> None:
    """Registers the builds that the builder wants served; drains those that it wants no more.

    A build that failed, or was retired, is loaded again when the builder asked for it again since.

    Args:
        engine: the database.
        target: of the builds.
        wanted: one build for each model.
        untold: models whose wanted build is not known for now; their deployments stay as they
            are.
    """
    with Session(engine) as session, session.begin():
        rows = _rows(session, target)
        for build in wanted:
            asked = _time(build.requested_at)
            row = rows.get((build.model, build.digest))
            if row is None:
                session.add(_new_row(build, target, asked))
                _log.info("build_registered", model=build.model, digest=build.digest[:12])
            elif row.state in (_S.RETIRED, _S.FAILED) and (asked > row.requested_at):
                _move(row, _S.LOADING)
                row.requested_at = asked
            elif row.state == _S.DRAINING:
                # It is still loaded: no build of the model has taken its place, or that one is
                # not wanted any more.
                _serve(row, rows.values())
        named = {build.model for build in wanted}
        for row in rows.values():
            if (
                row.model_name not in named
                and row.model_name not in untold
                and (row.state == _S.SERVING)
            ):
                _move(row, _S.DRAINING)


def needs_registering(
    deployments: Iterable[Deployment], wanted: Sequence[ServedBuild], untold: Container[str] = ()
) -> bool:
    """Whether `register` would change anything; looked at without a lock."""
    known = {(each.model, each.digest): each for each in deployments}
    named = {build.model for build in wanted}
    for build in wanted:
        row = known.get((build.model, build.digest))
        if row is None or row.state is _S.DRAINING:
            return True
        if row.state is _S.FAILED and _time(build.requested_at) > row.requested_at:
            return True
    return any(
        each.state is _S.SERVING and each.model not in named and each.model not in untold
        for each in known.values()
    )


def note_answer(engine: Engine, deployment: Deployment) -> None:
    """A build has answered: the build is given studies from now on, the earlier build no more."""
    if deployment.state is _S.SERVING and deployment.problem is None:
        return
    with Session(engine) as session, session.begin():
        rows = _rows(session, deployment.target)
        row = rows[deployment.model, deployment.digest]
        row.problem = None
        if row.state == _S.FAILED:
            _move(row, _S.LOADING)
        if row.state == _S.LOADING:
            _serve(row, rows.values())


def note_trouble(engine: Engine, deployment: Deployment, problem: str, *, failed: bool) -> None:
    """A build does not answer.

    Args:
        engine: the database.
        deployment: the build.
        problem: why, as a sentence.
        failed: whether the build cannot be loaded, as opposed to not being reached.
    """
    if deployment.problem == problem and deployment.state is not _S.FAILED:
        return
    with Session(engine) as session, session.begin():
        row = _rows(session, deployment.target)[deployment.model, deployment.digest]
        if failed and row.state == _S.LOADING:
            _move(row, _S.FAILED)
        row.problem = problem
        row.changed_at = utc_now()


def drained(engine: Engine, target: str) -> list[Deployment]:
    """Draining builds to which no open job is pinned any more."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        open_job = exists().where(
            JobRow.model_digest == DeploymentRow.model_digest, JobRow.state.not_in(ENDED)
        )
        rows = session.scalars(
            select(DeploymentRow).where(
                DeploymentRow.target == target, DeploymentRow.state == _S.DRAINING, ~open_job
            )
        )
        return [_deployment(row) for row in rows]


def retire(engine: Engine, deployment: Deployment) -> None:
    """A drained build was unloaded."""
    with Session(engine) as session, session.begin():
        row = _rows(session, deployment.target)[deployment.model, deployment.digest]
        if row.state == _S.DRAINING:
            _move(row, _S.RETIRED)


def given_to(study_uid: str, deployments: Iterable[Deployment]) -> dict[str, Deployment]:
    """Which build of each model a study is given to: model -> deployment.

    Of builds that serve a model together each gets its share of the studies; the same study always
    goes to the same build. Where no build serves, to the build that was asked for last.
    """
    by_model: dict[str, list[Deployment]] = {}
    for each in deployments:
        if each.state in _ACTIVE:
            by_model.setdefault(each.model, []).append(each)
    return {model: _one_of(study_uid, found) for model, found in by_model.items()}


def _one_of(study_uid: str, found: Sequence[Deployment]) -> Deployment:
    serving = [each for each in found if each.state is _S.SERVING and each.share > 0]
    if not serving:
        return max(found, key=lambda each: (each.requested_at, each.digest))
    place = int.from_bytes(hashlib.sha256(study_uid.encode()).digest()[:8])
    place %= sum(each.share for each in serving)
    for each in serving:
        place -= each.share
        if place < 0:
            return each
    raise AssertionError("a place lies within the sum of the shares")


def _serve(row: DeploymentRow, rows: Iterable[DeploymentRow]) -> None:
    """Gives a build the studies, instead of the others of its model."""
    for other in rows:
        if other is not row and other.model_name == row.model_name and other.state == _S.SERVING:
            _move(other, _S.DRAINING)
    _move(row, _S.SERVING)
    row.share = 100


def _move(row: DeploymentRow, state: DeploymentState) -> None:
    subject = f"Build {row.model_digest[:12]} of {row.model_name}"
    require(DEPLOYMENT_TRANSITIONS, DeploymentState(row.state), state, subject)
    row.state = state
    row.changed_at = utc_now()
    row.problem = None
    digest = row.model_digest[:12]
    _log.info("deployment_changed", model=row.model_name, digest=digest, state=state.value)


def _rows(session: Session, target: str) -> dict[tuple[str, str], DeploymentRow]:
    rows = session.scalars(
        select(DeploymentRow).where(DeploymentRow.target == target).with_for_update()
    )
    return {(row.model_name, row.model_digest): row for row in rows}


def _new_row(build: ServedBuild, target: str, asked: dt.datetime) -> DeploymentRow:
    return DeploymentRow(
        model_name=build.model,
        model_digest=build.digest,
        target=target,
        model_version=build.version,
        precision=build.precision,
        state=_S.LOADING,
        share=0,
        requested_at=asked,
        changed_at=utc_now(),
    )


def _deployment(row: DeploymentRow) -> Deployment:
    known = row.state in set(DeploymentState)
    return Deployment(
        model=row.model_name,
        digest=row.model_digest,
        target=row.target,
        version=row.model_version,
        # A state that newer code invented: its build is that code's to serve.
        state=DeploymentState(row.state) if known else _S.DRAINING,
        share=row.share,
        problem=row.problem,
        requested_at=row.requested_at,
        changed_at=row.changed_at,
    )


def _time(text: str) -> dt.datetime:
    """A time as files write it; long ago where they do not."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
