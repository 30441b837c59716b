"""Instances that came again, compared with what a store elsewhere holds, beside everything else.

Such a store may not answer for long. Nobody waits for the answer: the sender has heard of success,
the first instance is the one that is used, and this one lies in the spool until it is decided.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from services.common.store import StoreError
from services.common.telemetry import get_logger
from services.listener.backoff import backoff_s
from services.listener.registering.arrivals import Decided

_log = get_logger("listener")

_LEFT_WITHIN_S = 5.0


class Comparing:
    """A thread that deals with one instance after the other; a context manager.

    Args:
        deal: deals with an instance; an error of store, database or disk has the instance tried
            again.
    """

    def __init__(self, deal: Callable[[Decided], None]) -> None:
        self._deal = deal
        self._given: deque[Decided] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="comparing", daemon=True)

    def __enter__(self) -> Comparing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends after the one under way, or without it where the store does not answer.

        The spool keeps what was not dealt with.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_LEFT_WITHIN_S)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def add(self, one: Decided) -> None:
        """Has an instance dealt with."""
        with self._changed:
            self._given.append(one)
            self._changed.notify_all()

    def deal_with_all(self) -> None:
        """Deals with what is there, in the caller's thread; what is refused stays."""
        with self._changed:
            given, self._given = list(self._given), deque[Decided]()
        for one in given:
            try:
                self._deal(one)
            except (StoreError, SQLAlchemyError, OSError):
                self.add(one)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given or self._stopped)
                if self._stopped:
                    return
                one = self._given[0]
            try:
                self._deal(one)
            except (StoreError, SQLAlchemyError, OSError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("comparing_failed", problem=type(error).__name__)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, backoff_s(failures, 0.5))
                continue
            failures = 0
            with self._changed:
                self._given.popleft()
