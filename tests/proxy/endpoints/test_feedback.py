"""`POST /v1/feedback`: accepted and refused bodies, and the answer after the consumer's verdict."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import Feedback, new_id
from gateway.proxy.endpoints.feedback import read_feedback

OLD = new_id(now_ns=1_700_000_000 * 10**9)


def output(key: str | None = None, caller: str = "web", **fields: Any) -> Feedback:
    return read_feedback(orjson.dumps({"id": "e1", "value": True, **fields}), caller, key, 5.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"value": True}, (1.0, "boolean")),
        ({"value": False}, (0.0, "boolean")),
        ({"value": 4}, (4.0, "numeric")),
        ({"value": -0.5}, (-0.5, "numeric")),
        ({"value": None, "label": "funny"}, (None, "categorical")),
        ({"value": 1, "label": "funny"}, (1.0, "numeric")),
        ({"value": None, "comment": "hm"}, (None, "numeric")),
    ],
)
def test_a_value_keeps_what_it_was(fields, expected):
    given = output(**fields)
    assert (given.value, given.data_type) == expected


def test_every_member_lands_in_its_place():
    given = output(name="helpful", value=0.5, label="l", comment="c", correction="k")
    assert (given.id, given.caller, given.at, given.name) == ("e1", "web", 5.0, "helpful")
    assert (given.value, given.label, given.comment, given.correction) == (0.5, "l", "c", "k")


def test_the_same_word_has_the_same_id_and_another_has_not():
    assert output().feedback_id == output(value=False).feedback_id, "who says it again has changed his mind"
    ids = {output(**more).feedback_id for more in ({}, {"id": "e2"}, {"name": "n"}, {"caller": "app"}, {"key": "k"})}
    assert len(ids) == 5
    assert output(key="k", name="a").feedback_id == output(key="k", name="b").feedback_id, "a key says what is one word"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"value": true}', "missing id: the answer's x-request-id, or its own id"),
        (b'{"id": "e"}', "missing value: one of value, label, comment and correction"),
        (b'{"id": "e", "valeu": 1}', "unknown member 'valeu'; known: id, run, name, label, comment, correction, value"),
        (b'{"id": "e", "value": "good"}', "a word is a `label`"),
        (b'{"id": "e", "value": 1e300}', "true, false or a number"),
        (b'{"id": 7, "value": 1}', "id must be a string"),
        (b'{"id": "e", "run": "r", "value": 1}', "feedback is on one answer"),
        (b'{"run": "%b", "value": 1}' % (b"x" * 129), "run has 129 characters; at most 128"),
        (b'{"id": "e", "value": 1, "name": "a b"}', "name: expected letters"),
        (b'{"id": "e", "label": "%b"}' % (b"x" * 300), "label has 300 characters; at most 256"),
    ],
)
def test_unacceptable_feedback_is_named(body, words):
    with pytest.raises(BadRequest, match=words.replace("(", r"\(")):
        read_feedback(body, "web", None, 1.0)


@pytest.fixture
def verdicts(gateway):
    """The consumer as the gateway sees it: a verdict on all feedback, once it is in the stream."""

    async def answer(**verdict: Any) -> None:
        while True:
            await gateway.read_more()
            for word in (r for r in gateway.records if isinstance(r, Feedback)):
                output = {"at": word.at, "exchange": None, "foreign": False, **verdict}
                await gateway.corridor.state.remember(f"feedback:{word.feedback_id}", orjson.dumps(output).decode(), 60)
            await asyncio.sleep(0.01)

    return answer


async def post(gateway: Any, verdict: Any = None, **fields: Any) -> Any:
    body = {"id": new_id(), "value": True, **fields}
    if verdict is None:
        return await gateway.client.post("/feedback", json=body)
    answering = asyncio.get_running_loop().create_task(verdict)
    try:
        return await gateway.client.post("/feedback", json=body)
    finally:
        answering.cancel()


async def test_a_word_on_a_known_exchange_is_stored_under_it(gateway, verdicts):
    answer = await post(gateway, verdicts(exchange="0197"), id="chatcmpl-1", comment="good")
    assert answer.status_code == 200
    assert (answer.json()["exchange"], answer.json()["object"]) == ("0197", "feedback")
    (word,) = (r for r in gateway.records if isinstance(r, Feedback))
    assert (word.id, word.caller, word.value, word.comment) == ("chatcmpl-1", "tester", 1.0, "good")
    assert await gateway.metric("gateway_feedback_total", result="accepted") == 1


async def test_somebody_elses_exchange_is_not_found(gateway, verdicts):
    answer = await post(gateway, verdicts(foreign=True))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "exchange_not_found"
    assert await gateway.metric("gateway_feedback_total", result="not_found") == 1


async def test_an_exchange_that_will_not_come_any_more_is_not_found(gateway, verdicts):
    assert (await post(gateway, verdicts(), id=OLD)).status_code == 404


async def test_feedback_waits_for_its_exchange_in_the_store(gateway, verdicts):
    for named in (new_id(), "chatcmpl-1"):
        answer = await post(gateway, verdicts(), id=named)
        assert (answer.status_code, answer.json()["exchange"]) == (202, named)


async def test_an_older_verdict_says_nothing_of_a_newer_word(gateway):
    word = output(caller="tester")
    verdict = orjson.dumps({"at": time.time() - 60, "exchange": None, "foreign": True}).decode()
    await gateway.corridor.state.remember(f"feedback:{word.feedback_id}", verdict, 60)
    assert (await post(gateway, id="e1")).status_code == 202


async def test_while_nobody_answers_it_is_taken_nevertheless(start, configured, upstream):
    config = configured(upstream)
    config["stream"] = {"url": "redis://127.0.0.1:9/0", "name": "nobody"}
    away = await start(config)
    async with asyncio.timeout(60):
        assert (await post(away)).status_code == 202
    away.gateway.recorder.give_up()


async def test_feedback_without_a_key_is_refused(gateway):
    answer = await gateway.client.post("/feedback", json={"id": "e", "value": 1}, headers={"authorization": "no"})
    assert answer.status_code == 401


async def test_wrong_feedback_is_counted_as_refused(gateway):
    assert (await post(gateway, value="good")).status_code == 400
    big = await gateway.client.post("/feedback", content=b'{"id": "%b"}' % (b"x" * 300_000))
    assert big.status_code == 413
    assert await gateway.metric("gateway_feedback_total", result="refused") == 2


async def test_written_feedback_is_redacted_before_it_leaves(start, configured, upstream):
    keys = [{"name": "tester", "sha256": sha256(b"test-key").hexdigest(), "content": "redacted"}]
    running = await start(configured(upstream, keys=keys))
    assert (await post(running, comment="mail ada@example.org")).status_code == 202
    await running.read_more()
    (word,) = (r for r in running.records if isinstance(r, Feedback))
    assert word.comment == "mail [email]"


async def test_with_a_full_buffer_feedback_gets_503(start, configured, upstream, stream_server):
    """The stream server is away, so that nothing leaves the buffer."""
    stream_server.kill()
    stream = {"url": stream_server.url, "name": "full", "buffer_mb": 0.005}
    gateway = await start(configured(upstream, stream=stream))
    recorder = gateway.gateway.recorder
    while recorder.feedback(Feedback("x", "f", "tester", 1.0, "thumb")):
        pass
    answer = await post(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert await gateway.metric("gateway_feedback_total", result="buffer_full") == 1
    stream_server.start()


async def test_a_value_outside_its_range_gets_400(start, configured, upstream):
    gateway = await start(configured(upstream, feedback={"range": {"thumb": [0, 1]}}))
    for name, value, status in (("thumb", -1e15, 400), ("thumb", True, 202), ("thumb", 0.5, 202), ("stars", 5, 202)):
        answer = await gateway.client.post("/feedback", json={"id": new_id(), "name": name, "value": value})
        assert answer.status_code == status, answer.text
        if status == 400:
            expected = "value: expected 0 to 1 for 'thumb' (feedback.range), got -1e+15"
            assert answer.json()["error"]["message"] == expected


async def test_feedback_on_a_run_names_the_run(gateway, verdicts):
    answer = await post(gateway, verdicts(exchange="0197"), id=None, run="task-1", name="solved")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["run"], body["exchange"]) == ("task-1", "0197")
    (word,) = (r for r in gateway.records if isinstance(r, Feedback))
    assert (word.id, word.name, word.value) == ("run:task-1", "solved", 1.0)


async def test_a_run_of_another_caller_is_not_found(gateway, verdicts):
    answer = await post(gateway, verdicts(foreign=True), id=None, run="task-1")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "run_not_found"
    assert "no recorded run of yours has the id 'task-1'" in answer.json()["error"]["message"]
