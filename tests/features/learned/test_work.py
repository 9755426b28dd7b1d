"""The upkeep of the predictor, and the numbers of output tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest
import yaml
from fixtures.metric_samples import sample_sum
from prometheus_client import CollectorRegistry

from gateway.config.loading import parse
from gateway.config.predictor import PredictorConfig
from gateway.consumer import serve
from gateway.consumer.consumer import ConsumerTiming
from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange
from gateway.core.output_tokens import KINDS, SHARED_NAME, kind_of, tables_from_json
from gateway.core.randomization import draw
from gateway.fake import FakeAnswer, FakeUpstream
from gateway.features.learned import work as upkeep
from gateway.features.learned.model import PredictorModel, version_of
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.rows import CallOutput
from gateway.features.learned.trainer import TrainingJob
from gateway.features.learned.trees.ensembles import TreeEnsemble
from gateway.features.learned.work import OutputTokenLearner, PredictorUpkeep, TrainingFailed, learn, trained
from gateway.features.task import TaskWorker
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.scoring.types import Subject
from gateway.store.plans import hold_lease
from gateway.store.predictions import StoredModel, save_model
from gateway.store.store import Store

Make = Callable[..., Exchange]


def said(i: int) -> str:
    """An answer: half of them are easy to judge and good, the others are a matter of luck."""
    return "A good answer. " * 5 if i % 2 else f"perhaps {i % 7}"


def opinion(text: str) -> float:
    return 1.0 if "good" in text else float(int(text[-1]) >= 4)


def numbered(exchange: Make, i: int) -> Exchange:
    """The exchange with the same id, and so the same draw, in every run."""
    own = f"01890000-0000-7000-8000-{i:012x}"
    return exchange(said(i), id=own, unit=own)


def judging(upstream: FakeUpstream) -> None:
    def reply(received: Any) -> FakeAnswer:
        if received.method != "POST":
            return FakeAnswer(b"", status=404)
        return FakeAnswer(orjson.dumps({"value": opinion(received.json["completion"]["text"])}))

    upstream.replies(reply)


@pytest.fixture(autouse=True)
def _not_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training process with the priority of the tests: on a busy machine, its own would let it wait for minutes."""
    program = (
        "import os, sys; os.nice = lambda by: 0; from gateway.features.learned.trainer import main; sys.exit(main())"
    )
    monkeypatch.setattr(upkeep, "ARGV", (sys.executable, "-P", "-X", "utf8", "-c", program))


@pytest.fixture
async def judge() -> AsyncIterator[FakeUpstream]:
    """A double that plays the judge."""
    async with FakeUpstream() as upstream:
        judging(upstream)
        yield upstream


@contextlib.asynccontextmanager
async def consumer(room: Any, judge: FakeUpstream, registry: CollectorRegistry) -> AsyncIterator[None]:
    """A consumer as `gateway evaluate` builds it."""
    config = parse(yaml.safe_dump({
        "open": True, "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
        "scorers": {"judge": {"use": f"{judge.origin}/score", "share": 0.5}, "length": {}},
        "predictor": {"target": "judge", "min_rows": 60, "share": 0.4, "adaptive": True, "pi_min": 0.05},
        "stream": {"url": room.stream_url, "name": room.stream_name},
    }))  # fmt: skip
    timing = ConsumerTiming(block_ms=20, tick_s=0.0)
    built = serve.opened(config, room.store_url, room.stream_url, registry, timing=timing)
    async with built as opened, asyncio.TaskGroup() as tasks:
        tasks.create_task(opened.run())
        yield
        opened.stop()


async def test_a_trained_model_chooses_the_judged_exchanges(room: Any, exchange: Make, judge: FakeUpstream) -> None:
    first = [numbered(exchange, i) for i in range(240)]
    async with consumer(room, judge, CollectorRegistry()):
        await room.send(*first)
        await room.until_read()
    assert room.sql("SELECT DISTINCT pi, version FROM predictions") == [(0.4, "")], "there was no model"
    assert len(judge.calls) == pytest.approx(0.4 * 240, abs=60)

    later = [numbered(exchange, i) for i in range(1000, 1400)]
    registry = CollectorRegistry()
    async with consumer(room, judge, registry):
        value = partial(sample_sum, registry, target="judge")
        await room.until(lambda: value("gateway_eval_predictor_training_rows"))
        await room.send(*later)
        await room.until_read()
        await room.until(lambda: value("gateway_eval_predictor_exchanges_total") == 400)
        mean = value("gateway_eval_predictor_inclusion_mean")

    [(version, trained_on)] = room.sql("SELECT version, rows FROM predictor_models")
    assert trained_on >= 60
    new = {row[0]: row[1:] for row in room.sql("SELECT exchange_id, version, predicted, residual, pi, judged "
                                               "FROM predictions WHERE version <> ''")}  # fmt: skip
    assert set(new) == {e.id for e in later}
    assert {row[0] for row in new.values()} == {version}
    for e in later:
        _, g, residual, pi, judged = new[e.id]
        assert 0 <= g <= 1
        assert residual > 0
        assert 0.05 <= pi <= 1
        assert judged == (draw("learn:judge", e.id) < pi)
    seen = dict(room.sql("SELECT exchange_id, pi FROM scores WHERE scorer = 'judge'"))
    assert {i: pi for i, pi in seen.items() if i in new} == {i: row[3] for i, row in new.items() if row[4]}

    probabilities = [row[3] for row in new.values()]
    assert sum(probabilities) / 400 == pytest.approx(mean)
    assert sum(probabilities) / 400 == pytest.approx(0.4, abs=0.15), "the mixture is the same as before"
    easy, hard = ([new[e.id][3] for i, e in enumerate(later) if i % 2 == odd] for odd in (1, 0))
    assert sum(hard) > 1.5 * sum(easy), "what cannot be predicted is judged more often"

    # Horvitz–Thompson over the later ones, within six standard errors.
    truth = [opinion(said(i)) for i in range(1000, 1400)]
    estimate = sum(t / new[e.id][3] for t, e in zip(truth, later, strict=True) if new[e.id][4]) / 400
    variance = sum(t * t * (1 / new[e.id][3] - 1) for t, e in zip(truth, later, strict=True)) / 400**2
    assert abs(estimate - sum(truth) / 400) < 6 * math.sqrt(variance)
    [(n, s_e1)] = room.sql("SELECT sum(n), sum(s_e1) FROM prediction_sums")
    assert n == 640
    judged = [1 / pi for pi in seen.values()]
    assert s_e1 == pytest.approx(640 - sum(judged))


