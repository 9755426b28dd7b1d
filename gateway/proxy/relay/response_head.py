"""The head of a response: ids, the target, the gateway's overhead and the rate limits, after the upstream's headers."""

from __future__ import annotations

from gateway.proxy.relay.state import RelayState
from gateway.proxy.request.call import DECISION_APIS
from gateway.proxy.request.header_rules import without_provider
from gateway.proxy.request.vendor_paths import BEDROCK_APIS
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import Headers

_LINES = b"x-request-id: %b\r\n%bx-gateway-attempts: %d\r\nx-gateway-overhead-ms: %.2f\r\nopenai-processing-ms: %d"


def start_response(
    state: RelayState,
    target_state: TargetState,
    status: int,
    headers: Headers,
    now: float,
    length: int | None = None,
    *,
    answered: bool = True,
) -> None:
    """Starts the client's response: the upstream's headers, then the gateway's own.

    headers: the upstream's, already filtered. now: monotonic seconds. answered: the response comes from an attempt
    that is still running; False: from one that is already in `failed`.
    """
    call, context, assignment = state.call, state.context, state.route.assignment
    named = target_state.header_lines
    if not call.caller.sees_upstreams:
        named, headers = b"", without_provider(headers)
    elapsed_s = now - call.started
    overhead_s = elapsed_s - state.upstream_s - state.backoff_s
    if overhead_s < 0.0:
        overhead_s = 0.0
    context.notes.overhead_s = overhead_s
    attempts = answered + len(state.failed) if state.failed else answered
    call_id = call.id.encode()
    lines = _LINES % (call_id, named, attempts, overhead_s * 1000, elapsed_s * 1000)
    if call.api in ("messages", "count_tokens"):
        lines += b"\r\nrequest-id: " + call_id  # the name that Anthropic's clients read
    elif call.api in BEDROCK_APIS:
        lines += b"\r\nx-amzn-requestid: " + call_id
    elif call.api in DECISION_APIS:
        reads = state.route.reads
        lines += b"\r\nx-gateway-decision: " + (b"native" if reads is None else reads.reading.encode())
        if state.losses:
            lines += b"\r\nx-gateway-decision-loss: " + state.losses.encode()
        if state.route.choice is not None:
            lines += state.route.choice.action
    if context.reservation is not None and context.reservation.lines:
        lines += b"\r\n" + context.reservation.lines
        for name, _ in headers:
            if name[:12] == b"x-ratelimit-":  # of the gateway's own account at the upstream
                headers = [h for h in headers if h[0][:12] != b"x-ratelimit-"]
                break
    if state.route.choice is not None and call.caller.sees_upstreams:
        lines += state.route.choice.header_line
    if state.route.tiered_down:
        lines += b"\r\nx-gateway-tier: budget"
    state.client.start(status, headers if assignment is None else [*headers, *assignment.headers], length, lines)
