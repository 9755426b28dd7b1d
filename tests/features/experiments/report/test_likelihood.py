"""Tokens are marked by size and direction in words as well, and the terminal says the same as the page."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from fixtures.likelihoods import answered, likelihood_plan, pair, response, scored

from gateway.core.likelihood import AnswerToken
from gateway.core.plan import AGAIN
from gateway.features.experiments.report.as_json import schema, to_dict
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.report.html import to_html
from gateway.features.experiments.report.likelihood import (
    PLAIN,
    distribution,
    likelihood_lines,
    settings_of,
    token_class,
    token_differences,
    what_it_estimates,
    worst_tokens,
)
from gateway.reports.charts import LikelihoodBars, likelihood_chart
from gateway.reports.model import Estimate, LikelihoodBin, LikelihoodCall, LikelihoodFinding, Report, TokenLikelihood
from gateway.store.missing_scores import places
from gateway.store.query import ExchangeFilter, reading

NONE = Estimate(None)


def found(**changes: object) -> LikelihoodFinding:
    call = LikelihoodCall("0190-x", 0.21, (TokenLikelihood(" sea", -0.1, -3.0, " lake"),), 0, ())
    fields = {
        "calls": 3, "tokens": 120, "control": Estimate(0.5), "candidate": Estimate(0.52),
        "divergence": Estimate(0.02, 0.01, 0.03), "noise": None, "noise_calls": 0, "agreement": Estimate(0.97),
        "noise_agreement": None, "perplexity_ratio": Estimate(1.02), "sampled": (("temperature 1, top_p 1", 3),),
        "estimates": "Every answer …", "distribution": (LikelihoodBin(0.0, 0.1, 3, 1),), "refused": (("why", 2),),
        "widest": (call,), **changes,
    }  # fmt: skip
    return LikelihoodFinding(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("difference", "look"),
    [
        (-3.0, "less much"), (-0.6, "less some"), (-0.2, "less little"), (0.0, ""), (0.09, ""),
        (0.2, "more little"), (2.0, "more much"),
    ],
)  # fmt: skip
def test_a_token_is_marked_by_size_and_direction(difference: float, look: str) -> None:
    assert token_class(difference) == look


def test_the_terminal_has_the_numbers() -> None:
    lines = "\n".join(likelihood_lines(found()))
    for part in ("+0.0200", "1.0200", "0.9700", "Every answer", "refused, why: 2 pairs", "0190-x: +0.2100"):
        assert part in lines
    assert likelihood_lines(found(divergence=NONE)) == ["why: 2 pairs"]
    assert likelihood_lines(None) == []


def test_the_chart_says_in_words_what_it_draws() -> None:
    chart = likelihood_chart(LikelihoodBars("c", "Calls", found().distribution, 0.02))
    assert chart is not None
    assert "3 calls" in chart.description
    assert "itself: 1 call" in chart.description
    assert likelihood_chart(LikelihoodBars("c", "Calls", (), 0.02)) is None


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


@pytest.mark.parametrize(
    ("request_", "setting"),
    [
        (b'{"temperature":1,"top_p":1.0}', PLAIN),
        (b'{"temperature":1}', PLAIN),
        (b'{"temperature":0.7,"top_p":0.9}', "temperature 0.7, top_p 0.9"),
        (b'{"temperature":1,"top_k":40}', "temperature 1, top_p 1, top_k"),
        (b"{}", "temperature not stated"),
        (b"no JSON", "temperature not stated"),
    ],
)
def test_the_estimand_depends_on_the_sampling(request_: bytes, setting: str) -> None:
    assert settings_of([request_]) == Counter([setting])
    says = what_it_estimates({setting: 3})
    assert ("Every answer" in says) == (setting == PLAIN)
    assert ("is not a KL divergence" in says) == (setting != PLAIN)


def test_the_distribution_holds_every_call() -> None:
    values = [i / 100 for i in range(200)]
    bins = distribution([*values, 50.0], [0.0] * 7)
    assert sum(b.calls for b in bins) == 201
    assert sum(b.noise for b in bins) == 7
    assert bins[-1].high < 3.0
    assert sum(b.calls for b in distribution([0.1, 0.1], [])) == 2
    assert distribution([], []) == ()


def test_the_worst_tokens_stand_in_their_context() -> None:
    a = [AnswerToken(text, -0.5, 1, text, -0.5) for text in ("The", " sea", " is", " red")]
    b = [replace(token, logprob=-0.5 - i, best=" cold") for i, token in enumerate(a)]
    tokens = token_differences(a, b)
    assert tokens[3] == TokenLikelihood(" red", -0.5, -3.5, " cold")
    first, *_, last = worst_tokens(tokens)
    assert (first.before, first.token.text) == ("The sea is", " red")
    assert last.token.text == " sea"
    assert token_differences(a, b[:2]) == ()
    assert response(["x"], [-1.0])
