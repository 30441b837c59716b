"""Trying again: exponential backoff with jitter, an end, and a way out when the process stops."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from services.common.errors import AxialError
from services.common.telemetry import get_logger
from services.orchestrator.errors import DatabaseUnavailable

_T = TypeVar("_T")
_log = get_logger("orchestrator")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0


class Stopping(BaseException):
    """The process is stopping: the workflow stays pending, and the next start resumes it.

    No `Exception`, so that no handler on the way mistakes it for a failure of the job.
    """


def with_retries(
    call: Callable[[], _T], *, attempts: int | None, stopping: threading.Event, what: str
) -> _T:
    """Repeats a call until it succeeds, at most `attempts` times, after retryable errors only.

    Args:
        call: what is tried.
        attempts: None tries without end, for what must be written down before work may end.
        stopping: ends the waiting.
        what: the call's name in the log.

    Raises:
        AxialError: the last error, when it is not retryable or the attempts are used up.
        Stopping: the process was asked to stop while waiting.
    """
    for attempt in itertools.count(1):
        if stopping.is_set():
            raise Stopping
        try:
            return _call(call)
        except AxialError as error:
            if not error.retryable or attempt == attempts:
                raise
            longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt - 1, 30))
            wait_s = max(error.retry_after_s or 0.0, random.uniform(longest / 2, longest))  # noqa: S311
            _log.warning("retrying", what=what, attempt=attempt, wait_s=round(wait_s, 2))
            if stopping.wait(wait_s):
                raise Stopping from error
    raise AssertionError("counting has no end")


def _call(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except (OperationalError, InterfaceError) as error:
        _log.warning("database_unavailable", kind=type(error).__name__)
        raise DatabaseUnavailable from error
