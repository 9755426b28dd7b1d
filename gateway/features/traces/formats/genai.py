"""Spans of calls to models, in the three dialects that instrumentations write. Pure.

Sources: OpenTelemetry, "Semantic conventions for generative AI" (gen_ai.input.messages, gen_ai.output.messages,
gen_ai.system_instructions, as attributes of the span or of its events); OpenLLMetry before 0.50 (gen_ai.prompt.N,
gen_ai.completion.N); OpenInference (llm.input_messages.N, llm.output_messages.N).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.exchange import Usage
from gateway.core.json_values import as_decimal, as_list, as_object, as_text, decoded
from gateway.features.traces.formats.otlp import TIME_NS, Attributes, Span
from gateway.features.traces.messages import (
    FINISHED,
    Message,
    answer_of,
    chat_response,
    error_response,
    messages_of,
    system_of,
    tools_of,
)
from gateway.features.traces.model import SpanRecord, TracedCall

CALLS = ("chat", "text_completion", "generate_content", "completion")
NO_REQUEST = (
    "has no prompt: let the instrumentation record it (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only "
    "with OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental)"
)
NO_ANSWER = "has a prompt and no answer: let the instrumentation record outputs, too"
FIRST_TOKEN = ("First Token Stream Event", "gen_ai.content.completion.chunk")
"""Events of OpenInference and OpenLLMetry at pieces of a streamed answer."""
_PARAMETERS = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
_MOST_MESSAGES = 10_000
_MOST_TOKENS = 1 << 53
"""Above it, a double is not a count."""
_DEEPEST = 32
"""Parts of an attribute's name that become nested objects."""
_WHOLE = 1 << 56


def record_of(span: Span, place: str) -> SpanRecord:
    """Reads a span's description of a call; None if it describes none."""
    a: dict[str, Any] = {}
    for event in span.events:
        a |= event
    a |= span.attributes
    at = f"{place}: span {span.id}"
    if not _is_call(a):
        return SpanRecord(at, span.trace, span.id, span.parent)
    asked, answer = _asked(a), _answer(a)
    if not asked:
        return SpanRecord(at, span.trace, span.id, span.parent, left_out=NO_REQUEST)
    if answer is None and not span.failed:
        return SpanRecord(at, span.trace, span.id, span.parent, left_out=NO_ANSWER)
    return SpanRecord(at, span.trace, span.id, span.parent, _call(span, a, asked, answer))


def _is_call(a: Attributes) -> bool:
    operation = as_text(a.get("gen_ai.operation.name"))
    if operation:
        return operation in CALLS
    kind = as_text(a.get("openinference.span.kind"))
    if kind:
        return kind.upper() == "LLM"
    if as_text(a.get("llm.request.type")):
        return a["llm.request.type"] in CALLS
    return "gen_ai.request.model" in a and bool(as_text(_first(a, "gen_ai.provider.name", "gen_ai.system")))


