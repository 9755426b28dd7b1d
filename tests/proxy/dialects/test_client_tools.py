"""Tools that the client of a Responses API runs, as functions of a chat, and their calls as items."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.client_tools import (
    arguments_of,
    call_item,
    chat_choice,
    client_tools,
    function_name,
)

SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "exec", "description": "Runs.", "strict": False, "parameters": SCHEMA}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin end"},
}
AGENTS = {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [{**FUNCTION, "name": "spawn"}]}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": SCHEMA}
SHELL = {"type": "local_shell"}
WEB = {"type": "web_search", "external_web_access": True}
ONLY = {"type": "function", "name": "exec"}
ALL = [FUNCTION, PATCH, AGENTS, SEARCH, SHELL, WEB]


def test_each_kind_becomes_a_function() -> None:
    tools = client_tools({"tools": ALL})
    by_name = {tool["function"]["name"]: tool["function"] for tool in tools.chat_tools()}
    assert list(by_name) == ["exec", "apply_patch", "agents__spawn", "tool_search", "local_shell"]
    assert by_name["exec"] == {"name": "exec", "description": "Runs.", "parameters": SCHEMA}
    assert "lark grammar:\nstart: begin end" in by_name["apply_patch"]["description"]
    assert by_name["apply_patch"]["parameters"]["required"] == ["input"]
    assert tools.kept == ALL[:-1], "the response says that the model cannot search the web"


@pytest.mark.parametrize("kind", ["file_search", "code_interpreter", "mcp", "image_generation", "computer", None])
def test_a_tool_that_its_provider_runs_is_refused(kind: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        client_tools({"tools": [FUNCTION, {"type": kind}]})
    assert (caught.value.param, caught.value.code) == ("tools[1].type", "unsupported_parameter")


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ("x", "tools"), ([7], "tools[0]"), ([{"type": "function"}], "tools[0].name"),
        ([{**AGENTS, "tools": [AGENTS]}], "tools[0].tools[0].type"), ([{**AGENTS, "tools": 7}], "tools[0].tools"),
    ],
)  # fmt: skip
def test_a_tool_of_another_shape_is_named(tools: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        client_tools({"tools": tools})
    assert caught.value.param == param


def test_tools_that_the_conversation_added_can_be_called() -> None:
    found = {"type": "tool_search_output", "call_id": "c", "tools": [{**FUNCTION, "name": "late"}]}
    added = {"type": "additional_tools", "role": "developer", "tools": [AGENTS]}
    tools = client_tools({"tools": [SEARCH], "input": [found, added]})
    assert list(tools.by_function) == ["tool_search", "late", "agents__spawn"]


def test_long_names_of_a_namespace_stay_distinct_and_valid() -> None:
    names = {function_name(f"tool {'x' * 70}{n}", "mcp.server/one") for n in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None), ("auto", "auto"), ("none", "none"), ("required", "required"),
        ({"type": "function", "name": "exec"}, {"type": "function", "function": {"name": "exec"}}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "function", "function": {"name": "apply_patch"}}),
        ({"type": "local_shell"}, {"type": "function", "function": {"name": "local_shell"}}),
        ({"type": "allowed_tools", "mode": "required", "tools": [ONLY, WEB]}, "required"),
    ],
)  # fmt: skip
def test_a_choice_is_a_chats(choice: Any, expected: Any) -> None:
    tools = client_tools({"tools": ALL})
    assert chat_choice(choice, tools) == expected
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        assert list(tools.by_function) == ["exec"]


@pytest.mark.parametrize("choice", [{"type": "web_search"}, {"type": "function", "name": "no"}, 7, {}])
def test_a_choice_of_no_tool_is_refused(choice: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        chat_choice(choice, client_tools({"tools": ALL}))
    assert caught.value.param == "tool_choice"


CALLS = (
    ("exec", '{"cmd":"ls"}', {"type": "function_call", "arguments": '{"cmd":"ls"}', "name": "exec"}),
    ("agents__spawn", "{}", {"type": "function_call", "arguments": "{}", "name": "spawn", "namespace": "agents"}),
    ("apply_patch", '{"input":"*** a"}', {"type": "custom_tool_call", "input": "*** a", "name": "apply_patch"}),
    ("tool_search", '{"cmd":"x"}', {"type": "tool_search_call", "execution": "client", "arguments": {"cmd": "x"}}),
    (
        "local_shell", '{"command":["ls"],"timeout_ms":9}',
        {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": 9}},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "item"), CALLS, ids=[call[0] for call in CALLS])
def test_a_call_comes_back_as_it_was_made(name: str, arguments: str, item: dict[str, Any]) -> None:
    tool = client_tools({"tools": ALL}).by_function[name]
    made = call_item(tool, name, "call_1", arguments)
    assert made == {**item, "call_id": "call_1"}
    sent = orjson.loads(arguments_of(made))
    assert {k: v for k, v in sent.items() if k != "env"} == orjson.loads(arguments)
    assert function_name(made.get("name") or name, made.get("namespace")) == name


@pytest.mark.parametrize("arguments", ['{"command":"rm -rf"}', '{"command":[7]}', "x", "[]", ""])
def test_a_call_that_cannot_be_read_runs_nothing(arguments: str) -> None:
    tools = client_tools({"tools": ALL}).by_function
    item = call_item(tools["local_shell"], "local_shell", "call_1", arguments)
    assert (item["type"], item["action"]["command"]) == ("local_shell_call", [])
    if arguments[:1] != "{":
        assert call_item(tools["tool_search"], "tool_search", "call_1", arguments)["arguments"] == {}


def test_a_call_of_an_unknown_tool_is_the_clients_to_refuse() -> None:
    expected = {"type": "function_call", "call_id": "call_1", "name": "no", "arguments": "x"}
    assert call_item(None, "no", "call_1", "x") == expected


@pytest.mark.parametrize(
    ("given", "arguments"),
    [("", {}), (None, {}), ('{"a"', {"unparsed": '{"a"'}), ("[1]", {"unparsed": "[1]"}), ({"a": 1}, {"a": 1})],
)
def test_arguments_are_always_an_object(given: Any, arguments: dict[str, Any]) -> None:
    assert orjson.loads(arguments_of({"type": "function_call", "arguments": given})) == arguments
