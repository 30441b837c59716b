"""The bell that wakes the job queue."""

from __future__ import annotations

import threading
import time

from services.orchestrator.work_queue import Bell


def test_ring_wakes_the_waiter_and_is_no_stop() -> None:
    bell = Bell()
    threading.Timer(0.02, bell.ring).start()
    begun = time.monotonic()
    assert bell.wait(10.0) is False
    assert time.monotonic() - begun < 5.0


def test_ring_while_nobody_waits_is_heard_by_the_next_wait() -> None:
    bell = Bell()
    bell.ring()
    begun = time.monotonic()
    assert bell.wait(10.0) is False
    assert time.monotonic() - begun < 5.0


def test_each_ring_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.wait(0.0)
    begun = time.monotonic()
    assert bell.wait(0.05) is False
    assert time.monotonic() - begun >= 0.04


def test_set_stops_every_wait() -> None:
    bell = Bell()
    bell.set()
    assert bell.wait(10.0) is True
    assert bell.wait(10.0) is True
