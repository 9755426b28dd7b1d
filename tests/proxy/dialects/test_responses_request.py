"""Requests of the Responses API as requests of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.responses_request import ChatForm, to_chat_request

FORM = ChatForm()
OPENAIS = ChatForm("max_completion_tokens", openais=True)
WITH_IMAGES = ChatForm(tool_images=True)
PNG = "data:image/png;base64,AAAA"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def asked(form: ChatForm = FORM, **members: Any) -> dict[str, Any]:
    return to_chat_request({"model": "m", **members}, form)


def messages(*items: dict[str, Any], form: ChatForm = FORM, **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(form, input=list(items), **members)["messages"]
    return found


def user(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, value: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_a_text_is_a_message_of_the_user() -> None:
    assert asked(input="Hi", instructions="Be kind.", max_output_tokens=9, temperature=0.5) == {
        "model": "m",
        "temperature": 0.5,
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    }


def test_parts_become_a_chats() -> None:
    parts = [
        text("a"),
        {"type": "input_image", "image_url": PNG, "detail": "high"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]
    [message] = messages(user(*parts))
    assert message["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]


def test_instructions_are_one_message_at_the_beginning() -> None:
    late = {"role": "developer", "content": [text("Late.")]}
    items = ({"role": "developer", "content": "A."}, {"role": "system", "content": "B."}, user(text("Hi")), late)
    joined = messages(*items, instructions="First.")
    assert joined == [
        {"role": "system", "content": "First.\n\nA.\n\nB.\n\nLate."},
        {"role": "user", "content": "Hi"},
    ]
    assert messages(*items, form=OPENAIS)[-1] == {"role": "developer", "content": "Late."}


def test_a_turn_with_calls_is_one_message() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look."}]}
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]}
    items = (user(text("Hi")), thought, said, call("1"), call("2"), output("1"), output("2"), user(text("Thanks")))
    assert messages(*items) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Look.", "tool_calls": [chat_call("1"), chat_call("2")]},
        result("1"),
        result("2"),
        {"role": "user", "content": "Thanks"},
    ]
    returned = messages(*items, form=ChatForm(reasoning_name="reasoning_content"))
    assert returned[1]["reasoning_content"] == "Hm."


def test_a_result_follows_its_call_wherever_it_stands() -> None:
    items = (
        user(text("Hi")),
        call("1"),
        call("2"),
        output("2"),
        user(text("Wait.")),
        output("1"),
        call("3"),
        output("3"),
    )
    assert [m.get("tool_call_id") or m["role"] for m in messages(*items)] == [
        "user", "assistant", "2", "1", "user", "assistant", "3",
    ]  # fmt: skip


def test_images_in_results_follow_as_the_users() -> None:
    picture = [text("seen"), {"type": "input_image", "image_url": PNG}]
    items = (user(text("Hi")), call("1"), call("2"), output("1", picture), output("2"))
    image = {"type": "image_url", "image_url": {"url": PNG}}
    assert messages(*items)[2:] == [result("1", "seen"), result("2"), {"role": "user", "content": [image]}]
    assert messages(*items, form=WITH_IMAGES)[2:] == [
        result("1", [{"type": "text", "text": "seen"}, image]),
        result("2"),
    ]


def test_calls_of_client_tools_return_as_functions() -> None:
    patch = {"type": "custom_tool_call", "call_id": "1", "name": "apply_patch", "input": "*** a"}
    shell = {"type": "local_shell_call", "call_id": "2", "action": {"type": "exec", "command": ["ls"], "env": {}}}
    search = {"type": "tool_search_call", "call_id": "3", "execution": "client", "arguments": {"query": "x"}}
    found = {"type": "tool_search_output", "call_id": "3", "tools": [TOOL]}
    agent = {**call("4", "spawn"), "namespace": "agents"}
    items = (
        user(text("Hi")), patch, shell, search, agent,
        {"type": "custom_tool_call_output", "call_id": "1", "output": "done"},
        {"type": "local_shell_call_output", "id": "2", "output": "a.py"}, found, output("4"),
    )  # fmt: skip
    turn = messages(*items)[1:]
    assert turn[0]["tool_calls"] == [
        chat_call("1", "apply_patch", '{"input":"*** a"}'),
        chat_call("2", "local_shell", '{"command":["ls"]}'),
        chat_call("3", "tool_search", '{"query":"x"}'),
        chat_call("4", "agents__spawn"),
    ]
    assert turn[1:] == [
        result("1", "done"), result("2", "a.py"), result("3", "These tools can be called now: f"), result("4"),
    ]  # fmt: skip


def test_options_are_a_chats() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    members = {
        "input": "Hi", "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"format": schema, "verbosity": "low"},
        "tools": [TOOL, {"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": True, "store": False,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "client_metadata": {"a": "b"},
        "stream": True, "stream_options": {"include_obfuscation": False}, "safety_identifier": "u", "top_k": 5,
        "metadata": {"a": "b"}, "truncation": "auto", "service_tier": "priority", "max_output_tokens": 9,
    }  # fmt: skip
    function = {"name": "f", "parameters": {"type": "object"}}
    common = {
        "model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "top_k": 5,
        "reasoning_effort": "high", "tools": [{"type": "function", "function": function}], "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
    }  # fmt: skip
    assert asked(**members) == common | {"max_tokens": 9, "user": "u"}
    assert asked(OPENAIS, **members) == common | {
        "max_completion_tokens": 9, "prompt_cache_key": "k", "safety_identifier": "u", "verbosity": "low",
        "service_tier": "priority",
    }  # fmt: skip
    assert asked(input="Hi", text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in asked(input="Hi", text={"format": {"type": "text"}})


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"n": 5}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"messages": [{}]}, "messages"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"instructions": [{"role": "user"}]}, "instructions"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "file_search_call"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [7]}]}, "input[0].content[0].type"),
        ({"input": [user({"type": "input_image", "file_id": "f"})]}, "input[0].content[0].image_url"),
        ({"input": [user({"type": "input_file", "file_id": "f"})]}, "input[0].content[0]"),
        ({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": PNG}]}]}, "input[0].content"),
        ({"input": [user(text("a")), output("gone")]}, "input[1].call_id"),
    ],
)
def test_members_that_a_chat_cannot_express_are_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**{"input": "Hi", **members})
    assert caught.value.param == param
    assert param in caught.value.message


def test_the_error_names_what_replaces_a_stored_response() -> None:
    with pytest.raises(BadRequest, match="send the whole conversation in `input`"):
        asked(input="Hi", previous_response_id="resp_1")


def test_members_that_ask_for_nothing_pass() -> None:
    asked(input="Hi", previous_response_id=None, background=False, top_logprobs=0, context_management=[], n=None)


@pytest.mark.parametrize(
    ("member", "param"),
    [
        ({"instructions": {"text": "Be brief."}}, "instructions"),
        ({"instructions": 5}, "instructions"),
        ({"input": [{"type": ["message"], "role": "user", "content": "hi"}]}, "input[0].type"),
        ({"input": [{"type": {"a": 1}}]}, "input[0].type"),
    ],
)
def test_values_of_other_types_are_refused_by_name(member: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        to_chat_request({"model": "chat", "input": "hi", **member}, ChatForm())
    assert caught.value.param == param
