from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.checks.cross_section import cross_section_mistakes
from gateway.config.checks.partial import partial_config
from gateway.config.config import Config
from gateway.config.derive import paces_of, plans_of
from gateway.config.experiments import Experiment, RampConfig
from gateway.config.freeze_windows import freeze_window
from gateway.config.upstreams import TargetRef
from gateway.core.plan import plan_from_json
from gateway.core.ramp import FreezeWindow

CONTROL, CANDIDATE = {"upstream": "a", "model": "m"}, {"upstream": "b", "model": "n"}


def mistakes_in(sections: dict[str, Any]) -> list[str]:
    return list(cross_section_mistakes(partial_config(sections)))


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate({"model": "chat", "control": CONTROL, "candidate": CANDIDATE, **changes})


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({}, (0.1, 0.0, 0.25)),
        ({"shadow": 0.3, "repeat_control": 0}, (0.3, 0.0, 0.0)),
        ({"mode": "split"}, (0.0, 0.5, 0.0)),
        ({"mode": "split", "split": 0.2}, (0.0, 0.2, 0.0)),
        ({"mode": "both"}, (0.1, 0.5, 0.25)),
        ({"mode": "likelihood", "repeat_control": 0.1}, (0.1, 0.0, 1.0)),
    ],
)
def test_shares_have_defaults_only_in_their_modes(changes: dict[str, Any], shares: tuple[float, ...]) -> None:
    one = experiment(**changes)
    assert (one.shadow_share, one.split_share, one.repeat_share) == shares


def test_a_lone_candidate_is_the_arm_candidate() -> None:
    assert experiment().arms == {"candidate": TargetRef(**CANDIDATE)}
    several = experiment(candidate=None, candidates={"small": CANDIDATE, "large": CANDIDATE})
    assert list(several.arms) == ["small", "large"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01T09:00:00Z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01T09:00:00", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01T10:00:00+01:00", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, 9), datetime(2026, 12, 1, 9, tzinfo=UTC)),
        (datetime(2026, 12, 1).date(), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: Any, moment: datetime) -> None:
    assert experiment(start=text, stop=text).start == moment.timestamp()
    assert experiment(stop=text).stop == moment.timestamp()


@pytest.mark.parametrize("value", ["soon", 3, True])
def test_a_start_that_is_not_a_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"expected a time such as 2026-12-01T09:00:00Z"):
        experiment(start=value)


def test_the_summary_names_the_shares_or_off() -> None:
    assert experiment(mode="both", shadow=0.2).summary() == "shadow on 20%, split 50%"
    assert experiment(enabled=False).summary() == "off"


def test_a_likelihood_experiment_has_a_primary_and_a_noise_floor() -> None:
    one = experiment(mode="likelihood")
    assert (one.chosen_primary, one.scored_twice_share) == ("nats_per_token", 0.25)
    assert experiment(mode="likelihood", repeat_control=0).scored_twice_share == 0.0
    assert experiment(primary="judge").chosen_primary == "judge"
    assert experiment().scored_twice_share == 0.0
    assert one.summary() == "likelihood on 10%"


BASE: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "a", "model": "m"},
    "candidate": {"upstream": "b", "model": "n"},
    "primary": "error_rate",
}


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "open": True,
        "upstreams": {n: {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"} for n in ("a", "b")},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "experiments": {"swap": {**BASE, **changes}},
    }


def test_an_empty_section_is_a_careful_ramp() -> None:
    config = Config.model_validate(raw(ramp={}))
    plan = plans_of(config)["swap"]
    assert plan.ramp is not None
    assert (plan.ramp.steps, plan.ramp.soak_s) == ((0.01, 0.05, 0.25, 0.5, 1.0), 3600.0)
    assert (plan.mode, plan.split, plan.unit, plan.shadow) == ("both", 0.0, "conversation", 0.1)
    assert paces_of(config)["swap"].mode == "advise"


def test_a_plan_with_a_ramp_survives_json() -> None:
    plan = plans_of(Config.model_validate(raw(ramp={"largest_exposure": {"requests": 500}})))["swap"]
    assert plan_from_json(plan.to_json()) == plan
    assert plan_from_json(plan.to_json()).hash == plan.hash


def test_pace_is_not_a_part_of_the_plan_and_steps_are() -> None:
    one, paced, other = (
        plans_of(Config.model_validate(raw(ramp=section)))["swap"].hash
        for section in ({}, {"mode": "auto", "cooldown_s": 5, "freeze": ["Sat 00:00 - Mon 00:00"]}, {"soak_s": 60})
    )
    assert one == paced != other


def test_a_plan_without_a_ramp_keeps_its_hash() -> None:
    plan = plans_of(Config.model_validate(raw()))["swap"]
    assert "ramp" not in plan.fields()
    assert replace(plan, ramp=RampConfig().design).hash != plan.hash


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("Fri 16:00 - Mon 08:00", FreezeWindow(403_200.0, 28_800.0, weekly=True)),
        ("friday 16:00 - sat 0:30", FreezeWindow(403_200.0, 433_800.0, weekly=True)),
        ("2026-12-20T00:00Z - 2026-12-21T01:00+01:00", FreezeWindow(1_797_724_800.0, 1_797_811_200.0)),
    ],
)
def test_a_freeze_window_is_weekly_or_of_two_times(text: str, window: FreezeWindow) -> None:
    assert freeze_window(text) == window


