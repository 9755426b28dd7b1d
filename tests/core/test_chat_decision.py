from __future__ import annotations

from typing import Any

import pytest

from gateway.core.chat_decision import ChatDecision, decision_of, reason_counts
from gateway.core.decision_schema import INELIGIBLE, Ineligible

SCHEMA = {"type": "object", "properties": {"refund": {"type": "boolean"}}, "required": ["refund"]}
FORMATS: dict[str, dict[str, Any]] = {
    "chat": {"response_format": {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA}}},
    "responses": {"text": {"format": {"type": "json_schema", "name": "ticket", "schema": SCHEMA}}, "store": False},
    "messages": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
}
QUESTION = "I was charged twice."


def asked(api: str, turns: Any = None, **members: Any) -> ChatDecision:
    name = "input" if api == "responses" else "messages"
    turns = [{"role": "user", "content": QUESTION}] if turns is None else turns
    return decision_of(api, {"model": "m", name: turns, **FORMATS[api], **members})


def reason_of(api: str, turns: Any = None, **members: Any) -> str:
    with pytest.raises(Ineligible) as refused:
        asked(api, turns, **members)
    assert refused.value.reason in INELIGIBLE
    return refused.value.reason


@pytest.mark.parametrize("api", FORMATS)
def test_a_question_of_each_api_is_the_same_decision(api: str) -> None:
    found = asked(api)
    assert found.request.state == QUESTION
    assert [question.instructions for question in found.request.questions] == ["refund"]
    assert (found.request.instructions, found.request.images, found.request.losses) == (None, (), frozenset())


def test_instructions_are_kept_apart_in_each_api() -> None:
    system = [{"role": "system", "content": "Sort tickets."}, {"role": "user", "content": QUESTION}]
    developer = [{"role": "developer", "content": "Sort tickets."}, {"role": "user", "content": QUESTION}]
    for found in (
        asked("chat", system),
        asked("chat", developer),
        asked("responses", developer),
        asked("responses", QUESTION, instructions="Sort tickets."),
        asked("messages", system="Sort tickets."),
        asked("messages", system=[{"type": "text", "text": "Sort tickets.", "cache_control": {"type": "ephemeral"}}]),
    ):
        assert (found.request.state, found.request.instructions) == (QUESTION, "Sort tickets.")


def test_a_conversation_becomes_the_input_in_order() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]},
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": QUESTION},
    ]
    found = asked("chat", turns).request
    assert found.state == [
        {"role": "user", "content": "Hello\nthere"},
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": QUESTION},
    ]
    assert found.losses == {"input"}


@pytest.mark.parametrize(("api", "part", "url"), [
    ("chat", {"type": "image_url", "image_url": {"url": "https://host/a.png", "detail": "low"}}, "https://host/a.png"),
    ("responses", {"type": "input_image", "image_url": "https://host/a.png"}, "https://host/a.png"),
    ("messages", {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}},
     "data:image/png;base64,QQ=="),
    ("messages", {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}, "https://host/a.png"),
])  # fmt: skip
def test_images_are_part_of_the_input(api: str, part: Any, url: str) -> None:
    text = {"type": "input_text" if api == "responses" else "text", "text": QUESTION}
    found = asked(api, [{"role": "user", "content": [text, part]}]).request
    assert (found.state, found.images) == (QUESTION, (url,))


@pytest.mark.parametrize(("api", "turns", "members", "reason"), [
    ("chat", None, {"n": 2}, "several_answers"),
    ("chat", None, {"logprobs": True}, "logprobs"),
    ("responses", None, {"top_logprobs": 3}, "logprobs"),
    ("responses", None, {"include": ["message.output_text.logprobs"]}, "logprobs"),
    ("chat", None, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ("chat", None, {"web_search_options": {}}, "tools"),
    ("chat", [{"role": "assistant", "content": None, "tool_calls": [{}]}], {}, "tools"),
    ("responses", [{"type": "function_call_output", "call_id": "c", "output": "1"}], {}, "tools"),
    ("messages", [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}], {}, "tools"),
    ("responses", None, {"store": True}, "stored"),
    ("responses", None, {"store": None}, "stored"),
    ("responses", None, {"previous_response_id": "resp_1"}, "stored"),
    ("responses", [{"type": "item_reference", "id": "msg_1"}], {}, "input"),
    ("chat", None, {"store": True}, "stored"),
    ("chat", None, {"modalities": ["text", "audio"], "audio": {"voice": "a"}}, "input"),
    ("chat", [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], {}, "input"),
    ("messages", [{"role": "user", "content": [{"type": "document", "source": {}}]}], {}, "input"),
    ("chat", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}], {}, "prefill"),
    ("chat", [], {}, "input"),
    ("chat", "text", {"messages": 3}, "input"),
    ("chat", [{"role": "critic", "content": "a"}], {}, "input"),
    ("chat", [3], {}, "input"),
    ("chat", None, {"response_format": {"type": "json_object"}}, "no_schema"),
    ("chat", None, {"response_format": {"type": "text"}}, "no_schema"),
    ("chat", None, {"response_format": {"type": "json_schema", "schema": {"type": "object"}}}, "questions"),
])  # fmt: skip
def test_another_request_is_ineligible_for_its_reason(api: str, turns: Any, members: Any, reason: str) -> None:
    assert reason_of(api, turns, **members) == reason


def test_an_api_without_schemas_asks_for_no_decision() -> None:
    with pytest.raises(Ineligible, match="no_schema"):
        decision_of("completions", {"prompt": QUESTION, **FORMATS["chat"]})


def test_a_plain_option_leaves_a_request_eligible() -> None:
    members = {"n": 1, "temperature": 0.2, "max_tokens": 50, "logprobs": False, "tools": [], "user": "u", "seed": 1}
    assert asked("chat", **members).schema == asked("messages").schema


def test_reasons_are_counted_by_frequency() -> None:
    assert reason_counts([None, "tools", "nested", None, "tools"]) == [("tools", 2), ("nested", 1)]
