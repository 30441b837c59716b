"""Questions to the database, answered with the API's models."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from services.common.database import (
    ConflictRow,
    DeliveryRow,
    FateRow,
    InstanceRow,
    JobInputRow,
    JobRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
)
from services.common.fates import read_verdict
from services.common.incomplete import missing_sentence
from services.common.lifecycle import DeliveryState, JobState
from services.gateway import answers
from services.gateway.conflicts import (
    conflicts_of_study,
    count_open,
    fates_of_unanalysed,
    told_of,
)
from services.gateway.image_counts import images_beyond_instances
from services.gateway.job_views import job_answer
from services.gateway.undelivered import undelivered

_UNDER_WAY = (JobState.SELECTED, JobState.INFERRED, JobState.REPORTED)
_ON_A_QUEUE = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.WAITING)


@dataclass(frozen=True, slots=True)
class _Members:
    """A series' instances in a revision: how many, and what became of their images."""

    instances: int
    images: int
    deleted_at: dt.datetime | None
    cause: str | None
    incomplete: str

    @property
    def removal_and_gaps(self) -> dict[str, Any]:
        """The answer's fields on images that retention removed, and on what was missing."""
        because = None if self.deleted_at is None else self.cause
        return {
            "images_removed_at": self.deleted_at,
            "images_removed_because": because,
            "incomplete": self.incomplete,
            "conflicts": [],
        }


def read_only(engine: Engine) -> Session:
    """A session whose transactions take no write lock."""
    return Session(engine.execution_options(axial_readonly=True))


def study_page(engine: Engine, offset: int, limit: int) -> answers.StudyPage:
    """Studies, the most recently received first."""
    with read_only(engine) as session:
        rows = session.scalars(
            select(StudyRow)
            .order_by(StudyRow.last_received_at.desc(), StudyRow.study_uid)
            .offset(offset)
            .limit(limit + 1)
        ).all()
        more = len(rows) > limit
        return answers.StudyPage(
            studies=[answers.StudySummary(**_summary(session, row)) for row in rows[:limit]],
            next_offset=offset + limit if more else None,
        )


def study_detail(engine: Engine, study_uid: str) -> answers.StudyDetail | None:
    """A study with everything that became of it; None when the study is not known."""
    with read_only(engine) as session:
        study = session.get(StudyRow, study_uid)
        if study is None:
            return None
        revisions = session.scalars(
            select(RevisionRow)
            .where(RevisionRow.study_uid == study_uid)
            .order_by(RevisionRow.number)
        ).all()
        jobs = session.scalars(
            select(JobRow)
            .where(JobRow.study_uid == study_uid)
            .order_by(JobRow.revision.desc(), JobRow.created_at)
        ).all()
        return answers.StudyDetail(
            **_summary(session, study),
            revisions=[
                answers.Revision(
                    number=row.number,
                    trigger=row.trigger,
                    instances=row.instances,
                    last_received_at=row.last_received_at,
                    frozen_at=row.frozen_at,
                    incomplete=missing_sentence(row.incomplete),
                )
                for row in revisions
            ],
            fate=_fates(session, study),
            conflict_events=conflicts_of_study(session, study_uid),
            jobs=[job_answer(session, row) for row in jobs],
        )


def study_fate(engine: Engine, study_uid: str) -> list[answers.SeriesFate] | None:
    """How every series of the study's newest revision ended, for every model."""
    with read_only(engine) as session:
        study = session.get(StudyRow, study_uid)
        return None if study is None else _fates(session, study)


def series_fate(engine: Engine, series_uid: str) -> list[answers.SeriesFate] | None:
    """How one series ended, for every model."""
    with read_only(engine) as session:
        studies = {
            *session.scalars(select(SeriesRow.study_uid).where(SeriesRow.series_uid == series_uid)),
            # The series of a copy may have the UID of another study's.
            *session.scalars(
                select(ConflictRow.study_uid).where(ConflictRow.series_uid == series_uid)
            ),
        }
        if not studies:
            return None
        return [
            fate
            for study_uid in sorted(studies)
            for fate in _fates(session, session.get_one(StudyRow, study_uid))
            if fate.series_uid == series_uid
        ]


def queue_depths(engine: Engine) -> dict[str, int]:
    """Entries waiting: jobs under way, revisions not announced, deliveries by destination."""
    with read_only(engine) as session:
        depths = {
            "jobs": session.scalar(
                select(func.count()).select_from(JobRow).where(JobRow.state.in_(_UNDER_WAY))
            )
            or 0
        }
        waiting = session.execute(
            select(DeliveryRow.destination, func.count())
            .where(DeliveryRow.state.in_(_ON_A_QUEUE))
            .group_by(DeliveryRow.destination)
        )
        depths.update({f"delivery:{name}": count for name, count in waiting})
        return depths


def _summary(session: Session, study: StudyRow) -> dict[str, Any]:
    uid, number = study.study_uid, study.newest_revision
    instances, series = session.execute(
        select(func.count(), func.count(InstanceRow.series_uid.distinct())).where(
            InstanceRow.study_uid == uid
        )
    ).one()
    fates = session.scalars(
        select(FateRow.fate).where(FateRow.study_uid == uid, FateRow.revision == number)
    )
    return {
        "study_uid": uid,
        "state": _state(session, study),
        "revision": number,
        "series": series,
        "instances": instances,
        "fates": dict(Counter(fates)),
        "conflicts": count_open(session, uid),
        "first_received_at": study.first_received_at,
        "last_received_at": study.last_received_at,
    }


