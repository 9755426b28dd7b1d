"""Findings of complete simulated experiments, through the sequences, the store and the verdict. All seeds are fixed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.verdict.metrics import PairOrigin


def score(rng: random.Random, mean: float = 0.6, spread: float = 0.15) -> float:
    return min(1.0, max(0.0, rng.gauss(mean, spread)))


def test_a_good_candidate_ships_and_a_bad_one_is_rejected(begin_experiment: Any, simulation: Any) -> None:
    """The bad one is worse by twice the margin."""
    for mean, verdict in ((0.6, "ship"), (0.4, "reject")):
        rng, experiment = random.Random(6), begin_experiment()
        for at in range(0, 1000, 500):
            experiment.add(
                simulation.a_pair(
                    i,
                    simulation.seen(score(rng)),
                    candidate=simulation.seen(score(rng, mean)),
                    repeat=simulation.seen(score(rng)),
                )
                for i in range(at, at + 500)
            )
        found = experiment.found()
        assert found.decision.verdict == verdict, found.decision.sentence
        assert "Switching chat from a/old to b/new" in found.decision.sentence


def test_a_broken_pipeline_fails_the_aa_gate(begin_experiment: Any, simulation: Any) -> None:
    """The path of shadows truncates answers: the candidate looks bad, and so does the control's repeat."""
    rng, experiment = random.Random(7), begin_experiment()
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(score(rng, 0.75)),
            candidate=simulation.seen(score(rng, 0.45)),
            repeat=simulation.seen(score(rng, 0.45)),
        )
        for i in range(600)
    )
    found = experiment.found()
    assert {g.name: g.state for g in found.gates}["aa"] == -1
    assert found.decision.verdict == "hold"
    assert "the pipeline alone makes a difference" in found.decision.sentence
    assert found.primary.margin_found == "inferior", "and without the gate it would have been rejected"


HYBRID: dict[str, Any] = {
    "method": "hybrid", "aa": "alarm", "repeat_control": 0.25, "margin": 0.15, "max_pairs": 72, "auto_horizon": True,
}  # fmt: skip


def valid(rng: random.Random, share: float) -> float:
    return float(rng.random() < share)


def pairs_until_verdict(
    experiment: Any, simulation: Any, control: float, candidate: float, seed: int
) -> tuple[int, str]:
    """(pairs, verdict), with a look after every fourth pair. control, candidate: their shares of valid answers."""
    rng = random.Random(seed)
    for at in range(0, 100, 4):
        pairs = []
        for i in range(at, at + 4):
            arms = {"candidate": simulation.seen(valid(rng, candidate))}
            if rng.random() < 0.25:
                arms["repeat"] = simulation.seen(valid(rng, control))
            pairs.append(simulation.a_pair(i, simulation.seen(valid(rng, control)), **arms))
        experiment.add(pairs)
        decision = experiment.found().decision
        if decision.verdict != "hold":
            return at + 4, decision.verdict
    return 100, "hold"


def test_a_large_difference_needs_few_pairs(begin_experiment: Any, simulation: Any) -> None:
    """Decides at the defaults, with a margin of 0.15, and all gates."""
    better = pairs_until_verdict(begin_experiment(**HYBRID, guardrails=()), simulation, 0.5, 0.95, 1)
    worse = pairs_until_verdict(begin_experiment(**HYBRID), simulation, 0.9, 0.4, 1)
    assert (better[1], worse[1]) == ("ship", "reject"), better
    assert max(better[0], worse[0]) <= 100


def test_the_alarm_withholds_a_verdict_on_a_biased_path(begin_experiment: Any, simulation: Any) -> None:
    rng, experiment = random.Random(7), begin_experiment(**{**HYBRID, "max_pairs": 600})
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(score(rng, 0.75)),
            candidate=simulation.seen(score(rng, 0.45)),
            **({"repeat": simulation.seen(score(rng, 0.45))} if i % 4 == 0 else {}),
        )
        for i in range(200)
    )
    found = experiment.found()
    assert found.primary.margin_found == "inferior"
    assert found.decision.verdict == "hold"
    assert "the pipeline alone makes a difference" in found.decision.sentence


