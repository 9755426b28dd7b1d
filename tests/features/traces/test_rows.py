"""Times and counts of other tools."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.traces.formats import langfuse, litellm
from gateway.features.traces.model import InvalidTrace
from gateway.features.traces.rows import count_of, seconds_between, time_of

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "text", ["2026-11-20T10:00:00Z", "2026-11-20T11:00:00+01:00", "2026-11-20 10:00:00.000", "2026-11-20 10:00:00 UTC"]
)
def test_a_time_without_a_zone_is_in_utc(text: str) -> None:
    assert time_of(text, "t") == 1_795_168_800.0


@pytest.mark.parametrize("value", ["soon", None, 3, ""])
def test_anything_but_time_is_named(value: Any) -> None:
    with pytest.raises(InvalidTrace, match=r"t: .*, expected a time such as"):
        time_of(value, "t")


def test_an_end_before_the_start_or_none_gives_no_time() -> None:
    assert seconds_between(1_795_168_800.0, "2026-11-20T09:00:00Z", "t") == 0.0
    assert seconds_between(1_795_168_800.0, None, "t") == 0.0


@pytest.mark.parametrize(
    ("value", "count"), [(3, 3), (3.0, 3), (-1, None), ("3", None), (True, None), (float("nan"), None), (1e300, None)]
)
def test_a_count_is_a_number(value: Any, count: int | None) -> None:
    assert count_of(value) == count


def test_rows_are_distinguished() -> None:
    assert not langfuse.is_observation({"id": "x"})
    assert not litellm.is_spend_log({"request_id": "x"})
