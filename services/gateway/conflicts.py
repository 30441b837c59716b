"""Other bytes that came under known SOP Instance UIDs, as a study's events in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, or_, select
from sqlalchemy.orm import Session

from services.common.database import ConflictRow, SeriesRow
from services.common.database.conflicts import about
from services.common.fates import Verdict
from services.common.lifecycle import ConflictState
from services.gateway import answers

_DIFFERS = {
    "patient": "another patient",
    "uids": "other study or series UIDs",
    "place": "another place in the series",
    "pixels": "other pixels",
    "attributes": "other attributes",
}
_OPEN = (ConflictState.OPEN, ConflictState.TAKING)


@dataclass(frozen=True, slots=True)
class _Group:
    """Conflicts of one series, as it was sent, with one series."""

    study_uid: str
    series_uid: str
    kept_study_uid: str
    kept_series_uid: str
    state: str
    among_own: bool

    @property
    def elsewhere(self) -> bool:
        """Whether they came under another series than the instances'."""
        return (self.study_uid, self.series_uid) != (self.kept_study_uid, self.kept_series_uid)


def conflict_page(engine: Engine, uid: str, state: str) -> list[answers.Conflict]:
    """Conflicts that concern a study, a series or an instance, of a state; all with "" each."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        chosen: list[ColumnElement[bool]] = []
        if uid:
            chosen.append(about(uid))
        if state:
            chosen.append(ConflictRow.state == state)
        return _grouped(session, chosen)


def conflicts_of_study(session: Session, study_uid: str) -> list[answers.Conflict]:
    """Conflicts that came in a study, or with its instances."""
    of_study = or_(ConflictRow.study_uid == study_uid, ConflictRow.kept_study_uid == study_uid)
    return _grouped(session, [of_study])


def count_open(session: Session, study_uid: str) -> int:
    """How many conflicts of a study nobody has decided yet."""
    return (
        session.scalar(
            select(func.count())
            .select_from(ConflictRow)
            .where(
                or_(ConflictRow.study_uid == study_uid, ConflictRow.kept_study_uid == study_uid),
                ConflictRow.state.in_(_OPEN),
            )
        )
        or 0
    )


def told_of(conflicts: Sequence[answers.Conflict], series_uid: str) -> list[str]:
    """The sentences on a series, as sent or of the instances; of a replacement one of the two."""
    return [
        each.sentence
        for each in conflicts
        if series_uid in (each.series_uid, each.kept_series_uid)
        and each.state != ConflictState.REPLACED
    ]


def fates_of_unanalysed(
    session: Session, study_uid: str, conflicts: Sequence[answers.Conflict], known: Sequence[str]
) -> list[answers.SeriesFate]:
    """What became of series of which no image counts: nobody decides on them.

    Nothing but conflicts came of them, or other series have the places of all of their images.
    """
    groups: dict[str, list[answers.Conflict]] = {}
    for each in conflicts:
        if each.study_uid != study_uid or each.series_uid in known:
            continue
        if each.waits or each.state == ConflictState.REPLACED:
            groups.setdefault(each.series_uid, []).append(each)
    series = {
        row.series_uid: row.attributes
        for row in session.scalars(select(SeriesRow).where(SeriesRow.series_uid.in_(groups)))
    }
    return [_fate(uid, group, series.get(uid, {})) for uid, group in groups.items()]


def _fate(
    series_uid: str, group: Sequence[answers.Conflict], attributes: Mapping[str, Any]
) -> answers.SeriesFate:
    waiting = [each for each in group if each.waits]
    shown = waiting or group
    first, count = shown[0], sum(each.count for each in shown)
    values: dict[str, Any] = {
        "count": count,
        "kept_series": first.kept_series_uid,
        "kept_study": first.kept_study_uid,
    }
    verdict = Verdict("known_elsewhere" if waiting else "taken_elsewhere", values)
    number, modality = attributes.get("SeriesNumber"), attributes.get("Modality")
    return answers.SeriesFate(
        series_uid=series_uid,
        series_number=None if number is None else str(number),
        modality=None if modality is None else str(modality),
        instances=count,
        images=count,
        model="(every model)",
        revision=0,
        fate=verdict.fate,
        reason=verdict.reason,
        sentence=verdict.sentence,
        remedy=verdict.remedy,
        values=values,
        decided_at=first.last_received_at,
        images_removed_at=None,
        images_removed_because=None,
        incomplete="",
        conflicts=[],
    )


def _grouped(session: Session, chosen: Sequence[ColumnElement[bool]]) -> list[answers.Conflict]:
    groups: dict[_Group, list[ConflictRow]] = {}
    for row in session.scalars(
        select(ConflictRow).where(*chosen).order_by(ConflictRow.received_at)
    ):
        group = _Group(
            row.study_uid,
            row.series_uid,
            row.kept_study_uid,
            row.kept_series_uid,
            row.state,
            row.among_own,
        )
        groups.setdefault(group, []).append(row)
    return [_conflict(group, rows) for group, rows in groups.items()]


def _conflict(group: _Group, rows: Sequence[ConflictRow]) -> answers.Conflict:
    differs = [name for name in _DIFFERS if any(name in row.differs for row in rows)]
    return answers.Conflict(
        study_uid=group.study_uid,
        series_uid=group.series_uid,
        kept_study_uid=group.kept_study_uid,
        kept_series_uid=group.kept_series_uid,
        count=len(rows),
        differs=differs,
        among_own=group.among_own,
        state=group.state,
        peers=sorted({row.peer for row in rows}),
        first_received_at=min(row.received_at for row in rows),
        last_received_at=max(row.last_received_at for row in rows),
        sop_instance_uids=[row.sop_instance_uid for row in rows][: answers.MOST_NAMED],
        waits=group.state in _OPEN,
        sentence=_sentence(group, len(rows), differs),
    )


def _sentence(group: _Group, count: int, differs: Sequence[str]) -> str:
    images = "1 image" if count == 1 else f"{count} images"
    words = ", ".join(_DIFFERS[name] for name in differs) or "other content"
    if group.among_own:
        came = f"{images} of this series came under the SOP Instance UID of another one ({words})"
    elif group.elsewhere:
        came = (
            f"{images} came as series {group.series_uid} of study {group.study_uid} under the SOP "
            f"Instance UIDs of series {group.kept_series_uid} of study {group.kept_study_uid} "
            f"({words})"
        )
    else:
        came = f"{images} of this series came again with {words}"
    if group.among_own and group.state == ConflictState.OPEN:
        return (
            f"{came}; the series lacks one of the two and is refused until somebody decides "
            "(`axial conflicts resolve`)."
        )
    return f"{came}; {_OUTCOMES[ConflictState(group.state)]}"


_OUTCOMES = {
    ConflictState.OPEN: "what came first is kept and used, what came later is kept beside it and "
    "not used (decide with `axial conflicts resolve`).",
    ConflictState.KEPT: "it was decided that what came first stays.",
    ConflictState.TAKING: "what came later is about to take the place of what came first.",
    ConflictState.TAKEN: "what came later took the place of what came first.",
    ConflictState.REPLACED: "later images took their place; these are kept beside them.",
    ConflictState.REMOVED: "both were removed by the site's retention.",
}
