"""Which experiment a call is in, and whether its shadow is asked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from gateway.config import Experiment
from gateway.draw import draw
from gateway.exchange import Target
from gateway.proxy.call import Call, Caller
from gateway.proxy.experiments import Plans, plan_of, shadowed

BASE: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "a", "model": "m"},
    "candidate": {"upstream": "b", "model": "m"},
    "shadow": 0.2,
}


def an_experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate({**BASE, **changes})


def a_call(**changes: Any) -> Call:
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    return replace(call, **changes)


def test_a_plan_has_the_same_hash_and_the_same_draws_in_every_process() -> None:
    program = (
        "from gateway.config import Experiment; from gateway.proxy.experiments import plan_of, shadowed\n"
        f"plan = plan_of('swap', Experiment.model_validate({BASE!r}))\n"
        "print(plan.hash, [i for i in range(40) if shadowed(plan, str(i))])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": "9"}, text=True
    )
    plan = plan_of("swap", an_experiment())
    assert said.stdout.strip() == f"{plan.hash} {[i for i in range(40) if shadowed(plan, str(i))]}"


DIFFERENT = [
    {"model": "other"},
    {"control": {"upstream": "a", "model": "m2"}},
    {"candidate": {"upstream": "c", "model": "m"}},
    {"shadow": 0.3},
    {"deadline_s": 5},
    {"allow": {"keys": ["web"]}},
]


@pytest.mark.parametrize("change", DIFFERENT, ids=str)
def test_whatever_decides_the_result_makes_another_plan(change: dict[str, Any]) -> None:
    assert plan_of("swap", an_experiment(**change)).hash != plan_of("swap", an_experiment()).hash


def test_the_budget_paces_a_plan_and_leaves_it_the_same() -> None:
    plan = plan_of("swap", an_experiment(budget={"concurrency": 9, "tokens_per_day": 500}))
    assert plan.hash == plan_of("swap", an_experiment()).hash
    assert plan.concurrency == 9
    assert (plan.control, plan.candidate) == (Target("a", "m"), Target("b", "m"))


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_the_share_of_shadows_is_the_plans_rate(rate: float) -> None:
    plan = plan_of("swap", an_experiment(shadow=rate))
    drawn = sum(shadowed(plan, str(i)) for i in range(3000))
    assert abs(drawn / 3000 - rate) <= 3 * (rate * (1 - rate) / 3000) ** 0.5


def test_two_plans_draw_independently_of_each_other_and_of_sampling() -> None:
    one, two = plan_of("a", an_experiment()), plan_of("b", an_experiment(shadow=0.21))
    ids = [str(i) for i in range(3000)]
    both = sum(shadowed(one, i) and shadowed(two, i) for i in ids)
    assert abs(both / 3000 - 0.042) < 3 * (0.042 * 0.958 / 3000) ** 0.5
    sampled = [i for i in ids if draw("sample", i) < 0.2]
    assert abs(sum(shadowed(one, i) for i in sampled) / len(sampled) - 0.2) < 3 * (0.16 / len(sampled)) ** 0.5


def test_a_call_is_in_the_experiment_of_its_alias_if_its_key_may_be() -> None:
    plans = Plans({"swap": an_experiment(allow={"keys": ["web"]})})
    plan = plans.of(a_call())
    assert plan is not None
    assert plan.name == "swap"
    for outside in (
        a_call(alias="other"),
        a_call(caller=Caller("app")),
        a_call(api="embeddings"),
        a_call(api="responses"),
        a_call(api="messages"),
    ):
        assert plans.of(outside) is None
    assert plans.of(a_call(api="completions")) is plan


def test_at_most_one_experiment_an_alias_the_first_by_name() -> None:
    plans = Plans({"b": an_experiment(), "a": an_experiment(shadow=0.5), "c": an_experiment(model="other")})
    assert [p.name for p in plans.all()] == ["a", "c"]
