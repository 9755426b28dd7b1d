"""The work of the rules in the gateway's own process is linear in the text: counted, and not timed."""

from __future__ import annotations

import cProfile
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config.guards import GuardConfig
from gateway.config.privacy import RedactionConfig
from gateway.proxy.guards.rules import span_rule
from gateway.proxy.recording.redaction.finder import Finder

SHAPES = (
    *("},{", '{"a":', "a.b.c.", "1", "4111 ", "4111-", "1234567890", "abcdefghij", " ", "\n", "sk-", "AIza-", " AKIA"),
    *("eyJ.", ".eyJabcdefgh", "ghp_", "github_pat_", "whsec_", "xoxb-.", "xoxe.", "bearer ", "basic aaaaaaaaaaaaa1 "),
    *("://a:", "password=", "secret:", "password=" + "\\" * 9, "a@", "a@b.", "-----BEGIN PRIVATE KEY-----"),
    *("-----BEGIN ", "DE89 ", "DE12", "+49 ", "(0", "00", "(", "sk-a1b2\n", "1\n", "4\u200b", "a\u00ad", "\uff14"),
    *("%20", "ignore all ", "<|im_", "\n## ", "AC-", "Harmless words of prose, and a number such as 2026, go on. "),
)
RULES: dict[str, dict[str, Any]] = {
    "secrets": {},
    "personal_data": {},
    "prompt_injection": {},
    "patterns": {
        "patterns": [{"name": "case", "regex": "AC-[0-9]{1,20}"}, {"name": "w", "regex": "[a-z]{1,30}@[a-z]{1,9}"}]
    },
}


def work(scorer: str, text: str) -> float:
    """Calls of functions, in Python and in C, and characters of what they find, for each character of the text.

    A search of a window is one call and has a fixed reach; only a match may be as long as its text.
    """
    config = GuardConfig.model_validate({"on": "request", "scorer": scorer, **RULES[scorer]})
    kinds: Any = {"secrets": ("key",), "personal_data": config.kinds}.get(scorer)
    rule = span_rule(config)
    assert rule is not None
    finder = Finder(RedactionConfig(rules=kinds)) if kinds else None
    profile = cProfile.Profile()
    profile.enable()
    hits = [hit for window in finder.hits(text) for hit in window] if finder else list(rule.find(text))
    profile.disable()
    calls = sum(entry.callcount for entry in profile.getstats())
    return (calls + sum(hit.end - hit.start for hit in hits)) / len(text)


def growth(scorer: str, shape: str, sizes: Sequence[int]) -> float:
    """How many times as much work a character takes in the largest text as in the smallest."""
    found = [work(scorer, ("x " + shape * (size // len(shape) + 1))[:size]) for size in sizes]
    return max(found) / found[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_of_a_rule_is_linear(shape: str) -> None:
    for scorer in RULES:
        assert growth(scorer, shape, (30_000, 120_000)) <= 1.3, scorer


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_of_a_rule_is_linear_up_to_6_mb(shape: str) -> None:
    for scorer in RULES:
        assert growth(scorer, shape, (100_000, 1_000_000, 6_000_000)) <= 1.3, scorer
