"""Logs, metrics and traces, set up once per process. None of them carries patient data.

The audit trail is `services.common.telemetry.audit`.
"""

from services.common.telemetry.logs import get_logger, setup_logs
from services.common.telemetry.traces import Span, root_traceparent, setup_traces, span

__all__ = [
    "Span",
    "get_logger",
    "root_traceparent",
    "setup_logs",
    "setup_traces",
    "span",
]
