"""`gateway check` builds each guard, and says what cannot be one."""

from __future__ import annotations

import pytest
import yaml

from gateway.config.loading import parse
from gateway.features.guards.check import findings
from gateway.scoring.registry import BuiltScorers

BASE = """
open: true
upstreams: {u: {kind: openai, api_key: sk}}
models: {chat: {targets: [{upstream: u, model: m}]}}
"""


@pytest.mark.parametrize(
    ("sections", "refused"),
    [
        ({"guards": {"g": {"on": "answer", "scorer": "secrets"}}}, ""),
        ({"guards": {"g": {"on": "answer", "scorer": "own"}}, "scorers": {"own": {"use": "refusal"}}}, ""),
        (
            {"guards": {"g": {"on": "answer", "scorer": "length_of"}}, "scorers": {"length_of": {"use": "length"}}},
            "guards.g: scorer: length_of has no bounds",
        ),
        (
            {"guards": {"g": {"on": "answer", "scorer": "tools", "tools": {"arguments": {"f": {"$ref": "#/x"}}}}}},
            "guards.g: tools.arguments: needs",
        ),
    ],
)
def test_a_scorer_that_cannot_be_a_guard_is_refused(sections: dict[str, object], refused: str) -> None:
    config = parse(BASE + yaml.safe_dump(sections), "f.yaml", {})
    found = findings(config, BuiltScorers({}, {}), "sqlite:///none")
    assert len(found.refusals) == bool(refused)
    assert not refused or found.refusals[0].startswith(refused)


def test_a_guard_whose_misses_are_not_recorded_gets_a_caution() -> None:
    guards = {"guards": {"g": {"on": "answer", "scorer": "secrets"}}, "sampling": {"rate": 0}}
    [caution] = findings(parse(BASE + yaml.safe_dump(guards), "f.yaml", {}), BuiltScorers({}, {}), "").cautions
    assert "sampling.rate is 0" in caution


@pytest.mark.parametrize(
    ("guard", "named"),
    [
        ({"action": "block"}, True),
        ({"action": "redact"}, True),
        ({"ramp": {"to": "block"}}, True),
        ({"action": "block", "if_late": "pass"}, False),
        ({"action": "block", "if_late": "block"}, False),
        ({"action": "flag"}, False),
        ({"ramp": {"to": "flag"}}, False),
        ({}, False),
    ],
)
def test_a_guard_whose_unset_if_late_means_another_thing_is_named(guard: dict[str, object], named: bool) -> None:
    guards = {"guards": {"g": {"on": "answer", "scorer": "secrets", **guard}}}
    cautions = findings(parse(BASE + yaml.safe_dump(guards), "f.yaml", {}), BuiltScorers({}, {}), "").cautions
    assert [caution.startswith("guards.g.if_late is not set") for caution in cautions] == [True] * named
