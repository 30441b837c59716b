"""Spans that follow a study through all services: one trace per revision.

The trace's id derives from the revision, so that every process, also one that takes up the work
of a dead one, continues the same trace. Context travels as W3C ``traceparent``.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.identity import sha256_hex
from services.common.settings import Settings

_PROPAGATOR = TraceContextTextMapPropagator()
Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """An open span.

    Attributes:
        traceparent: the context to hand on; empty when tracing is off.
    """

    traceparent: str
    _span: trace.Span

    def set(self, **attributes: Attribute) -> None:
        """Adds attributes: counts, codes and hashes, never patient data."""
        self._span.set_attributes(attributes)


def root_traceparent(*seed: str | int) -> str:
    """A trace context that derives from `seed`: the same revision, the same trace."""
    digest = sha256_hex("\x1f".join(map(str, seed)).encode())
    return f"00-{digest[:32]}-{digest[32:48]}-01"


@contextmanager
def span(
    name: str, parent: str = "", started_at: dt.datetime | None = None, **attributes: Attribute
) -> Generator[Span]:
    """Opens a span named ``room.step`` below `parent` (a traceparent), else below the current.

    Args:
        started_at: when the step began, if that was before this call.
    """
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    tracer = trace.get_tracer("axial")
    start_ns = None if started_at is None else int(started_at.timestamp() * 1e9)
    with tracer.start_as_current_span(
        name, context=context, attributes=attributes, start_time=start_ns
    ) as opened:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        yield Span(carrier.get("traceparent", parent), opened)


def setup_traces(service: str, settings: Settings) -> None:
    """Sends this process's spans where the settings say."""
    kind = settings.telemetry.traces
    if kind == "none":
        return
    provider = TracerProvider(resource=Resource.create({"service.name": f"axial-{service}"}))
    if kind == "file":
        file = settings.data_dir / "traces" / f"{service}.jsonl"
        provider.add_span_processor(SimpleSpanProcessor(_FileExporter(file)))
    else:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=settings.telemetry.otlp_endpoint)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


class _FileExporter(SpanExporter):
    """One span per line, appended; a span is on file when it has ended."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(json.dumps(json.loads(item.to_json(indent=None))) + "\n" for item in spans)
        with self._lock, self._file.open("a", encoding="utf-8") as out:
            out.write(lines)
        return SpanExportResult.SUCCESS
