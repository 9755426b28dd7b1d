"""Mistakes between the section `guards` and other sections are found even where those are not valid."""

from __future__ import annotations

from gateway.config.guard_mistakes import guard_mistakes

GUARD = {"on": "answer", "scorer": "own", "keys": ["web", "wob"], "teams": ["t"], "models": ["chat"]}


def test_names_of_other_sections_are_checked() -> None:
    raw = {"guards": {"g": GUARD}, "keys": [{"name": "web"}, 7], "models": {"chat": 3}, "scorers": {"owned": {}}}
    assert list(guard_mistakes(raw)) == [
        'guards.g.scorer: no rule or scorer "own"; did you mean "owned"?',
        'guards.g.keys[1]: no key "wob"; did you mean "web"?',
        'guards.g.teams[0]: no team "t"',
    ]


def test_keys_that_are_made_while_it_runs_may_be_named() -> None:
    raw = {"guards": {"g": {**GUARD, "scorer": "secrets"}}, "models": {"chat": {}}, "admin": {}}
    assert list(guard_mistakes(raw)) == []


def test_anything_but_a_mapping_is_left_to_the_models() -> None:
    assert list(guard_mistakes({"guards": [1]})) == []
    assert list(guard_mistakes({"guards": {"g": 1}})) == []
