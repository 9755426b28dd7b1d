"""The open conditions of a verdict, with what each still takes, from what an experiment has found."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.plan import Guardrail
from gateway.features.experiments.conditions import conditions_of, offered_share, pairs_a_day, progress_of
from gateway.features.experiments.metrics import ArmObservation, JoinedPair, StoredScore
from gateway.features.experiments.rows.queries import PairCounts
from gateway.reports.model import Progress


@pytest.fixture
def left(begin_experiment: Any, simulation: Any) -> Callable[..., Progress]:
    """The progress after n pairs with noisy scores, a share of them with a repeat. changes: of the plan."""

    def of(n: int, worse: float = 0.0, every: int = 1, **changes: Any) -> Progress:
        rng, experiment = random.Random(5), begin_experiment(**changes)

        def pair(i: int) -> JoinedPair:
            control, candidate, repeat = (
                simulation.seen(rng.choice([0.2, 0.8]) - shift) for shift in (0.0, worse, 0.0)
            )
            return simulation.a_pair(i, control, candidate=candidate, **({} if i % every else {"repeat": repeat}))

        if n:
            experiment.add(pair(i) for i in range(n))
        with experiment.engine.connect() as connection:
            return progress_of(experiment.found(), simulation.looked(connection, experiment.plan))

    return of


def test_a_proof_needs_repeats_in_proportion_to_their_share(left: Callable[..., Progress]) -> None:
    made = left(200, every=4, repeat_control=0.25, shadow=0.5)
    gate = next(each for each in made.open if each.name == "aa")

    assert gate.values == 50
    assert gate.estimate.low is not None
    assert made.waits_for == "aa"
    assert gate.pairs is not None
    assert gate.requests == 2 * gate.pairs
    assert gate.pairs > 500, "only every fourth pair helps"


def test_an_alarm_needs_ten_repeats(left: Callable[..., Progress]) -> None:
    made = left(24, every=4, repeat_control=0.25, aa="alarm", method="anytime")
    gate = next(each for each in made.open if each.name == "aa")
    assert (gate.values, gate.pairs) == (6, 16)


def test_a_worse_candidate_is_said_to_be_worse(left: Callable[..., Progress]) -> None:
    made = left(100, worse=0.15, method="hybrid", max_pairs=400, aa="alarm")
    assert made.standing.startswith("worse by 0.1")
    assert made.standing.endswith("so far, likely")
    assert made.waits_for == "quality"
    assert made.pairs is not None
    assert made.pairs <= 300, "the horizon is the latest"


def test_at_its_horizon_a_plan_needs_a_successor(left: Callable[..., Progress]) -> None:
    made = left(60, worse=0.1, method="hybrid", max_pairs=60, aa="alarm")
    assert made.sentence.endswith("primary quality is undecided at its last pair: only a new plan can decide it")
    assert made.steps == ()


def test_before_the_first_pair_nothing_is_known(left: Callable[..., Progress]) -> None:
    made = left(0)
    assert made.standing == "no pair has a value of quality yet"
    assert made.pairs is None


def test_the_pace_counts_what_was_drawn_and_dropped() -> None:
    counts = PairCounts(joined=60, lost=0, not_asked={"busy": 40}, first=0.0, last=43_200.0)
    assert offered_share(counts) == 0.6
    assert pairs_a_day(counts) == 120.0
    assert (offered_share(PairCounts(joined=3, not_asked={"busy": 9})), pairs_a_day(PairCounts(joined=3))) == (
        1.0,
        None,
    )


def test_a_scorer_that_sees_a_tenth_is_noticed(begin_experiment: Any, simulation: Any) -> None:
    """A pair whose answers were not scored has no value and is not withheld."""
    experiment = begin_experiment(repeat_control=0.0, guardrails=())

    def seen(i: int) -> ArmObservation:
        return simulation.seen(0.5) if i % 10 == 0 else ArmObservation("ok", "x")

    experiment.add(simulation.a_pair(i, seen(i), candidate=seen(i)) for i in range(100))
    with experiment.engine.connect() as connection:
        primary = conditions_of(experiment.found(), simulation.looked(connection, experiment.plan))[0]
    assert (primary.values, primary.per_pair, primary.by_scorer_share) == (10, 0.1, 0.1)


def test_a_guardrail_that_only_repeats_decide_proposes_more_of_them(begin_experiment: Any, simulation: Any) -> None:
    """Both arms fail in a seventh of the calls, so the candidate's own rate can never be below a margin of 0.05."""
    rails = (Guardrail("error_rate", 0.05),)
    changes = {"method": "anytime", "aa": "alarm", "guardrails": rails, "repeat_control": 0.25, "shadow": 0.5}
    experiment, seen = begin_experiment(rules=2, **changes), simulation.seen

    def pair(i: int) -> JoinedPair:
        again = {} if i % 4 else {"repeat": seen(0.5, failed=i % 28 == 8)}
        return simulation.a_pair(i, seen(0.5), candidate=seen(0.5, failed=i % 7 == 3), **again)

    experiment.add(pair(i) for i in range(400))
    with experiment.engine.connect() as connection:
        made = progress_of(experiment.found(), simulation.looked(connection, experiment.plan))
    rail = next(each for each in made.open if each.name == "error_rate")
    assert rail.values == 100, "a quarter of the pairs has a repeat"
    assert "repeat_control" in {step.setting for step in made.steps}


def test_scores_that_one_arm_lacks_say_how_long_they_take(begin_experiment: Any, simulation: Any) -> None:
    changes = {"method": "anytime", "aa": "alarm", "guardrails": (), "repeat_control": 0.5}
    experiment = begin_experiment(rules=2, **changes)
    bare = ArmObservation("ok", "x", scores={simulation.JUDGE: StoredScore("not_applicable")})
    seen = simulation.seen
    experiment.add(
        simulation.a_pair(i, seen(0.5), candidate=seen(0.5) if i % 25 else bare, repeat=seen(0.5)) for i in range(60)
    )
    with experiment.engine.connect() as connection:
        made = progress_of(experiment.found(), simulation.looked(connection, experiment.plan))
    gate = next(each for each in made.open if each.name == "completeness")
    assert gate.values == 60
    assert gate.pairs is not None
