"""The alarm of a leaf: one that loses as much as it may is rarely taken back, a bad one is, and sessions count once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fixtures.learned_routes import ROUTE, a_route

from gateway.core.learned_route import LearnedRoute
from gateway.core.plan import RULES
from gateway.features.route.rows import WatchedPair, WatchedPairs
from gateway.features.route.watch.alarm import WatchedLeaf, sessions_of, tolerated_loss, watched_leaves

TOLERATED = 0.05 / 0.8
SPREAD = 0.3
Pairs = list[WatchedPair]


def alone(mean: float, n: int, seed: int, leaf: int = 0) -> Pairs:
    """Calls of as many users, 25 s apart."""
    values = np.clip(mean + SPREAD * np.random.default_rng(seed).standard_normal(n), -1, 1)
    label = f"{ROUTE}/{leaf}"
    return [WatchedPair(label, float(value), 1.7e9 + 25 * i, "k", f"u{i}") for i, value in enumerate(values)]


def sessions(mean: float, n: int, seed: int, icc: float = 0.3) -> Pairs:
    """Calls of users who send 15 to 40 of them, a minute apart, and whose losses depend on each other."""
    rng, rows, begins = np.random.default_rng(seed), [], 1.7e9
    while len(rows) < 1.5 * n:
        shift, user = icc**0.5 * rng.standard_normal(), f"u{len(rows)}"
        at = begins + np.cumsum(rng.exponential(60.0, rng.integers(15, 41)))
        noise = (1 - icc) ** 0.5 * rng.standard_normal(len(at))
        rows += [(float(t), float(x), user) for t, x in zip(at, mean + SPREAD * (shift + noise), strict=True)]
        begins += rng.exponential(700.0)
    return [WatchedPair(f"{ROUTE}/0", float(np.clip(x, -1, 1)), t, "k", user) for t, x, user in sorted(rows)[:n]]


def without_users(mean: float, n: int, seed: int, icc: float = 0.3) -> Pairs:
    """Calls of one key, 25 s apart, whose losses depend on each other within a quarter of an hour."""
    rng = np.random.default_rng(seed)
    at = 1.7e9 + np.cumsum(rng.exponential(25.0, n))
    blocks = (at // 900).astype(int)
    shift = rng.standard_normal(blocks.max() - blocks.min() + 1)[blocks - blocks.min()]
    values = mean + SPREAD * (icc**0.5 * shift + (1 - icc) ** 0.5 * rng.standard_normal(n))
    return [WatchedPair(f"{ROUTE}/0", float(np.clip(x, -1, 1)), float(t), "k") for t, x in zip(at, values, strict=True)]


def looked_at(pairs: Pairs, rules: int = RULES, route: LearnedRoute | None = None) -> list[WatchedLeaf]:
    return watched_leaves(route or a_route(), WatchedPairs(tuple(pairs), rules))


def found_at(pairs: Pairs, rules: int = RULES, every: int = 25) -> int | None:
    """Calls at the first alarm of a look after each few calls; None without one."""
    looks = range(every, len(pairs) + 1, every)
    return next((k for k in looks if any(leaf.alarm for leaf in looked_at(pairs[:k], rules))), None)


def bound(share: float, runs: int) -> float:
    return runs * share + 3 * (runs * share * (1 - share)) ** 0.5


def alarms(world: Callable[[float, int, int], Pairs], mean: float, runs: int, n: int, rules: int = RULES) -> int:
    """Runs in which any look raises an alarm."""
    return sum(found_at(world(mean, n, seed), rules, 50) is not None for seed in range(runs))


def test_the_loss_of_moved_requests_is_the_margin_by_their_share() -> None:
    assert tolerated_loss(a_route()) == pytest.approx(TOLERATED)


@pytest.mark.parametrize("rules", [2, RULES])
def test_a_leaf_that_loses_as_much_as_it_may_is_rarely_taken_back(rules: int) -> None:
    assert alarms(alone, TOLERATED, 40, 400, rules) <= bound(0.05, 40)


def check_dependent(runs: int, n: int) -> None:
    """A faultless leaf is taken back in 0.02 at most, one that loses as much as it may in 0.05."""
    for world in (sessions, without_users):
        assert alarms(world, 0.0, runs, n) <= bound(0.02, runs), world.__name__
        assert alarms(world, TOLERATED, runs, n) <= bound(0.05, runs), world.__name__


def test_sessions_rarely_take_a_faultless_leaf_back() -> None:
    check_dependent(20, 1200)
    assert alarms(sessions, TOLERATED, 20, 1200, 2) > 20 * 0.4, "the rules before counted each call"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sessions_rarely_do_so_in_a_thousand_watches() -> None:
    check_dependent(1000, 2000)


@pytest.mark.parametrize("rules", [2, RULES])
def test_a_broken_leaf_is_found_soon(rules: int) -> None:
    found = [found_at(alone(0.35, 150, seed), rules) for seed in range(20)]
    assert None not in found


@pytest.mark.parametrize("world", [sessions, without_users])
def test_a_broken_leaf_is_found_in_sessions(world: Callable[[float, int, int], Pairs]) -> None:
    """The medians are 425 calls in sessions, and 500 without users: 14 quarters of an hour."""
    found = [found_at(world(0.35, 1000, seed)) or 2000 for seed in range(10)]
    assert 100 < np.median(found) <= 700


@pytest.mark.parametrize("rules", [2, RULES])
def test_a_leaf_that_breaks_after_a_long_good_time_is_found_too(rules: int) -> None:
    later = [replace(pair, at=pair.at + 1e6, user=f"later {pair.user}") for pair in alone(0.35, 250, 2)]
    rows = [*alone(-0.5, 1500, 1), *later]
    [found] = looked_at(rows, rules)
    assert (found.alarm, found.pairs <= 350) == (True, True)
    assert not looked_at(rows[:1500], rules)[0].alarm


def test_each_leaf_is_looked_at_alone() -> None:
    route = a_route(leaves=tuple(replace(leaf, moved=True) for leaf in a_route().leaves))
    others = [WatchedPair(label, 1.0, 1.7e9, "k") for label in ("other/0", "")]
    found = looked_at([*alone(0.5, 200, 1, leaf=1), *alone(0.0, 200, 2), *others], route=route)
    assert [(each.leaf, each.pairs, each.alarm) for each in found] == [(0, 200, False), (1, 200, True)]


def test_a_session_ends_after_half_an_hour_without_a_call() -> None:
    def ends(*minutes: float, **unit: str) -> list[int]:
        rows = (WatchedPair(f"{ROUTE}/0", 0.1, 1.7e9 + 60 * m, "k", **unit) for m in minutes)
        return [len(session.losses) for session in sessions_of(rows)]

    assert ends(0, 10, 40, 71, user="u") == [3, 1]
    assert ends(*range(0, 260, 20), user="u") == [13], "up to four hours"
    assert ends(*range(0, 280, 20), user="u") == [13, 1]
    assert ends(0, 500, conversation="c", user="u") == [2]
    start = -1.7e9 % 900 / 60
    assert ends(start, start + 14, start + 15) == [2, 1], "without a user, quarters of an hour"
