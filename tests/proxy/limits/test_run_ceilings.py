"""Ceilings of runs over sockets: dollars, tokens, calls, minutes and loops of one task, shared by its sub-agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from gateway.config.stream import StreamConfig
from gateway.core.exchange import run_key
from gateway.core.run_ceilings import ceiling_of, run_scope
from gateway.fake import HOLD, FakeUpstream
from gateway.proxy.limits.book import Account, LeaseBook, RunAccount
from gateway.proxy.limits.refusal import RunEnded
from gateway.proxy.limits.run_ceilings import MOST_RUNS, check_minutes
from gateway.stream.connect import close, connect
from gateway.stream.leases import LeaseServer

Limited = Callable[..., dict[str, Any]]
PATIENT = {"timeouts": {"first_token_s": 60, "answer_s": 60, "total_s": 60}}
"""Timeouts of tests that count answers, however busy the machine is."""
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


async def ask(gateway: Any, run: str | None = "task-1", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    named = {"x-gateway-run": run} if run else {}
    body = {"model": "chat", **CHAT, **fields}
    return await gateway.client.post("/chat/completions", json=body, headers={**named, **(headers or {})})


async def statuses(gateway: Any, n: int, run: str | None = "task-1", **how: Any) -> list[int]:
    return [(await ask(gateway, run, **how)).status_code for _ in range(n)]


async def test_a_run_ends_at_its_calls_and_another_one_goes_on(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 3}}))
    assert await statuses(gateway, 3) == [200, 200, 200]
    refused = await ask(gateway)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in refused.headers
    error = refused.json()["error"]
    assert error["code"] == "insufficient_quota"
    assert error["message"] == "this run has used 3 calls of 3 calls: finish with what you have, or ask a person"
    assert (error["limit"], error["reset"]) == ("requests_per_run", None)
    assert await statuses(gateway, 3, "task-2") == [200, 200, 200]
    assert await statuses(gateway, 2, None) == [200, 200], "without a run no ceiling applies"


async def test_the_end_has_the_configured_status_and_the_shape_of_the_api(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 1}}, budgets={"status": 402}))
    assert await statuses(gateway, 2) == [200, 402]
    headers = {"x-gateway-run": "task-1", "anthropic-version": "2023-06-01"}
    refused = await gateway.client.post("/messages", json={"model": "chat", **CHAT}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["type"]) == (402, "billing_error")
    assert refused.headers["x-should-retry"] == "false"


async def test_the_smallest_ceiling_of_all_owners_counts(start: Any, limited: Limited) -> None:
    runs = [{"per_run": {"calls": n}} for n in (5, 4, 2, 3)]
    gateway = await start(limited(*runs[:1], team=runs[1], organization=runs[2], person=runs[3]))
    assert await statuses(gateway, 3) == [200, 200, 429]


async def test_a_ceiling_of_a_model_or_tag_counts_its_calls_alone(start: Any, limited: Limited) -> None:
    limits = {"models": {"chat": {"per_run": {"calls": 1}}}, "tags": {"project=a": {"per_run": {"calls": 2}}}}
    config = limited(key=limits, tags={"keys": ["project"]})
    config["models"]["other"] = config["models"]["chat"]
    gateway = await start(config)
    assert await statuses(gateway, 2) == [200, 429]
    assert "(model chat)" in (await ask(gateway)).json()["error"]["message"]
    assert await statuses(gateway, 3, model="other") == [200] * 3
    tagged = {"x-gateway-tags": "project=a"}
    assert await statuses(gateway, 3, model="other", headers=tagged) == [200, 200, 429]


async def test_a_call_may_ask_for_less_and_never_for_more(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 3}}))
    assert await statuses(gateway, 3, headers={"x-gateway-run-budget": "calls=2, usd=1"}) == [200, 200, 429]
    assert await statuses(gateway, 4, "more", headers={"x-gateway-run-budget": "calls=100"}) == [200] * 3 + [429]
    free = await start(limited())
    assert await statuses(free, 3, "own", headers={"x-gateway-run-budget": "calls=2"}) == [200, 200, 429]


@pytest.mark.parametrize(
    "text",
    [
        "usd=-1",
        "calls=-200",
        "usd=0.5, calls=-1",
        "eur=1",
        "usd=0.50 EUR",
        "$=1",
        "usd",
        "usd=1,usd=2",
        "calls=1.5",
        "usd=nan",
        "usd=0",
        "",
        "usd=1e9",
    ],
)
async def test_a_budget_that_is_not_understood_is_refused(start: Any, limited: Limited, text: str) -> None:
    gateway = await start(limited())
    refused = await ask(gateway, headers={"x-gateway-run-budget": text})
    assert refused.status_code == 400
    assert "x-gateway-run-budget" in refused.json()["error"]["message"]


async def test_a_budget_without_a_run_is_refused(start: Any, limited: Limited) -> None:
    gateway = await start(limited())
    refused = await ask(gateway, None, headers={"x-gateway-run-budget": "calls=1"})
    assert (refused.status_code, "send x-gateway-run" in refused.text) == (400, True)


async def test_sub_agents_share_the_ceiling_of_their_parent(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 4}}))
    sub = {"x-gateway-run-parent": "task-1"}
    assert await statuses(gateway, 2) == [200, 200]
    assert await statuses(gateway, 1, "sub-a", headers=sub) == [200]
    assert await statuses(gateway, 2, "sub-b", headers=sub) == [200, 429]
    assert await statuses(gateway, 1) == [429]
    assert await statuses(gateway, 1, "sub-a") == [200], "without its parent it is a run of its own"
    itself = {"x-gateway-run-parent": "own"}
    assert await statuses(gateway, 5, "own", headers=itself) == [200] * 4 + [429]


SUB_AGENTS = {
    "Claude Code": ({"x-claude-code-session-id": "s-1"}, {"x-claude-code-agent-id": "a-1"}),
    "Codex": ({"session-id": "s-1", "thread-id": "s-1"}, {"thread-id": "t-2", "x-codex-parent-thread-id": "s-1"}),
    "opencode": ({"x-session-id": "s-1"}, {"x-session-id": "s-2", "x-parent-session-id": "s-1"}),
}
"""Headers of a coding agent, and what its sub-agent sends otherwise."""


@pytest.mark.parametrize("agent", SUB_AGENTS)
async def test_sub_agents_of_coding_agents_share_its_ceiling(start: Any, limited: Limited, agent: str) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 3}}))
    own, further = SUB_AGENTS[agent]
    assert await statuses(gateway, 2, None, headers=own) == [200, 200]
    assert await statuses(gateway, 2, None, headers={**own, **further}) == [200, 429]
    assert await statuses(gateway, 1, None, headers=own) == [429]
    assert await statuses(gateway, 1, "task-1", headers=further) == [200], "another run is not affected"


def history(turns: int, mark: str = "") -> list[dict[str, Any]]:
    """The messages of an agent that has called a tool in each of its turns."""
    found: list[dict[str, Any]] = [{"role": "user", "content": f"Fix it. {mark}"}]
    for n in range(turns):
        called = {"id": f"c{n}", "type": "function", "function": {"name": "read", "arguments": f'{{"n": {n}}}'}}
        found.append({"role": "assistant", "content": None, "tool_calls": [called]})
        found.append({"role": "tool", "tool_call_id": f"c{n}", "content": f"line {n}"})
    return found


async def test_a_ceiling_ends_a_run_that_is_known_by_its_history(start: Any, limited: Limited) -> None:
    """Two gateways take turns. A run whose first calls were not seen begins a ceiling of its own."""
    config = {**limited(key={"per_run": {"calls": 4}}), "runs": {"from": ["history"]}}
    gateways = [await start(config), await start(config)]
    found = [await ask(gateways[n % 2], None, messages=history(n)) for n in range(7)]
    assert [answer.status_code for answer in found] == [200] * 4 + [429] * 3

    async def ended() -> bool:  # once the other gateway has reported its last call
        answer = await ask(gateways[0], None, messages=history(7))
        return answer.json()["error"]["message"].startswith("this run has used 4 calls of 4 calls: finish")

    async with asyncio.timeout(60):
        while not await ended():
            await asyncio.sleep(0.05)
    assert await statuses(gateways[0], 2, None, messages=history(0, "other")) == [200, 200], "two runs that begin alike"
    unseen = [(await ask(gateways[n % 2], None, messages=history(n, "unseen"))).status_code for n in range(5, 11)]
    assert unseen == [200] * 4 + [429] * 2, "it is not stopped too early, and it ends"


async def test_runs_of_two_keys_with_one_id_are_two(start: Any, limited: Limited) -> None:
    config = limited(team={"per_run": {"calls": 1}})
    second = {"name": "second", "sha256": sha256(b"sk-second").hexdigest(), "team": "search"}
    gateway = await start({**config, "keys": [*config["keys"], second]})
    assert await statuses(gateway, 2) == [200, 429]
    other = {"authorization": "Bearer sk-second"}
    assert await statuses(gateway, 2, headers=other) == [200, 429]
    as_child = {**other, "x-gateway-run-parent": "task-1"}
    assert await statuses(gateway, 1, "sub", headers=as_child) == [429], "its own task-1, not that of the first key"
    assert await statuses(gateway, 1, "sub", headers={"x-gateway-run-parent": "task-2"}) == [200]


async def test_two_gateways_share_the_ceiling_of_a_run(start: Any, limited: Limited) -> None:
    config = limited(key={"per_run": {"calls": 6}})
    gateways = [await start(config), await start(config)]
    found = [(await ask(gateways[n % 2])).status_code for n in range(9)]
    assert sorted(found) == [200] * 6 + [429] * 3


async def test_dollars_and_tokens_of_a_run(start: Any, limited: Limited, upstream: FakeUpstream) -> None:
    """The refusal names what the call may use, so that an agent knows why it ends before the amount is used up."""
    upstream.says("one two three")
    gateway = await start(limited(key={"per_run": {"usd": 0.0003}}))
    answers = [await ask(gateway) for _ in range(20)]
    ended = next(n for n, answer in enumerate(answers) if answer.status_code == 429)
    assert 1 < ended < 20
    assert {answer.status_code for answer in answers[ended:]} == {429}
    assert "of $0.0003" in answers[ended].json()["error"]["message"]
    small = await start(limited(key={"per_run": {"tokens": 40}}))
    assert 429 in await statuses(small, 8, "tokens")


async def test_a_run_whose_calls_in_flight_reserve_the_rest_has_not_ended(
    start: Any, limited: Limited, upstream: FakeUpstream
) -> None:
    """A sub-agent's call may have to wait; it is not an end, of which nobody hears."""
    upstream.says("one ", HOLD, "two ")
    gateway = await start(limited(key={"per_run": {"tokens": 60}}, chat=PATIENT))
    first = asyncio.get_running_loop().create_task(ask(gateway, max_tokens=30))
    await upstream.until(lambda u: len(u.calls) == 1)
    refused = await ask(gateway, max_tokens=30)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "2"
    assert "x-should-retry" not in refused.headers
    message = refused.json()["error"]["message"]
    assert message.startswith(
        "this run has used 0 tokens of 60 tokens, and its calls in flight may use the rest; this call"
    )
    assert await gateway.metric("gateway_run_ends_total", on_end="stop", limit="tokens") in (None, 0)
    upstream.release()
    assert (await first).status_code == 200
    upstream.says("one two")
    assert (await ask(gateway, max_tokens=30)).status_code == 200
    never = await ask(gateway, max_tokens=100)
    assert never.headers["x-should-retry"] == "false", "more than the whole ceiling"


