"""The section `experiments`: what it means when little is said, and what is wrong with it, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.experiments import plans_of
from gateway.config.loading import Config, load
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, plan_from_json

SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "b", "model": "n"},
}  # fmt: skip


def text(**experiments: Any) -> dict[str, Any]:
    return {
        "keys": [{"name": "web", "sha256": "0" * 64}],
        "upstreams": {"a": {"kind": "fake"}, "b": {"kind": "fake"}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}], "timeouts": {"total_s": 60}}},
        "scorers": {"refusal": {}},
        "experiments": experiments,
    }


def config(**changes: Any) -> Config:
    return Config.model_validate(text(swap={**SWAP, **changes}))


def mistakes(tmp_path: Path, **experiments: Any) -> list[str]:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(text(**experiments)))
    with pytest.raises(ConfigError) as error:
        load(path)
    return [line.removeprefix("gateway.yaml: experiments.") for line in str(error.value).splitlines()]


def test_little_is_enough() -> None:
    plan = plans_of(config())["swap"]
    assert (plan.mode, plan.shadow, plan.split, plan.repeat_control) == ("shadow", 0.1, 0.0, 0.25)
    assert (plan.control, plan.candidates) == (Target("a", "m"), (("candidate", Target("b", "n")),))
    assert (plan.margin, plan.alpha, plan.unit, plan.deadline_s) == (0.02, 0.05, "request", 60)
    assert plan.arms == ("control", "candidate", "repeat")


def test_a_split_shadows_nothing_and_both_do_both() -> None:
    split, both = (plans_of(config(mode=mode))["swap"] for mode in ("split", "both"))
    assert (split.shadow, split.split, split.repeat_control) == (0.0, 0.5, 0.0)
    assert (both.shadow, both.split, both.repeat_control) == (0.1, 0.5, 0.25)
    assert split.arms == ("control", "candidate")


def test_only_what_decides_is_in_the_plan() -> None:
    """What paces it or switches it may change while it runs."""
    same = plans_of(config())["swap"].hash
    for paces in ({"budget": {"tokens_per_day": 5}}, {"enabled": False}, {"start": "manual"}, {"gate": {"load": None}}):
        assert plans_of(config(**paces))["swap"].hash == same
    for decides in ({"margin": 0.03}, {"alpha": 0.01}, {"shadow": 0.3}, {"guardrails": {"refusal": 0.1}}):
        assert plans_of(config(**decides))["swap"].hash != same


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    plan = plans_of(config(
        guardrails={"refusal": 0.1, "error_rate": 0.01}, strata=["caller"], allow={"keys": ["web"]},
        start="2026-12-01T09:00:00Z", stop="2026-12-02",
    ))["swap"]  # fmt: skip
    assert plan_from_json(plan.to_json()) == plan
    assert plan.guardrails == (Guardrail("error_rate", 0.01), Guardrail("refusal", 0.1))
    assert plan.start == datetime(2026, 12, 1, 9, tzinfo=UTC).timestamp()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"model": "chatt"}, 'swap.model: no model "chatt"; did you mean "chat"?'),
    ({"control": {"upstream": "a", "model": "other"}}, "swap.control: a/other is no target of models.chat"),
    ({"candidate": {"upstream": "bb", "model": "n"}}, 'swap.candidate.upstream: no upstream "bb"'),
    ({"candidate": None}, "swap.candidate: give one candidate, or several"),
    ({"candidates": {"x": {"upstream": "b", "model": "n"}}}, "swap.candidate: give one candidate, or several"),
    ({"allow": {"keys": ["wep"]}}, 'swap.allow.keys[0]: no key "wep"; did you mean "web"?'),
    ({"primary": "refusals"}, 'swap.primary: no scorer and no metric "refusals"; did you mean "refusal"?'),
    ({"primary": "refusal", "guardrails": {"refusal": 0.1}}, 'swap.guardrails.refusal: "refusal" is the primary'),
    ({"guardrails": {"eror_rate": 0.1}}, 'swap.guardrails.eror_rate: no scorer and no metric "eror_rate"'),
    ({"strata": ["model"]}, "swap.strata[0]: expected one of caller, api, stream"),
    ({"mode": "split", "shadow": 0.2}, "swap.shadow: means nothing with `mode: split`"),
    ({"split": 0.2}, "swap.split: means nothing with `mode: shadow`"),
    ({"record": 0.5}, "swap.record: means nothing with `mode: shadow`"),
    ({"deadline_s": 10}, "swap.deadline_s: 10 is below the 60 s that a served answer may take"),
    ({"budget": {"concurrency": 1}}, "swap.budget.concurrency: 1 is below the 2 requests of one shadow"),
    ({"start": "2026-12-02", "stop": "2026-12-01"}, "swap.stop: not after its start"),
    ({"start": "soon"}, "swap.start: expected a time such as 2026-12-01T09:00:00Z, got 'soon'"),
    ({"shadw": 0.1}, 'swap.shadw: unknown key; did you mean "shadow"?'),
    ({"budget": {"usd_per_day": 1}}, "swap.budget.usd_per_day: no price is known for b/n"),
]


@pytest.mark.parametrize(
    ("changes", "said"), MISTAKES, ids=[m[1].split(":")[0] + f" {i}" for i, m in enumerate(MISTAKES)]
)
def test_a_mistake_is_said_with_its_place_and_what_to_do(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    section = {k: v for k, v in {**SWAP, **changes}.items() if v is not None}
    assert any(line.startswith(said) for line in mistakes(tmp_path, swap=section))


def test_a_call_can_be_in_one_experiment(tmp_path: Path) -> None:
    said = mistakes(tmp_path, one=SWAP, two=SWAP)
    assert said[0].startswith('two.model: "chat" is in experiments.one already, and a call can be in one')
    Config.model_validate(text(one=SWAP, two={**SWAP, "enabled": False}))
