"""The base of every section of gateway.yaml, the types of single values, and the sections `log` and `otel`.

`log` and `otel` live here because logging and tracing start before, and without, the rest of a configuration.
"""

from __future__ import annotations

from datetime import date, datetime
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A mapping with known keys; any other key is an error. The string under a field is its public documentation:
    docs/configuration.md and `gateway schema` print it, see schema.py."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s{}\"\\]+$")]
NonEmpty = Annotated[str, Field(min_length=1)]
ModelName = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,31}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RouteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
RouteDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


def number(value: Any) -> Any:
    """Rejects text where a number is expected, also text that looks like one, such as "0.5"."""
    if isinstance(value, str | bool):
        raise ValueError(f"expected a number, got {value!r}")
    return value


def network(value: str) -> str:
    """Rejects what is neither an address nor a network, and one whose host bits are set."""
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 10.0.0.0/8: {error}") from None
    return value


def day(value: Any) -> Any:
    """Rejects values that are not a day, also a time and a number, which could be read as one."""
    try:
        if isinstance(value, str) and len(value) == len("2027-01-14"):
            return datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError:
        pass
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("expected a day (UTC) such as 2027-01-14")


Day = Annotated[date, BeforeValidator(day)]
IpNetwork = Annotated[str, AfterValidator(network)]
ForwardedPath = Annotated[
    str,
    Field(
        pattern=r"^(?:(?:GET|HEAD|POST|PUT|PATCH|DELETE) )?"
        r"/(?:(?:v1|v1alpha|v1beta|guardrail|guardrail-checks)/|async-invoke)[^\s?#*%]*\*?$",
        max_length=300,
    ),
]
Part = Annotated[float, BeforeValidator(number), Field(gt=0, le=1)]
Weight = Annotated[float, BeforeValidator(number), Field(gt=0)]
LogFormat = Literal["auto", "json", "text"]


class LogConfig(Section):
    """The log on stderr. It never contains a key, a header, a prompt or an answer."""

    format: LogFormat = "auto"
    """`auto` writes text to a terminal and JSON lines elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""
    access: bool = True
    """Write one line for each call."""


class OtelConfig(Section):
    """Export of spans and scores to an OpenTelemetry collector over OTLP/HTTP. Needs the extra `otel`."""

    endpoint: Url
    """Base URL of the collector, such as `http://127.0.0.1:4318`, without `/v1/traces`."""
    headers: dict[str, str] = Field({})
    """Headers of every export request, such as an API key."""
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of calls that are traced when the request has no `traceparent`. A `traceparent` decides for itself."""
    content: bool = False
    """Export the prompts and answers of recorded exchanges, redacted as they are recorded, as spans of the consumer.
    Everyone who reads the collector can then read them."""
    service: Name = "assay-gateway"
    """The `service.name` of the exported spans."""
