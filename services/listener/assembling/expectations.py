"""What a study is to consist of, where somebody said so: counts, declared or told.

Instances may declare them (PS3.3 C.7.2.1 and PS3.4 C.3.4: NumberOfStudyRelatedInstances,
NumberOfStudyRelatedSeries, NumberOfSeriesRelatedInstances), and another system may tell them. What
was told stands for the whole study: then what instances declare is not asked, because an archive
counts what it holds, not what it sends.

What was told of a study that never comes is forgotten after `KEPT`.

A count never blocks: one that is exceeded, or that another one contradicts, is not met, and the
study waits for its quiet period.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, case, delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite

from services.common.database import ExpectationRow, InstanceRow, StudyRow, utc_now
from services.common.headers import COUNT_KEYWORDS, InstanceHeader

# How long a study is awaited of which somebody told.
KEPT = dt.timedelta(days=30)

# No study has more; what is larger is no count.
_MOST = 1 << 30
_DIGITS = 16  # with zeros before them; of thousands Python makes no number
_COUNTS = frozenset(COUNT_KEYWORDS)


class Source(StrEnum):
    """Who says what a study is to consist of."""

    INSTANCES = "instances"
    TOLD = "told"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a study is to consist of.

    Attributes:
        instances: of the whole study; series: their number; None where nobody said so.
        by_series: series UID -> its instances.
    """

    instances: int | None
    series: int | None
    by_series: Mapping[str, int]


def is_met(expected: Expectation, received: Mapping[str, int]) -> bool:
    """Whether a study is there, with neither less nor more than expected.

    Without a count of the study's instances, its series have to be counted, and each of them has
    to have a count: a series alone does not tell whether another one follows.

    Args:
        received: series UID -> number of its instances that are there.
    """
    if expected.instances is None:
        counted = expected.series is not None and received.keys() <= expected.by_series.keys()
    else:
        counted = sum(received.values()) == expected.instances
    if expected.series is not None:
        counted = counted and len(received) == expected.series
    return counted and all(
        received.get(series_uid, 0) == count for series_uid, count in expected.by_series.items()
    )


def shortfall(expected: Expectation, received: Mapping[str, int]) -> tuple[int, int] | None:
    """How many instances were announced and how many are there, where these are fewer.

    Of the whole study, or of the series that lacks most; None where nothing is missing.

    Args:
        received: series UID -> number of its instances that are there.
    """
    there = sum(received.values())
    if expected.instances is not None and there < expected.instances:
        return expected.instances, there
    short = [
        (count, received.get(uid, 0))
        for uid, count in expected.by_series.items()
        if received.get(uid, 0) < count
    ]
    return max(short, key=lambda pair: pair[0] - pair[1], default=None)


def is_short(engine: Engine, study_uid: str, series_uids: Collection[str]) -> bool:
    """Whether one of these series has fewer instances than were declared for the series."""
    expected = read_expectation(engine, study_uid)
    if expected is None or not any(uid in expected.by_series for uid in series_uids):
        return False
    received = count_received(engine, study_uid)
    return any(received.get(uid, 0) < expected.by_series.get(uid, 0) for uid in series_uids)


