from __future__ import annotations

from gateway.core.errors import ConfigError
from gateway.core.reasons import MOST_WHY, Reason, on_page, one_line


def test_a_cause_is_shown_to_those_who_may_see_it() -> None:
    found = [Reason("calls are not recorded", "connecting to 10.0.0.5:6379"), Reason("a scorer fails")]
    assert on_page(found, causes=True) == ["calls are not recorded: connecting to 10.0.0.5:6379", "a scorer fails"]
    assert on_page(found, causes=False) == ["calls are not recorded", "a scorer fails"]


def test_a_cause_is_one_line_and_bounded() -> None:
    assert one_line(ConfigError(["a: wrong", "", "  b: wrong"])) == "a: wrong; b: wrong"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert len(one_line(RuntimeError("x" * 10_000))) == MOST_WHY
    assert len(str(Reason("", "y" * 10_000))) == MOST_WHY + 2
