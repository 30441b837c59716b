"""Working memory is given back after a rest, and never under a run."""

from __future__ import annotations

import threading
import time

from models.runtime.idle import IdleRelease


def test_memory_is_released_after_a_rest() -> None:
    released = threading.Event()
    idle = IdleRelease(released.set, after_s=0.05)
    try:
        with idle.busy():
            pass
        assert released.wait(timeout=5.0)
    finally:
        idle.close()


def test_memory_is_not_released_before_it_was_used() -> None:
    released = threading.Event()
    idle = IdleRelease(released.set, after_s=0.01)
    idle.close()
    assert not released.is_set()


def test_a_run_is_never_interrupted() -> None:
    running = threading.Event()
    overlapped: list[bool] = []
    released = threading.Event()

    def release() -> None:
        overlapped.append(running.is_set())
        released.set()

    idle = IdleRelease(release, after_s=0.02)
    try:
        with idle.busy():
            pass
        with idle.busy():
            running.set()
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                assert not released.is_set()
            running.clear()
        assert released.wait(timeout=5.0)
    finally:
        idle.close()
    assert overlapped
    assert not any(overlapped)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    idle = IdleRelease(lambda: None, after_s=60.0)
    with idle.busy():
        pass
    idle.close()
    assert threading.active_count() == before
