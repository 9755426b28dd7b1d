"""The sentences of the cautions."""

from __future__ import annotations

from gateway.features.models.cache import ChangingPrefix, SpreadSessions
from gateway.features.models.report import ModelsInUse, headline, prefix_sentence, sections_of, spread_sentence


def test_a_spread_session_is_named_with_its_dollars() -> None:
    spread = SpreadSessions("chat", 200, 100, 0.9, 0.3, 1e6, 12.5, False)
    assert "50.0 % of the calls of sessions" in spread_sentence(spread).replace("\u202f", " ")
    assert "$12.50 lost in 7 days" in spread_sentence(spread)
    assert "at most 1" in spread_sentence(SpreadSessions("chat", 200, 200, None, 0.0, 1e6, None, True))


def test_a_changing_prompt_is_named_by_its_place() -> None:
    assert "at byte 41" in prefix_sentence(ChangingPrefix("chat", "app", 20, 41))


def test_without_calls_the_report_is_a_sentence() -> None:
    nothing = ModelsInUse(())
    assert headline(nothing, 0.0) == "No model had a call in the last 7 days"
    assert [section.name for section in sections_of(nothing, 0.0)] == ["models", "cache"]
