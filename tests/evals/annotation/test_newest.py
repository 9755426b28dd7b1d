"""Which version of a scorer is looked at."""

from __future__ import annotations

import pytest

from gateway.evals.annotation.newest import NothingScored, newest
from gateway.evals.store.query import reading


def test_the_version_that_judged_last(keep, exchange):
    keep([exchange("1")], now=1000.0, version="1")
    keep([exchange("1")], now=3000.0, version="3", direction="minimise")
    url = keep([exchange("1")], now=2000.0, version="2")
    with reading(url) as connection:
        found = newest(connection, "said")
        assert (found.version, found.subject, found.direction) == ("3", "exchange", "minimise")
        with pytest.raises(NothingScored, match="these have: said"):
            newest(connection, "other")


def test_where_nothing_was_judged_it_says_what_to_do(keep):
    with reading(keep([])) as connection, pytest.raises(NothingScored, match="no scorer has: `gateway evaluate`"):
        newest(connection, "said")
