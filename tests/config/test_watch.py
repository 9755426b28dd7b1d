"""The section `watch`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.watch import WatchConfig


def test_without_probes_nothing_is_asked() -> None:
    found = WatchConfig()
    assert (found.probes, found.every_s, found.usd_per_month, found.repeats) == (None, 86_400.0, 2, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("every", "59m"),
        ("every", "32d"),
        ("every", "daily"),
        ("usd_per_month", 0),
        ("usd_per_month", "2"),
        ("probes", ""),
    ],
)
def test_a_value_outside_its_domain_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        WatchConfig.model_validate({name: value})
