"""A plan that counts by conversation or user says so where recent calls name none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.simulated import a_pair, a_plan, seen
from sqlalchemy import update
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState, StoredPlan, plan_from_json, plan_states
from gateway.core.ramp import RampDesign
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.start.cautions import (
    FRESH_S,
    LEAST,
    api_cautions,
    ordinal,
    paced,
    paced_start,
    supply_cautions,
    supply_refusal,
    tried_cautions,
    tried_plans,
    tried_sentence,
    unit_cautions,
)
from gateway.store.plans import save_plans
from gateway.store.query import reading
from gateway.store.tables import exchanges, pairs

NOW = 200_000.0
NAMED = b'{"metadata":{"conversation_id":"c1"},"messages":[]}'


def keep(store: Any, exchange: Any, n: int = 60, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "request": b'{"messages":[]}', "user_digest": None}
    store.write(*(exchange("1", **{**usual, **changes}) for _ in range(n)))


def said(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda connection: list(unit_cautions(connection, plan, NOW)))


@pytest.mark.parametrize(
    ("unit", "words"),
    [("conversation", "metadata.conversation_id"), ("user", "x-gateway-user"), ("run", "x-gateway-run")],
)
def test_a_unit_that_no_call_names_is_a_caution(store, exchange, unit: Any, words: str) -> None:
    keep(store, exchange)
    (caution,) = said(store, a_plan(mode="split", split=0.5, unit=unit))
    assert f"unit {unit}, but none of the last day's 60 recorded calls of chat names one" in caution
    assert words in caution


@pytest.mark.parametrize(
    ("unit", "changes"),
    [
        ("conversation", {"request": NAMED}),
        ("conversation", {"cluster": "c"}),
        ("user", {"user_digest": "d"}),
        ("run", {"run": "r"}),
        ("conversation", {"received": NOW - 90_000.0}),
        ("conversation", {"alias": "other"}),
        ("conversation", {"request": b"{}"}),
        ("key", {}),
        ("request", {}),
    ],
)
def test_nothing_is_said_of_a_unit_that_is_named_or_unknown(
    store, exchange, unit: Any, changes: dict[str, Any]
) -> None:
    keep(store, exchange, **changes)
    assert said(store, a_plan(mode="split", split=0.5, unit=unit)) == []


def test_few_calls_and_those_of_other_keys_say_nothing(store, exchange) -> None:
    keep(store, exchange, n=20)
    plan = a_plan(mode="split", split=0.5, unit="user")
    assert said(store, plan) == []
    keep(store, exchange)
    assert said(store, replace(plan, keys=("nobody",))) == []


RAMP = RampDesign((0.05, 0.5, 1.0), 3600.0, 1)


def of_apis(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda connection: list(api_cautions(connection, plan, NOW)))


def test_calls_of_an_api_that_a_plan_leaves_out_are_named(store, exchange) -> None:
    keep(store, exchange)
    store.run(lambda c: c.execute(update(exchanges).values(api="responses")))
    keep(store, exchange, 40)
    [caution] = of_apis(store, a_plan())
    assert caution == (
        "experiment swap: 60 of the last day's 100 recorded calls of chat came by the API responses, which it does not "
        "take: add it to experiments.swap.allow.apis"
    )
    assert of_apis(store, a_plan(apis=("chat", "responses"))) == []
    assert of_apis(store, a_plan(model="other")) == []


def served(store: Any, exchange: Any, callers: int, **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "request": b'{"messages":[]}', "user_digest": None}
    store.write(*(exchange("1", caller=f"team{i % callers}", **{**usual, **changes}) for i in range(60)))


def cautions(store: Any, plan: Plan) -> list[str]:
    return store.run(lambda c: list(supply_cautions(c, plan, NOW)))


def refusal(store: Any, plan: Plan) -> str | None:
    return store.run(lambda c: supply_refusal(c, plan, NOW))


def ramp(**changes: Any) -> Plan:
    return a_plan(**{"mode": "both", "unit": "key", "ramp": RAMP, **changes})


def test_twenty_keys_at_five_percent_may_be_nobody(store: Any, exchange: Any) -> None:
    served(store, exchange, 20)
    (caution,) = cautions(store, ramp())
    assert "came from 20 keys" in caution
    assert "no key gets the candidate in 36% of plans" in caution
    assert "begin with 0.14 or more" in caution
    assert refusal(store, ramp()) is None


def test_a_step_that_needs_more_units_than_there_are_says_so(store: Any, exchange: Any) -> None:
    served(store, exchange, 20)
    found = cautions(store, ramp(ramp=RampDesign((0.5, 1.0), 3600.0, 100)))
    assert len(found) == 1
    assert "has about 10, and ramp.min_units is 100" in found[0]


@pytest.mark.parametrize("unit", ["key", "conversation"])
def test_one_key_without_conversations_does_not_start(store: Any, exchange: Any, unit: Any) -> None:
    served(store, exchange, 1)
    found = refusal(store, ramp(unit=unit))
    assert found is not None
    assert "60 recorded calls of chat are of one key" in found
    assert "metadata.conversation_id" in found
    assert "unit: request" in found
    assert cautions(store, ramp(unit=unit)) == []


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        (ramp(unit="conversation"), {"request": b'{"metadata":{"conversation_id":"c1"}}'}),
        (ramp(unit="run"), {"run": "r"}),
        (ramp(unit="request"), {}),
        (ramp(), {"received": NOW - 90_000.0}),
        (ramp(), {"alias": "other"}),
        (a_plan(mode="shadow", unit="key"), {}),
        (a_plan(mode="split", split=0.5, unit="conversation"), {}),
    ],
    ids=[
        "conversations",
        "runs",
        "requests",
        "long ago",
        "another model",
        "shadows only",
        "calls without one are units",
    ],
)
def test_nothing_is_said_where_units_are_many_or_unknown(store: Any, exchange: Any, plan: Plan, changes: Any) -> None:
    served(store, exchange, 1, **changes)
    assert refusal(store, plan) is None
    assert cautions(store, plan) == []


def test_users_are_counted_too(store: Any, exchange: Any) -> None:
    served(store, exchange, 4, user_digest="one")
    found = refusal(store, a_plan(mode="split", split=0.5, unit="user"))
    assert found is not None
    assert "are of one user" in found


def test_check_and_start_refuse_a_single_key_alike(
    keep: Any, exchange: Any, tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"upstream": "a", "model": "m"}
    ramped = {"model": "chat", "control": target, "candidate": {**target, "model": "n"}, "primary": "refusal",
              "margin": 0.05, "start": "manual", "unit": "key",
              "ramp": {"steps": [0.5, 1.0], "min_units": 1}}  # fmt: skip

    def config(calls_of: int) -> None:
        now, usual = time.time(), {"alias": "chat", "request": b'{"messages":[]}', "user_digest": None}
        url = keep([exchange("1", caller=f"team{i % calls_of}", received=now - 60, **usual) for i in range(60)])
        text = {
            "open": True, "upstreams": {"a": {"kind": "fake"}}, "models": {"chat": {"targets": [target]}},
            "scorers": {"refusal": {}}, "stream": {"url": stream_url, "name": stream_name}, "store": {"url": url},
            "experiments": {"swap": ramped},
        }  # fmt: skip
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(text))

    monkeypatch.chdir(tmp_path)
    config(1)
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    started = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert (checked.exit_code, started.exit_code) == (1, 1)
    assert "Ready" not in checked.output
    for words in (checked.output, str(started.exception)):
        assert "60 recorded calls of chat are of one key" in words
    config(8)
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    assert (checked.exit_code, "Ready" in checked.output) == (0, True)
    assert "is running with plan" in CliRunner().invoke(app, ["ab", "start", "swap"]).output


DAY_END = 1_790_000_000.0
CALLS = 48  # within two hours, each recorded with a probability of 0.1: 240 an hour


def plan_2(**changes: Any) -> Plan:
    usual = {"rules": 2, "method": "hybrid", "auto_horizon": True, "max_pairs": 288, "min_hours": 24.0, "shadow": 0.5}
    return a_plan(**{**usual, **changes})


@pytest.fixture
def traffic(store: Any, exchange: Any) -> Any:
    """A store with calls of `chat` before the experiment's start."""
    store.write(
        *(exchange("1", alias="chat", api="chat", pi=0.1, received=DAY_END - 7200.0 + 150.0 * i) for i in range(CALLS))
    )
    return store


