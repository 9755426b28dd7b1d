"""People's feedback decides a split: each answer once its window has closed, and no more often wrong than alpha."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gateway.features.experiments.feedback_outcomes import FeedbackTerms, feedback_values, terms_of
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.features.experiments.split import compare_feedback

THUMB = "feedback:thumb"
LATE = 1e9
RUNS = 30


def row(i: int, arm: str, received: float | None = None) -> ServedAnswer:
    at = float(i) if received is None else received
    return ServedAnswer(
        f"e{i}", arm, f"u{i}", (arm, "chat", f"a/{arm}", "split:swap"), "ok", 200, 1.0, None, 5, None, 1.0, 100, at
    )


def a_plan(simulation: Any, **changes: Any) -> Any:
    fields = {"mode": "split", "split": 0.5, "repeat_control": 0.0, "shadow": 0.0, "primary": THUMB}
    return simulation.a_plan(**{**fields, "margin": 0.1, "feedback_window_s": 10.0, "guardrails": (), **changes})


def values(terms: FeedbackTerms, given: dict[str, list[tuple[float, float]]], n: int = 3) -> Any:
    return feedback_values([row(i, "control", 100.0 * i) for i in range(n)], given, terms)


def test_an_answer_counts_once_its_window_has_closed() -> None:
    given = {"e0": [(1.0, 1.0)], "e1": [(101.0, 1.0)]}
    found = values(FeedbackTerms(10.0, "omit", 109.0), given)
    assert found.closed.tolist() == [True, False, False]
    assert found.answered.tolist() == [True, False, False]
    assert np.isnan(found.values).tolist() == [False, True, True]
    later = values(FeedbackTerms(10.0, "omit", 110.0), given)
    assert later.values[:2].tolist() == [1.0, 1.0]


def test_late_feedback_changes_nothing() -> None:
    given = {"e0": [(10.0, 1.0), (11.0, 0.0)], "e1": [(111.0, 1.0)]}
    found = values(FeedbackTerms(10.0, "omit", LATE), given)
    assert found.values[0] == 1.0, "what came in time stays"
    assert found.answered.tolist() == [True, False, False]


def test_several_people_on_one_answer_are_averaged() -> None:
    assert values(FeedbackTerms(10.0, "omit", LATE), {"e0": [(1.0, 1.0), (2.0, 0.0)]}).values[0] == 0.5


def test_an_answer_without_feedback_is_in_no_mean_or_zero() -> None:
    given = {"e0": [(1.0, 12.5)]}
    omit, zero = (values(FeedbackTerms(10.0, missing, LATE), given) for missing in ("omit", "zero"))
    assert np.isnan(omit.values).tolist() == [False, True, True]
    assert zero.values.tolist() == [12.5, 0.0, 0.0]
    assert omit.answered.tolist() == zero.answered.tolist() == [True, False, False]
    assert not zero.bounded, "a conversion with a value"
    assert values(FeedbackTerms(10.0, "zero", 250.0), given).closed.tolist() == [True, True, True]


def test_a_plan_without_a_window_has_a_day(simulation: Any) -> None:
    assert terms_of(a_plan(simulation, feedback_window_s=None), 5.0) == FeedbackTerms(86_400.0, "omit", 5.0)
    assert terms_of(a_plan(simulation), 5.0).window_s == 10.0


def traffic(
    seed: int, n: int, good: dict[str, float], answered: dict[str, float]
) -> tuple[list[ServedAnswer], dict[str, list[tuple[float, float]]]]:
    """n answers; each gets a thumb with the arm's probability, which is up with another one."""
    rng, rows, given = random.Random(seed), [], {}
    for i in range(n):
        arm = "candidate" if rng.random() < 0.5 else "control"
        rows.append(row(i, arm))
        if rng.random() < answered[arm]:
            given[f"e{i}"] = [(i + 1.0, float(rng.random() < good[arm]))]
    return rows, given


def compared(plan: Any, rows: list[ServedAnswer], given: Any, missing: Any = "omit", now: float = LATE) -> Any:
    return compare_feedback(rows, THUMB, feedback_values(rows, given, FeedbackTerms(10.0, missing, now)), plan, {})


SAME = {"control": 0.7, "candidate": 0.7}
FEW = {"control": 0.2, "candidate": 0.2}


def test_the_means_and_the_shares_answered_are_by_arm(simulation: Any) -> None:
    rows, given = traffic(1, 6000, {"control": 0.6, "candidate": 0.8}, {"control": 0.1, "candidate": 0.3})
    made = compared(a_plan(simulation), rows, given)
    assert (made.a.value, made.b.value) == (pytest.approx(0.6, abs=0.05), pytest.approx(0.8, abs=0.05))
    r = made.responses
    assert (r.a.share, r.b.share) == (pytest.approx(0.1, abs=0.02), pytest.approx(0.3, abs=0.02))
    assert (r.a.closed + r.b.closed, r.waiting) == (6000, 0)
    assert r.selective, "the arms are rated by different people"
    assert made.direction_found == "better"
    zero = compared(a_plan(simulation, feedback_missing="zero"), rows, given, "zero")
    assert (zero.a.value, zero.b.value) == (pytest.approx(0.06, abs=0.02), pytest.approx(0.24, abs=0.02))
    assert not zero.responses.selective, "every answer counts"


