"""When a series is let go, told from what associations bring and how they end."""

from __future__ import annotations

import pytest

from services.listener.under_way import Series, SeriesUnderWay

STUDY = "1.2"
A, B, C = "1.2.1", "1.2.2", "1.2.3"


class Following:
    """Associations on a clock that stands still; what was let go, in order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.let_go: list[str] = []
        self.under_way = SeriesUnderWay(0.5, self._on_let_go, lambda: self.now)

    def _on_let_go(self, series: Series) -> None:
        self.let_go.append(series[1])

    def stored(self, association: str, *series: str) -> None:
        for series_uid in series:
            self.under_way.stored(association, STUDY, series_uid)

    def closed(self, association: str, *, orderly: bool = True) -> None:
        self.under_way.closed(association, orderly=orderly)

    def of_study(self) -> set[str]:
        return self.under_way.of_study(STUDY)


@pytest.fixture
def following() -> Following:
    return Following()


def test_a_series_is_let_go_when_its_association_goes_on_to_another(following: Following) -> None:
    following.stored("one", A, A, A)
    assert following.let_go == []
    following.stored("one", B)
    assert following.let_go == [A]
    assert following.of_study() == {A, B}  # the first one settles


def test_a_series_is_let_go_when_its_association_is_closed(following: Following) -> None:
    following.stored("one", A, B)
    following.closed("one")
    assert following.let_go == [A, B]
    following.now += 0.5
    assert following.of_study() == set()


def test_a_series_has_settled_when_nothing_of_it_came_for_the_settle_period(
    following: Following,
) -> None:
    following.stored("one", A)
    assert following.under_way.remaining_s((STUDY, A)) is None
    following.closed("one")
    following.now += 0.4
    assert following.under_way.remaining_s((STUDY, A)) == pytest.approx(0.1)
    assert following.under_way.settled(STUDY) == set()
    following.now += 0.1
    assert following.under_way.remaining_s((STUDY, A)) == pytest.approx(0, abs=1e-9)
    following.now += 0.1
    assert following.under_way.settled(STUDY) == {A}


def test_what_comes_within_the_settle_period_takes_the_series_up_again(
    following: Following,
) -> None:
    following.stored("one", A)
    following.closed("one")
    following.now += 0.4
    following.stored("two", A)
    following.now += 5
    assert following.under_way.remaining_s((STUDY, A)) is None
    assert following.of_study() == {A}
    following.closed("two")
    assert following.let_go == [A, A]


def test_a_series_of_several_associations_is_let_go_when_all_have_let_it_go(
    following: Following,
) -> None:
    following.stored("one", A)
    following.stored("two", A)
    following.stored("three", A)
    following.closed("one")
    following.stored("two", B)
    assert following.let_go == []
    following.closed("three")
    assert following.let_go == [A]


def test_an_association_that_sends_its_series_in_turns_lets_none_go_before_its_end(
    following: Following,
) -> None:
    following.stored("one", A, B, A)
    following.let_go.clear()
    following.now += 5
    following.stored("one", B, C, A)
    following.now += 5
    assert following.let_go == []
    assert following.of_study() == {A, B, C}
    following.closed("one")
    assert sorted(following.let_go) == [A, B, C]


def test_what_an_association_that_broke_off_left_is_not_let_go(following: Following) -> None:
    following.stored("one", A, B)
    following.closed("one", orderly=False)
    assert following.let_go == [A]
    following.now += 5
    assert following.of_study() == {B}
    following.stored("two", B)
    following.closed("two")
    assert following.let_go == [A, B]


def test_a_series_that_another_association_has_is_not_torn_with_the_one_that_broke_off(
    following: Following,
) -> None:
    following.stored("one", A)
    following.stored("two", A)
    following.closed("one", orderly=False)
    following.closed("two")
    assert following.let_go == [A]


def test_the_associations_of_a_receiver_that_died_broke_off(following: Following) -> None:
    following.stored("door-0.1", A)
    following.stored("door-0.2", B)
    following.stored("door-01.1", C)
    following.under_way.lost("door-0.")
    following.closed("door-01.1")
    following.now += 5
    assert following.let_go == [C]
    assert following.of_study() == {A, B}


def test_series_of_other_studies_are_their_own(following: Following) -> None:
    following.under_way.stored("one", "1.9", A)
    following.stored("two", A)
    following.closed("two")
    assert following.let_go == [A]
    assert following.under_way.of_study("1.9") == {A}


def test_the_end_of_an_association_that_brought_nothing_changes_nothing(
    following: Following,
) -> None:
    following.closed("one")
    following.closed("one", orderly=False)
    assert following.let_go == []


def test_of_torn_series_the_latest_are_remembered(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.under_way._MOST_TORN", 2)
    for association, series in (("one", A), ("two", B), ("three", C)):
        following.stored(association, series)
        following.closed(association, orderly=False)
    assert following.of_study() == {B, C}