def test_the_share_is_lowered_to_what_the_hours_take(traffic: Any) -> None:
    found = traffic.run(lambda c: paced(c, plan_2(), DAY_END))
    assert found.plan.shadow == 0.055, "1.1 times 288 pairs from 5 760 calls, rounded up"
    assert found.plan.same_design(plan_2())
    assert plan_from_json(found.plan.to_json()) == found.plan
    assert found.says == (
        "experiment swap: shadow is lowered from 0.5 to 0.055, so that the planned 288 pairs take the 24 hours that "
        "`ship` waits for (the last day had 240 calls an hour)"
    )
    fixed = traffic.run(lambda c: paced(c, plan_2(auto_horizon=False), DAY_END))
    assert fixed.plan.shadow == 0.045, "it closes at its last pair, which comes after the hours"
    assert traffic.run(lambda c: paced(c, plan_2(max_pairs=20, min_hours=8000.0), DAY_END)).plan.shadow == LEAST


@pytest.mark.parametrize("changes", [{"shadow": 0.05}, {"min_hours": 0.0}, {"rules": 1}, {"max_pairs": None}])
def test_it_is_never_raised_and_never_lowered_without_hours(traffic: Any, changes: dict[str, Any]) -> None:
    plan = plan_2(**changes)
    found = traffic.run(lambda c: paced(c, plan, DAY_END))
    assert (found.plan, found.says) == (plan, None)


