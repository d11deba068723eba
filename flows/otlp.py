"""Spans over OTLP/HTTP, by OpenTelemetry's own exporter (extra `telemetry`)."""

import logging
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from headwater.lineage.spans import Span
from headwater.lineage.traceparent import TraceContext

TIMEOUT_S = 10.0
logging.getLogger("opentelemetry.exporter.otlp").addHandler(logging.NullHandler())
"""Its complaints, one with every batch, reach whoever listens to Python's logs, and not the terminal: `flows.telemetry` tells it once."""
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}


class OtlpExporter:
    """Sends to `endpoint` (`http://collector:4318`; the path of traces is added), tried again for at most ten seconds.

    service  the name that the spans come under;  instance  names the process;  headers  such as an API key
    """

    def __init__(self, endpoint: str, service: str, instance: str, version: str, headers: Mapping[str, str]) -> None:
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", headers=dict(headers), timeout=TIMEOUT_S)
        named = {"service.name": service, "service.version": version, "service.instance.id": instance}
        self._resource = Resource.create(named)
        self._scope = InstrumentationScope("headwater", version)

    def export(self, spans: Sequence[Span]) -> bool:
        return self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        parent = TraceContext(span.context.trace, span.parent) if span.parent else None
        return ReadableSpan(
            name=span.name,
            context=_context(span.context, remote=False),
            parent=_context(parent, remote=True) if parent is not None else None,
            resource=self._resource,
            attributes={**span.attributes, **({"error.type": span.error} if span.error else {})},
            links=[Link(_context(link, remote=True)) for link in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start * 1000,
            end_time=span.end * 1000,
            instrumentation_scope=self._scope,
        )


def _context(context: TraceContext, *, remote: bool) -> SpanContext:
    return SpanContext(int(context.trace, 16), int(context.span, 16), remote, TraceFlags(int(context.sampled)))
