"""A chat's answer as an answer of the Responses API: the object, and its events. Pure.

Reasoning becomes a summary, which is what clients show. Text, refusals and reasoning are items of their own, in the
order in which they arrive; the calls of tools end with the answer, because the pieces of several may alternate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.json_values import as_list, as_object, as_text
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.client_tools import ClientTool, ClientTools, call_item
from gateway.proxy.dialects.custom_input import CustomInput
from gateway.proxy.dialects.event_reader import TranslatingReader, error_message
from gateway.proxy.dialects.types import Reader

Item = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_DEFAULTS: Mapping[str, Any] = {
    "instructions": None, "max_output_tokens": None, "parallel_tool_calls": True, "reasoning": None,
    "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "top_p": None, "metadata": {},
    "prompt_cache_key": None, "safety_identifier": None, "user": None,
}  # fmt: skip
"""Members of a response that repeat the request's."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Members of a response that are known before its answer."""

    call_id: str
    """The gateway's id of the call; the ids of the response and its items are made of it."""
    created: int
    """Unix seconds."""
    model: str
    """The name that the client used, where the upstream gives none."""
    request: Mapping[str, Any]
    tools: ClientTools

    def response(self, model: str | None) -> dict[str, Any]:
        given = {name: default if (v := self.request.get(name)) is None else v for name, default in _DEFAULTS.items()}
        return {
            "id": self.id_of("resp"), "object": "response", "created_at": self.created, "status": "in_progress",
            "background": False, "error": None, "incomplete_details": None, "model": model or self.model, "output": [],
            **given, "previous_response_id": None, "store": False, "tools": self.tools.kept, "truncation": "disabled",
            "usage": None,
        }  # fmt: skip

    def id_of(self, kind: str, index: int | None = None) -> str:
        return f"{kind}_{self.call_id.replace('-', '')}" + ("" if index is None else f"{index:04x}")


def usage_object(usage: Usage | None) -> dict[str, Any] | None:
    """Usage in the form of the Responses API, whose clients expect every count."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


@dataclass(slots=True)
class _OpenText:
    """An item of text that still grows. part: the type of its one part."""

    index: int
    item_id: str
    part: str
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _OpenCall:
    """A call of a tool that still grows."""

    index: int
    item_id: str
    call_id: str
    name: str
    tool: ClientTool | None
    pieces: list[str] = field(default_factory=list)
    input: CustomInput | None = None
    """The text so far, of a custom tool."""

    @property
    def whole(self) -> bool:
        """Whether it has no events of its own: its item is given once it is complete."""
        return self.tool is not None and self.tool.kind in ("local_shell", "tool_search")


_ITEM_IDS = {"function_call": "fc", "custom_tool_call": "ctc", "local_shell_call": "lsh", "tool_search_call": "tsc"}
_TEXT_EVENTS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "summary_text": ("response.reasoning_summary_text", "text"),
}
"""Beginnings of the events' names, and the member that holds the complete text, by type of a part."""


