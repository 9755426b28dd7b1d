"""Settings that do not fit an experiment with a guard as its candidate are named."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from tests.config.test_guard_candidates import BASE, EXPERIMENT, config_of


def mistakes_of(guards: dict[str, Any] | None = None, **changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        config_of(guards, **changes)
    return "\n".join(error.value.mistakes)


@pytest.mark.parametrize(
    ("guards", "changes", "says"),
    [
        ({}, {"candidate": {"guard": "won"}}, 'e.candidate.guard: no guard "won"; did you mean "own"?'),
        ({}, {"candidate": {"guard": "own", "set": {"temperature": 0}}}, "e.candidate.set: a guard sends no request"),
        ({}, {"control": {"guard": "own"}}, "e.control.guard: the control is the answer as it is sent"),
        ({"own": {"action": "block"}}, {}, "guards.own.action is block, so the control would be guarded already"),
        ({"own": {"ramp": {"to": "redact"}}}, {}, "records hold marks in place of what a rule matches"),
        (
            {"asked": {"ramp": {"to": "redact"}}},
            {"candidate": {"guard": "asked"}},
            "the answer to a redacted request is unknown, since no such request is sent",
        ),
        ({"own": {"models": ["other"]}}, {}, 'own judges only calls of other, not "chat"'),
        (
            {},
            {"candidate": None, "candidates": {"a": {"guard": "own"}, "b": {"upstream": "u", "model": "z"}}},
            "e.candidates.b: a target, next to candidates.a, which is a guard",
        ),
        ({}, {"mode": "split"}, "e.mode: split needs a candidate that answers"),
        ({}, {"mode": "likelihood", "primary": None}, "e.mode: likelihood needs a candidate that answers"),
        ({}, {"method": "hybrid"}, "e.method: hybrid is asymptotic, and a guard changes few answers"),
        ({}, {"ramp": {}}, "e.ramp: a guard is taken to more units by `gateway guard promote`"),
        ({}, {"segments": {"by": ["tools"]}}, "e.segments: a guard is limited to keys, teams and models alone"),
        ({}, {"repeat_control": 0.2}, "e.repeat_control: has no effect with a guard as the candidate"),
        ({}, {"compare": "repeat"}, "e.compare: has no effect with a guard as the candidate"),
        ({}, {"budget": {"concurrency": 2}}, "e.budget: has no effect with a guard as the candidate"),
        (
            {},
            {"primary": "total_s"},
            "e.primary: total_s is of requests; a guard's refusal is not a failure",
        ),
        ({}, {"guardrails": {"error_rate": 0.1}}, "e.guardrails.error_rate: error_rate is of requests"),
        (
            {},
            {"candidate": None, "candidates": {"a": {"guard": "own"}, "b": {"guard": "asked"}}, "family": "best"},
            "e.family: best saves requests to candidates, and guards get none",
        ),
    ],
)
def test_settings_that_do_not_fit_a_guard_are_named(guards: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    assert says in mistakes_of(guards, **changes)


def test_a_guard_answers_no_calls() -> None:
    raw = {**BASE, "models": {"chat": {"targets": [{"guard": "own"}]}}}
    with pytest.raises(ConfigError, match=r"models.chat.targets\[0\].guard: a guard answers no calls"):
        parse(yaml.safe_dump(raw), "f.yaml", {})


def test_an_upstream_cannot_have_the_name_of_guards() -> None:
    raw = {
        **BASE,
        "upstreams": {**BASE["upstreams"], "guard": BASE["upstreams"]["u"]},
        "experiments": {"e": EXPERIMENT},
    }
    with pytest.raises(ConfigError, match="names guards in plans and reports"):
        parse(yaml.safe_dump(raw), "f.yaml", {})
