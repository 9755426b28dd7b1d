"""Patterns of names: the longest one wins, and its star is what the upstream's model gets."""

from __future__ import annotations

import pytest

from gateway.core.wildcards import filled, names_for, pattern_of

ALIASES = ["chat", "openai/*", "openai/gpt-*", "*"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("openai/o3", "openai/*"),
        ("openai/gpt-5", "openai/gpt-*"),
        ("openai/gpt-", "openai/*"),
        ("other", "*"),
        ("openai/*", None),
        ("with blank", None),
        ("ünïcode", None),
        ("", None),
        ("x" * 301, None),
    ],
)
def test_the_longest_pattern_matches(name: str, pattern: str | None) -> None:
    assert pattern_of(name, ALIASES) == pattern


def test_without_patterns_nothing_matches() -> None:
    assert pattern_of("chat2", ["chat"]) is None


def test_the_star_is_filled_wherever_it_stands() -> None:
    assert filled("*", "openai/*", "openai/gpt-5") == "gpt-5"
    assert filled("google/*-latest", "vertex/*", "vertex/gemini") == "google/gemini-latest"
    assert filled("fixed", "*", "anything") == "fixed"


def test_known_models_have_names_behind_a_pattern() -> None:
    assert names_for("v/*", "google/*", ["google/a", "other/b"]) == ["v/a"]
    assert names_for("o/*", "*", ["a", "b"]) == ["o/a", "o/b"]
    assert names_for("o/*", "fixed", ["fixed"]) == []
