"""One job: read, begun, moved on, ended.

Every function is one transaction and may run twice with the same effect. The times of a stage are
written in the transaction that moves the job on: a job makes few commits, each synced to disk.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.orm import Session

from services.common.database import (
    JobInputRow,
    JobOutputRow,
    JobRow,
    JobStageRow,
    MeasurementRow,
    StudyRow,
    utc_now,
)
from services.common.fates import Fate, Verdict
from services.common.lifecycle import JOB_TRANSITIONS, JobState, read_job_state, require
from services.common.telemetry import metrics
from services.orchestrator.fate_rows import carried, storable, write_fate
from services.orchestrator.selection import Places
from services.orchestrator.stage_times import StageTime

# How a job's state follows from its verdict.
END_STATES: Mapping[Fate, JobState] = {
    Fate.PROCESSED: JobState.PROCESSED,
    Fate.REFUSED: JobState.REFUSED,
    Fate.WITHHELD: JobState.WITHHELD,
    Fate.FAILED: JobState.FAILED,
    Fate.SUPERSEDED: JobState.SUPERSEDED,
}
ENDED = frozenset(END_STATES.values())
# As long as the column is. Parts of a stage are numbered in front, so cut names stay different.
_STAGE_LENGTH = 64


@dataclass(frozen=True, slots=True)
class JobInput:
    """The volume that a job reads in one role.

    Attributes:
        places: SOP instance UID and frame (0 where the instance is one slice), in slice order.
        left_out: a sentence about images of the series that are no slices.
    """

    series_uid: str
    places: Places
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """What a model made in a job: an array in the store, or numbers.

    Attributes:
        kind: layers, map or values.
        grid_role: the role on whose slices the output lies; empty of values.
        digest: SHA-256 of the stored object.
        numbers: of values by the quantity's name, of segments then by their number; of maps slope
            and intercept; of layers ``touching_unmeasured``, segment numbers.
    """

    name: str
    kind: str
    grid_role: str
    store_key: str
    digest: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """A number about a segment or a lesion of a job; its value is None where it is not known."""

    output: str
    segment_number: int
    segment_label: str
    lesion: int
    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    why_unknown: str
    remark: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its stages read it.

    Attributes:
        model_digest: the build that the job is pinned to.
        grid_role: the role on whose slices the outputs lie.
        inputs: role -> what is read in it, in the order of the manifest.
        traceparent: of the revision's trace.
    """

    job_uid: str
    study_uid: str
    revision: int
    model_name: str
    model_version: str
    model_digest: str
    grid_role: str
    selection_digest: str
    inputs: Mapping[str, JobInput]
    state: JobState
    traceparent: str
    supersedes_job_uid: str | None
    created_at: dt.datetime

    def series_uids(self) -> tuple[str, ...]:
        """The series that the job reads, each once."""
        return tuple(dict.fromkeys(each.series_uid for each in self.inputs.values()))


def read_job(engine: Engine, uid: str) -> Job:
    """A job with its inputs.

    Raises:
        NoResultFound: there is none.
    """
    with Session(engine.execution_options(axial_readonly=True)) as session:
        return _job(session.get_one(JobRow, uid), inputs_of(session, [uid])[uid])


def begin_job(engine: Engine, uid: str) -> int:
    """Counts that a worker begins to work on a job; returns how often that has happened."""
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        job.starts += 1
        return job.starts


def undo_start(engine: Engine, uid: str) -> None:
    """Undoes `begin_job`: the worker was stopped and did not die."""
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        job.starts = max(0, job.starts - 1)


def priority_of(engine: Engine, uid: str) -> str:
    """The priority of the job's study (listener.peers[].priority)."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        of_study = select(StudyRow.priority).join(JobRow, JobRow.study_uid == StudyRow.study_uid)
        return session.scalar(of_study.where(JobRow.job_uid == uid)) or "normal"


def priority_of_study(engine: Engine, study_uid: str) -> str:
    """The priority of a study (listener.peers[].priority)."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        of_study = select(StudyRow.priority).where(StudyRow.study_uid == study_uid)
        return session.scalar(of_study) or "normal"


def advance_job(
    engine: Engine,
    uid: str,
    state: JobState,
    *,
    times: Sequence[StageTime] = (),
    outputs: Sequence[JobOutput] | None = None,
    measurements: Sequence[Measured] | None = None,
) -> JobState:
    """Moves a job on; returns the state it has then.

    A superseded job stays superseded: the caller stops working on it.

    Args:
        engine: the database.
        uid: the job.
        state: the job's next state.
        times: of the stage that was done.
        outputs: what the model made; replaces what an earlier try made.
        measurements: what was measured; replaces what an earlier try found.
    """
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        current = read_job_state(job.state)
        if current in ENDED:
            return current
        require(JOB_TRANSITIONS, current, state, f"Job {uid}")
        job.state = state
        write_times(session, uid, times)
        if outputs is not None:
            _replace_outputs(session, uid, outputs)
        if measurements is not None:
            _replace_measurements(session, uid, measurements)
    return state