@pytest.mark.parametrize("text", ["Fri 16:00", "Fri 16:00 - Fri 16:00", "Foo 16:00 - Mon 08:00", "now - later"])
def test_a_freeze_window_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        RampConfig.model_validate({"freeze": [text]})


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"mode": "shadow"}, "experiments.swap.mode: a ramp has shadows"),
        ({"split": 0.3}, "experiments.swap.split: has no effect with `ramp`"),
        ({"primary": None}, "set `primary`"),
        ({"record": 0.5}, "experiments.swap.record: 0.5, but a ramp counts every answer"),
        ({"primary": "feedback:thumb"}, "experiments.swap.ramp.largest_exposure: feedback is given on served answers"),
        ({"max_pairs": 500}, "experiments.swap.max_pairs: has no effect with `ramp`"),
        (
            {"candidate": None, "candidates": {n: {"upstream": "b", "model": n} for n in "xy"}},
            "experiments.swap.ramp: there are 2 candidates, and a ramp has one",
        ),
    ],
)
def test_a_setting_that_contradicts_a_ramp_is_a_mistake(changes: dict[str, Any], mistake: str) -> None:
    found = raw(ramp={}, **changes)
    section = {name: value for name, value in found["experiments"]["swap"].items() if value is not None}
    found["experiments"]["swap"] = section
    assert any(mistake in each for each in mistakes_in(found)), mistakes_in(found)
    assert not mistakes_in(raw(ramp={}, mode="both"))


SEVERAL = {"candidate": None, "candidates": {n: {"upstream": "b", "model": n} for n in "xy"}}


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        (
            {"candidate": CANDIDATE, "candidates": None},
            "family: best compares candidates with each other, and there is 1",
        ),
        (
            {"mode": "split"},
            "family: best compares the answers of candidates to the same requests, which `mode: split`",
        ),
        ({"mode": "both"}, "which `mode: both` does not give; set `mode: shadow`, or remove it"),
        ({"mode": "likelihood", "primary": None}, "which `mode: likelihood` does not give"),
        ({"primary": None}, "experiments.swap.primary: `family: best` finds the best candidate by the primary metric"),
        ({"margin": 0}, "experiments.swap.margin: 0, which no candidate can be shown to meet"),
    ],
)
def test_candidates_that_cannot_be_compared_are_a_mistake(changes: dict[str, Any], mistake: str) -> None:
    def mistakes(**more: Any) -> list[str]:
        found = raw(**{**SEVERAL, "family": "best", **more})
        section = {name: value for name, value in found["experiments"]["swap"].items() if value is not None}
        found["experiments"]["swap"] = section
        return mistakes_in(found)

    assert any(mistake in each for each in mistakes(**changes)), mistakes(**changes)
    assert mistakes() == mistakes(max_pairs=300) == []
    assert any(
        "max_pairs: has no effect with `method: guaranteed`" in m for m in mistakes(method="guaranteed", max_pairs=300)
    )


