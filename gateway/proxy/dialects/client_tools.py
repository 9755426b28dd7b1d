"""Tools of the Responses API that the client runs, as functions of the chat API, and their calls both ways. Pure.

A chat knows one kind of tool, the function. A custom tool (free text, such as Codex's apply_patch) becomes a function
with one text, `input`; the tools of a namespace become functions with its name in front; a local shell and a client's
tool search become functions of those names. Tools that the provider runs are not here: `web_search` is left out,
because Codex sends it with every request, and all others are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import orjson

from gateway.core.errors import BadRequest
from gateway.core.json_values import as_list, as_object, as_text, parse_object
from gateway.proxy.dialects import lenient_json

ToolKind = Literal["function", "custom", "local_shell", "tool_search"]

_LEFT_OUT = ("web_search", "web_search_preview", "web_search_2025_08_26", "web_search_preview_2025_03_11")
_CHOICES = ("auto", "none", "required")
_MOST_NAME = 64  # characters that every provider accepts in a function's name
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]")
_TEXT = {"type": "string"}
_INPUT = {"type": "object", "properties": {"input": _TEXT}, "required": ["input"], "additionalProperties": False}
_SHELL = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": _TEXT, "description": "The program and its arguments."},
        "working_directory": _TEXT,
        "timeout_ms": {"type": "integer"},
    },
    "required": ["command"],
}
_SHELL_DOES = "Runs a command on the user's machine and returns its output."


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool as the client knows it, and the function that stands for it."""

    kind: ToolKind
    name: str
    namespace: str | None
    function: Mapping[str, Any]
    """The members of the chat API's `function`."""


@dataclass(slots=True)
class ClientTools:
    """The tools of one request, by the name of their function."""

    by_function: dict[str, ClientTool] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    """The members of `tools` that the model gets, as the client sent them."""

    def chat_tools(self) -> list[dict[str, Any]]:
        return [{"type": "function", "function": tool.function} for tool in self.by_function.values()]


def refused(param: str, why: str) -> BadRequest:
    """The error for a part of a request that cannot be sent to this model's upstream."""
    text = f'"{param}" is not supported by this model, whose upstream has no Responses API of its own: {why}'
    return BadRequest(text, param=param, code="unsupported_parameter")


def function_name(name: Any, namespace: Any = None) -> str:
    """The name of the function that stands for a tool; of a namespace's tool one that every provider accepts."""
    if not namespace:
        return as_text(name)
    full = _UNUSUAL.sub("_", f"{namespace}__{as_text(name)}")
    if len(full) <= _MOST_NAME:
        return full
    return f"{full[: _MOST_NAME - 9]}_{sha256(full.encode()).hexdigest()[:8]}"


def client_tools(request: Mapping[str, Any]) -> ClientTools:
    """The tools of a request: of its member `tools`, and those that its conversation has added. Raises BadRequest."""
    found = ClientTools()
    for path, tool in _listed(request.get("tools"), "tools"):
        before = len(found.by_function)
        for client_tool in _read(tool, path):
            found.by_function.setdefault(function_name(client_tool.name, client_tool.namespace), client_tool)
        if len(found.by_function) > before:
            found.kept.append(tool)
    items = request.get("input")
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if as_object(item).get("type") in ("additional_tools", "tool_search_output"):
            for path, tool in _listed(item.get("tools"), f"input[{at}].tools"):
                for client_tool in _read(tool, path):
                    found.by_function[function_name(client_tool.name, client_tool.namespace)] = client_tool
    return found


