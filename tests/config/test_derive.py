"""Plans, prices and content levels that follow from a checked config."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from gateway.config.config import Config
from gateway.config.derive import cautions, content_of, plan_of, plans_of, prices_of, scorer_keys, target_of
from gateway.config.experiments import Experiment
from gateway.config.privacy import Content, RedactionConfig
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan, plan_from_json
from gateway.core.prices import Price


def plan(**changes: Any) -> Plan:
    experiment = {
        "model": "chat",
        "control": {"upstream": "a", "model": "m"},
        "candidate": {"upstream": "b", "model": "n"},
        **changes,
    }
    config = Config.model_validate(
        {
            "upstreams": {"a": {"kind": "fake"}, "b": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}], "timeouts": {"total_s": 60}}},
            "experiments": {"swap": experiment},
        }
    )
    return plans_of(config)["swap"]


def test_a_reference_becomes_a_target() -> None:
    assert target_of(TargetRef(upstream="a", model="m")) == Target("a", "m")


def test_a_reference_with_a_variant_becomes_another_target() -> None:
    ref = TargetRef(upstream="a", model="m", set={"temperature": 0}, system="S")
    assert target_of(ref) != Target("a", "m")
    assert str(target_of(ref)).startswith("a/m[temperature=0,system=#")
    changed = TargetRef(upstream="a", model="m", set={"temperature": 0}, system="S2")
    assert target_of(changed) != target_of(ref)


def test_a_variant_is_part_of_the_plans_hash() -> None:
    candidate = {"upstream": "b", "model": "n"}
    plans = [plan(candidate={**candidate, **more}) for more in ({}, {"set": {"top_p": 1}}, {"set": {"top_p": 0.9}})]
    assert len({p.hash for p in plans}) == 3
    assert plan_from_json(plans[1].to_json()).candidates[0][1] == Target("b", "n", "top_p=1")


def test_instructions_of_an_arm_leave_completions_out() -> None:
    assert plan(candidate={"upstream": "b", "model": "n", "system": "S"}).apis == ("chat",)
    assert plan(candidate={"upstream": "b", "model": "n", "set": {"top_p": 1}}).apis == ("chat", "completions")


def test_feedback_that_decides_puts_its_terms_into_the_plan() -> None:
    split = {"mode": "split", "primary": "feedback:thumb"}
    default = plan(**split)
    assert (default.feedback_window_s, default.feedback_missing, default.method) == (86_400.0, "omit", "anytime")
    changed = plan(**split, feedback_window_s=60, feedback_missing="zero")
    assert (changed.feedback_window_s, changed.feedback_missing) == (60, "zero")
    assert changed.hash != default.hash
    assert plan_from_json(changed.to_json()) == changed
    other = plan(mode="split", primary="error_rate")
    assert other.feedback_window_s is None
    assert b"feedback" not in other.to_json(), "a plan without feedback keeps its hash"


def test_a_plan_has_defaults_for_omitted_settings() -> None:
    default = plan()
    assert (default.mode, default.shadow, default.split, default.repeat_control) == ("shadow", 0.1, 0.0, 0.25)
    assert (default.control, default.candidates) == (Target("a", "m"), (("candidate", Target("b", "n")),))
    assert (default.margin, default.alpha, default.unit, default.deadline_s) == (0.02, 0.05, "request", 60)
    assert default.arms == ("control", "candidate", "repeat")


def test_a_plans_deadline_is_its_own_or_the_models() -> None:
    assert plan(deadline_s=90).deadline_s == 90
    lone = Experiment.model_validate({"model": "c", "control": {"upstream": "a", "model": "m"}})
    assert plan_of("lone", lone).deadline_s is None
    assert plan_of("lone", lone, 5.0).deadline_s == 5.0


def test_the_mode_decides_which_shares_a_plan_has() -> None:
    split, both = plan(mode="split"), plan(mode="both")
    assert (split.shadow, split.split, split.repeat_control) == (0.0, 0.5, 0.0)
    assert (both.shadow, both.split, both.repeat_control) == (0.1, 0.5, 0.25)
    assert split.arms == ("control", "candidate")


@pytest.mark.parametrize(
    "changes", [{"budget": {"tokens_per_day": 5}}, {"enabled": False}, {"start": "manual"}, {"gate": {"load": None}}]
)
def test_settings_of_pace_are_not_in_the_plan(changes: dict[str, Any]) -> None:
    assert plan(**changes).hash == plan().hash


@pytest.mark.parametrize(
    "changes", [{"margin": 0.03}, {"alpha": 0.01}, {"shadow": 0.3}, {"guardrails": {"refusal": 0.1}}]
)
def test_settings_that_decide_the_result_are_in_the_plan(changes: dict[str, Any]) -> None:
    assert plan(**changes).hash != plan().hash


@pytest.mark.parametrize(
    ("changes", "method", "pairs", "auto"),
    [
        ({"primary": "exact", "margin": 0.05}, "hybrid", 343, True),
        ({"primary": "exact", "margin": 0.15}, "hybrid", 72, True),
        ({"primary": "error_rate", "margin": 0.02}, "hybrid", 667, True),
        ({"primary": "exact", "margin": 0.05, "guardrails": {"error_rate": 0.01}}, "hybrid", 1565, True),
        ({"primary": "exact", "margin": 0.05, "guardrails": {"latency_p95": 0.2}}, "hybrid", 343, True),
        ({"primary": "exact", "max_pairs": 500}, "hybrid", 500, False),
        ({"primary": "latency_p95", "margin": 0.3}, "anytime", None, False),
        ({"primary": "exact", "margin": 0}, "anytime", None, False),
        ({"primary": "exact", "mode": "both"}, "anytime", None, False),
        ({}, "anytime", None, False),
        ({"primary": "exact", "method": "guaranteed"}, "guaranteed", None, False),
        ({"primary": "exact", "stationary": True}, "stationary", None, False),
        ({"primary": "exact", "method": "stationary"}, "stationary", None, False),
    ],
)
def test_a_plans_method_has_its_horizon(changes: dict[str, Any], method: str, pairs: int | None, auto: bool) -> None:
    found = plan(**changes)
    assert (found.method, found.max_pairs, found.auto_horizon) == (method, pairs, auto)
    assert plan_from_json(found.to_json()) == found


def test_several_candidates_share_the_error_and_need_more_pairs() -> None:
    target = {"upstream": "b", "model": "n"}
    one, two = (
        plan(primary="exact", candidate=None, candidates={name: target for name in names}) for names in ("a", "ab")
    )
    assert one.max_pairs is not None
    assert two.max_pairs is not None
    assert two.max_pairs > one.max_pairs


def test_comparing_with_the_repeat_asks_for_every_one() -> None:
    assert (plan(compare="repeat").repeat_control, plan(compare="repeat").compare) == (1.0, "repeat")


def test_a_ramp_may_wait_for_incidents() -> None:
    ramped: dict[str, Any] = {"primary": "exact", "ramp": {}, "unit": "user"}
    (default,) = cautions(plan(**ramped))
    assert "needs served answers to fail at most half a point, or half of the control's rate, more" in default
    assert "306 hours" in default
    (narrow,) = cautions(plan(**ramped, guardrails={"error_rate": 0.004}))
    assert "to fail at most 0.4 points more" in narrow
    assert cautions(plan(**ramped, guardrails={"error_rate": 0.02})) == []


def test_whoever_starts_a_plan_is_cautioned() -> None:
    assert cautions(plan(primary="exact")) == []
    (small,) = cautions(plan(primary="exact", max_pairs=100))
    assert "max_pairs 100 is unlikely to decide a margin of 0.02; that needs about 2" in small
    (same,) = cautions(plan(candidate={"upstream": "a", "model": "m"}))
    assert "candidate is the control itself (a/m)" in same


def test_a_plan_survives_json() -> None:
    full = plan(
        guardrails={"refusal": 0.1, "error_rate": 0.01},
        strata=["caller"],
        allow={"keys": ["web"]},
        start="2026-12-01T09:00:00Z",
        stop="2026-12-02",
    )
    assert plan_from_json(full.to_json()) == full
    assert full.guardrails == (Guardrail("error_rate", 0.01), Guardrail("refusal", 0.1))
    assert full.start == datetime(2026, 12, 1, 9, tzinfo=UTC).timestamp()


def priced(models: dict[str, Any] | None = None) -> Config:
    return Config.model_validate(
        {
            "upstreams": {
                "openai": {"kind": "openai"},
                "proxied": {"kind": "openai", "base_url": "http://proxy.internal/v1"},
                "local": {"kind": "vllm"},
            },
            "models": {"m": {"targets": [{"upstream": "local", "model": "small"}]}},
            "prices": {"as_of": "2026-11-01", "models": models} if models else None,
        }
    )


def test_the_files_prices_precede_those_that_ship() -> None:
    own = priced({"gpt-5.4": {"input": 1, "output": 2, "cached_input": 0.5, "reasoning": 3}})
    assert prices_of(own).of(Target("openai", "gpt-5.4")) == Price(1.0, 2.0, 0.5, 3.0)
    shipped = prices_of(priced()).of(Target("openai", "gpt-5.4"))
    assert shipped is not None
    assert shipped != Price(1.0, 2.0, 0.5, 3.0)


def test_shipped_prices_hold_at_the_providers_own_address() -> None:
    prices = prices_of(priced())
    assert prices.of(Target("openai", "gpt-5.4")) is not None
    assert prices.of(Target("proxied", "gpt-5.4")) is None
    assert prices.of(Target("local", "gpt-5.4")) is None


def test_a_local_model_has_only_the_price_of_the_file() -> None:
    own = priced({"local/small": {"input": 0, "output": 0}})
    assert prices_of(own).of(Target("local", "small")) == Price(0.0, 0.0)
    assert prices_of(priced()).of(Target("local", "small")) is None


@pytest.mark.parametrize(
    ("own", "redaction", "recorded"),
    [
        (None, None, "full"),
        (None, RedactionConfig(), "redacted"),
        (None, RedactionConfig(default="metadata"), "metadata"),
        ("full", RedactionConfig(), "full"),
        ("redacted", None, "redacted"),
        ("metadata", RedactionConfig(default="full"), "metadata"),
    ],
)
def test_a_keys_own_content_level_precedes_the_sections(
    own: Content | None, redaction: RedactionConfig | None, recorded: str
) -> None:
    assert content_of(own, redaction) == recorded


def test_the_scorers_keys_are_those_of_their_secret() -> None:
    digests = [sha256(secret.encode()).hexdigest() for secret in ("own", "other")]
    keys = [{"name": "judges", "sha256": digests[0], "sample": "never"}, {"name": "web", "sha256": digests[1]}]
    model = {"targets": [{"upstream": "a", "model": "m"}]}
    sections = {"upstreams": {"a": {"kind": "vllm", "base_url": "http://a/v1"}}, "models": {"m": model}, "keys": keys}
    assert scorer_keys(Config.model_validate(sections)) == frozenset()
    evals = {"base_url": "http://127.0.0.1:8000/v1", "api_key": "own"}
    assert scorer_keys(Config.model_validate({**sections, "evals": evals})) == {"judges"}