async def test_answers_say_what_is_left_near_the_end(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 10}}))
    left = [(await ask(gateway)).headers.get("x-gateway-run-remaining") for _ in range(10)]
    assert left[:4] == [None] * 4
    assert left[-1] == "calls=0"


async def test_minutes_count_from_the_first_call_on_any_worker(
    start: Any, limited: Limited, stream_url: str, stream_name: str
) -> None:
    config = limited(key={"per_run": {"minutes": 10}})
    gateway = await start(config)
    assert await statuses(gateway, 2) == [200, 200]
    client = connect(stream_url, StreamConfig())
    (record,) = [key async for key in client.scan_iter(f"{{{stream_name}:limits}}:r:*")]
    began = float(await client.hget(record, "b"))
    await client.hset(record, "b", str(began - 11 * 60_000))
    await close(client)
    other = await start(config)
    refused = await ask(other)
    assert refused.status_code == 429
    assert "began 11 minutes ago, and may take 10" in refused.json()["error"]["message"]
    assert await statuses(other, 1, "task-2") == [200]


def looped(times: int, result: str = "no such file") -> list[dict[str, Any]]:
    """A conversation that ends with the same tool call and result."""
    found: list[dict[str, Any]] = [{"role": "user", "content": "Read it."}]
    for n in range(times):
        arguments = '{"path": "a", "n": 1}' if n % 2 else '{"n":1,"path":"a"}'
        called = {"id": f"c{n}", "type": "function", "function": {"name": "read", "arguments": arguments}}
        found.append({"role": "assistant", "content": None, "tool_calls": [called]})
        found.append({"role": "tool", "tool_call_id": f"c{n}", "content": result if n else "no such file"})
    return found