def job(url: str, **fields: Any) -> TrainingJob:
    plain: dict[str, Any] = {"target": "judge", "key": "judge", "pi_min": 0.05, "share": 0.4, "min_rows": 60,
                             "max_rows": 1000, "version": "1", "config_hash": "c", "budget_usd": None,
                             "budget_tokens": None, "adaptive": True}  # fmt: skip
    return TrainingJob(store=url, **{**plain, **fields})


@pytest.fixture
def predictor(stated_scorer: Any) -> Predictor:
    """An adaptive predictor of the scorer `judge`."""
    config = PredictorConfig(target="judge", min_rows=60, share=0.4, adaptive=True)
    return Predictor(config, {"judge": stated_scorer(name="judge")})


async def test_a_model_that_is_not_one_is_not_used(room: Any, predictor: Predictor, caplog: Any) -> None:
    async with Store(room.store_url) as store:
        bad = StoredModel("0" * 64, "judge", 9e9, 1.0, 2.0, 700, "{}", {}, ())
        await store.run(lambda c: save_model(c, bad))
        upkeep = PredictorUpkeep(TaskWorker(store, "c1"), predictor, job(room.store_url))
        await upkeep.load()
        await upkeep.load()
    assert predictor.model_version == ""
    assert [r.message for r in caplog.records] == [
        "predictor: model 000000000000 cannot be used: model 000000000000 was changed after it was stored; judging "
        "continues with the newest usable model, or without one"
    ]


async def test_a_model_over_other_features_is_replaced_and_not_used(
    room: Any, predictor: Predictor, exchange: Make
) -> None:
    """An older version of this package has left the model."""
    model = PredictorModel("judge", ("a",), TreeEnsemble(0.5, (), 1), TreeEnsemble(0.1, (), 1), 1.0)
    text = model.to_json()
    old = StoredModel(version_of(text), "judge", 9e9, 1.0, 2.0, 700, text, {"asked_share": 0.4}, ("a",))
    async with Store(room.store_url) as store:
        await store.run(lambda c: save_model(c, old))
        upkeep = PredictorUpkeep(TaskWorker(store, "c1", lambda: 9e9), predictor, job("nowhere://"))
        newest = await upkeep.load()
        assert newest is not None
        async with asyncio.TaskGroup() as tasks:  # a training is tried, and cannot run with this store
            running = tasks.create_task(upkeep.run())
            await room.until(lambda: room.sql("SELECT count(*) FROM leases WHERE name = 'predictor:judge'") == [(1,)])
            running.cancel()
    e = exchange("1")
    [found] = predictor.predict([Subject(e, {}, completion_of(e))])
    assert (found.version, found.pi) == ("", 0.4)


async def test_one_consumer_at_a_time_trains(room: Any, predictor: Predictor) -> None:
    async with Store(room.store_url) as store:
        await store.run(lambda c: hold_lease(c, "predictor:judge", "another", 1000.0, 900.0))
        upkeep = PredictorUpkeep(TaskWorker(store, "c1", lambda: 1001.0), predictor, job("nowhere://"))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(upkeep.run())
            for _ in range(50):
                await asyncio.sleep(0.002)
            running.cancel()
        assert room.sql("SELECT holder FROM leases WHERE name = 'predictor:judge'") == [("another",)]


async def test_a_training_that_fails_says_why_and_shows_no_password() -> None:
    with pytest.raises(TrainingFailed, match="mysql is not supported") as failed:
        await trained(job("mysql://me:secret@127.0.0.1/x"), 60.0)
    assert "secret" not in str(failed.value)


async def test_a_training_that_takes_too_long_is_ended(room: Any) -> None:
    with pytest.raises(TrainingFailed, match="not done after"):
        await trained(job(room.store_url), 0.001)


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


async def test_one_consumer_publishes_the_learned_tables(room, exchange):
    async with room.opened() as (_, context):
        async with room.consuming():
            await room.send(*(exchange() for _ in range(60)))
            await room.until_read()
        first, second = (
            OutputTokenLearner(TaskWorker(context.store, name), room.corridor.state) for name in ("c1", "c2")
        )
        await first.publish()
        assert await second.publish() is None
    shared = await room.corridor.state.recall(SHARED_NAME)
    assert shared is not None
    assert set(tables_from_json(shared)["chat"].values()) == {5}
