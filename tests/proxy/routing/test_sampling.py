"""The calls that are recorded, and their probabilities."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.config import RuleCondition, Sampling, SamplingRule
from gateway.core.randomization import draw
from gateway.proxy.request.call import Call, Caller, RunId
from gateway.proxy.routing.sampling import DEFAULT, FORCED, CallEnding, Sampler

OK = CallEnding("ok", "stop", 1.0, 0.1)


def a_call(**changes: Any) -> Call:
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    return replace(call, **changes)


def sampler(*rules: tuple[dict[str, Any], float], rate: float = 0.1, **policy: Any) -> Sampler:
    made = tuple(SamplingRule(when=RuleCondition(**when), rate=r, name=f"r{i}") for i, (when, r) in enumerate(rules))
    return Sampler(Sampling(rate=rate, rules=made, **policy))


U = {
    "0197a1b2-0000-7000-8000-000000000000": 0.823864809602518,
    "0197a1b2-0000-7000-8000-000000000001": 0.08849143991034292,
}


def test_the_same_unit_gets_the_same_u_in_every_process() -> None:
    """Fixed numbers, and a process with another hash seed."""
    program = (
        "import sys; from gateway.core.randomization import draw as d; print([d('sample', u) for u in sys.argv[1:]])"
    )
    command = [sys.executable, "-c", program, *U]
    output = subprocess.run(command, capture_output=True, check=True, env={"PYTHONHASHSEED": "77"}, text=True)
    assert [draw("sample", unit) for unit in U] == list(U.values())
    assert output.stdout.strip() == str(list(U.values()))
    for unit, u in U.items():
        assert sampler().head(a_call(id=unit)).u == u


def test_u_is_uniform_and_independent_of_other_draws() -> None:
    """Another domain's draw is as uniform among the sampled as among all: mean ½ within 3 SE."""
    pairs = [(draw("sample", f"{i}"), draw("shadow:p", f"{i}")) for i in range(4000)]
    sampled = [other for u, other in pairs if u < 0.1]
    assert abs(len(sampled) / 4000 - 0.1) < 3 * (0.09 / 4000) ** 0.5
    assert abs(sum(sampled) / len(sampled) - 0.5) < 3 * (1 / 12 / len(sampled)) ** 0.5


WHENS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # condition, a call that meets it, one that does not
    ({"alias": "chat"}, {"alias": "chat"}, {"alias": "other"}),
    ({"key": "web"}, {"caller": Caller("web")}, {"caller": Caller("app")}),
    ({"api": "messages"}, {"api": "messages"}, {"api": "chat"}),
    ({"stream": True}, {"stream": True}, {"stream": False}),
    ({"stream": False}, {"stream": False}, {"stream": True}),
]


@pytest.mark.parametrize(("when", "meets", "misses"), WHENS, ids=[str(w[0]) for w in WHENS])
def test_a_head_rule_holds_for_exactly_the_calls_it_names(when: Any, meets: Any, misses: Any) -> None:
    policy = sampler((when, 0.6))
    hit, miss = policy.head(a_call(**meets)), policy.head(a_call(**misses))
    assert (hit.rate, hit.stratum, hit.max_rate) == (0.6, "r0", 0.6)
    assert (miss.rate, miss.stratum, miss.max_rate) == (0.1, DEFAULT, 0.1)


ENDINGS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"outcome": "ok"}, {}, {"outcome": "cut"}),
    ({"outcome": "client_gone"}, {"outcome": "client_gone"}, {}),
    ({"outcome": "error"}, {"outcome": "timeout"}, {"outcome": "client_gone"}),
    ({"outcome": "error"}, {"outcome": "upstream_error"}, {}),
    ({"outcome": "error"}, {"outcome": "cut"}, {}),
    ({"finish_reason": "length"}, {"finish_reason": "length"}, {"finish_reason": None}),
    ({"min_total_s": 5.0}, {"total_s": 5.0}, {"total_s": 4.9}),
    ({"min_first_token_s": 2.0}, {"first_token_s": 2.0}, {"first_token_s": None}),
]


