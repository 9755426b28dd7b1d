"""The section `otel` of gateway.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.types import Name, Section, Url


class OtelConfig(Section):
    """Spans of calls, and what scorers say of them, to an OpenTelemetry collector over OTLP/HTTP. Needs the extra otel.

    endpoint: the collector's address, as in http://127.0.0.1:4318, without /v1/traces. headers: sent to it, as a key
    may be needed. sample: of the calls that come without a `traceparent`, how many are traced; one that comes with one
    is traced if it says so. service: the name under which the collector shows it.
    """

    endpoint: Url
    headers: dict[str, str] = Field({})
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    service: Name = "assay-gateway"
