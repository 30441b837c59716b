"""What retention chooses: a function of what there is, without a disk or a database."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common.settings import RetentionSettings, Settings, StoreSettings
from services.listener.keeping.retention import Cause, StoredStudy, Usage, choose

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def _studies(*ages_and_sizes: tuple[float, int]) -> list[StoredStudy]:
    return [
        StoredStudy(str(number), NOW - dt.timedelta(days=age), size)
        for number, (age, size) in enumerate(ages_and_sizes)
    ]


def _causes(
    studies: list[StoredStudy], limits: RetentionSettings, free: int | None = None
) -> list[Cause]:
    total = sum(study.images_bytes for study in studies)
    return [cause for _, cause in choose(studies, Usage(total, free), limits, NOW)]


def test_each_limit_gives_its_cause_and_age_comes_first() -> None:
    studies = _studies((9, 10), (5, 10), (4, 10), (1, 10))
    limits = RetentionSettings(max_age_d=6, max_bytes=25, min_free_bytes=45)
    assert _causes(studies, limits, free=15) == [Cause.AGE, Cause.SIZE, Cause.SPACE]


def test_space_is_no_question_where_the_store_lies_elsewhere() -> None:
    assert _causes(_studies((9, 10)), RetentionSettings(min_free_bytes=1 << 40), None) == []


def test_what_cannot_be_removed_counts_too() -> None:
    limits = RetentionSettings(max_bytes=100)
    chosen = list(choose(_studies((9, 10), (8, 10)), Usage(105, None), limits, NOW))
    assert [study.study_uid for study, _ in chosen] == ["0"]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=30),
    st.one_of(st.none(), st.floats(0.1, 90)),
    st.one_of(st.none(), st.integers(0, 1000)),
)
def test_the_rest_fits_and_nothing_is_removed_that_need_not_be(
    entries: list[tuple[float, int]], max_age_d: float | None, max_bytes: int | None
) -> None:
    studies = _studies(*sorted(entries, reverse=True))
    limits = RetentionSettings(max_age_d=max_age_d, max_bytes=max_bytes)
    chosen = [study for study, _ in choose(studies, Usage(_sum(studies), None), limits, NOW)]
    assert chosen == studies[: len(chosen)]  # the oldest, without a gap
    rest = studies[len(chosen) :]
    assert max_bytes is None or _sum(rest) <= max_bytes
    aged = [] if max_age_d is None else [s for s in studies if _days(s) > max_age_d]
    assert set(aged) <= set(chosen)
    if len(chosen) > len(aged):
        assert max_bytes is not None
        assert _sum(studies[len(chosen) - 1 :]) > max_bytes


def test_space_has_to_be_made_before_instances_are_declined() -> None:
    store = StoreSettings(min_free_bytes=100)
    Settings(store=store, retention=RetentionSettings(min_free_bytes=101))
    with pytest.raises(ValidationError, match=r"above store\.min_free_bytes"):
        Settings(store=store, retention=RetentionSettings(min_free_bytes=100))


def test_one_half_of_the_credentials_is_none() -> None:
    with pytest.raises(ValidationError, match="come together"):
        StoreSettings.model_validate({"access_key_id_file": "/run/secrets/id"})


def _sum(studies: list[StoredStudy]) -> int:
    return sum(study.images_bytes for study in studies)


def _days(study: StoredStudy) -> float:
    return (NOW - study.last_received_at) / dt.timedelta(days=1)
