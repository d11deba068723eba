"""Traces to an OpenTelemetry collector: spans wait in a bounded queue and are sent beside the flows. What finds no room is counted.

Events are told of by chance (`HEADWATER_OTLP__RATIO`, or as the sender of a `traceparent` has decided), decisions always.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from urllib.parse import unquote

import msgspec
import structlog

from headwater import __version__
from headwater.flows.meter import Meter
from headwater.flows.settings import Settings
from headwater.lineage.decode import Received
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event, Position
from headwater.lineage.record import Record
from headwater.lineage.spans import Attribute, Span, sending, spans_of
from headwater.lineage.traceparent import TraceContext, chosen, context_of, span_of, trace_of

_log = structlog.get_logger("headwater.telemetry")

ROOM = 10_000
"""Spans that may wait."""
TOGETHER = 500
"""Spans that are sent in one request."""
COMPANY_S = 0.5
"""How long a span waits for others."""
CLOSE_S = 5.0
DROPPED = "spans dropped"
SENT = "spans sent"


class Exporter(Protocol):
    """Where spans go."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Send them; may block. False: they did not arrive."""
        ...

    def close(self) -> None: ...


class Telemetry:
    """Takes spans and never waits. One thread sends them.

    exporter  where they go;  ratio  the share of traces of events that are told of;  clock  µs since 1970
    meter     counts what was sent and what was dropped: for want of room, or because the collector did not take it
    """

    def __init__(self, exporter: Exporter, ratio: float, clock: Callable[[], int], meter: Meter, room: int = ROOM) -> None:
        self._exporter, self._ratio, self._clock, self._meter = exporter, ratio, clock, meter
        self._waiting: queue.Queue[Span] = queue.Queue(room)
        self._closing = threading.Event()
        self._quiet = False
        self._thread = threading.Thread(target=self._send, name="telemetry", daemon=True)
        self._thread.start()

    def told(self, records: Iterable[Record]) -> None:
        """Records that a flow tells: those of decisions and what woke them are spans. Raises nothing: the flow's records matter more."""
        try:
            found = spans_of(records)
        except Exception as error:
            self._drop(1, f"a record makes no span: {type(error).__name__}: {error}")
            return
        for span in found:
            self._put(span)

    def begun(self, topic: str, event: Event) -> Event:
        """The event with a trace context of its own: its sender's trace goes on, or one begins. The same event gets the same one."""
        about = f"{topic}\x1f{event.id}"
        cause = context_of(event.traceparent)
        trace = trace_of(about) if cause is None else cause.trace
        sampled = chosen(trace, self._ratio) if cause is None else cause.sampled
        return msgspec.structs.replace(event, traceparent=TraceContext(trace, span_of(about), sampled).header)

    def published(self, topic: str, before: Sequence[Event], events: Sequence[Event], positions: Sequence[Position], start: int) -> None:
        """Events that the broker acknowledged, with what they were before `begun`."""
        end = self._clock()
        for given, event, position in zip(before, events, positions, strict=True):
            context = context_of(event.traceparent)
            if context is not None and context.sampled:
                cause = context_of(given.traceparent)
                attributes = {**sending(topic, event.id), **_place(position)}
                parent = "" if cause is None else cause.span
                self._put(
                    Span(context=context, name=f"send {topic}", kind="producer", start=start, end=end, parent=parent, attributes=attributes)
                )

    def indexed(self, received: Iterable[Received], outcomes: dict[Position, str], start: int) -> None:
        """Events that the index is done with, and how they ended."""
        end = self._clock()
        for one in received:
            context = context_of(one.event.traceparent)
            if context is None or not context.sampled:
                continue
            topic, outcome = one.position.topic, outcomes.get(one.position, "")
            attributes: dict[str, Attribute] = {
                "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": topic, "messaging.message.id": one.event.id, "messaging.consumer.group.name": "index",
                "headwater.outcome": outcome, "headwater.waited_ms": max(0, start - one.appended) / 1000, **_place(one.position),
            }  # fmt: skip
            own = TraceContext(context.trace, span_of(f"index\x1f{one.position}"))
            error = outcome if outcome in ("dead_lettered", "moved") else ""
            span = Span(
                context=own, name=f"process {topic}", kind="consumer", start=start, end=end, parent=context.span, attributes=attributes,
                error=error,
            )  # fmt: skip
            self._put(span)

    def close(self) -> None:
        """Send what waits, within a few seconds; what is left then is counted as dropped."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._drop(self._waiting.qsize(), "the collector did not answer before the end")
        self._exporter.close()

    def _put(self, span: Span) -> None:
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._drop(1, "the collector does not keep up")

    def _drop(self, many: int, why: str) -> None:
        if many:
            self._meter.count(DROPPED, many)
        if many and not self._quiet:
            self._quiet = True
            _log.warning("spans are dropped; the count goes on in the meter", many=many, why=why)

    def _send(self) -> None:
        while not (self._closing.is_set() and self._waiting.empty()):
            together = self._together()
            if not together:
                continue
            try:
                arrived = self._exporter.export(together)
            except Exception as error:
                arrived = False
                _log.debug("the exporter raised", error=str(error))
            if arrived:
                self._quiet = False
                self._meter.count(SENT, len(together))
            else:
                self._drop(len(together), "the collector did not take them")

    def _together(self) -> list[Span]:
        """What is sent in one request; nothing if nothing came for a moment."""
        try:
            found = [self._waiting.get(timeout=COMPANY_S)]
        except queue.Empty:
            return []
        self._closing.wait(COMPANY_S)
        while len(found) < TOGETHER:
            try:
                found.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return found


def telemetry_of(settings: Settings, app: str, instance: str, clock: Callable[[], int], meter: Meter) -> Telemetry | None:
    """Of the settings; None: they name no collector. Raises Misused."""
    if not settings.otlp_endpoint:
        return None
    try:
        from headwater.flows.otlp import OtlpExporter
    except ImportError as error:
        raise Misused(
            f"HEADWATER_OTLP__ENDPOINT is set, and {error.name} is not installed: pip install 'headwater[telemetry]', or leave it empty"
        ) from None
    exporter = OtlpExporter(settings.otlp_endpoint, f"headwater-{app}", instance, __version__, headers_of(settings.otlp_headers))
    return Telemetry(exporter, settings.otlp_ratio, clock, meter)


def headers_of(text: str) -> dict[str, str]:
    """The headers of `name=value,name=value`, values percent-encoded as OpenTelemetry has them. Raises Misused, telling no value."""
    pairs = [piece.partition("=") for piece in text.split(",") if piece.strip()]
    if any(not name.strip() or not equals for name, equals, _ in pairs):
        raise Misused("HEADWATER_OTLP__HEADERS is not understood; it takes name=value,name=value")
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def _place(position: Position) -> dict[str, Attribute]:
    return {"messaging.destination.partition.id": str(position.partition), "messaging.kafka.offset": position.offset}
