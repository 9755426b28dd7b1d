"""A shadow under real traffic: it changes nothing for clients, and what is recorded has the probability it says."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from gateway.core.completion import completion_of
from gateway.core.exchange import Tally
from gateway.core.randomization import draw
from gateway.fake import CUT, HOLD, FakeUpstream, Fault
from gateway.proxy.routing.assignment import shadowed

Make = Callable[..., Any]
KEYS = ("web", "other", "away")


@pytest.fixture(autouse=True)
def nothing_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test whose log names an error: errors in the background are reported nowhere else."""
    yield
    wrong = [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]
    assert not wrong


@pytest.fixture
async def third() -> AsyncIterator[FakeUpstream]:
    """A third double."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def make(
    start: Any,
    configured: Callable[..., dict[str, Any]],
    upstream: FakeUpstream,
    second: FakeUpstream,
    third: FakeUpstream,
) -> Make:
    """A gateway that shadows `chat` (control u0, fallback u2) at u1; `plain`, the same without, is in no experiment.
    experiment: changes to it, None if there is none. rate: of sampling. total_s: of both aliases, and so the deadline.
    """

    def config(
        rate: float = 1.0,
        experiment: dict[str, Any] | None = {},  # noqa: B006 - read only
        total_s: float = 20.0,
        content: str = "full",
    ) -> dict[str, Any]:
        swap = {
            "model": "chat",
            "control": {"upstream": "u0", "model": "model-u0"},
            "candidate": {"upstream": "u1", "model": "new"},
            "shadow": 1.0,
            "repeat_control": 0.0,
            "aa": "proof",
            **(experiment or {}),
        }
        made = configured(upstream, second, third, sampling={"rate": rate})
        made["models"]["chat"]["fallback"] = [{"upstream": "u2", "model": "model-u2"}]
        made["models"]["chat"]["retries"] = {"attempts": 1}
        made["models"]["chat"]["timeouts"]["total_s"] = total_s
        made["models"]["plain"] = made["models"]["chat"]
        made["keys"] += [{"name": n, "sha256": sha256(n.encode()).hexdigest(), "allow": ["sample"]} for n in KEYS]
        made["keys"][-1]["sample"] = "never"
        made["keys"][0]["content"] = content
        return made if experiment is None else {**made, "experiments": {"swap": swap}}

    async def go(**given: Any) -> Any:
        gateway = await start(config(**given))
        gateway.config_of = config
        return gateway

    return go


async def quiet(gateway: Any) -> None:
    """Waits until no request is in flight, shadows included."""
    await gateway.until(lambda: not gateway.gateway.in_use)
    assert not any(p.in_flight for p in gateway.gateway.router.target_states)
    assert not gateway.gateway.ticker.timers


async def shadows(gateway: Any) -> dict[str, float]:
    """gateway_shadow_total by result."""
    results = ["asked", "asked_failed", "not_offered_busy", "not_offered_target_down", "not_offered_has_effects"]
    found = {r: await gateway.metric("gateway_shadow_total", result=r) for r in results}
    assert sum(found.values()) == await gateway.metric("gateway_shadow_total"), "a closed set of results"
    return {r: n for r, n in found.items() if n}


def closes(tally: Tally, exchanges: list[Any]) -> None:
    """Every call seen is sampled or not, every sampled one enqueued or dropped, and every enqueued one is there."""

    def by_cell(counts: tuple[Any, ...]) -> Counter[Any]:
        out: Counter[Any] = Counter()
        for c in counts:
            out[c.stratum, c.alias, c.target, c.arm] += c.n
        return out

    assert by_cell(tally.seen) == by_cell(tally.sampled) + by_cell(tally.unsampled)
    assert by_cell(tally.sampled) == by_cell(tally.enqueued) + by_cell(tally.dropped)
    there = Counter((e.stratum, e.alias, str(e.target), e.arm or "") for e in exchanges)
    assert by_cell(tally.enqueued) == there
    assert len({e.id for e in exchanges}) == len({e.seq for e in exchanges}) == len(exchanges)


async def test_clients_do_not_notice_a_misbehaving_candidate(
    make: Make, second: FakeUpstream, upstream: FakeUpstream
) -> None:
    gateway = await make(experiment={"budget": {"concurrency": 8}}, total_s=1.5)
    faults = [
        Fault.silence(), Fault.reset(), Fault.status(500), Fault.cut_after(1), Fault.garbage(), Fault.error_body(),
        Fault.header_drip(0.05), Fault.comments_forever(0.05), Fault.stall_after(1), Fault.rate_limited(0),
    ]  # fmt: skip
    slowest = 0.0
    for i, fault in enumerate(faults):
        second.then(fault)
        began = time.monotonic()
        reply = await gateway.chat(stream=bool(i % 2))
        slowest = max(slowest, time.monotonic() - began)
        assert reply.status_code == 200
        assert "Hello" in reply.text
        await gateway.until(lambda i=i: len(second.calls) == i + 1 or i >= 5)
    assert slowest < 1.2, "the candidate's deadline is longer"
    await quiet(gateway)
    await second.until(lambda u: all(r.done.is_set() for r in u.calls))
    asked = await shadows(gateway)
    assert set(asked) <= {"asked_failed", "not_offered_target_down"}, "its breaker keeps it from being asked forever"
    served = len(faults)
    tally = await gateway.tally(lambda t: t.last_seq == served + asked["asked_failed"])
    closes(tally, gateway.exchanges)
    assert [e.outcome for e in gateway.exchanges if e.role == "served"] == ["ok"] * served
    assert not [e for e in gateway.exchanges if e.role == "shadow" and e.outcome == "ok"]
    assert await gateway.metric("gateway_requests_total") == served, "shadows are not client requests"


async def test_a_reply_does_not_wait_for_its_shadow(make: Make, second: FakeUpstream) -> None:
    gateway = await make()
    second.says("never ", HOLD, "heard")
    reply = await gateway.chat(stream=True)
    assert reply.text.endswith("data: [DONE]\n\n")
    await second.until(lambda u: len(u.calls) == 1)
    [served] = await gateway.recorded(1)
    assert served.role == "served"
    second.release()
    _, shadow = await gateway.recorded(2)
    assert (shadow.pair, shadow.role, shadow.outcome) == (served.id, "shadow", "ok")
    assert b"heard" in shadow.response


async def test_the_shadow_has_no_seed_and_no_idempotency_key(
    make: Make, second: FakeUpstream, upstream: FakeUpstream
) -> None:
    """Two answers with the same seed would not be independent; with the same key the provider repeats the first."""
    gateway = await make()
    body = {"model": "chat", "seed": 7, "messages": [{"role": "user", "content": "my seed is 7"}]}
    await gateway.client.post("/chat/completions", json=body, headers={"idempotency-key": "once"})
    await second.until(lambda u: len(u.calls) == 1)
    await quiet(gateway)
    [served], [asked] = upstream.calls, second.calls
    assert (served.json["seed"], len(served.header("idempotency-key"))) == (7, 64)
    assert "seed" not in asked.json
    assert asked.header("idempotency-key") is None
    assert asked.json == {"model": "new", "messages": body["messages"]}


async def test_the_arms_of_a_pair_have_the_same_request_digest(
    make: Make, second: FakeUpstream, upstream: FakeUpstream
) -> None:
    """Differences of the model, the seed and the spaces do not change it."""
    gateway = await make(experiment={"repeat_control": 1.0, "aa": "alarm"})
    for stream, text in ((False, "one"), (True, "two")):
        await gateway.chat(stream=stream, seed=7, messages=[{"role": "user", "content": text}])
        await quiet(gateway)
    exchanges = await gateway.recorded(6)
    by_pair: dict[str, dict[str, str | None]] = {}
    for e in exchanges:
        by_pair.setdefault(e.pair or e.id, {})[e.arm] = e.request_digest
    for digests in by_pair.values():
        assert set(digests) == {"control", "candidate", "repeat"}
        assert len(set(digests.values())) == 1
        assert str(digests["control"]).startswith("openai:")
    assert len({digests["control"] for digests in by_pair.values()}) == 2, "the prompts differ"
    await gateway.chat(model="plain")
    await quiet(gateway)
    assert [e.request_digest for e in await gateway.recorded(7) if e.experiment is None] == [None]


@pytest.mark.parametrize("content", ["full", "redacted", "metadata"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_record_of_each_arm_names_its_own_model(make: Make, content: str, stream: bool) -> None:
    gateway = await make(content=content)
    await gateway.chat(stream=stream)
    await quiet(gateway)
    named = {e.role: (e.model_returned, e.target.model) for e in await gateway.recorded(2)}
    assert named == {"served": ("model-u0", "model-u0"), "shadow": ("new", "new")}


async def test_a_call_that_no_experiment_names_is_untouched(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The upstream gets the same bytes, and the record is the same, as without an experiment."""
    kept = []
    for experiment in ({}, None):
        gateway = await make(experiment=experiment)
        reply = await gateway.chat(model="plain", seed=3)
        assert not [h for h in reply.headers if h in ("x-gateway-experiment", "x-gateway-arm")]
        await quiet(gateway)
        kept.append(next(e for e in await gateway.recorded() if e.id == reply.headers["x-request-id"]))
        assert await gateway.metric("gateway_shadow_total") == 0
    assert not second.calls
    assert upstream.calls[0].body == upstream.calls[1].body
    assert upstream.calls[0].headers == upstream.calls[1].headers
    for name in ("pi", "stratum", "experiment", "plan", "arm", "pair", "role", "target", "request", "attempts"):
        if name != "attempts":
            assert getattr(kept[0], name) == getattr(kept[1], name)
    assert kept[0].experiment is None
    assert all(e.u == draw("sample", e.id) for e in kept)


