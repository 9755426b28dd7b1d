"""The inclusion of a call in the record, for calls in no experiment and of an experiment."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.secret_of_draws import SECRET
from msgspec.structs import replace

from gateway.config.derive import plan_of
from gateway.config.experiments import Experiment
from gateway.core.exchange import Target
from gateway.proxy.routing.assignment import Assignment, running
from gateway.proxy.routing.inclusion import (
    NOT_DRAWN,
    ArmEnding,
    Inclusion,
    inclusion_in_experiment,
    inclusion_of_call,
)
from gateway.proxy.routing.sampling import SampleDraw


def drawn(u: float, run_rate: float | None = None, reason: str | None = None) -> SampleDraw:
    return SampleDraw("unit", u, 0.1, "default", 1.0, run_rate, reason)


def ending(*, shadowed: bool, split: bool = False, **changes: bool) -> ArmEnding:
    arms = {"control": {"upstream": "u", "model": "m"}, "candidate": {"upstream": "v", "model": "m"}}
    how: dict[str, Any] = {"split": 0.5, "mode": "both"} if split else {}
    settings = Experiment.model_validate({"model": "chat", "shadow": 0.2, **arms, **how})
    swap = running(plan_of("swap", settings, 600.0), settings, secret=SECRET)
    assigned = Assignment(swap, "control", Target("u", "m"), "unit" if split else None, shadowed, 0.5)
    return ArmEnding(assigned, **{"comparable": True, "counts": True, "complete": False, **changes})


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (drawn(0.3), Inclusion(0.4, "r0")),
        (drawn(0.4), Inclusion(0.4, "r0", left_out=NOT_DRAWN)),
        (drawn(0.3, reason="opted_out"), Inclusion(0.4, "r0", left_out="opted_out")),
        (drawn(0.7, run_rate=0.8), Inclusion(0.8, "r0", 0.4)),
        (drawn(0.8, run_rate=0.8), Inclusion(0.8, "r0", 0.4, NOT_DRAWN)),
        (drawn(0.1, run_rate=0.8, reason="forbidden"), Inclusion(0.8, "r0", 0.4, "forbidden")),
    ],
    ids=["drawn", "not drawn", "opted out", "of a run", "of a run, not drawn", "of a run, forbidden"],
)
def test_a_call_is_recorded_where_u_is_below_its_rate(draw: SampleDraw, expected: Inclusion) -> None:
    assert inclusion_of_call(draw, 0.4, "r0") == expected


@pytest.mark.parametrize(
    ("draw", "end", "expected"),
    [
        (drawn(0.3), {"shadowed": False}, Inclusion(0.52, "r0+swap")),
        (drawn(0.9), {"shadowed": False}, Inclusion(0.52, "r0+swap", left_out=NOT_DRAWN)),
        (drawn(0.9), {"shadowed": True}, Inclusion(0.52, "r0+swap", shadowed=True)),
        (drawn(0.9), {"shadowed": True, "complete": True}, Inclusion(0.4, "r0", left_out=NOT_DRAWN)),
        (drawn(0.9), {"shadowed": True, "comparable": False, "counts": False}, Inclusion(0.4, "r0", None, NOT_DRAWN)),
        (drawn(0.3), {"shadowed": True, "comparable": False, "counts": False}, Inclusion(0.4, "r0")),
        (drawn(0.9, reason="forbidden"), {"shadowed": True}, Inclusion(0.4, "r0", left_out="forbidden")),
        (drawn(0.7, run_rate=0.8), {"shadowed": False}, Inclusion(0.84, "r0+swap")),
        (drawn(0.45), {"shadowed": False, "split": True, "comparable": False}, Inclusion(0.5, "split:swap")),
        (drawn(0.55), {"shadowed": True, "split": True}, Inclusion(0.6, "split:swap+swap", shadowed=True)),
    ],
)  # fmt: skip
def test_a_call_of_an_experiment_is_recorded_by_either_draw(
    draw: SampleDraw, end: dict[str, bool], expected: Inclusion
) -> None:
    inclusion = inclusion_in_experiment(draw, 0.4, "r0", ending(**end))
    assert inclusion.pi == pytest.approx(expected.pi)
    assert replace(inclusion, pi=expected.pi) == expected
    assert inclusion.score_rate is None, "each recorded call of an experiment is scored"


def test_a_call_that_counts_for_no_arm_names_none() -> None:
    assert (ending(shadowed=False).arm, ending(shadowed=False, counts=False).arm) == ("control", None)
