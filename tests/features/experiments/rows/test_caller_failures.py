"""What failed in an arm of a ramp, by caller: units count once, refused requests not at all."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gateway.core.exchange import Target
from gateway.features.experiments.rows.caller_failures import ArmInTime, caller_failures

NEW, OLD = Target("local", "new"), Target("local", "old")
ARM = ArmInTime("candidate", str(NEW), 100.0, math.inf)


def test_failures_are_counted_by_caller_and_unit(store: Any, exchange: Any) -> None:
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "target": NEW}
    failed = {"status": 503, "outcome": "upstream_error"}
    store.write(
        exchange("1", cluster="talk", caller="a", **mine),
        exchange("1", cluster="talk", caller="a", **mine, **failed),
        exchange("1", cluster="talk", caller="b", **mine),
        exchange("1", cluster="more", caller="b", **{**mine, "target": OLD}),
        exchange("1", cluster="late", caller="b", **{**mine, "received": 99.0}, **failed),
        exchange("1", cluster="gone", caller="b", **mine, status=200, outcome="client_gone"),
        exchange("1", caller="c", **mine, **failed),
        exchange("1", caller="c", **mine),
    )
    found = store.run(lambda c: caller_failures(c, "abc", ARM, keyed=True))
    assert found == {"a": (2, 1, 0.5, 0.25), "b": (2, 2, 1.0, 1.0), "c": (2, 1, 0.5, 0.25)}
    assert store.run(lambda c: caller_failures(c, "abc", replace(ARM, stratum="other"), keyed=True)) == {}


def test_refused_requests_count_nowhere(store: Any, exchange: Any) -> None:
    mine = {"experiment": "swap", "plan": "abc", "arm": "candidate", "received": 150.0, "cluster": "t"}
    store.write(
        exchange("1", target=NEW, caller="a", status=400, outcome="upstream_error", **mine),
        exchange("1", target=NEW, caller="b", status=401, outcome="upstream_error", **mine),
        exchange("1", target=OLD, caller="c", status=400, outcome="upstream_error", **mine),
    )
    found = store.run(lambda c: caller_failures(c, "abc", ARM, keyed=True))
    assert found == {"b": (1, 1, 1.0, 1.0), "c": (1, 1, 1.0, 1.0)}, "a fallback's refusal is a failure of the arm"