async def test_only_the_keys_that_may_are_shadowed(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={"allow": {"keys": ["web", "away"]}})
    for key in ("test-key", *KEYS):
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": "chat", "messages": [{"role": "user", "content": key}]}
        reply = await gateway.client.post("/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200
    forbidden = {"authorization": "Bearer web", "x-gateway-sample": "never"}
    await gateway.client.post("/chat/completions", json=body, headers=forbidden)
    await quiet(gateway)
    assert [c.json["messages"][0]["content"] for c in second.calls] == ["web"]
    assert await shadows(gateway) == {"asked": 1}


async def test_only_the_controls_first_complete_answer_has_a_shadow(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make()
    upstream.then(Fault.status(500))
    served_by_fallback = await gateway.chat()
    assert served_by_fallback.headers["x-gateway-upstream"] == "u2"
    upstream.then(Fault.status(400))
    assert (await gateway.chat()).status_code == 400
    upstream.says("one ", HOLD, "two")
    async with gateway.stream() as reply:
        await anext(reply.aiter_lines())
    await upstream.until(lambda u: u.cancelled == 1)
    await quiet(gateway)
    assert not second.calls
    exchanges = await gateway.recorded(3)
    assert {e.stratum for e in exchanges} == {"default"}
    assert {e.experiment for e in exchanges} == {None}


async def test_shadows_are_bounded_and_what_does_not_fit_is_counted(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment={"budget": {"concurrency": 3}})
    second.says(HOLD, "said")
    async with asyncio.TaskGroup() as group:
        replies = [group.create_task(gateway.chat()) for _ in range(20)]
    assert {r.result().status_code for r in replies} == {200}
    await second.until(lambda u: len(u.calls) == 3)
    assert await shadows(gateway) == {"not_offered_busy": 17}
    second.release()
    await quiet(gateway)
    assert await shadows(gateway) == {"not_offered_busy": 17, "asked": 3}
    assert (await gateway.chat()).status_code == 200
    await second.until(lambda u: len(u.calls) == 4)
    second.release()
    await quiet(gateway)
    tally = await gateway.tally(lambda t: t.last_seq == 25)
    closes(tally, gateway.exchanges)
    pairs = Counter(e.pair for e in gateway.exchanges if e.role == "shadow")
    assert set(pairs.values()) == {1}
    assert set(pairs) <= {e.id for e in gateway.exchanges if e.role == "served"}


async def test_a_candidate_that_hangs_times_out_and_is_recorded(make: Make, second: FakeUpstream) -> None:
    gateway = await make(total_s=0.1)
    second.then(Fault.silence())
    await gateway.chat()
    await second.until(lambda u: u.cancelled == 1)
    _, shadow = await gateway.recorded(2)
    assert (shadow.role, shadow.outcome, shadow.pi) == ("shadow", "timeout", 1.0)
    await quiet(gateway)
    assert await shadows(gateway) == {"asked_failed": 1}


async def test_a_shadow_continues_under_the_config_it_began_with(
    make: Make, second: FakeUpstream, upstream: FakeUpstream
) -> None:
    gateway = await make()
    second.says("one ", HOLD, "two")
    await gateway.chat()
    await second.until(lambda u: len(u.calls) == 1)
    before = gateway.gateway
    gateway.write(gateway.config_of(experiment=None))
    await gateway.until(lambda: gateway.gateway is not before)
    assert (await gateway.chat()).status_code == 200
    second.release()
    exchanges = await gateway.recorded(3)
    assert Counter((e.role, e.experiment, e.outcome) for e in exchanges) == Counter(
        [("served", "swap", "ok"), ("shadow", "swap", "ok"), ("served", None, "ok")]
    )
    await second.until(lambda u: u.open_connections == 0)


async def test_each_record_has_its_true_inclusion_probability(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Recorded when the sample or the shadow was drawn, with the probability of either: 1 - (1 - 0.25)(1 - 0.4)."""
    rate, shadow, n = 0.25, 0.4, 600
    none_dropped = {"budget": {"concurrency": n}, "gate": {"latency": False}}
    gateway = await make(rate=rate, experiment={"shadow": shadow, "headers": "all", **none_dropped})
    plan = gateway.gateway.router.experiments.in_force["swap"]
    limit = asyncio.Semaphore(24)

    async def call() -> str:
        async with limit:
            reply: httpx2.Response = await gateway.chat()
            assert reply.headers["x-gateway-experiment"] == "swap"
            return reply.headers["x-request-id"]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call()) for _ in range(n)]
    await quiet(gateway)
    ids = [t.result() for t in tasks]
    sampled = {i for i in ids if draw("sample", i) < rate}
    drawn = {i for i in ids if shadowed(plan, i)}

    exchanges = await gateway.recorded(len(sampled | drawn) + len(drawn))
    served = {e.id: e for e in exchanges if e.role == "served"}
    asked = {e.pair: e for e in exchanges if e.role == "shadow"}
    assert set(served) == sampled | drawn
    assert set(asked) == drawn
    pi = 1 - (1 - rate) * (1 - shadow)
    assert {(e.pi, e.stratum, e.arm) for e in served.values()} == {(pi, "default+swap", "control")}
    assert {(e.pi, e.stratum, e.arm) for e in asked.values()} == {(shadow, "shadow:swap", "candidate")}
    assert {e.plan for e in exchanges} == {plan.hash}

    tally = await gateway.tally(lambda t: t.last_seq == len(exchanges))
    closes(tally, exchanges)
    seen = {c.stratum: c.n for c in tally.seen}
    assert seen == {"default+swap": n, "shadow:swap": len(drawn)}
    for found, p in ((len(served), pi), (len(asked), shadow), (len(sampled & drawn), rate * shadow)):
        assert abs(found - n * p) < 5 * math.sqrt(n * p * (1 - p)), "and the two draws are independent"


async def test_calls_outside_the_experiment_keep_their_own_pi(make: Make, upstream: FakeUpstream) -> None:
    """The call's shadow was drawn, and turned out not to be eligible, which is no reason to record the call more
    often.
    """
    gateway = await make(rate=0.3)
    upstream.says("half ", CUT)
    replies = [await gateway.chat(model="chat", stream=True) for _ in range(40)]
    ids = [r.headers["x-request-id"] for r in replies]
    drawn = [i for i in ids if draw("sample", i) < 0.3]
    await quiet(gateway)
    tally = await gateway.tally(lambda t: sum(c.n for c in t.seen) == len(ids))
    assert tally.last_seq == len(drawn)
    assert {e.id for e in gateway.exchanges} == set(drawn)
    assert {(e.pi, e.stratum, e.experiment) for e in gateway.exchanges} <= {(0.3, "default", None)}


RESPONSES = {"allow": {"apis": ["responses", "messages"]}}


async def test_responses_have_shadows_where_the_plan_takes_them(
    make: Make, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    gateway = await make(experiment=RESPONSES)
    answer = await gateway.client.post("/responses", json={"model": "chat", "input": "hi"})
    assert answer.status_code == 200
    await second.until(lambda u: len(u.calls) == 1)
    served, shadow = await gateway.recorded(2)
    assert [(e.api, e.role, e.arm) for e in (served, shadow)] == [
        ("responses", "served", "control"), ("responses", "shadow", "candidate"),
    ]  # fmt: skip
    assert completion_of(shadow).text == completion_of(served).text != ""
    assert served.request_digest == shadow.request_digest
    assert str(served.request_digest).startswith("responses:")
    assert "store" not in upstream.calls[0].json
    assert second.calls[0].json["store"] is False, "the candidate's upstream keeps nothing"
    await gateway.chat()
    await quiet(gateway)
    assert len(second.calls) == 1, "chats are not in this plan"


async def test_a_turn_over_websocket_has_a_shadow_by_http(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment=RESPONSES)
    url = gateway.base_url.replace("http://", "ws://") + "/responses"
    head = {"authorization": "Bearer test-key"}
    async with connect(url, additional_headers=head, compression=None, proxy=None) as socket:
        previous = None
        for text in ("a", "b"):
            ask = {"type": "response.create", "model": "chat", "input": text, "store": False}
            await socket.send(json.dumps({**ask, "previous_response_id": previous}))
            while (event := json.loads(await socket.recv()))["type"] != "response.completed":
                assert event["type"] != "error", event
            previous = event["response"]["id"]
    await second.until(lambda u: len(u.calls) == 2)
    found = await gateway.recorded(4)
    assert Counter((e.role, e.arm) for e in found) == {("served", "control"): 2, ("shadow", "candidate"): 2}
    said = [item["content"] for item in second.calls[1].json["input"] if item["role"] == "user"]
    assert [c if isinstance(c, str) else c[0]["text"] for c in said] == ["a", "b"], "the whole conversation"


async def test_a_response_that_an_upstream_keeps_is_counted(make: Make, second: FakeUpstream) -> None:
    gateway = await make(experiment=RESPONSES)
    first = (await gateway.client.post("/responses", json={"model": "chat", "input": "hi"})).json()["id"]
    await second.until(lambda u: len(u.calls) == 1)
    await quiet(gateway)
    following = {"model": "chat", "input": "and?", "previous_response_id": first}
    assert (await gateway.client.post("/responses", json=following)).status_code == 200
    await quiet(gateway)
    assert await shadows(gateway) == {"asked": 1, "not_offered_has_effects": 1}


async def test_messages_are_split_where_the_plan_takes_them(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    arms = {"control": {"upstream": "u0", "model": "model-u0"}, "candidate": {"upstream": "u1", "model": "new"}}
    gateway = await start(
        configured(upstream, second, experiments={"swap": {"model": "chat", "mode": "split", **arms, **RESPONSES}})
    )
    body = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(40):
        assert (await gateway.client.post("/messages", json=body)).status_code == 200
        answer = await gateway.client.post("/responses", json={"model": "chat", "input": "hi", "store": False})
        assert answer.status_code == 200
    found = await gateway.recorded(80)
    assert {(e.api, e.arm) for e in found} == {(a, arm) for a in ("messages", "responses") for arm in arms}
    assert upstream.calls
    assert second.calls
