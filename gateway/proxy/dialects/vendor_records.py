"""Converts what vendors' own clients sent and got to the form of records: Gemini's to a chat, Bedrock's to messages.
Scorers, experiments' judges, replays and the console then read them like all others. Pure.

Calls of InvokeModel for other models than Claude have no such form: theirs stays, with the events of a stream taken
out of their frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.errors import BadRequest
from gateway.core.json_values import as_object
from gateway.proxy.dialects import bedrock_converse, gemini_reader, lenient_json
from gateway.proxy.dialects.bedrock_anthropic import InvokeFrames, chunk_of
from gateway.proxy.dialects.converse_messages import messages_of
from gateway.proxy.dialects.converse_reader import ConverseFrames, to_message
from gateway.proxy.dialects.event_frames import FrameDecoder
from gateway.proxy.dialects.framed_reader import AnthropicEvent, AnthropicFrames, event_bytes
from gateway.proxy.dialects.gemini_chat import chat_of
from gateway.proxy.dialects.gemini_reader import GeminiToChatReader, to_chat
from gateway.proxy.dialects.messages import to_anthropic_error
from gateway.proxy.dialects.types import Cut
from gateway.proxy.request.call import Call
from gateway.proxy.request.vendor_paths import GEMINI_APIS

_FRAME = b"\0"
"""The first byte of every frame, which is shorter than 16 MB."""


def vendor_error(api: str, status: int, body: bytes) -> bytes:
    """A vendor's error in OpenAI's format, by whose codes failures are told apart."""
    read = gemini_reader.to_openai_error if api in GEMINI_APIS else bedrock_converse.to_openai_error
    return read(status, body)


def recorded_form(call: Call, model: str, request: bytes, response: bytes) -> tuple[str, bytes, bytes]:
    """(API, request, response). model: of the target. What cannot be read is left as it was."""
    try:
        if call.api == "generate_content":
            return "chat", _request(request, call, model), _of_gemini(call, response)
        if call.api == "converse":
            return "messages", _request(request, call, model), _of_converse(call, response)
        if "anthropic_version" in call.fields:
            return "messages", _request(request, call, model), _of_claude(call, response)
        return call.api, request, _chunks(response) if response[:1] == _FRAME else response
    except (AttributeError, BadRequest, Cut, LookupError, RecursionError, TypeError, ValueError):
        return call.api, request, b"" if response[:1] == _FRAME else response


def _request(body: bytes, call: Call, model: str) -> bytes:
    if not body:
        return body
    fields = as_object(lenient_json.loads(body))
    if call.api == "generate_content":
        return lenient_json.dumps(chat_of(fields, model, stream=call.stream))
    if call.api == "converse":
        return lenient_json.dumps(messages_of(fields, model, stream=call.stream))
    fields.pop("anthropic_version", None)
    return lenient_json.dumps({"model": model, **fields, **({"stream": True} if call.stream else {})})


def _of_gemini(call: Call, response: bytes) -> bytes:
    if call.stream and not response.startswith(b"{"):
        reader = GeminiToChatReader(call, keep_text=False)
        out = reader.feed(response)
        try:
            return out + reader.end()
        except Cut:
            return out
    answer = as_object(lenient_json.loads(response)) if response else {}
    if as_object(answer.get("error")).get("status"):
        return gemini_reader.to_openai_error(0, response)
    return lenient_json.dumps(to_chat(answer, call)[0]) if "error" not in answer and answer else response


def _of_converse(call: Call, response: bytes) -> bytes:
    id, named = f"msg_{call.id}", call.named or call.alias
    if response[:1] == _FRAME:
        return _events(ConverseFrames(id, named), response)
    answer = as_object(lenient_json.loads(response)) if response else {}
    return lenient_json.dumps(to_message(answer, id, named)) if "output" in answer else _refusal(answer, response)


def _of_claude(call: Call, response: bytes) -> bytes:
    if response[:1] == _FRAME:
        return _events(InvokeFrames(), response)
    answer = as_object(lenient_json.loads(response)) if response else {}
    return response if "content" in answer else _refusal(answer, response)


def _refusal(answer: dict[str, Any], response: bytes) -> bytes:
    """Bedrock's error as Anthropic's; the gateway's own is what it was."""
    return to_anthropic_error(0, bedrock_converse.to_openai_error(0, response)) if "message" in answer else response


def _events(frames: AnthropicFrames, response: bytes) -> bytes:
    out: list[bytes] = []
    try:
        _add(out, frames.feed(response))
        _add(out, frames.rest())
    except Cut:
        pass  # what came before it is the record
    return b"".join(out)


def _add(out: list[bytes], found: Iterable[AnthropicEvent]) -> None:
    out.extend(map(event_bytes, found))


def _chunks(response: bytes) -> bytes:
    found = (chunk_of(frame) for frame in FrameDecoder().feed(response))
    return b"".join(b"data: %b\n\n" % lenient_json.dumps(each) for each in found if each)
