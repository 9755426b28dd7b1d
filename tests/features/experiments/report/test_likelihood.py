"""The verdict of a likelihood experiment, and the calls and tokens of its report, read from the store."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from fixtures.likelihoods import answered, likelihood_plan, pair, scored

from gateway.core.plan import AGAIN
from gateway.features.experiments.report.build import report_of
from gateway.reports.model import Report
from gateway.store.missing_scores import places
from gateway.store.query import ExchangeFilter, reading
from gateway.verdict.report.as_json import schema, to_dict
from gateway.verdict.report.html import to_html

EVERY: dict[str, str | None] = {"candidate": "1", "repeat": "1", AGAIN: "1"}


async def run(room: Any, paired: Any, shift: Any, pairs: int = 60, **changes: Any) -> Report:
    plan = likelihood_plan(**changes)
    rng = random.Random(4)
    await room.begin(plan)
    async with room.consuming():
        for _ in range(pairs):
            await room.send(*pair(paired(plan, "1", EVERY), rng, shift))
        await room.until_settled(pairs)
    return report(room)


def report(room: Any) -> Report:
    with reading(room.store_url) as connection:
        return report_of(connection, "same")


async def test_the_same_weights_ship_within_some_tens_of_pairs(room: Any, paired: Any) -> None:
    made = await run(room, paired, lambda rng: 0.0, 90)
    found = made.likelihood
    assert (made.verdict, made.margin) == ("ship", "equivalent")
    assert found is not None
    assert abs(found.divergence.value or 1.0) < 0.005
    assert found.noise is not None
    assert abs(found.noise.value or 1.0) < 0.005
    assert found.agreement.value is not None
    assert found.agreement.value > 0.95
    assert (found.calls, found.noise_calls, found.tokens) == (90, 90, 90 * 40)
    assert {gate.name: gate.state for gate in made.gates}["likelihood"] == 1


async def test_another_model_is_rejected_within_some_tens_of_pairs(room: Any, paired: Any) -> None:
    made = await run(room, paired, lambda rng: -0.3, 40)
    found = made.likelihood
    assert made.verdict == "reject"
    assert found is not None
    assert found.divergence.value == pytest.approx(0.3, abs=0.02)
    assert found.perplexity_ratio.value == pytest.approx(1.35, abs=0.03)
    assert made.primary is not None
    assert made.primary.better == "lower"
    assert len(found.widest) == 10
    assert sum(each.calls for each in found.distribution) == 40
    assert abs(found.widest[0].difference) == max(abs(call.difference) for call in found.widest)
    assert len(found.widest[0].tokens) == 40
    assert found.widest[0].worst[0].token.difference < -0.3


async def test_a_tokenizer_that_differs_withholds_every_verdict(room: Any, paired: Any) -> None:
    plan, rng = likelihood_plan(), random.Random(1)
    await room.begin(plan)
    async with room.consuming():
        for i in range(40):
            records = pair(paired(plan, "1", EVERY), rng, lambda rng: -0.3)
            if i == 9:
                records[1] = scored(records[1], records[0].id, [" the", " sea"], [-0.5, -0.5])
            await room.send(*records)
        await room.until_settled(40)
    made = report(room)
    gate = next(gate for gate in made.gates if gate.name == "likelihood")
    assert (made.verdict, gate.state) == ("hold", -1)
    assert "different tokens" in gate.says
    assert "different tokens" in "; ".join(made.reasons)
    assert made.likelihood is not None
    assert made.likelihood.refused == (("the engines split the same answer into different tokens: candidate", 1),)


@pytest.mark.parametrize(("body", "status", "why"), [(b"{}", 200, "prompt_logprobs"), (b"{}", 400, "rejects")])
async def test_an_engine_without_log_probabilities_is_refused(
    room: Any, paired: Any, body: bytes, status: int, why: str
) -> None:
    """There is no value at all, and the report still says why."""
    plan, rng = likelihood_plan(), random.Random(1)
    await room.begin(plan)
    async with room.consuming():
        for _ in range(3):
            records = pair(paired(plan, "1", EVERY), rng, lambda rng: 0.0)
            records[1] = answered(records[1], records[0].id, "x", body, status)
            await room.send(*records)
        await room.until_settled(3)
    made = report(room)
    gate = next(gate for gate in made.gates if gate.name == "likelihood")
    assert (made.verdict, gate.state) == ("hold", -1)
    assert why in gate.says
    assert dict(made.withheld)[gate.says.partition(": ")[0] + ": candidate"] == 3
    assert "Refused" in to_html(made)


async def test_requests_for_a_likelihood_are_not_scored(room: Any, paired: Any) -> None:
    """Such a request has no answer, so a scorer's mean of the candidate would be of nothing."""
    await run(room, paired, lambda rng: 0.0, 3)
    assert {row[0] for row in room.sql("SELECT DISTINCT arm FROM scores")} == {"control"}
    with reading(room.store_url) as connection:
        later = places(connection, ExchangeFilter(), time.time() + 60, None)
    assert [place.place[2] for place in later] == ["control"] * 3


async def test_the_page_and_the_json_show_the_tokens_escaped(room: Any, paired: Any) -> None:
    made = await run(room, paired, lambda rng: -0.3, 25)
    page = to_html(made)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.partition("The calls that differ most")[2].partition("</section>")[0]
    assert 'class="less some"' in page
    assert "less likely under the candidate by 0.5 to 2 nats" in page
    read = to_dict(made)
    jsonschema_rs.validator_for(schema()).validate(read)
    assert len(read["likelihood"]["widest"]) == 10


async def test_segments_of_the_traffic_have_a_difference(room: Any, paired: Any) -> None:
    plan, rng = likelihood_plan(strata=["stream"]), random.Random(2)
    await room.begin(plan)
    async with room.consuming():
        for i in range(80):
            records = pair(paired(plan, "1", EVERY), rng, lambda rng, i=i: -0.4 * (i % 2))  # type: ignore[misc]
            records[0] = replace(records[0], caller="web" if i % 2 else "app", stream=bool(i % 2))
            await room.send(*records)
        await room.until_settled(80)
    made = report(room)
    segments = {(each.property, each.value): each for each in made.segments}
    assert segments["caller", "web"].found == "worse"
    assert segments["caller", "web"].difference.value == pytest.approx(-0.4, abs=0.05)
    assert segments["caller", "app"].found == "unclear"
    assert len(made.strata) == 2
