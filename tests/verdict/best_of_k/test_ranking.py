"""Several candidates compared with each other: the dropped ones, the best one, and their storage."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.simulated import JUDGE, a_pair, seen
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState, StoredPlan, plan_states
from gateway.features.experiments.report.build import cautions_of
from gateway.features.experiments.rows.dropped import dropped_of, keep_dropped
from gateway.features.experiments.work import figures_of
from gateway.reports.model import Comparison, Estimate, GateResult, Verdict, margin_finding
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.sequences import states
from gateway.verdict.best_of_k.dropped import DroppedCandidate
from gateway.verdict.best_of_k.ranking import CandidateLook, Lead, dropped_at, ranking
from gateway.verdict.conditions import conditions_of
from gateway.verdict.decision import Decision
from gateway.verdict.ending import is_closed, is_decided
from gateway.verdict.findings import Finding, drops_of, finding
from gateway.verdict.metrics import StoredScore
from gateway.verdict.sequences.duels import duels_of
from gateway.verdict.states import SequenceStates

ARMS = ("fast", "slow", "tiny")
MARGIN = 0.1
NONE = Estimate(None)


def a_plan_of(arms: Sequence[str] = ARMS, **changes: Any) -> Plan:
    candidates = tuple((arm, Target("b", arm)) for arm in arms)
    return Plan(
        "swap", "chat", Target("a", "old"), candidates, primary="quality", margin=MARGIN, family="best", **changes
    )


def look(arm: str, verdict: Verdict, mean: float, high: float = 1.0, **more: Any) -> CandidateLook:
    """A look at one candidate against the control."""
    difference = Estimate(mean, mean - 0.05, high)
    found = margin_finding(difference, MARGIN)
    primary = Comparison("quality", "", "primary", NONE, NONE, difference, None, 50, 50.0, MARGIN, "unclear", found)
    return CandidateLook(arm, Decision(verdict, f"{verdict} it.", (f"quality: {verdict}",)), primary, **more)


def leads(lows: Mapping[tuple[str, str], float], **more: Any) -> Any:
    """Leads by their lower bounds; those that are not named are open."""

    def lead(ahead: str, behind: str) -> Lead:
        low, high = lows.get((ahead, behind), -0.5), lows.get((behind, ahead), -0.5)
        return Lead(Estimate((low - high) / 2, low, -high), 60, **more)

    return lead


def drops(looks: Sequence[CandidateLook], lead: Any, before: Mapping[str, DroppedCandidate] | None = None) -> Any:
    return dropped_at(a_plan_of(), looks, lead, before or {}, 7.0)


def test_a_candidate_that_another_beats_is_dropped() -> None:
    looks = [look("fast", "hold", 0.1), look("slow", "hold", 0.0), look("tiny", "hold", -0.05)]
    found = drops(looks, leads({("fast", "tiny"): 0.01}))
    assert found == {
        "tiny": DroppedCandidate(
            "tiny", "beaten", "fast", "worse than fast on quality (difference +0.26, interval +0.01 … +0.50, 60 pairs)",
            60, 7.0,
        )
    }  # fmt: skip
    assert drops(looks, leads({("fast", "tiny"): 0.0})) == {}, "0 is not better"


def test_a_rejected_candidate_is_dropped_with_the_reason() -> None:
    looks = [look("fast", "reject", -0.3, -0.2), look("slow", "reject", 0.0), look("tiny", "hold", 0.0)]
    found = drops(looks, leads({}))
    assert {arm: (each.reason, each.by, each.says) for arm, each in found.items()} == {
        "fast": ("inferior", "", "quality: reject"),
        "slow": ("guardrail", "", "quality: reject"),
    }


def test_a_rejected_candidate_drops_no_other() -> None:
    """The candidate breaks a guardrail, so its better scores give no reason to stop asking others."""
    looks = [look("fast", "reject", 0.2), look("slow", "hold", 0.0)]
    assert set(drops(looks, leads({("fast", "slow"): 0.1}))) == {"fast"}


def test_those_that_a_guardrail_breaker_had_beaten_come_back() -> None:
    beaten = DroppedCandidate("slow", "beaten", "fast", "worse than fast", 60, 1.0)
    before = {"slow": beaten, "tiny": replace(beaten, arm="tiny", by="slow")}
    looks = [look("fast", "reject", 0.2), look("slow", "hold", 0.0), look("tiny", "hold", -0.1)]
    first = drops(looks, leads({}), before)
    assert set(first) == {"fast", "slow", "tiny"}, "known at the next look, when the reason is stored"
    assert set(drops(looks, leads({}), first)) == {"fast", "tiny"}, "tiny is worse than slow, which is compared again"
    inferior = {**before, "fast": DroppedCandidate("fast", "inferior", "", "worse than the control", 60, 1.0)}
    assert set(drops(looks, leads({}), inferior)) == {"fast", "slow", "tiny"}, "worse than one that is worse than it"


def test_a_red_gate_takes_part_in_no_drop() -> None:
    red = (GateResult("losses", -1, "records are lost"),)
    lows = leads({("fast", "slow"): 0.1, ("slow", "tiny"): 0.1})
    looks = [look("fast", "hold", 0.2, gates=red), look("slow", "hold", 0.0), look("tiny", "hold", -0.1)]
    assert set(drops(looks, lows)) == {"tiny"}
    assert ranking(a_plan_of(), looks, lows, {}).sentence == (
        "No verdict on the best of 3 candidates for chat: withheld; the gate losses of fast has failed. Hold."
    )


def test_one_burst_drops_nobody() -> None:
    """Nobody is dropped before an hour of traffic, where the plan asks for at least as much."""
    looks = [look("fast", "hold", 0.2), look("slow", "hold", 0.0)]
    early, late = (leads({("fast", "slow"): 0.1}, hours_share=hours / 24) for hours in (0.9, 1.0))
    plan = a_plan_of(("fast", "slow"), min_hours=24.0)
    assert dropped_at(plan, looks, early, {}, 0.0) == {}
    assert set(dropped_at(plan, looks, late, {}, 0.0)) == {"slow"}
    soon = replace(plan, min_hours=0.0)
    assert set(dropped_at(soon, looks, leads({("fast", "slow"): 0.1}), {}, 0.0)) == {"slow"}


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    st.dictionaries(st.sampled_from([(a, b) for a in ARMS for b in ARMS if a != b]), st.floats(-0.5, 0.5)),
    st.lists(st.sampled_from(["ship", "hold", "reject"]), min_size=3, max_size=3),
)
def test_comparisons_of_candidates_never_drop_them_all(
    means: list[float], lows: dict[tuple[str, str], float], verdicts: list[Verdict]
) -> None:
    """The last one goes only by its rejection, whatever the intervals say, and even if they contradict each other."""
    looks = [look(*each) for each in zip(ARMS, verdicts, means, strict=True)]
    found = drops(looks, leads(lows))
    left = [each for each in looks if each.decision.verdict != "reject"]
    assert bool(left) == any(each.arm not in found for each in looks)
    assert drops(looks, leads(lows), found).keys() >= found.keys() - {
        arm for arm, each in found.items() if each.by and found.get(each.by) and found[each.by].reason == "guardrail"
    }, "a drop stays"
    best = ranking(a_plan_of(), looks, leads(lows), found)
    assert (best.verdict == "none") == (not left)
    if best.best is not None:
        assert best.best == best.leader == best.candidates[0].candidate
        others = [row.candidate for row in best.candidates[1:] if row.state != "dropped"]
        assert all(lows.get((best.best, other), -0.5) > -MARGIN for other in others)
    assert [row.candidate for row in best.candidates if row.state == "dropped"] == [
        each.arm for each in sorted(looks, key=lambda each: -each.mean) if each.arm in found
    ]


def test_the_best_is_shown_against_the_control_and_all_that_are_left() -> None:
    plan, looks = a_plan_of(), [look("fast", "ship", 0.04), look("slow", "ship", 0.03), look("tiny", "hold", -0.3)]
    out = {"tiny": DroppedCandidate("tiny", "beaten", "fast", "worse than fast", 60, 1.0)}
    best = ranking(plan, looks, leads({("fast", "slow"): -0.09}), out)
    assert (best.verdict, best.best, best.alpha) == ("best", "fast", pytest.approx(0.05 / 2 / 3))
    assert best.sentence == (
        "The best of 3 candidates for chat is fast: not worse by more than 0.1 on quality than a/old (difference "
        "+0.04, interval −0.01 … +1.00, 50 pairs), and no other candidate is better by more than 0.1 (its lead over "
        "slow: difference +0.21, interval −0.09 … +0.50, 60 pairs). Dropped: tiny. Ship."
    )
    assert [(row.candidate, row.state) for row in best.candidates] == [
        ("fast", "best"), ("slow", "compared"), ("tiny", "dropped"),
    ]  # fmt: skip
    second = ranking(plan, looks, leads({("slow", "fast"): -0.05}), out)
    assert second.best == "slow", "not the one that leads, but the one that is shown"
    for lows, first in (({("fast", "slow"): -0.1}, "ship"), ({("fast", "slow"): 0.2}, "hold")):
        changed = [look("fast", first, 0.04), *looks[1:]]
        open_ = ranking(plan, changed, leads(lows), out)
        assert (open_.verdict, open_.best, open_.leader) == ("open", None, "fast")
        assert open_.sentence.startswith("The best of 3 candidates for chat is undecided; fast: leads; ")


def test_the_control_stays_where_every_candidate_is_dropped() -> None:
    looks = [look(arm, "reject", -0.3, -0.2) for arm in ARMS]
    best = ranking(a_plan_of(), looks, leads({}), drops(looks, leads({})))
    assert (best.verdict, best.best, best.leader) == ("none", None, None)
    assert best.sentence == (
        "None of 3 candidates for chat may replace a/old: fast: quality: reject; slow: quality: reject; tiny: "
        "quality: reject. Keep the control. Reject."
    )


DESIGN: dict[str, Any] = {
    "candidates": tuple((arm, Target("b", arm)) for arm in ARMS), "method": "hybrid", "max_pairs": 200, "aa": "alarm",
    "guardrails": (), "family": "best", "margin": MARGIN, "after_verdict": "stop",
}  # fmt: skip


def play(experiment: Any, means: Mapping[str, float], n: int, seed: int = 3, arms: Sequence[str] = ARMS) -> None:
    """The next pairs of an experiment. arms: the candidates that are asked."""
    rng = random.Random(seed * 1000 + experiment.n)

    def score(mean: float) -> Any:
        return seen(min(1.0, max(0.0, rng.gauss(mean, 0.15))), cost_usd=0.001 * mean)

    experiment.add(
        a_pair(
            i,
            score(0.5),
            repeat=score(0.5),
            **{arm: score(mean) for arm, mean in means.items() if arm in arms},
        )
        for i in range(experiment.n, experiment.n + n)
    )


def stored(experiment: Any) -> StoredPlan:
    return StoredPlan(experiment.plan, experiment.hash, "running", 1.0)


def found_by(experiment: Any) -> dict[str, Finding]:
    with experiment.engine.connect() as connection:
        return {arm: finding(StoredEvidence(connection, stored(experiment)), arm) for arm in ARMS}


def drop(experiment: Any, now: float = 5.0) -> tuple[str, ...]:
    """A look as the consumer takes it; the arms that get no more requests."""
    with experiment.engine.begin() as connection:
        keep_dropped(connection, experiment.hash, drops_of(StoredEvidence(connection, stored(experiment), now)), now)
        return tuple(dropped_of(connection, experiment.hash))


def test_pairs_of_candidates_are_sequences_of_the_plan(begin_experiment: Any) -> None:
    experiment = begin_experiment(**DESIGN)
    means = {"fast": 0.7, "slow": 0.5, "tiny": 0.3}
    play(experiment, means, 30)
    play(experiment, means, 10, arms=("fast", "slow"))
    with experiment.engine.connect() as connection:
        every = states(connection, experiment.hash)
        looked = SequenceStates(StoredEvidence(connection, stored(experiment)))
        duels = {duel.pair: looked.sequences[duel.name, "quality"] for duel in duels_of(experiment.plan)}
    assert {pair: s.n for pair, s in duels.items()} == {
        ("fast", "slow"): 40, ("fast", "tiny"): 30, ("slow", "tiny"): 30,
    }  # fmt: skip
    assert duels["fast", "slow"].moments.mean < -0.1, "positive is better for the second"
    assert {s.rule.alpha for s in duels.values()} == {0.05 / 3}
    assert {name.metric for name in every if " against " in name.candidate} == {"quality"}, "of the primary alone"
    one = begin_experiment(**{**DESIGN, "family": "holm"})
    play(one, means, 30)
    with one.engine.connect() as connection:
        assert not [name for name in states(connection, one.hash) if " against " in name.candidate]


def test_candidates_are_dropped_and_the_best_ships(begin_experiment: Any) -> None:
    """One is better than the control, one as good, one worse: the worse one goes by its own verdict, the equal one
    because the better one is better; then the better one alone is asked, until it ships."""
    experiment = begin_experiment(**DESIGN)
    means, out = {"fast": 0.75, "slow": 0.5, "tiny": 0.2}, ()
    sizes = []
    while len(out) < 2:
        play(experiment, means, 10, arms=[arm for arm in ARMS if arm not in out])
        out = drop(experiment)
        sizes.append((experiment.n, out))
    assert sizes[-1][0] < 100
    found = found_by(experiment)
    assert {arm: each.decision.verdict for arm, each in found.items()} == {
        "fast": "ship", "slow": "reject", "tiny": "reject",
    }  # fmt: skip
    best = found["slow"].best
    assert best == found["fast"].best
    assert (best.verdict, best.best) == ("best", "fast")
    assert found["slow"].decision.sentence.startswith("slow is dropped: worse than fast on quality (difference +0.2")
    with experiment.engine.connect() as connection:
        assert is_decided(StoredEvidence(connection, stored(experiment)))
        figures = {each.candidate: each for each in figures_of(connection, 2.0)}
    assert {arm: each.rank for arm, each in figures.items()} == {"fast": 1, "slow": -1, "tiny": -1}
    play(experiment, means, 30, seed=9)  # in flight when they were dropped
    assert drop(experiment) == ("slow", "tiny"), "a drop stays"


def test_alike_candidates_end_with_one_within_the_margin(begin_experiment: Any) -> None:
    experiment = begin_experiment(**{**DESIGN, "max_pairs": 150})
    while experiment.n < 150 and found_by(experiment)["fast"].best.verdict == "open":
        play(experiment, dict.fromkeys(ARMS, 0.5), 10)
        assert drop(experiment) == ()
    found = found_by(experiment)
    best = found["fast"].best
    assert best.verdict == "best"
    assert sorted(each.decision.verdict for each in found.values()) == ["hold", "hold", "ship"]
    with experiment.engine.connect() as connection:
        assert is_decided(StoredEvidence(connection, stored(experiment))), (
            "the other two are not told apart, and need not be"
        )


def test_the_leader_waits_for_the_candidates_next_to_it(begin_experiment: Any) -> None:
    """Against the control it ships; against another candidate it is open, with the pairs that it still takes."""
    experiment = begin_experiment(**DESIGN)
    play(experiment, {"fast": 0.72, "slow": 0.72, "tiny": 0.72}, 40)
    with experiment.engine.connect() as connection:
        looked = SequenceStates(StoredEvidence(connection, stored(experiment)))
        by_arm = {arm: finding(StoredEvidence(connection, stored(experiment)), arm) for arm in ARMS}
        leader = by_arm[by_arm["fast"].best.leader]
        open_ = [each for each in conditions_of(leader, looked) if each.more_values != 0]
        other = next(each for arm, each in by_arm.items() if arm != leader.candidate)
        assert not [each for each in conditions_of(other, looked) if each.kind == "duel"]
        assert not is_closed(StoredEvidence(connection, stored(experiment)))
    assert {each.kind for each in open_} == {"duel"}
    assert all(each.name.startswith(f"{leader.candidate} against ") for each in open_)
    assert all(each.more_values for each in open_)
    assert leader.decision.verdict == "hold"
    assert f"{leader.candidate}: leads; not worse than the control by more than 0.1" in leader.decision.sentence


def test_the_plan_closes_once_every_comparison_that_is_left_has(begin_experiment: Any) -> None:
    experiment = begin_experiment(**{**DESIGN, "max_pairs": 60, "margin": 0.01})
    play(experiment, dict.fromkeys(ARMS, 0.5), 60)
    with experiment.engine.connect() as connection:
        assert is_closed(StoredEvidence(connection, stored(experiment)))
        assert not is_decided(StoredEvidence(connection, stored(experiment)))
        best = finding(StoredEvidence(connection, stored(experiment)), "fast").best
    assert best.verdict == "open"
    assert all(row.lead_closed for row in best.candidates[1:])


def test_a_plan_without_a_last_look_ends_at_its_most_pairs(begin_experiment: Any) -> None:
    """The plan ends at a stated number of pairs; or at twice the planned one, and later where the variance asks for
    more, up to four times.
    """
    experiment = begin_experiment(**{**DESIGN, "method": "anytime", "max_pairs": 40, "margin": 0.01})
    wide = replace(experiment.plan, max_pairs=30, auto_horizon=True)
    narrow = replace(wide, margin=0.5)
    assert wide.ends_at == narrow.ends_at == 60
    closed = {}
    for n in (39, 1, 19, 1, 179, 1):
        play(experiment, dict.fromkeys(ARMS, 0.5), n)
        with experiment.engine.connect() as connection:
            plans = {"stated": experiment.plan, "wide": wide, "narrow": narrow}
            found = {
                w: is_closed(StoredEvidence(connection, StoredPlan(p, experiment.hash, "running", 1.0)))
                for w, p in plans.items()
            }
        closed[experiment.n] = {which for which, is_over in found.items() if is_over}
    assert closed == {
        39: set(), 40: {"stated"}, 59: {"stated"}, 60: {"stated", "narrow"}, 239: {"stated", "narrow"},
        240: {"stated", "narrow", "wide"},
    }  # fmt: skip
    assert found_by(experiment)["fast"].best.verdict == "open"


def test_costs_and_the_front_are_those_of_the_arms(begin_experiment: Any) -> None:
    experiment = begin_experiment(**DESIGN)
    play(experiment, {"fast": 0.5, "slow": 0.7, "tiny": 0.3}, 40)
    best = found_by(experiment)["fast"].best
    costs = {row.candidate: row.cost_per_1k.value for row in best.candidates}
    assert costs == {"fast": pytest.approx(0.5), "slow": pytest.approx(0.7), "tiny": pytest.approx(0.3)}
    assert best.control_cost.value == pytest.approx(0.5)
    front = {row.candidate: row.on_front for row in best.candidates}
    assert front["slow"], "the best is on the front"
    assert front["tiny"], "and so is the cheapest"
    assert front["fast"] != best.control_on_front, "as expensive as the control: the better of the two is on it"


def test_a_judge_of_pairs_has_no_duel(begin_experiment: Any) -> None:
    """A judge of pairs compares an answer with the served one; no value compares two candidates."""
    experiment = begin_experiment(**{**DESIGN, "primary": "edit"})
    experiment.add(
        a_pair(i, seen(0.5), repeat=seen(0.5, distance=0.2), **{arm: seen(0.5, distance=0.3) for arm in ARMS})
        for i in range(20)
    )
    with experiment.engine.connect() as connection:
        assert not [name for name in states(connection, experiment.hash) if " against " in name.candidate]
        found = finding(StoredEvidence(connection, stored(experiment)), "fast")
        cautions = list(cautions_of(connection, found))
    assert found.best.verdict == "open"
    assert cautions[0].startswith(
        "edit compares an answer with the served one, so the candidates cannot be compared with each other"
    )


def test_an_answer_without_a_score_is_in_no_duel(begin_experiment: Any) -> None:
    experiment = begin_experiment(**DESIGN)
    blank = replace(seen(0.5), scores={JUDGE: StoredScore("not_applicable")})
    experiment.add(
        a_pair(i, seen(0.5), repeat=seen(0.5), fast=seen(0.5), slow=blank if i % 2 else seen(0.5), tiny=seen(None))
        for i in range(20)
    )
    with experiment.engine.connect() as connection:
        looked = SequenceStates(StoredEvidence(connection, stored(experiment)))
        n = {
            duel.pair: s.n for duel in duels_of(experiment.plan) if (s := looked.sequences.get((duel.name, "quality")))
        }
    assert n == {("fast", "slow"): 10}


@pytest.mark.parametrize("tied", ARMS)
def test_a_kept_control_is_compared_by_the_served_answer(begin_experiment: Any, tied: str) -> None:
    """The route ties with the control, and with another candidate only if that one answers as well as the control."""
    experiment = begin_experiment(**DESIGN)
    values = {**dict(zip(ARMS, (0.9, 0.7, 0.2), strict=True)), tied: 0.5}
    answers = {arm: replace(seen(value), tied=arm == tied) for arm, value in values.items()}
    experiment.add(a_pair(i, seen(0.5), repeat=seen(0.5), **answers) for i in range(20))
    with experiment.engine.connect() as connection:
        looked = SequenceStates(StoredEvidence(connection, stored(experiment)))
        means = {duel.pair: looked.sequences[duel.name, "quality"].moments.mean for duel in duels_of(experiment.plan)}
        assert looked.sequences[tied, "quality"].moments.mean == 0.0
    assert means == {(a, b): pytest.approx(values[b] - values[a]) for a, b in means}


def test_a_state_with_dropped_candidates_survives_the_stream() -> None:
    plan = a_plan_of()
    state = PlanState(plan, "running", 3.0, dropped=("slow", "tiny"))
    read = plan_states({b"swap": state.to_json()})["swap"]
    assert read == state
    assert plan_states({b"swap": replace(state, dropped=()).to_json()})["swap"].dropped == ()
    assert b"dropped" not in PlanState(plan, "running", 3.0).to_json(), "other states are stored as they were"
    assert plan_states({b"swap": orjson.dumps({**orjson.loads(state.to_json()), "dropped": 3})}) == {}
