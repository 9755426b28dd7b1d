"""OpenTelemetry of the consumer: scores as `gen_ai.evaluation.result` events, and prompts and answers as spans.

An event is a child of the span of its call and has no explanation: a judge's words may quote the answer. The span of a
call that belongs to its client's trace is found by `gen_ai.response.id`, which the span has as well.

Spans of content are off unless `otel.content` is set. Each recorded exchange becomes a span below its call's span,
with the messages in the form of the conventions for generative AI. The consumer sends it, not the gateway: what it
reads has been sampled and redacted, and no call waits. The span has no tokens and no price, which the call's own span
has; otherwise they would be summed twice.

Source: OpenTelemetry, "Semantic conventions for generative client AI spans" 1.37 (gen_ai.input.messages,
gen_ai.output.messages, gen_ai.system_instructions; as JSON text, since spans have no nested attributes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind

from gateway.config.types import OtelConfig
from gateway.consumer.entry_scoring import ReadEntry
from gateway.core.completion import Completion
from gateway.core.exchange import IMPORTED, Exchange, run_key
from gateway.core.json_values import as_list, as_object, parse_object
from gateway.core.score import ScoreResult
from gateway.observability.tracing import SpanIds, below, events, ids_of, tracing
from gateway.store.rows import ScoredExchange

MOST_CHARACTERS = 20_000
"""Length of one part; the rest is cut off, with a note."""

Part = dict[str, Any]


class ContentSpans:
    """Emits the spans of one consumer, and exports them from a thread."""

    def __init__(self, otel: OtelConfig) -> None:
        self._sample = otel.sample
        self._provider = tracing(otel, RandomIdGenerator())
        self._tracer = self._provider.get_tracer("gateway.evals")

    def emit(self, judged: ScoredExchange) -> None:
        exchange = judged.exchange
        ids = _ids(exchange, self._sample)
        if not ids.sampled:
            return
        start = int(exchange.received * 1e9)
        span = self._tracer.start_span(
            f"content {exchange.alias}",
            context=below(ids.trace, ids.span),
            kind=SpanKind.INTERNAL,
            attributes=content_attributes(exchange, judged.completion),
            start_time=start,
        )
        span.end(start + int(exchange.total_s * 1e9))

    def close(self) -> None:
        """Exports the spans that wait."""
        self._provider.shutdown()


def _ids(exchange: Exchange, sample: float) -> SpanIds:
    """The ids of the span of its call, if the client sent no trace of its own."""
    of_run = exchange.run is not None and exchange.role == "served"
    return ids_of(exchange.id, None, sample, run_key(exchange.caller, exchange.run or "") if of_run else None)


def content_attributes(exchange: Exchange, completion: Completion) -> dict[str, Any]:
    """Attributes of a span, without messages where the caller's content is not recorded."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": "text_completion" if exchange.api == "completions" else "chat",
        "gen_ai.response.id": exchange.id,
        "gateway.key": exchange.caller,
        "gateway.upstream": exchange.target.upstream,
        "gateway.inclusion_probability": exchange.pi,
    }
    if exchange.experiment is not None:
        found["gateway.experiment"], found["gateway.arm"] = exchange.experiment, exchange.arm or ""
    request = parse_object(exchange.request)
    if not request:  # cut at sampling.max_kb, or without content
        return found
    if instructions := [*_parts(request.get("system", request.get("instructions")))]:
        found["gen_ai.system_instructions"] = _text(instructions)
    found["gen_ai.input.messages"] = _text([*_turns(request)])
    found["gen_ai.output.messages"] = _text([_answer(completion)])
    return found


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _answer(completion: Completion) -> dict[str, Any]:
    parts: list[Part] = []
    if completion.reasoning:
        parts.append({"type": "reasoning", "content": _cut(completion.reasoning)})
    if completion.text or completion.refusal:
        parts.append({"type": "text", "content": _cut(completion.text or completion.refusal)})
    parts += (_tool_call(call.id, call.name, call.arguments) for call in completion.tool_calls)
    return {"role": "assistant", "parts": parts, "finish_reason": completion.finish_reason or "error"}


