"""What came back becomes a row, and the same subject for scorers now and after a restart."""

from __future__ import annotations

import orjson
import pytest

from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price, Prices
from gateway.evals.http_client import HttpReply
from gateway.evals.replay.answers import ReplayFailure, ReplayRequest, answered, judged_reply, subject, unanswered
from gateway.evals.replay.design import ReplayTarget
from gateway.evals.replay.items import item_of

ITEM = item_of({"examples": "2 + 2?", "ground_truth": "4", "cluster": "sums"}, 3).item
ASK = ReplayRequest("r", ITEM, ReplayTarget("one", "chat"), 2, {"model": "chat", "messages": []})
BODY = orjson.dumps({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 1000, "completion_tokens": 500}})  # fmt: skip


def reply(status: int = 200, body: bytes = BODY, **headers: str) -> HttpReply:
    return HttpReply(status, body, headers, 0.4, "ex-1", Target("u", "m"), None)


def test_an_answer_is_a_row_with_what_it_cost() -> None:
    said = judged_reply(ASK, reply())
    assert not isinstance(said, ReplayFailure)
    row = answered(ASK, reply(), said, 9.0, Prices({"u/m": Price(2.0, 8.0)}, {}))
    assert (row.item, row.target, row.repeat, row.cluster) == (3, "one", 2, "sums")
    assert (row.outcome, row.text, row.finish_reason, row.upstream, row.model) == ("ok", "4", "stop", "u", "m")
    assert (row.input_tokens, row.output_tokens, row.exchange_id) == (1000, 500, "ex-1")
    assert row.cost_usd == pytest.approx(0.006)
    assert answered(ASK, reply(), said, 9.0, Prices({}, {})).cost_usd is None


@pytest.mark.parametrize(
    ("got", "outcome", "passing"),
    [
        (reply(400, b'{"error":{"message":"too long"}}'), "refused", False),
        (reply(429, b"{}", **{"retry-after": "7"}), "failed", True),
        (reply(503, b"down"), "failed", True),
        (reply(504, b"{}"), "timeout", True),
        (reply(408, b"{}"), "timeout", True),
        (reply(200, b"not json"), "failed", True),
        (reply(200, b'{"error":{"message":"overloaded"}}'), "failed", True),
    ],
)
def test_no_answer_says_why_and_whether_to_ask_again(got: HttpReply, outcome: str, passing: bool) -> None:
    failure = judged_reply(ASK, got)
    assert isinstance(failure, ReplayFailure)
    assert (failure.outcome, failure.passing) == (outcome, passing)
    row = unanswered(ASK, failure, 9.0)
    assert (row.outcome, row.text, row.response, row.cost_usd) == (outcome, "", b"", None)
    assert row.error


def test_a_refusal_carries_the_upstreams_words_and_a_limit_its_wait() -> None:
    refused = judged_reply(ASK, reply(400, b'{"error":{"message":"too long"}}'))
    limited = judged_reply(ASK, reply(429, b"{}", **{"retry-after": "7"}))
    odd = judged_reply(ASK, reply(429, b"{}", **{"retry-after": "Wed, 21 Oct"}))
    assert isinstance(refused, ReplayFailure)
    assert isinstance(limited, ReplayFailure)
    assert isinstance(odd, ReplayFailure)
    assert refused.error == "HTTP 400: too long"
    assert (limited.retry_after_s, odd.retry_after_s) == (7.0, None)


def test_scorers_see_the_question_the_answer_and_the_reference() -> None:
    said = judged_reply(ASK, reply())
    assert not isinstance(said, ReplayFailure)
    judged = subject(ASK, answered(ASK, reply(), said, 9.0, Prices({}, {})))
    assert (judged.completion.text, judged.reference, judged.request) == ("4", "4", ASK.body)
    assert judged.exchange.usage == Usage(1000, 500)
    assert judged.exchange.id == ASK.answer_id


def test_the_id_is_of_replay_item_target_and_repeat() -> None:
    assert ASK.answer_id == ReplayRequest("r", ITEM, ASK.target, 2, {}).answer_id
    others = [ReplayRequest("s", ITEM, ASK.target, 2, {}), ReplayRequest("r", ITEM, ASK.target, 1, {}),
              ReplayRequest("r", ITEM, ReplayTarget("two", "chat"), 2, {})]  # fmt: skip
    assert len({ASK.answer_id, *(o.answer_id for o in others)}) == 4
