"""Learned outputs: back-off, weights, and less error than one quantile for each model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway.core.output_tokens import KINDS, SHARED_NAME, kind_of, tables_from_json
from gateway.features.learned.output_tokens import OutputTokenLearner, learn
from gateway.features.learned.rows.output_tokens import CallOutput
from gateway.proxy.limits.estimate import ModelEstimate

PLAIN, TOOLS = b'{"messages":[]}', b'{"messages":[],"tools":[]}'


def call(request: bytes, tokens: float, weight: float = 1.0, stream: bool = False) -> CallOutput:
    return CallOutput("chat", request, stream, tokens, weight)


def test_a_kind_with_few_calls_backs_off():
    calls = [call(PLAIN, 100 + n) for n in range(100)] + [call(TOOLS, 10)] * 60 + [call(TOOLS, 5, stream=True)] * 3
    table = learn(calls)["chat"]
    assert set(table) == set(KINDS)
    assert table[kind_of(10, {}, False)] == 189
    assert table[kind_of(10, {"tools": []}, False)] == 10
    assert table[kind_of(10, {"tools": []}, True)] == 10, "three streams are too few: streamed or not"
    assert table[kind_of(9999, {"tools": []}, False)] == 10, "of any size"
    assert table[kind_of(10, {"response_format": {}}, False)] == 183, "of the alias"


def test_rarely_recorded_calls_weigh_more():
    calls = [call(PLAIN, 10)] * 90 + [call(PLAIN, 1000, weight=100.0)] * 10
    assert learn(calls)["chat"][0] == 1000


@pytest.mark.parametrize("request_", [b"", b"[]", b'{"max_tokens":5}', b'{"max_completion_tokens":5}'])
def test_a_call_that_needs_no_estimate_teaches_nothing(request_):
    assert learn([call(request_, 10)] * 100) == {}
    assert learn([call(PLAIN, 10)] * 10) == {}, "too few calls for an estimate at all"


def traffic(seed: int, n: int) -> Iterator[tuple[bytes, bool, int]]:
    """(request, stream, output tokens) of an application: long chats, short classifications as JSON, calls of tools."""
    draw = random.Random(seed)
    for _ in range(n):
        which = draw.choices(("chat", "json", "tools"), (5, 3, 2))[0]
        middle, size = {"chat": (400, 300), "json": (20, 900), "tools": (60, 5000)}[which]
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * size}]}
        body |= {"json": {"response_format": {}}, "tools": {"tools": []}}.get(which, {})
        yield json.dumps(body).encode(), which == "chat", max(1, round(draw.lognormvariate(0.0, 0.6) * middle))


def pinball(values: list[tuple[float, int]]) -> float:
    """Mean loss of a 90 % quantile: 0.9 for each token that is missing, 0.1 for each that is reserved and not used."""
    return sum(max(0.9 * (used - reserved), 0.1 * (reserved - used)) for reserved, used in values) / len(values)


def test_it_reserves_with_less_error_than_one_quantile_for_each_model():
    """Learned on one day's traffic and used on the next; the model's own quantile learns along with both."""
    table = learn([CallOutput("chat", request, stream, used, 1.0) for request, stream, used in traffic(1, 4000)])[
        "chat"
    ]
    own, by_kind, by_model = ModelEstimate(0, 0, None), [], []
    for _, _, used in traffic(1, 4000):
        own.learn(used)
    for request, stream, used in traffic(2, 4000):
        by_kind.append((float(table[kind_of(len(request), orjson.loads(request), stream)]), used))
        by_model.append((float(int(own.output)), used))
        own.learn(used)
    assert pinball(by_kind) < 0.75 * pinball(by_model)
    reserved, before = (sum(r for r, _ in each) for each in (by_kind, by_model))
    assert reserved < 0.75 * before, "and a limit of tokens has room for more calls at once"
    below = sum(used <= r for r, used in by_kind) / len(by_kind)
    assert 0.88 < below < 0.92, "while as many calls stay within what is reserved"


async def test_one_consumer_publishes_what_is_learned(room, exchange):
    async with room.opened() as (_, context):
        async with room.consuming():
            await room.send(*(exchange() for _ in range(60)))
            await room.until_read()
        first, second = (OutputTokenLearner(context.store, room.corridor.state, name) for name in ("c1", "c2"))
        await first.publish()
        assert await second.publish() is None
    shared = await room.corridor.state.recall(SHARED_NAME)
    assert shared is not None
    assert set(tables_from_json(shared)["chat"].values()) == {5}
