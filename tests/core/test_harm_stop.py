"""A stop for harm, as the stream server and the store hold it."""

from __future__ import annotations

import math
from dataclasses import replace

import orjson
from fixtures.simulated import a_plan

from gateway.core.harm_stop import harm_changes, harm_stored
from gateway.core.plan import HARMED, HarmStop, PlanState, plan_states

STOP = HarmStop(5.0, 60, -0.25, 7.5)


def test_a_stop_survives_the_stream_server_and_the_store() -> None:
    plan = a_plan(rules=3, method="hybrid", max_pairs=300)
    state = PlanState(plan, "running", 1.0, harm=STOP)
    (read,) = plan_states({b"swap": state.to_json()}).values()
    assert (read.harm, read.harmed, read.shown, read.plan.hash) == (STOP, True, HARMED, plan.hash)
    cleared = replace(state, harm=replace(STOP, cleared=9.0))
    (resumed,) = plan_states({b"swap": cleared.to_json()}).values()
    assert (resumed.harmed, resumed.shown) == (False, "running")
    changes = harm_changes(plan.hash, STOP)
    ((name, (_, stored)),) = changes.states.items()
    assert harm_stored({name: orjson.dumps(stored).decode()}, plan.hash) == STOP
    assert harm_stored({}, plan.hash) is None
    assert STOP.until == math.inf
    assert replace(STOP, cleared=9.0).until == 11.0, "gateways follow within a second"
