"""The cache of prompts, and what its misses cost."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Target
from gateway.core.prices import Price
from gateway.features.models.cache import changing_prefix, coldest_runs, first_difference, spread_sessions
from gateway.features.models.rows import SessionCall

PRICE = Price(input=2.0, output=8.0, cached_input=0.2)
SERVERS = ("east", "west", "north")


class BillingProvider:
    """Bills as providers do: each server keeps the beginnings of prompts for five minutes, in blocks of 128 tokens from
    1 024 on."""

    def __init__(self) -> None:
        self.usd = 0.0
        self._kept: dict[tuple[str, str], tuple[float, int]] = defaultdict(lambda: (-1e9, 0))

    def ask(self, server: str, session: str, at: float, tokens: int) -> int:
        """The number of cached tokens."""
        last, known = self._kept[server, session]
        cached = min(known, tokens) // 128 * 128 if at - last <= 300 and min(known, tokens) >= 1024 else 0
        self._kept[server, session] = (at, tokens)
        self.usd += ((tokens - cached) * PRICE.input + cached * 0.2) / 1e6
        return cached


def asked(spread: bool, seed: int = 1) -> tuple[list[SessionCall], BillingProvider]:
    """300 sessions of 12 calls. spread: each call goes to a server at random."""
    generator, servers, provider = random.Random(seed), random.Random(seed + 1), BillingProvider()
    calls = []
    for number in range(300):
        session, tokens, at = f"s{number}", generator.randint(1500, 3000), number * 60.0
        home = servers.choice(SERVERS)
        for _ in range(12):
            server = servers.choice(SERVERS) if spread else home
            cached = provider.ask(server, session, at, tokens)
            calls.append(SessionCall(session, "chat", server, "gpt", at, tokens, cached, 1.0))
            tokens, at = tokens + generator.randint(200, 600), at + generator.uniform(5, 60)
    return calls, provider


def test_a_spread_session_costs_what_the_page_names() -> None:
    """The same sessions with and without affinity, before a double that bills as providers do."""
    (together, kept), (spread, paid) = asked(False), asked(True)
    assert spread_sessions(together, lambda _: PRICE) == []
    [found] = spread_sessions(spread, lambda _: PRICE)
    lost = paid.usd - kept.usd
    assert lost > 0.3 * kept.usd
    assert found.lost_usd is not None
    assert abs(found.lost_usd - lost) < 0.15 * lost, (found.lost_usd, lost)
    assert not found.at_most


def test_the_loss_is_right_over_seeds() -> None:
    errors = []
    for seed in range(10):
        lost = asked(True, seed)[1].usd - asked(False, seed)[1].usd
        [found] = spread_sessions(asked(True, seed)[0], lambda _: PRICE)
        errors.append((found.lost_usd or 0.0) / lost - 1)
    assert max(map(abs, errors)) < 0.15, errors


def test_runs_that_read_the_most_again_are_listed() -> None:
    calls = [replace(call, is_run=int(call.session[1:]) < 20) for call in asked(True)[0]]
    found = coldest_runs(calls, 5)
    again = [run.input_tokens * (1 - run.hit_rate) for run in found]
    assert len(found) == 5
    assert all(run.calls == 12 and 0 <= run.hit_rate < 1 for run in found)
    assert {run.run_id for run in found} <= {f"s{number}" for number in range(20)}
    assert again[0] > 0
    assert coldest_runs([call for call in calls if not call.is_run], 5) == []


def test_without_a_price_the_loss_is_in_tokens() -> None:
    [found] = spread_sessions(asked(True)[0], lambda target: None if target == Target("east", "gpt") else PRICE)
    assert found.lost_usd is None
    assert found.lost_tokens > 0


def test_calls_after_a_pause_lose_nothing() -> None:
    calls = [SessionCall("s", "chat", SERVERS[i % 2], "gpt", 1000.0 * i, 2000, 0, 1.0) for i in range(100)]
    assert spread_sessions(calls, lambda _: PRICE) == []


def body(system: str, question: str = "hello") -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return json.dumps({"model": "gpt", "messages": messages}).encode()


RULES = " ".join(f"Rule {number}: answer in words of {number * 7} letters." for number in range(200))


def test_a_time_stamp_first_is_named_by_its_place() -> None:
    bodies = [body(f"It is 10:{minute:02}. {RULES}", f"question {minute}") for minute in range(30)]
    found = changing_prefix("chat", "app", bodies)
    assert found is not None
    assert bodies[0][bodies[0].index(b'"messages"') :][found.byte : found.byte + 1].isdigit()
    assert "10:" not in repr(found)


def test_stable_prompts_and_other_prompts_are_no_caution() -> None:
    assert changing_prefix("chat", "app", [body(RULES, f"question {at}") for at in range(30)]) is None
    assert changing_prefix("chat", "app", [body(RULES)] * 30) is None
    generator = random.Random(3)
    texts = ["".join(generator.choices("abcdefgh ", k=5000)) for _ in range(30)]
    assert changing_prefix("chat", "app", [body(text) for text in texts]) is None
    late = [body(f"{RULES} It is 10:{minute:02}.") for minute in range(30)]
    assert changing_prefix("chat", "app", late) is None


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_the_first_difference_is_the_first(one: bytes, other: bytes) -> None:
    expected = next((i for i in range(min(len(one), len(other))) if one[i] != other[i]), None)
    assert first_difference(one, other) == expected
