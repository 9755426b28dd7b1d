"""Arithmetic of ceilings: the smallest amount of all owners, and what a call asks for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.run_ceilings import NO_CEILING, RunAmount, RunBudget, RunCeiling, ceiling_of, run_scope

amounts = st.none() | st.floats(0.01, 1e6)
ends = st.sampled_from(("stop", "tier", "ask"))
ceilings = st.builds(
    RunCeiling,
    usd=st.none() | st.builds(RunAmount, st.floats(0.01, 1e6), ends, st.floats(0, 1e6)),
    calls=st.none() | st.builds(RunAmount, st.integers(1, 1000).map(float), ends, st.just(0.0)),
    minutes=amounts,
    loops=st.none() | st.integers(2, 50),
)


@given(ceilings, ceilings)
def test_the_smaller_of_both_counts_whatever_the_order(one: RunCeiling, other: RunCeiling) -> None:
    both = one.with_smaller(other)
    assert both == other.with_smaller(one)
    assert both.with_smaller(one) == both
    assert one.with_smaller(NO_CEILING) == one


@given(ceilings, amounts)
def test_a_call_never_asks_for_more(ceiling: RunCeiling, usd: float | None) -> None:
    asked = ceiling.asked(RunBudget(usd=usd))
    if ceiling.usd is not None:
        assert asked.usd is not None
        assert asked.usd.amount <= ceiling.usd.amount
    assert (asked.calls, asked.loops) == (ceiling.calls, ceiling.loops)


def test_the_tier_is_of_dollars_alone() -> None:
    ceiling = ceiling_of({"usd": 0.5, "calls": 9, "on_end": "tier"})
    assert (ceiling.usd, ceiling.calls) == (RunAmount(0.5, "tier", 0.5), RunAmount(9.0))
    tier = ceiling.tier()
    assert tier is not None
    assert (tier.usd, tier.calls) == (RunAmount(0.5), None)
    assert ceiling.asked(RunBudget(usd=0.1)).tier() is None, "a ceiling of the call's own ends the run"


def test_minutes_alone_are_counted_from_a_first_call() -> None:
    (limit,) = ceiling_of({"minutes": 5}).limits()
    assert (limit.measure, limit.window, limit.name) == ("requests", "run", "requests_per_run")
    assert ceiling_of({"loops": 3}).limits() == ()
    assert not ceiling_of({})
    assert ceiling_of({"require": True}).require


def test_a_scope_of_a_part_is_another_one() -> None:
    ceiling = ceiling_of({"calls": 1})
    assert run_scope("run_1", ceiling).id == "run_1"
    assert run_scope("run_1", ceiling, "model/chat").id == "run_1/model/chat"
