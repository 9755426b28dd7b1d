"""The sampling policy as clients meet it: by header where the key allows it, by key, by rule, by conversation."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.fake.answers import FakeAnswer


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **more}


KEYS = [key("may", allow=["sample"]), key("plain"), key("left", allow=["sample"], sample="never")]


@pytest.fixture
def sampling(start, configured, upstream):
    """Starts a gateway with this sampling."""

    async def go(**policy: Any) -> Any:
        return await start(configured(upstream, keys=KEYS, sampling=policy))

    return go


async def ask(running: Any, who: str, **headers: str) -> str:
    """The id of the answer."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    sent = {"authorization": f"Bearer {who}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await running.client.post("/chat/completions", json=body, headers=sent)
    return str(answer.headers["x-request-id"])


async def test_a_header_forces_a_record_only_where_the_key_allows_it(sampling):
    running = await sampling(rate=0.0)
    forced = await ask(running, "may", x_gateway_sample="always")
    for who in ("plain", "left"):
        await ask(running, who, x_gateway_sample="always")
    await ask(running, "may")
    tally = await running.tally(lambda t: sum(c.n for c in t.seen) == 4)
    (kept,) = running.exchanges
    assert (kept.id, kept.pi, kept.stratum, kept.caller) == (forced, 1.0, "forced", "may")
    assert {(c.stratum, c.reason): c.n for c in tally.unsampled} == {
        ("default", "not_drawn"): 2, ("default", "opted_out"): 1
    }  # fmt: skip


async def test_opted_out_callers_are_counted_and_never_recorded(sampling, upstream):
    running = await sampling(rate=1.0, rules=[{"when": {"outcome": "error"}, "rate": 1.0}])
    await ask(running, "left")
    await ask(running, "may", x_gateway_sample="never")
    upstream.replies(lambda _: FakeAnswer(b'{"error": {"message": "no"}}', status=500))
    await ask(running, "left", x_gateway_sample="always")
    await running.tally(lambda t: sum(c.n for c in t.unsampled) == 3)
    assert running.exchanges == []
    assert await running.metric("gateway_eval_unsampled_total", reason="opted_out") == 2
    assert await running.metric("gateway_eval_unsampled_total", reason="forbidden") == 1


async def test_a_conversation_is_recorded_whole_or_not_at_all(sampling):
    running = await sampling(rate=0.5, unit="conversation")
    for turn in range(3):
        for n in range(24):
            await ask(running, "plain", x_gateway_conversation=f"talk-{n}", x_request_id=f"{n}-{turn}")
    tally = await running.tally(lambda t: sum(c.n for c in t.seen) == 72)
    await running.recorded(sum(c.n for c in tally.sampled))
    turns: dict[str, int] = {}
    for each in running.exchanges:
        turns[each.unit] = turns.get(each.unit, 0) + 1
        assert each.u < each.pi == 0.5
    assert set(turns.values()) == {3}
    assert 3 <= len(turns) <= 21
    assert len({each.u for each in running.exchanges}) == len(turns), "one u a conversation"


async def test_failures_are_kept_by_a_tail_rule_and_say_so(sampling, upstream):
    running = await sampling(rate=0.0, rules=[{"when": {"outcome": "error"}, "rate": 1.0, "name": "errors"}])
    await ask(running, "plain")
    upstream.replies(lambda _: FakeAnswer(b'{"error": {"message": "no"}}', status=500))
    failed = await ask(running, "plain")
    (kept,) = await running.recorded(1)
    assert (kept.id, kept.stratum, kept.pi, kept.outcome) == (failed, "errors", 1.0, "upstream_error")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("{rate: 0.0005}", "sampling: rate 0.0005 is below pi_min 0.001"),
        ("{rules: [{when: {alias: m}, rate: 0.0001}]}", "sampling: rules[0].rate 0.0001 is below pi_min 0.001"),
        ("{rate: 0.05, pi_min: 0.1}", "sampling: rate 0.05 is below pi_min 0.1"),
    ],
)
def test_a_rate_below_pi_min_is_refused(policy, message):
    text = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"
    with pytest.raises(ConfigError, match="below pi_min") as raised:
        parse(f"{text}sampling: {policy}\n", "f.yaml")
    assert str(raised.value).startswith(f"f.yaml: {message}")