def _turns(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The conversation, as chat, completions, messages or responses spell it."""
    given = request.get("messages", request.get("input", request.get("prompt")))
    for turn in given if isinstance(given, list) else [given]:
        if isinstance(turn, str):
            yield {"role": "user", "parts": [*_parts(turn)]}
        elif isinstance(turn, dict):
            yield {"role": _role(turn), "parts": [*_turn_parts(turn)]}


def _role(turn: Mapping[str, Any]) -> str:
    role = turn.get("role")
    return role if isinstance(role, str) else "tool" if turn.get("type") == "function_call_output" else "assistant"


def _turn_parts(turn: Mapping[str, Any]) -> Iterator[Part]:
    kind = turn.get("type")
    if kind == "function_call":
        yield _tool_call(turn.get("call_id"), turn.get("name"), turn.get("arguments"))
    elif kind == "function_call_output":
        yield _tool_result(turn.get("call_id"), turn.get("output"))
    elif turn.get("role") == "tool":
        yield _tool_result(turn.get("tool_call_id"), turn.get("content"))
    else:
        yield from _parts(turn.get("content"))
        for call in as_list(turn.get("tool_calls")):
            function = as_object(call).get("function")
            if isinstance(function, dict):
                yield _tool_call(call.get("id"), function.get("name"), function.get("arguments"))


def _parts(content: Any) -> Iterator[Part]:
    """The parts of a message's content: text, tool calls and results, and the kind of everything else."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield {"type": "text", "content": _cut(part)}
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield {"type": "text", "content": _cut(part["text"])}
        elif isinstance(part, dict) and part.get("type") == "tool_use":
            yield _tool_call(part.get("id"), part.get("name"), part.get("input"))
        elif isinstance(part, dict) and part.get("type") == "tool_result":
            yield _tool_result(part.get("tool_use_id"), part.get("content"))
        elif isinstance(part, dict):
            yield {"type": str(part.get("type", "unknown"))}


def _tool_call(call_id: Any, name: Any, arguments: Any) -> Part:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": _bounded(arguments)}


def _tool_result(call_id: Any, result: Any) -> Part:
    return {"type": "tool_call_response", "id": call_id, "response": _bounded(result)}


def _bounded(value: Any) -> Any:
    """A value as it is, or as text that is cut, if it is long."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return _cut(text) if isinstance(value, str) or len(text) > MOST_CHARACTERS else value


def _cut(text: str) -> str:
    left_out = len(text) - MOST_CHARACTERS
    return text if left_out <= 0 else f"{text[:MOST_CHARACTERS]}… [{left_out} characters left out]"


NAME = "gen_ai.evaluation.result"


class ScoreEvents:
    """Emits the events of one consumer."""

    def __init__(self, otel: OtelConfig) -> None:
        self._sample = otel.sample
        self._content = ContentSpans(otel) if otel.content else None
        self._provider = events(otel)
        self._logger = self._provider.get_logger("gateway.evals")

    def emit(self, read: Iterable[ReadEntry]) -> None:
        for each in read:
            if each.judged is not None and isinstance(each.record, Exchange) and each.record.role != IMPORTED:
                if self._content is not None:
                    self._content.emit(each.judged)
                for result in each.judged.results:
                    self._logger.emit(self._event(each.record, result))

    def _event(self, exchange: Exchange, result: ScoreResult) -> LogRecord:
        ids = _ids(exchange, self._sample)
        return LogRecord(
            event_name=NAME,
            timestamp=int((exchange.received + exchange.total_s) * 1e9),
            severity_number=SeverityNumber.INFO,
            context=below(ids.trace, ids.span, ids.sampled),
            attributes=attributes(exchange, result),
        )

    def close(self) -> None:
        """Sends what is queued."""
        if self._content is not None:
            self._content.close()
        self._provider.shutdown()


def attributes(exchange: Exchange, result: ScoreResult) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.evaluation.name": result.scorer,
        "gen_ai.response.id": exchange.id,
        "gen_ai.request.model": exchange.alias,
        "gen_ai.response.model": exchange.target.model,
        "gateway.evaluation.status": result.status,
        "gateway.evaluation.version": result.version,
        "gateway.inclusion_probability": None if exchange.pi is None else exchange.pi * result.pi,
    }
    if result.score is not None:
        found["gen_ai.evaluation.score.value"] = result.score.value
        if result.score.label is not None:
            found["gen_ai.evaluation.score.label"] = result.score.label
    if result.status in ("error", "timeout", "budget"):
        found["error.type"] = result.status
    if exchange.experiment is not None:
        found["gateway.experiment"], found["gateway.arm"] = exchange.experiment, exchange.arm or ""
    return found
