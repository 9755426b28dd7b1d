"""The names that users query and later versions keep."""

from __future__ import annotations

from gateway.evals.store.tables import exchanges, scores


def test_the_promised_columns_are_there():
    assert {
        "id", "received", "alias", "upstream", "model", "role", "experiment", "arm", "outcome", "status",
        "finish_reason", "tokens", "first_token_s", "total_s", "cost_usd", "pi", "stratum", "request", "response",
        "text", "pair",
    } <= set(exchanges.columns.keys())  # fmt: skip
    assert {
        "score_id", "exchange_id", "scorer", "version", "status", "value", "label", "explanation", "pi", "created",
    } <= set(scores.columns.keys())  # fmt: skip