def _listed(tools: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if tools is not None and not isinstance(tools, list):
        raise BadRequest(f"{path} must be an array", param=path)
    for at, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            raise BadRequest(f"{path}[{at}] must be an object", param=f"{path}[{at}]")
        yield f"{path}[{at}]", tool


def _read(tool: dict[str, Any], path: str, namespace: str | None = None) -> Iterator[ClientTool]:
    kind = tool.get("type")
    if kind == "namespace" and namespace is None:
        name = _named(tool, path)
        for inner_path, inner in _listed(tool.get("tools"), f"{path}.tools"):
            yield from _read(inner, inner_path, name)
    elif kind == "function":
        yield _function(tool, _named(tool, path), namespace)
    elif kind == "custom":
        yield _custom(tool, _named(tool, path), namespace)
    elif kind == "local_shell":
        function = {"name": "local_shell", "description": _SHELL_DOES, "parameters": _SHELL}
        yield ClientTool("local_shell", "local_shell", None, function)
    elif kind == "tool_search":
        yield from _tool_search(tool)
    elif kind not in _LEFT_OUT:
        raise refused(f"{path}.type", f"a tool of type {str(kind)[:60]!r} runs at its provider; remove it")


def _named(tool: dict[str, Any], path: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{path}.name must be a non-empty string", param=f"{path}.name")
    return name


def _function(tool: dict[str, Any], name: str, namespace: str | None) -> ClientTool:
    function: dict[str, Any] = {"name": function_name(name, namespace)}
    if tool.get("description"):
        function["description"] = tool["description"]
    function["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
    if tool.get("strict"):
        function["strict"] = True
    return ClientTool("function", name, namespace, function)


def _custom(tool: dict[str, Any], name: str, namespace: str | None) -> ClientTool:
    """The grammar of its input is described: a chat cannot enforce it."""
    form = as_object(tool.get("format"))
    texts = [as_text(tool.get("description")), "Put the whole input of the tool, as plain text, in `input`."]
    if form.get("type") == "grammar":
        syntax = as_text(form.get("syntax"))
        texts.append(f"The input must match this {syntax} grammar:\n{as_text(form.get('definition'))}")
    description = "\n\n".join(text for text in texts if text)
    function = {"name": function_name(name, namespace), "description": description, "parameters": _INPUT}
    return ClientTool("custom", name, namespace, function)


def _tool_search(tool: dict[str, Any]) -> Iterator[ClientTool]:
    """A search that the provider runs is not needed: the model gets all tools at once."""
    if tool.get("execution") == "client":
        parameters = tool.get("parameters") or {"type": "object", "properties": {"query": _TEXT}}
        function = {"name": "tool_search", "description": as_text(tool.get("description")), "parameters": parameters}
        yield ClientTool("tool_search", "tool_search", None, function)


def chat_choice(choice: Any, tools: ClientTools) -> Any:
    """The chat API's `tool_choice`; None: the default. Narrows `tools` to those that the choice allows.

    Raises BadRequest for a choice of a tool that the request does not have.
    """
    if choice is None or choice in _CHOICES:
        return choice
    kind = as_object(choice).get("type")
    if kind == "allowed_tools":
        allowed = {_chosen(each, tools) for each in as_list(choice.get("tools")) if _is_kept(each)}
        tools.by_function = {name: tool for name, tool in tools.by_function.items() if name in allowed}
        return choice.get("mode") if choice.get("mode") in _CHOICES else "auto"
    return {"type": "function", "function": {"name": _chosen(choice, tools)}}


def _is_kept(choice: Any) -> bool:
    return as_object(choice).get("type") not in _LEFT_OUT


def _chosen(choice: Any, tools: ClientTools) -> str:
    given = as_object(choice)
    name = function_name(given.get("name") or given.get("type"), given.get("namespace"))
    if name not in tools.by_function:
        raise refused("tool_choice", f"it names {name[:60]!r}, which is none of the functions in `tools`")
    return name


def arguments_of(item: Mapping[str, Any]) -> str:
    """The arguments of the function call that stands for an item of the conversation: always a JSON object.

    Arguments of another form are kept as text, because templates and Anthropic's API take objects only.
    """
    kind = item.get("type")
    if kind == "custom_tool_call":
        return lenient_json.dumps({"input": as_text(item.get("input"))}).decode()
    if kind == "local_shell_call":
        action = as_object(item.get("action"))
        return lenient_json.dumps({name: value for name, value in action.items() if name != "type" and value}).decode()
    given = item.get("arguments")
    if isinstance(given, dict):
        return lenient_json.dumps(given).decode()
    text = as_text(given)
    if not text.strip():
        return "{}"
    return text if parse_object(text) is not None else orjson.dumps({"unparsed": text}).decode()


def call_item(tool: ClientTool | None, name: str, call_id: str, arguments: str) -> dict[str, Any]:
    """The item for a call of a function. tool: None: the request has no such tool.

    A call of the shell or of the search that cannot be read, or is not complete, has no command and no arguments.
    """
    if tool is None or tool.kind == "function":
        item = {"type": "function_call", "call_id": call_id, "arguments": arguments}
        return item | {"name": name} if tool is None else _of(tool, item)
    if tool.kind == "custom":
        return _of(tool, {"type": "custom_tool_call", "call_id": call_id, "input": input_text(arguments)})
    given = parse_object(arguments) or {}
    if tool.kind == "tool_search":
        return {"type": "tool_search_call", "call_id": call_id, "execution": "client", "arguments": given}
    return {"type": "local_shell_call", "call_id": call_id, "action": _shell_action(given)}


def _of(tool: ClientTool, item: dict[str, Any]) -> dict[str, Any]:
    named = item | {"name": tool.name}
    return named if tool.namespace is None else named | {"namespace": tool.namespace}


def _shell_action(given: dict[str, Any]) -> dict[str, Any]:
    command = given.get("command")
    readable = isinstance(command, list) and all(isinstance(word, str) for word in command)
    action: dict[str, Any] = {"type": "exec", "command": command if readable else [], "env": {}}
    return action | {name: given[name] for name in ("working_directory", "timeout_ms") if given.get(name)}


def input_text(arguments: str) -> str:
    """The input of a custom tool in the complete arguments of its function; arguments of another form are the input."""
    given = parse_object(arguments)
    texts = [value for value in (given or {}).values() if isinstance(value, str)]
    return texts[0] if given is not None and len(given) == 1 and texts else arguments
