"""The request for a served answer's likelihood: the client's prompt with the answer as its last message. Pure.

One prefill and one token. vLLM scores the tokens of a prompt with `prompt_logprobs`; `continue_final_message` leaves
the answer open, as it was when the engine wrote it. Nothing that only steers how an answer is drawn is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.core.completion import Completion
from gateway.core.exchange import new_id
from gateway.core.json_values import as_list, as_object
from gateway.proxy.experiments.shadow_request import FRESH, LAST
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import set_member
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.routing.variants import PROMPT_FIELDS

MOST_BYTES = 32 << 20
"""Of a response: about 200 bytes for each token of the prompt."""
_ASKED: Mapping[str, Any] = {
    "max_tokens": 1,
    "prompt_logprobs": 1,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "return_token_ids": True,
}


@dataclass(frozen=True, slots=True)
class Scorable:
    """Whether a served answer's likelihood can be asked for. why_not: None: it can."""

    answer: str = ""
    why_not: str | None = None


def scorable(call: Call, served: Completion, truncated: bool) -> Scorable:
    """served: the answer as it was received. truncated: some of it was not kept."""
    why_not = _call_mistake(call) or _answer_mistake(served, truncated)
    return Scorable(why_not=why_not) if why_not else Scorable(served.text)


def _call_mistake(call: Call) -> str | None:
    fields, messages = call.fields, _messages(call)
    if call.api != "chat" or not messages:
        return "not_chat"
    if (fields.get("n") or 1) != 1:
        return "several_answers"
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        return "prefill"
    kinds = {kind for message in messages for kind in _part_kinds(message)}
    if kinds & {"input_audio", "audio_url", "audio"} or fields.get("audio"):
        return "audio"
    return "images" if kinds - {"text", "refusal"} else None


def _answer_mistake(served: Completion, truncated: bool) -> str | None:
    if served.tool_calls:
        return "tool_calls"
    if served.reasoning:
        return "reasoning"  # a template removes it from earlier messages, so the prompt would not be what was written
    if truncated:
        return "truncated"
    return None if served.text.strip() else "no_text"


def _messages(call: Call) -> Sequence[Any]:
    """(): the body is too large to be read between calls, or has none."""
    if len(call.body) > LARGE:
        return ()
    messages = call.fields.get("messages")
    if not isinstance(messages, list):
        try:
            messages = orjson.loads(call.body).get("messages")
        except (orjson.JSONDecodeError, AttributeError):
            return ()
    return as_list(messages)


def _part_kinds(message: Any) -> list[str]:
    content = as_object(message).get("content")
    if not isinstance(content, list):
        return []
    return [str(part.get("type", "text")) if isinstance(part, dict) else "text" for part in content]


def likelihood_request(call: Call, target_state: TargetState, answer: str) -> Call:
    """The call that asks a target for the likelihood of `answer`, with an id of its own; never a stream.

    Raises ValueError for a body that is not a JSON object.
    """
    raw = orjson.loads(call.body)
    fields = {name: value for name, value in raw.items() if name in PROMPT_FIELDS}
    fields["messages"] = [*raw["messages"], {"role": "assistant", "content": answer}]
    fields |= _ASKED
    body = orjson.dumps(fields)
    if target_state.upstream.config.priority:
        body = set_member(body, b"priority", LAST)
    return replace(
        call,
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        stream=False,
        body=body,
        fields=fields,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + FRESH,
        prefill=True,
    )
