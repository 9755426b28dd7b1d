"""Learning on planted worlds: the bad kind of requests is found and kept, harmless ones move, and the error holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.route_worlds import COST_LARGE, COST_SMALL, MARGIN, SHARES, World, few_users, terms, world

from gateway.core.learned_route import LearnedRoute, route_from_json
from gateway.features.route.learning import FEWEST_PAIRS, NotLearnable, learn, split_by_time
from gateway.features.route.model import LearnedChoice
from gateway.features.route.report import choice_text
from gateway.features.route.verification import leaves_on, verify
from gateway.statistics.hybrid import HybridMean

PLANTED = {"code": 0.3}
HOPELESS = dict.fromkeys(SHARES, 0.2)
RUNS = 40


def true_loss(choice: LearnedChoice, of: World, loss: Mapping[str, float]) -> tuple[float, float]:
    """(share moved, mean true loss) of a route on requests of which the kind is known."""
    if choice.route is None:
        return 0.0, 0.0
    moved = np.isin(leaves_on(choice.route, of.pairs), [i for i, leaf in enumerate(choice.route.leaves) if leaf.moved])
    return float(moved.mean()), float(np.mean([loss.get(kind, 0.0) if m else 0.0 for kind, m in zip(of.kinds, moved)]))  # noqa: B905


def outcomes(loss: Mapping[str, float], runs: int, n: int = 2000, **changes: Any) -> list[tuple[float, float]]:
    found = []
    for seed in range(runs):
        of = world(n, loss, seed)
        found.append(true_loss(learn(terms(**changes), of.pairs, now=2e9), of, loss))
    return found


def test_the_tree_names_the_kind_that_is_kept() -> None:
    choice = learn(terms(), world(2000, PLANTED, 1).pairs, now=2e9)
    assert choice.route is not None
    kept = [leaf.says for leaf in choice.leaves if not leaf.moved]
    assert any("code" in says.split(", ") for says in kept), kept
    assert len(choice.leaves) <= 8
    assert choice.route.evidence["pairs"]["chosen"] < 1000


def bound(share: float, runs: int) -> float:
    """A share and three standard errors of a share of this number of runs."""
    return share + 3 * (share * (1 - share) / runs) ** 0.5


def check_planted(runs: int) -> None:
    found = outcomes(PLANTED, runs)
    good = sum(share >= 0.7 and loss <= MARGIN for share, loss in found)
    assert runs - good <= bound(0.05, runs) * runs, f"{runs - good} of {runs}"
    harmless = outcomes({}, runs)
    assert sum(share < 0.9 for share, _ in harmless) <= bound(0.05, runs) * runs
    assert sum(share > 0 for share, _ in outcomes(HOPELESS, runs)) <= bound(0.05, runs) * runs


def check_boundary(runs: int) -> None:
    """Each request that is moved of this traffic loses a little more than the margin over all of it."""
    for boundary in (dict.fromkeys(SHARES, MARGIN * 1.001), {"code": MARGIN * 1.001 / SHARES["code"]}):
        found = outcomes(boundary, runs)
        wrong = sum(loss > MARGIN for _, loss in found)
        assert wrong <= bound(0.05, runs) * runs, f"{wrong} of {runs} at {boundary}"


def test_planted_worlds_are_routed_as_they_should() -> None:
    check_planted(RUNS)


def test_a_route_that_loses_more_is_rarely_chosen() -> None:
    check_boundary(RUNS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_both_hold_in_two_thousand_worlds() -> None:
    check_planted(2000)
    check_boundary(2000)


def routed(users: int, loss: Mapping[str, float], runs: int) -> list[tuple[float, float]]:
    """(share moved, mean true loss) with few users whose differences have an intraclass correlation of 0.3."""
    worlds = [few_users(world(2000, loss, seed, noise=0.0), users, seed) for seed in range(runs)]
    return [true_loss(learn(terms(), of.pairs, now=2e9), of, loss) for of in worlds]


def check_users(runs: int) -> None:
    """A route over users that loses a little more than the margin is chosen with 0.05, however few they are."""
    for users in (5, 7, 60):
        wrong = sum(loss > MARGIN for _, loss in routed(users, dict.fromkeys(SHARES, MARGIN * 1.001), runs))
        assert wrong <= bound(0.05, runs) * runs, f"{wrong} of {runs} with {users} users"
    moved = sum(share > 0 for share, _ in routed(60, {}, runs))
    assert moved >= (0.6 - 3 * (0.6 * 0.4 / runs) ** 0.5) * runs, f"{moved} of {runs} harmless worlds are routed"


def test_few_users_rarely_make_a_false_route() -> None:
    check_users(RUNS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_few_users_rarely_do_so_in_two_thousand_worlds() -> None:
    check_users(2000)


def test_two_users_are_refused_with_the_remedy() -> None:
    of = few_users(world(600, {}, 1), 2, 1).pairs
    with pytest.raises(NotLearnable, match=r"from 2\.0 effective users .* `population: these`"):
        learn(terms(), of)
    these = terms(plan=replace(terms().plan, population="these"))
    assert learn(these, of).evidence["population"] == "these"


def test_a_plan_of_older_rules_says_nothing_of_a_population() -> None:
    choice = learn(terms(plan=replace(terms().plan, rules=2)), few_users(world(600, {}, 1), 2, 1).pairs, now=2e9)
    assert choice.route is not None
    assert {"population", "units"} & choice.route.evidence.keys() == set()


def test_the_first_line_says_whom_a_route_is_shown_for() -> None:
    pairs = few_users(world(600, {}, 1), 6, 1).pairs
    for seen, says in ((pairs, "by Student's t over 5.9 effective users"), (replace(pairs, named=False), "keys seen")):
        first, *_ = choice_text(terms(), learn(terms(), seen, now=2e9)).splitlines()
        assert says in first


def test_the_curve_gives_share_money_and_quality_with_a_band() -> None:
    choice = learn(terms(), world(2000, PLANTED, 1).pairs, now=2e9)
    shares = [point.share for point in choice.curve.points]
    assert shares == sorted(shares)
    chosen = choice.curve.points[choice.curve.chosen or 0]
    assert chosen.loss.low < chosen.loss.value < chosen.loss.high < MARGIN
    assert chosen.saved is not None
    assert chosen.saved.low < chosen.share * (1 - COST_SMALL / COST_LARGE) < chosen.saved.high
    last = choice.curve.points[-1]
    assert last.share > 0.95
    assert last.p > 0.05, "moving everything loses 0.06"


def test_costs_that_are_unknown_leave_the_saving_out() -> None:
    pairs = world(600, {}, 3).pairs
    choice = learn(terms(), replace(pairs, cost_moved=np.full(600, np.nan)), now=2e9)
    assert [point.saved for point in choice.curve.points] == [None] * len(choice.curve.points)


def test_few_pairs_are_refused() -> None:
    pairs = world(FEWEST_PAIRS - 1, {}, 1).pairs
    with pytest.raises(NotLearnable, match="swap has 299 pairs with a value of judge"):
        learn(terms(), pairs)


def test_the_newer_pairs_come_after_a_gap() -> None:
    pairs = world(2000, {}, 1).pairs
    older, newer = split_by_time(pairs)
    assert newer.received[0] - older.received[-1] >= 900
    assert len(older) == 1000
    burst = replace(pairs, received=np.linspace(1.7e9, 1.7e9 + 60, 2000))
    assert len(split_by_time(burst)[1]) == 800, "the gap takes a tenth at most"


def test_dependent_calls_say_less() -> None:
    """A user whose calls all lose or win is one observation, not a hundred."""
    rng = np.random.default_rng(5)
    pairs = world(2000, {}, 5).pairs
    names = np.array([f"u{i}" for i in rng.integers(20, size=2000)])
    by_user = {name: 0.35 * rng.standard_normal() for name in sorted(set(names))}
    shifted = replace(pairs, units=tuple(names), difference=np.array([by_user[name] for name in names]))
    alone = replace(shifted, units=tuple(f"u{i}" for i in range(2000)))
    wide, narrow = (learn(terms(), each, now=2e9).curve.points[-1].loss for each in (shifted, alone))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@pytest.mark.parametrize("kind", ["tree", "boosted"])
def test_the_route_serves_as_learned(kind: Any) -> None:
    """The file's own evaluation puts every pair into the leaf that the learning put it in."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra learn)")
    pairs = world(1200, PLANTED, 2).pairs
    choice = learn(terms(kind=kind), pairs, now=2e9)
    assert choice.route is not None
    read = route_from_json(choice.route.to_json())
    assert read == choice.route
    leaf = leaves_on(read, pairs)
    assert [int((leaf == i).sum()) for i in range(len(read.leaves))] == [each.pairs for each in read.leaves]


