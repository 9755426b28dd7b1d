"""Nested spans that describe one call: the innermost is taken, in any order of requests."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fixtures import traces

from gateway.features.traces.formats.genai import record_of
from gateway.features.traces.formats.otlp import spans_in_json
from gateway.features.traces.model import SpanRecord
from gateway.features.traces.nesting import SeenSpans

pytestmark = pytest.mark.quick


def records(*spans: dict[str, Any]) -> list[SpanRecord]:
    return [record_of(each, "f") for each in spans_in_json(traces.export(*spans))]


class Remembered:
    """A shared state that only remembers."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def recall_all(self, names: list[str]) -> list[str | None]:
        return [self.values.get(name) for name in names]

    async def remember_all(self, values: dict[str, str], keep_s: int) -> None:
        self.values |= values


def nested() -> list[dict[str, Any]]:
    """A root, a framework's call around a chain around a client's call, and a second call of the client."""
    call = traces.chat_attributes()
    return [
        traces.span("root"),
        traces.span("framework", parent="root", attributes=call),
        traces.span("chain", parent="framework"),
        traces.span("client", parent="chain", attributes=call),
        traces.span("second", parent="root", attributes=call),
    ]


async def taken(batches: list[list[dict[str, Any]]]) -> list[str]:
    """The names of the calls that are taken of requests in this order, each sent twice."""
    seen, state, names = set[str](), Remembered(), {each["spanId"]: each["name"] for each in nested()}
    for batch in batches:
        for _ in range(2):
            calls, marks = await SeenSpans(state).choose(records(*batch))  # type: ignore[arg-type]
            await SeenSpans(state).remember(marks)  # type: ignore[arg-type]
            seen.update(names[call.span] for call in calls)
    return sorted(seen)


async def test_the_innermost_of_nested_spans_is_taken_as_they_end() -> None:
    assert await taken([[each] for each in reversed(nested())]) == ["client", "second"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
async def test_one_of_nested_spans_is_taken_in_one_request_of_any_order(order: tuple[int, ...]) -> None:
    spans = nested()
    assert await taken([[spans[i] for i in order]]) == ["client", "second"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
async def test_no_call_is_taken_twice_where_an_outer_one_comes_first(order: tuple[int, ...]) -> None:
    """No call is taken twice with a request for each span either. Two are taken only where the chain between them is
    not known yet.
    """
    spans = nested()
    found = await taken([[spans[i]] for i in order])
    assert "second" in found
    assert {"client", "framework"} & set(found)
    if order.index(2) < max(order.index(1), order.index(3)):
        assert len(found) == 2