def _state(
    session: Session, study: StudyRow
) -> Literal["receiving", "working", "delivering", "done"]:
    uid, number = study.study_uid, study.newest_revision
    if study.unfrozen_instances > 0:
        return "receiving"
    if number == 0 or session.get_one(RevisionRow, (uid, number)).instances == 0:
        return "done"  # nothing came but conflicts, or its images are another study's now
    decided = session.scalar(
        select(func.count())
        .select_from(FateRow)
        .where(FateRow.study_uid == uid, FateRow.revision == number)
    )
    under_way = session.scalar(
        select(func.count())
        .select_from(JobRow)
        .where(JobRow.study_uid == uid, JobRow.state.in_(_UNDER_WAY))
    )
    if under_way or not decided:
        return "working"
    queued = session.scalar(
        select(func.count())
        .select_from(DeliveryRow)
        .join(JobRow, JobRow.job_uid == DeliveryRow.job_uid)
        .where(JobRow.study_uid == uid, DeliveryRow.state.in_(_ON_A_QUEUE))
    )
    return "delivering" if queued else "done"


def _fates(session: Session, study: StudyRow) -> list[answers.SeriesFate]:
    uid, number = study.study_uid, study.newest_revision
    counted = session.execute(
        select(InstanceRow.series_uid, func.count(), func.max(InstanceRow.deleted_at))
        .join(
            RevisionInstanceRow,
            RevisionInstanceRow.sop_instance_uid == InstanceRow.sop_instance_uid,
        )
        .where(RevisionInstanceRow.study_uid == uid, RevisionInstanceRow.number == number)
        .group_by(InstanceRow.series_uid)
    )
    more = images_beyond_instances(session, uid, number)
    revision = session.get(RevisionRow, (uid, number))
    missing = missing_sentence(None if revision is None else revision.incomplete)
    cause = study.deletion_cause
    members = {
        row[0]: _Members(row[1], row[1] + more[row[0]], row[2], cause, missing) for row in counted
    }
    rows = session.scalars(
        select(FateRow).where(FateRow.study_uid == uid, FateRow.revision == number)
    ).all()
    # A series whose images are another one's now was decided on all the same.
    moved = {row.series_uid for row in rows} - members.keys()
    members |= {each: _Members(0, 0, None, None, missing) for each in moved}
    series = {
        row.series_uid: row
        for row in session.scalars(select(SeriesRow).where(SeriesRow.series_uid.in_(members)))
    }
    decided = {(row.series_uid, row.model_name) for row in rows}
    found = [
        _series_fate(series[row.series_uid], members[row.series_uid], row)
        for row in rows
        if row.series_uid in series
    ]
    found += [
        _pending(series[series_uid], members[series_uid], number, model)
        for series_uid in series
        for model in _models_under_way(session, uid, series_uid, decided)
    ]
    conflicts = conflicts_of_study(session, uid)
    for fate in found:
        fate.conflicts = told_of(conflicts, fate.series_uid)
    stuck = undelivered(session, {fate.job_uid for fate in found if fate.job_uid})
    for fate in found:
        fate.not_delivered = stuck.get(fate.job_uid or "", [])
    found += fates_of_unanalysed(session, uid, conflicts, list(members))
    return sorted(
        found, key=lambda item: (_number(item.series_number), item.series_uid, item.model)
    )


def _models_under_way(
    session: Session, study_uid: str, series_uid: str, decided: set[tuple[str, str]]
) -> Sequence[str]:
    names = session.scalars(
        select(JobRow.model_name)
        .join(JobInputRow, JobInputRow.job_uid == JobRow.job_uid)
        .where(
            JobRow.study_uid == study_uid,
            JobRow.state.in_(_UNDER_WAY),
            JobInputRow.series_uid == series_uid,
        )
        .distinct()
    ).all()
    if not names and not any(key[0] == series_uid for key in decided):
        return ["(not decided yet)"]
    return sorted(name for name in names if (series_uid, name) not in decided)


def _series_fate(series: SeriesRow, members: _Members, row: FateRow) -> answers.SeriesFate:
    verdict = read_verdict(row.reason, row.reason_values, row.fate)
    return answers.SeriesFate(
        series_uid=row.series_uid,
        series_number=_text(series, "SeriesNumber"),
        modality=_text(series, "Modality"),
        instances=members.instances,
        images=members.images,
        model=row.model_name,
        revision=row.revision,
        fate=row.fate,
        reason=row.reason,
        sentence=verdict.sentence,
        remedy=verdict.remedy,
        values=dict(verdict.values),
        decided_at=row.decided_at,
        job_uid=row.job_uid or None,
        **members.removal_and_gaps,
    )


def _pending(series: SeriesRow, members: _Members, number: int, model: str) -> answers.SeriesFate:
    return answers.SeriesFate(
        series_uid=series.series_uid,
        series_number=_text(series, "SeriesNumber"),
        modality=_text(series, "Modality"),
        instances=members.instances,
        images=members.images,
        model=model,
        revision=number,
        fate=None,
        reason=None,
        sentence="Work on this series is under way.",
        remedy="",
        values={},
        decided_at=None,
        **members.removal_and_gaps,
    )


def _text(series: SeriesRow, keyword: str) -> str | None:
    value = series.attributes.get(keyword)
    return None if value is None else str(value)


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.lstrip("-").isdigit() else 1 << 31
