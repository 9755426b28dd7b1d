"""The compared arms, their colours, and the names of findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.reports.model import ArmResponse, Comparison, Estimate, KeptTraffic, Responses, SegmentReport
from gateway.verdict.report import presentation
from gateway.verdict.report.html import page_values


def test_a_metric_listed_twice_is_shown_in_its_deciding_role(report):
    made = report()
    shown = presentation.comparisons(replace(made, primary=replace(made.metrics[0], pairs=7)))
    assert [c.metric for c in shown] == [c.metric for c in made.metrics]
    assert shown[0].pairs == 7
    assert presentation.comparisons(report("nothing")) == []


def test_costs_are_compared_with_the_control_not_its_repeat(report):
    made = report()
    control, candidate = presentation.arms_compared(made)
    assert (control.arm, candidate.arm) == ("control", "llama")
    assert presentation.arms_compared(replace(made, arms=made.arms[1:])) is None
    assert presentation.arms_compared(report("nothing")) is None


def test_latency_is_compared_only_with_an_arm_on_the_same_path(report):
    made = report()
    other, candidate = presentation.latency_compared(made)
    assert (other.arm, candidate.arm) == ("repeat", "llama")
    third = replace(made.latency[2], arm="qwen")
    assert presentation.latency_compared(replace(made, latency=(third, *made.latency)))[0].arm == "repeat"
    assert presentation.latency_compared(replace(made, latency=(third, made.latency[2]))) is None
    alone = replace(made, latency=(made.latency[0], made.latency[2]))
    assert presentation.latency_compared(alone) is None
    split = tuple(replace(each, comparable=True) for each in alone.latency)
    assert presentation.latency_compared(replace(made, latency=split))[0].arm == "control"
    first = tuple(replace(each, measure="first_token_s") for each in split)
    assert presentation.latency_compared(replace(made, latency=first)) is None


def test_the_first_other_arm_has_the_colour_of_the_control(report):
    made = report()
    more = replace(made.arms[0], arm="third")
    assert presentation.arm_colors(replace(made, arms=(*made.arms, more))) == {
        "llama": "candidate",
        "repeat": "repeat",
        "control": "control",
        "third": "other",
    }


def test_drawn_pairs_are_the_compared_and_the_withheld(report):
    assert presentation.pairs_drawn(report()) == 1240 + 43
    assert presentation.pairs_drawn(report("nothing")) == 0


def comparison(direction: str, found: str, **fields: object) -> Comparison:
    none = Estimate(None)
    plain = Comparison("m", "", "primary", none, none, none, None, 10, 10.0, 0.02, direction, found)  # type: ignore[arg-type]
    return replace(plain, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "text", "state"),
    [
        (comparison("unclear", "equivalent"), "the same within 0.02", 1),
        (comparison("unclear", "non_inferior"), "not worse by more than 0.02", 1),
        (comparison("better", "non_inferior"), "better", 1),
        (comparison("worse", "non_inferior"), "worse, by no more than 0.02", 1),
        (comparison("worse", "inferior"), "worse by more than 0.02", -1),
        (comparison("unclear", "unclear", pairs_needed=1900), "undecided; about 1\u202f900 pairs more", 0),
        (comparison("worse", "unclear"), "undecided", 0),
        (comparison("better", "unclear", margin=None), "better", 1),
        (comparison("worse", "unclear", margin=None), "worse", -1),
        (comparison("unclear", "unclear", margin=None), "no difference shown", 0),
    ],
)
def test_a_finding_is_about_the_margin_if_there_is_one(found, text, state):
    assert (presentation.finding(found), presentation.finding_state(found)) == (text, state)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        (
            {"saved": 0.28, "adjusted": 280, "unadjusted": -0.011},
            "saves 28% of the pairs; the difference without it is −0.011.",
        ),
        ({"saved": 0.0, "adjusted": 280}, "before its pair is judged saves nothing here."),
        (
            {"saved": 0.02, "adjusted": 41, "unadjusted": 0.03},
            "Only 41 pairs of 300 could be adjusted: record more of the requests that are not shadowed "
            "(sampling.rate).",
        ),
    ],
)
def test_the_saving_by_adjusting_is_shown_with_its_reason(changes: dict[str, Any], expected: str) -> None:
    none = Estimate(None)
    c = Comparison("quality", "", "primary", none, none, Estimate(0.012, -0.02, 0.04), none, 300, 300.0, 0.05,
                   "unclear", "unclear", **changes)  # fmt: skip
    assert presentation.saving(c).endswith(expected)
    assert bool(presentation.saving(c)) == bool(changes)


RATED = Responses(ArmResponse(400, 40, 0.1), ArmResponse(1200, 240, 0.2), 30, Estimate(0.1, 0.05, 0.15), "omit")


def rated(report: Any, **changes: Any) -> Comparison:
    return replace(report().metrics[0], metric="feedback:thumb", responses=replace(RATED, **changes))


def test_the_share_of_answers_with_feedback_is_said(report):
    text = presentation.responses_line(rated(report)).replace("\u202f", " ")
    assert text == (
        "feedback:thumb was given on 10.0 % of the control's 400 answers and on 20.0 % of the candidate's 1 200; the "
        "others are in no mean; 30 answers may still get some."
    )
    zero = presentation.responses_line(rated(report, missing="zero", waiting=0))
    assert zero.endswith(", and is 0 for the others.")
    assert presentation.responses_line(report().metrics[0]) == presentation.responses_line(None) == ""


def test_different_shares_are_a_caution_unless_every_answer_counts(report):
    assert "more often on one arm" in presentation.response_caution(rated(report))
    assert presentation.response_caution(rated(report, missing="zero")) == ""
    assert presentation.response_caution(rated(report, difference=Estimate(0.1, -0.05, 0.25))) == ""
    assert presentation.response_caution(report().metrics[0]) == ""


def test_a_verdict_saves_what_moves(report):
    """The excepted traffic stays as expensive as it is; without the cost of the moved part there is no saving."""
    made = report()
    cost = next(c for c in made.metrics if c.metric == "cost_per_1k")
    cost = replace(cost, a=Estimate(2.0), b=Estimate(0.5))
    whole = replace(made, verdict="ship", guardrails=(cost,), metrics=(cost,))
    saved = presentation.saving_of(whole)
    assert (saved.before, saved.after, saved.share) == (2.0, 0.5, 0.75)
    moved = replace(cost, a=Estimate(1.5), b=Estimate(0.5))
    kept = KeptTraffic(("tools=yes",), 0.8, (made.primary, moved), True)
    part = replace(whole, verdict="ship_except", declared=SegmentReport((), kept))
    saved = presentation.saving_of(part)
    assert (saved.before, saved.after) == (2.0, pytest.approx(2.0 - 0.8 * 1.0))
    tile = next(each for each in page_values(part)["tiles"] if each.name == "Cost per 1k requests")
    assert (tile.figure, tile.details) == ("−40\u202f%", "$2.00 → $1.20; the excepted segments stay")
    unknown = replace(part, declared=SegmentReport((), replace(kept, metrics=(made.primary,))))
    assert presentation.saving_of(unknown) is None
    assert presentation.saving_of(replace(whole, verdict="hold")) is None
