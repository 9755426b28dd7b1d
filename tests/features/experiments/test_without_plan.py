"""The report of an experiment whose plan is not in the store: both arms' weighted means, and no verdict."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from gateway.core.exchange import Count, Target
from gateway.features.experiments.rows.queries import latest_plan
from gateway.features.experiments.without_plan import NO_PLAN, without_plan
from gateway.store.query import reading


def read(room):
    with reading(room.store_url) as connection:
        plan = latest_plan(connection, "swap")
        assert plan is not None
        return without_plan(connection, plan)


@pytest.fixture
async def swap(room, exchange, tally):
    """600 calls: slow errors, which are all recorded, and others, of which 30 % are; half are shadowed."""
    rng = random.Random(5)
    sent, seen = [], {"default+swap": 0, "error+swap": 0}
    for i in range(600):
        hard = rng.random() < 0.25
        stratum = "error+swap" if hard else "default+swap"
        seen[stratum] += 1
        shadowed = rng.random() < 0.5
        pi = 1.0 if hard else 1 - 0.7 * 0.5
        if not (hard or shadowed or rng.random() < 0.3):
            continue
        fields = {"experiment": "swap", "plan": "p1", "received": 1000.0 + i}
        served = exchange(
            "0" if hard else "1",
            stratum=stratum,
            pi=pi,
            arm="control",
            total_s=2.0 if hard else 1.0,
            first_token_s=0.5,
            **fields,
        )
        sent.append(served)
        if shadowed:
            text = "error" if rng.random() < 0.1 else "0.5"
            sent.append(
                exchange(
                    text,
                    stratum="shadow:swap",
                    pi=0.5,
                    arm="candidate",
                    role="shadow",
                    target=Target("local", "new"),
                    pair=served.id,
                    total_s=0.5,
                    **fields,
                )
            )
    sent.append(
        exchange(
            "1",
            experiment="swap",
            plan="p1",
            arm="candidate",
            role="shadow",
            pair="gone",
            stratum="shadow:swap",
            pi=0.5,
            target=Target("local", "new"),
        )
    )
    shadows = Count("shadow:swap", "chat", "local/new", "candidate", sum(e.role == "shadow" for e in sent))
    counts = tuple(Count(s, "chat", "local/small", "control", n) for s, n in seen.items())
    async with room.consuming():
        for at in range(0, len(sent), 200):
            await room.send(*sent[at : at + 200])
        await room.send(tally(sent, seen=None))
        await room.send(tally(sent[:1]).__class__("g1", 2.0, len(sent), seen=(*counts, shadows)))
        await room.until_read()
    return SimpleNamespace(truth=seen["default+swap"] / 600, sent=sent, seen=seen)


def metric(report, name):
    (found,) = [c for c in report.metrics if c.metric == name]
    return found


async def test_each_arm_has_weighted_means_and_there_is_no_verdict(room, swap):
    report = read(room)
    assert (report.verdict, report.reasons, report.primary, report.gates) == ("hold", (NO_PLAN,), None, ())
    score = metric(report, "stated")
    assert score.a.value == pytest.approx(swap.truth)
    assert score.a.low < swap.truth < score.a.high
    assert score.b.value == pytest.approx(0.5, abs=0.01)
    assert score.difference.value is None
    assert score.effective_n == pytest.approx(score.pairs), "of the smaller arm, whose calls weigh the same"
    assert [(arm.arm, arm.target) for arm in report.arms] == [("candidate", "local/new"), ("control", "local/small")]


async def test_latency_and_tokens_are_weighted_too(room, swap):
    report = read(room)
    total = metric(report, "total_s")
    assert total.a.value == pytest.approx(2.0 - swap.truth)
    assert total.a.low < 2.0 - swap.truth < total.a.high
    assert metric(report, "first_token_s").a.value == 0.5
    assert metric(report, "first_token_s").b.value is None
    assert metric(report, "output_tokens").a.value == 5.0
    assert metric(report, "error_rate").a.value == 0.0


async def test_a_shadow_without_its_served_answer_is_not_a_pair(room, swap):
    assert read(room).pairs == sum(e.role == "shadow" for e in swap.sent) - 1
