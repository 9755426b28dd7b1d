"""The schemas of calls follow the store's columns. test_samples.py hands real outputs to them."""

from __future__ import annotations

from gateway.core.exchange import Attempt
from gateway.features.calls.outputs import listed_schema, opened_schema, whole_schema
from gateway.store.query import SHOWN
from gateway.store.tables import scores


def test_a_call_has_every_column_and_in_a_list_all_but_its_texts() -> None:
    whole, listed = (each()["properties"] for each in (whole_schema, listed_schema))
    assert set(whole) == {str(c.name) for c in SHOWN} | {"scores", "feedback", "shadows"}
    assert set(whole) - set(listed) == {
        "request", "response", "text", "reasoning", "refusal", "tool_calls", "attempts", "feedback", "shadows",
    }  # fmt: skip
    assert set(listed["scores"]["items"]["properties"]) == {str(c.name) for c in scores.columns}
    assert (whole["status"]["type"], whole["error"]["type"]) == ("integer", ["string", "null"])
    assert whole["caller"]["description"] == "key name, never the key"


def test_stored_json_is_described_without_references() -> None:
    attempt = opened_schema(Attempt)
    assert set(attempt["properties"]["target"]["properties"]) == {"upstream", "model", "variant"}
    assert "$ref" not in str(attempt)