async def test_a_loop_ends_the_run_and_other_results_do_not(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"loops": 3}}))
    assert [(await ask(gateway, messages=looped(n))).status_code for n in (1, 2, 3, 4)] == [200, 200, 429, 429]
    message = (await ask(gateway, messages=looped(3))).json()["error"]["message"]
    assert message.startswith("this run has made the same tool call with the same result 3 times in a row")
    assert (await ask(gateway, messages=looped(3, "found"))).status_code == 200
    asked = [*looped(3), {"role": "user", "content": "Once more, please."}]
    assert (await ask(gateway, messages=asked)).status_code == 200, "a person asked for it"


@pytest.mark.parametrize("on_end", ["stop", "ask"])
async def test_each_end_of_a_run_counts_once_without_its_id(start: Any, limited: Limited, on_end: str) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 1, "on_end": on_end}}))
    for run in ("secret-a", "secret-b"):
        assert await statuses(gateway, 4, run) == [200, 429, 429, 429]
        assert await statuses(gateway, 1, f"{run}-goes-on") == [200]
    await ends_counted(gateway, 2, on_end=on_end, limit="calls")
    text = (await gateway.client.get(gateway.base_url.removesuffix("/v1") + "/metrics")).text
    assert text.count("gateway_run_ends_total{") == 1, "no other rule has ended a run"
    assert "secret-a" not in text
    assert run_key("tester", "secret-a") not in text


