"""A request of the Responses API as a request of the chat API. Pure.

A part that a chat cannot express is refused by name. Left out, because it does not change the meaning of an answer:
`store` (nothing is stored), `include` of parts that such an answer never has, `metadata`, `service_tier`, `truncation`,
`client_metadata`, cache hints, and the reasoning of earlier turns, unless the upstream asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway.core.errors import BadRequest
from gateway.core.json_values import as_list, as_object, as_text, content_text
from gateway.proxy.dialects.client_tools import arguments_of, chat_choice, client_tools, function_name, refused

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatForm:
    """The chat API of one upstream, as far as it differs from others."""

    limit_name: str = "max_tokens"
    """The target's name for `max_output_tokens`."""
    openais: bool = False
    """Whether the target is OpenAI's own: it knows the role developer anywhere in a conversation, cache keys and
    verbosity."""
    tool_images: bool = False
    """The result of a tool may hold images and files; otherwise they follow as a message of the user."""
    reasoning_name: str = ""
    """The member of an assistant's message that must repeat its reasoning; "" means that reasoning is not sent back."""


_PASSED = (
    "model", "stream", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "stop", "logit_bias", "min_tokens", "chat_template_kwargs", "structured_outputs",
    "mm_processor_kwargs", "skip_special_tokens", "include_stop_str_in_output", "priority", "cache_salt", "thinking",
    "cache_control", "user",
)  # fmt: skip
_OPENAIS = ("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier")
_READ = frozenset({
    "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "max_output_tokens",
    *_PASSED, *_OPENAIS,
})  # fmt: skip
_LEFT_OUT = frozenset({
    "store", "include", "metadata", "truncation", "client_metadata", "prompt_cache_options", "stream_options",
    "max_tool_calls", "access_programs", "background_options",
})  # fmt: skip
_STORED = (
    "send the whole conversation in `input`, as with `store: false`: this upstream stores nothing, and the gateway "
    "keeps a conversation over a WebSocket alone"
)
_REFUSED: Mapping[str, str] = MappingProxyType({
    "previous_response_id": _STORED,
    "conversation": _STORED,
    "prompt": "stored prompts belong to their provider; send `instructions` and `input`",
    "background": "the answer is sent while the client waits; leave it out",
    "top_logprobs": "log-probabilities are not translated; use /v1/chat/completions",
    "context_management": "the conversation is not compacted here; send a shorter `input`",
})  # fmt: skip
_LOGPROBS = "message.output_text.logprobs"


def to_chat_request(request: Mapping[str, Any], form: ChatForm) -> dict[str, Any]:
    """request: the members of a Responses request. Raises BadRequest with the member as param."""
    _refuse(request)
    out: dict[str, Any] = {name: request[name] for name in _PASSED if request.get(name) is not None}
    out["messages"] = _Conversation(form).messages(request)
    if request.get("max_output_tokens") is not None:
        out[form.limit_name] = request["max_output_tokens"]
    _tools(request, out)
    _effort(request, out)
    _format(request, out)
    if form.openais:
        out |= {name: request[name] for name in _OPENAIS if request.get(name) is not None}
        verbosity = as_object(request.get("text")).get("verbosity")
        out |= {"verbosity": verbosity} if verbosity else {}
    elif out.get("user") is None and isinstance(request.get("safety_identifier"), str):
        out["user"] = request["safety_identifier"]
    return out


def _refuse(request: Mapping[str, Any]) -> None:
    for name, value in request.items():
        if name in _READ or name in _LEFT_OUT or value in (None, False, 0, "", [], {}):
            continue
        raise refused(name, _REFUSED.get(name, "it is not a member of the Responses API that can be translated"))
    for at, included in enumerate(as_list(request.get("include"))):
        if included == _LOGPROBS:
            raise refused(f"include[{at}]", _REFUSED["top_logprobs"])


def _tools(request: Mapping[str, Any], out: dict[str, Any]) -> None:
    tools = client_tools(request)
    choice = chat_choice(request.get("tool_choice"), tools)
    if not tools.by_function:
        if choice not in (None, "auto", "none"):
            raise refused("tool_choice", "the request has no tool that the model could call")
        return
    out["tools"] = tools.chat_tools()
    if choice is not None:
        out["tool_choice"] = choice
    if request.get("parallel_tool_calls") is not None:
        out["parallel_tool_calls"] = request["parallel_tool_calls"]


