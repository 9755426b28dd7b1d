"""Experiments name upstreams that have likelihoods, metrics that fit them, and a model of which no other has calls."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.derive import plans_of
from gateway.config.loading import parse
from gateway.core.plan import plan_from_json
from tests.config.checks.mistaken_config import SWAP, mistakes, with_experiments


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("{kind: vllm, base_url: 'http://b/v1'}", False),
        ("{kind: ray_serve, base_url: 'http://b/v1'}", False),
        ("{kind: openai, base_url: 'http://b/v1', api_key: k}", False),
        ("{kind: openai, api_key: k}", True),
        ("{kind: llamacpp, base_url: 'http://b/v1'}", True),
        ("{kind: mistral, api_key: k}", True),
    ],
)
def test_an_engine_without_prompt_likelihoods_is_refused_at_no_cost(kind: str, refused: bool) -> None:
    text = f"""
open: true
upstreams: {{a: {{kind: vllm, base_url: 'http://a/v1'}}, b: {kind}}}
models: {{chat: {{targets: [{{upstream: a, model: m}}]}}}}
experiments:
  swap: {{model: chat, control: {{upstream: a, model: m}}, candidate: {{upstream: b, model: n}}, mode: likelihood}}
"""
    if not refused:
        assert parse(text, environ={}).experiments["swap"].likelihood
    else:
        assert any("has no log-probabilities of a prompt" in mistake for mistake in mistakes(text))


@pytest.mark.parametrize("primary", ["run_loops", "done", "calls_per_run", "refusal"])
def test_a_split_by_run_may_be_decided_by_runs(primary: str) -> None:
    section = {**{k: v for k, v in SWAP.items() if k != "shadow"}, "mode": "split", "unit": "run", "primary": primary}
    assert parse(with_experiments(swap=section), environ={}).experiments["swap"].primary == primary


RAMP = {
    **{k: v for k, v in SWAP.items() if k != "shadow"},
    "primary": "refusal", "unit": "run", "guardrails": {"run_loops": 0.05}, "ramp": {},
}  # fmt: skip


def test_a_ramp_by_run_may_have_a_scorer_of_runs_as_a_guardrail() -> None:
    config = parse(with_experiments(swap=RAMP), environ={})
    plan = plans_of(config)["swap"]
    assert plan.of_runs == ("run_loops",)
    assert plan_from_json(plan.to_json()) == plan
    other = parse(with_experiments(swap={**RAMP, "guardrails": {"error_rate": 0.05}}), environ={})
    assert plans_of(other)["swap"].of_runs == ()
    assert b"of_runs" not in plans_of(other)["swap"].to_json(), "the hash of other plans stays"


@pytest.mark.parametrize(
    "changes", [{"unit": "conversation"}, {"guardrails": {"calls_per_run": 3}}, {"primary": "done"}]
)
def test_other_ramps_have_no_metric_of_runs(changes: dict[str, Any]) -> None:
    found = mistakes(with_experiments(swap={**RAMP, **changes}))
    assert any("is of whole runs, and a shadow answers one call" in mistake for mistake in found), found


def test_a_call_can_be_in_only_one_experiment() -> None:
    (found,) = mistakes(with_experiments(one=SWAP, two=SWAP))
    assert found.startswith('experiments.two.model: "chat" is in experiments.one already, and a call can be in one')


@pytest.mark.parametrize("second", [{"enabled": False}, {"start": "manual"}, {"allow": {"keys": []}}])
def test_experiments_that_share_no_call_may_share_a_model(second: dict[str, Any]) -> None:
    text = with_experiments(one={**SWAP, "allow": {"keys": ["web"]}}, two={**SWAP, **second})
    assert len(parse(text, environ={}).experiments) == 2