class ResponseBuilder:
    """Builds a response from the deltas of a chat, and its events. Each method returns events."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self.response: dict[str, Any] = {}
        """The response so far; {} if it has not begun."""
        self._items: list[Item] = []  # by output index; {}: not done yet
        self._sequence = 0
        self._text: _OpenText | None = None
        self._calls: dict[int, _OpenCall] = {}  # by index among the tool calls
        self._finish = ""

    @property
    def begun(self) -> bool:
        return bool(self._items)

    def more_text(self, piece: str) -> int:
        """Adds to the open text. Returns the sequence number of its event, which the caller makes."""
        if self._text is None:
            raise ValueError("no text is open")
        self._text.pieces.append(piece)
        self._sequence += 1
        return self._sequence - 1

    def begin(self, model: Any) -> list[bytes]:
        if self.response:
            return []
        self.response = self._head.response(as_text(model) or None)
        return [self._event(f"response.{kind}", response=self.response) for kind in ("created", "in_progress")]

    def choice(self, delta: Mapping[str, Any], finish: Any) -> list[bytes]:
        """delta: of one chunk, or the message of a plain answer."""
        out = self._grow("summary_text", delta.get("reasoning") or delta.get("reasoning_content"))
        out += self._grow("output_text", delta.get("content"))
        out += self._grow("refusal", delta.get("refusal"))
        for position, call in enumerate(as_list(delta.get("tool_calls"))):
            out += self._call(position, call)
        if finish:
            self._finish = str(finish)
        return out

    def end(self, usage: Usage | None) -> list[bytes]:
        """The events that end the answer."""
        out = [*self.begin(None), *self._close_text()]
        for call in sorted(self._calls.values(), key=lambda call: call.index):
            out += self._close_call(call)
        reason = _INCOMPLETE.get(self._finish)
        status = "incomplete" if reason else "completed"
        self.response |= {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._items,
            "usage": usage_object(usage),
        }
        return [*out, self._event(f"response.{status}", response=self.response)]

    def fail(self, error: Any, usage: Usage | None) -> list[bytes]:
        """The events that end an answer with an error of the upstream."""
        out = self.begin(None)
        code = as_object(error).get("code")
        self.response |= {
            "status": "failed",
            "error": {
                "code": code if isinstance(code, str) and code else "server_error",
                "message": error_message(error),
            },
            "output": [item for item in self._items if item],
            "usage": usage_object(usage),
        }
        return [*out, self._event("response.failed", response=self.response)]

    def _event(self, kind: str, **members: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + lenient_json.dumps(event) + b"\n\n"

    def _place(self) -> int:
        self._items.append({})
        return len(self._items) - 1

    def _grow(self, part: str, piece: Any) -> list[bytes]:
        if not isinstance(piece, str) or not piece:
            return []
        out = []
        if self._text is None or self._text.part != part:
            out += [*self._close_text(), *self._open_text(part)]
        text = self._text
        if text is None:
            return out
        text.pieces.append(piece)
        more: Item = {"logprobs": []} if part == "output_text" else {}
        return [*out, self._event(f"{_TEXT_EVENTS[part][0]}.delta", **_address(text), delta=piece, **more)]

    def _open_text(self, part: str) -> list[bytes]:
        index = self._place()
        reasoning = part == "summary_text"
        self._text = _OpenText(index, self._head.id_of("rs" if reasoning else "msg", index), part)
        added = self._event(
            "response.output_item.added", output_index=index, item=_text_item(self._text, "in_progress")
        )
        return [added, self._event(_part_event(part, "added"), **_address(self._text), part=_text_part(part, ""))]

    def _close_text(self) -> list[bytes]:
        text, self._text = self._text, None
        if text is None:
            return []
        whole = "".join(text.pieces)
        name, member = _TEXT_EVENTS[text.part]
        more: Item = {"logprobs": []} if text.part == "output_text" else {}
        item = self._items[text.index] = _text_item(text, "completed", whole)
        return [
            self._event(f"{name}.done", **_address(text), **{member: whole}, **more),
            self._event(_part_event(text.part, "done"), **_address(text), part=_text_part(text.part, whole)),
            self._event("response.output_item.done", output_index=text.index, item=item),
        ]

    def _call(self, position: int, delta: Any) -> list[bytes]:
        given = as_object(delta)
        function = as_object(given.get("function"))
        number = given.get("index")
        number = number if isinstance(number, int) else position
        out = [] if number in self._calls else self._open_call(number, given, as_text(function.get("name")))
        call, piece = self._calls[number], as_text(function.get("arguments"))
        call.pieces.append(piece)
        return out + self._call_delta(call, piece if call.input is None else call.input.feed(piece))

    def _open_call(self, number: int, given: Mapping[str, Any], name: str) -> list[bytes]:
        out = self._close_text()
        index, tool = self._place(), self._head.tools.by_function.get(name)
        call_id = as_text(given.get("id")) or self._head.id_of("call", index)
        item = call_item(tool, name, call_id, "")
        call = _OpenCall(index, self._head.id_of(_ITEM_IDS[item["type"]], index), call_id, name, tool)
        if tool is not None and tool.kind == "custom":
            call.input = CustomInput()
        self._calls[number] = call
        shown = {"id": call.item_id, **item, "status": "in_progress"}
        return [*out, self._event("response.output_item.added", output_index=index, item=shown)]

    def _call_delta(self, call: _OpenCall, piece: str) -> list[bytes]:
        if not piece or call.whole:
            return []
        kind = "function_call_arguments" if call.input is None else "custom_tool_call_input"
        return [self._event(f"response.{kind}.delta", item_id=call.item_id, output_index=call.index, delta=piece)]

    def _close_call(self, call: _OpenCall) -> list[bytes]:
        place = {"item_id": call.item_id, "output_index": call.index}
        arguments = "".join(call.pieces)
        item = {"id": call.item_id, **call_item(call.tool, call.name, call.call_id, arguments)}
        out: list[bytes] = []
        if call.input is not None:
            out += self._call_delta(call, call.input.end())
            item["input"] = call.input.text
            out.append(self._event("response.custom_tool_call_input.done", **place, input=item["input"]))
        elif not call.whole:
            done = {"name": item["name"], "arguments": arguments}
            out.append(self._event("response.function_call_arguments.done", **place, **done))
        self._items[call.index] = item | {"status": "completed"}
        return [*out, self._event("response.output_item.done", output_index=call.index, item=self._items[call.index])]


def _address(text: _OpenText) -> dict[str, Any]:
    place = "summary_index" if text.part == "summary_text" else "content_index"
    return {"item_id": text.item_id, "output_index": text.index, place: 0}


def _part_event(part: str, what: str) -> str:
    return f"response.{'reasoning_summary_part' if part == 'summary_text' else 'content_part'}.{what}"


def _text_part(part: str, text: str) -> dict[str, Any]:
    if part == "output_text":
        return {"type": part, "text": text, "annotations": [], "logprobs": []}
    return {"type": part, _TEXT_EVENTS[part][1]: text}


def _text_item(text: _OpenText, status: str, whole: str | None = None) -> Item:
    """Output item of a text. whole: None if it has just begun, and has no part."""
    parts = [] if whole is None else [_text_part(text.part, whole)]
    if text.part == "summary_text":
        return {"id": text.item_id, "type": "reasoning", "summary": parts}
    return {"id": text.item_id, "type": "message", "role": "assistant", "status": status, "content": parts}


def _only_text(delta: Mapping[str, Any]) -> str | None:
    """The text of a delta that has one text, of any kind, and nothing else."""
    said = [value for name, value in delta.items() if value and name != "role"]
    return said[0] if len(said) == 1 and isinstance(said[0], str) else None


def to_response(chat: Mapping[str, Any], head: ResponseHead, usage: Usage | None) -> dict[str, Any]:
    """A chat.completion as a response. Raises ValueError if it has no choice."""
    choice = as_object((as_list(chat.get("choices")) or [None])[0])
    if not choice:
        raise ValueError("the body has no choices")
    builder = ResponseBuilder(head)
    builder.begin(chat.get("model"))
    builder.choice(as_object(choice.get("message")), choice.get("finish_reason"))
    builder.end(usage)
    return builder.response


_NUMBER = b'"sequence_number":'


class ToResponsesReader(TranslatingReader):
    """Chat chunks → events of the Responses API. The last one is sent with the upstream's last chunk."""

    __slots__ = ("_after_number", "_builder", "_number", "_source", "_until_number")

    def __init__(self, head: ResponseHead, source: Reader | None = None) -> None:
        """source: turns the upstream's bytes into chat chunks; None if they are."""
        super().__init__()
        self._builder = ResponseBuilder(head)
        self._source = source
        self._number = 0  # of the newest event that was translated by its form
        self._until_number, self._after_number = b"", 0  # of an event of the form: its beginning; where it goes on

    def feed(self, data: bytes) -> bytes:
        if self._source is not None:
            data = self._source.feed(data)
            self.usage = self._source.usage
        return self._fed(data) if data else b""

    def _fed(self, chunks: bytes) -> bytes:
        out = super().feed(chunks)
        if self._form is not None:
            before = self._form.client_before
            at = before.find(_NUMBER) + len(_NUMBER)
            self._until_number, self._after_number = before[:at], before.find(b",", at)
        return out

    def translated(self, data: bytes) -> bytes:
        source = self._source
        if source is None:
            return self._renumbered(super().translated(data))
        if self._form is None or not isinstance(source, TranslatingReader) or not (chunk := source.translated(data)):
            return b""
        return self._renumbered(super().translated(chunk)) or self._fed(chunk)  # the source has counted it

    def _renumbered(self, event: bytes) -> bytes:
        return event and b"%b%d%b" % (self._until_number, self._number, event[self._after_number :])

    @property
    def _keeps(self) -> bool:
        return True

    def _keep_piece(self, text: str) -> None:
        self._number = self._builder.more_text(text)

    def end(self) -> bytes:
        if self._source is None or self.complete:
            return super().end()
        last = self._source.end()
        self.usage = self._source.usage
        return self._fed(last) + super().end()

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        if part.get("error"):
            self.fail(part["error"])
            return b"".join(self._builder.fail(part["error"], self.usage))
        if self._source is None:
            self.usage = usage_of(part.get("usage")) or self.usage
        out = self._builder.begin(part.get("model"))
        for choice in as_list(part.get("choices")):
            if not choice.get("index"):
                delta, finish = as_object(choice.get("delta")), choice.get("finish_reason")
                out += self._builder.choice(delta, finish)
                self.finished = self.finished or bool(finish)
                self._piece = None if finish else _only_text(delta)
        self.first_content = self.first_content or self._builder.begun
        return b"".join(out)

    def _done(self, event: Event) -> bytes:
        return self._owed()

    def _owed(self) -> bytes:
        return b"".join(self._builder.end(self.usage))