async def ends_counted(gateway: Any, n: int, **labels: str) -> None:
    """Waits for this count of ended runs: the stream server decides in the next exchange which end is new."""
    end = time.monotonic() + 60
    while (counted := await gateway.metric("gateway_run_ends_total", **labels)) != n:
        assert time.monotonic() < end, counted
        assert counted in (None, *range(n)), counted
        await asyncio.sleep(0.05)


async def test_a_key_may_need_every_call_to_name_its_run(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"require": True}}))
    refused = await ask(gateway, None)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "run_required")
    assert await statuses(gateway, 1) == [200]


async def test_the_cheaper_tier_goes_on_after_the_dollars_and_ends_as_well(
    start: Any, limited: Limited, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says("one two three")
    second.says("one two three")
    prices = {"as_of": "2026-11-01", "models": {
        "model-u0": {"input": 100.0, "output": 1000.0}, "model-u1": {"input": 10.0, "output": 100.0}}}  # fmt: skip
    limits = {"per_run": {"usd": 0.03, "on_end": "tier", "tier_usd": 0.01}}
    config = limited(key=limits, upstreams=(upstream, second), prices=prices, chat=PATIENT)
    config["models"]["chat"]["fallback"][0]["on"] = ["budget"]
    gateway = await start(config)
    answers = [await ask(gateway) for _ in range(120)]
    tiers = [answer.headers.get("x-gateway-tier") for answer in answers if answer.status_code == 200]
    ends = [answer.status_code for answer in answers]
    assert ends == sorted(ends), "once it has ended, it stays so"
    assert 0 < tiers.count(None) < len(tiers) < 120
    spent = tiers.count(None) * 0.0031 + tiers.count("budget") * 0.00031
    assert spent < 0.03 + 0.01 + 0.0062
    assert tiers.count("budget") * 0.00031 > 0.006, "the tier's own amount is used, too"
    assert "the cheaper tier of this run has used" in answers[-1].json()["error"]["message"]
    await ends_counted(gateway, 1, on_end="tier", limit="usd")


async def test_many_calls_at_once_pass_no_more_than_the_ceiling(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_run": {"calls": 20}}, chat=PATIENT))
    found = [answer.status_code for answer in await asyncio.gather(*(ask(gateway) for _ in range(60)))]
    assert set(found) == {200, 429}
    assert found.count(200) == 20


async def test_a_run_of_100_000_calls_is_counted_to_its_last_one(stream_url: str, stream_name: str) -> None:
    """No cut at 1 000 calls, and the record stays small."""
    client = connect(stream_url, StreamConfig())
    server, now = LeaseServer(client, stream_name, "worker"), time.time()
    scope = run_scope(run_key("agents", "task-1"), ceiling_of({"calls": 100_000}), label="agents/task-1")
    lease, passed = LeaseBook().lease(scope, scope.limits[0], now), 0
    while not lease.dry:
        lease.wait(1_000, now)
        reply = await server.exchange([lease.report(now)])
        assert reply is not None
        lease.accept(reply.grants[0], now)
        passed, lease.spent, lease.free = passed + lease.free, lease.spent + lease.free, 0
    assert passed == 100_000
    (record,) = [key async for key in client.scan_iter(f"{{{stream_name}:limits}}:r:*")]
    assert int(await client.memory_usage(record)) <= 300
    await close(client)


def test_minutes_follow_the_stream_server_whatever_this_machine_says() -> None:
    clock, run = [0.0], RunAccount("run_1", ceiling_of({"minutes": 10}))
    book = LeaseBook(clock=lambda: clock[0], wall=lambda: 1e9)
    book.measured(0.0, 0.0, 2e9)
    account = Account(tuple(run.scopes()), run)
    book.roll(account)
    check_minutes(account, run, book.now())  # a run whose first call is unknown goes on
    account.leases[0].began = 2e9
    clock[0] = 599.0
    check_minutes(account, run, book.now())
    clock[0] = 600.0
    with pytest.raises(RunEnded, match="began 10 minutes ago"):
        check_minutes(account, run, book.now())


def test_the_run_after_the_100_000th_of_an_hour_shares_a_ceiling() -> None:
    book = LeaseBook()
    assert all(book.knows_run("agents", f"run_{n}", MOST_RUNS) for n in range(MOST_RUNS))
    assert not book.knows_run("agents", "run_more", MOST_RUNS)
    assert book.knows_run("agents", "run_7", MOST_RUNS)
    assert book.knows_run("others", "run_more", MOST_RUNS), "another key is not affected"