@pytest.mark.parametrize(("when", "meets", "misses"), ENDINGS, ids=[f"{e[0]} {e[1]}" for e in ENDINGS])
def test_a_tail_rule_holds_for_exactly_the_endings_it_names(when: Any, meets: Any, misses: Any) -> None:
    policy = sampler((when, 0.6))
    drawn = policy.head(a_call())
    assert (drawn.rate, drawn.stratum) == (0.1, DEFAULT), "a tail rule says nothing before the end"
    assert policy.tail(drawn, a_call(), replace(OK, **meets)) == (0.6, "r0")
    assert policy.tail(drawn, a_call(), replace(OK, **misses)) == (0.1, DEFAULT)


def test_all_conditions_of_a_rule_must_hold() -> None:
    policy = sampler(({"outcome": "error", "alias": "chat", "min_total_s": 5}, 1.0))
    slow_cut = CallEnding("cut", None, 6.0, None)
    for call, ending, stratum in (
        (a_call(), slow_cut, "r0"),
        (a_call(alias="other"), slow_cut, DEFAULT),
        (a_call(), replace(slow_cut, total_s=1.0), DEFAULT),
        (a_call(), replace(slow_cut, outcome="ok"), DEFAULT),
    ):
        assert policy.tail(policy.head(call), call, ending)[1] == stratum
    assert policy.head(a_call(alias="other")).max_rate == 0.1, "a tail rule for another alias keeps nothing"


rates = st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0])
HEADS: list[dict[str, Any]] = [{}, {"alias": "chat"}, {"alias": "other"}, {"stream": True}]
TAILS: list[dict[str, Any]] = [
    {"outcome": "ok"},
    {"outcome": "error"},
    {"finish_reason": "length"},
    {"min_total_s": 2.0},
    {"stream": False, "min_total_s": 0.5},
]
conditions = st.sampled_from([*HEADS, *TAILS])
endings = st.builds(
    CallEnding,
    st.sampled_from(["ok", "cut", "timeout", "client_gone"]),
    st.sampled_from([None, "stop", "length"]),
    st.sampled_from([0.1, 1.0, 5.0]),
    st.none(),
)


def matches(when: dict[str, Any], call: Call, ending: CallEnding) -> bool:
    return (
        when.get("alias") in (None, call.alias)
        and when.get("stream") in (None, call.stream)
        and when.get("outcome") in (None, ending.outcome, "error" if ending.outcome in ("cut", "timeout") else None)
        and when.get("finish_reason") in (None, ending.finish_reason)
        and ending.total_s >= when.get("min_total_s", 0.0)
    )


@given(
    rules=st.lists(st.tuples(conditions, rates), max_size=5),
    rate=rates,
    stream=st.booleans(),
    ending=endings,
    unit=st.uuids().map(str),
)
def test_pi_is_the_largest_matching_rate(rules: Any, rate: float, stream: bool, ending: CallEnding, unit: str) -> None:
    policy, call = sampler(*rules, rate=rate), a_call(id=unit, stream=stream)
    drawn = policy.head(call)
    pi, stratum = policy.tail(drawn, call, ending)
    by_stratum = {DEFAULT: rate} | {f"r{i}": r for i, (_, r) in enumerate(rules)}
    assert pi == max([rate, *(r for when, r in rules if matches(when, call, ending))])
    assert pi == by_stratum[stratum]
    assert stratum in policy.strata
    assert drawn.rate <= pi <= drawn.max_rate, "u ≥ max_rate: the answer need not be held, however the call ends"
    assert drawn.recordable == (drawn.u < drawn.max_rate)


def test_an_answer_that_no_rule_can_still_sample_is_not_held() -> None:
    policy = sampler(({"outcome": "error"}, 0.5))
    drawn = [policy.head(a_call(id=str(i))) for i in range(200)]
    assert {d.recordable for d in drawn if d.u >= 0.5} == {False}
    assert {d.recordable for d in drawn if d.u < 0.5} == {True}


