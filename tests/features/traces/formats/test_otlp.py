"""OTLP in JSON and in Protobuf: the same spans, and errors that name the member."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures import traces

from gateway.features.traces.formats.otlp import spans_in_json, spans_in_protobuf
from gateway.features.traces.model import InvalidTrace

pytestmark = pytest.mark.quick


def test_both_encodings_give_the_same_spans() -> None:
    events = [{"name": "e", "attributes": traces.attributes({"n": 1, "list": ["a", 2.5, True]})}]
    first = traces.span("a", attributes=traces.chat_attributes(), events=events, status={"code": 2, "message": "m"})
    document = traces.export(first, traces.span("b", parent="a", traceState="ot=th:8"))
    in_json, in_protobuf = list(spans_in_json(document)), list(spans_in_protobuf(traces.encoded(document)))
    assert in_json == in_protobuf
    assert (in_json[0].failed, in_json[0].events[0]["list"], in_json[1].parent) == (
        True,
        ["a", 2.5, True],
        in_json[0].id,
    )


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("traceId", "zz", r"spans\[0\]\.traceId: 'zz', expected 32 hexadecimal digits"),
        ("spanId", "0" * 16, "not all 0"),
        ("startTimeUnixNano", "soon", "startTimeUnixNano: 'soon', expected nanoseconds"),
        ("startTimeUnixNano", None, "expected nanoseconds"),
    ],
)
def test_a_broken_span_is_named(member: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidTrace, match=said):
        list(spans_in_json(traces.export({**traces.span("a"), member: value})))


@pytest.mark.parametrize("document", [{"resourceSpans": {}}, {"resourceSpans": [{"scopeSpans": 3}]}])
def test_a_list_that_is_none_is_named(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidTrace, match="expected a list"):
        list(spans_in_json(document))


def test_anything_but_protobuf_is_refused() -> None:
    with pytest.raises(InvalidTrace, match="not an ExportTraceServiceRequest"):
        list(spans_in_protobuf(b"\xff\xff\xff"))


def test_a_value_that_is_too_deep_is_refused() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(40):
        value = {"arrayValue": {"values": [value]}}
    broken = {**traces.span("a"), "attributes": [{"key": "k", "value": value}]}
    with pytest.raises(InvalidTrace, match="nested more than"):
        list(spans_in_json(traces.export(broken)))
