"""The requests that shadows send: the client's, repeated, or one for the likelihood of the served answer. Pure.

A repeated request is made so that its answer is independent of the first one. `request_digest` compares the requests of
a pair's arms as they were sent upstream. Members that must differ between the arms are left out of it: the model, the
seed (a shadow has none), the priority (a shadow has the lowest), the stream options (which say whether the upstream
reports usage), and `store` (a shadow's response is not stored). The members that the variants of the arms change are
left out as well. Credentials are in headers, not here.

A request for a likelihood is the client's prompt with the answer as its last message: one prefill and one token. vLLM
scores the tokens of a prompt with `prompt_logprobs`; `continue_final_message` leaves the answer open, as it was when
the engine wrote it. Parameters that only control the sampling of an answer are not sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson
from msgspec import Struct
from msgspec.json import Decoder

from gateway.core.completion import Completion
from gateway.core.errors import BadRequest
from gateway.core.exchange import new_id
from gateway.core.json_values import as_list, as_object, parse_object
from gateway.core.providers import DialectName
from gateway.proxy.recording.redaction.redactor import LARGE
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_members import Change, read_members
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.routing.variants import NOTHING_VARIED, PROMPT_FIELDS, VariedParts, without_instructions

_REPLACED = ("seed", "priority")
LAST = b"100"  # vLLM serves lower numbers first
# A cache on the way could repeat the first answer; this tells it not to (RFC 9111, section 5.2.1.4).
FRESH = [(b"cache-control", b"no-cache"), (b"pragma", b"no-cache")]
# State that an upstream keeps, or work that it does besides answering: a second request would do it twice.
_STATE = (
    "store",
    "previous_response_id",
    "conversation",
    "background",
    "plugins",
    "search_parameters",
    "mcp_servers",
    "container",
)
_KEPT = _STATE[1:]  # of a response, which a shadow never has stored
_CLIENT_TOOLS = ("function", "custom")  # the client runs them; a shadow's tool calls are never run


def asked_again(call: Call, target_state: TargetState) -> Call:
    """The same request with an id of its own.

    Without its seed, with which the two answers would not be independent, and without its idempotency key, for which a
    provider would repeat the first answer. At the lowest priority, if the upstream schedules by priority. A response is
    not to be stored, which is the default of the Responses API.
    """
    replaced = [name for name in _REPLACED if name in call.fields]
    changes: dict[str, Change] = {"seed": None}
    if call.api == "responses":
        changes["store"] = b"false"
    if target_state.upstream.config.priority:
        changes["priority"] = LAST
    return replace(
        call.changed(changes),
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        fields={n: value for n, value in call.fields.items() if n not in replaced} if replaced else call.fields,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + FRESH,
    )


def has_effects(call: Call) -> bool:
    """Whether a second request would change something at the upstream: state that it keeps, or a tool that it runs."""
    fields = call.fields
    if fields.get("web_search_options") is not None:  # {} requests a search too
        return True
    kept = _KEPT if call.api == "responses" else _STATE
    return any(fields.get(name) for name in kept) or _runs_tools(call)


class _ToolType(Struct):
    """The only member that is read of a tool."""

    type: str = "function"


_TOOLS = Decoder(list[_ToolType])


def _runs_tools(call: Call) -> bool:
    """Whether there is a tool that the client does not run."""
    if call.fields.get("tools") is None:
        return False
    try:
        return any(tool.type not in _CLIENT_TOOLS for tool in _TOOLS.decode(call.slices()["tools"]))
    except (ValueError, RecursionError):
        return True


MOST_BYTES = 32 << 20
"""Bytes of a response: about 200 for each token of the prompt."""
_ASKED: Mapping[str, Any] = {
    "max_tokens": 1,
    "prompt_logprobs": 1,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "return_token_ids": True,
}


@dataclass(frozen=True, slots=True)
class Scorable:
    """Whether a served answer's likelihood can be asked for. why_not: None if it can."""

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
    """Messages of the call; () if the body is too large to be read between calls, has none, or cannot be read whole, as
    the request for a likelihood needs.
    """
    return as_list((parse_object(call.body) or {}).get("messages")) if len(call.body) <= LARGE else ()


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
    if target_state.upstream.config.priority:
        fields["priority"] = int(LAST)
    return replace(
        call.with_body(orjson.dumps(fields), fields),
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        stream=False,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + FRESH,
        prefill=True,
    )


_MUST_DIFFER = frozenset({"model", "seed", "priority", "stream_options", "store"})


_INSTRUCTIONS = ("system", "instructions")
_TURNS = ("messages", "input")


def request_digest(body: bytes, dialect: DialectName, key: bytes, varied: VariedParts = NOTHING_VARIED) -> str | None:
    """16 hex digits after the API's format: "openai:…", "responses:…" or "anthropic:…". Requests in different formats
    cannot be compared.

    key: a secret of this process, so that a prompt cannot be guessed from its digest. varied: members that the variants
    of the pair's arms change; they are left out as well. None if the body is too large to be read between calls, or is
    not a JSON object.
    """
    if len(body) > LARGE:
        return None
    digest = blake2b(key=key, digest_size=8)
    try:
        members = read_members(body)
        for name, value in members.items():
            if name in _MUST_DIFFER or name in varied.names:
                continue
            if varied.instructions and name in _INSTRUCTIONS:
                continue
            pieces = without_instructions(value) if varied.instructions and name in _TURNS else (value,)
            digest.update(b"%d %b %d " % (len(name.encode()), name.encode(), sum(map(len, pieces))))
            for piece in pieces:
                digest.update(piece)
    except (ValueError, BadRequest):
        return None
    form = "anthropic" if dialect == "anthropic" else "responses" if "input" in members else "openai"
    return f"{form}:{digest.hexdigest()}"
