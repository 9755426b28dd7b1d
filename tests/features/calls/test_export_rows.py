"""An exchange as a row, and as a conversation: what has a place in which form, and why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.calls.export_rows import PLAIN, NotExportable, columns, conversation, evaluated, preferred, row
from gateway.features.calls.rows.preferences import Preference

USER = [{"role": "user", "content": "hi"}]


def test_a_row_has_the_question_the_answer_and_pi(found):
    values = row(found(), {"stated": "score_stated", "other": "score_other"})
    assert set(values) == {*PLAIN, "scores", "score_stated", "score_other"}
    assert values["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "=1+1?"}]
    assert (values["response"], values["pi"], values["score_stated"], values["score_other"]) == ("-2", 0.25, 0.5, None)
    assert values["received"].isoformat() == "2023-11-14T22:13:20.250000+00:00"
    assert values["scores"] == [
        {"scorer": "stated", "version": "1", "value": 0.5, "label": "ok", "status": "scored", "pi": 0.25}
    ]


def test_the_newest_value_of_a_scorer_counts(found):
    scores = [{"scorer": "s", "version": v, "value": x, "label": None, "status": "scored", "pi": 1.0}
              for v, x in (("1", 0.1), ("2", 0.9))]  # fmt: skip
    values = row(found(scores=scores), {"s": "score_s"})
    assert values["score_s"] == 0.9
    assert [s["version"] for s in values["scores"]] == ["1", "2"]


@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=8))
def test_every_scorer_has_its_own_column(scorers):
    named = columns(scorers)
    assert list(named) == scorers
    assert len(set(named.values())) == len(scorers)
    assert all(name.isidentifier() and name.isascii() for name in named.values())


def test_columns_are_named_after_their_scorers():
    assert columns(["valid_json", "feedback:thumb", "feedback.thumb"]) == {
        "valid_json": "score_valid_json",
        "feedback:thumb": "score_feedback_thumb",
        "feedback.thumb": "score_feedback_thumb_2",
    }


def test_a_conversation_ends_with_the_answer(found):
    assert conversation(found())["messages"][1:] == [
        {"role": "user", "content": "=1+1?"}, {"role": "assistant", "content": "-2"}
    ]  # fmt: skip


def test_tools_and_tool_calls_keep_the_apis_form(found):
    tools = [{"type": "function", "function": {"name": "look"}}]
    calls = '[{"id":"c","name":"look","arguments":"{}"}]'
    result = conversation(found({"messages": USER, "tools": tools}, text="", tool_calls=calls))
    assert result["tools"] == tools
    assert result["messages"][-1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }


def test_a_correction_replaces_the_answer(found):
    corrected = found(correction="2", outcome="cut")
    assert conversation(corrected)["messages"][-1] == {"role": "assistant", "content": "2"}
    assert evaluated(found(correction="2"))["item"]["ideal"] == "2"


def test_the_reference_is_a_column_and_the_ideal(found):
    assert row(found(reference="2"), {})["reference"] == "2"
    assert evaluated(found(reference="2"))["item"]["ideal"] == "2"
    assert evaluated(found(reference="2", correction="two"))["item"]["ideal"] == "two"
    in_metadata = found({"messages": USER, "metadata": {"reference": "hello"}})
    assert (row(in_metadata, {})["reference"], evaluated(in_metadata)["item"]["ideal"]) == ("hello", "hello")


def test_an_item_of_an_eval_has_the_answer_as_its_sample(found):
    result = evaluated(found())
    assert result["item"]["input"][0] == {"role": "system", "content": "Be kind."}
    assert (result["item"]["scores"], result["item"]["pi"], result["item"]["ideal"]) == ({"stated": 0.5}, 0.25, None)
    assert result["sample"] == {"output_text": "-2", "output_tools": [], "finish_reason": "stop", "model": "small"}


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("messages", {"system": "Be kind.",
                      "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        ("responses", {"instructions": "Be kind.", "input": "hi"}),
        ("responses", {"instructions": "Be kind.",
                       "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}),
    ],
)  # fmt: skip
def test_plain_text_of_other_apis_is_a_conversation(found, api, body):
    result = conversation(found(body, api=api))["messages"]
    assert [(m["role"], m["content"]) for m in result] == [("system", "Be kind."), ("user", "hi"), ("assistant", "-2")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"truncated": True}, "cut at the byte cap"),
        ({"outcome": "cut"}, "no complete answer"),
        ({"status": 400}, "no complete answer"),
        ({"text": ""}, "empty answers"),
        ({"body": {}}, "text that is not stored"),
        ({"body": {}, "api": "responses"}, "text that is not stored"),
        ({"body": [1]}, "text that is not stored"),
        ({"body": {"messages": [{"role": "user", "content": "data:image/png;base64,sha256=ab;bytes=3"}]}},
         "images and sounds that are not stored"),
        ({"body": {"messages": USER, "tools": [1]}, "api": "messages"}, "tools and parts of another API than chat"),
        ({"body": {"input": [{"type": "function_call_output", "output": "x"}]}, "api": "responses"},
         "tools and parts of another API than chat"),
    ],
)  # fmt: skip
def test_an_exchange_that_is_not_a_conversation_gives_a_reason(found, changes, why):
    with pytest.raises(NotExportable, match=why):
        conversation(found(**changes))


def test_a_row_accepts_what_a_conversation_refuses(found):
    for changes in ({"outcome": "cut"}, {"truncated": True, "request": b'{"messages":['}, {"body": {}}):
        assert row(found(**changes), {})["id"] == "e1"


def preference(found, chosen="good", rejected="bad", **changes):
    return Preference(found(**changes), chosen, rejected, "label", 1.0, 0.0)


def test_a_preference_has_one_answer_of_each(found):
    values = preferred(preference(found))
    assert values["prompt"][-1] == {"role": "user", "content": "=1+1?"}
    assert (values["chosen"], values["rejected"]) == (
        [{"role": "assistant", "content": "good"}], [{"role": "assistant", "content": "bad"}]
    )  # fmt: skip
    assert (values["by"], values["id"], values["score_chosen"], values["score_rejected"]) == ("label", "e1", 1.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chosen": ""}, "empty answers"),
        ({"rejected": "good"}, "two equal answers"),
        ({"tool_calls": '[{"id": "1"}]'}, "answers that call tools"),
        ({"outcome": "cut"}, "no complete answer"),
        ({"truncated": True}, "cut at the byte cap"),
        ({"body": {"messages": [{"role": "system", "content": "x"}]}}, "does not end with a user's message"),
    ],
)
def test_what_cannot_be_preferred_says_why(found, changes, reason):
    with pytest.raises(NotExportable, match=reason):
        preferred(preference(found, **changes))


def test_parameters_are_what_is_not_a_column_of_its_own(found):
    body = {"model": "m", "messages": [], "temperature": 0, "stop": ["x"], "stream": True, "user": "u", "seed": None}
    assert row(found(body=body), {})["parameters"] == '{"temperature":0,"stop":["x"]}'
    assert row(found(), {})["parameters"] is None
