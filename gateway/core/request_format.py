"""What a request asks of its answer: JSON, a schema, tools, a question. In every API's and server's spelling; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

Request = Mapping[str, Any]
# Members of a request with which one can ask for JSON; most requests have none of them.
_ASKING = frozenset({
    "response_format", "output_format", "text", "output_config", "structured_outputs", "guided_json", "json_schema",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The JSON that was asked for. schema: a JSON Schema; None: any JSON, or any object when object is set."""

    schema: Any = None
    object: bool = False


def output_format(request: Request) -> OutputFormat | None:
    """None: the request does not ask for JSON."""
    if _ASKING.isdisjoint(request):
        return None
    for asked in _formats(request):
        if asked.get("type") == "json_object":
            return OutputFormat(asked.get("schema"), object=True)  # llama.cpp puts a schema beside json_object
        if asked.get("type") == "json_schema":
            return OutputFormat(_dict(asked.get("json_schema")).get("schema", asked.get("schema")))
    return _server_form(request)


def _formats(request: Request) -> Iterator[Request]:
    """chat: response_format; responses: text.format; messages: output_format, output_config.format."""
    for asked in (request.get("response_format"), request.get("output_format")):
        if isinstance(asked, dict):
            yield asked
    for section in ("text", "output_config"):
        asked = _dict(request.get(section)).get("format")
        if isinstance(asked, dict):
            yield asked


def _server_form(request: Request) -> OutputFormat | None:
    """What vLLM (structured_outputs, guided_json) and llama.cpp (json_schema) take beside the API's own fields."""
    structured = _dict(request.get("structured_outputs"))
    for schema in (structured.get("json"), request.get("guided_json"), request.get("json_schema")):
        if schema is not None:
            return OutputFormat(_parsed(schema))
    return OutputFormat(object=True) if structured.get("json_object") else None


def _parsed(schema: Any) -> Any:
    """vLLM also takes a schema as text; what cannot be parsed is no schema, and then any JSON was asked for."""
    if not isinstance(schema, str):
        return schema
    try:
        return orjson.loads(schema)
    except orjson.JSONDecodeError:
        return None


def offered_tools(request: Request) -> dict[str, Any]:
    """The names of the tools that were offered → the JSON Schema of their arguments; True: any object; None: text."""
    found: dict[str, Any] = {}
    for tool in (*_list(request.get("tools")), *_list(request.get("functions"))):
        if not isinstance(tool, dict):
            continue
        said = next((tool[k] for k in ("function", "custom") if isinstance(tool.get(k), dict)), tool)
        if isinstance(said.get("name"), str):
            schema = said.get("parameters", said.get("input_schema"))
            anything = None if tool.get("type") == "custom" and "input_schema" not in said else True
            found[said["name"]] = anything if schema is None else schema
    return found


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What the request says of calling tools. name: the tool that must be called; None: any."""

    required: bool = False
    forbidden: bool = False
    name: str | None = None


FREE = ToolChoice()


def tool_choice(request: Request) -> ToolChoice:
    asked = request.get("tool_choice", request.get("function_call"))
    if asked is None:
        return FREE
    if isinstance(asked, str):
        return ToolChoice(required=asked in ("required", "any"), forbidden=asked == "none")
    if not isinstance(asked, dict):
        return ToolChoice()
    kind = asked.get("type")
    if kind in ("none", "auto", "any"):
        return ToolChoice(required=kind == "any", forbidden=kind == "none")
    if kind == "allowed_tools":
        return ToolChoice(required=_dict(asked.get("allowed_tools", asked)).get("mode") == "required")
    name = _dict(asked.get("function") or asked.get("custom") or asked).get("name")
    return ToolChoice(required=True, name=name if isinstance(name, str) else None)


def last_user_text(request: Request) -> str:
    """The text of the last thing the user said; "" when there is none."""
    asked = request.get("prompt")
    if isinstance(asked, str):
        return asked
    turns = request.get("messages", request.get("input"))
    if isinstance(turns, str):
        return turns
    for turn in reversed(_list(turns)):
        if isinstance(turn, dict) and turn.get("role") == "user":
            return _content(turn.get("content"))
    return ""


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(p["text"]) for p in _list(content) if isinstance(p, dict) and "text" in p)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
