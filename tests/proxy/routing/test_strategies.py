"""The target that is asked first."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.parse import read_object
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.strategies import WeightedTargetState, order, prefix, session
from gateway.proxy.routing.target_state import TargetState, UpstreamState


def a_target(
    name: str, weight: float = 1.0, *, model: str = "m", in_flight: int = 0, latency: float = 0.0
) -> WeightedTargetState:
    state = UpstreamState(name, Upstream(kind="fake"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    target_state = TargetState(Target(name, model), state, CircuitBreaker(lambda: 0.0), lambda: 0.0, in_flight, latency)
    return WeightedTargetState(target_state, weight)


def a_call(**changes: Any) -> Call:
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    return replace(call, **changes)


def firsts(targets: list[WeightedTargetState], strategy: Any, n: int, fields: Any = lambda i: {}) -> Counter[str]:
    rng = random.Random(7)
    chosen = (order(targets, strategy, a_call(fields=fields(i)), rng)[0] for i in range(n))
    return Counter(target_state.target.upstream for target_state in chosen)


weights = st.lists(st.sampled_from([0.5, 1.0, 2.0, 9.0]), min_size=1, max_size=5)
strategies = st.sampled_from(["weighted", "least_in_flight", "latency", "prefix", "session"])


@given(weights=weights, strategy=strategies, down=st.sets(st.integers(0, 4)), seed=st.integers(0, 99))
def test_every_target_comes_once_unready_ones_last(
    weights: list[float], strategy: Any, down: set[int], seed: int
) -> None:
    targets = [a_target(f"u{i}", w) for i, w in enumerate(weights)]
    for i, target in enumerate(targets):
        target.target_state.upstream.down = i in down
    out = order(targets, strategy, a_call(fields={"user": "x", "prompt": "y"}), random.Random(seed))
    assert sorted(p.name for p in out) == sorted(t.target_state.name for t in targets)
    assert [p.ready for p in out] == sorted((p.ready for p in out), reverse=True)
    others = [p.name for p in out[1:] if p.ready]
    by_weight = sorted((t for t in targets if t.target_state.name in others), key=lambda t: -t.weight)
    assert others == [t.target_state.name for t in by_weight]


@pytest.mark.parametrize("strategy", ["weighted", "prefix", "session"])
def test_the_shares_are_the_weights_within_three_standard_errors(strategy: str) -> None:
    n, total = 6000, 16.0
    targets = [a_target("a", 9.0), a_target("b", 1.0), a_target("c", 6.0)]
    counts = firsts(targets, strategy, n, lambda i: {"user": f"user-{i}", "prompt": f"prompt {i}"})
    for target in targets:
        share = target.weight / total
        error = 3 * (share * (1 - share) / n) ** 0.5
        assert abs(counts[target.target_state.target.upstream] / n - share) < error


def test_least_in_flight_takes_the_least_loaded_for_its_weight() -> None:
    targets = [a_target("a", 1.0, in_flight=3), a_target("b", 10.0, in_flight=9), a_target("c", 1.0, in_flight=1)]
    assert firsts(targets, "least_in_flight", 20) == {"b": 20}
    targets[1].target_state.in_flight = 40
    assert firsts(targets, "least_in_flight", 20) == {"c": 20}


def test_equally_loaded_targets_share() -> None:
    counts = firsts([a_target("a"), a_target("b")], "least_in_flight", 2000)
    assert abs(counts["a"] / 2000 - 0.5) < 3 * (0.25 / 2000) ** 0.5


def test_latency_prefers_the_faster_and_tries_the_unknown() -> None:
    slow, fast, third = a_target("slow", latency=2.0), a_target("fast", latency=0.5), a_target("third", latency=1.0)
    assert firsts([slow, fast], "latency", 50) == {"fast": 50}
    counts = firsts([slow, fast, third], "latency", 3000)
    assert counts["slow"] == 0
    assert abs(counts["fast"] / 3000 - 2 / 3) < 3 * (2 / 9 / 3000) ** 0.5
    assert firsts([fast, a_target("new")], "latency", 20) == {"new": 20}
    fast.target_state.in_flight = 9
    assert firsts([slow, fast], "latency", 20) == {"slow": 20}, "fast, but busy"


SESSIONS = "cbbabddbcdbdbaddbabadcba"


def where(targets: list[WeightedTargetState], key: str) -> str:
    return order(targets, "session", a_call(fields={"user": key}), random.Random(0))[0].name


def test_a_session_has_one_target_in_every_process() -> None:
    targets = [a_target(n) for n in "abcd"]
    assert "".join(where(targets, f"user-{i}")[0] for i in range(24)) == SESSIONS


@given(gone=st.integers(0, 4), keys=st.lists(st.uuids().map(str), min_size=20, max_size=60))
def test_removing_a_target_moves_only_its_own_keys(gone: int, keys: list[str]) -> None:
    targets = [a_target(f"u{i}", w) for i, w in enumerate([1.0, 3.0, 1.0, 2.0, 1.0])]
    left = [t for i, t in enumerate(targets) if i != gone]
    for key in keys:
        before, after = where(targets, key), where(left, key)
        assert before in (after, f"u{gone}/m")


def test_targets_whose_long_names_begin_alike_share_as_others_do() -> None:
    long = "organisation/" + "a-model-with-a-very-long-name-" * 3
    targets = [a_target("u", model=long + "1"), a_target("u", model=long + "2")]
    counts = Counter(where(targets, str(i)) for i in range(400))
    assert abs(counts["u/" + long + "1"] / 400 - 0.5) < 3 * (0.25 / 400) ** 0.5


def test_no_hashed_target_exceeds_the_load_bound() -> None:
    """One hot key: its target takes 1.25 × the mean, and the next one by score the rest."""
    targets = [a_target(n) for n in "abcd"]
    for _ in range(100):
        order(targets, "session", a_call(fields={"user": "hot"}), random.Random(0))[0].in_flight += 1
    loads = sorted((t.target_state.in_flight for t in targets), reverse=True)
    assert max(loads) <= 1.25 * 101 / 4 + 1
    assert loads[0] > loads[3]


def test_without_a_key_to_hash_the_weights_decide() -> None:
    counts = firsts([a_target("a", 3.0), a_target("b", 1.0)], "session", 2000)
    assert abs(counts["a"] / 2000 - 0.75) < 3 * (0.1875 / 2000) ** 0.5


KEYS: list[tuple[dict[str, Any], bytes]] = [
    ({"conversation": "c", "fields": {"user": "u"}}, b"c"),
    ({"fields": {"user": "u", "prompt_cache_key": "k"}}, b"u"),
    ({"fields": {"prompt_cache_key": "k"}}, b"k"),
    ({"fields": {"user": 5, "prompt_cache_key": "k"}}, b"k"),
    ({"fields": {"user": ""}}, b""),
    ({}, b""),
]


@pytest.mark.parametrize(("changes", "key"), KEYS, ids=[str(k[0]) for k in KEYS])
def test_a_session_is_a_conversation_user_or_cache_key(changes: dict[str, Any], key: bytes) -> None:
    assert session(a_call(**changes)) == key


PREFIXES: list[tuple[dict[str, Any], bytes]] = [
    ({"prompt": "p" * 2000}, b'"' + b"p" * 1023),
    ({"input": "i"}, b'"i"'),
    ({"messages": [{"content": "s"}]}, b'[{"content":"s"}]'),
    ({"messages": [{"content": "x" * 2000}, {"content": "y"}]}, b'[{"content":"' + b"x" * 1011),
    ({"prompt": None, "messages": 5}, b"5"),
    ({"prompt": ["a", "b"], "messages": []}, b'["a","b"]'),
    ({}, b""),
]


@pytest.mark.parametrize(("fields", "key"), PREFIXES, ids=[str(p[0])[:40] for p in PREFIXES])
def test_a_prefix_is_the_first_1024_bytes_of_the_prompt(fields: dict[str, Any], key: bytes) -> None:
    assert prefix(a_call(fields=fields, body=orjson.dumps(fields))) == key


def test_a_conversation_keeps_its_prefix_as_it_grows() -> None:
    """An agent's history of megabytes stays where its cache is, whatever its size."""
    turns = [{"role": "system", "content": "You are a coding agent. " * 60}, {"role": "user", "content": "Hello"}]
    keys = set()
    for _ in range(12):
        body = orjson.dumps({"model": "chat", "messages": turns, "tools": [{"type": "function"}] * len(turns)})
        members, fields = read_object(body)
        keys.add(prefix(a_call(fields=fields, body=body, members=members)))
        turns += [{"role": "tool", "content": "x" * len(body)}]
    assert len(body) > 1 << 21
    assert len(keys) == 1
