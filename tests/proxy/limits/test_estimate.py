"""What is reserved for a call."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.config.config import Config
from gateway.config.derive import plans_of, prices_of
from gateway.proxy.limits.estimate import ModelEstimate, estimates_of


def a_config(**changes: Any) -> Config:
    return Config.model_validate({
        "keys": [{"name": "web", "sha256": "0" * 64}],
        "upstreams": {"near": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}, "far": {"kind": "openai"}},
        "models": {
            "chat": {
                "targets": [{"upstream": "near", "model": "small"}],
                "fallback": [{"upstream": "far", "model": "large"}],
            },
            "other": {"targets": [{"upstream": "near", "model": "own"}]},
        },
        "prices": {"as_of": "2026-11-01", "models": {
            "small": {"input": 0.1, "output": 0.4}, "large": {"input": 2, "output": 1, "reasoning": 9},
        }},
        **changes,
    })  # fmt: skip


def estimates(config: Config, before: Any = None) -> dict[str, ModelEstimate]:
    return estimates_of(config, prices_of(config), plans_of(config), before or {})


def test_dollars_are_reserved_at_the_highest_price() -> None:
    chat = estimates(a_config())["chat"]
    assert (chat.input_nano, chat.output_nano, chat.unpriced) == (2000, 9000, None)


def test_a_target_without_a_price_is_named() -> None:
    assert estimates(a_config())["other"].unpriced == "near/own"


@pytest.mark.parametrize(("mode", "unpriced"), [("split", "near/new"), ("shadow", None)])
def test_an_arm_that_serves_counts_and_one_that_shadows_does_not(mode: str, unpriced: str | None) -> None:
    arms = {"control": {"upstream": "near", "model": "small"}, "candidate": {"upstream": "near", "model": "new"}}
    experiment = {"model": "chat", "mode": mode, **arms}
    assert estimates(a_config(experiments={"swap": experiment}))["chat"].unpriced == unpriced


def test_a_reload_keeps_what_was_learned() -> None:
    before = estimates(a_config())
    before["chat"].learn(70)
    assert estimates(a_config(), before)["chat"].output == 140


@pytest.mark.parametrize("scale", [30, 3000])
def test_nine_of_ten_calls_stay_below_what_was_learned(scale: int) -> None:
    rng = random.Random(1)
    estimate = ModelEstimate(0, 0, None)
    outputs = [int(rng.expovariate(1 / scale)) for _ in range(6000)]
    for n in outputs[:2000]:
        estimate.learn(n)
    below = 0
    for n in outputs[2000:]:
        below += n <= estimate.output
        estimate.learn(n)
    assert 0.87 < below / 4000 < 0.93


def test_the_estimate_never_becomes_nothing() -> None:
    estimate = ModelEstimate(0, 0, None)
    for _ in range(1000):
        estimate.learn(0)
    assert estimate.output >= 16
