"""Every mistake in an experiment says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.loading import parse
from tests.config.checks.mistaken_config import SWAP, mistakes, with_experiments

EXPERIMENTS: list[tuple[dict[str, Any], str]] = [
    ({"model": "chatt"}, 'swap.model: no model "chatt"; did you mean "chat"?'),
    ({"control": {"upstream": "a", "model": "other"}}, "swap.control: a/other is not a target of models.chat"),
    ({"primary": "feedback:thumb"}, "swap.primary: people rate only answers that they are served"),
    ({"mode": "both", "primary": "feedback:thumb"}, "swap.primary: people rate only answers that they are served"),
    ({"guardrails": {"feedback:a b": 0.1}, "mode": "split"}, 'swap.guardrails.feedback:a b: "feedback:a b": the name'),
    ({"feedback_window_s": 60}, "swap.feedback_window_s: has no effect, as no feedback is the primary or a guardrail"),
    (
        {"control": {"upstream": "a", "model": "m", "set": {"temperature": 0}}},
        "swap.control: a/m is a target of models.chat with other `set`, `system` or `headers`",
    ),
    (
        {"candidate": {"upstream": "b", "model": "n", "system": "S"}, "allow": {"apis": ["completions"]}},
        "swap.allow.apis: completions have no system message, and arm candidate sets one",
    ),
    ({"candidate": {"upstream": "bb", "model": "n"}}, 'swap.candidate.upstream: no upstream "bb"'),
    ({"candidate": None}, "swap.candidate: give one candidate, or several"),
    ({"candidates": {"x": {"upstream": "b", "model": "n"}}}, "swap.candidate: give one candidate, or several"),
    (
        {"candidate": None, "candidates": {"control": {"upstream": "b", "model": "n"}}},
        'swap.candidates.control: "control" is the name of the control\'s own arm',
    ),
    ({"allow": {"keys": ["wep"]}}, 'swap.allow.keys[0]: no key "wep"; did you mean "web"?'),
    ({"primary": "refusals"}, 'swap.primary: no scorer and no metric "refusals"; did you mean "refusal"?'),
    ({"primary": "refusal", "guardrails": {"refusal": 0.1}}, 'swap.guardrails.refusal: "refusal" is the primary'),
    ({"guardrails": {"eror_rate": 0.1}}, 'swap.guardrails.eror_rate: no scorer and no metric "eror_rate"'),
    ({"strata": ["model"]}, "swap.strata[0]: expected one of caller, api, stream"),
    ({"mode": "split", "shadow": 0.2}, "swap.shadow: has no effect with `mode: split`"),
    ({"split": 0.2}, "swap.split: has no effect with `mode: shadow`"),
    ({"record": 0.5}, "swap.record: has no effect with `mode: shadow`"),
    ({"deadline_s": 10}, "swap.deadline_s: 10 is below the 60 s that a served answer may take"),
    ({"budget": {"concurrency": 1}}, "swap.budget.concurrency: 1 is below the 2 requests of one shadow"),
    ({"repeat_control": 0}, "swap.repeat_control: 0, so the A/A alarm never sees the control twice"),
    ({"compare": "repeat", "repeat_control": 0.5}, "swap.repeat_control: 0.5, but `compare: repeat` needs every"),
    ({"stationary": True, "method": "hybrid"}, "swap.stationary: true contradicts `method: hybrid`"),
    ({"stationary": False, "method": "stationary"}, "swap.stationary: false contradicts `method: stationary`"),
    ({"max_pairs": 500, "method": "anytime"}, "swap.max_pairs: has no effect with `method: anytime`"),
    ({"max_pairs": 500, "mode": "both"}, "swap.max_pairs: has no effect with `mode: both`"),
    ({"max_pairs": 5}, "swap.max_pairs"),
    ({"aa": "proof", "mode": "split"}, "swap.aa: has no effect with `mode: split`"),
    (
        {"population": "these", "mode": "split"},
        "swap.population: has no effect with `mode: split`, which counts its `unit`",
    ),
    (
        {"dependence": {"blocks_min": 360}},
        "swap.dependence.blocks_min: min_hours 24 has fewer than 10 blocks of 360 minutes, too few for a verdict that "
        "counts them; set min_hours to 60 or more",
    ),
    ({"dependence": {"blocks_min": 120}, "min_hours": 0}, "swap.dependence.blocks_min: min_hours 0 has fewer than 10"),
    ({"dependence": {"blocks_min": 5}}, "swap.dependence.blocks_min: "),
    ({"aa": "never"}, "swap.aa: input should be 'alarm' or 'proof', got 'never'"),
    ({"method": "hybird"}, "swap.method: input should be 'hybrid', 'anytime', 'guaranteed' or 'stationary'"),
    ({"start": "2026-12-02", "stop": "2026-12-01"}, "swap.stop: not after its start"),
    ({"start": "soon"}, "swap.start: expected a time such as 2026-12-01T09:00:00Z, got 'soon'"),
    ({"shadw": 0.1}, 'swap.shadw: unknown key; did you mean "shadow"?'),
    ({"mode": "likelihood", "primary": "refusal"}, "swap.primary: `mode: likelihood` is decided by nats_per_token"),
    (
        {"mode": "likelihood", "guardrails": {"refusal": 0.1}},
        "swap.guardrails.refusal: in `mode: likelihood` the candid",
    ),
    ({"mode": "likelihood", "margin": 0}, "swap.margin: 0, which no engine can be shown to meet"),
    ({"mode": "likelihood", "method": "guaranteed"}, "swap.method: guaranteed needs values with bounds"),
    ({"mode": "likelihood", "method": "anytime", "max_pairs": 50}, "swap.max_pairs: has no effect with `method: any"),
    ({"mode": "likelihood", "aa": "proof"}, "swap.aa: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "compare": "served"}, "swap.compare: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "split": 0.1}, "swap.split: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "allow": {"apis": ["completions"]}}, "swap.allow.apis: `mode: likelihood` reads chat"),
    ({"mode": "likelihood", "budget": {"concurrency": 2}}, "swap.budget.concurrency: 2 is below the 3 requests"),
    (
        {"mode": "likelihood", "candidate": None, "candidates": {"repeat_again": {"upstream": "b", "model": "n"}}},
        'swap.candidates.repeat_again: "repeat_again" is the name of the control\'s own arm',
    ),
    (
        {"mode": "likelihood", "candidate": {"upstream": "c", "model": "n"}},
        "swap.candidate.upstream: c is of kind anth",
    ),
    ({"primary": "refusal", "margin": 0}, "swap.margin: 0, which no candidate can be shown to meet"),
    ({"candidate": {"upstream": "a", "model": "m"}}, "swap.candidate: is the control itself (a/m)"),
    (
        {"candidate": None, "candidates": {"same": {"upstream": "a", "model": "m"}}},
        "swap.candidates.same: is the control itself (a/m)",
    ),
    (
        {"primary": "refusal", "max_pairs": 90},
        "swap.max_pairs: 90 pairs cannot show a margin of 0.02, even if both arms were alike in all",
    ),
    ({"primary": "nats_per_token"}, 'swap.primary: no scorer and no metric "nats_per_token"'),
    ({"primary": "run_loops"}, "swap.primary: run_loops is of whole runs, and a shadow answers one call"),
    ({"primary": "done", "mode": "split", "shadow": None}, "swap.primary: done is of whole runs"),
    ({"guardrails": {"calls_per_run": 3}}, "swap.guardrails.calls_per_run: calls_per_run is of whole runs"),
    ({"budget": {"usd_per_day": 1}}, "swap.budget.usd_per_day: no price is known for b/n"),
]


@pytest.mark.parametrize(("changes", "expected"), EXPERIMENTS)
def test_an_experiments_mistake_says_what_to_do(changes: dict[str, Any], expected: str) -> None:
    section = {k: v for k, v in {**SWAP, **changes}.items() if v is not None}
    found = [m.removeprefix("experiments.") for m in mistakes(with_experiments(swap=section))]
    assert any(m.startswith(expected) for m in found), found


def test_guardrails_and_the_cost_may_have_a_margin_of_0() -> None:
    section = {**SWAP, "guardrails": {"error_rate": 0, "cost_per_1k": 0}}
    assert parse(with_experiments(swap=section), environ={}).experiments["swap"].guardrails["error_rate"] == 0


def test_by_default_a_shadow_of_any_size_may_be_sent() -> None:
    """Five arms and the control again are six requests, more than the default concurrency of 4."""
    arms = {f"c{n}": {"upstream": "b", "model": f"n{n}"} for n in range(5)}
    section = {name: value for name, value in SWAP.items() if name != "candidate"} | {"candidates": arms}
    assert parse(with_experiments(swap=section), "f.yaml", {}).experiments["swap"].shadow_concurrency == 6
    written = section | {"budget": {"concurrency": 4}}
    assert any("4 is below the 6 requests of one shadow" in m for m in mistakes(with_experiments(swap=written)))