def test_boosted_trees_keep_the_kind_that_loses() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra learn)")
    of = world(2000, PLANTED, 0)
    share, loss = true_loss(learn(terms(kind="boosted"), of.pairs, now=2e9), of, PLANTED)
    assert (share >= 0.6, loss <= MARGIN) == (True, True), (share, loss)


def test_a_script_with_few_pairs_is_unlike() -> None:
    of = world(600, {}, 4)
    script = of.pairs.script.copy()
    script[:5] = 1
    choice = learn(terms(), replace(of.pairs, script=script), now=2e9)
    assert choice.route is not None
    assert choice.route.scripts == ("latin",)
    assert (leaves_on(choice.route, replace(of.pairs, script=script)) == -1).sum() == 5


def a_route() -> LearnedRoute:
    route = learn(terms(), world(2000, PLANTED, 1).pairs, now=2e9).route
    assert route is not None
    return route


def test_new_pairs_verify_a_route() -> None:
    route = a_route()
    good = verify(route, world(1500, PLANTED, 77).pairs, MARGIN, 0.05)
    assert good is not None
    assert (good.state, good.share > 0.7, good.pairs) == ("holds", True, 1500)
    changed = {**PLANTED, "small talk": 0.5, "translation": 0.5, "summary": 0.5}
    bad = verify(route, world(1500, changed, 78).pairs, MARGIN, 0.05)
    assert bad is not None
    assert bad.state == "loses too much"
    worst = max((leaf for leaf in bad.leaves if leaf.moved and leaf.loss), key=lambda leaf: leaf.loss.value)  # type: ignore[union-attr]
    assert worst.loss is not None
    assert worst.loss.low > 0.3
    assert verify(route, world(300, {}, 1).pairs.part(slice(0, 0)), MARGIN, 0.05) is None


