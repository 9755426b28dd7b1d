"""A scorer behind HTTP: any program that answers a POST."""

from __future__ import annotations

import json
import math

import pytest

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.fake import HOLD, FakeAnswer


class Service:
    """A scripted scorer service: `opinion` maps a subject to the reply; `golden` is served at /golden."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.url = upstream.origin + "/score"
        self.golden = None
        self.opinion = lambda subject: {"value": float("good" in subject["completion"]["text"])}
        upstream.replies(self._reply)

    @property
    def subjects(self):
        return [r.json for r in self.upstream.calls if r.method == "POST"]

    def _reply(self, received):
        if received.path.endswith("/golden"):
            return FakeAnswer(b"", status=404) if self.golden is None else FakeAnswer(json.dumps(self.golden).encode())
        answer = self.opinion(received.json)
        return answer if isinstance(answer, FakeAnswer) else FakeAnswer(json.dumps(answer).encode())


@pytest.fixture
def service(model):
    """A scripted scorer that is an HTTP service."""
    return Service(model.upstream)


@pytest.fixture
def far(model, service):
    """Builds the scorer that asks `service`."""

    def build(**section):
        return model.build("far", use=service.url, **section)

    return build


async def test_a_subject_is_sent_as_json_and_an_opinion_comes_back(model, service, far, subject):
    service.opinion = lambda _: {"value": 0.7, "label": "fine", "explanation": "why", "detail": {"n": 2}}
    answer = Completion("It is good.", finish_reason="stop", usage=Usage(3, 5))
    result = await model.result(far(), subject(answer, {"messages": []}, "the reference", caller="the-key-name"))
    assert (result.score.value, result.score.label, result.explanation) == (0.7, "fine", "why")
    assert result.score.detail == {"n": 2}
    (sent,) = service.subjects
    assert (sent["v"], sent["scorer"], sent["reference"]) == (1, "far", "the reference")
    assert (sent["completion"]["text"], sent["request"]) == ("It is good.", {"messages": []})
    assert sent["exchange"]["usage"]["input_tokens"] == 3
    assert "the-key-name" not in json.dumps(sent)


async def test_headers_go_along(model, service, far, subject):
    await model.result(far(headers={"authorization": "Bearer s3cret"}), subject("good"))
    assert {r.header("authorization") for r in service.upstream.calls} == {"Bearer s3cret"}


async def test_several_opinions_are_one_with_its_standard_error(model, service, far, subject):
    service.opinion = lambda _: [{"value": 0.0, "explanation": "first"}, {"value": 1.0}, {"skipped": "a thumb"}]
    result = await model.result(far(), subject("x"))
    assert (result.score.value, result.explanation, result.score.detail) == (0.5, "first", {"repeats": 2})
    assert math.isclose(result.score.standard_error, 0.5)


async def test_it_may_say_what_was_missing(model, service, far, subject):
    service.opinion = lambda _: {"skipped": "a picture"}
    result = await model.result(far(), subject("x"))
    assert (result.status, result.explanation) == ("not_applicable", "a picture")


@pytest.mark.parametrize(
    ("opinion", "answer"),
    [
        ({}, 'each object needs either "value" or "skipped"'),
        ({"value": 1, "skipped": "x"}, 'each object needs either "value" or "skipped"'),
        ([], "each object needs"),
        ({"value": "1"}, "the service returned no score"),
        ({"value": 3}, "value 3.0 is outside its bounds"),
        ({"value": 1, "cost_usd": -1}, "the service returned no score"),
        (FakeAnswer(b"<html>"), "the service returned no score"),
        (FakeAnswer(b"broken", status=500), "the service returned HTTP 500: broken"),
        (FakeAnswer(b'{"value": NaN}'), "value nan is not a finite number"),
        (FakeAnswer(b"[" * 500_000), "the service returned no score"),
        (FakeAnswer(b" " * (1 << 21)), "answered with more than 1048576 bytes"),
    ],
)
async def test_an_invalid_reply_is_an_error(model, service, far, subject, opinion, answer):
    service.opinion = lambda _: opinion
    result = await model.result(far(), subject("x"))
    assert result.status == "error"
    assert answer in result.explanation


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_wrong_key_blocks_it(model, service, far, subject, status):
    service.opinion = lambda _: FakeAnswer(b"", status=status)
    registered = far()
    await model.result(registered, subject("x"))
    asked = len(service.subjects)
    again = await model.result(registered, subject("x"))
    assert again.explanation.startswith(f"blocked: the service returned HTTP {status}")
    assert len(service.subjects) == asked


async def test_its_golden_cases_are_run_before_its_first_subject(model, service, far, subject):
    service.golden = [{"name": "fine", "completion": {"text": "good"}, "expected": 1.0}]
    own = {"name": "nothing", "completion": {"text": "bad"}, "reference": "r", "expected": 0.0}
    assert (await model.result(far(golden=[own]), subject("good"))).score.value == 1.0
    assert [s["completion"]["text"] for s in service.subjects] == ["bad", "good", "good"]
    assert service.subjects[0]["reference"] == "r"


async def test_a_failed_golden_case_blocks_the_service(model, service, far, subject):
    service.golden = [{"name": "mean", "completion": {"text": "awful"}, "expected": 1.0}]
    result = await model.result(far(), subject("good"))
    assert result.status == "error"
    assert 'golden case "mean": expected 1, got 0.0' in result.explanation
    assert (await model.result(far(), subject("good"))).status == "error"


async def test_invalid_golden_cases_of_a_service_are_reported(model, service, far, subject):
    service.golden = [{"expected": "yes"}]
    assert "/golden did not return golden cases" in (await model.result(far(), subject("good"))).explanation


async def test_its_cost_is_counted_and_keeps_the_budget(model, service, far, subject):
    service.opinion = lambda _: {"value": 1.0, "cost_usd": 0.4, "tokens": 7, "judge_model": "theirs"}
    registered = far(budget_usd=1.0)
    first = await model.result(registered, subject("x"))
    assert (first.spent.cost_usd, first.spent.tokens, first.spent.judge_model) == (0.4, 7, "theirs")
    statuses = [(await model.result(registered, subject("x"))).status for _ in range(3)]
    assert statuses == ["scored", "budget", "budget"]


async def test_a_budget_that_cannot_be_kept_blocks(model, service, far, subject):
    result = await model.result(far(budget_usd=1.0), subject("good"))
    assert (result.status, "does not return cost_usd" in result.explanation) == ("error", True)


async def test_a_subject_that_is_too_large_is_not_sent(model, service, far, subject):
    result = await model.result(far(max_kb=1), subject("x" * 2000))
    assert (result.status, service.subjects) == ("not_applicable", [])
    assert result.explanation.startswith("an exchange of at most max_kb: 1")


async def test_one_that_hangs_is_late(model, service, far, subject):
    service.opinion = lambda _: FakeAnswer(b"{}", pauses=[HOLD])
    result = await model.result(far(deadline_s=0.2), subject("x"))
    assert result.status == "timeout"
    assert "0.2 s" in result.explanation
