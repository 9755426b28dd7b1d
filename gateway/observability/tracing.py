"""OpenTelemetry: the exporters of spans and events, and their ids.

Ids are derived from the exchange's id. Its UUID is the trace id, unless the client sent one, and the lower half of the
UUID is the span id. The calls of a run are one trace, below the span of the run, whose ids are derived from the run's
key. The consumer can therefore refer to a gateway's span, although they exchange no trace context.
opentelemetry is imported only when it is used: a gateway without an `otel` section pays nothing.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from gateway import __version__
from gateway.config.types import OtelConfig

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

_LOW = (1 << 64) - 1
_PARENT = re.compile(rb"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")


class SpanIds(NamedTuple):
    trace: int
    span: int
    parent: int  # the client's span; 0 if the client sent none
    sampled: bool

    @property
    def traceparent(self) -> bytes:
        """The `traceparent` header that is sent upstream."""
        return b"00-%032x-%016x-%02x" % (self.trace, self.span, self.sampled)


def run_ids(run_id: str, sample: float) -> SpanIds:
    """The ids of the span of a run. run_id: its key, with its part. sample: the share of runs to trace."""
    digest = sha256(run_id.encode()).hexdigest()
    span = int(digest[32:48], 16)
    return SpanIds(int(digest[:32], 16), span, 0, _drawn(span, sample))


def ids_of(exchange: str, traceparent: bytes | None, sample: float, run: str | None = None) -> SpanIds:
    """The ids of the span of one call.

    exchange: the exchange's id, a UUID.
    traceparent: the client's header; ignored if invalid or all zeros.
    sample: the share of calls to trace if the client does not decide, in [0, 1].
    run: the key of its run, which is traced as a whole or not at all; None if it has none.
    """
    number = UUID(exchange).int
    span = number & _LOW
    found = _PARENT.match(traceparent) if traceparent else None
    if found is not None:
        trace, parent = int(found[1], 16), int(found[2], 16)
        if trace and parent:
            return SpanIds(trace, span, parent, bool(int(found[3], 16) & 1))
    if run is not None:
        whole = run_ids(run, sample)
        return SpanIds(whole.trace, span, whole.span, whole.sampled)
    return SpanIds(number, span, 0, _drawn(span, sample))


def _drawn(span: int, sample: float) -> bool:
    return (span & (_LOW >> 2)) < sample * ((_LOW >> 2) + 1)


def tracing(otel: OtelConfig, ids: IdGenerator) -> TracerProvider:
    """Creates spans and exports them from a thread. It exports all: the sampling decision was made before."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    provider = TracerProvider(ALWAYS_ON, _resource(otel), id_generator=ids, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{otel.endpoint.rstrip('/')}/v1/traces", headers=otel.headers)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def events(otel: OtelConfig) -> LoggerProvider:
    """Creates events and exports them from a thread."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=_resource(otel), shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint=f"{otel.endpoint.rstrip('/')}/v1/logs", headers=otel.headers)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider


def below(trace: int, span: int, sampled: bool = True) -> Context:
    """The context for child spans of the given span."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, is_remote=True, trace_flags=flags)))


def _resource(otel: OtelConfig) -> Resource:
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": otel.service, "service.version": __version__})
