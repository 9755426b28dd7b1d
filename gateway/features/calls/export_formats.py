"""The forms of an export. Each writes exchanges one by one, and holds few of them in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Literal, Protocol, get_args

from gateway.core.errors import CannotRun
from gateway.core.sanitize import cell, to_json
from gateway.features.calls.export_rows import PLAIN, columns, conversation, evaluated, preferred, row
from gateway.store.query import Found

Form = Literal["jsonl", "openai-chat", "openai-evals", "dpo", "csv", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)
_GROUP_ROWS = 1_000  # of a Parquet file
_GROUP_BYTES = 8_000_000


class ExportWriter(Protocol):
    """Writes exchanges, and the form dpo preferences. add raises NotExportable, and writes nothing, for what does not
    fit the form."""

    def add(self, found: Any) -> None: ...

    def close(self) -> None: ...


def writer(form: Form, file: IO[bytes], scorers: Sequence[str]) -> ExportWriter:
    """scorers: names of the scorers in the store. Raises CannotRun if a library is missing."""
    named = columns(scorers)
    if form == "parquet":
        return ParquetWriter(file, named)
    if form == "csv":
        return CsvWriter(file, named)
    as_object: Mapping[Form, Callable[[Any], dict[str, Any]]] = {
        "jsonl": lambda found: _with_iso_time(row(found, named)),
        "openai-chat": conversation,
        "openai-evals": evaluated,
        "dpo": preferred,
    }
    return JsonLinesWriter(file, as_object[form])


def _with_iso_time(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "received": values["received"].isoformat()}


class JsonLinesWriter:
    """JSON, one object per line."""

    def __init__(self, file: IO[bytes], as_object: Callable[[Any], dict[str, Any]]) -> None:
        self._file = file
        self._object = as_object

    def add(self, found: Any) -> None:
        self._file.write(to_json(self._object(found), indent=False).encode() + b"\n")

    def close(self) -> None:
        self._file.flush()


class CsvWriter:
    """CSV with a header (RFC 4180), without formulas. The messages are JSON."""

    def __init__(self, file: IO[bytes], named: Mapping[str, str]) -> None:
        self._named = named
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._columns = [*PLAIN, *named.values()]
        self._csv.writerow(self._columns)

    def add(self, found: Found) -> None:
        values = row(found, self._named)
        values["received"] = values["received"].isoformat()
        values["messages"] = to_json(values["messages"], indent=False)
        for name in ("feedback", "predictions"):
            values[name] = to_json(values[name], indent=False) if values[name] else ""
        self._csv.writerow([cell(v) if isinstance(v, str) else v for v in (values[name] for name in self._columns)])

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class ParquetWriter:
    """Parquet, written by pyarrow. At most one row group is in memory."""

    def __init__(self, file: IO[bytes], named: Mapping[str, str]) -> None:
        self._arrow = arrow = _pyarrow()
        self._named = named
        self._schema = _schema(arrow, named)
        self._writer = arrow.parquet.ParquetWriter(file, self._schema)
        self._held: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, found: Found) -> None:
        self._held.append(row(found, self._named))
        self._bytes += found["bytes"]
        if len(self._held) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> None:
        if self._held:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._held, schema=self._schema))
        self._held, self._bytes = [], 0


class FeedbackWriter:
    """Feedback as rows of its own, for what comes later than its exchange was written. Held in memory until close()."""

    def __init__(self, form: Form, file: IO[bytes]) -> None:
        """form: jsonl or parquet. Raises CannotRun if a library is missing."""
        self._file = file
        self._arrow = _pyarrow() if form == "parquet" else None
        self._held: list[dict[str, Any]] = []

    def add(self, given: Mapping[str, Any]) -> None:
        own = {name: given[name] for name in ("feedback_id", "name", "value", "label", "comment", "correction")}
        at = datetime.fromtimestamp(given["at"], UTC)
        self._held.append({**own, "exchange_id": given["resolved"], "at": at})

    def close(self) -> None:
        arrow = self._arrow
        if arrow is None:
            for row in self._held:
                self._file.write(to_json({**row, "at": row["at"].isoformat()}, indent=False).encode() + b"\n")
            return
        text = arrow.string()
        kinds = {"value": arrow.float64(), "at": arrow.timestamp("us", tz="UTC")}
        named = ("feedback_id", "exchange_id", "at", "name", "value", "label", "comment", "correction")
        schema = arrow.schema([(name, kinds.get(name, text)) for name in named])
        arrow.parquet.write_table(arrow.Table.from_pylist(self._held, schema=schema), self._file)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CannotRun("the parquet form needs pyarrow: pip install 'assay-gateway[parquet]'") from error
    return pyarrow


def _schema(arrow: Any, named: Mapping[str, str]) -> Any:
    text, number, integer = arrow.string(), arrow.float64(), arrow.int64()
    turn = arrow.struct([("role", text), ("content", text)])
    score = arrow.struct(
        [("scorer", text), ("version", text), ("value", number), ("label", text), ("status", text), ("pi", number)]
    )
    rating = arrow.struct([("name", text), ("value", number), ("label", text), ("comment", text), ("correction", text)])
    prediction = arrow.struct(
        [*((name, text) for name in ("scorer", "target", "version")), ("predicted", number), ("pi", number),
         ("judged", arrow.bool_())]
    )  # fmt: skip
    kinds = {
        "received": arrow.timestamp("us", tz="UTC"), "messages": arrow.list_(turn), "feedback": arrow.list_(rating),
        "predictions": arrow.list_(prediction),
        **dict.fromkeys(("status", "input_tokens", "output_tokens"), integer),
        **dict.fromkeys(("cost_usd", "first_token_s", "total_s", "pi"), number),
    }  # fmt: skip
    plain = [(name, kinds.get(name, text)) for name in PLAIN]
    return arrow.schema([*plain, ("scores", arrow.list_(score)), *((name, number) for name in named.values())])
