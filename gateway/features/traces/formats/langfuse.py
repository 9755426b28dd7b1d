"""Langfuse: observations, as its API returns them in pages and as its exports hold them. Pure.

Sources: Langfuse's API reference, GET /api/public/observations and /api/public/traces/{id} (camel case), and
"Blob storage export fields" (snake case).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.exchange import Usage
from gateway.core.json_values import as_list, as_object, as_text, decoded
from gateway.features.traces.messages import answer_of, chat_response, error_response, messages_of, tools_of
from gateway.features.traces.model import InvalidTrace, SpanRecord, TracedCall
from gateway.features.traces.rows import count_of, seconds_between, time_of

GENERATION = "GENERATION"
NO_INPUT = "has no input: ask for the fields input and output (fields=core,io,model,usage,…), or export them"
NO_OUTPUT = "has an input and no output"
_PARAMETERS = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "response_format")


def is_observation(row: Mapping[str, Any]) -> bool:
    return bool(_get(row, "traceId")) and "type" in row and bool(_get(row, "startTime"))


def observations(trace: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The observations of a trace, each with the trace's session and user. Raises InvalidTrace for a trace with ids
    only."""
    shared = {name: trace.get(name) for name in ("sessionId", "userId")} | {"traceId": trace.get("id")}
    for each in as_list(trace.get("observations")):
        if isinstance(each, str):
            raise InvalidTrace(
                "the trace names its observations by id only: export GET /api/public/observations, or each trace by "
                "GET /api/public/traces/ID"
            )
        yield {**shared, **{name: value for name, value in as_object(each).items() if value is not None}}


def record_of(row: Mapping[str, Any], place: str) -> SpanRecord:
    """Raises InvalidTrace, naming the member."""
    span, trace = as_text(row.get("id")), as_text(_get(row, "traceId"))
    at = f"{place}: observation {span[:60]}"
    if not span:
        raise InvalidTrace(f"{place}: an observation of trace {trace[:60]} has no id")
    parent = as_text(_get(row, "parentObservationId"))
    if as_text(row.get("type")).upper() != GENERATION:
        return SpanRecord(at, trace, span, parent)
    given = decoded(row.get("input"))
    asked, answer = messages_of(given), answer_of(row.get("output"))
    failed = as_text(row.get("level")).upper() == "ERROR"
    if not asked:
        return SpanRecord(at, trace, span, parent, left_out=NO_INPUT)
    if answer is None and not failed:
        return SpanRecord(at, trace, span, parent, left_out=NO_OUTPUT)
    return SpanRecord(at, trace, span, parent, _call(row, at, asked, answer))


def _call(row: Mapping[str, Any], at: str, asked: list[Any], answer: Any) -> TracedCall:
    began = time_of(_get(row, "startTime"), f"{at}: startTime")
    model = as_text(_get(row, "providedModelName")) or as_text(row.get("model")) or as_text(_get(row, "modelId"))
    given = as_object(decoded(row.get("input")))
    parameters = as_object(decoded(_get(row, "modelParameters")))
    tools = tools_of(given.get("tools") or parameters.get("tools"))
    usage = _usage(row)
    body = error_response(as_text(_get(row, "statusMessage"))) if answer is None else chat_response(answer, model)
    return TracedCall(
        trace=as_text(_get(row, "traceId")),
        span=as_text(row.get("id")),
        began=began,
        seconds=seconds_between(began, _get(row, "endTime"), f"{at}: endTime"),
        model=model,
        provider="langfuse",
        request={
            "model": model,
            "messages": asked,
            **{name: parameters[name] for name in _PARAMETERS if parameters.get(name) is not None},
            **({"tools": tools} if tools else {}),
        },
        response=body,
        status=200 if answer is not None else 500,
        outcome="ok" if answer is not None else "upstream_error",
        usage=usage,
        first_token_s=_first_token(row, began, at),
        caller=as_text(row.get("environment")),
        user=as_text(_get(row, "userId")),
        conversation=as_text(_get(row, "sessionId")),
    )


def _first_token(row: Mapping[str, Any], began: float, at: str) -> float | None:
    given = _get(row, "completionStartTime")
    return seconds_between(began, given, f"{at}: completionStartTime") if given else None


def _usage(row: Mapping[str, Any]) -> Usage | None:
    details, older = as_object(decoded(_get(row, "usageDetails"))), as_object(decoded(row.get("usage")))
    given, made = (
        count_of(details.get("input", older.get("input"))),
        count_of(details.get("output", older.get("output"))),
    )
    cached = count_of(details.get("input_cached_tokens", details.get("cache_read_input_tokens")))
    return None if given is None and made is None else Usage((given or 0) + (cached or 0), made or 0, cached)


def _get(row: Mapping[str, Any], name: str) -> Any:
    """A member in either case: parentObservationId, parent_observation_id."""
    value = row.get(name)
    return value if value is not None else row.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name))