def check_verified(runs: int) -> None:
    """Seven users of a route that loses exactly its margin: any look contradicts it in 0.05 at most."""
    route = a_route()
    route = replace(route, leaves=tuple(replace(leaf, moved=True) for leaf in route.leaves))
    loss, wrong = dict.fromkeys(SHARES, MARGIN), 0
    for seed in range(runs):
        pairs = few_users(world(1000, loss, seed, noise=0.0), 7, seed).pairs
        looks = (verify(route, pairs.part(slice(0, n)), MARGIN, 0.05) for n in (100, 200, 400, 700, 1000))
        wrong += any(look is not None and look.state != "undecided" for look in looks)
    assert wrong <= bound(0.05, runs) * runs, f"{wrong} of {runs}"


def test_few_users_rarely_contradict_a_verified_route() -> None:
    check_verified(RUNS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_few_users_rarely_do_so_in_a_thousand_verifications() -> None:
    check_verified(1000)


def check_shipped(runs: int, horizon: int = 500) -> None:
    """The experiment of a route that loses a little more than the margin over all traffic: where it keeps the control,
    pairs are exact ties. It ships once the lower bound is above the margin, at any look."""
    kept, loss = 0.2, MARGIN * 1.001 / 0.8
    shipped = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        moved = rng.random(horizon) >= kept
        differences = np.where(moved, np.clip(-loss + 0.3 * rng.standard_normal(horizon), -1, 1), 0.0)
        mean, ships = HybridMean(0.05, horizon), False
        for i, difference in enumerate(differences.tolist(), 1):
            mean.add(difference)
            ships = ships or (i % 20 == 0 and mean.interval()[0] > -MARGIN)
        shipped += ships
    assert shipped <= bound(0.025, runs) * runs, f"{shipped} of {runs}"


def test_an_experiment_rarely_ships_a_route_that_loses_more() -> None:
    check_shipped(100)


@pytest.mark.long
def test_it_does_so_in_two_thousand_experiments() -> None:
    check_shipped(2000)
