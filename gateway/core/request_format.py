"""Reads the output format and the tools that a request asks for, in each API's and server's spelling. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object, content_text

Request = Mapping[str, Any]
FORMAT_MEMBERS = frozenset(
    {
        "response_format",
        "output_format",
        "text",
        "output_config",
        "structured_outputs",
        "guided_json",
        "json_schema",
    }
)
"""Members of a request that can require JSON; most requests lack all of them."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The JSON that a request requires."""

    schema: Any = None
    """A JSON Schema; None: any JSON."""
    object: bool = False
    """The answer must be a JSON object."""


def output_format(request: Request) -> OutputFormat | None:
    """The JSON that the request requires; None if it requires none."""
    if FORMAT_MEMBERS.isdisjoint(request):
        return None
    for form in _formats(request):
        if form.get("type") == "json_object":
            return OutputFormat(form.get("schema"), object=True)  # llama.cpp allows a schema with json_object
        if form.get("type") == "json_schema":
            return OutputFormat(as_object(form.get("json_schema")).get("schema", form.get("schema")))
    return _server_form(request)


def _formats(request: Request) -> Iterator[Request]:
    """The format objects of chat (response_format), responses (text) and messages (output_format, output_config)."""
    for form in (request.get("response_format"), request.get("output_format")):
        if isinstance(form, dict):
            yield form
    for section in ("text", "output_config"):
        form = as_object(request.get(section)).get("format")
        if isinstance(form, dict):
            yield form


def _server_form(request: Request) -> OutputFormat | None:
    """The fields that vLLM (structured_outputs, guided_json) and llama.cpp (json_schema) add to the API's."""
    structured = as_object(request.get("structured_outputs"))
    for schema in (structured.get("json"), request.get("guided_json"), request.get("json_schema")):
        if schema is not None:
            return OutputFormat(_parsed(schema))
    return OutputFormat(object=True) if structured.get("json_object") else None


def _parsed(schema: Any) -> Any:
    """vLLM also accepts a schema as text; text that cannot be parsed counts as no schema, so any JSON is valid."""
    if not isinstance(schema, str):
        return schema
    try:
        return orjson.loads(schema)
    except orjson.JSONDecodeError:
        return None


def offered_tools(request: Request) -> dict[str, Any]:
    """The offered tools: name → JSON Schema of the arguments; True for any object, None for plain text."""
    found: dict[str, Any] = {}
    for tool in (*as_list(request.get("tools")), *as_list(request.get("functions"))):
        if not isinstance(tool, dict):
            continue
        spec = next((tool[k] for k in ("function", "custom") if isinstance(tool.get(k), dict)), tool)
        if isinstance(spec.get("name"), str):
            schema = spec.get("parameters", spec.get("input_schema"))
            anything = None if tool.get("type") == "custom" and "input_schema" not in spec else True
            found[spec["name"]] = anything if schema is None else schema
    return found


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the answer must, may or must not call a tool."""

    required: bool = False
    forbidden: bool = False
    name: str | None = None
    """The only tool that may be called; None: any."""


_FREE = ToolChoice()


def tool_choice(request: Request) -> ToolChoice:
    chosen = request.get("tool_choice", request.get("function_call"))
    if chosen is None:
        return _FREE
    if isinstance(chosen, str):
        return ToolChoice(required=chosen in ("required", "any"), forbidden=chosen == "none")
    if not isinstance(chosen, dict):
        return ToolChoice()
    kind = chosen.get("type")
    if kind in ("none", "auto", "any"):
        return ToolChoice(required=kind == "any", forbidden=kind == "none")
    if kind == "allowed_tools":
        return ToolChoice(required=as_object(chosen.get("allowed_tools", chosen)).get("mode") == "required")
    name = as_object(chosen.get("function") or chosen.get("custom") or chosen).get("name")
    return ToolChoice(required=True, name=name if isinstance(name, str) else None)


def stated_reference(request: Request) -> str | None:
    """The right answer, where the client sent one in the request: `metadata: {"reference": "…"}`."""
    given = as_object(request.get("metadata")).get("reference")
    return given if isinstance(given, str) else None


def last_user_text(request: Request) -> str:
    """The text of the last user message; "" if there is none."""
    prompt = request.get("prompt")
    if isinstance(prompt, str):
        return prompt
    turns = request.get("messages", request.get("input"))
    if isinstance(turns, str):
        return turns
    for turn in reversed(as_list(turns)):
        if isinstance(turn, dict) and turn.get("role") == "user":
            return content_text(turn.get("content"), "\n")
    return ""
