"""The names that users query and later versions keep."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from gateway.core.exchange import Target
from gateway.store.query import reading
from gateway.store.tables import TARGET, exchanges, scores


@pytest.mark.parametrize("variant", ["", "temperature=0"])
def test_the_name_of_a_target_is_that_of_the_tallies(variant, keep, exchange):
    target = Target("u", "m", variant)
    with reading(keep([exchange("1", target=target)])) as connection:
        row = connection.execute(select(TARGET, exchanges.c.variant)).one()
    assert (row[0], row[1]) == (str(target), variant or None)


def test_the_promised_columns_are_there():
    assert {
        "id", "received", "alias", "upstream", "model", "role", "experiment", "arm", "outcome", "status",
        "finish_reason", "tokens", "first_token_s", "total_s", "cost_usd", "pi", "stratum", "request", "response",
        "text", "pair",
    } <= set(exchanges.columns.keys())  # fmt: skip
    assert {
        "score_id", "exchange_id", "scorer", "version", "status", "value", "label", "explanation", "pi", "created",
    } <= set(scores.columns.keys())  # fmt: skip