def test_unknown_traffic_is_said(store: Any) -> None:
    found = store.run(lambda c: paced(c, plan_2(), DAY_END))
    assert found.plan == plan_2()
    assert found.says is not None
    assert "too few calls of chat are recorded to spread the pairs over the 24 hours" in found.says


def test_another_share_in_the_settings_is_another_design(traffic: Any) -> None:
    found = traffic.run(lambda c: paced(c, plan_2(), DAY_END))
    assert not found.plan.same_design(plan_2(shadow=0.25))
    assert found.plan.hash != plan_2().hash
    assert replace(found.plan, shadow=0.5, shadow_asked=None).hash == plan_2().hash


def test_a_plan_that_a_gateway_starts_has_the_pace_of_a_command(traffic: Any) -> None:
    started = PlanState(plan_2(), "running", DAY_END, unpaced=True)
    assert traffic.run(lambda c: paced_start(c, started, DAY_END + 1.0)) == traffic.run(
        lambda c: paced(c, plan_2(), DAY_END + 1.0)
    )
    late = traffic.run(lambda c: paced_start(c, started, DAY_END + FRESH_S + 1.0))
    assert late.plan == plan_2(), "its first pairs are on their way"


def test_a_stored_plan_of_the_design_continues(traffic: Any) -> None:
    """The stream server has lost its data: a gateway starts the plan again, and its evidence stays."""
    before = replace(plan_2(), shadow=0.2, shadow_asked=0.5)
    traffic.run(lambda c: save_plans(c, [PlanState(before, "running", DAY_END - 9999.0)], DAY_END - 9999.0))
    found = traffic.run(lambda c: paced_start(c, PlanState(plan_2(), "running", DAY_END, unpaced=True), DAY_END))
    assert found.plan == before


