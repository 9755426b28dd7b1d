"""The ramp of a guard reads its calls with a unit, and the bad feedback on them. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from fixtures.consoles import a_config

from gateway.config.loading import parse
from gateway.core.exchange import Exchange, Feedback
from gateway.core.guards import GuardDecision, to_json
from gateway.features.guards.ramp.work import GuardRampSettings, guard_calls
from gateway.features.guards.rows import counted_calls
from gateway.store.query import reading

Make = Callable[..., Exchange]
RANGES = {"range": {"stars": [1, 5]}}


def judged(result: Any = "pass", guard: str = "own", **fields: Any) -> dict[str, Any]:
    made = GuardDecision(guard, "request", "flag", result, False, 0.0, config_hash="c", **fields)
    return {"guards": to_json([made])}


def given(of: Exchange, name: str, value: float) -> Feedback:
    return Feedback(of.id, f"{of.id}-{name}", "web", 1.0, name, value)


def test_only_calls_of_the_ramp_are_read(store: Any, exchange: Make) -> None:
    made = [
        exchange("1", received=10.0, **judged("hit", unit="u1")),
        exchange("1", received=20.0, **judged(unit="u2")),
        exchange("1", received=30.0, **judged()),
        exchange("1", received=40.0, **judged(guard="other", unit="u1")),
        exchange("1", received=5.0, **judged(unit="u1")),
    ]
    store.write(*made)
    with reading(store.url) as connection:
        found = counted_calls(connection, "own", 10.0)
    assert [(c.id, c.received, c.unit, c.action, c.result, c.caller) for c in found] == [
        (made[0].id, 10.0, "u1", "flag", "hit", "web"),
        (made[1].id, 20.0, "u2", "flag", "pass", "web"),
    ]
    assert found[0].asked == found[1].asked is not None


def test_feedback_is_bad_below_the_middle_of_its_range(store: Any, exchange: Make) -> None:
    middles = GuardRampSettings.of(parse(yaml.safe_dump(a_config(feedback=RANGES)))).middles
    values = [("thumb", 0.0), ("thumb", 1.0), ("stars", 2.0), ("stars", 4.0), ("stars", 3.0)]
    made = [exchange("1", received=10.0, **judged(unit=f"u{i}")) for i in range(len(values))]
    store.write(*made, *(given(one, *value) for one, value in zip(made, values, strict=True)))
    with reading(store.url) as connection:
        found = guard_calls(connection, "own", 0.0, middles)
    assert set(found.thumbs_down) == {made[0].id, made[2].id}
    assert len(found.calls) == len(values)