def test_by_the_same_path_no_alarm_is_needed(begin_experiment: Any, simulation: Any) -> None:
    """The candidate is compared with the repeat, so what the shadow path does to both cancels out."""
    plan = {**HYBRID, "compare": "repeat", "repeat_control": 1.0, "max_pairs": 200, "guardrails": ()}
    rng, experiment = random.Random(7), begin_experiment(**plan)
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(score(rng, 0.75)),
            candidate=simulation.seen(score(rng, 0.45)),
            repeat=simulation.seen(score(rng, 0.45)),
        )
        for i in range(200)
    )
    found = experiment.found()
    assert found.decision.verdict == "ship", found.decision.sentence
    assert abs(found.primary.difference.value) < 0.05
    assert {g.name: g.state for g in found.gates}["aa"] == 1


def failing(simulation: Any, n: int, rate: float) -> Iterator[Any]:
    """Candidate and control fail at this rate; a tenth of the pairs have a repeat."""
    rng = random.Random(3)
    for i in range(n):
        arms = {"candidate": simulation.seen(0.5, failed=rng.random() < rate)}
        if i % 10 == 5:
            arms["repeat"] = simulation.seen(0.5, failed=rng.random() < rate)
        yield simulation.a_pair(i, simulation.seen(0.5), **arms)


def test_the_error_rate_is_known_from_every_pair(begin_experiment: Any, simulation: Any) -> None:
    """The candidate never fails; 60 repeats alone could not show that."""
    experiment = begin_experiment(method="anytime", aa="alarm", repeat_control=0.1)
    experiment.add(failing(simulation, 600, 0.0))
    (rail,) = experiment.found().guardrails
    assert (rail.metric, rail.margin_found, rail.pairs) == ("error_rate", "non_inferior", 600)
    assert rail.difference.high > 0.05, "only repeats can show that it fails less often"


def test_equal_failure_rates_are_not_rejected(begin_experiment: Any, simulation: Any) -> None:
    """No served answer of a pair has failed, so a comparison with these would blame the candidate."""
    experiment = begin_experiment(method="anytime", aa="alarm", repeat_control=0.1)
    experiment.add(failing(simulation, 800, 0.05))
    (rail,) = experiment.found().guardrails
    assert rail.margin_found == "unclear"
    assert experiment.found().decision.verdict != "reject"


def test_distances_find_a_candidate_with_a_lower_temperature(begin_experiment: Any, simulation: Any) -> None:
    """The scores are the same, but the candidate's answers are closer to the served one than the control's repeat
    is.
    """
    rng, experiment = random.Random(8), begin_experiment()
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(score(rng)),
            candidate=simulation.seen(score(rng), distance=score(rng, 0.30)),
            repeat=simulation.seen(score(rng), distance=score(rng, 0.48)),
        )
        for i in range(500)
    )
    with experiment.engine.connect() as connection:
        look = simulation.looked(connection, experiment.plan)
    test = look.sequences["candidate", "edit"].test
    assert test.p_value < 0.001
    assert look.sequences["candidate", "edit"].moments.mean > 0.1, "nearer, not farther"
    assert experiment.found().primary.direction_found == "unclear", "the score does not find it"


def test_answers_that_time_out_count_against_the_candidate(begin_experiment: Any, simulation: Any) -> None:
    """A third of the candidate's answers, the hard ones, time out: each is a failure with a score of 0."""
    rng, experiment = random.Random(9), begin_experiment()

    def pairs() -> Iterator[Any]:
        for i in range(600):
            hard = i % 3 == 0
            mean = 0.3 if hard else 0.75
            candidate = (
                simulation.seen(0.0, failed=True, outcome="timeout") if hard else simulation.seen(score(rng, mean))
            )
            yield simulation.a_pair(
                i, simulation.seen(score(rng, mean)), candidate=candidate, repeat=simulation.seen(score(rng, mean))
            )

    experiment.add(pairs())
    found = experiment.found()
    assert found.primary.difference.value == pytest.approx(-0.1, abs=0.02), "not 0, as without the timeouts"
    assert found.decision.verdict == "reject"
    assert "error_rate" in " ".join(found.decision.reasons)


