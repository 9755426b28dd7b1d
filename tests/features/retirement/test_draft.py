"""The draft of an experiment: whom it compares, what decides, and how much of the traffic it shadows."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from fixtures.retirements import OLD, config_of, sections

from gateway.config.config import Config
from gateway.config.derive import plans_of, target_of
from gateway.config.loading import parse
from gateway.core.exchange import Target
from gateway.core.plan import StoredPlan
from gateway.features.retirement.draft import (
    ERRORS,
    SHARES,
    ExperimentDraft,
    NoDraft,
    ReplacedTarget,
    control_of,
    draft_of,
    draft_text,
    yaml_of,
)
from gateway.verdict.price.forecast import Terms, forecast

CHAT = ReplacedTarget("chat", Target("openai", "gpt-4o-mini"), "gpt-6-luna", 41)


def targets_of(config: Config) -> list[Target]:
    return [target_of(ref) for ref in config.models["chat"].targets]


def draft(calls_a_day: float = 5100, of: ReplacedTarget = CHAT, **changes: Any) -> ExperimentDraft:
    return draft_of(config_of(**changes), of, calls_a_day)


def test_the_config_with_the_draft_has_no_mistakes() -> None:
    made = draft()
    text = yaml_of(made.name, made.section(control_of(config_of(), made)))
    config = parse(yaml.safe_dump(sections(experiments=yaml.safe_load(text)["experiments"])))
    plan = plans_of(config)["chat-to-gpt-6-luna"]
    assert (str(plan.control), [str(t) for _, t in plan.candidates]) == ("openai/gpt-4o-mini", ["openai/gpt-6-luna"])
    assert (plan.primary, plan.shadow, config.experiments[plan.name].start) == ("quality", made.shadow, "manual")


def test_its_price_is_that_of_ab_power() -> None:
    made = draft()
    config = config_of(experiments={made.name: made.section(OLD)})
    plan = plans_of(config)[made.name]
    price = forecast(StoredPlan(plan, plan.hash, "stopped", 0.0), Terms(requests_a_day=5100)).prices[0]
    assert (made.requests, made.days) == (price.paid_calls, price.days)
    assert made.requests
    assert made.days


@pytest.mark.parametrize("calls_a_day", [50, 500, 5_100, 20_000, 1e6])
@pytest.mark.parametrize("days_left", [-3, 4, 41, None])
def test_the_share_is_the_smallest_that_decides_in_time(calls_a_day: float, days_left: int | None) -> None:
    of = ReplacedTarget("chat", CHAT.target, "gpt-6-luna", days_left)
    made = draft(calls_a_day, of)
    assert made.days is not None
    limit = max(1.0, min(7.0, 7.0 if days_left is None else days_left / 2))
    if made.days > limit:
        assert made.shadow == 1.0
    else:
        at = SHARES.index(made.shadow)
        days_at_smaller = made.days * made.shadow / SHARES[at - 1]
        assert at == 0 or days_at_smaller > limit


def test_without_traffic_its_time_is_unknown() -> None:
    made = draft(0)
    assert (made.days, made.shadow) == (None, 0.2)
    assert made.summary.endswith(" requests, time unknown at shadow 0.2")


def test_its_summary_says_requests_and_days() -> None:
    made = draft(5100)
    assert made.summary.startswith("Draft the experiment against gpt-6-luna: ")
    assert made.summary.endswith(f" days at shadow {made.shadow:g}")


def test_without_a_judge_errors_decide() -> None:
    made = draft(scorers={"valid_json": {}})
    assert made.primary == ERRORS
    assert "guardrails" not in made.section(OLD)
    assert draft().section(OLD)["guardrails"] == {ERRORS: 0.01}


def test_it_decides_as_the_newest_experiment_does() -> None:
    swap = {"model": "other", "control": {**OLD, "model": "x"}, "candidate": {**OLD, "model": "y"}}
    made = draft(scorers={"valid_json": {}}, experiments={"swap": {**swap, "primary": "valid_json", "margin": 0.07}})
    assert (made.primary, made.margin) == ("valid_json", 0.07)


def test_the_variant_of_the_target_stays() -> None:
    varied = {**OLD, "system": "Be brief.", "set": {"temperature": 0}, "weight": 3, "retires": "2027-01-14"}
    config = config_of(models={"chat": {"targets": [{**OLD, "model": "x"}, varied]}})
    of = ReplacedTarget("chat", next(t for t in targets_of(config) if t.variant), "gpt-6-luna", 41)
    made = draft_of(config, of, 100.0)
    section = made.section(control_of(config, made))
    variant = {"system": "Be brief.", "set": {"temperature": 0}}
    assert section["control"] == {**OLD, **variant}
    assert section["candidate"] == {**OLD, **variant, "model": "gpt-6-luna"}
    assert "&" not in yaml_of(made.name, section)


def test_no_secret_of_a_header_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANT", "t-secret")
    text = yaml.safe_dump(sections(models={"chat": {"targets": [{**OLD, "headers": {"x-tenant": "${TENANT}"}}]}}))
    config = parse(text)
    made = draft_of(config, ReplacedTarget("chat", targets_of(config)[0], "gpt-6-luna", 41), 0.0)
    assert made.as_written(text)["control"]["headers"] == {"x-tenant": "${TENANT}"}
    assert draft_text(made, text) == ""
    assert "t-secret" not in repr(made)


def test_a_file_that_has_changed_gives_no_text() -> None:
    assert draft_text(draft(), "models: {}") == ""
    assert draft_text(draft(), "") == ""
    assert "gpt-6-luna" in draft_text(draft(), yaml.safe_dump(sections()))


def test_a_name_that_is_taken_gets_a_number() -> None:
    other = {"model": "other", "control": {**OLD, "model": "x"}, "candidate": {**OLD, "model": "y"}, "start": "manual"}
    made = draft(experiments={"chat-to-gpt-6-luna": other, "chat-to-gpt-6-luna-2": other})
    assert made.name == "chat-to-gpt-6-luna-3"


@pytest.mark.parametrize(
    ("named", "upstream", "model"),
    [("gpt-6-luna", "openai", "gpt-6-luna"), ("mine/qwen", "mine", "qwen"), ("acme/big", "openai", "acme/big")],
)
def test_a_successor_may_be_of_another_upstream(named: str, upstream: str, model: str) -> None:
    made = draft(of=ReplacedTarget("chat", CHAT.target, named, 41))
    assert (made.upstream, made.model) == (upstream, model)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (ReplacedTarget("chat", CHAT.target, None, 41), "no successor of openai/gpt-4o-mini is listed"),
        (ReplacedTarget("chat", CHAT.target, "gpt-4o-mini"), "is the model that is to be replaced"),
        (ReplacedTarget("chat", CHAT.target, "a b"), "expected MODEL or UPSTREAM/MODEL"),
        (ReplacedTarget("chat", CHAT.target, "mine/"), "expected MODEL or UPSTREAM/MODEL"),
        (ReplacedTarget("any/*", CHAT.target, "x"), '"any/*" stands for many models'),
        (ReplacedTarget("other", CHAT.target, "x"), "only a fallback of other"),
    ],
)
def test_a_refused_draft_says_why(of: ReplacedTarget, why: str) -> None:
    with pytest.raises(NoDraft, match=why.replace("*", r"\*")):
        draft(of=of)


def test_an_experiment_that_compares_them_is_named() -> None:
    swap = {"model": "chat", "control": OLD, "candidate": {**OLD, "model": "gpt-6-luna"}}
    with pytest.raises(NoDraft, match="the experiment swap compares it with gpt-6-luna already"):
        draft(experiments={"swap": swap})