def test_the_mark_of_a_plan_without_a_pace_is_stored() -> None:
    marked, usual = (PlanState(plan_2(), "running", DAY_END, unpaced=mark) for mark in (True, False))
    assert plan_states({b"swap": marked.to_json()})["swap"] == marked
    assert b"unpaced" not in usual.to_json()
    assert plan_states({b"swap": usual.to_json()})["swap"] == usual


def tried(run: Any, earlier: Any) -> None:
    """An earlier plan with one settled pair, stopped."""
    row = {
        "id": f"e-{earlier.hash}", "experiment": earlier.name, "plan": earlier.hash, "position": "0" * 20,
        "received": 0.5, "cluster": None, "asked": '["candidate"]', "state": "joined", "reason": None, "place": 1,
        "arms": "{}",
    }  # fmt: skip
    with run.engine.begin() as connection:
        save_plans(connection, [PlanState(earlier, "stopped", 0.5)], 0.5)
        connection.execute(pairs.insert(), [row])


def test_the_verdict_with_one_alpha_for_all_is_stricter(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2, method="anytime", aa="alarm", guardrails=(), repeat_control=0.0, margin=0.1)
    run.add([a_pair(i, seen(0.5), candidate=seen(0.5 + 0.1 * (-1) ** i)) for i in range(400)])
    stored = StoredPlan(run.plan, run.hash, "running", 1.0)
    with reading(run.url) as connection:
        assert tried_plans(connection, stored, "candidate") is None
        assert list(tried_cautions(connection, run.plan)) == []
        assert report_of(connection, "swap").tried is None
    tried(run, replace(run.plan, margin=0.2))
    tried(run, replace(run.plan, margin=0.3, name="swap_again"))
    tried(run, replace(run.plan, control=Target("a", "another")))
    with reading(run.url) as connection:
        found = tried_plans(connection, stored, "candidate")
        (caution,) = tried_cautions(connection, run.plan)
        report = report_of(connection, "swap")
    assert found is not None
    assert (found.number, found.alpha, found.shared) == (3, 0.05, pytest.approx(0.05 / 3))
    assert report.tried == found
    assert "this is the third plan of this swap" in caution
    assert "`alpha: 0.017`" in caution
    assert any(text.startswith("Third plan of this swap: each has an alpha of 0.05") for text in report.cautions)


@pytest.mark.parametrize(("n", "verdict"), [(220, "hold"), (800, "ship")])
def test_less_evidence_than_the_shared_alpha_asks_for_does_not_ship(
    begin_experiment: Any, n: int, verdict: str
) -> None:
    """220 pairs at this deviation ship by an alpha of 0.05, and not by a third of it."""
    run = begin_experiment(rules=2, method="anytime", aa="alarm", guardrails=(), repeat_control=1.0, margin=0.05)
    pair = [a_pair(i, seen(0.5), candidate=seen(0.5 + 0.2 * (-1) ** i), repeat=seen(0.5)) for i in range(n)]
    run.add(pair)
    assert run.found().decision.verdict == "ship"
    tried(run, replace(run.plan, margin=0.2))
    tried(run, replace(run.plan, margin=0.3))
    with reading(run.url) as connection:
        found = tried_plans(connection, StoredPlan(run.plan, run.hash, "running", 1.0), "candidate")
    assert found is not None
    assert found.verdict == verdict
    assert tried_sentence(found).endswith(f"shared over the 3, this verdict is: {verdict}.")


def test_a_plan_without_evidence_spent_no_alpha(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2)
    with run.engine.begin() as connection:
        save_plans(connection, [PlanState(replace(run.plan, margin=0.2), "stopped", 0.5)], 0.5)
    with reading(run.url) as connection:
        assert tried_plans(connection, StoredPlan(run.plan, run.hash, "running", 1.0), "candidate") is None


def test_a_plan_is_named_by_its_place() -> None:
    assert [ordinal(n) for n in (1, 3, 12)] == ["first", "third", "12th"]
