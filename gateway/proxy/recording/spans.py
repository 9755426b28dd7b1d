"""One span for each call, by OpenTelemetry's conventions for generative AI, and `traceparent` for the upstream.

A span is the call as its client saw it, with all attempts. It never holds any content.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode

from gateway.config.types import OtelConfig
from gateway.core.exchange import CLIENT_ENDED
from gateway.core.prices import Prices
from gateway.observability.tracing import SpanIds, below, ids_of, tracing
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import Endpoint

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

_NAME = b"traceparent"


class _Next(IdGenerator):
    """Returns the ids that were chosen when the call arrived. One thread creates all spans, each in one step."""

    trace = span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class Spans:
    def __init__(self, otel: OtelConfig) -> None:
        self._sample = otel.sample
        self._next = _Next()
        self._provider = tracing(otel, self._next)
        self._tracer = self._provider.get_tracer("gateway")

    def carry(self, call: Call) -> SpanIds:
        """Makes the call's span the parent of the upstream's spans: sets `traceparent` among the call's headers."""
        given = next((value for name, value in call.headers if name == _NAME), None)
        ids = ids_of(call.id, given, self._sample, None if call.run is None else call.run.key)
        call.headers[:] = [h for h in call.headers if h[0] != _NAME]
        call.headers.append((_NAME, ids.traceparent))
        return ids

    def begin(self, call: Call, context: CallContext) -> Call:
        """The stage of a call in which its span begins."""
        context.notes.span = self.carry(call)
        return call

    def ended(self, endpoint: Endpoint, call: Call, context: CallContext, prices: Prices) -> None:
        ids = context.notes.span or self.carry(call)  # it was refused before it had one
        if not ids.sampled:
            return
        parent = below(ids.trace, ids.parent) if ids.parent else Context()
        self._next.trace, self._next.span = ids.trace, ids.span
        start = int(call.received * 1e9)
        span = self._tracer.start_span(
            f"{endpoint.operation} {call.alias if context.target_state else ''}".rstrip(),
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes(endpoint, call, context, prices),
            start_time=start,
        )
        if failure := failure_of(context):
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(start + int((time.monotonic() - call.started) * 1e9))

    def close(self) -> None:
        self._provider.shutdown()


def failure_of(context: CallContext) -> str:
    """The span's error type; "" if the call succeeded, or its client left."""
    if context.notes.error_code:
        return context.notes.error_code
    if context.outcome == "ok" or context.outcome in CLIENT_ENDED:
        return str(context.status) if context.status >= 400 else ""
    return context.outcome


def attributes(endpoint: Endpoint, call: Call, context: CallContext, prices: Prices) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": endpoint.operation,
        "gen_ai.response.id": call.id,
        "gateway.key": call.caller.name,
        "gateway.outcome": context.outcome,
        "gateway.attempts": len(context.attempts),
        "http.response.status_code": context.status,
    }
    if (target_state := context.target_state) is not None:
        found["gen_ai.provider.name"] = target_state.upstream.config.provider.otel_name
        found["gen_ai.request.model"] = call.named or call.alias
        found["gen_ai.response.model"] = target_state.target.model
        found["gateway.upstream"] = target_state.target.upstream
        target, charge = target_state.target, context.charge
        cost = prices.of_call(target, context.usage, context.attempts) if charge is None else charge.usd
        if cost is not None:
            found["gateway.cost_usd"] = cost
    if context.attempts:
        found["gateway.attempt.targets"] = [str(a.target) for a in context.attempts]
        found["gateway.attempt.statuses"] = [a.status or 0 for a in context.attempts]
        found["gateway.attempt.seconds"] = [a.seconds for a in context.attempts]
    if (usage := context.usage) is not None:
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        found["gen_ai.usage.output_tokens"] = usage.output_tokens
    if call.stream and context.first_content is not None:
        found["gateway.first_token_s"] = context.first_content - call.started
    if failure := failure_of(context):
        found["error.type"] = failure
    return found
