"""The bell that wakes the job queue."""

from __future__ import annotations

import threading
import time

from services.orchestrator.work_queue import JOBS, Bell, WorkQueue


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


def test_patience_stretches_a_wait_and_no_ring_waits_for_it() -> None:
    bell = Bell()
    bell.patience = 100.0
    threading.Timer(0.02, bell.ring).start()
    begun = time.monotonic()
    assert bell.wait(0.5) is False
    assert time.monotonic() - begun < 25.0


def test_looks_after_a_ring_come_when_they_were_asked_for() -> None:
    bell = Bell()
    bell.patience = 20.0
    bell.ring()
    bell.wait(0.02)
    waits: list[float] = []
    for _ in range(4):
        begun = time.monotonic()
        bell.wait(0.02)
        waits.append(time.monotonic() - begun)
    assert waits[3] >= 0.39 > max(waits[:3])


def test_a_worker_that_is_alone_no_more_looks_at_once() -> None:
    queue = WorkQueue(JOBS, 1)
    bell = queue._bell  # pyright: ignore[reportPrivateUsage]
    queue.know_alone(True)
    assert bell.patience > 1.0
    bell.wait(0.0)
    queue.know_alone(True)
    queue.know_alone(False)
    begun = time.monotonic()
    bell.wait(20.0)
    assert time.monotonic() - begun < 10.0
    assert bell.patience == 1.0
