"""Prometheus reads the content of the store, weighted, under bounded labels."""

from __future__ import annotations

import random

import numpy as np
import pytest
from fixtures.stage_terms import Stage, exchange_terms, stage_sums
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.config import Config
from gateway.config.metric_labels import SCORED_ALIASES
from gateway.config.scorers import ScorerConfig
from gateway.consumer.gauges import Gauges
from gateway.core.exchange import Target
from gateway.observability.eval_metrics import EvalFigures, EvalMetrics
from gateway.observability.label_history import KEEP_S, LabelHistory
from gateway.store.score_sums import BUCKET_COUNT
from gateway.store.snapshot import CellKey, ScoreCell, StoreSnapshot
from gateway.stream import Lag

NO_LAG = Lag(0, 0, 0, 0.0)


def scraped(figures: EvalFigures) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    registry = CollectorRegistry()
    EvalMetrics(registry).figures = figures
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def cell(
    scorer="stated", version="1", model="local/small", arm="", stratum="default", weight=0.0, alias="chat", **n
) -> ScoreCell:
    counts = {"scored": 0, "not_applicable": 0, "error": 0, "timeout": 0, "budget": 0, **n}
    ones = float(counts["scored"])
    key = CellKey(scorer, version, "c1", alias, model, arm, stratum)
    buckets = (*(0.0,) * 10, weight, 0.0)
    assert len(buckets) == BUCKET_COUNT
    return ScoreCell(key, counts, ones, ones, 2.0 * sum(counts.values()), 0, weight, weight, buckets)


def test_the_promised_names_are_there(room):
    standing = StoreSnapshot((cell(scored=3, error=1, weight=8.0),), {"unreadable": 2}, 5, 7)
    found = scraped(Gauges(room.config, room.scorers).show(standing, Lag(9, 4, 2, 1.5)))
    of = (("arm", ""), ("model", "local/small"), ("scorer", "stated"))
    assert found["gateway_eval_scores_total"] == {
        tuple(sorted((*of, ("status", "scored")))): 3.0,
        tuple(sorted((*of, ("status", "error")))): 1.0,
    }
    assert found["gateway_eval_score_mean"] == {of: 1.0}
    assert found["gateway_eval_score_mean_low"][of] <= 1.0 == found["gateway_eval_score_mean_high"][of]
    assert found["gateway_eval_score_effective_samples"] == {of: 3.0}
    assert found["gateway_eval_score_weighted_sum_total"] == {of: 8.0}
    assert found["gateway_eval_score_weight_total"] == {of: 8.0}
    bucket = found["gateway_eval_score_bucket"]
    assert bucket[tuple(sorted((*of, ("le", "0.9"))))] == 0.0
    assert bucket[tuple(sorted((*of, ("le", "1.0"))))] == bucket[tuple(sorted((*of, ("le", "+Inf"))))] == 8.0
    assert found["gateway_eval_dead_letters_total"] == {(("reason", "unreadable"),): 2.0}
    plain = {
        "duplicates_total": 5.0, "unaccounted": 7.0, "oldest_unscored_seconds": 1.5, "stream_entries": 9.0,
        "stream_waiting": 4.0, "stream_pending": 2.0,
    }  # fmt: skip
    assert {name: found[f"gateway_eval_{name}"][()] for name in plain} == plain


def test_labels_stay_a_closed_set(room):
    cells = (cell(model="u/unknown", scored=1), cell(scorer="gone", scored=1), cell(arm="odd", scored=1))
    figures = Gauges(room.config, room.scorers).show(StoreSnapshot(cells, {}, 0, 0), NO_LAG)
    assert sorted((f.scorer, f.model, f.arm) for f in figures.scores) == [
        ("other", "local/small", ""),
        ("stated", "local/small", "other"),
        ("stated", "other", ""),
    ]


def config_of(*aliases: str) -> Config:
    upstreams = {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}}
    targets = [{"upstream": "local", "model": model} for model in ("small", "big")]
    return Config.model_validate(
        {"open": True, "upstreams": upstreams, "models": {alias: {"targets": targets} for alias in aliases}}
    )


def alias_weights(gauges: Gauges, *cells: ScoreCell) -> dict[tuple[str, ...], float]:
    """Weights by alias, upstream, model, scorer and arm."""
    figures = gauges.show(StoreSnapshot(cells, {}, 0, 0), NO_LAG)
    by_series = scraped(figures).get("gateway_eval_alias_score_weight_total", {})
    names = ("alias", "upstream", "model", "scorer", "arm")
    return {tuple(dict(labels)[name] for name in names): weight for labels, weight in by_series.items()}


def test_scores_are_shown_by_alias_and_target(room):
    cells = [
        cell(alias="support", weight=1.0, scored=1),
        cell(alias="code", weight=2.0, scored=1),
        cell(alias="code", model="local/big", weight=4.0, scored=1, arm="control"),
        cell(alias="code", stratum="error", weight=8.0, scored=1),
        cell(alias="code", model="local/gone", weight=16.0, scored=1),
        cell(alias="gone", weight=32.0, scored=1),
    ]
    assert alias_weights(Gauges(config_of("support", "code"), room.scorers), *cells) == {
        ("support", "local", "small", "stated", ""): 1.0,
        ("code", "local", "small", "stated", ""): 10.0,
        ("code", "local", "big", "stated", "control"): 4.0,
    }


