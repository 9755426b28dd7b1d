"""Chat streams, and the events that an Anthropic client must hear of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.exchange import Usage


@dataclass(frozen=True, slots=True)
class ChatStream:
    """blocks: the content that the events build. stop: (stop_reason, stop_sequence); None if the stream has no end."""

    name: str
    stream: bytes
    blocks: tuple[dict[str, Any], ...]
    stop: tuple[str | None, str | None] | None = ("end_turn", None)
    usage: Usage | None = None
    error: str | None = None


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return b"data: " + orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice]}) + b"\n\n"


def say(*words: str) -> bytes:
    return b"".join(chunk({"content": word}) for word in words)


def call(index: int, name: str | None, arguments: str) -> bytes:
    head = {"id": f"call_{name}", "type": "function"} if name else {}
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return chunk({"tool_calls": [{"index": index, **head, "function": function}]})


def use(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{name}", "name": name, "input": given}


ROLE = chunk({"role": "assistant", "content": ""})
STOP = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"
COUNTED = (
    b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
)
HELLO = {"type": "text", "text": "Hello wörld 🦜"}
SAID = say("Hel", "lo wörld ", "🦜")
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": ""}
ERROR = b'data: {"error":{"message":"CUDA out of memory","code":"oom"}}\n\n'

CHAT_STREAMS = (
    ChatStream("text", ROLE + SAID + STOP + COUNTED + DONE, (HELLO,), usage=Usage(9, 2, 4)),
    ChatStream("without usage", ROLE + SAID + STOP + DONE, (HELLO,)),
    ChatStream("without DONE", ROLE + SAID + STOP + COUNTED, (HELLO,), usage=Usage(9, 2, 4)),
    ChatStream("length", ROLE + SAID + chunk({}, "length") + DONE, (HELLO,), ("max_tokens", None)),
    ChatStream("filtered", ROLE + SAID + chunk({}, "content_filter") + DONE, (HELLO,), ("refusal", None)),
    ChatStream("a stop string of vLLM", ROLE + SAID + chunk({}, "stop", stop_reason="END") + DONE, (HELLO,),
            ("stop_sequence", "END")),
    ChatStream("a stop token of vLLM", ROLE + SAID + chunk({}, "stop", stop_reason=2) + DONE, (HELLO,)),
    ChatStream("refusal", ROLE + chunk({"refusal": "No."}) + STOP + DONE, ({"type": "text", "text": "No."},),
            ("refusal", None)),
    ChatStream("reasoning", ROLE + chunk({"reasoning": "H"}) + chunk({"reasoning_content": "m."}) + SAID + STOP + DONE,
            (THOUGHT, HELLO)),
    ChatStream(
        "tool calls",
        ROLE + SAID + call(0, "a", "") + call(0, None, '{"x":') + call(0, None, "1}") + call(1, "b", "")
        + chunk({}, "tool_calls") + DONE,
        (HELLO, use("a", {"x": 1}), use("b", {})), ("tool_use", None),
    ),
    ChatStream(
        "tool calls by turns",
        ROLE + call(0, "a", '{"x"') + call(1, "b", '{"y"') + call(0, None, ":1}") + call(1, None, ":2}")
        + chunk({}, "tool_calls") + DONE,
        (use("a", {"x": 1}), use("b", {"y": 2})), ("tool_use", None),
    ),
    ChatStream("no content", ROLE + STOP + DONE, ()),
    ChatStream("only DONE", DONE, ()),
    ChatStream("comments", b": wait\n\n" + ROLE + b": wait\n\n" + SAID + STOP + DONE, (HELLO,)),
    ChatStream("an error first", ERROR, (), None, error="CUDA out of memory"),
    ChatStream("an error in the middle", ROLE + SAID + ERROR + DONE, (HELLO,), None, error="CUDA out of memory"),
)  # fmt: skip
