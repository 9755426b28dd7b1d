"""The experiments that run, the part of a call in them, and that every process decides the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from fixtures.secret_of_draws import SECRET

from gateway.config.config import Config
from gateway.config.derive import plan_of, plans_of
from gateway.config.experiments import Experiment
from gateway.core.exchange import Target
from gateway.core.plan import HarmStop, Plan, PlanState
from gateway.core.randomization import draw
from gateway.proxy.request.call import Call, Caller, RunId
from gateway.proxy.routing.assignment import (
    Assignment,
    ExperimentAssignments,
    RunningExperiment,
    arm_of,
    arms_asked,
    assign,
    cluster_name,
    ramp_arm,
    repeated,
    running,
    shadowed,
    unit_of,
)

BASE: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "a", "model": "m"},
    "candidate": {"upstream": "b", "model": "m"},
    "shadow": 0.2,
}
SPLIT: dict[str, Any] = {**{k: v for k, v in BASE.items() if k != "shadow"}, "mode": "split", "split": 0.3}

BOTH: dict[str, Any] = {**SPLIT, "mode": "both", "split": 0.0, "shadow": 0.2}


def a_config(**experiments: dict[str, Any]) -> Config:
    target = {"upstream": "a", "model": "m"}
    return Config.model_validate(
        {
            "open": True,
            "upstreams": {n: {"kind": "fake"} for n in "abc"},
            "models": {"chat": {"targets": [target]}, "other": {"targets": [target]}},
            "experiments": experiments,
        }
    )


def a_running(section: dict[str, Any] = BASE, **changes: Any) -> RunningExperiment:
    settings = Experiment.model_validate({**section, **changes})
    return running(plan_of("swap", settings, 600.0), settings, secret=SECRET)


def a_call(**changes: Any) -> Call:
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    return replace(call, **changes)


def assignment(section: dict[str, Any] = BASE, free: bool = True, **call: Any) -> Assignment | None:
    return assign(a_running(section), a_call(**call), free)


def test_the_same_unit_gets_the_same_arm_in_every_process() -> None:
    program = (
        "from gateway.config.derive import plan_of\n"
        "from gateway.config.experiments import Experiment\n"
        "from gateway.proxy.routing.assignment import arm_of, repeated, running, shadowed\n"
        f"s = Experiment.model_validate({SPLIT | {'mode': 'both'}!r})\n"
        "r = running(plan_of('swap', s, 600.0), s, secret=bytes(range(32)))\n"
        "print(r.hash, [(arm_of(r, str(i)), shadowed(r, str(i)), repeated(r, str(i))) for i in range(60)])"
    )
    output = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    r = a_running(SPLIT, mode="both")
    mine = [(arm_of(r, str(i)), shadowed(r, str(i)), repeated(r, str(i))) for i in range(60)]
    assert output == [f"{r.hash} {mine}"] * 2
    assert {arm for arm, _, _ in mine} == {"control", "candidate"}


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_the_share_of_shadows_is_the_plans_rate(rate: float) -> None:
    r = a_running(shadow=rate)
    drawn = sum(shadowed(r, str(i)) for i in range(3000))
    assert abs(drawn / 3000 - rate) <= 3 * (rate * (1 - rate) / 3000) ** 0.5


def test_draws_are_independent_of_each_other_and_of_sampling() -> None:
    one, two = a_running(), a_running(shadow=0.21)
    ids = [str(i) for i in range(4000)]
    sampled = [i for i in ids if draw("sample", i) < 0.2]
    again = [i for i in ids if shadowed(one, i)]
    for share, of, p in (
        (sum(shadowed(two, i) for i in again), again, 0.21),
        (sum(shadowed(one, i) for i in sampled), sampled, 0.2),
        (sum(repeated(one, i) for i in again), again, 0.25),
        (sum(arm_of(replace(one, plan=replace(one.plan, split=0.5)), i) == "control" for i in again), again, 0.5),
    ):
        assert abs(share / len(of) - p) < 3 * (p * (1 - p) / len(of)) ** 0.5


def test_candidates_share_the_split_in_equal_parts() -> None:
    arms = {n: {"upstream": "b", "model": n} for n in ("one", "two", "three")}
    section = {k: v for k, v in SPLIT.items() if k != "candidate"} | {"candidates": arms, "split": 0.6}
    r = a_running(section)
    found = [arm_of(r, str(i)) for i in range(6000)]
    for arm, p in (("control", 0.4), ("one", 0.2), ("two", 0.2), ("three", 0.2)):
        assert abs(found.count(arm) / 6000 - p) < 4 * (p * (1 - p) / 6000) ** 0.5
    assert assign(r, a_call(id=str(found.index("two"))), True).target == Target("b", "two")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("unit", "same", "other"),
    [
        ("key", {"caller": Caller("web")}, {"caller": Caller("app")}),
        ("conversation", {"conversation": "c1"}, {"conversation": "c2"}),
        ("run", {"run": RunId("r", "x-gateway-run", "run_1")}, {"run": RunId("r", "x-gateway-run", "run_2")}),
        ("user", {"user": "u1"}, {"user": "u2"}),
        ("user", {"fields": {"user": "u1"}}, {"fields": {"user": "u2"}}),
    ],
)
def test_a_unit_keeps_its_arm_and_others_do_not_share_it(
    unit: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    section = {**SPLIT, "unit": unit, "split": 0.5}
    parts = [assignment(section, id=f"{i}", **same) for i in range(30)]
    assert len({p.arm for p in parts if p}) == 1
    assert len({p.unit for p in parts if p}) == 1
    apart = assignment(section, **other)
    assert apart is not None
    assert parts[0] is not None
    assert apart.unit != parts[0].unit


@pytest.mark.parametrize("unit", ["conversation", "run", "user"])
def test_a_call_without_the_unit_is_one_of_its_own(unit: str) -> None:
    parts = [assignment({**SPLIT, "unit": unit, "split": 0.5}, id=f"{i}", fields={"user": 7}) for i in range(40)]
    assert {p.unit for p in parts if p} == {str(i) for i in range(40)}
    assert {p.arm for p in parts if p} == {"control", "candidate"}


def test_the_header_names_a_user_before_the_body_does() -> None:
    found = assignment({**SPLIT, "unit": "user"}, user="by-header", fields={"user": "by-body"})
    assert found is not None
    assert found.unit == "by-header"


def test_a_pinned_call_is_in_no_split_but_may_be_shadowed() -> None:
    assert assignment(SPLIT, free=False) is None
    found = assignment(BASE, free=False)
    assert found is not None
    assert (found.arm, found.unit) == ("control", None)


def test_only_the_controls_calls_are_shadowed_where_both_run() -> None:
    r = a_running(SPLIT, mode="both", split=0.5, shadow=1.0)
    parts = [assign(r, a_call(id=str(i)), True) for i in range(100)]
    assert {(p.arm, p.shadowed) for p in parts if p} == {("control", True), ("candidate", False)}


def test_a_shadow_goes_to_all_candidates_and_some_controls() -> None:
    asked = [arms_asked(a_running(repeat_control=0.5), str(i)) for i in range(400)]
    assert set(asked) == {("candidate",), ("candidate", "repeat")}
    assert abs(asked.count(("candidate",)) / 400 - 0.5) < 3 * (0.25 / 400) ** 0.5
    assert arms_asked(a_running(repeat_control=0.0), "x") == ("candidate",)


@pytest.mark.parametrize(
    ("section", "own", "whole", "expected"),
    [
        (BASE, 0.5, True, (0.5, 0.6, "r+swap")),
        (BASE, 0.5, False, (0.5, 0.5, "r")),
        (SPLIT, 0.5, True, (1.0, 1.0, "split:swap")),
        ({**SPLIT, "record": 0.4}, 0.5, True, (0.5, 0.5, "r")),
        ({**SPLIT, "record": 0.4}, 0.1, True, (0.4, 0.4, "split:swap")),
        ({**BOTH}, 0.5, True, (1.0, 1.0, "split:swap")),
        ({**BOTH, "record": 0.5}, 0.1, True, (0.5, 0.6, "split:swap+swap")),
        ({**BOTH, "record": 0.5}, 0.1, False, (0.5, 0.5, "split:swap")),
        ({**BOTH, "split": 1.0, "record": 0.5}, 0.1, True, (0.5, 0.5, "split:swap")),
    ],
)  # fmt: skip
def test_the_larger_rate_counts_and_the_shadows_draw_joins_it(
    section: dict[str, Any], own: float, whole: bool, expected: tuple[float, float, str]
) -> None:
    found = assignment(section)
    assert found is not None
    assert found.inclusion(own, "r", whole) == (pytest.approx(expected[0]), pytest.approx(expected[1]), expected[2])


def in_force(config: Config, now: float = 100.0, **changed: PlanState | None) -> dict[str, RunningExperiment]:
    experiments = ExperimentAssignments(config)
    states = {n: PlanState(p, "running", 0.0) for n, p in experiments.plans.items()}
    experiments.follow({n: s for n, s in (states | changed).items() if s is not None}, now, secret=SECRET)
    return experiments.in_force


def state(plan: Plan, output: Any = "running", **changes: Any) -> PlanState:
    return PlanState(replace(plan, **changes), output, 0.0)


def test_nothing_runs_before_the_stream_server_has_been_read() -> None:
    experiments = ExperimentAssignments(a_config(swap=BASE))
    assert experiments.of(a_call(), True) is None
    experiments.follow({}, 0.0, secret=SECRET)
    assert experiments.of(a_call(), True) is None


def test_stopped_unknown_and_disabled_plans_do_not_run() -> None:
    plan = ExperimentAssignments(a_config(swap=BASE)).plans["swap"]
    assert set(in_force(a_config(swap=BASE))) == {"swap"}
    assert not in_force(a_config(swap=BASE), swap=None)
    assert not in_force(a_config(swap=BASE), swap=state(plan, "stopped"))
    assert not in_force(a_config(swap={**BASE, "enabled": False}))
    assert not in_force(a_config(), swap=state(plan))


def test_a_plan_runs_from_its_start_to_its_stop() -> None:
    plan = ExperimentAssignments(a_config(swap=BASE)).plans["swap"]
    for now, runs in ((9.9, False), (10.0, True), (19.9, True), (20.0, False)):
        assert bool(in_force(a_config(swap=BASE), now, swap=state(plan, start=10.0, stop=20.0))) is runs


@pytest.mark.parametrize(
    "change",
    [{"model": "gone"}, {"control": Target("b", "m")}, {"candidates": (("candidate", Target("gone", "m")),)}],
    ids=str,
)
def test_a_plan_needs_everything_it_names_in_the_config(change: dict[str, Any]) -> None:
    plan = ExperimentAssignments(a_config(swap=BASE)).plans["swap"]
    assert not in_force(a_config(swap=BASE), swap=state(plan, **change))


def test_the_frozen_plan_runs_not_the_changed_file() -> None:
    frozen = ExperimentAssignments(a_config(swap=BASE)).plans["swap"]
    found = in_force(a_config(swap={**BASE, "shadow": 0.9, "budget": {"concurrency": 9}}), swap=state(frozen))["swap"]
    assert (found.plan, found.hash) == (frozen, frozen.hash)
    assert found.settings.budget.concurrency == 9, "what only paces is the file's"


def test_a_plan_that_continues_is_the_same_running_one() -> None:
    experiments = ExperimentAssignments(a_config(swap=BASE))
    states = {"swap": PlanState(experiments.plans["swap"], "running", 0.0)}
    experiments.follow(states, 0.0, secret=SECRET)
    first = experiments.in_force["swap"]
    experiments.follow({"swap": replace(states["swap"])}, 1.0, secret=SECRET)
    assert experiments.in_force["swap"] is first
    experiments.follow({"swap": state(first.plan, shadow=0.3)}, 2.0, secret=SECRET)
    assert experiments.in_force["swap"] is not first


STOP = HarmStop(1.0, 60, -0.3, 2.0)


def test_a_stop_for_harm_leaves_a_twentieth_of_the_shadows() -> None:
    """The shadows that are left are among those before, with their own π; a resumed plan has all of them again."""
    config = a_config(swap={**BASE, "shadow": 0.4})
    before = in_force(config)["swap"]
    plan = before.plan
    stopped = in_force(config, swap=PlanState(plan, "running", 0.0, harm=STOP))["swap"]
    drawn = {i for i in range(20_000) if shadowed(stopped, str(i))}
    assert drawn <= {i for i in range(20_000) if shadowed(before, str(i))}
    assert abs(len(drawn) / 20_000 - 0.02) < 6 * (0.02 * 0.98 / 20_000) ** 0.5  # false alarm: 2e-9
    found = assign(stopped, a_call(), True)
    assert found is not None
    assert found.shadow == pytest.approx(0.02)
    assert found.inclusion(0.0, "r", True)[1] == pytest.approx(0.02)
    cleared = in_force(config, swap=PlanState(plan, "running", 0.0, harm=replace(STOP, cleared=5.0)))["swap"]
    assert cleared.thinned is None


@pytest.mark.parametrize("section", ["split", "ramp"])
def test_a_candidate_that_does_harm_serves_nobody(section: str) -> None:
    config = a_config(swap=SPLIT if section == "split" else RAMP)
    experiments, plan = ExperimentAssignments(config), plans_of(config)["swap"]
    state, shares = PlanState(plan, "running", 1.0), {plan.hash: 0.5}
    units = [a_call(conversation=str(i), id=str(i)) for i in range(200)]

    def arms() -> set[str]:
        return {found.arm for call in units if (found := experiments.of(call, True)) is not None}

    experiments.follow({"swap": state}, 2.0, shares, SECRET)
    assert arms() == {"control", "candidate"}
    experiments.follow({"swap": replace(state, harm=STOP)}, 3.0, shares, SECRET)
    assert arms() == {"control"}
    experiments.follow({"swap": replace(state, harm=replace(STOP, cleared=4.0))}, 5.0, shares, SECRET)
    assert arms() == {"control", "candidate"}


def test_every_unit_of_a_stopped_split_gets_the_control() -> None:
    """Also where the alias would send some calls elsewhere; a call that names its target keeps it."""
    for changes in ({}, {"segments": {"by": ["stream"], "values": {"stream": ["yes", "no"]}, "margin": 0.2}}):
        experiment = in_force(a_config(swap={**SPLIT, **changes}))["swap"]
        free, named = (assign(experiment.stopped(True), a_call(), free) for free in (True, False))
        assert free is not None
        assert named is not None
        assert (free.arm, free.unit, free.stays, free.shadowed) == ("control", None, True, False)
        assert not named.stays
        assert not experiment.stopped(True).stopped(False).withdrawn


def test_a_call_is_in_its_alias_experiment_if_its_key_may() -> None:
    config = a_config(swap={**BASE, "allow": {"keys": ["web"]}})
    experiments = ExperimentAssignments(config)
    experiments.follow({"swap": PlanState(experiments.plans["swap"], "running", 0.0)}, 0.0, secret=SECRET)
    assert experiments.of(a_call(), True) is not None
    for outside in (
        a_call(alias="other"),
        a_call(caller=Caller("app")),
        a_call(caller=Caller("web", sampled=False)),
        a_call(api="embeddings"),
        a_call(api="responses"),
        a_call(api="messages"),
    ):
        assert experiments.of(outside, True) is None
    assert experiments.of(a_call(api="completions"), True) is not None


def test_two_experiments_of_an_alias_split_by_key() -> None:
    config = a_config(
        one={**BASE, "allow": {"keys": ["web"]}},
        two={**BASE, "shadow": 0.5, "allow": {"keys": ["app"], "apis": ["chat"]}},
    )
    experiments = ExperimentAssignments(config)
    experiments.follow({n: PlanState(p, "running", 0.0) for n, p in experiments.plans.items()}, 0.0, secret=SECRET)

    def names(**call: Any) -> str | None:
        found = experiments.of(a_call(**call), True)
        return None if found is None else found.running.plan.name

    assert (names(), names(caller=Caller("app")), names(caller=Caller("third"))) == ("one", "two", None)
    assert names(caller=Caller("app"), api="completions") is None


def test_a_key_no_longer_allowed_is_in_no_split() -> None:
    narrowed = {"allow": {"keys": ["app"]}}
    for section, in_it in ((SPLIT, False), (BASE, True)):
        frozen = ExperimentAssignments(a_config(swap=section)).plans["swap"]
        experiments = ExperimentAssignments(a_config(swap={**section, **narrowed}))
        experiments.follow({"swap": PlanState(frozen, "running", 0.0)}, 0.0, secret=SECRET)
        found = experiments.of(a_call(), True)
        assert (found is not None) is in_it
        assert found is None or not found.running.allows(a_call())


RAMP: dict[str, Any] = {
    **{k: v for k, v in BASE.items() if k != "shadow"}, "primary": "error_rate", "shadow": 0.2, "ramp": {},
}  # fmt: skip


def served_by_candidate(share: float, units: int = 4000) -> set[str]:
    r = a_running(RAMP).at(share)
    found = (assign(r, a_call(conversation=str(i)), True) for i in range(units))
    return {str(i) for i, each in enumerate(found) if each is not None and each.arm == "candidate"}


def test_a_larger_share_only_adds_units() -> None:
    shares = (0.0, 0.01, 0.05, 0.25, 0.5, 1.0)
    served = [served_by_candidate(share) for share in shares]
    for smaller, larger in pairwise(served):
        assert smaller < larger
    for share, units in zip(shares, served, strict=True):
        assert abs(len(units) / 4000 - share) < 6 * (share * (1 - share) / 4000) ** 0.5 + 1e-9  # false alarm: 2e-9


def test_a_ramp_draws_the_same_arm_in_every_process() -> None:
    program = (
        "from gateway.config.derive import plan_of\n"
        "from gateway.config.experiments import Experiment\n"
        "from gateway.proxy.routing.assignment import ramp_arm, running\n"
        f"s = Experiment.model_validate({RAMP!r})\n"
        "r = running(plan_of('swap', s, 600.0), s, secret=bytes(range(32))).at(0.25)\n"
        "print(sorted(str(i) for i in range(400) if ramp_arm(r, str(i)) == 'candidate'))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": "7"}, text=True
    ).stdout.strip()
    assert output == str(sorted(served_by_candidate(0.25, 400)))


def test_a_ramp_in_its_shadow_phase_only_has_shadows() -> None:
    found = assign(a_running(RAMP).at(0.0), a_call(conversation="c"), True)
    assert found is not None
    assert (found.arm, found.unit) == ("control", None)
    forced = assign(a_running(RAMP).at(0.0), a_call(conversation="c"), False)
    assert forced is not None, "as in mode shadow"


def test_a_candidate_whose_breaker_opens_serves_nobody_at_once() -> None:
    config = a_config(swap=RAMP)
    experiments, plan = ExperimentAssignments(config), plans_of(config)["swap"]
    experiments.follow({"swap": PlanState(plan, "running", 1.0)}, 2.0, {plan.hash: 1.0}, SECRET)
    found = experiments.of(a_call(conversation="c"), True)
    assert found is not None
    assert found.arm == "candidate"
    experiments.withdraw(Target("c", "m"))
    assert experiments.in_force["swap"].share == 1.0, "another target"
    experiments.withdraw(Target("b", "m"))
    found = experiments.of(a_call(conversation="c"), True)
    assert found is not None
    assert (found.arm, found.unit) == ("control", None)


def test_units_of_the_control_continue_being_shadowed() -> None:
    r = a_running(RAMP, shadow=1.0).at(0.5)
    found = [assign(r, a_call(id=str(i), conversation=str(i)), True) for i in range(200)]
    assert {(each.arm, each.shadowed) for each in found if each} == {("control", True), ("candidate", False)}


def test_a_ramps_unit_is_the_conversation_or_else_the_key() -> None:
    r = a_running(RAMP).at(0.5)
    assert [unit_of(r.plan, a_call(id=str(i))) for i in range(3)] == ["web"] * 3
    assert unit_of(r.plan, a_call(conversation="c")) == "c"
    by_run = a_running(RAMP, unit="run").at(0.5)
    assert unit_of(by_run.plan, a_call(run=RunId("r", "x-gateway-run", "run_1"))) == "run_1"
    assert unit_of(by_run.plan, a_call()) == "web"
    named = a_running(RAMP, unit="request")
    assert unit_of(named.plan, a_call(id="7")) == "7"


def test_an_unchanged_share_keeps_what_was_computed() -> None:
    config = a_config(swap=RAMP)
    experiments = ExperimentAssignments(config)
    plan = experiments.plans["swap"]
    states = {"swap": PlanState(plan, "running", 0.0)}
    experiments.follow(states, 1.0, secret=SECRET)
    assert experiments.in_force["swap"].share == 0.0
    experiments.follow(states, 2.0, {plan.hash: 0.25}, secret=SECRET)
    stepped = experiments.in_force["swap"]
    assert (stepped.share, stepped.splits) == (0.25, True)
    experiments.follow(states, 3.0, {plan.hash: 0.25}, secret=SECRET)
    assert experiments.in_force["swap"] is stepped


def test_keyed_draws_cannot_be_computed_without_the_secret() -> None:
    settings = Experiment.model_validate(RAMP | {"shadow": 0.5})
    plan = plan_of("swap", settings, 600.0)
    units = [str(i) for i in range(2_000)]
    with pytest.raises(ValueError, match="the secret of the deployment is not known"):
        running(plan, settings)
    here, elsewhere = (running(plan, settings, secret=key).at(0.5) for key in (SECRET, bytes(32)))
    known = [draw(f"ramp:{plan.hash}", unit) < 0.5 for unit in units]  # what everybody can compute
    for of in (ramp_arm, shadowed):
        found = [of(here, unit) in ("candidate", True) for unit in units]
        for guess in (known, [of(elsewhere, unit) in ("candidate", True) for unit in units]):
            same = sum(a == b for a, b in zip(found, guess, strict=True)) / len(units)
            assert abs(same - 0.5) < 5 * 0.5 / len(units) ** 0.5, "a guess is right half of the time"


def test_plans_of_the_first_rules_keep_their_draws() -> None:
    settings = Experiment.model_validate(RAMP | {"shadow": 0.5})
    plan = replace(plan_of("swap", settings, 600.0), rules=1)
    r = running(plan, settings, secret=SECRET).at(0.5)
    for i in range(200):
        assert (ramp_arm(r, str(i)) == "candidate") == (draw(f"ramp:{plan.hash}", str(i)) < 0.5)
        assert shadowed(r, str(i)) == (draw(f"shadow:{plan.hash}", str(i)) < 0.5)


@pytest.mark.parametrize(("headers", "shown"), [("all", True), ("target", False)])
def test_arms_are_in_the_headers_only_if_the_plan_says_so(headers: str, shown: bool) -> None:
    found = assign(a_running(SPLIT, headers=headers), a_call(), True)
    assert found is not None
    assert {name for name, _ in found.headers} == ({b"x-gateway-experiment", b"x-gateway-arm"} if shown else set())


def test_a_plan_of_the_first_rules_still_names_the_arm() -> None:
    settings = Experiment.model_validate(SPLIT)
    plan = plan_of("swap", settings, 600.0)
    assert plan.headers == "target"
    stored = replace(plan, rules=1, headers="all")
    assert running(stored, settings).headers["control"] == [
        (b"x-gateway-experiment", b"swap"), (b"x-gateway-arm", b"control"),
    ]  # fmt: skip


@pytest.mark.parametrize("section", [BASE, RAMP], ids=["shadow", "ramp"])
def test_pairs_of_a_run_depend_on_each_other(section: dict[str, Any]) -> None:
    of = a_running(section, unit="run")
    run, talk = RunId("r", "x-gateway-run", "run_1"), {"conversation": "c"}
    named, alone = a_call(run=run, **talk), a_call()
    for call, cluster in ((named, "run_1"), (alone, None)):
        assigned = assign(of, call, True)
        assert assigned is not None
        assert cluster_name(call, assigned) == cluster


SEGMENTED: dict[str, Any] = {
    **BASE, "primary": "error_rate", "margin": 0.05,
    "segments": {"by": ["metadata.product"], "values": {"metadata.product": ["code"]}},
}  # fmt: skip


def segmented(section: dict[str, Any] = SEGMENTED, factor: float = 3.0, **changes: Any) -> RunningExperiment:
    """Code is shadowed more often by this factor."""
    settings = Experiment.model_validate({**section, **changes})
    plan = plan_of("swap", settings, 600.0)
    assert plan.segments is not None
    more = (("metadata.product", "code", factor),)
    return running(replace(plan, segments=replace(plan.segments, more=more)), settings, secret=SECRET)


def of_product(product: str, i: int, r: RunningExperiment, **changes: Any) -> Assignment:
    fields = {"metadata": {"product": product}}
    found = assign(r, a_call(id=str(i), fields=fields, **changes), True)
    assert found is not None
    return found


def test_a_small_segment_is_shadowed_more_often_with_a_known_rate() -> None:
    r, n = segmented(), 4_000
    code, mail = ([of_product(product, i, r) for i in range(n)] for product in ("code", "mail"))
    assert sum(a.shadowed for a in code) / n == pytest.approx(0.6, abs=0.03)
    assert sum(a.shadowed for a in mail) / n == pytest.approx(0.2, abs=0.03)
    assert {a.segments.values["metadata.product"] for a in mail if a.segments} == {"other"}
    base = [a.shadowed and not (a.segments and a.segments.extra) for a in code]
    assert base == [a.shadowed for a in mail], "pairs of all calls are one draw, whatever a call's segments are"
    assert not any(a.segments.extra for a in mail if a.segments)


def test_the_record_says_the_probability_of_a_segments_shadow() -> None:
    r = segmented()
    code, mail = (of_product(product, 1, r) for product in ("code", "mail"))
    assert code.inclusion(0.5, "default", True) == (0.5, pytest.approx(1 - 0.5 * 0.4), "default+swap@0.6")
    assert mail.inclusion(0.5, "default", True) == (0.5, pytest.approx(1 - 0.5 * 0.8), "default+swap")


def test_a_rate_is_a_probability() -> None:
    found = of_product("code", 1, segmented(factor=20.0))
    assert (found.shadow, found.shadowed) == (1.0, True)


def test_an_excepted_segment_stays_with_the_control() -> None:
    ramped = SEGMENTED | {"ramp": {}, "unit": "request"}
    r = segmented(ramped, shadow=1.0).at(1.0, frozenset({"metadata.product=code"}))
    code, mail = (of_product(product, 1, r) for product in ("code", "mail"))
    assert (code.arm, code.unit, code.stays, code.shadowed) == ("control", None, True, True)
    assert (mail.arm, mail.unit, mail.stays) == ("candidate", "1", False)
    assert r.at(1.0, frozenset()) is not r, "a change of the excepted segments is applied"
    assert r.at(1.0, r.kept) is r


def test_calls_that_stay_count_with_their_users_others() -> None:
    ramped = SEGMENTED | {"ramp": {}, "unit": "user"}
    r = segmented(ramped, shadow=1.0).at(0.1, frozenset({"metadata.product=code"}))
    calls = [a_call(id=product, user="ada", fields={"metadata": {"product": product}}) for product in ("code", "mail")]
    assigned = [assign(r, call, True) for call in calls]
    assert [each is not None and each.stays for each in assigned] == [True, False]
    assert {cluster_name(call, each) for call, each in zip(calls, assigned, strict=True) if each} == {"ada"}
    before = replace(r, plan=replace(r.plan, rules=2))
    code = assign(before, calls[0], True)
    assert code is not None
    assert cluster_name(calls[0], code) is None, "ramps of earlier rules count as they did"


def test_excepted_segments_come_with_the_shares() -> None:
    config = a_config(swap=SEGMENTED | {"ramp": {}})
    experiments = ExperimentAssignments(config)
    plan = experiments.plans["swap"]
    states = {"swap": PlanState(plan, "running", 0.0)}
    kept = {plan.hash: frozenset({"metadata.product=code"})}
    experiments.follow(states, 1.0, {plan.hash: 0.5}, SECRET, kept)
    assert experiments.in_force["swap"].kept == {"metadata.product=code"}
    experiments.follow(states, 2.0, {plan.hash: 0.5}, SECRET)
    assert not experiments.in_force["swap"].kept
