"""A shadow, a split and a ramp at 25 % that were running by the first rules, on a store of version 0032: nothing of
them changes until somebody starts them again. store_0032.json.gz holds what that version stored, and what it said."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import MetaData

from gateway.config.experiments import Experiment
from gateway.core.plan import Plan, StoredPlan, plan_states
from gateway.core.ramp import RampPace, ramp_records
from gateway.features.ramp.evidence import evidence_of
from gateway.features.ramp.work import RampController
from gateway.proxy.experiments.ramp_shares import RampShares
from gateway.proxy.routing.assignment import RunningExperiment, arm_of, ramp_arm, running, shadowed
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.decision import decide_ramp
from gateway.store import engine
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.store.ramp_events import stored_ramp_events
from gateway.store.store import Store
from gateway.verdict.findings import finding

SAVED = Path(__file__).parents[2] / "fixtures" / "store_0032.json.gz"
NAMES = ("shadowed", "split", "ramp")


@pytest.fixture(scope="module")
def saved() -> dict[str, Any]:
    """The ramp that an older version saved."""
    found: dict[str, Any] = orjson.loads(gzip.decompress(SAVED.read_bytes()))
    return found


@pytest.fixture
def upgraded(tmp_path: Path, saved: Mapping[str, Any]) -> str:
    """The URL of a store of version 0032 with its rows, brought to the present version."""
    url = f"sqlite:///{tmp_path}/gateway.db"
    made = engine.connect_writer(url)
    engine.migrate(made, "0032")
    there = MetaData()
    there.reflect(made)
    with made.begin() as connection:
        for table in there.sorted_tables:
            for row in saved["store"].get(table.name, ()):
                connection.execute(table.insert().values({name: _value(value) for name, value in row.items()}))
    engine.migrate(made)
    made.dispose()
    return url


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def plans_of(saved: Mapping[str, Any]) -> dict[str, Plan]:
    states = plan_states({name.encode(): text.encode() for name, text in saved["stream"]["plans"].items()})
    return {name: state.plan for name, state in states.items()}


def in_force(plan: Plan) -> RunningExperiment:
    to = {arm: {"upstream": "local", "model": model} for arm, model in (("control", "small"), ("candidate", "new"))}
    return running(plan, Experiment.model_validate({"model": plan.model, **to}))


def test_plans_of_the_first_rules_keep_their_hash_and_continue(saved: Mapping[str, Any]) -> None:
    for name, plan in plans_of(saved).items():
        assert (plan.hash, plan.rules) == (saved["expected"][name]["hash"], 1)
        ramp = None if plan.ramp is None else replace(plan.ramp, holdout=0.02, holdout_days=28.0)
        now = replace(plan, rules=2, min_hours=24.0, empty="failed", headers="target", ramp=ramp)
        assert now.continues(plan), "the gateway does not replace it"
        assert now.hash != plan.hash


def test_draws_stay(saved: Mapping[str, Any]) -> None:
    plans, draws = plans_of(saved), saved["draws"]
    ramp = in_force(plans["ramp"]).at(0.25)
    assert [i for i in range(40) if ramp_arm(ramp, f"unit {i}") == "candidate"] == draws["ramp"]
    assert [i for i in range(40) if shadowed(ramp, f"call {i}")] == draws["shadow"]
    split = in_force(plans["split"])
    assert [i for i in range(40) if arm_of(split, f"unit {i}") == "candidate"] == draws["split"]


async def test_evidence_margins_and_decisions_stay(upgraded: str, saved: Mapping[str, Any]) -> None:
    def look(connection: Reading) -> None:
        stored = {each.plan.name: each for each in stored_plans(connection)}
        for name in NAMES:
            same_finding(connection, stored[name], saved["expected"][name], saved["now"])
        same_ramp(connection, stored["ramp"], saved["expected"]["ramp"], saved["now"])

    async with Store(upgraded) as store:
        await store.look(look)


def close(value: Any) -> Any:
    """The value, of which a float may differ in its last digits."""
    return pytest.approx(value, abs=1e-12) if isinstance(value, float) else value


def same_finding(connection: Reading, plan: StoredPlan, expected: Mapping[str, Any], now: float) -> None:
    found = finding(StoredEvidence(connection, plan, now), "candidate")
    assert (found.decision.verdict, found.pairs.joined) == (expected["verdict"], expected["pairs"])
    metrics = {m.metric: m for m in found.metrics}
    for name, (value, low, high, margin, said) in expected["metrics"].items():
        m = metrics[name]
        assert (m.difference.value, m.difference.low, m.difference.high) == (close(value), close(low), close(high))
        assert (m.margin, m.margin_found) == (margin, said)
    assert {gate.name: gate.state for gate in found.gates} == expected["gates"]


def same_ramp(connection: Reading, plan: StoredPlan, expected: Mapping[str, Any], now: float) -> None:
    events, terms = stored_ramp_events(connection, "ramp"), AlarmTerms.of(plan.plan)
    assert (dict(terms.margins), terms.alpha, terms.plan) == (expected["margins"], expected["alpha"], None)
    evidence = evidence_of(connection, plan, events, now)
    fields = evidence.fields()
    for name in ("verdict", "pairs", "proofs", "units", "requests", "usd", "blind", "newest"):
        assert fields[name] == expected["evidence"][name], name
    served = [{k: v for k, v in each.items() if k in before} for each, before in zip(
        fields["served"], expected["evidence"]["served"], strict=True)]  # fmt: skip
    assert served == [{k: close(v) for k, v in each.items()} for each in expected["evidence"]["served"]]
    assert plan.plan.ramp is not None
    decision = decide_ramp(events[-1].record, plan.plan.ramp, evidence, now, RampPace("auto"))
    assert decision.action == expected["decision"]["action"]


async def test_the_share_stays_and_the_controller_leaves_the_record(
    upgraded: str, saved: Mapping[str, Any], room: Any
) -> None:
    corridor = room.corridor
    prefix, stream = corridor.state.prefix, saved["stream"]
    for name, text in stream["plans"].items():
        await corridor.client.hset(f"{prefix}:plans", name, text)
    await corridor.client.hset(f"{prefix}:ramps", "ramp", stream["ramps"]["ramp"])
    states, records = await corridor.state.plans(), await corridor.ramps.records()
    shares = RampShares()
    shares.read(records, states)
    assert shares.by_plan == {states["ramp"].plan.hash: 0.25}
    assert set(states) == set(NAMES)
    async with Store(upgraded) as store:
        controller = RampController(store, corridor, {"ramp": RampPace("auto")}, clock=lambda: saved["now"])
        await controller.step(await store.run(stored_plans))
        assert (await corridor.ramps.records())["ramp"] == ramp_records({b"ramp": stream["ramps"]["ramp"].encode()})[
            "ramp"
        ]
        (standing,) = controller.standings
    assert standing.decision.action == saved["expected"]["ramp"]["decision"]["action"]
