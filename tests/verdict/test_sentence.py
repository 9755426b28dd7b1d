"""The sentence of a verdict: what changed, the verdict, what to do; never longer than two lines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.model import (
    Comparison,
    Estimate,
    GateResult,
    OpenCondition,
    Progress,
    RampChangeShown,
    RampHistory,
    SegmentDifference,
)
from gateway.verdict.sentence import MOST, Outcome, loser_of, strongest_loser, verdict_sentence

NBSP = "\u202f"


def compared(**fields: Any) -> Comparison:
    plain = Comparison(
        "right", "", "primary", Estimate(0.6), Estimate(0.3), Estimate(-0.3, -0.41, -0.19), None, 120, 120.0, 0.05,
        "worse", "inferior", binary=True,
    )  # fmt: skip
    return replace(plain, **fields)


def outcome(**fields: Any) -> Outcome:
    plain: dict[str, Any] = {
        "control": "local/smollm2", "candidate": "local/smollm2[temperature=1.5]", "verdict": "reject",
        "primary": compared(), "pairs": 120,
    }  # fmt: skip
    return Outcome(**{**plain, **fields})


def test_a_share_is_said_as_an_engineer_would() -> None:
    said = verdict_sentence(outcome())
    assert said.text == (f"temperature 1.5: right in 30{NBSP}% instead of 60{NBSP}%; worse by 0.190 to 0.410. Reject.")
    assert said.action == "Keep smollm2."
    assert said.settings == "local/smollm2 → local/smollm2[temperature=1.5]; right, margin 0.05; 120 pairs"
    assert (said.badge, said.state) == ("✕ Reject", -1)


def test_a_ship_above_a_part_that_loses_names_the_part() -> None:
    """A part that nobody declared decides nothing, but the first line says what it loses."""
    part = SegmentDifference("metadata.product", "code", 80, Estimate(-0.46, -0.55, -0.37), "worse")
    small = SegmentDifference("tools", "yes", 80, Estimate(-0.06, -0.09, -0.03), "worse")
    loser = strongest_loser((small, part), 0.05)
    said = verdict_sentence(outcome(verdict="ship", primary=SAME, loser=loser))
    assert said.text.endswith("Ship, but code loses 0.460.")
    assert said.action == "Look at metadata.product=code first, and declare it as a segment."
    assert max(len(said.text), len(said.action)) <= MOST
    assert strongest_loser((small,), 0.05) is None, "its interval reaches the margin"


def test_a_part_that_stays_with_the_control_loses_nothing() -> None:
    part = SegmentDifference("metadata.product", "code", 80, Estimate(-0.46, -0.55, -0.37), "worse")
    found = partial(loser_of, primary=SAME, segments=lambda: [part], excepted=("metadata.product=code",))
    assert found("ship_except") is None
    assert found("ship") == part, "nothing stays with the control"
    assert loser_of("ship_except", SAME, lambda: [part], ("metadata.product=chat",)) == part


def test_a_verdict_about_the_keys_seen_says_so() -> None:
    said = verdict_sentence(outcome(verdict="ship", primary=SAME, these="these 25 keys"))
    assert said.text.endswith("Ship for these 25 keys.")
    assert len(said.text) <= MOST
    held = verdict_sentence(outcome(verdict="hold", primary=SAME, these="these 25 keys"))
    assert "these" not in held.text


def test_too_few_users_are_what_a_hold_waits_for() -> None:
    says = "2 effective users so far; 3 are needed; `population: these` speaks about these users only"
    gates = (GateResult("units", 0, says, 2.0),)
    assert verdict_sentence(outcome(verdict="hold", primary=SAME, gates=gates)).action == says


@pytest.mark.parametrize(
    ("verdict", "action"),
    [("ship", "Enforce it: gateway guard promote leaks."), ("reject", "Let leaks observe only.")],
)
def test_a_guard_is_named_with_what_it_would_do(verdict: Any, action: str) -> None:
    said = verdict_sentence(outcome(candidate="guard/leaks[0123456789abcdef]", verdict=verdict))
    assert said.text.startswith(f"With guard leaks: right in 30{NBSP}% instead of 60{NBSP}%; worse by 0.190 to 0.410.")
    assert said.action == action
    longest = verdict_sentence(outcome(candidate=f"guard/{'g' * 64}[0123456789abcdef]", verdict=verdict))
    assert max(len(longest.text), len(longest.action)) <= MOST


SAME = compared(
    metric="helpfulness", a=Estimate(0.731), b=Estimate(0.735), difference=Estimate(0.004, -0.011, 0.019), binary=False,
    margin=0.02, margin_found="equivalent", direction_found="unclear",
)  # fmt: skip


def of(*difference: float) -> Comparison:
    return replace(SAME, difference=Estimate(*difference))


@pytest.mark.parametrize(
    ("primary", "text"),
    [
        (SAME, "helpfulness 0.735 instead of 0.731; between 0.011 worse and 0.019 better"),
        (of(0.004, -0.011), "helpfulness 0.735 instead of 0.731; worse by 0.011 at most"),
        (of(0.4, 0.3, 0.5), "helpfulness 0.735 instead of 0.731; better by 0.300 to 0.500"),
        (of(0.0, -0.01, 0.01), "helpfulness 0.735 instead of 0.731; within 0.010 either way"),
        (replace(SAME, b=Estimate(0.731)), "helpfulness 0.731 on both; between 0.011 worse and 0.019 better"),
        (
            replace(SAME, metric="cost_per_1k", unit="USD per 1k", a=Estimate(2.41), b=Estimate(0.7), margin=0.1,
                    difference=Estimate(1.71, 1.59, 1.83)),
            "cost of 1k $0.70 instead of $2.41; better by 1.59 to 1.83",
        ),
        (
            replace(SAME, metric="error_rate", a=Estimate(0.008), b=Estimate(0.006), margin=0.01, better="lower"),
            f"failed in 0.6{NBSP}% instead of 0.8{NBSP}%; between 0.011 worse and 0.019 better",
        ),
        (
            replace(
                SAME, metric="refusal", a=Estimate(0.02), b=Estimate(0.05), binary=True, better="lower", margin=0.1
            ),
            f"refused in 5{NBSP}% instead of 2{NBSP}%; between 0.01 worse and 0.02 better",
        ),
        (replace(SAME, a=Estimate(None), b=Estimate(None)), "helpfulness between 0.011 worse and 0.019 better"),
        (replace(SAME, a=Estimate(None), b=Estimate(None), difference=Estimate(None)), "no value of helpfulness yet"),
    ],
)  # fmt: skip
def test_a_change_is_in_the_metrics_own_unit(primary: Comparison, text: str) -> None:
    said = verdict_sentence(outcome(verdict="ship", primary=primary, control="a/gpt-x", candidate="b/llama"))
    assert said.text == f"llama: {text}. Ship."
    assert said.action == "Switch to llama."


def test_a_broken_guardrail_is_what_the_sentence_is_about() -> None:
    bad = replace(
        SAME, metric="error_rate", role="guardrail", a=Estimate(0.008), b=Estimate(0.061), margin=0.01,
        difference=Estimate(-0.053, -0.07, -0.036), margin_found="inferior",
    )  # fmt: skip
    said = verdict_sentence(outcome(primary=SAME, guardrails=(bad,), candidate="b/llama"))
    assert said.text == f"llama: failed in 6{NBSP}% instead of 1{NBSP}%; worse by 0.036 to 0.070. Reject."


def progress(requests: int | None) -> Progress:
    one = OpenCondition("primary", "right", Estimate(0.0), 0.05, 10, 190, requests, 2.0, False)
    return Progress("so far", "so far", (one,), "right", 190 if requests else None, requests, 2.0, ())


@pytest.mark.parametrize(
    ("changes", "text", "action"),
    [
        ({"primary": None, "pairs": 0}, "No pair yet. Hold.", "Send traffic: pairs come with it."),
        ({"progress": progress(9500)}, "Hold.", "Wait: about 9"),
        ({"progress": progress(None)}, "Hold.", "Wait for more pairs."),
        (
            {"gates": (GateResult("srm", -1, "912 and 88 units: not the planned shares"),)},
            "no verdict, since the shares of traffic are not as planned. Hold.",
            "Gate srm: 912 and 88 units: not the planned shares",
        ),
        ({"primary": compared(horizon=120, margin_found="unclear")}, "Hold.", "Keep the control: its pairs are taken"),
        ({"primary": compared(chance=0.01, margin_found="unclear")}, "Hold.", "Stop paying: the pairs left decide it"),
    ],
)  # fmt: skip
def test_a_hold_names_its_conditions(changes: dict[str, Any], text: str, action: str) -> None:
    said = verdict_sentence(outcome(verdict="hold", **changes))
    assert said.text.endswith(text)
    assert said.action.startswith(action)
    assert (said.badge, said.state) == ("? Hold", 0)


def ramp(state: str, step: int, *, paused: bool = False) -> RampHistory:
    change = RampChangeShown(9.0, state, 0.1, "controller", "errors at step 1", "p")
    return RampHistory(state, step, (0.1, 1.0), 0.1 if state == "ramp" else 0.0, paused, (change,), ())


@pytest.mark.parametrize(
    ("history", "badge", "begins", "action"),
    [
        (ramp("shadow", 0), "✓ Ship", "llama: helpfulness", "The ramp may take its first step."),
        (ramp("ramp", 1), "? Step 1 of 2", f"llama serves 10{NBSP}% at step 1 of 2; help", "The next step follows"),
        (ramp("ramp", 1, paused=True), "? Step 1 of 2, paused", "llama serves", "Resume the ramp, or roll it back."),
        (ramp("rolled_back", 0), "✕ Rolled back", "Rolled back: errors at step 1", "gpt-x serves every call again"),
        (
            ramp("promoted", 2),
            "✓ Promoted",
            "Promoted: llama, helpfulness 0.735 instead of 0.731",
            "llama serves; make it the target",
        ),
        (ramp("stopped", 0), "? Ramp stopped", "Ramp stopped: errors at step 1", "gpt-x serves every call; start"),
    ],
)
def test_a_ramp_that_serves_is_what_a_reader_has_to_know(
    history: RampHistory, badge: str, begins: str, action: str
) -> None:
    said = verdict_sentence(outcome(verdict="ship", primary=SAME, control="a/gpt-x", candidate="b/llama", ramp=history))
    assert said.badge == badge
    assert said.text.startswith(begins)
    assert said.action.startswith(action)


number = st.none() | st.floats(-1e7, 1e7, allow_nan=False)
estimates = st.builds(Estimate, number, number, number)
comparisons = st.builds(
    lambda metric, unit, a, b, d, margin, found, binary: compared(
        metric=metric, unit=unit, a=a, b=b, difference=d, margin=margin, margin_found=found, binary=binary
    ),
    st.text(max_size=80), st.sampled_from(["", "s", "USD per 1k", "tokens"]), estimates, estimates, estimates,
    st.none() | st.floats(0, 100),
    st.sampled_from(["equivalent", "non_inferior", "inferior", "unclear"]), st.booleans(),
)  # fmt: skip


@given(
    control=st.text(max_size=120),
    candidate=st.text(max_size=120),
    verdict=st.sampled_from(["ship", "ship_except", "reject", "hold"]),
    primary=st.none() | comparisons,
    state=st.sampled_from([None, "shadow", "ramp", "promoted", "rolled_back", "stopped"]),
    red=st.booleans(),
)
def test_a_sentence_never_takes_more_than_its_two_lines(
    control: str, candidate: str, verdict: str, primary: Comparison | None, state: str | None, red: bool
) -> None:
    gates = (GateResult(candidate, -1, control),) if red else ()
    said = verdict_sentence(
        outcome(
            control=control,
            candidate=candidate,
            verdict=verdict,
            primary=primary,
            gates=gates,
            ramp=None if state is None else ramp(state, 1),
            excepted=(control, candidate),
        )
    )
    assert 0 < len(said.text) <= MOST
    assert 0 < len(said.action) <= MOST
    assert "\n" not in said.text


@pytest.mark.parametrize(
    ("counts", "shown", "left"),
    [("pair", "60 pairs", "40 requests"), ("answer", "60 answers", "40 requests"), ("run", "60 runs", "9 runs")],
)
def test_units_of_a_split_have_their_own_word(counts: str, shown: str, left: str) -> None:
    """A split by run counts runs, and none of them is a pair or a request."""
    condition = OpenCondition("primary", SAME.metric, Estimate(0.0, -0.2, 0.2), 0.1, 60, 9, 40, None, False)
    progress = Progress("", "", (condition,), SAME.metric, 9, 40, None, ())
    said = verdict_sentence(outcome(verdict="hold", primary=replace(SAME, counts=counts), pairs=60, progress=progress))
    assert said.settings.endswith(shown)
    assert left in said.action


def test_a_comparison_of_files_waits_for_no_pairs() -> None:
    said = verdict_sentence(outcome(verdict="hold", primary=replace(SAME, margin_found="unclear"), progress=None))
    assert said.action == "It is undecided: compare more rows, or widen the margin."