def test_losses_on_one_arm_hold_the_verdict(begin_experiment: Any, simulation: Any) -> None:
    """Lost records are not failures, and pairs that one arm lacks must not decide."""
    rng, experiment = random.Random(10), begin_experiment()
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(score(rng)),
            candidate=simulation.seen(None if i % 5 == 0 else score(rng)),
            repeat=simulation.seen(score(rng)),
        )
        for i in range(600)
    )
    found = experiment.found()
    assert {g.name: g.state for g in found.gates}["losses"] == -1
    assert found.decision.verdict == "hold"


def test_more_errors_than_the_guardrail_allows_never_ship(begin_experiment: Any, simulation: Any) -> None:
    """6 % of errors against 1 %: not shipped at any look, and rejected in the end."""
    rng, experiment = random.Random(0), begin_experiment()
    for at in range(0, 2400, 300):
        experiment.add(
            simulation.a_pair(
                i,
                simulation.seen(score(rng, 0.6, 0.05), failed=rng.random() < 0.01),
                candidate=simulation.seen(score(rng, 0.66, 0.05), failed=rng.random() < 0.06),
                repeat=simulation.seen(score(rng, 0.6, 0.05), failed=rng.random() < 0.01),
            )
            for i in range(at, at + 300)
        )
        decision = experiment.found().decision
        assert decision.verdict != "ship", decision.sentence
    assert decision.verdict == "reject"


def test_only_the_first_pair_of_a_conversation_counts(begin_experiment: Any, simulation: Any) -> None:
    rng, experiment = random.Random(11), begin_experiment()
    for at in range(0, 400, 100):
        experiment.add(
            simulation.a_pair(
                i,
                simulation.seen(score(rng)),
                f"c{i // 4}",
                candidate=simulation.seen(score(rng)),
                repeat=simulation.seen(score(rng)),
            )
            for i in range(at, at + 100)
        )
    found = experiment.found()
    assert found.primary.pairs == 100
    passed_over = {
        (name.candidate, name.metric): n for (name, reason, _), n in found.withheld.items() if reason == "same_cluster"
    }
    assert passed_over["candidate", "quality"] == 300


@pytest.mark.parametrize(
    ("users", "keys", "population", "verdict", "words"),
    [
        (
            2,
            1,
            None,
            "hold",
            "2 effective users so far; 3 are needed; `population: these` speaks about these users only",
        ),
        (2, 1, "these", "ship", "It holds for these 2 users as they use it now"),
        (None, 25, None, "ship", "It holds for these 25 keys as they use it now"),
        (40, 1, None, "ship", "Ship."),
    ],
)
def test_a_verdict_is_about_the_units_that_calls_name(
    begin_experiment: Any, simulation: Any, users: int | None, keys: int, population: Any, verdict: str, words: str
) -> None:
    rng, changes = random.Random(8), {**HYBRID, "max_pairs": 100, "repeat_control": 1.0, "guardrails": ()}
    experiment = begin_experiment(rules=3, population=population, **changes)
    made = []
    for i in range(400):
        score_of = {"candidate": simulation.seen(score(rng)), "repeat": simulation.seen(score(rng))}
        user = None if users is None else f"u{i % users}"
        origin = PairOrigin(1_790_000_000.0 + 60.0 * i, f"k{i % keys}", user)
        made.append(replace(simulation.a_pair(i, simulation.seen(score(rng)), **score_of), origin=origin))
    experiment.add(made)
    found = experiment.found()
    assert found.decision.verdict == verdict, found.decision
    assert words in found.decision.sentence
    assert found.primary.closed, "the plan has taken its last look"
    states = {gate.name: gate.state for gate in found.gates}
    assert states.get("units") == (None if "these" in words and verdict == "ship" else int(verdict == "ship"))