def test_aliases_beyond_200_share_their_scores(room):
    gauges = Gauges(config_of(*(f"a{n}" for n in range(SCORED_ALIASES + 2))), room.scorers)
    cells = [cell(alias=f"a{n}", weight=1.0, scored=1) for n in range(SCORED_ALIASES + 2)]
    shown = alias_weights(gauges, *cells)
    assert len(shown) == SCORED_ALIASES + 1
    assert shown["a199", "local", "small", "stated", ""] == 1.0
    assert shown["other", "other", "other", "stated", ""] == 2.0


def test_scores_of_a_deleted_alias_are_shown_for_an_hour(room):
    now = [1e6]
    history = LabelHistory(clock=lambda: now[0])
    Gauges(config_of("chat", "old"), room.scorers, history=history)
    gauges = Gauges(config_of("chat"), room.scorers, history=history)
    cells = [cell(weight=1.0, scored=1), cell(alias="old", weight=2.0, scored=1)]
    assert set(alias_weights(gauges, *cells).values()) == {1.0, 2.0}
    now[0] += KEEP_S + 1
    assert set(alias_weights(gauges, *cells).values()) == {1.0}


def test_the_mean_is_of_the_running_version_counters_of_all(room):
    cells = (cell(version="0", scored=9, weight=9.0), cell(version="1", scored=2, weight=4.0))
    (figures,) = Gauges(room.config, room.scorers).show(StoreSnapshot(cells, {}, 0, 0), NO_LAG).scores
    assert figures.by_status == {"scored": 11}
    assert figures.weight == 13.0
    assert figures.mean == 1.0
    old = Gauges(room.config, room.scorers).show(StoreSnapshot(cells[:1], {}, 0, 0), NO_LAG).scores[0]
    assert (old.mean, old.low, old.high) == (None, None, None)


async def test_the_mean_is_over_all_traffic_not_over_the_sample(room, exchange, tally):
    """Errors are all recorded and score 0; one call in ten of the rest is, and scores 1."""
    rng = random.Random(3)
    calls = ["error" if rng.random() < 0.2 else "default" for _ in range(1000)]
    sent = [
        exchange("0" if stratum == "error" else "1", stratum=stratum, pi=pi)
        for stratum in calls
        if rng.random() < (pi := 1.0 if stratum == "error" else 0.1)
    ]
    seen = {stratum: calls.count(stratum) for stratum in ("error", "default")}
    async with room.consuming():
        await room.send(*sent, tally(sent, seen))
        await room.until_read()
    (figures,) = room.shown[-1].scores
    truth = seen["default"] / 1000
    naive = sum(e.stratum == "default" for e in sent) / len(sent)
    assert figures.mean == pytest.approx(truth)
    assert figures.low < truth < figures.high
    assert abs(naive - truth) > 0.4
    assert figures.weighted_sum / figures.weight == pytest.approx(truth)


async def test_each_target_and_arm_is_shown_apart(room, exchange, tally):
    sent = [
        exchange("1"),
        exchange("0", arm="control"),
        exchange("0.5", target=Target("local", "new"), arm="candidate"),
    ]
    async with room.consuming():
        await room.send(*sent, tally(sent))
        await room.until_read()
    assert {(f.model, f.arm): f.mean for f in room.shown[-1].scores} == {
        ("local/small", ""): 1.0,
        ("local/small", "control"): 0.0,
        ("other", "candidate"): 0.5,
    }


def test_the_nearer_of_two_budget_limits_is_shown(room):
    limited = {"both": {"budget_usd": 5.0, "budget_tokens": 100}, "one": {"budget_usd": 2.0}, "free": {}}
    scorers = {name: ScorerConfig.model_validate({"use": "length", **of}) for name, of in limited.items()}
    gauges = Gauges(room.config.model_copy(update={"scorers": scorers}), room.scorers)
    spent = {"both:usd": 1.0, "both:tokens": 50.0, "free:usd": 9.0}
    assert gauges.budgets(spent) == {"both": 0.5, "one": 0.0}


def test_a_guided_mean_uses_the_predictions_unless_they_are_off(room):
    """A fifth of 400 exchanges was judged, and g is right: the interval is much narrower, until the card says off."""
    rng = np.random.default_rng(3)
    h, drawn = rng.random(400), rng.random(400) < 0.2
    terms = exchange_terms(h, [Stage(drawn, 0.2, h)])
    known = cell(scored=int(drawn.sum()))
    guided = {known.key: stage_sums("default", terms)}
    harmful = {"variance_ratio_low": 1.2, "variance_ratio": 1.5, "variance_ratio_high": 1.9}

    def shown(cards):
        snapshot = StoreSnapshot((known,), {}, 0, 0, guided=guided, cards=cards)
        (figures,) = Gauges(room.config, room.scorers).show(snapshot, NO_LAG).scores
        return figures

    used, off = shown({}), shown({"labels:stated": harmful})

    assert used.mean == pytest.approx(h.mean(), abs=0.01)
    assert used.high - used.low < 0.7 * (off.high - off.low)
    assert off.low < h.mean() < off.high
    assert used.effective_n > 2 * off.effective_n