def _effort(request: Mapping[str, Any], out: dict[str, Any]) -> None:
    effort = as_object(request.get("reasoning")).get("effort")
    if effort is not None:
        out["reasoning_effort"] = effort


def _format(request: Mapping[str, Any], out: dict[str, Any]) -> None:
    form = as_object(as_object(request.get("text")).get("format"))
    kind = form.get("type")
    if kind == "json_schema":
        names = ("name", "description", "schema", "strict")
        out["response_format"] = {
            "type": "json_schema",
            "json_schema": {name: form[name] for name in names if form.get(name) is not None},
        }
    elif kind == "json_object":
        out["response_format"] = {"type": "json_object"}
    elif kind not in (None, "text"):
        raise refused("text.format.type", "expected text, json_schema or json_object")


@dataclass(slots=True)
class _AssistantTurn:
    """One turn of the assistant, and the results of the tools that it called."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[Part] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)
    media: list[Part] = field(default_factory=list)
    """Images and files in results, where results can only be text."""


class _Conversation:
    """Builds the messages of a chat from the items of a conversation."""

    def __init__(self, form: ChatForm) -> None:
        self._form = form
        self._system: list[str] = []
        self._turns: list[_AssistantTurn | Part] = []
        self._by_call: dict[str, _AssistantTurn] = {}

    def messages(self, request: Mapping[str, Any]) -> list[Part]:
        """Raises BadRequest with the item as param."""
        instructions = request.get("instructions")
        if instructions is not None and not isinstance(instructions, str):
            raise refused("instructions", "expected text")
        self._system += [instructions] if instructions else []
        for at, item in enumerate(_items(request.get("input"))):
            self._add(item, f"input[{at}]")
        out = [message for turn in self._turns for message in self._messages_of(turn)]
        if not out and not self._system:
            raise BadRequest("missing required parameter: input", param="input", code="missing_required_parameter")
        system = "\n\n".join(text for text in self._system if text)
        return [{"role": "system", "content": system}, *out] if system else out

    def _add(self, item: Any, path: str) -> None:
        if not isinstance(item, dict):
            raise BadRequest(f"{path} must be an object", param=path)
        kind = str(item.get("type") or ("message" if "role" in item else None))
        if kind == "message":
            self._message(item, path)
        elif kind in _CALLS:
            self._call(item, kind)
        elif kind in _RESULTS:
            self._result(item, path)
        elif kind == "reasoning":
            if self._form.reasoning_name:
                parts = (*as_list(item.get("content")), *as_list(item.get("summary")))
                self._assistant().reasoning.append(content_text(list(parts), "\n\n"))
        elif kind not in _WITHOUT_MESSAGE:
            why = _REFUSED_ITEMS.get(kind, "only the provider that made it can read it; leave it out")
            raise refused(f"{path}.type", f"an item of type {kind[:60]!r}: {why}")

    def _message(self, item: Part, path: str) -> None:
        role, content = item.get("role"), item.get("content")
        if role == "user":
            self._turns.append({"role": "user", "content": _content(content, path)})
        elif role == "assistant":
            self._assistant().texts.append(_text(content, path))
        elif role in ("system", "developer"):
            self._instruct(str(role), _text(content, path))
        else:
            raise refused(f"{path}.role", "expected user, assistant, system or developer")

    def _instruct(self, role: str, text: str) -> None:
        """Adds instructions. Later ones keep their place at OpenAI alone: the templates of many models take only one
        system message, and only at the beginning."""
        if self._form.openais and self._turns:
            self._turns.append({"role": role, "content": text})
        else:
            self._system.append(text)

    def _assistant(self) -> _AssistantTurn:
        """The assistant's turn that is being read: a call, a text and reasoning in a row are one message of a chat."""
        last = self._turns[-1] if self._turns else None
        if not isinstance(last, _AssistantTurn) or last.results:
            last = _AssistantTurn()
            self._turns.append(last)
        return last

    def _call(self, item: Part, kind: str) -> None:
        turn = self._assistant()
        call_id = as_text(item.get("call_id") or item.get("id"))
        name = function_name(item.get("name") or _CALLS[kind], item.get("namespace"))
        function = {"name": name, "arguments": arguments_of(item)}
        turn.calls.append({"id": call_id, "type": "function", "function": function})
        self._by_call[call_id] = turn

    def _result(self, item: Part, path: str) -> None:
        """Adds a tool's result to the turn that made the call, also where messages came in between: a chat knows no
        other place."""
        call_id = as_text(item.get("call_id") or item.get("id"))
        turn = self._by_call.get(call_id)
        if turn is None:
            text = f"{path}.call_id: no tool call with the id {call_id[:60]!r} comes before this result"
            raise BadRequest(text, param=f"{path}.call_id")
        output = _search_result(item) if item.get("type") == "tool_search_output" else item.get("output")
        content = _content(output if output is not None else "", f"{path}.output")
        if isinstance(content, list) and not self._form.tool_images:
            turn.media += [part for part in content if part["type"] != "text"]
            content = content_text(content, "\n\n")
        turn.results.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _messages_of(self, turn: _AssistantTurn | Part) -> list[Part]:
        if not isinstance(turn, _AssistantTurn):
            return [turn]
        text = "\n\n".join(text for text in turn.texts if text)
        message: Part = {"role": "assistant", "content": text or (None if turn.calls else "")}
        if self._form.reasoning_name and turn.calls:
            message[self._form.reasoning_name] = "\n\n".join(turn.reasoning)
        if turn.calls:
            message["tool_calls"] = turn.calls
        elif not text:
            return []
        return [message, *turn.results, *([{"role": "user", "content": turn.media}] if turn.media else [])]


