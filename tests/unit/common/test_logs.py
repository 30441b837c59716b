"""Logs say where something happened and never quote what it was about."""

from __future__ import annotations

import json
import subprocess
import sys

_PROGRAM = """
import logging, threading, warnings
from services.common.settings import TelemetrySettings
from services.common.telemetry import get_logger, setup_logs

setup_logs("listener", TelemetrySettings())
log = get_logger("test")

def fail():
    raise ValueError("Doe^John")

try:
    fail()
except ValueError as error:
    log.error("caught", exc_info=error)
    log.exception("caught_again")
    logging.getLogger("library").error("broke off", exc_info=True)
warnings.warn("Invalid value for VR DA: 'Doe^John'")
thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()
"""


def _events() -> tuple[str, list[dict[str, object]]]:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    return ended.stderr, [json.loads(line) for line in ended.stderr.splitlines()]


def test_text_of_an_exception_or_a_warning_never_reaches_the_log() -> None:
    text, events = _events()
    assert "Doe" not in text
    assert [event["event"] for event in events] == [
        "caught",
        "caught_again",
        "broke off",
        "thread_died",
    ]


def test_kind_and_place_of_an_exception_are_told() -> None:
    _, events = _events()
    for event in events:
        assert event["error"] == "ValueError"
        assert any("fail" in place for place in event["trace"])  # type: ignore[union-attr]


def test_every_event_names_its_service_from_any_thread() -> None:
    _, events = _events()
    assert {event["service"] for event in events} == {"listener"}
