from __future__ import annotations

import pytest

from gateway.core.time_span import seconds_of


@pytest.mark.parametrize(("span", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("1w", 604800)])
def test_durations_are_parsed(span: str, seconds: float) -> None:
    assert seconds_of(span) == seconds
