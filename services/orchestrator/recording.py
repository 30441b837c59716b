"""Writing down a revision's selection: its jobs, what they carry on and what they replace.

Every function is one transaction and may run twice with the same effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models.manifest import Choose, Manifest
from services.common.database import JobInputRow, JobRow, ResultRow, RevisionRow, utc_now
from services.common.fates import Fate, Verdict, read_verdict
from services.common.identity import job_uid
from services.common.lifecycle import JOB_TRANSITIONS, JobState, read_job_state, require
from services.orchestrator.errors import OrchestratorError
from services.orchestrator.fate_rows import (
    FateKey,
    carried,
    remove_fates,
    storable,
    write_fate,
    write_fate_where_none_is,
)
from services.orchestrator.jobs import ENDED, JobInput, inputs_of, lock_study, write_times
from services.orchestrator.revision import Revision
from services.orchestrator.selection import ModelSelection, Selection, selection_digest
from services.orchestrator.stage_times import StageTime

# The reason that lies in stored files as they are read, and not in what was registered of them.
_OF_FILES = "pixels_unreadable"


@dataclass(frozen=True, slots=True)
class RecordedSelection:
    """What remains to be done after a selection was written down.

    Attributes:
        to_run: (job UID, attempt) of the jobs that have to be worked on.
        superseded: jobs of earlier revisions whose results must not leave any more.
    """

    to_run: tuple[tuple[str, int], ...]
    superseded: tuple[str, ...]


def record_selection(
    engine: Engine,
    revision: Revision,
    selections: Sequence[tuple[ModelSelection, str]],
    times: Sequence[StageTime] = (),
) -> RecordedSelection:
    """Writes the jobs and fates of a revision's selection.

    A job of an earlier revision with the same build and the same inputs stands for this revision
    too; every other job of an earlier revision is superseded, unless nobody can say whether its
    inputs are still the same. Where a newer revision is already frozen, nothing is run: the newer
    revision covers all that this one holds. A job of this revision keeps the build that it was
    given, whatever is served now; only a job that failed is judged anew.

    Args:
        engine: the database.
        revision: the revision.
        selections: what each model chose, with the digest of the build that is to work.
        times: of the stages up to here; written for each job that is to be run.
    """
    with Session(engine) as session, session.begin():
        lock_study(session, revision.study_uid)
        newer = session.scalar(
            select(func.min(RevisionRow.number)).where(
                RevisionRow.study_uid == revision.study_uid, RevisionRow.number > revision.number
            )
        )
        to_run: list[JobRow] = []
        superseded: list[str] = []
        for selection, digest in selections:
            if newer is None:
                recording = _Recording(session, revision, selection, digest)
                recording.write()
                to_run += recording.to_run
                superseded += recording.superseded
            _write_verdicts(session, revision, selection, newer)
        for job in to_run:
            write_times(session, job.job_uid, times)
        return RecordedSelection(
            tuple((job.job_uid, job.attempt) for job in to_run), tuple(superseded)
        )


def record_failure_of_revision(
    engine: Engine, revision: Revision, models: Sequence[str], verdict: Verdict
) -> None:
    """Gives every series of a revision that has no fate yet this verdict, for every model."""
    with Session(engine) as session, session.begin():
        for series in revision.series:
            for model in models:
                key = (revision.study_uid, revision.number, series.series_uid, model)
                write_fate_where_none_is(session, key, verdict)


def _write_verdicts(
    session: Session, revision: Revision, selection: ModelSelection, newer: int | None
) -> None:
    verdicts = dict(selection.verdicts)
    if newer is not None:
        covered = Verdict("newer_revision", {"newer_revision": newer})
        for chosen in selection.selections:
            verdicts |= dict.fromkeys(chosen.series_uids(), covered)
    for series_uid, verdict in verdicts.items():
        write_fate(session, _key(revision, series_uid, selection), verdict)


def _key(revision: Revision, series_uid: str, selection: ModelSelection) -> FateKey:
    return revision.study_uid, revision.number, series_uid, selection.model_name


class _Recording:
    """What one model's selection makes of its jobs, in one transaction.

    Attributes:
        to_run: jobs that have to be worked on.
        superseded: UIDs of jobs that this revision replaces.
    """

    def __init__(
        self, session: Session, revision: Revision, selection: ModelSelection, digest: str
    ) -> None:
        self._session = session
        self._revision = revision
        self._selection = selection
        self._digest = digest
        self._jobs = self._known_jobs()
        self._inputs = inputs_of(session, [job.job_uid for job in self._jobs])
        self.to_run: list[JobRow] = []
        self.superseded: list[str] = []

    def write(self) -> None:
        """Carries on, makes and supersedes jobs."""
        kept: set[str] = set()
        for chosen in self._selection.selections:
            job = self._carry_over(chosen) or self._create(chosen)
            if read_job_state(job.state) not in ENDED:
                # Also one that is carried over: whoever recorded it may have died before
                # putting it on the queue, and putting it there twice starts it once.
                self.to_run.append(job)
            kept.add(job.job_uid)
        for job in self._jobs:
            if job.job_uid in kept or self._undecided(job):
                continue
            if job.state not in set(JobState):
                continue  # in a state that newer code invented: the job is that code's
            if job.revision < self._revision.number:
                self._supersede(job)
                self.superseded.append(job.job_uid)
            elif job.state == JobState.FAILED:
                self._forget(job)

    def _known_jobs(self) -> list[JobRow]:
        return list(
            self._session.scalars(
                select(JobRow)
                .where(
                    JobRow.study_uid == self._revision.study_uid,
                    JobRow.revision <= self._revision.number,
                    JobRow.model_name == self._selection.model_name,
                    JobRow.state != JobState.SUPERSEDED,
                )
                .order_by(JobRow.revision.desc(), JobRow.job_uid)
                .with_for_update()
            )
        )

    def _carry_over(self, chosen: Selection) -> JobRow | None:
        inputs = selection_digest(chosen)
        for job in self._jobs:
            of_this = job.revision == self._revision.number
            same_build = of_this or job.model_digest == self._digest
            if not same_build or job.selection_digest != inputs:
                continue
            if job.state == JobState.FAILED:
                if of_this and job.model_digest == self._digest:
                    return job  # it is asked for again by itself (asking_again)
                continue
            if job.reason == _OF_FILES and not of_this:
                continue  # the registered bytes are the same: the files may be sound now
            self._tell(job, chosen)
            return job
        return None

    def _tell(self, job: JobRow, chosen: Selection) -> None:
        """Lets the series of this revision know what became of a job, or will."""
        if job.revision == self._revision.number:
            return  # its own end wrote its fates, or will
        if job.state in ENDED and job.reason is not None:
            read = read_verdict(job.reason, job.reason_values)
            for series_uid in chosen.series_uids():
                key = _key(self._revision, series_uid, self._selection)
                write_fate(self._session, key, carried(read, job.revision), job.job_uid)
        elif self._revision.number not in job.carried_into:
            job.carried_into = [*job.carried_into, self._revision.number]

    def _create(self, chosen: Selection) -> JobRow:
        revision, model = self._revision, self._manifest()
        inputs = selection_digest(chosen)
        uid = job_uid(revision.study_uid, revision.number, self._digest, inputs)
        existing = self._session.get(JobRow, uid)
        if existing is not None:
            return existing
        row = JobRow(
            job_uid=uid,
            study_uid=revision.study_uid,
            revision=revision.number,
            model_name=model.identity.name,
            model_version=model.identity.version,
            model_digest=self._digest,
            grid_role=model.grid_role,
            selection_digest=inputs,
            state=JobState.SELECTED,
            supersedes_job_uid=self._predecessor(chosen),
            carried_into=[],
            attempt=1,
            traceparent=revision.traceparent,
            created_at=utc_now(),
        )
        self._session.add(row)
        self._session.add_all(
            JobInputRow(
                job_uid=uid,
                role=role,
                ordinal=ordinal,
                series_uid=each.series.series_uid,
                volume=each.volume,
                instances=[plane.sop_instance_uid for plane in each.geometry.planes],
                frames=[plane.frame or 0 for plane in each.geometry.planes],
                left_out=each.left_out,
            )
            for ordinal, (role, each) in enumerate(chosen.inputs.items())
        )
        return row

    def _predecessor(self, chosen: Selection) -> str | None:
        """The newest earlier job that made results of the same series, whatever became of it.

        Where the model reads one set of series of a study, the newest job at all. Whether its
        results left is reporting's to know; it follows this chain to the first that did.
        """
        with_results = self._session.scalars(
            select(JobRow.job_uid)
            .where(
                JobRow.study_uid == self._revision.study_uid,
                JobRow.revision < self._revision.number,
                JobRow.model_name == self._selection.model_name,
                select(ResultRow.job_uid).where(ResultRow.job_uid == JobRow.job_uid).exists(),
            )
            .order_by(JobRow.revision.desc(), JobRow.job_uid)
        ).all()
        wanted = {role: each.series.series_uid for role, each in chosen.inputs.items()}
        earlier = inputs_of(self._session, with_results)
        for uid in with_results:
            if {role: each.series_uid for role, each in earlier[uid].items()} == wanted:
                return uid
        roles = self._manifest().roles.values()
        only_one = all(role.choose is Choose.BEST for role in roles)
        return with_results[0] if only_one and with_results else None

    def _undecided(self, job: JobRow) -> bool:
        """Whether the model could not be asked about a job's inputs, or they could not be read.

        Such a job stands as it is: asking again may find that nothing has changed.
        """
        verdicts = (
            self._selection.verdicts.get(each.series_uid) for each in self._inputs_of(job).values()
        )
        return any(verdict is not None and verdict.fate is Fate.FAILED for verdict in verdicts)

    def _supersede(self, job: JobRow) -> None:
        number = self._revision.number
        verdict = Verdict("newer_revision", {"newer_revision": number})
        require(JOB_TRANSITIONS, JobState(job.state), JobState.SUPERSEDED, f"Job {job.job_uid}")
        job.state = JobState.SUPERSEDED
        job.reason = verdict.reason
        job.reason_values = storable(verdict)
        job.ended_at = job.ended_at or utc_now()
        for key in self._keys_of(job):
            write_fate(self._session, key, verdict, job.job_uid)

    def _forget(self, job: JobRow) -> None:
        """Takes back the fates of a failed job of this revision: another job reads its series."""
        for key in self._keys_of(job):
            remove_fates(self._session, key, job.job_uid)

    def _keys_of(self, job: JobRow) -> list[FateKey]:
        return [
            (job.study_uid, number, series_uid, job.model_name)
            for series_uid in dict.fromkeys(e.series_uid for e in self._inputs_of(job).values())
            for number in [job.revision, *job.carried_into]
        ]

    def _manifest(self) -> Manifest:
        manifest = self._selection.manifest
        if manifest is None:
            raise OrchestratorError(f"{self._selection.model_name} selected without a manifest.")
        return manifest

    def _inputs_of(self, job: JobRow) -> dict[str, JobInput]:
        return self._inputs[job.job_uid]
