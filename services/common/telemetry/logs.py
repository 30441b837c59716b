"""Logs are events with fields, one per fact, as JSON lines on standard error.

UIDs appear only through `services.common.identity.hashed`. Libraries' own log lines are kept from
warning level up; pynetdicom's and highdicom's may quote data sets and are cut to errors.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, cast

import structlog
from structlog.typing import EventDict, Processor

from services.common.settings import TelemetrySettings

# Loggers of libraries that may quote attributes of a data set. Python's warnings are among them:
# pydicom warns with the very UID, date or name that it doubts.
_TALKATIVE = ("pynetdicom", "pydicom", "highdicom", "pydicom.valuerep", "py.warnings")


def setup_logs(service: str, settings: TelemetrySettings) -> None:
    """Sends this process's events to standard error."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        _names_the_service(service),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shows_where_not_what,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_names_the_kind)
    threading.excepthook = _log_dead_thread
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a room: ``log.info("series_received", instances=170)``."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(room=room))


def _log_dead_thread(ended: threading.ExceptHookArgs) -> None:
    """A thread that ends by an exception is an event like any other, and no text on stderr."""
    name = ended.thread.name if ended.thread else "unknown"
    get_logger("common").error("thread_died", thread=name, exc_info=ended.exc_value)


def _names_the_service(service: str) -> Processor:
    """Every event says which process it is of, from whatever thread."""

    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _names_the_kind(record: logging.LogRecord) -> bool:
    """Where a library logs an exception as its message, what is kept is the exception's kind."""
    said: object = record.msg
    if isinstance(said, BaseException):
        record.msg, record.args = type(said).__name__, ()
    return True


def _shows_where_not_what(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replaces an exception by its kind and the places it went through.

    Its text is left out: libraries quote the values they stumble over, and those may be a
    patient's name.
    """
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = cast(tuple[Any, ...], error)[1]
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["trace"] = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]
    return event
