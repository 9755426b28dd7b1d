"""OTLP: the spans of an export request, in JSON or in Protobuf.

Source: opentelemetry-proto, "OTLP/JSON": ids are hexadecimal, 64-bit numbers are text, and members have camel case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.core.json_values import as_list, as_object, as_text
from gateway.features.traces.model import InvalidTrace

MEMBER = "resourceSpans"
TIME_NS = "event.time_ns"
_DEEPEST = 32
_FAILED = 2
_INT64 = 1 << 63
_FIXED64 = 1 << 64
Attributes = Mapping[str, Any]
Refuse = Callable[[InvalidTrace], None]
"""Takes the error of a span that cannot be read; the other spans of the request are read on."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span, whichever way it was encoded. Ids are hexadecimal."""

    trace: str
    id: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: Sequence[Attributes] = ()
    """Attributes of its events, each with its `event.name` and its time as TIME_NS."""
    failed: bool = False
    message: str = ""
    """Message of the span's status."""
    state: str = ""
    """Tracestate of the span."""
    resource: Attributes = field(default_factory=dict)


def raise_it(error: InvalidTrace) -> None:
    """Refuses the whole request with its first span that cannot be read."""
    raise error


def spans_in_json(document: Any, refuse: Refuse = raise_it) -> Iterator[Span]:
    """The spans of an export request. Raises InvalidTrace, naming the member. refuse: is called with what is wrong with
    a single span."""
    for i, of_resource in enumerate(_list(document, MEMBER, MEMBER)):
        at = f"{MEMBER}[{i}]"
        resource = _attributes(as_object(as_object(of_resource).get("resource")).get("attributes"), f"{at}.resource")
        for j, of_scope in enumerate(_list(of_resource, "scopeSpans", at)):
            spans = f"{at}.scopeSpans[{j}]"
            for k, span in enumerate(_list(of_scope, "spans", spans)):
                try:
                    found = _span(as_object(span), f"{spans}.spans[{k}]", resource)
                except InvalidTrace as error:
                    refuse(error)
                else:
                    yield found


def _list(value: Any, member: str, at: str) -> list[Any]:
    found = as_object(value).get(member, [])
    if not isinstance(found, list):
        raise InvalidTrace(f"{at}: {member} is a {type(found).__name__}, expected a list, as OTLP/JSON 1.x has it")
    return found


def _span(span: Mapping[str, Any], at: str, resource: Attributes) -> Span:
    status = as_object(span.get("status"))
    code = status.get("code", 0)
    return Span(
        trace=_hex(span, "traceId", 32, at),
        id=_hex(span, "spanId", 16, at),
        parent=as_text(span.get("parentSpanId")).lower().strip("0") and as_text(span.get("parentSpanId")).lower(),
        name=as_text(span.get("name")),
        start_ns=_integer(span, "startTimeUnixNano", at),
        end_ns=_integer(span, "endTimeUnixNano", at),
        attributes=_attributes(span.get("attributes"), at),
        events=[_event(as_object(each), at) for each in as_list(span.get("events"))],
        failed=code in (_FAILED, "STATUS_CODE_ERROR"),
        message=as_text(status.get("message")),
        state=as_text(span.get("traceState")),
        resource=resource,
    )


def _event(event: Mapping[str, Any], at: str) -> dict[str, Any]:
    time = {} if event.get("timeUnixNano") is None else {TIME_NS: _integer(event, "timeUnixNano", f"{at}.events")}
    return {**_attributes(event.get("attributes"), at), "event.name": as_text(event.get("name")), **time}


def _hex(span: Mapping[str, Any], member: str, length: int, at: str) -> str:
    text = as_text(span.get(member)).lower()
    if len(text) == length and set(text) <= set("0123456789abcdef") and text.strip("0"):
        return text
    raise InvalidTrace(f"{at}.{member}: {text[:60]!r}, expected {length} hexadecimal digits that are not all 0")


