"""Cascades learned from pairs: what the cheaper answer shows decides as well, streams stay, and both calls are paid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.cascades import CASCADE, a_cascade
from fixtures.json_outputs import conforms
from fixtures.route_worlds import COST_LARGE, COST_SMALL, MARGIN, World, terms, world

from gateway.core.answer_features import ANSWER_FEATURES, answer_features
from gateway.core.completion import Completion
from gateway.core.exchange import DECLINED, Attempt, Target, Usage
from gateway.core.learned_route import STREAM, route_from_json
from gateway.core.request_features import FEATURES
from gateway.core.sequence import SequenceName
from gateway.features.route.learning import NotLearnable, learn
from gateway.features.route.verification import leaves_on, verify
from gateway.store.plan_evidence import paid_calls
from gateway.store.query import reading
from gateway.store.sequences import increments_of
from gateway.verdict.metrics import MEASURES, ArmObservation, JoinedPair, Metric, PairValue, pair_value

SURE, UNSURE = "It is the second one, since it came first.", "Maybe the second one, but I am not sure."
RUNS = 40
UNSURE_SHARE, LOST = 0.3, 0.3
"""A small model that hedges where it loses: no number about the request tells these."""


def hedging(n: int, seed: int, *, lost: float = LOST, streamed: float = 0.0) -> tuple[World, Any]:
    """(pairs with the numbers of the cheaper answers, whether each one hedges)."""
    rng = np.random.default_rng(seed + 1000)
    of = world(n, {}, seed)
    unsure = rng.random(n) < UNSURE_SHARE
    rows = {text: np.array(answer_features([0.0] * len(FEATURES), Completion(text, finish_reason="stop")), dtype=float)
            for text in (SURE, UNSURE)}  # fmt: skip
    answers = np.where(unsure[:, None], rows[UNSURE], rows[SURE])
    x = np.hstack((of.pairs.x, answers))
    x[:, STREAM] = rng.random(n) < streamed
    difference = np.clip(of.pairs.difference - lost * unsure, -1.0, 1.0)
    return World(replace(of.pairs, x=x, difference=difference), of.kinds), unsure


def accepted_of(route: Any, of: World) -> Any:
    return np.isin(leaves_on(route, of.pairs), [i for i, leaf in enumerate(route.leaves) if leaf.moved])


def test_the_answer_tells_what_the_request_does_not() -> None:
    of, _ = hedging(2000, 1)
    choice = learn(terms(cascade=True), of.pairs, now=2e9)
    assert choice.route is not None
    assert choice.route.cascade
    declined = [leaf.says for leaf in choice.leaves if not leaf.moved and leaf.says != "streamed"]
    assert declined
    assert all("hedging words" in says for says in declined), declined
    by_request = learn(terms(), replace(of.pairs, x=of.pairs.x[:, : len(FEATURES)]), now=2e9)
    assert by_request.route is None, "all that a route before the call can do is to move nothing or everything"
    assert route_from_json(choice.route.to_json()) == choice.route


def test_the_saving_counts_both_calls_of_a_declined_answer() -> None:
    of, unsure = hedging(2000, 1)
    choice = learn(terms(cascade=True), of.pairs, now=2e9)
    assert choice.curve.chosen is not None
    point = choice.curve.points[choice.curve.chosen]
    assert point.saved is not None
    accepted = 1 - UNSURE_SHARE
    expected = accepted - COST_SMALL / COST_LARGE  # every call pays the small model
    assert point.saved.low < expected < point.saved.high
    assert abs(point.share - accepted) < 0.05
    checked = verify(choice.route, hedging(1500, 2)[0].pairs, MARGIN, 0.05) if choice.route else None
    assert checked is not None
    assert checked.saved is not None
    assert (checked.state, checked.saved.low < expected < checked.saved.high) == ("holds", True)
    assert unsure.any()


def test_streams_are_kept_and_paid_once() -> None:
    of, _ = hedging(2400, 4, streamed=0.25)
    choice = learn(terms(cascade=True), of.pairs, now=2e9)
    assert choice.route is not None
    kept = choice.route.leaves[choice.route.streamed_leaf]
    assert (kept.says, kept.moved, 0.2 < kept.share < 0.3) == ("streamed", False, True)
    assert not accepted_of(choice.route, of)[of.pairs.x[:, STREAM] > 0.5].any()
    chosen = choice.curve.points[choice.curve.chosen or 0]
    assert chosen.share < 0.75 * (1 - UNSURE_SHARE) + 0.05
    assert chosen.saved is not None
    assert chosen.saved.low < 0.75 * (1 - UNSURE_SHARE) - 0.75 * COST_SMALL / COST_LARGE < chosen.saved.high


def test_an_experiment_of_streams_teaches_no_cascade() -> None:
    of, _ = hedging(1000, 4, streamed=0.9)
    with pytest.raises(NotLearnable, match="of its 500 older pairs are of calls without `stream: true`"):
        learn(terms(cascade=True), of.pairs)
    with pytest.raises(NotLearnable, match="a cascade is learned as a tree"):
        learn(terms(cascade=True, kind="boosted"), hedging(1000, 4)[0].pairs)


def bound(share: float, runs: int) -> float:
    """A share and three standard errors of a share of this number of runs."""
    return share + 3 * (share * (1 - share) / runs) ** 0.5


def check_guarantee(runs: int) -> None:
    """Declined answers cost nothing but money, so what counts is what accepted ones lose, over all traffic."""
    good = wrong = 0
    for seed in range(runs):
        of, unsure = hedging(2000, seed)
        route = learn(terms(cascade=True), of.pairs, now=2e9).route
        accepted = np.zeros(2000, dtype=bool) if route is None else accepted_of(route, of)
        good += bool(accepted.mean() >= 0.6 and LOST * (accepted & unsure).mean() <= MARGIN)
        everything = MARGIN * 1.001  # any answer loses this, so that all of them together lose too much
        edge, _ = hedging(2000, seed, lost=0.0)
        lost = replace(edge.pairs, difference=edge.pairs.difference - everything)
        route = learn(terms(cascade=True), lost, now=2e9).route
        wrong += bool(route is not None and everything * accepted_of(route, edge).mean() > MARGIN)
    assert runs - good <= bound(0.05, runs) * runs, f"{runs - good} of {runs}"
    assert wrong <= bound(0.05, runs) * runs, f"{wrong} of {runs}"


def test_a_cascade_loses_at_most_its_margin() -> None:
    check_guarantee(RUNS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_it_does_so_in_two_thousand_worlds() -> None:
    check_guarantee(2000)


async def test_it_is_learned_verified_and_served_from_stored_pairs(
    experiment: Any, run: Callable[..., str], refused: Callable[..., str]
) -> None:
    from gateway.config.routes import read_route

    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 400, lost=0.0, hedged=0.6)
    assert "no share can be moved" in await asyncio.to_thread(run, "learn", "swap", code=1)
    learned = await asyncio.to_thread(run, "learn", "swap", "--cascade", "--name", CASCADE, "--write")
    assert f"{CASCADE}: the first answer is served for 7" in learned
    shown = await asyncio.to_thread(run, "show", CASCADE)
    assert "asks u1/small first, and u0/model-u0 where that answer is not accepted" in shown
    route = read_route(experiment.path, CASCADE)
    assert any("hedging words" in leaf.says and not leaf.moved for leaf in route.leaves)
    await experiment.send(plan, 200, lost=0.0, hedged=0.6)
    assert f"{CASCADE}: holds" in await asyncio.to_thread(run, "verify", CASCADE)
    kind = await asyncio.to_thread(refused, "learn", "swap", "--cascade", "--kind", "boosted")
    assert "a cascade is learned as a tree" in kind


async def test_a_handwritten_cascade_is_verified_on_an_experiment(
    experiment: Any, run: Callable[..., str], refused: Callable[..., str]
) -> None:
    plan = experiment.configure(cascades=True)
    await experiment.room.begin(plan)
    await experiment.send(plan, 300, lost=0.0, hedged=0.6)
    assert f"{CASCADE} (digest {a_cascade().digest[:4]}" in await asyncio.to_thread(run, "show", CASCADE)
    assert "was not learned from an experiment" in await asyncio.to_thread(refused, "verify", CASCADE)
    assert conforms("route show", await asyncio.to_thread(run, "show", CASCADE, "--json"))["cascade"] is True
    found = await asyncio.to_thread(run, "verify", CASCADE, "--experiment", "swap")
    assert f"{CASCADE}: holds" in found
    assert "accepted: hedges < 1" in found


async def test_a_declined_shadow_costs_more_and_is_no_worse(room: Any, plan: Any, paired: Any) -> None:
    """A gateway records it so: the served answer, and the attempt before."""
    plan = replace(plan, repeat_control=1.0, rules=2)
    await room.begin(plan)
    records = []
    for i in range(6):
        served, shadow, repeat = paired(plan, f"0.{i + 10}", {"candidate": "0.5", "repeat": "0.5"})
        first = Attempt(Target("u1", "small"), 200, DECLINED, 0.5, Usage(100, 10))
        records += [
            served,
            repeat,
            replace(
                served, id=shadow.id, role="shadow", arm="candidate", pair=served.id, asked=(), tied=True,
                attempts=(first, *served.attempts), total_s=served.total_s + 0.5, stratum="shadow:swap",
                seq=served.seq + 10_000, route=f"{CASCADE}/1",
            ),
        ]  # fmt: skip
    async with room.consuming():
        await room.send(*records)
        await room.until_settled(6)
    with reading(room.store_url) as connection:
        names = [SequenceName(plan.hash, *row) for row in room.sql("SELECT candidate, metric, identity FROM sequences")]
        found = {name.metric: increments_of(connection, name) for name in names if name.candidate == "candidate"}
        assert paid_calls(connection, plan.hash) == {"candidate": 6, "repeat": 6}
    assert [each.difference for each in found["stated"]] == [0.0] * 6
    assert [each.difference for each in found["total_s"]] == pytest.approx([-0.5] * 6)


def test_a_declined_answer_costs_what_both_did() -> None:
    """Quality is that of the served answer, and so are tokens; money and time are the arm's own."""
    served = ArmObservation("ok", "s", total_s=1.0, output_tokens=10, cost_usd=0.02)
    both = replace(served, tied=True, total_s=1.5, cost_usd=0.025)
    pair = JoinedPair("p", served, {"candidate": both})
    plan = terms().plan
    found = {name: pair_value(plan, Metric(name, "measure"), pair, "candidate") for name in MEASURES}
    differences = {name: each.difference for name, each in found.items() if isinstance(each, PairValue)}
    assert differences == pytest.approx({"total_s": -0.5, "cost_per_1k": -5.0, "output_tokens": 0.0})


def test_the_numbers_of_answers_are_in_order() -> None:
    assert len(set(ANSWER_FEATURES)) == len(ANSWER_FEATURES)
    assert not set(ANSWER_FEATURES) & set(FEATURES)