def test_candidates_are_compared_in_the_plan_only_where_asked() -> None:
    several = {"candidate": None, "candidates": SEVERAL["candidates"]}
    plans = {
        family: plans_of(Config.model_validate(raw(**several, family=family)))["swap"]
        for family in ("holm", "even", "best")
    }
    assert {family: plan.finds_best for family, plan in plans.items()} == {"holm": False, "even": False, "best": True}
    assert len({plan.hash for plan in plans.values()}) == 3
    best, stated = plans["best"], plans_of(Config.model_validate(raw(**several, family="best", max_pairs=300)))["swap"]
    assert (best.method, best.auto_horizon, best.ends_at) == ("anytime", True, 2 * best.max_pairs)
    assert (stated.method, stated.auto_horizon, stated.ends_at) == ("anytime", False, 300)
    assert plans["holm"].method == "hybrid"
    assert plans["holm"].ends_at == plans["holm"].max_pairs
    hybrid = plans_of(Config.model_validate(raw(**several, family="best", method="hybrid")))["swap"]
    assert (hybrid.method, hybrid.ends_at) == ("hybrid", hybrid.max_pairs)
    assert plan_from_json(plans["best"].to_json()) == plans["best"]


def test_steps_end_with_all_traffic() -> None:
    with pytest.raises(ValidationError, match=r"expected rising shares above 0 that end at 1\.0"):
        RampConfig.model_validate({"steps": [0.1, 0.5]})


def with_segments(section: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return raw(**{"margin": 0.05, "segments": section, **changes})


def test_segments_are_frozen_with_the_plan() -> None:
    section = {"by": ["prompt", "tools", "language", "key", "metadata.product"], "margin": 0.1, "least_share": 0.1}
    plan = plans_of(Config.model_validate(with_segments(section)))["swap"]
    assert plan.segments is not None
    assert plan.segments.by == ("prompt", "tools", "language", "caller", "metadata.product"), "a caller is a key"
    assert (plan.segments.margin, plan.segments.least_share, plan.segments.weak_spots) == (0.1, 0.1, 0.02)
    assert plan_from_json(plan.to_json()) == plan
    assert plan.hash != plans_of(Config.model_validate(raw(margin=0.05)))["swap"].hash


def test_a_segments_margin_is_twice_the_experiments_unless_stated() -> None:
    plan = plans_of(Config.model_validate(with_segments({"by": ["tools"]})))["swap"]
    assert plan.segments is not None
    assert plan.segments.margin == 0.1


@pytest.mark.parametrize(
    ("section", "changes", "expected"),
    [
        (
            {"by": ["prompts"]}, {},
            'by[0]: no property "prompts" of a request; did you mean "prompt"?',
        ),
        (
            {"by": ["answer_length"]}, {},
            'by[0]: no property "answer_length" of a request; known before a request is answered: key, prompt, tools, '
            "language, caller, api, stream, metadata.NAME",
        ),
        ({"by": ["metadata."]}, {}, 'by[0]: no property "metadata." of a request'),
        (
            {"by": ["tools"], "margin": 0.02}, {},
            "margin: 0.02 is below the experiment's 0.05, which would take many times the pairs",
        ),
        ({"by": ["tools"], "values": {"language": ["de"]}}, {}, 'values.language: "language" is not in `by`'),
        ({"by": ["language"], "values": {"language": []}}, {}, "values.language: 0 values, expected 1 to 8"),
        (
            {"by": ["key", "language", "prompt"], "values": {p: list("abcdefgh") for p in ("key", "language")}}, {},
            ": 22 segments, at most 20; take properties out of `by`",
        ),
        (
            {"by": ["key", "prompt", "tools", "language", "api", "stream", "metadata.a"]}, {},
            "by: 7 properties, at most 6: each takes more pairs",
        ),
        ({"weak_spots": 0}, {}, "no property in `by` and `weak_spots: 0`, so it does nothing; remove it"),
        (
            {"by": ["tools"]},
            {"family": "best", "candidate": None, "candidates": {a: {"upstream": "b", "model": a} for a in "no"}},
            ": has no effect with `family: best`",
        ),
        ({"by": ["tools"]}, {"mode": "split"}, "segments compare pairs by the primary; they need `mode: shadow`"),
        ({"by": ["tools"]}, {"primary": None}, "there is no primary that could decide in them; set `primary`"),
    ],
)  # fmt: skip
def test_segments_that_cannot_be_distinguished_are_reported(
    section: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    document = with_segments(section, **changes)
    document["experiments"]["swap"] = {k: v for k, v in document["experiments"]["swap"].items() if v is not None}
    found = [m for m in mistakes_in(document) if "segments" in m]
    assert any(expected in m for m in found), found
