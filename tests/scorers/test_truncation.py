"""Cut answers: by what they say, what they do not say, and how they end."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Skipped
from gateway.scorers.truncation import Truncation

RULE = Truncation("truncation")
JSON = {"response_format": {"type": "json_object"}}


def stopped(text, **fields):
    return Completion(text, finish_reason="stop", **fields)


@pytest.mark.parametrize(
    ("completion", "request_", "why"),
    [
        (stopped("Yes."), {}, None),
        (stopped(""), {}, None),
        (Completion("Yes", finish_reason="end_turn"), {}, None),
        (Completion("Yes", finish_reason="completed"), {}, None),
        (Completion("Yes", finish_reason="length"), {}, "finish_reason length"),
        (Completion("Yes", finish_reason="max_tokens"), {}, "finish_reason max_tokens"),
        (Completion("Yes", finish_reason="max_output_tokens"), {}, "finish_reason max_output_tokens"),
        (Completion("Yes"), {}, "no finish_reason: the answer broke off"),
        (stopped("```py\nx = 1"), {}, "ends inside a code fence"),
        (stopped('{"a": ['), JSON, "the required JSON ends inside a bracket or string"),
        (stopped('{"a": ['), {}, None),
        (stopped("{]"), JSON, None),
        (
            Completion(tool_calls=(ToolCall("1", "f", '{"a": "b'),), finish_reason="tool_calls"),
            {},
            "the arguments of 'f' end inside a bracket or string",
        ),
        (Completion(tool_calls=(ToolCall("1", "f", "{}"),), finish_reason="tool_calls"), {}, None),
    ],
)
def test_an_answer_is_cut_or_whole(ask, subject, completion, request_, why):
    got = ask(RULE, subject(completion, request_))
    assert (got.value, got.explanation) == (float(why is not None), why)


def test_only_cuts_by_the_upstream_count(ask, subject):
    assert ask(RULE, subject(Completion("Yes, and"), outcome="cut")).value == 1.0
    assert ask(RULE, subject(Completion("Yes, and"), outcome="timeout")).value == 1.0
    assert isinstance(ask(RULE, subject(Completion("Yes, and"), outcome="client_gone")), Skipped)
    assert isinstance(ask(RULE, subject(Completion("Yes, and"), truncated=True)), Skipped)
