"""Calls that can be carried out: a tool that was offered, arguments it takes."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Skipped
from gateway.scorers.tool_calls import NO_CALL, NO_TOOLS, ToolCalls

RULE = ToolCalls("tool_calls")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]}
FREE = {"tools": [{"type": "custom", "custom": {"name": "shell"}}, {"type": "function", "function": {"name": "now"}}]}


def calls(*made):
    return Completion(tool_calls=tuple(ToolCall(str(i), *call) for i, call in enumerate(made)))


GOOD = ("weather", '{"city": "Rome"}')


@pytest.mark.parametrize(
    ("made", "request_", "value", "why"),
    [
        ([GOOD], CHAT, 1.0, None),
        ([GOOD, GOOD, ("weather", "{}")], CHAT, 2 / 3, "'weather': at /: \"city\" is a required property"),
        ([("weather", '{"city": 3}')], CHAT, 0.0, "'weather': at /city: 3 is not of type \"string\""),
        ([("weather", "[]")], CHAT, 0.0, "'weather': arguments are not a JSON object"),
        ([("weather", "")], CHAT, 0.0, "'weather': arguments are not JSON: Input is a zero-length, empty document"),
        ([("wether", "{}")], CHAT, 0.0, "'wether': no such tool was offered"),
        ([GOOD], {**CHAT, "tool_choice": "none"}, 0.0, "'weather': called though tool_choice is none"),
        (
            [GOOD],
            {**CHAT, "tool_choice": {"type": "function", "function": {"name": "now"}}},
            0.0,
            "'weather': called though tool_choice names 'now'",
        ),
        ([], {**CHAT, "tool_choice": "required"}, 0.0, "tool_choice requires a call, and none was made"),
        ([("shell", "rm -rf"), ("now", "{}")], FREE, 1.0, None),
        ([("now", "")], FREE, 0.0, "'now': arguments are not JSON: Input is a zero-length, empty document"),
        ([GOOD], {}, 0.0, "'weather': no such tool was offered"),
    ],
)
def test_the_value_is_the_share_of_calls_that_can_be_carried_out(ask, subject, made, request_, value, why):
    score = ask(RULE, subject(calls(*made), request_))
    assert score.value == pytest.approx(value)
    assert score.explanation is None if why is None else score.explanation.startswith(why)


def test_an_empty_input_of_anthropic_is_an_object(ask, subject):
    claude = {"tools": [{"name": "now", "input_schema": {"type": "object"}}]}
    assert ask(RULE, subject(calls(("now", "")), claude, api="messages")).value == 1.0
    assert ask(RULE, subject(calls(("now", "")), claude)).value == 0.0


@pytest.mark.parametrize("schema", [{"$ref": "http://localhost/"}, {"enum": ["x" * 100] * 5000}, "none"])
def test_an_unusable_schema_requires_only_an_object(ask, subject, schema):
    request = {"tools": [{"name": "f", "parameters": schema}]}
    assert ask(RULE, subject(calls(("f", '{"a": 1}')), request)).value == 1.0
    assert ask(RULE, subject(calls(("f", "1")), request)).value == 0.0


def test_no_tools_or_no_call_is_not_applicable(ask, subject):
    assert ask(RULE, subject("hi")) == NO_TOOLS
    assert ask(RULE, subject("hi", CHAT)) == NO_CALL
    cut = subject(calls(("weather", '{"ci')), CHAT, outcome="client_gone")
    assert isinstance(ask(RULE, cut), Skipped)


def test_many_mistakes_are_told_in_few_words(ask, subject):
    score = ask(RULE, subject(calls(*[("x" * 5000, "{}")] * 100), CHAT))
    assert len(score.explanation) < 1000
