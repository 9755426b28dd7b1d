from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.decision_schema import Ineligible
from gateway.core.exchange import new_id
from gateway.proxy.dialects.chat_decisions import MOST_BYTES, NEW_SCHEMAS, ChatDecisions
from gateway.proxy.request.call import Api, Call, Caller


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
