"""Cut answers: by what they say, what they do not say, and how they end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Skipped
from gateway.scorers.truncation import Truncation, ends_inside_fence, ends_inside_json

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


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("no fence", False),
        ("```\ncode\n```", False),
        ("```\ncode", True),
        ("~~~\ncode\n```", True),
        ("````\n```\n````", False),
        ("````\n```\n```", True),
        ("```py\na\n```\ntext\n```js\nb", True),
        ("use ```x``` inline", False),
        ("```x``` alone on a line", False),
        ("   ```\ncode\n   ```", False),
        ("```\ncode\n```  ", False),
        ("```\n``` not the end\n", True),
    ],
)
def test_a_fence_is_open_as_commonmark_says(text, inside):
    assert ends_inside_fence(text) is inside


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[]ü\n'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a"{\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(alphabet='a"\\', min_size=1, max_size=3), VALUES, min_size=1), st.data())
def test_every_beginning_of_an_object_is_unfinished(value, data):
    text = json.dumps(value, ensure_ascii=False)
    assert not ends_inside_json(text)
    assert ends_inside_json(text[: data.draw(st.integers(1, len(text) - 1))])


@pytest.mark.parametrize("text", ['"' * 100_000, '\\"' * 50_000, '{"' + '\\"' * 50_000, "[" * 100_000, '"\\' * 50_000])
def test_hostile_text_takes_linear_time(text):
    ends_inside_json(text)
    ends_inside_fence(text.replace("[", "```\n"))
