"""A regular expression of the config, in the answer, in linear time."""

from __future__ import annotations

import pytest

pytest.importorskip("re2", reason="google-re2 (extra redaction) is not installed")

from gateway.config.scorers import ScorerConfig
from gateway.core.errors import ConfigError
from gateway.scorers.regex import Regex
from gateway.scoring.registry import build


@pytest.mark.parametrize(
    ("pattern", "answer", "expected"),
    [
        (r"\d{3}", "call 123", 1),
        (r"\d{3}", "call 12", 0),
        (r"(?i)yes", "YES", 1),
        (r"\A\s*\{.*\}\s*\z", '{"a": 1}', 1),
        (r"^b", "a\nb", 0),
        (r"(?m)^b", "a\nb", 1),
        (r"x", "", 0),
        (r"é", "caf\u00e9 \ud800", 1),
    ],
)
def test_the_pattern_is_searched(ask, subject, pattern, answer, expected):
    assert ask(Regex("r", pattern), subject(answer)).value == expected
    assert ask(Regex("r", pattern, "no_match"), subject(answer)).value == 1 - expected


def test_the_explanation_names_the_findings(ask, subject):
    assert ask(Regex("r", r"\d+"), subject("is 42")).explanation == "found '42'"


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)"])
def test_a_pattern_beyond_re2_is_a_mistake_of_the_config(pattern):
    with pytest.raises(ConfigError, match="not valid in RE2"):
        build({"r": ScorerConfig(use="regex", pattern=pattern)})


def test_examples_are_checked_with_the_config():
    build({"r": ScorerConfig(use="regex", pattern=r"\d", examples=["1"], counterexamples=["x"])})
    with pytest.raises(ConfigError, match=r"golden case \"'x'\": expected 1, got 0"):
        build({"r": ScorerConfig(use="regex", pattern=r"\d", examples=["x"])})


def test_a_pattern_that_explodes_elsewhere_takes_linear_time(ask, subject):
    """The same pattern in `re` would not end within the age of the universe."""
    assert ask(Regex("r", r"(a*)*b\z"), subject("a" * 100_000)).value == 0
