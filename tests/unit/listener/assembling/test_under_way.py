"""When a series is let go, told from what associations bring and how they end."""

from __future__ import annotations

import pytest

from services.listener.assembling.under_way import Ending, Series, SeriesUnderWay

STUDY = "1.2"
A, B, C = "1.2.1", "1.2.2", "1.2.3"


class Following:
    """Associations on a clock that stands still; what was let go, in order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.let_go: list[str] = []
        self.endings: list[tuple[str, Ending]] = []
        self.under_way = SeriesUnderWay(
            0.5,
            self._on_let_go,
            lambda: self.now,
            on_ending=lambda uid, ending: self.endings.append((uid, ending)),
        )

    def _on_let_go(self, series: Series) -> None:
        self.let_go.append(series[1])

    def stored(self, association: str, *series: str) -> None:
        for series_uid in series:
            self.under_way.stored(association, STUDY, series_uid)

    def closed(self, association: str, ending: Ending = Ending.WHOLE) -> None:
        self.under_way.closed(association, ending)

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


def test_what_comes_within_the_settle_period_holds_the_series_again(
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
    following.closed("one", Ending.SILENT)
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
    following.closed("one", Ending.SILENT)
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
    following.closed("one", Ending.SILENT)
    assert following.let_go == []


def test_of_torn_series_the_latest_are_remembered(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.assembling.under_way._MOST_TORN", 2)
    for association, series in (("one", A), ("two", B), ("three", C)):
        following.stored(association, series)
        following.closed(association, Ending.SILENT)
    assert following.of_study() == {B, C}


class Bounded(Following):
    """The same with an idle timeout of a minute; the studies of which something ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []
        self.under_way = SeriesUnderWay(
            0.5, self._on_let_go, lambda: self.now, hold_s=60, on_end=self.ended.append
        )

    def incomplete_s(self, *series: str) -> float:
        return self.under_way.incomplete_s(STUDY, 5.0, series or None)


@pytest.fixture
def bounded() -> Bounded:
    return Bounded()


def test_what_an_association_has_is_held_until_nothing_of_it_came_for_the_idle_timeout(
    bounded: Bounded,
) -> None:
    bounded.stored("one", A)
    bounded.now += 50
    bounded.stored("one", A)
    bounded.now += 59
    assert bounded.under_way.held_s(STUDY) == pytest.approx(1)
    assert bounded.of_study() == {A}
    bounded.now += 1
    assert bounded.under_way.held_s(STUDY) == 0
    assert bounded.incomplete_s() == 0
    assert bounded.of_study() == set()


def test_a_hold_that_was_over_begins_again_and_has_come_back(bounded: Bounded) -> None:
    bounded.stored("one", A)
    bounded.now += 60
    bounded.stored("one", A)
    assert bounded.under_way.held_s(STUDY) == 60
    bounded.closed("one")
    assert bounded.incomplete_s() == 5


def test_a_series_that_came_back_is_quiet_a_quiet_period_after_it_was_left(
    bounded: Bounded,
) -> None:
    bounded.stored("one", A)
    bounded.closed("one")
    assert bounded.incomplete_s() == 0
    bounded.now += 1
    bounded.stored("two", A)
    bounded.closed("two")
    assert bounded.incomplete_s(A) == 5
    assert bounded.incomplete_s(B) == 0
    bounded.now += 2
    assert bounded.under_way.of_study(STUDY, 5.0) == {A}
    bounded.now += 3
    assert bounded.incomplete_s(A) == 0
    assert bounded.under_way.of_study(STUDY, 5.0) == set()


def test_what_one_association_sends_in_turns_has_not_come_back(bounded: Bounded) -> None:
    bounded.stored("one", A, B, A, B)
    bounded.closed("one")
    assert bounded.incomplete_s() == 0


def test_whatever_ends_is_told_of_its_study(bounded: Bounded) -> None:
    bounded.stored("one", A, B)
    assert bounded.ended == [STUDY]
    bounded.under_way.closed("one", Ending.BROKEN)
    assert bounded.ended == [STUDY, STUDY]
    bounded.now += 2
    assert bounded.under_way.since_left_s(STUDY) == 2
    bounded.stored("two", B)
    bounded.under_way.lost("two")


def test_who_falls_silent_has_broken_nothing_off(bounded: Bounded) -> None:
    bounded.stored("one", A)
    bounded.closed("one", Ending.SILENT)
    assert bounded.of_study() == {A}


def test_of_series_that_were_left_the_latest_are_remembered(
    bounded: Bounded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.assembling.under_way._MOST_LEFT", 2)
    for association, series in (("one", A), ("two", B), ("three", C)):
        bounded.stored(association, series)
        bounded.closed(association)
    for association, series in (("four", A), ("five", C)):
        bounded.stored(association, series)
        bounded.closed(association)
    assert (bounded.incomplete_s(A), bounded.incomplete_s(C)) == (0, 5)


def test_how_the_last_sender_of_a_series_left_it_is_told(following: Following) -> None:
    following.stored("one", A, B)
    assert following.endings == [(A, Ending.WHOLE)]
    following.stored("two", B, C)
    assert following.endings == [(A, Ending.WHOLE)]  # the first one holds it
    following.under_way.lost("one")
    following.closed("two", Ending.SILENT)
    assert following.endings[1:] == [(B, Ending.BROKEN), (C, Ending.SILENT)]


def test_of_series_that_nobody_deals_with_only_the_latest_are_remembered(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no model is to begin early, nobody does."""
    monkeypatch.setattr("services.listener.assembling.under_way._MOST_LEFT", 2)
    for association, series in (("one", A), ("two", B), ("three", C)):
        following.stored(association, series)
        following.closed(association)
    following.now += 1
    assert following.under_way.settled(STUDY) == {B, C}