def read_expectation(engine: Engine, study_uid: str) -> Expectation | None:
    """What a study is to consist of; None where nobody said so."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(_EXPECTED.where(ExpectationRow.study_uid == study_uid)).all()
    told = [row for row in rows if row.source == Source.TOLD]
    counted = told or rows
    if not counted:
        return None
    whole = next((row for row in counted if not row.series_uid), None)
    return Expectation(
        instances=whole.instances if whole is not None else None,
        series=whole.series if whole is not None else None,
        by_series={row.series_uid: row.instances for row in counted if row.series_uid},
    )


def count_received(engine: Engine, study_uid: str) -> dict[str, int]:
    """How many instances of each series of a study are there."""
    counts = (
        select(InstanceRow.series_uid, func.count())
        .where(InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_(None))
        .group_by(InstanceRow.series_uid)
    )
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(counts).all()
    return {series_uid: count for series_uid, count in rows}  # noqa: C416 - rows are no pairs


def expect_study(
    engine: Engine, study_uid: str, instances: int, by_series: Mapping[str, int]
) -> None:
    """Notes what a caller declares a study to consist of; replaces what was declared before.

    Args:
        engine: the database.
        study_uid: the study.
        instances: of the whole study.
        by_series: series UID -> its instances, of as many series as are known.
    """
    counts: dict[str, _Count] = {"": (instances, None)}
    counts.update({series_uid: (count, None) for series_uid, count in by_series.items()})
    with engine.begin() as connection:
        connection.execute(
            delete(ExpectationRow).where(
                ExpectationRow.study_uid == study_uid, ExpectationRow.source == Source.TOLD
            )
        )
        _write(connection, {(study_uid, uid): count for uid, count in counts.items()}, Source.TOLD)


def forget_unmet(engine: Engine, now: dt.datetime) -> int:
    """Forgets what was declared longer than `KEPT` ago of studies of which nothing came.

    Returns:
        Of how many series and studies declarations were forgotten.
    """
    unknown = ~exists().where(StudyRow.study_uid == ExpectationRow.study_uid)
    with engine.begin() as connection:
        return connection.execute(
            delete(ExpectationRow).where(
                ExpectationRow.source == Source.TOLD,
                ExpectationRow.noted_at < now - KEPT,
                unknown,
            )
        ).rowcount


def note_declared(connection: Connection, headers: Sequence[InstanceHeader]) -> None:
    """Notes what new instances declare; of several counts the largest: the others grew since."""
    counts: dict[tuple[str, str], _Count] = {}
    for header in headers:
        if _COUNTS.isdisjoint(header.attributes):
            continue
        study, series, instances = (_number(header.text(keyword)) for keyword in COUNT_KEYWORDS)
        whole = (header.study_uid, "")
        counts[whole] = _larger(counts.get(whole), (study, series))
        own = (header.study_uid, header.series_uid)
        counts[own] = _larger(counts.get(own), (instances, None))
    declared = {key: count for key, count in counts.items() if count != (None, None)}
    if declared:
        _write(connection, declared, Source.INSTANCES)


# Instances, and series of a whole study.
_Count = tuple[int | None, int | None]

_EXPECTED = select(
    ExpectationRow.series_uid,
    ExpectationRow.source,
    ExpectationRow.instances,
    ExpectationRow.series,
)


def _write(
    connection: Connection, counts: Mapping[tuple[str, str], _Count], source: Source
) -> None:
    noted_at = utc_now()
    rows: list[dict[str, Any]] = [
        {
            "study_uid": study_uid,
            "series_uid": series_uid,
            "source": source,
            "instances": instances,
            "series": series,
            "noted_at": noted_at,
        }
        # In one order everywhere, so that two listeners never wait for each other's rows.
        for (study_uid, series_uid), (instances, series) in sorted(counts.items())
    ]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(ExpectationRow)
    statement = new.on_conflict_do_update(
        index_elements=["study_uid", "series_uid", "source"],
        set_={
            name: case((known > sent, known), else_=func.coalesce(sent, known))
            for name, known, sent in (
                ("instances", ExpectationRow.instances, new.excluded.instances),
                ("series", ExpectationRow.series, new.excluded.series),
            )
        },
    )
    connection.execute(statement, rows)


def _number(text: str | None) -> int | None:
    if text is None or not text.isdecimal() or len(text) > _DIGITS:
        return None
    return number if 0 < (number := int(text)) < _MOST else None


def _larger(known: _Count | None, other: _Count) -> _Count:
    if known is None:
        return other
    instances, series = (
        max((count for count in pair if count is not None), default=None)
        for pair in zip(known, other, strict=True)
    )
    return instances, series