_CALLS: Mapping[str, str] = MappingProxyType({
    "function_call": "", "custom_tool_call": "", "local_shell_call": "local_shell", "tool_search_call": "tool_search",
})  # fmt: skip
"""Items that stand for a call of a function, with its name where the item has none."""
_RESULTS = frozenset({
    "function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output",
})  # fmt: skip
_WITHOUT_MESSAGE = frozenset({"additional_tools", "web_search_call"})
"""Items that are left out of a conversation: the tools are in `tools`, and the results of a search are in the
answer."""
_REFUSED_ITEMS: Mapping[str, str] = MappingProxyType({
    "item_reference": "nothing is stored here that it could refer to; send the item itself",
    "compaction": "only its provider can read it; send the conversation itself",
    "compaction_trigger": "the conversation is not compacted here; send a shorter one",
})  # fmt: skip


def _items(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if given is None:
        return []
    if not isinstance(given, list):
        raise BadRequest("input must be a string or an array", param="input")
    return given


def _search_result(item: Part) -> str:
    names = [as_text(as_object(tool).get("name")) for tool in as_list(item.get("tools"))]
    return "These tools can be called now: " + ", ".join(filter(None, names)) if names else "No tool was found."


def _content(content: Any, path: str) -> str | list[Part]:
    """A single text is a string: every server takes that."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{path}.content must be a string or an array of parts", param=f"{path}.content")
    parts = [_part(part, f"{path}.content[{at}]") for at, part in enumerate(content)]
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _text(content: Any, path: str) -> str:
    found = _content(content, path)
    if isinstance(found, str):
        return found
    if any(part["type"] != "text" for part in found):
        raise refused(f"{path}.content", "only text is supported here")
    return content_text(found)


def _part(part: Any, path: str) -> Part:
    given = as_object(part)
    kind = given.get("type")
    read = _PARTS.get(str(kind))
    if read is None:
        raise refused(f"{path}.type", f"a part of type {str(kind)[:60]!r} has no counterpart in a chat")
    return read(given, path)


def _text_part(part: Part, path: str) -> Part:
    return {"type": "text", "text": as_text(part.get("text") or part.get("refusal"))}


def _image(part: Part, path: str) -> Part:
    url = part.get("image_url")
    if not isinstance(url, str):
        raise refused(f"{path}.image_url", "expected a URL; a file id is valid only at the provider that issued it")
    detail = {"detail": part["detail"]} if part.get("detail") in ("low", "high") else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _file(part: Part, path: str) -> Part:
    data = part.get("file_data")
    if not isinstance(data, str):
        raise refused(path, "only file_data is supported; a file id is valid only at the provider that issued it")
    name = {"filename": part["filename"]} if part.get("filename") else {}
    return {"type": "file", "file": {"file_data": data, **name}}


def _audio(part: Part, path: str) -> Part:
    return {"type": "input_audio", "input_audio": part.get("input_audio")}


_PARTS: Mapping[str, Callable[[Part, str], Part]] = MappingProxyType({
    "input_text": _text_part, "output_text": _text_part, "text": _text_part, "refusal": _text_part,
    "input_image": _image, "input_file": _file, "input_audio": _audio,
})  # fmt: skip
