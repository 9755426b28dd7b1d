"""Anthropic's event streams as its documentation shows them, and what an OpenAI client must hear of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.exchange import Usage


@dataclass(frozen=True, slots=True)
class AnthropicStream:
    """deltas: of the chat chunks, in order. error: the message of an error event; then there is no finish."""

    name: str
    stream: bytes
    deltas: tuple[dict[str, Any], ...]
    finish: str | None = "stop"
    usage: Usage | None = None
    error: str | None = None
    plain: bool = True


def event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **members}) + b"\n\n"


def start(**usage: Any) -> bytes:
    counted = {"input_tokens": 25, "output_tokens": 1, **usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-opus-5-5",
               "stop_reason": None, "stop_sequence": None, "usage": counted}  # fmt: skip
    return event("message_start", message=message)


def block(index: int, kind: str, *deltas: dict[str, Any], **members: Any) -> bytes:
    return (
        event("content_block_start", index=index, content_block={"type": kind, **members})
        + b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        + event("content_block_stop", index=index)
    )


def text(index: int, *words: str) -> bytes:
    return block(index, "text", *({"type": "text_delta", "text": word} for word in words), text="")


def tool(index: int, name: str, *pieces: str) -> bytes:
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, "tool_use", *deltas, id=f"toolu_{name}", name=name, input={})


def end(reason: str = "end_turn", **usage: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": 15, **usage}) + STOP


PING = event("ping")
STOP = event("message_stop")
ROLE = {"role": "assistant", "content": ""}
ERROR = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
THINKING = block(
    0,
    "thinking",
    {"type": "thinking_delta", "thinking": "Let me "},
    {"type": "thinking_delta", "thinking": "see."},
    {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"},
    thinking="",
    signature="",
)
HELLO = text(0, "Hel", "lo wörld 🦜")
HELLO_DELTAS = (ROLE, {"content": "Hel"}, {"content": "lo wörld 🦜"})


def call_head(index: int, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"toolu_{name}", "type": "function", "function": function}]}


def call_piece(index: int, piece: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


ANTHROPIC_STREAMS = (
    AnthropicStream("text", start() + PING + HELLO + end(), HELLO_DELTAS, usage=Usage(25, 15)),
    AnthropicStream("max_tokens", start() + HELLO + end("max_tokens"), HELLO_DELTAS, "length", Usage(25, 15)),
    AnthropicStream("refusal", start() + HELLO + end("refusal"), HELLO_DELTAS, "content_filter", Usage(25, 15)),
    AnthropicStream(
        "two blocks", start() + text(0, "a") + text(1, "b") + end(), (ROLE, {"content": "a"}, {"content": "b"}),
        usage=Usage(25, 15),
    ),
    AnthropicStream(
        "cached input", start(cache_read_input_tokens=10, cache_creation_input_tokens=0) + HELLO + end(), HELLO_DELTAS,
        usage=Usage(35, 15, 10),
    ),
    AnthropicStream(
        "usage repeated at the end", start(cache_read_input_tokens=10) + HELLO
        + end(input_tokens=25, cache_read_input_tokens=10, output_tokens_details={"thinking_tokens": 4}),
        HELLO_DELTAS, usage=Usage(35, 15, 10, 4),
    ),
    AnthropicStream(
        "thinking", start() + THINKING + text(1, "Yes") + end(),
        (ROLE, {"reasoning": "Let me "}, {"reasoning": "see."}, {"content": "Yes"}), usage=Usage(25, 15), plain=False,
    ),
    AnthropicStream(
        "tool calls", start() + text(0, "Ok") + tool(1, "a", "", '{"x"', ": 1}") + tool(2, "b", "") + end("tool_use"),
        (ROLE, {"content": "Ok"}, call_head(0, "a"), call_piece(0, '{"x"'), call_piece(0, ": 1}"), call_head(1, "b"),
         call_piece(1, "{}")),
        "tool_calls", Usage(25, 15), plain=False,
    ),
    AnthropicStream(
        "a tool call given at once",
        start() + block(0, "tool_use", id="toolu_a", name="a", input={"x": 1}) + end("tool_use"),
        (ROLE, call_head(0, "a", '{"x":1}')), "tool_calls", Usage(25, 15), plain=False,
    ),
    AnthropicStream(
        "unknown blocks and events",
        start() + event("not_known_yet", a=1) + block(0, "redacted_thinking", data="x")
        + block(1, "server_tool_use", {"type": "input_json_delta", "partial_json": "{}"}, id="s", name="web_search")
        + text(2, "a") + end(),
        (ROLE, {"content": "a"}), usage=Usage(25, 15),
    ),
    AnthropicStream("no message_stop", start() + HELLO + end()[: -len(STOP)], HELLO_DELTAS, usage=Usage(25, 15)),
    AnthropicStream("CRLF", (start() + HELLO + end()).replace(b"\n", b"\r\n"), HELLO_DELTAS, usage=Usage(25, 15)),
    AnthropicStream("an error first", ERROR, (), None, error="Overloaded"),
    AnthropicStream("an error in the middle", start() + HELLO + ERROR, HELLO_DELTAS, None, Usage(25, 1),
        error="Overloaded"),
)  # fmt: skip
