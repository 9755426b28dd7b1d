"""Decisions of chats that are read from a chat engine, without sockets; test_facade.py has them over sockets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fixtures.chat_engines import chat_answer

from gateway.config.upstreams import Upstream
from gateway.core.decision import DecisionRequest, Question
from gateway.core.decision_reads import MOST_READS, ReadSettings
from gateway.core.errors import BadRequest
from gateway.core.exchange import new_id
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.read_decisions import ReadDecisions
from gateway.proxy.dialects.types import UnreadableEngine
from gateway.proxy.request.call import Call, Caller

UPSTREAM = Upstream.model_validate({"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"})


def a_call(*, stream: bool = False) -> Call:
    body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "Twice."}], "stream": stream})
    return Call(new_id(), 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", stream, body)


def questions(count: int) -> tuple[Question, ...]:
    return tuple([Question("predicate", f"q{n}", None, f"Is it {n}?") for n in range(count)])


@pytest.fixture
def decisions() -> ReadDecisions:
    """Decisions that are read from the chats of a vLLM server."""
    return ReadDecisions(UPSTREAM, build_dialect(UPSTREAM).by_api["chat"], ReadSettings("words"))


def replies(*bodies: dict[str, Any]) -> bytes:
    return orjson.dumps(bodies[0] if len(bodies) == 1 else list(bodies))


def test_a_streamed_call_becomes_plain_reads(decisions: ReadDecisions) -> None:
    request = DecisionRequest("Twice.", questions(2), "Sort tickets.")
    first, second = decisions.asking(request, a_call(stream=True), "small", b"recorded", decisions.written(request))
    assert (first.recorded, second.recorded) == (b"recorded", b"")
    for asked, text in ((first, "Is it 0?"), (second, "Is it 1?")):
        body = orjson.loads(asked.body)
        assert (body["model"], body["messages"][0]) == ("small", {"role": "system", "content": "Sort tickets."})
        assert text in body["messages"][1]["content"]
        assert "stream" not in body


def test_images_and_too_many_questions_are_not_read(decisions: ReadDecisions) -> None:
    with pytest.raises(BadRequest, match="without images"):
        decisions.asking(DecisionRequest("Twice.", questions(1), images=("http://a/b.png",)), a_call(), "small")
    with pytest.raises(BadRequest, match="65 questions"):
        decisions.written(DecisionRequest("Twice.", questions(MOST_READS + 1)))


def test_replies_to_all_reads_are_one_reply(decisions: ReadDecisions) -> None:
    answers = [orjson.loads(chat_answer([("yes", p), ("no", 0.2)]).body) for p in (0.6, 0.2)]
    reply = decisions.reply(replies(*answers), questions(2))
    assert [answer.probabilities[0] for answer in reply.answers] == pytest.approx([0.75, 0.5])
    assert (reply.input_tokens, reply.output_tokens) == (80, 2)


def test_replies_that_are_no_chats_are_refused(decisions: ReadDecisions) -> None:
    silent = {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}
    with pytest.raises(UnreadableEngine, match="shows no log-probabilities"):
        decisions.reply(replies(silent), questions(1))
    for body in (b"{}", b"[1]"):
        with pytest.raises(ValueError, match="a reply to a read is not a chat's"):
            decisions.reply(body, questions(1))
