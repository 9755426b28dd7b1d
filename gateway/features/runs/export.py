"""`gateway export --format runs` and `otlp`: recorded runs, one line of JSON for each.

A line of `runs` has the run, its scores, and its calls in order, each with the messages that the call before it did not
have. A line of `otlp` is a TracesData message in OTLP's JSON encoding (opentelemetry.io, "OTLP File Exporter"), which
the collector's otlpjsonfile receiver reads: the run is the parent span, and its calls are the children. Spans have no
content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal
from uuid import UUID

from gateway import __version__
from gateway.core.conversation import turns
from gateway.core.sanitize import to_json
from gateway.features.runs.rows import full_run, requests_of, selected_runs
from gateway.observability.tracing import run_ids
from gateway.scoring.trajectory import count_shared
from gateway.store.query import ExchangeFilter, Found, Reading, reading

RunForm = Literal["runs", "otlp"]
RUN_FORMS: tuple[RunForm, ...] = ("runs", "otlp")
_OF_CALL = (
    "id", "received", "alias", "upstream", "model", "variant", "arm", "outcome", "status", "finish_reason", "error",
    "input_tokens", "output_tokens", "cost_usd", "first_token_s", "total_s", "pi",
)  # fmt: skip
_OF_RUN = (
    "run_id", "run", "run_source", "caller", "alias", "arm", "began", "ended", "failed", "tokens", "cost_usd",
)  # fmt: skip
_OF_SCORE = ("scorer", "version", "status", "value", "label", "explanation", "pi")
_INTERNAL, _CLIENT, _ERROR = 1, 3, 2  # numbers of span kinds and of a status, in OTLP
SCORE_EVENT = "gen_ai.evaluation.result"


def export_runs(
    url: str, filter: ExchangeFilter, form: RunForm, file: IO[bytes], show: Callable[[int, int], None]
) -> int:
    """Writes the runs with a call that the filter selects, each whole, the oldest first. Returns their number.

    filter.limit: the largest number of runs; 0: all. Raises QueryError, StoreUnavailable.
    """
    with reading(url) as connection:
        ids = selected_runs(connection, filter)
        for done, run_id in enumerate(ids, 1):
            run = full_run(connection, run_id)
            if run is not None:
                line = _whole(connection, run) if form == "runs" else traces(run)
                file.write(to_json(line, indent=False).encode() + b"\n")
            show(done, len(ids))
    return len(ids)


def _whole(connection: Reading, run: Found) -> dict[str, Any]:
    requests = requests_of(connection, run["run_id"])
    return {
        **{name: run[name] for name in _OF_RUN},
        "scores": _scores(run["scores"]),
        "calls": list(_calls(run["calls"], requests)),
    }


def _calls(calls: Sequence[Found], requests: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    before: list[tuple[str, str]] = []
    for call in calls:
        messages = turns(requests.get(call["id"], b"{}"))
        shared = count_shared(before, messages)
        yield {
            **{name: call[name] for name in _OF_CALL},
            "messages_before": shared,
            "messages": [{"role": role, "content": text} for role, text in messages[shared:]],
            "response": call["text"],
            "tool_calls": call["tool_calls"],
            "scores": _scores(call["scores"]),
        }
        before = messages


def _scores(scores: Sequence[Found]) -> list[dict[str, Any]]:
    return [{name: score[name] for name in _OF_SCORE} for score in scores]


def traces(run: Found) -> dict[str, Any]:
    """The run as a trace of its own: a span for the run, with its scores as events, and below it one for each call."""
    ids = run_ids(run["run_id"], 1.0)
    trace, parent = f"{ids.trace:032x}", f"{ids.span:016x}"
    spans = [_run_span(run, trace, parent), *(_call_span(call, trace, parent) for call in run["calls"])]
    scope = {"name": "gateway", "version": __version__}
    resource = {"attributes": _attributes({"service.name": "gateway"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def about_run(run: Found) -> dict[str, Any]:
    """The attributes of a run's span; None if it has none of that name."""
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": run["run"],
        "gateway.run_id": run["run_id"],
        "gateway.run_source": run["run_source"],
        "gateway.key": run["caller"],
        "gateway.calls": run["calls_n"],
        "gateway.failed_calls": run["failed"],
        "gateway.tokens": run["tokens"],
        "gateway.cost_usd": run["cost_usd"],
        "gateway.arm": run["arm"],
    }


def _run_span(run: Found, trace: str, span: str) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": span,
        "name": f"invoke_agent {run['alias']}",
        "kind": _INTERNAL,
        "startTimeUnixNano": _nanoseconds(run["began"]),
        "endTimeUnixNano": _nanoseconds(run["ended"]),
        "attributes": _attributes(about_run(run)),
        "events": [_event(score) for score in run["scores"]],
    }


def about_score(score: Found) -> dict[str, Any]:
    """The attributes of the event of a run's score; None if it has none of that name."""
    return {
        "gen_ai.evaluation.name": score["scorer"],
        "gen_ai.evaluation.score.value": score["value"],
        "gen_ai.evaluation.score.label": score["label"],
        "gateway.score.status": score["status"],
    }


def _event(score: Found) -> dict[str, Any]:
    at = _nanoseconds(score["created"])
    return {"name": SCORE_EVENT, "timeUnixNano": at, "attributes": _attributes(about_score(score))}


def _call_span(call: Found, trace: str, parent: str) -> dict[str, Any]:
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.id": call["id"],
        "gen_ai.request.model": call["alias"],
        "gen_ai.response.model": call["model"],
        "gen_ai.usage.input_tokens": call["input_tokens"],
        "gen_ai.usage.output_tokens": call["output_tokens"],
        "gateway.upstream": call["upstream"],
        "gateway.outcome": call["outcome"],
        "gateway.cost_usd": call["cost_usd"],
        "gateway.tools_called": [tool["name"] for tool in call["tool_calls"]] or None,
        "http.response.status_code": call["status"],
    }
    return {
        "traceId": trace,
        "spanId": f"{UUID(call['id']).int & ((1 << 64) - 1):016x}",
        "parentSpanId": parent,
        "name": f"chat {call['alias']}",
        "kind": _CLIENT,
        "startTimeUnixNano": _nanoseconds(call["received"]),
        "endTimeUnixNano": _nanoseconds(call["received"] + call["total_s"]),
        "attributes": _attributes(about),
        **({"status": {"code": _ERROR, "message": call["outcome"]}} if call["failed"] else {}),
    }


def _nanoseconds(unix: float) -> str:
    return str(int(unix * 1e9))


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP writes them; without those that are None."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
