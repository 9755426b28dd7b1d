"""Mistakes between the section `guards` and other sections are found even where those are not valid."""

from __future__ import annotations

from typing import Any

from gateway.config.checks.guards import guard_mistakes
from gateway.config.checks.partial import partial_config

GUARD = {"on": "answer", "scorer": "own", "keys": ["web", "wob"], "teams": ["t"], "models": ["chat"]}


def mistakes(raw: dict[str, Any]) -> list[str]:
    return list(guard_mistakes(partial_config(raw).config))


def test_names_of_other_sections_are_checked() -> None:
    raw = {"guards": {"g": GUARD}, "keys": [{"name": "web"}, 7], "models": {"chat": 3}, "scorers": {"owned": {}}}
    assert mistakes(raw) == [
        'guards.g.scorer: no rule or scorer "own"; did you mean "owned"?',
        'guards.g.keys[1]: no key "wob"; did you mean "web"?',
        'guards.g.teams[0]: no team "t"',
    ]


def test_keys_that_are_made_while_it_runs_may_be_named() -> None:
    raw = {"guards": {"g": {**GUARD, "scorer": "secrets"}}, "models": {"chat": {}}, "admin": {}}
    assert mistakes(raw) == []


def test_anything_but_a_mapping_is_left_to_the_models() -> None:
    assert mistakes({"guards": [1]}) == []
    assert mistakes({"guards": {"g": 1}}) == []