def _integer(span: Mapping[str, Any], member: str, at: str) -> int:
    """A time, which is a fixed64 of Protobuf."""
    value = span.get(member)
    try:
        if isinstance(value, str | int) and not isinstance(value, bool) and 0 <= int(value) < _FIXED64:
            return int(value)
    except ValueError:
        pass
    raise InvalidTrace(f"{at}.{member}: {str(value)[:60]!r}, expected nanoseconds since 1970")


def _attributes(given: Any, at: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in as_list(given):
        name = as_object(each).get("key")
        if isinstance(name, str):
            found[name] = _value(as_object(each).get("value"), at)
    return found


def _value(given: Any, at: str, depth: int = 0) -> Any:
    """An AnyValue."""
    if depth > _DEEPEST:
        raise InvalidTrace(f"{at}: an attribute is nested more than {_DEEPEST} deep")
    value = as_object(given)
    if "stringValue" in value:
        return as_text(value["stringValue"])
    if "intValue" in value:
        return _number(value["intValue"], int, at)
    if "doubleValue" in value:
        return _number(value["doubleValue"], float, at)
    if "boolValue" in value:
        return value["boolValue"] is True
    if "arrayValue" in value:
        return [_value(v, at, depth + 1) for v in as_list(as_object(value["arrayValue"]).get("values"))]
    if "kvlistValue" in value:
        pairs = as_list(as_object(value["kvlistValue"]).get("values"))
        return {as_text(as_object(p).get("key")): _value(as_object(p).get("value"), at, depth + 1) for p in pairs}
    return None


def _number(value: Any, kind: type[int] | type[float], at: str) -> int | float:
    """An int64 or a double of Protobuf; 0 for a double that is not finite."""
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidTrace(f"{at}: an attribute is {str(value)[:60]!r}, expected a number") from None
    if isinstance(number, int) and not -_INT64 <= number < _INT64:
        raise InvalidTrace(f"{at}: an attribute is {str(value)[:60]!r}, expected an integer of 64 bits")
    return number if math.isfinite(number) else 0


def spans_in_protobuf(data: bytes, refuse: Refuse = raise_it) -> Iterator[Span]:
    """The spans of an encoded ExportTraceServiceRequest. Raises InvalidTrace; CannotRun without the extra `otel`.
    refuse: as for spans_in_json."""
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as error:
        raise CannotRun(
            f"Protobuf needs OpenTelemetry's message types: {install_command('otel')}; "
            "or send and save traces as JSON (OTEL_EXPORTER_OTLP_PROTOCOL=http/json)"
        ) from error
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise InvalidTrace(f"not an ExportTraceServiceRequest of OTLP: {error}") from None
    for i, of_resource in enumerate(request.resource_spans):
        resource = _encoded_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for k, span in enumerate(of_scope.spans):
                try:
                    found = _encoded_span(span, f"resource_spans[{i}].spans[{k}]", resource)
                except InvalidTrace as error:
                    refuse(error)
                else:
                    yield found


def _encoded_span(span: Any, at: str, resource: Attributes) -> Span:
    if len(span.trace_id) != 16 or len(span.span_id) != 8:
        sizes = f"{len(span.trace_id)} and {len(span.span_id)} bytes"
        raise InvalidTrace(f"{at}: trace_id and span_id have {sizes}, expected 16 and 8")
    return Span(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex() if any(span.parent_span_id) else "",
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_encoded_attributes(span.attributes),
        events=[_encoded_event(event) for event in span.events],
        failed=span.status.code == _FAILED,
        message=span.status.message,
        state=span.trace_state,
        resource=resource,
    )


def _encoded_event(event: Any) -> dict[str, Any]:
    time = {TIME_NS: event.time_unix_nano} if event.time_unix_nano else {}
    return {**_encoded_attributes(event.attributes), "event.name": event.name, **time}


def _encoded_attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _encoded_value(pair.value) for pair in pairs}


def _encoded_value(value: Any) -> Any:
    """An AnyValue. Protobuf's own limit bounds how deep it is."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_encoded_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _encoded_attributes(value.kvlist_value.values)
    if kind is None or kind == "bytes_value":
        return None
    return getattr(value, kind)
