"""LiteLLM: rows of its spend logs, as GET /spend/logs returns them and as its table LiteLLM_SpendLogs holds them. Pure.

Source: LiteLLM's schema.prisma. Prompts and answers are in them only with `store_prompts_in_spend_logs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.core.exchange import Usage
from gateway.core.json_values import as_decimal, as_object, as_text, decoded
from gateway.features.traces.messages import answer_of, chat_response, error_response, messages_of
from gateway.features.traces.model import InvalidTrace, SpanRecord, TracedCall
from gateway.features.traces.rows import count_of, seconds_between, time_of

CALLS = ("completion", "acompletion", "text_completion", "atext_completion", "anthropic_messages")
NO_MESSAGES = "has no prompt: set general_settings.store_prompts_in_spend_logs: true in LiteLLM's config"
NO_RESPONSE = "has a prompt and no answer"
_PARAMETERS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop"),
    *("frequency_penalty", "presence_penalty", "response_format", "tools", "tool_choice"),
)


def is_spend_log(row: Mapping[str, Any]) -> bool:
    return "request_id" in row and "call_type" in row and "startTime" in row


def record_of(row: Mapping[str, Any], place: str) -> SpanRecord:
    """Raises InvalidTrace, naming the member."""
    id = as_text(row.get("request_id"))
    at = f"{place}: request {id[:60]}"
    if not id:
        raise InvalidTrace(f"{place}: a row of spend logs has no request_id")
    trace = as_text(row.get("session_id")) or id
    if as_text(row.get("call_type")) not in CALLS:
        return SpanRecord(at, trace, id)
    body = as_object(decoded(row.get("proxy_server_request")))
    asked = messages_of(row.get("messages") or None) if row.get("messages") not in ("{}", "[]") else []
    asked = asked or messages_of(body.get("messages") or body.get("prompt"))
    answer = answer_of(row.get("response"))
    failed = as_text(row.get("status")) == "failure"
    if not asked:
        return SpanRecord(at, trace, id, left_out=NO_MESSAGES)
    if answer is None and not failed:
        return SpanRecord(at, trace, id, left_out=NO_RESPONSE)
    return SpanRecord(at, trace, id, call=_call(row, at, body, (asked, answer)))


def _call(row: Mapping[str, Any], at: str, body: Mapping[str, Any], said: tuple[list[Any], Any]) -> TracedCall:
    asked, answer = said
    began = time_of(row.get("startTime"), f"{at}: startTime")
    metadata = as_object(decoded(row.get("metadata")))
    provider = as_text(row.get("custom_llm_provider"))
    answered = as_text(row.get("model"))
    named = as_text(row.get("model_group")) or as_text(body.get("model")) or answered
    fault = as_object(metadata.get("error_information"))
    code = as_decimal(str(fault.get("error_code") or ""))
    status = code if code is not None and 400 <= code <= 599 else 500
    given, made = count_of(row.get("prompt_tokens")), count_of(row.get("completion_tokens"))
    first = row.get("completionStartTime")
    return TracedCall(
        trace=as_text(row.get("session_id")) or as_text(row.get("request_id")),
        span=as_text(row.get("request_id")),
        began=began,
        seconds=seconds_between(began, row.get("endTime"), f"{at}: endTime"),
        model=named,
        provider=provider or "litellm",
        request={
            "model": named,
            "messages": asked,
            **{name: body[name] for name in _PARAMETERS if body.get(name) is not None},
        },
        response=error_response(as_text(fault.get("error_message")), as_text(fault.get("error_class")))
        if answer is None
        else chat_response(answer, answered, as_text(row.get("request_id"))),
        answered_by=answered.removeprefix(f"{provider}/"),
        status=200 if answer is not None else status,
        outcome="ok" if answer is not None else "upstream_error",
        usage=None if given is None and made is None else Usage(given or 0, made or 0),
        first_token_s=seconds_between(began, first, f"{at}: completionStartTime") if first else None,
        stream=body.get("stream") is True,
        caller=as_text(metadata.get("user_api_key_alias")),
        user=as_text(row.get("end_user")) or as_text(row.get("user")),
        conversation=as_text(row.get("session_id")),
    )