def test_a_finish_reason_rule_holds_every_answer() -> None:
    """N of a stratum counts the unsampled too: an answer that was not held would be counted in another one."""
    policy = sampler(({"finish_reason": "length"}, 0.5))
    assert policy.reads_finish
    assert all(policy.head(a_call(id=str(i))).recordable for i in range(50))
    assert policy.head(a_call(caller=Caller("web", sampled=False))).recordable is False
    elsewhere = sampler(({"finish_reason": "length", "alias": "other"}, 0.5))
    assert {elsewhere.head(a_call(id=str(i))).max_rate for i in range(5)} == {0.1}


def test_a_forced_call_has_a_stratum_of_its_own_and_pi_1() -> None:
    drawn = sampler(({"outcome": "error"}, 0.5), rate=0.001).head(a_call(), "always")
    assert (drawn.rate, drawn.stratum, drawn.recordable) == (1.0, FORCED, True)
    assert drawn.u < drawn.rate
    assert sampler(({"outcome": "ok"}, 1.0)).tail(drawn, a_call(), OK) == (1.0, FORCED)


@pytest.mark.parametrize(
    ("caller", "requested", "reason"),
    [
        (Caller("web", sampled=False), None, "opted_out"),
        (Caller("web", sampled=False), "always", "opted_out"),
        (Caller("web"), "never", "forbidden"),
    ],
)
def test_opting_out_leaves_the_population_despite_rules(caller: Caller, requested: Any, reason: str) -> None:
    policy = sampler(({"outcome": "error"}, 1.0), rate=1.0)
    drawn = policy.head(a_call(caller=caller), requested)
    assert (drawn.reason, drawn.recordable, drawn.rate) == (reason, False, 0.0)
    assert policy.tail(drawn, a_call(caller=caller), CallEnding("cut", None, 1.0, None))[0] == 0.0


def test_the_unit_is_the_conversation_if_both_name_it() -> None:
    by_conversation = sampler(unit="conversation")
    calls = [a_call(id=str(i), conversation="talk-1") for i in range(5)]
    assert {by_conversation.head(c).u for c in calls} == {draw("sample", "talk-1")}
    assert by_conversation.head(a_call(id="x")).unit == "x", "none was given"
    assert len({sampler().head(c).u for c in calls}) == 5


def test_a_run_is_recorded_whole_or_not_at_all() -> None:
    by_run = sampler(unit="run", rate=0.5)
    runs = [RunId("r", "x-gateway-run", f"run_{n}") for n in range(50)]
    drawn = [{by_run.head(a_call(id=f"{n} {i}", run=run)).recordable for i in range(5)} for n, run in enumerate(runs)]
    assert all(len(each) == 1 for each in drawn)
    assert {True} in drawn
    assert {False} in drawn
    assert by_run.head(a_call(run=runs[0], conversation="c")).unit == "run_0"
    assert by_run.head(a_call(id="alone")).unit == "alone"


def test_rules_decide_which_calls_of_a_run_are_scored() -> None:
    rules = [({"outcome": "error"}, 0.8), ({"alias": "chat"}, 0.3), ({"key": "other"}, 1.0)]
    by_run = sampler(*rules, unit="run", rate=0.1)
    run, failed = RunId("r", "x-gateway-run", "run_1"), replace(OK, outcome="timeout")
    drawn = by_run.head(a_call(run=run, alias="fast"))
    assert (drawn.run_rate, drawn.max_rate, drawn.rate, drawn.stratum) == (0.8, 0.8, 0.1, DEFAULT)
    assert by_run.tail(drawn, a_call(alias="fast"), OK) == (0.1, DEFAULT)
    assert by_run.tail(drawn, a_call(alias="fast"), failed) == (0.8, "r0")
    assert by_run.head(a_call(run=run)).rate == 0.3
    assert by_run.head(a_call(run=run, caller=Caller("other"))).run_rate == 1.0
    assert by_run.head(a_call(run=run), "always").run_rate is None
    assert by_run.head(a_call(run=run), "never").reason == "forbidden"
    assert by_run.head(a_call(run=run, caller=Caller("web", sampled=False))).reason == "opted_out"
