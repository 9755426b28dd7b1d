"""Precision and recall of guards from drawn labels: that their intervals cover the truth, and when there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gateway.core.guards import GuardResult
from gateway.features.guards.evidence import GuardEvidence, GuardRecords, estimated
from gateway.features.guards.hourly.hours import DecisionRow, summed
from gateway.features.labels.correction import LabelCandidate, in_order, threshold
from gateway.features.labels.rows import ScorerVersion
from gateway.statistics.paired import wilson

NAME = "guard g"
VERSION = ScorerVersion(NAME, "answer", "h", "exchange", "maximise")
JUDGED = {"hit": 0.0, "near": 0.25, "pass": 1.0}


@dataclass(frozen=True)
class Call:
    """A recorded call."""

    id: str
    result: GuardResult
    wanted: bool
    """A hit would be right."""
    pi: float = 1.0
    created: float = 0.0
    caller: str = "web"


@dataclass(frozen=True)
class Traffic:
    """A law by which guarded calls are made and recorded."""

    calls: int = 3000
    hit: float = 0.03
    near: float = 0.03
    precision: float = 0.8
    near_wanted: float = 0.3
    missed: float = 0.02
    sampled: float = 0.3
    """π of half of the calls without a hit, which should have one nine times as often; for the others, twice it."""

    def make(self, seed: int) -> tuple[list[Call], float, float]:
        """The recorded calls, in the order of their arrival, the precision and the recall of all calls."""
        rng = np.random.default_rng(seed)
        u, v, w, odd = rng.random((4, self.calls))
        results = np.where(u < self.hit, "hit", np.where(u < self.hit + self.near, "near", "pass"))
        chance = {"hit": self.precision, "near": self.near_wanted, "pass": self.missed}
        more = np.where(results != "pass", 1.0, np.where(odd < 0.5, 1.8, 0.2))
        wanted = v < more * np.array([chance[r] for r in results])
        pi = np.where(results == "pass", np.where(odd < 0.5, self.sampled, 2 * self.sampled), 1.0)
        kept = [i for i in range(self.calls) if w[i] < pi[i]]
        calls = [Call(f"{seed}-{i}", results[i], bool(wanted[i]), float(pi[i]), float(i)) for i in kept]
        found = float((wanted & (results == "hit")).sum())
        return calls, found / float((results == "hit").sum()), found / float(wanted.sum())


def drawn(calls: Sequence[Call], count: int, favour: float, seen: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The rows of the labels of the next `count` calls, each labelled with the truth."""
    candidates = [LabelCandidate(c.id, JUDGED[c.result], c.created) for c in calls]
    ordered = in_order(NAME, candidates, favour)
    chosen = [c.id for _, c in ordered if c.id not in set(seen)][:count]
    reached, horizon = threshold(ordered, {*seen, *chosen}), max(c.created for c in calls)
    by_id = {c.id: c for c in calls}
    return [row(by_id[id], favour, reached, horizon) for id in chosen]


def row(call: Call, favour: float, reached: float | None, horizon: float) -> dict[str, Any]:
    design = {"pool": "", "favour": favour, "threshold": reached, "share": None, "horizon": horizon}
    of_call = {"judged": JUDGED[call.result], "created": call.created, "stratum": call.result, "weight": 1 / call.pi}
    of_call |= {"caller": call.caller, "received": call.created}
    empty = {"experiment": "", "plan": None, "arm": "", "alias": "a", "model": "m", "unit": call.id}
    value = 0.0 if call.wanted else 1.0
    return {"subject_id": call.id, "labeller": "ada", "value": value, **design, **of_call, **empty}


def evidence(calls: Sequence[Call], labels: Sequence[dict[str, Any]], *, sampled: bool = True) -> GuardEvidence:
    hours = summed(decision(call, sampled=sampled) for call in calls)
    return estimated(GuardRecords(VERSION, hours, labels, ()))


def decision(call: Call, *, sampled: bool) -> DecisionRow:
    stratum = "default" if sampled else "guard:g"
    found = (call.result, None, JUDGED[call.result], False, 0.001, call.pi, stratum, call.created)
    return DecisionRow(call.caller, call.id, "answer", "h", "block", *found)


@dataclass(frozen=True)
class Coverage:
    """Shares of runs whose interval covers the truth."""

    precision: float
    """Coverage of the precision of these calls."""
    rate: float
    """Coverage of the precision of all traffic that is like them."""
    recall: float
    """Coverage of the recall of these calls."""
    off: float
    """The mean estimate of the precision minus that of all traffic."""


