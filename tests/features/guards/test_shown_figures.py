"""Guards and their ramps show each share within its interval: in texts, as JSON, and in the chart."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.shown_figures import drawn, figures_in_json, figures_in_svg, figures_in_text, outside
from rich.console import Console

from gateway.core.guard_ramp import CountedCall, GuardRampDesign, guard_ramp_begun
from gateway.core.ramp import RampChange, RampPace
from gateway.features.guards.evidence import GuardEvidence, KeyShare, LabelledShare
from gateway.features.guards.hourly.charts import RateChart, RatePoint, rate_chart
from gateway.features.guards.ramp.commands import ComparisonOutput, GuardRampOutput
from gateway.features.guards.ramp.view import ShownRamp
from gateway.features.guards.report import notes, ramp_lines, sentence, to_dict, to_terminal
from gateway.ramps.guard_promotion import FIRST, GuardCalls, block_rate, promotion_evidence
from gateway.ramps.periods import StepPeriod
from gateway.statistics.detection import ClusterSums, PartSums, ShareEstimate, WeightSums, recall, share_of_calls

START = 1_000_000.0
DESIGN = GuardRampDesign("block", "observe", "c1", (0.25, 1.0), 3600.0, 100, 0.02, 0.02, 0.02, 600.0, 0.05)


def weighted(rng: random.Random, calls: int) -> WeightSums:
    total = WeightSums()
    for weight in (1.0 / rng.choice([1.0, 0.1, 0.01]) for _ in range(calls)):
        total += WeightSums(weight, weight * weight)
    return total


def shares(count: int = 300) -> Iterator[tuple[ShareEstimate, ShareEstimate]]:
    """Shares of calls, and recalls: no hit, hits alone, few clusters, one heavy one, weights of 1 to 100."""
    rng = random.Random(7)
    while count:
        hits, others = (weighted(rng, rng.choice([0, 1, 3, 400])) for _ in range(2))
        if hits.weight + others.weight <= 0:
            continue
        clusters = ClusterSums()
        for part in (0.9, *(0.1 / 5 for _ in range(rng.choice([1, 5])))):
            clusters = clusters.with_cluster(hits.weight * part, (hits.weight + others.weight) * part)
        share = share_of_calls(hits, others, 0.05, [clusters])
        wanted = ShareEstimate(rng.random(), 0.0, 1.0)
        missed = PartSums(others, replace(wanted, share=0.02, high=0.05))
        found = recall(PartSums(hits, wanted), [missed]) if hits.weight else None
        count -= 1
        yield share, found or share


def evidence(share: ShareEstimate, found: ShareEstimate) -> GuardEvidence:
    labelled = LabelledShare(found.share, found.low, found.high, 31, 40)
    return GuardEvidence(
        guard="own", on="answer", action="block", config_hash="c1", since=START, recorded=10, other_configs=0,
        calls=10.0, hit=share, near=share, failed=share, keys=(KeyShare("k", 10.0, 1.0, share),), labels=40,
        precision=labelled, recall=labelled, missed=labelled, recall_unknown=None,
    )  # fmt: skip


def on_terminal(found: GuardEvidence) -> str:
    written = io.StringIO()
    Console(width=400, file=written).print(to_terminal([found], whole=True))
    return written.getvalue()


def test_shares_of_guards_lie_in_their_intervals() -> None:
    seen = 0
    for share, found in shares():
        of = evidence(share, found)
        assert outside(figures_in_json(orjson.loads(orjson.dumps(to_dict(START, [of]))))) == []
        for text in (sentence(of), *notes(of)):
            seen += len(list(figures_in_text(text)))
            assert outside(figures_in_text(text)) == [], (text, share)
    assert seen >= 300
    assert on_terminal(of).count("…") >= 4


def test_a_share_is_written_as_finely_as_its_interval() -> None:
    """88 to 89 % left out 87.6 %, which is their share."""
    of = LabelledShare(0.8760, 0.8751, 0.8852, 31, 40)
    (text,) = (line for line in notes(replace(evidence(*next(shares())), recall=of)) if line.startswith("finds"))
    assert len(list(figures_in_text(text))) == 1, text
    assert outside(figures_in_text(text)) == []


def test_the_chart_of_hits_draws_each_share_within_its_interval() -> None:
    found = [share for share, _ in shares(60)]
    points = [RatePoint(START + 3600 * i, START + 3600 * (i + 1), share, 10.0) for i, share in enumerate(found)]
    chart = rate_chart(RateChart("c", "Hits", points, START, START + 3600 * 60))
    assert chart is not None
    figures = list(figures_in_svg(drawn(chart)))
    assert len(figures) >= 40
    assert outside(iter(figures)) == []


def calls(rng: random.Random, hits: float, *, heavy: bool) -> Iterator[CountedCall]:
    """Units of four callers, or nearly all of one; a tenth acts, and what acts is retried more."""
    for i in range(1200):
        at, caller = START + 61.0 + 5 * i, "k0" if heavy and i % 10 else f"k{i % 4}"
        acted, result = i % 4 == 0, ("hit" if rng.random() < hits else "pass")
        made = CountedCall(f"{i}", at, caller, f"u{i}", "block" if acted else "observe", result, f"p{i}")  # type: ignore[arg-type]
        yield made
        if rng.random() < (0.3 if acted else 0.02):
            yield replace(made, id=f"{i}again", received=at + 1)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("hits", [0.0, 0.015, 0.3, 1.0])
def test_the_ramp_of_a_guard_shows_points_in_intervals(hits: float, heavy: bool) -> None:
    made = sorted(calls(random.Random(3), hits, heavy=heavy), key=lambda call: call.received)
    periods = [StepPeriod(FIRST, START, START), StepPeriod(0, START, START + 1e6)]
    found = promotion_evidence(DESIGN, periods, GuardCalls(made, {"4", "8"}), START + 20_000.0)
    record = guard_ramp_begun("own", DESIGN, RampChange(START, "ada", "as agreed"), None)
    fields = orjson.loads(orjson.dumps(found.for_step(record, DESIGN, START + 20_000.0, RampPace("auto")).fields()))
    figures = list(figures_in_json(fields))
    assert len(figures) >= 3
    assert outside(iter(figures)) == []
    output: Any = {
        **dict.fromkeys(GuardRampOutput.__annotations__), "guard": "own", "action": "block", "otherwise": "observe",
        "share": 0.25, "to": "block", "state": "ramp", "step": 0, "steps": [0.25, 1.0], "reason": "", "by": "",
        "paused": False, "waits_for": [found.ramp.sentence], "block_rate": fields["block_rate"],
        "compared": [{name: proof[name] for name in ComparisonOutput.__annotations__} for proof in fields["proofs"]],
    }  # fmt: skip
    lines = [*ramp_lines(output), *ShownRamp(output, (), None).lines()]
    seen = [figure for line in lines for figure in figures_in_text(line)]
    assert len(seen) >= 3, lines
    assert outside(iter(seen)) == []
    assert block_rate(DESIGN, made, late_blocks=True).low <= block_rate(DESIGN, made, late_blocks=True).rate