def _call(span: Span, a: Attributes, asked: list[Message], answer: tuple[Message, str | None] | None) -> TracedCall:
    model = as_text(_first(a, "gen_ai.request.model", "llm.request.model_name", "llm.model_name"))
    answered = as_text(_first(a, "gen_ai.response.model", "llm.response.model_name", "llm.model_name"))
    usage, status = _usage(a), 200
    if answer is None:
        kind = as_text(a.get("error.type")) or as_text(a.get("exception.type"))
        status = _status(a, kind)
        body = error_response(span.message or as_text(a.get("exception.message")), kind)
    else:
        body = chat_response(answer, answered or model, as_text(a.get("gen_ai.response.id")), _usage_json(usage))
    return TracedCall(
        trace=span.trace,
        span=span.id,
        began=span.start_ns / 1e9,
        seconds=(span.end_ns - span.start_ns) / 1e9,
        model=model or answered,
        provider=as_text(_first(a, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")),
        request={"model": model or answered, "messages": asked, **_parameters(a)},
        response=body,
        answered_by=answered,
        status=status,
        outcome="ok" if answer is not None else "upstream_error",
        usage=usage,
        first_token_s=_first_token(span, a),
        stream=_streamed(a),
        caller=as_text(span.resource.get("service.name")),
        user=str(_first(a, "enduser.id", "user.id", "gen_ai.user", "llm.user") or ""),
        conversation=as_text(_first(a, "gen_ai.conversation.id", "session.id", "langfuse.session.id")),
        pi=kept_with(span.state, a),
    )


def kept_with(state: str, a: Attributes) -> float | None:
    """The probability with which a sampler kept the trace: of the tracestate, or as Honeycomb's SampleRate. None if it
    is not stated.

    Source: OpenTelemetry, "TraceState: Probability Sampling": the threshold `th` is a fraction of 2^56 in hexadecimal
    digits without trailing zeros; older samplers wrote `p`, for 2^-p.
    """
    for member in state.split(","):
        vendor, _, values = member.strip().partition("=")
        if vendor != "ot":
            continue
        given = dict(value.partition(":")[::2] for value in values.split(";"))
        th, p = given.get("th", ""), given.get("p", "")
        if th and len(th) <= 14 and set(th) <= set("0123456789abcdef"):
            return (_WHOLE - int(th.ljust(14, "0"), 16)) / _WHOLE
        if (power := as_decimal(p)) is not None and power <= 62:
            return float(2**-power)
    rate = a.get("SampleRate")
    return 1.0 / rate if isinstance(rate, int | float) and not isinstance(rate, bool) and rate >= 1 else None


def _asked(a: Attributes) -> list[Message]:
    found = messages_of(a.get("gen_ai.input.messages"))
    if found:
        return [*system_of(a.get("gen_ai.system_instructions")), *found]
    numbered = [*_numbered(a, "gen_ai.prompt"), *_numbered(a, "llm.input_messages")]
    if numbered:
        return [message for each in numbered for message in messages_of([_plain(each)])]
    texts = [as_text(as_object(each.get("prompt")).get("text")) for each in _numbered(a, "llm.prompts")]
    return messages_of([text for text in texts if text] or a.get("input.value"))


def _answer(a: Attributes) -> tuple[Message, str | None] | None:
    reasons = as_list(a.get("gen_ai.response.finish_reasons"))
    found = answer_of(a.get("gen_ai.output.messages"))
    if found is None:
        numbered = [*_numbered(a, "gen_ai.completion"), *_numbered(a, "llm.output_messages")]
        found = answer_of(_plain(numbered[0])) if numbered else answer_of(a.get("output.value"))
    if found is None:
        return None
    message, reason = found
    stated = reason or (as_text(reasons[0]) if reasons else "") or as_text(a.get("llm.finish_reason"))
    return message, FINISHED.get(stated, stated) or None


def _numbered(a: Attributes, prefix: str) -> Iterator[dict[str, Any]]:
    """The values of `prefix.0.…`, `prefix.1.…`, each as nested objects, in the order of their numbers."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in a.items():
        if not name.startswith(f"{prefix}."):
            continue
        place, _, path = name[len(prefix) + 1 :].partition(".")
        number = as_decimal(place)
        if number is not None and path and number < _MOST_MESSAGES:
            _set(found.setdefault(number, {}), path.split(".", _DEEPEST), value)
    yield from (found[number] for number in sorted(found))


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            return
        tree = below
    tree[path[-1]] = value


def _plain(numbered: Mapping[str, Any]) -> dict[str, Any]:
    """A message of numbered attributes in the form of Chat Completions."""
    of = as_object(numbered.get("message")) or numbered
    message: dict[str, Any] = {"role": as_text(of.get("role")) or "user"}
    parts = [as_object(each.get("message_content")) for each in _rows(of.get("contents"))]
    message["content"] = decoded_parts(of["content"]) if of.get("content") else parts or None
    calls = [_tool_call(each) for each in _rows(of.get("tool_calls"))]
    if calls:
        message["tool_calls"] = calls
    for name in ("tool_call_id", "finish_reason"):
        if of.get(name):
            message[name] = of[name]
    return message


def decoded_parts(content: Any) -> Any:
    """A content that may be the JSON of a list of parts."""
    found = decoded(content)
    return found if isinstance(found, list) else content


def _rows(numbered: Any) -> list[dict[str, Any]]:
    given = as_object(numbered)
    places = {place: -1 if (number := as_decimal(place)) is None else number for place in given}
    return [as_object(given[place]) for place in sorted(given, key=places.__getitem__)]


def _tool_call(of: Mapping[str, Any]) -> dict[str, Any]:
    call = as_object(of.get("tool_call")) or of
    function = as_object(call.get("function")) or call
    named = {"name": as_text(function.get("name")), "arguments": as_text(function.get("arguments")) or "{}"}
    return {"id": as_text(call.get("id")), "type": "function", "function": named}


def _parameters(a: Attributes) -> dict[str, Any]:
    found = {name: a[f"gen_ai.request.{name}"] for name in _PARAMETERS if f"gen_ai.request.{name}" in a}
    given = as_object(decoded(a.get("llm.invocation_parameters")))
    found |= {name: given[name] for name in _PARAMETERS if name in given and name not in found}
    if stop := a.get("gen_ai.request.stop_sequences"):
        found["stop"] = stop
    tools = tools_of(a.get("gen_ai.tool.definitions")) or tools_of(
        [as_object(each.get("tool")).get("json_schema") for each in _numbered(a, "llm.tools")]
    )
    if tools:
        found["tools"] = tools
    if a.get("gen_ai.output.type") == "json":
        found["response_format"] = {"type": "json_object"}
    elif "response_format" in given:
        found["response_format"] = given["response_format"]
    return found


_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
_REASONING = ("gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning")


def _usage(a: Attributes) -> Usage | None:
    given, made, cached, thought = (_count(_first(a, *names)) for names in (_INPUT, _OUTPUT, _CACHED, _REASONING))
    return None if given is None and made is None else Usage(given or 0, made or 0, cached, thought)


def _usage_json(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    body: dict[str, Any] = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    if usage.cached_input_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def _first(a: Attributes, *names: str) -> Any:
    return next((a[name] for name in names if a.get(name) is not None), None)


def _streamed(a: Attributes) -> bool:
    stated = _first(a, "gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
    return stated is True or as_object(decoded(a.get("llm.invocation_parameters"))).get("stream") is True


def _first_token(span: Span, a: Attributes) -> float | None:
    """Seconds until the first token, as the span says; else until the first event that an instrumentation writes for a
    piece of the answer."""
    if (stated := _seconds(a.get("gen_ai.response.time_to_first_chunk"))) is not None:
        return stated
    times = [event[TIME_NS] for event in span.events if event["event.name"] in FIRST_TOKEN and TIME_NS in event]
    return max(0, min(times) - span.start_ns) / 1e9 if times else None


def _count(value: Any) -> int | None:
    """The value as a number of tokens; None for what is not one."""
    counts = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return int(value) if counts else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _status(a: Attributes, kind: str) -> int:
    """The HTTP status of a call that failed; 500: it is not stated."""
    stated = _first(a, "http.response.status_code", "http.status_code")
    number = stated if isinstance(stated, int) else as_decimal(kind)
    return number if number is not None and 400 <= number <= 599 else 500
