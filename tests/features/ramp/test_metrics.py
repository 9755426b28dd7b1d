"""The metrics of ramps come from the audit."""

from __future__ import annotations

from functools import partial
from typing import Any

from fixtures.metric_samples import sample_sum
from fixtures.ramps import DESIGN, PLAN
from prometheus_client import CollectorRegistry

from gateway.core.plan import PlanState
from gateway.core.ramp import RampChange, RampEvent, advanced, rolled_back, started
from gateway.features.notices.rows import WebhookDelivery, add_deliveries
from gateway.features.ramp.metrics import ramp_figures
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics, RampFigures
from gateway.store.plans import save_plans
from gateway.store.ramp_events import add_ramp_events

BEGUN = started("swap", PLAN.hash, RampChange(1.0, "controller", ""))
FIRST = advanced(BEGUN, DESIGN, RampChange(2.0, "controller", "holds"))
BACK = rolled_back(FIRST, RampChange(3.0, "controller", "worse"), 60.0)


def found(store: Any, *events: RampEvent) -> Any:
    store.run(lambda c: save_plans(c, [PlanState(PLAN, "running", 1.0)], 1.0))
    store.run(lambda c: add_ramp_events(c, events))
    return store.run(ramp_figures)


def test_the_newest_record_and_the_counts(store: Any) -> None:
    begun, first = RampEvent("1-0", BEGUN, None, {}), RampEvent("2-0", FIRST, ("shadow", -1), {})
    assert found(store, begun, first) == (
        (RampFigures("swap", "ramp", 0.25, 2.0, {"shadowing": 1, "advanced": 1}),),
        {},
    )
    ((now,), _) = found(store, RampEvent("3-0", BACK, ("ramp", 0), {}))
    assert (now.state, now.share, now.transitions["rolled_back"]) == ("rolled_back", 0.0, 1)


def test_deliveries_are_counted_by_receiver_and_state(store: Any) -> None:
    store.run(lambda c: add_deliveries(c, [WebhookDelivery("ramp_1-0", "ops", "swap", "{}", 1.0, 1.0)]))
    assert store.run(ramp_figures) == ((), {("ops", "pending"): 1})


def test_they_are_exported() -> None:
    registry = CollectorRegistry()
    metrics = EvalMetrics(registry)
    ramp = RampFigures("swap", "rolled_back", 0.0, 3.0, {"rolled_back": 1})
    metrics.figures = EvalFigures(ramps=(ramp,), webhooks={("ops", "dead"): 2})

    value = partial(sample_sum, registry)

    assert value("gateway_ramp_state", experiment="swap", state="rolled_back") == 1
    assert value("gateway_ramp_state", experiment="swap", state="ramp") == 0
    assert value("gateway_ramp_decided_share", experiment="swap") == 0
    assert value("gateway_ramp_since_timestamp_seconds", experiment="swap") == 3
    assert value("gateway_ramp_transitions_total", experiment="swap", kind="rolled_back") == 1
    assert value("gateway_webhook_deliveries", webhook="ops", state="dead") == 2
