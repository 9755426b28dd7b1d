"""A scrape of a fleet with 1 000 aliases stays small."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scrape import config_of, consumer_page, gateway_page


@pytest.mark.parametrize("upstreams", [10, 500])
def test_a_scrape_of_a_thousand_aliases_is_small(upstreams: int) -> None:
    config = config_of(1000, upstreams)
    for page in (gateway_page(config)(), consumer_page(config)()):
        assert len(page) <= 20_000_000
        assert len(gzip.compress(page, 1)) <= 2_000_000
