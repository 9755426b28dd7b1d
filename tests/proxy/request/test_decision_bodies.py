"""The format of a decision is read from its body, whatever the body is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.proxy.request.decision_bodies import decision_api, question_count, repeated_bytes
from gateway.proxy.request.json_members import read_members

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(("input", "state", "questions", "model")), JSON))
def test_any_body_is_of_one_format_or_refused(body: dict[str, Any]) -> None:
    members = read_members(orjson.dumps(body))
    try:
        api = decision_api(members, {**members, **body})
    except BadRequest:
        return
    shared, questions = ("input", list) if api == "decisions" else ("state", dict)
    assert body[shared] is not None
    assert isinstance(body["questions"], questions)
    assert question_count(members) == len(body["questions"]) > 0


@pytest.mark.parametrize("questions", [[{"type": "predicate"}] * 3, {"a": {}, "b": {}, "c": {}}])
def test_a_shared_state_is_read_again_for_each_further_question(questions: Any) -> None:
    name = "input" if isinstance(questions, list) else "state"
    members = read_members(orjson.dumps({name: "x" * 98, "questions": questions}))
    assert repeated_bytes(members) == 200