def end_job(
    engine: Engine, uid: str, verdict: Verdict, times: Sequence[StageTime] = ()
) -> JobState:
    """Ends a job with its verdict, also for the revisions that carried it; returns its state.

    Each series that the job reads gets the verdict as its fate.
    """
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        current = read_job_state(job.state)
        if current in ENDED:
            return current
        state = END_STATES[verdict.fate]
        require(JOB_TRANSITIONS, current, state, f"Job {uid}")
        job.state = state
        job.reason = verdict.reason
        job.reason_values = storable(verdict)
        job.ended_at = utc_now()
        write_times(session, uid, times)
        inputs = inputs_of(session, [uid])[uid]
        for series_uid in dict.fromkeys(each.series_uid for each in inputs.values()):
            for number in [job.revision, *job.carried_into]:
                own = verdict if number == job.revision else carried(verdict, job.revision)
                write_fate(session, (job.study_uid, number, series_uid, job.model_name), own, uid)
    return state


def outputs_of(engine: Engine, uid: str) -> tuple[JobOutput, ...]:
    """What a job's model made, in the manifest's order."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.scalars(
            select(JobOutputRow).where(JobOutputRow.job_uid == uid).order_by(JobOutputRow.ordinal)
        )
        return tuple(
            JobOutput(row.name, row.kind, row.grid_role, row.store_key, row.digest, row.numbers)
            for row in rows
        )


def measurements_of(engine: Engine, uid: str) -> tuple[Measured, ...]:
    """What was measured in a job, in the order of the report."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.scalars(
            select(MeasurementRow)
            .where(MeasurementRow.job_uid == uid)
            .order_by(MeasurementRow.ordinal)
        )
        return tuple(
            Measured(
                output=row.output,
                segment_number=row.segment_number,
                segment_label=row.segment_label,
                lesion=row.lesion,
                name=row.name,
                value=row.value,
                low=row.low,
                high=row.high,
                unit=row.unit,
                why_unknown=row.why_unknown,
                remark=row.remark,
            )
            for row in rows
        )


def inputs_of(session: Session, uids: Sequence[str]) -> dict[str, dict[str, JobInput]]:
    """Of every job: role -> what is read in it, in the order of the manifest."""
    found: dict[str, dict[str, JobInput]] = {uid: {} for uid in uids}
    rows = session.scalars(
        select(JobInputRow)
        .where(JobInputRow.job_uid.in_(uids))
        .order_by(JobInputRow.job_uid, JobInputRow.ordinal)
    )
    for row in rows:
        places = list(zip(row.instances, row.frames, strict=True))
        found[row.job_uid][row.role] = JobInput(row.series_uid, places, row.left_out)
    return found


def lock_study(session: Session, study_uid: str) -> None:
    """Selections and freezings of one study come one after another (PostgreSQL)."""
    session.execute(
        select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid).with_for_update()
    )


def write_times(session: Session, uid: str, times: Sequence[StageTime]) -> None:
    """Writes how long stages of a job took; a repeated stage overwrites its row.

    A long name of a stage is cut.
    """
    rows = {time.stage[:_STAGE_LENGTH]: time for time in times}
    for time in times:
        metrics.STAGE_SECONDS.labels(time.stage.partition(":")[0]).observe(time.seconds)
    if not rows:
        return
    session.execute(
        delete(JobStageRow).where(JobStageRow.job_uid == uid, JobStageRow.stage.in_(rows))
    )
    session.execute(
        insert(JobStageRow),
        [
            {
                "job_uid": uid,
                "stage": stage,
                "started_at": time.started_at,
                "seconds": time.seconds,
            }
            for stage, time in rows.items()
        ],
    )


def _job(row: JobRow, inputs: Mapping[str, JobInput]) -> Job:
    return Job(
        job_uid=row.job_uid,
        study_uid=row.study_uid,
        revision=row.revision,
        model_name=row.model_name,
        model_version=row.model_version,
        model_digest=row.model_digest,
        grid_role=row.grid_role,
        selection_digest=row.selection_digest,
        inputs=inputs,
        state=read_job_state(row.state),
        traceparent=row.traceparent,
        supersedes_job_uid=row.supersedes_job_uid,
        created_at=row.created_at,
    )


def _replace_outputs(session: Session, uid: str, outputs: Sequence[JobOutput]) -> None:
    session.execute(delete(JobOutputRow).where(JobOutputRow.job_uid == uid))
    session.add_all(
        JobOutputRow(
            job_uid=uid,
            name=each.name,
            ordinal=ordinal,
            kind=each.kind,
            grid_role=each.grid_role,
            store_key=each.store_key,
            digest=each.digest,
            numbers=dict(each.numbers),
        )
        for ordinal, each in enumerate(outputs)
    )


def _replace_measurements(session: Session, uid: str, measurements: Sequence[Measured]) -> None:
    session.execute(delete(MeasurementRow).where(MeasurementRow.job_uid == uid))
    session.add_all(
        MeasurementRow(
            job_uid=uid,
            ordinal=ordinal,
            output=each.output,
            segment_number=each.segment_number,
            segment_label=each.segment_label,
            lesion=each.lesion,
            name=each.name,
            value=each.value,
            low=each.low,
            high=each.high,
            unit=each.unit,
            why_unknown=each.why_unknown,
            remark=each.remark,
        )
        for ordinal, each in enumerate(measurements)
    )