def test_equal_shares_are_no_caution(simulation: Any) -> None:
    rows, given = traffic(2, 3000, SAME, FEW)
    assert not compared(a_plan(simulation), rows, given).responses.selective


def test_what_waits_is_counted_apart(simulation: Any) -> None:
    rows, given = traffic(3, 400, SAME, {"control": 1.0, "candidate": 1.0})
    half = compared(a_plan(simulation), rows, given, now=209.0)
    assert (half.responses.a.closed + half.responses.b.closed, half.responses.waiting) == (200, 200)
    assert half.pairs == 200
    assert compared(a_plan(simulation), rows, given, now=5.0) is None, "no window has closed"


def test_without_any_answer_the_nonresponse_is_still_shown(simulation: Any) -> None:
    rows, _ = traffic(4, 300, SAME, FEW)
    made = compared(a_plan(simulation), rows, {})
    assert (made.pairs, made.difference.value, made.role) == (0, None, "primary")
    assert (made.responses.a.answered, made.responses.a.share) == (0, 0.0)


@pytest.mark.parametrize(
    ("name", "good", "answered", "wrong"),
    [
        ("the same", SAME, FEW, lambda c: c.direction_found != "unclear"),
        ("worse by the margin", {"control": 0.7, "candidate": 0.6}, FEW,
         lambda c: c.margin_found in ("equivalent", "non_inferior")),
    ],
)  # fmt: skip
def test_looking_often_is_wrong_no_more_often_than_alpha(
    simulation: Any, name: str, good: dict[str, float], answered: dict[str, float], wrong: Any
) -> None:
    plan, missed = a_plan(simulation), 0
    for seed in range(RUNS):
        rows, given = traffic(seed, 1300, good, answered)
        looks = [compared(plan, rows[:n], given) for n in range(700, 1301, 300)]
        missed += any(wrong(c) for c in looks if c is not None)
    assert missed <= RUNS * 0.05 + 3 * (RUNS * 0.05 * 0.95) ** 0.5


@pytest.mark.long
@pytest.mark.parametrize("missing", ["omit", "zero"])
def test_alpha_holds_over_many_runs_and_looks(simulation: Any, missing: str) -> None:
    """A look after every 300 answers; worse by exactly the margin, and equal."""
    runs, margin = 150, 0.1 if missing == "omit" else 0.1 * FEW["control"]
    plan = a_plan(simulation, margin=margin, feedback_missing=missing)

    def ever(good: dict[str, float], wrong: Any) -> float:
        found = 0
        for seed in range(runs):
            rows, given = traffic(seed, 3000, good, FEW)
            looks = (compared(plan, rows[:n], given, missing) for n in range(300, 3001, 300))
            found += any(c is not None and wrong(c) for c in looks)
        return found / runs

    bound = 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    shipped = ever({"control": 0.7, "candidate": 0.6}, lambda c: c.margin_found in ("equivalent", "non_inferior"))
    different = ever(SAME, lambda c: c.direction_found != "unclear")
    assert max(shipped, different) <= bound, (shipped, different)


@pytest.mark.parametrize(
    ("vote", "good"), [(-1e15, {"control": 0.8, "candidate": 0.8}), (1e15, {"control": 0.9, "candidate": 0.4})]
)
def test_one_extreme_vote_does_not_decide(simulation: Any, vote: float, good: dict[str, float]) -> None:
    """Of the candidate's own caller, or of a rival's."""
    plan = a_plan(simulation, rules=2, margin=0.25)
    rows, given = traffic(3, 900, good, {"control": 1.0, "candidate": 1.0})
    own = next(r for r in rows if r.arm == "candidate")
    honest = compare_feedback(rows, THUMB, feedback_values(rows, given, terms_of(plan, LATE)), plan, {})
    given[own.id] = [(own.received, vote)]
    found = feedback_values(rows, given, terms_of(plan, LATE))
    made = compare_feedback(rows, THUMB, found, plan, {})
    assert honest is not None
    assert made is not None
    assert made.margin_found == honest.margin_found != "unclear"
    assert made.difference.value == pytest.approx(honest.difference.value, abs=0.05)
    assert (found.fenced, "1 extreme values" in made.method) == (1, True)
    first = feedback_values(rows, given, terms_of(a_plan(simulation), LATE))
    assert np.nanmax(np.abs(first.values)) == 1e15, "plans of the first rules keep what they had"


def test_amounts_with_a_long_tail_stay_as_they_are() -> None:
    rng = random.Random(1)
    given = {f"e{i}": [(100.0 * i, rng.lognormvariate(0, 1))] for i in range(2000)}
    found = values(FeedbackTerms(10.0, "zero", LATE, winsorised=True), given, 2000)
    assert found.fenced == 0
