"""Verdicts of rules, lengths and scorers, apart from the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.guards import GuardConfig
from gateway.core.completion import assemble
from gateway.core.errors import TooLarge
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.guard import Guard, GuardFailed, Verdict, new_verdict, refusing
from gateway.proxy.guards.judging import MOST_JUDGED_BYTES, answer_input, judge, refuse_large, request_input
from gateway.proxy.guards.texts import Slot
from gateway.proxy.request.call import Call, Caller

PATTERNS = {"scorer": "patterns", "patterns": [{"name": "staff", "regex": "EMP-[0-9]{6}"}]}
CALL = Call("call-1", 2.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, b'{"model": "chat"}')


class ScoresOf:
    """Scorers that all give this score, or fail with this error."""

    def __init__(self, score: float | Exception) -> None:
        self.score = score

    async def ask(self, guard: str, subject: Mapping[str, Any]) -> float:
        if isinstance(self.score, Exception):
            raise self.score
        return self.score


def verdict(scorers: Any = None, **config: Any) -> Verdict:
    section = GuardConfig.model_validate({"on": "request", "action": "block", **config})
    return new_verdict(Guard("staff", section, ProxyMetrics(CollectorRegistry()), scorers, {}), CALL)


def slots(*texts: str) -> list[Slot]:
    held = list(texts)
    return [Slot(held, at) for at in range(len(held))]


def nothing() -> Mapping[str, Any]:
    return {}


@pytest.mark.parametrize(("text", "result"), [("ask EMP-123456", "hit"), ("ask nobody", "pass")])
async def test_a_rule_decides_by_what_it_finds(text: str, result: str) -> None:
    judged = verdict(**PATTERNS)
    assert await judge([judged], slots(text), nothing) is False
    assert (judged.result, judged.decided) == (result, True)
    assert refusing([judged]) is (judged if result == "hit" else None)


async def test_a_rule_that_redacts_replaces_the_text() -> None:
    texts = slots("ask EMP-123456 now")
    assert await judge([verdict(**PATTERNS, action="redact")], texts, nothing) is True
    assert "EMP-123456" not in texts[0].text


@pytest.mark.parametrize(
    ("score", "result", "failure"),
    [(1.0, "hit", None), (0.0, "pass", None), (GuardFailed("busy"), "failed", "busy"), (KeyError(), "failed", "error")],
)
async def test_a_scorer_decides_or_fails(score: float | Exception, result: str, failure: str | None) -> None:
    judged = verdict(ScoresOf(score), scorer="own", threshold=0.5)
    await judge([judged], slots("text"), nothing)
    assert (judged.result, judged.failure) == (result, failure)


def test_larger_texts_than_a_rule_judges_are_refused() -> None:
    with pytest.raises(TooLarge):
        refuse_large([verdict(**PATTERNS)], slots("x" * (MOST_JUDGED_BYTES + 1)))
    refuse_large([verdict(**PATTERNS, action="observe")], slots("x" * (MOST_JUDGED_BYTES + 1)))
    refuse_large([verdict(**PATTERNS)], slots("text"))


def test_a_scorer_of_requests_gets_the_text_in_place_of_an_answer() -> None:
    material = request_input(CALL, slots("one", "", "two"))
    assert (material["request"], material["answer"]) == ({}, {"text": "one\ntwo"})
    assert material["call"]["caller"] == "web"


def test_a_scorer_of_answers_gets_the_request_too() -> None:
    body = b'{"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}'
    material = answer_input(CALL, assemble("chat", False, body))
    assert (material["request"], material["answer"]["text"]) == ({"model": "chat"}, "hi")
