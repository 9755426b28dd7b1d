"""Checks that a rule scores within its bounds, or is not applicable, for every answer, request and reference."""

from __future__ import annotations

import pytest
from fixtures.examples import examples
from fixtures.scoring import INSTALLED, JUDGES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall
from gateway.core.exchange import Usage
from gateway.core.score import Score, Skipped

RULES = [name for name in INSTALLED if name not in JUDGES]  # which call a model and have their own tests
TEXT = st.text(st.characters(), max_size=200) | st.text(alphabet='{}[]":,1a`\n\\ ', max_size=200)
SCHEMA = st.sampled_from(
    [{}, True, {"type": "object"}, {"$ref": "#"}, {"$ref": "http://x/"}, {"pattern": "("}, 3, None]
)
COMPLETIONS = st.builds(
    Completion,
    text=TEXT,
    refusal=st.sampled_from(["", "No."]),
    tool_calls=st.lists(st.builds(ToolCall, TEXT, st.sampled_from(["f", "g", ""]), TEXT), max_size=3).map(tuple),
    finish_reason=st.sampled_from([None, "stop", "length", "content_filter", "tool_calls"]),
    usage=st.none() | st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9)),
    mean_logprob=st.none() | st.floats(),
    error=st.none() | TEXT,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "response_format": SCHEMA.map(lambda s: {"type": "json_schema", "json_schema": {"schema": s}}),
        "tools": SCHEMA.map(lambda s: [{"type": "function", "function": {"name": "f", "parameters": s}}]),
        "tool_choice": st.sampled_from(["auto", "required", "none", {"type": "function", "function": {"name": "g"}}]),
        "messages": TEXT.map(lambda t: [{"role": "user", "content": t}]),
    },
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "api": st.sampled_from(["chat", "messages", "responses", "completions", "embeddings", "other"]),
        "status": st.sampled_from([200, 400, 500]),
        "outcome": st.sampled_from(["ok", "client_gone", "upstream_error", "timeout", "cut"]),
        "stream": st.booleans(),
        "truncated": st.booleans(),
        "first_token_s": st.none() | st.floats(0, 1e6),
        "total_s": st.floats(0, 1e6),
    },
)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(COMPLETIONS, REQUESTS, st.none() | TEXT, FIELDS)
def test_a_rule_never_raises_and_stays_in_its_bounds(
    ask, subject, built_in, name, completion, request_, reference, fields
):
    rule = built_in(name)
    result = ask(rule, subject(completion, request_, reference, **fields))
    if isinstance(result, Skipped):
        assert result.need
        return
    assert isinstance(result, Score)
    low, high = rule.bounds
    assert low is None or result.value >= low
    assert high is None or result.value <= high
