from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.chat_decision import decision_of
from gateway.core.decision_schema import Ineligible
from gateway.core.exchange import new_id
from gateway.proxy.dialects.chat_decisions import MOST_BYTES, NEW_SCHEMAS, ChatDecisions
from gateway.proxy.request.call import Api, Call, Caller
from gateway.proxy.request.json_members import read_members


def format_of(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": "boolean"}}}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def a_call(api: Api = "chat", text: str = "Twice.", **members: Any) -> Call:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], **members}
    caller = Caller("web")
    return Call(new_id(), 0.0, 0.0, caller, api, b"POST", b"/chat/completions", "chat", False, orjson.dumps(body))


def test_a_call_is_read_as_the_decision_that_it_asks_for() -> None:
    reader, call = ChatDecisions(), a_call(response_format=format_of("refund"))
    assert reader.why_not(call) is None
    assert reader.decision(call).request.state == "Twice."
    assert reader.decision(call) is reader.decision(call), "it is read once"
    assert [member.name for member in reader.decision(call).schema.members] == ["refund"]


def test_changes_of_a_target_are_part_of_the_decision() -> None:
    reader, call = ChatDecisions(), a_call(response_format=format_of("refund"))
    assert reader.why_not(call) is None
    changed = call.changed({"messages": b'[{"role":"system","content":"Sort."},{"role":"user","content":"Twice."}]'})
    assert reader.decision(changed).request.instructions == "Sort."


@pytest.mark.parametrize(("call", "reason"), [
    (a_call(), "no_schema"),
    (a_call(api="completions", response_format=format_of("refund")), "no_schema"),
    (a_call(response_format=format_of("refund"), n=2), "several_answers"),
    (a_call(text="a" * MOST_BYTES, response_format=format_of("refund")), "too_large"),
    (a_call(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}), "nested"),
])  # fmt: skip
def test_another_call_has_its_reason(call: Call, reason: str) -> None:
    reader = ChatDecisions()
    assert reader.why_not(call) == reader.why_not(call) == reason
    with pytest.raises(Ineligible, match=reason):
        reader.decision(call)


def test_schemas_that_repeat_allow_new_ones() -> None:
    reader, most = ChatDecisions(), int(NEW_SCHEMAS)
    known = a_call(response_format=format_of("known"))
    assert reader.why_not(known) is None
    changing = [reader.why_not(a_call(response_format=format_of(f"m{n}"))) for n in range(most)]
    assert changing == [None] * (most - 1) + ["schema_changes"]
    for _ in range(11):  # calls with a known one, which stay eligible
        assert reader.why_not(a_call(response_format=format_of("known"))) is None
    assert reader.why_not(a_call(response_format=format_of("later"))) is None
    assert reader.why_not(a_call(response_format=format_of("latest"))) == "schema_changes"


def as_parsed(call: Call) -> Call:
    """The call with its members, as the parser of requests leaves it."""
    return replace(call, members=read_members(call.body))


TEXTS = st.text(max_size=6)
ROLES = st.sampled_from(["user", "system", "developer", "assistant", "tool"])
CONTENTS = st.one_of(TEXTS, st.none(), st.builds(lambda text: [{"type": "text", "text": text}], TEXTS))
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}),
        st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS, "name": TEXTS}),
    ),
    max_size=3,
)


@given(MESSAGES, st.sampled_from([{}, {"n": 1}, {"n": 2}, {"system": "Sort."}, {"temperature": 0}, {"tools": []}]))
def test_a_known_schema_is_read_like_a_new_one(messages: list[Any], members: dict[str, Any]) -> None:
    """Messages of the usual form take another way through the reader, to the same decision."""
    members = {"response_format": format_of("refund"), **members, "messages": messages}
    reader = ChatDecisions()
    assert reader.why_not(a_call(response_format=format_of("refund"))) is None
    try:
        wanted: Any = decision_of("chat", {"model": "chat", **members}).request
    except Ineligible as ineligible:
        wanted = ineligible.reason
    try:
        found: Any = reader.decision(as_parsed(a_call(**members))).request
    except Ineligible as ineligible:
        found = ineligible.reason
    assert found == wanted


def test_calls_with_one_schema_share_what_is_prepared() -> None:
    reader = ChatDecisions()
    first, second = (reader.decision(as_parsed(a_call(response_format=format_of("refund")))) for _ in range(2))
    assert first.known is second.known
    assert reader.decision(as_parsed(a_call(response_format=format_of("paid")))).known is not first.known
