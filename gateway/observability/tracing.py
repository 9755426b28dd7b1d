"""OpenTelemetry, for those who ask for it: where spans and events go, and which ids they have.

Ids come from the exchange's own: its UUID is the trace's id, where the client brought none, and its lower half the
span's. So the consumer names the span that a gateway made, and nothing is carried between them. Nothing here is
imported from opentelemetry before it is wanted: a gateway without the section pays nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from gateway import __version__
from gateway.config.types import OtelConfig
from gateway.core.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

MISSING = "otel: needs OpenTelemetry's SDK: pip install 'assay-gateway[otel]'"
_LOW = (1 << 64) - 1
_PARENT = re.compile(rb"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")


class SpanIds(NamedTuple):
    """Of one call's span. parent: the client's span; 0: it brought none."""

    trace: int
    span: int
    parent: int
    sampled: bool

    @property
    def traceparent(self) -> bytes:
        """The headers that are sent upstream."""
        return b"00-%032x-%016x-%02x" % (self.trace, self.span, self.sampled)


def ids_of(exchange: str, traceparent: bytes | None, sample: float) -> SpanIds:
    """exchange: its id, a UUID. A traceparent that is none (all zeros too) is as if there were none."""
    number = UUID(exchange).int
    span = number & _LOW
    found = _PARENT.match(traceparent) if traceparent else None
    if found is not None:
        trace, parent = int(found[1], 16), int(found[2], 16)
        if trace and parent:
            return SpanIds(trace, span, parent, bool(int(found[3], 16) & 1))
    return SpanIds(number, span, 0, (span & (_LOW >> 2)) < sample * ((_LOW >> 2) + 1))


def need() -> None:
    """Raises ConfigError where the extra is missing."""
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ConfigError([MISSING]) from error


def tracing(otel: OtelConfig, ids: IdGenerator) -> TracerProvider:
    """Makes spans, and sends them from a thread. All that are made are sent: who is traced was decided before."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    provider = TracerProvider(ALWAYS_ON, _resource(otel), id_generator=ids, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{otel.endpoint.rstrip('/')}/v1/traces", headers=otel.headers)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def events(otel: OtelConfig) -> LoggerProvider:
    """Makes events, and sends them from a thread."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=_resource(otel), shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint=f"{otel.endpoint.rstrip('/')}/v1/logs", headers=otel.headers)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider


def below(trace: int, span: int, sampled: bool = True) -> Context:
    """The context for child spans of this one."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, is_remote=True, trace_flags=flags)))


def _resource(otel: OtelConfig) -> Resource:
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": otel.service, "service.version": __version__})