def studies(runs: int, traffic: Traffic, first: int, then: int) -> Coverage:
    """A part is labelled when two thirds of the calls have arrived, the others later and with another favour."""
    covered, off = [], []
    for seed in range(runs):
        calls, precision, recall = traffic.make(seed)
        early = drawn(calls[: 2 * len(calls) // 3], first, 8.0)
        labels = early + drawn(calls, then, 20.0, [r["subject_id"] for r in early])
        found = evidence(calls, labels)
        assert found.precision is not None
        assert found.recall is not None, found.recall_unknown
        assert len(labels) == first + then
        p, r = found.precision, found.recall
        truths = (p.low <= precision <= p.high, p.low <= traffic.precision <= p.high, r.low <= recall <= r.high)
        covered.append(truths)
        off.append(p.share - traffic.precision)
    return Coverage(*(float(share) for share in np.mean(covered, axis=0)), float(np.mean(off)))


@pytest.mark.parametrize(
    ("traffic", "runs"),
    [
        (Traffic(1000, hit=0.06), 200),
        *(
            pytest.param(each, 2000, marks=(pytest.mark.long, pytest.mark.timeout(1800)))
            for each in (Traffic(), Traffic(precision=0.97), Traffic(precision=0.5, near=0.0), Traffic(missed=0.001))
        ),
    ],
)
def test_intervals_from_100_labels_cover_the_truth(traffic: Traffic, runs: int) -> None:
    """At least 92 % of 2 000 runs cover it; of 200, four standard errors less."""
    least = 0.92 if runs == 2000 else 0.84
    found = studies(runs, traffic, 50, 50)
    assert min(found.precision, found.rate, found.recall) >= least, found
    assert abs(found.off) < (0.01 if runs == 2000 else 0.03), found


CALLS, _, _ = Traffic(600).make(5)


def test_the_share_of_hits_is_weighted_by_the_probability() -> None:
    calls = [Call("1", "hit", True), *(Call(f"{i}", "pass", False, 0.1) for i in range(2, 11))]
    found = evidence(calls, [])
    assert found.calls == pytest.approx(91)
    assert found.hit is not None
    assert found.hit.share == pytest.approx(1 / 91)
    [key] = found.keys
    assert (key.key, round(key.calls), key.hits) == ("web", 91, 1)
    assert (found.precision, found.recall) == (None, None)


def test_the_precision_of_equal_weights_is_that_of_a_plain_sample() -> None:
    calls = [Call(str(i), "hit", i < 31, created=1.0) for i in range(40)]
    found = evidence(calls, drawn(calls, 40, 8.0)).precision
    assert found is not None
    assert (found.right, found.labelled) == (31, 40)
    assert (round(found.low, 2), round(found.high, 2)) == (0.62, 0.88)


def test_a_call_that_was_recorded_rarely_represents_more() -> None:
    calls = [Call(str(i), "hit", i < 20, 1.0 if i < 20 else 0.1) for i in range(40)]
    found = evidence(calls, drawn(calls, 40, 8.0)).precision
    assert found is not None
    assert found.share == pytest.approx(20 / 220)
    assert found.low < 20 / 220 < found.high < 0.5


def test_without_sampling_recall_is_unknown_and_precision_is_not() -> None:
    found = evidence(CALLS, drawn(CALLS, 100, 8.0), sampled=False)
    assert found.precision is not None
    assert found.recall is None
    assert "set sampling.rate above 0" in (found.recall_unknown or "")


def test_recall_needs_labels_of_every_kind() -> None:
    hits = [c for c in CALLS if c.result == "hit"]
    labels = drawn(CALLS, len(CALLS), 8.0)
    of_hits = [r for r in labels if r["subject_id"] in {c.id for c in hits}]
    found = evidence(CALLS, of_hits)
    assert found.recall_unknown == "no call nearly hit and none without a hit is labelled yet"
    fine = [r | {"value": 1.0} for r in labels]
    assert evidence(CALLS, fine).recall_unknown == "none of the labelled calls should have had a hit"


def test_a_label_that_no_draw_reached_is_left_out() -> None:
    """Somebody labelled a call chosen by hand: it has no probability."""
    labels = drawn(CALLS, 40, 8.0)
    [other] = [c for c in CALLS if c.id not in {r["subject_id"] for r in labels}][:1]
    assert evidence(CALLS, [*labels, row(other, 1.0, None, 0.0)]) == evidence(CALLS, labels)


def test_labels_of_one_conversation_widen_the_interval() -> None:
    labels = drawn(CALLS, 100, 8.0)
    alone, together = evidence(CALLS, labels), evidence(CALLS, [r | {"unit": r["value"]} for r in labels])
    assert alone.precision is not None
    assert together.precision is not None
    assert together.precision.share == alone.precision.share
    assert together.precision.low < alone.precision.low


HOURS, CALLS_AN_HOUR = 168, 20


@dataclass(frozen=True)
class Bursts:
    """A week of calls, whose hits come in bursts: of one key, within an hour, and all right or all wrong."""

    bursts: float = 40.0
    """Number of bursts in the mean of many weeks."""
    size: int = 8
    precision: float = 0.7

    @property
    def share(self) -> float:
        """Share of hits in the long run."""
        hits = self.bursts * self.size
        return hits / (HOURS * CALLS_AN_HOUR + hits)

    def make(self, seed: int) -> list[Call]:
        rng = np.random.default_rng(seed)
        calls = [
            Call(f"{seed}-{i}", "pass", False, 1.0, 3600.0 * HOURS * rng.random()) for i in range(HOURS * CALLS_AN_HOUR)
        ]
        for burst in range(rng.poisson(self.bursts)):
            hour, right = 3600.0 * rng.integers(HOURS), bool(rng.random() < self.precision)
            for i in range(self.size):
                at = hour + 3599.0 * rng.random()
                calls.append(Call(f"{seed}-{burst}-{i}", "hit", right, 1.0, at, f"key {burst % 5}"))
        return sorted(calls, key=lambda call: call.created)


def covered(runs: int, traffic: Bursts) -> tuple[float, float]:
    """Shares of weeks whose intervals cover the share of hits, and the precision, of many weeks."""
    found = []
    for seed in range(runs):
        calls = traffic.make(seed)
        of = evidence(calls, drawn(calls, 100, 8.0))
        assert of.hit is not None
        assert of.precision is not None
        found.append(
            (of.hit.low <= traffic.share <= of.hit.high, of.precision.low <= traffic.precision <= of.precision.high)
        )
    hits, precision = np.mean(found, axis=0)
    return float(hits), float(precision)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("traffic", [Bursts(), Bursts(20.0, 15), Bursts(320.0, 1), Bursts(80.0, 4, 0.95)])
def test_intervals_cover_where_hits_come_in_bursts(traffic: Bursts) -> None:
    """At least 92 % of 1 000 weeks are covered."""
    found = covered(1000, traffic)
    assert min(found) >= 0.92, found


def test_bursts_widen_both_intervals_and_single_hits_do_not() -> None:
    """Bursts widen them by the root of their size; with hits one by one, the width is Wilson's."""

    def widths(traffic: Bursts) -> tuple[float, float]:
        calls = traffic.make(3)
        of = evidence(calls, drawn(calls, 200, 8.0))
        assert of.hit is not None
        assert of.precision is not None
        plain = [wilson(s.share * n, n, 0.05) for s, n in ((of.hit, len(calls)), (of.precision, of.precision.labelled))]
        ours = (of.hit, of.precision)
        first, second = ((s.high - s.low) / (p[1] - p[0]) for s, p in zip(ours, plain, strict=True))
        return first, second

    assert min(widths(Bursts(30.0, 12))) > 1.8
    assert max(widths(Bursts(360.0, 1))) < 1.2


def test_without_a_hit_the_upper_end_is_that_of_the_calls() -> None:
    calls = [Call(str(i), "pass", False, 1.0, 600.0 * i) for i in range(3000)]
    hit = evidence(calls, []).hit
    assert hit is not None
    assert (hit.share, hit.low) == (0.0, 0.0)
    assert hit.high == pytest.approx(wilson(0, 3000, 0.05)[1])


def test_a_day_of_hits_widens_the_interval_of_a_month() -> None:
    """Hours agree within a day; days tell that the hits are of one incident."""

    def month(days: Sequence[int]) -> float:
        calls = [
            Call(f"{h}-{i}", "hit" if h // 24 in days and i == 0 else "pass", True, 1.0, 3600.0 * h + i)
            for h in range(720)
            for i in range(5)
        ]
        hit = evidence(calls, []).hit
        assert hit is not None
        return hit.high

    assert month([7]) > 2 * 24 / 3600


def test_few_blocks_are_said_to_be_few() -> None:
    assert evidence(CALLS, []).few_blocks
    assert not evidence(Bursts().make(1), []).few_blocks
