"""Numbers about answers: what they say of typical ones, and that they agree with the scorers of the same names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answer_features import ANSWER_FEATURES, CASCADE_FEATURES, answer_features, cascade_condition_text
from gateway.core.completion import Completion, ToolCall
from gateway.core.request_features import FEATURES
from gateway.scorers.refused import Refusal
from gateway.scorers.truncation import Truncation
from gateway.scorers.valid_json import ValidJson

PLAIN = [0.0] * len(FEATURES)
JSON = [float(name == "json") for name in FEATURES]
CALL = ToolCall("1", "f", '{"city": "Paris"}')


def features(answer: Completion, request: list[float] = PLAIN) -> dict[str, float]:
    return dict(zip(ANSWER_FEATURES, answer_features(request, answer), strict=True))


SAYS: list[tuple[str, Completion, dict[str, float]]] = [
    ("a good answer", Completion("It is 42.", finish_reason="stop"), {"length": 3, "answer_digits": 2, "hedges": 0}),
    ("an empty answer", Completion("  ", finish_reason="stop"), {"empty": 1, "length": 0}),
    ("a tool call", Completion(tool_calls=(CALL,), finish_reason="tool_calls"), {"tool_calls": 1, "empty": 0}),
    ("a cut call", Completion(tool_calls=(ToolCall("1", "f", '{"a'),), finish_reason="tool_calls"), {"truncation": 1}),
    ("a hedge", Completion("I'm not sure, maybe Paris.", finish_reason="stop"), {"hedges": 2}),
    ("German hedges", Completion("Vermutlich, aber ich bin nicht sicher.", finish_reason="stop"), {"hedges": 2}),
    ("a question back", Completion("Which city do you mean? ", finish_reason="stop"), {"asks_back": 1}),
    ("code", Completion("So:\n```py\nx\n```\n", finish_reason="stop"), {"answer_code": 1, "truncation": 0}),
    ("a refusal", Completion("I'm sorry, but I can't help with that.", finish_reason="stop"), {"refusal": 1}),
    ("a token limit", Completion("and so", finish_reason="length"), {"truncation": 1, "refusal": 0}),
]


@pytest.mark.parametrize(("answer", "found"), [row[1:] for row in SAYS], ids=[row[0] for row in SAYS])
def test_an_answer_is_told_by_its_numbers(answer: Completion, found: dict[str, float]) -> None:
    seen = features(answer)
    assert {name: seen[name] for name in found} == found


def test_a_loop_repeats_and_prose_does_not() -> None:
    prose = "The quick brown fox jumps over the lazy dog while the cat looks on from the warm wall of the garden."
    assert features(Completion(prose))["repeats"] == 0.0
    assert features(Completion("one two three " * 400))["repeats"] > 0.8


def test_json_is_missed_only_where_it_was_asked_for() -> None:
    assert features(Completion("yes"))["valid_json"] == 1
    assert features(Completion("yes"), JSON)["valid_json"] == 0
    assert features(Completion('{"a": 1}'), JSON)["valid_json"] == 1
    assert features(Completion(tool_calls=(CALL,)), JSON)["valid_json"] == 1


SCORERS = [
    (name, rule(name)) for name, rule in (("refusal", Refusal), ("truncation", Truncation), ("valid_json", ValidJson))
]


@pytest.mark.parametrize(("name", "scorer"), SCORERS, ids=[name for name, _ in SCORERS])
def test_a_name_shared_with_a_scorer_means_the_same(name: str, scorer: Any) -> None:
    compared = 0
    for golden in scorer.golden():
        if golden.expected is None:
            continue
        request = JSON if golden.request.get("response_format") else PLAIN
        wanted = (golden.request.get("response_format") or {}).get("type")
        if name == "valid_json" and wanted == "json_object" and golden.completion.text.strip()[:1] != "{":
            continue  # the scorer also asks for an object; the number only for JSON
        assert features(golden.completion, request)[name] == golden.expected, golden.name
        compared += 1
    assert compared > 2


@given(st.text(max_size=400), st.booleans())
def test_any_text_has_finite_numbers(text: str, wants_json: bool) -> None:
    values = answer_features(JSON if wants_json else PLAIN, Completion(text, finish_reason="stop"))
    assert len(values) == len(ANSWER_FEATURES)
    assert all(0 <= value < 1e6 for value in values)


def test_every_condition_has_words() -> None:
    for name in CASCADE_FEATURES:
        for threshold in (0.5, 3.0):
            at_most, above = (cascade_condition_text(name, threshold, side) for side in (False, True))
            assert at_most != above
