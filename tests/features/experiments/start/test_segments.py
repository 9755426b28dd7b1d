"""A plan's segments as derived from recent traffic before it starts: values, rates, cautions and the price."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.core.plan_horizon import horizon_of
from gateway.core.segments import SegmentDesign
from gateway.features.experiments.start.cautions import paced_start
from gateway.features.experiments.start.price import price_evidence
from gateway.features.experiments.start.segments import segment_cautions, segment_refusal, traffic_shares, with_segments
from gateway.verdict.price.forecast import forecast
from gateway.verdict.report.price import lines, to_dict
from gateway.verdict.segments.shares import added_share

NOW = 1_800_000_000.0
DESIGN = SegmentDesign(("metadata.product", "tools"), 0.15, 0.05)


def plan(**changes: Any) -> Plan:
    usual = {"margin": 0.05, "rules": 2, "method": "hybrid", "auto_horizon": True, "aa": "alarm", "guardrails": ()}
    made = a_plan(**{**usual, "shadow": 0.1, "repeat_control": 0.25, "segments": DESIGN, **changes})
    return replace(made, max_pairs=horizon_of(made))


def served(store: Any, exchange: Any, counts: dict[str, int], **changes: Any) -> None:
    usual = {"alias": "chat", "received": NOW - 60.0, "client_bytes": 300}
    for product, n in counts.items():
        body = orjson.dumps({"messages": [], "metadata": {"product": product}} if product else {"messages": []})
        store.write(*(exchange("1", **{**usual, "request": body, **changes}) for _ in range(n)))


def frozen(store: Any, of: Plan) -> Plan:
    found: Plan = store.run(lambda c: with_segments(c, of, NOW))
    return found


def test_values_with_enough_of_the_traffic_are_frozen(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 170, "code": 20, "mail": 6, "": 4})
    made = frozen(store, plan())
    assert made.segments is not None
    assert made.segments.frozen == (("metadata.product", ("chat", "code")),)
    assert made.segments.segments == (
        ("metadata.product", "chat"),
        ("metadata.product", "code"),
        ("metadata.product", "other"),
        ("tools", "no"),
        ("tools", "yes"),
    )
    assert made.hash != plan().hash
    assert made.same_design(plan())


def test_a_small_segment_is_shadowed_more_often(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 180, "code": 20})
    made = frozen(store, plan())
    assert made.segments is not None
    ((prop, value, factor),) = made.segments.more
    assert (prop, value) == ("metadata.product", "code")
    assert 1.5 < factor < 4.0
    shares = store.run(lambda c: traffic_shares(c, made, NOW))
    assert added_share(made, shares) == pytest.approx(0.1 * (factor - 1))


def test_calls_count_by_the_probability_of_their_record(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 50}, pi=0.1)
    served(store, exchange, {"code": 50}, pi=1.0)
    shares = store.run(lambda c: traffic_shares(c, plan(), NOW))
    assert shares["metadata.product"]["code"] == pytest.approx(50 / 550)


def test_a_store_without_traffic_leaves_the_plan(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 49})
    assert frozen(store, plan()) == plan()
    assert frozen(store, plan(segments=None)) == plan(segments=None)


def test_a_plan_started_by_a_gateway_gets_a_consumers_segments(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 80, "code": 20})
    started = PlanState(plan(), "running", NOW - 1.0, unpaced=True)
    made = store.run(lambda c: paced_start(c, started, NOW)).plan
    assert made.segments.frozen == (("metadata.product", ("chat", "code")),)
    assert plan(min_hours=0.0).reads_traffic
    assert not plan(segments=None, min_hours=0.0).reads_traffic


def test_a_segment_that_nobody_had_in_the_last_day_is_a_caution(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 60})
    stated = replace(DESIGN, values=(("metadata.product", ("chat", "code")),))
    found = store.run(lambda c: list(segment_cautions(c, plan(segments=stated), NOW)))
    assert found[0] == (
        "experiment swap: no recorded call of chat in the last day had the segment metadata.product=code, so nothing "
        "would be known about it; remove it from `segments`"
    )
    assert any("the segment tools=yes" in text for text in found)
    served(store, exchange, {"code": 1}, received=NOW - 90_000.0)
    assert found == store.run(lambda c: list(segment_cautions(c, plan(segments=stated), NOW))), "the day before"


def refusal(store: Any, of: Plan) -> str | None:
    found: str | None = store.run(lambda c: segment_refusal(c, with_segments(c, of, NOW), NOW))
    return found


def test_a_property_without_known_values_is_refused(store: Any, exchange: Any) -> None:
    served(store, exchange, {"chat": 49})
    assert "fewer than 50 calls of chat were recorded in the last day, so the values of metadata.product" in str(
        refusal(store, plan())
    )
    assert segment_refusal(None, plan(), NOW) is not None, "before there is a store"
    stated = replace(DESIGN, values=(("metadata.product", ("code",)),))
    assert refusal(store, plan(segments=stated)) is None
    assert refusal(store, plan(segments=SegmentDesign(("tools", "prompt", "stream")))) is None
    served(store, exchange, {"chat": 1})
    assert refusal(store, plan()) is None


def test_a_property_that_no_call_names_is_refused(store: Any, exchange: Any) -> None:
    served(store, exchange, {"": 60})
    assert refusal(store, plan()) == (
        "experiments.swap.segments: no call of the last day has metadata.product: write `values`, or start after some "
        "traffic"
    )


def test_a_property_of_which_every_value_is_rare_is_refused(store: Any, exchange: Any) -> None:
    served(store, exchange, {f"p{n}": 2 for n in range(40)})
    assert "no value of metadata.product has 5% of the last day's calls" in str(refusal(store, plan()))


def test_the_price_has_a_line_for_each_segment(store: Any, exchange: Any) -> None:
    import time

    served(store, exchange, {"chat": 180, "code": 20}, received=time.time() - 60.0)
    made = store.run(lambda c: with_segments(c, plan(), time.time()))
    stored = StoredPlan(made, made.hash, "stopped", 0.0)
    found = forecast(stored, evidence=store.run(lambda c: price_evidence(c, stored)))
    segments = {p.metric: p for p in found.metrics if p.role == "segment"}
    assert set(segments) == {"segment metadata.product=chat", "segment metadata.product=code", "segment tools=no"}
    code = segments["segment metadata.product=code"]
    assert code.pairs[0] == pytest.approx(made.max_pairs, rel=0.1), "it is decided with the rest"
    text = "\n".join(lines("swap", found))
    assert "segments: `ship` also needs each of 5 segments not to be worse by 0.15" in text
    assert "which adds" in text
    assert "weak spots: the same pairs are searched" in text
    without = replace(stored, plan=replace(made, segments=None), hash="x")
    plain = forecast(without, evidence=store.run(lambda c: price_evidence(c, without)))
    assert found.prices[0].paid_calls > plain.prices[0].paid_calls
    assert found.prices[0].paid_calls < 1.6 * plain.prices[0].paid_calls
    assert to_dict(plain)["metrics"][0].keys() == to_dict(found)["metrics"][0].keys()
