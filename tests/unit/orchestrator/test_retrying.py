"""Trying again has an end, and a way out."""

from __future__ import annotations

import threading

import pytest

from services.common.errors import AxialError
from services.orchestrator import retrying
from services.orchestrator.retrying import Stopping, with_retries


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 0.001)


class _Flaky:
    def __init__(self, failures: int, *, retryable: bool = True) -> None:
        self.calls = 0
        self._failures = failures
        self._retryable = retryable

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise AxialError("busy", retryable=self._retryable)
        return self.calls


def test_retryable_error_is_tried_again() -> None:
    assert with_retries(_Flaky(2), attempts=5, stopping=threading.Event(), what="x") == 3


def test_attempts_have_an_end() -> None:
    call = _Flaky(9)
    with pytest.raises(AxialError, match="busy"):
        with_retries(call, attempts=3, stopping=threading.Event(), what="x")
    assert call.calls == 3


def test_what_must_be_written_down_is_tried_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "LONGEST_WAIT_S", 0.0)
    call = _Flaky(2000)
    assert with_retries(call, attempts=None, stopping=threading.Event(), what="x") == 2001


def test_permanent_error_is_not_tried_again() -> None:
    call = _Flaky(9, retryable=False)
    with pytest.raises(AxialError):
        with_retries(call, attempts=3, stopping=threading.Event(), what="x")
    assert call.calls == 1


def test_stopping_process_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(retrying, "LONGEST_WAIT_S", 60.0)
    stopping = threading.Event()
    threading.Timer(0.05, stopping.set).start()
    with pytest.raises(Stopping):
        with_retries(_Flaky(9), attempts=3, stopping=stopping, what="x")
