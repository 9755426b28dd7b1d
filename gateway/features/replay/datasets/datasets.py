"""A dataset: rows as questions, and the whole file checked before the first request. row_files.py reads the rows.

A file is read once to find every error and its hash, and again, row by row, while it is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import orjson

from gateway.core.errors import CannotRun
from gateway.core.sanitize import plain
from gateway.features.replay.datasets.row_formats import QUESTIONS, READ_COLUMNS, REQUEST_PARAMETERS, ColumnMap, native
from gateway.features.row_files import DatasetRow, TableColumns, read_rows
from gateway.scorers.tool_calls_agree import expected_calls


def rows(path: Path, columns: ColumnMap = ColumnMap()) -> Iterator[DatasetRow]:  # noqa: B008 - frozen
    """columns: those that --map names. Raises CannotRun for another kind of file, one that cannot be opened, or one
    without a usable header."""
    return read_rows(path, columns_of(columns))


def columns_of(columns: ColumnMap) -> TableColumns:
    """The columns that a dataset needs."""

    def refusal(names: Sequence[str]) -> str | None:
        if columns:
            return columns.missing(names)
        if any(name in names for name in QUESTIONS):
            return None
        return (
            f"no column examples; expected examples,ground_truth, found {', '.join(names[:8])}; "
            "name the column of the questions with --map question=COLUMN"
        )

    return TableColumns("examples,ground_truth", refusal, columns.tops | READ_COLUMNS)


Api = Literal["chat", "completions", "responses", "messages"]
PATHS: Mapping[Api, str] = MappingProxyType(
    {"chat": "/chat/completions", "completions": "/completions", "responses": "/responses", "messages": "/messages"}
)
_QUESTION_MEMBERS: Mapping[Api, tuple[str, ...]] = MappingProxyType(
    {"chat": ("messages",), "completions": ("prompt",), "responses": ("input", "prompt"), "messages": ("messages",)}
)
_EXPECTED = "expected_calls"
REFERENCES = ("reference", "ground_truth")
# Members about one call or one deployment; they are not part of the question.
_OF_CALL = ("model", "stream", "stream_options", "store", "background", "service_tier")
_OF_CALLER = ("metadata", "user", "safety_identifier", "prompt_cache_key")
_CALL_MEMBERS = frozenset({*_OF_CALL, *_OF_CALLER})


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """A question that every target is asked."""

    number: int
    """The position among the dataset's questions, from 1."""
    api: Api
    request: Mapping[str, Any]
    """The body, without a model."""
    reference: str | None
    """The right answer. None if unknown."""
    cluster: str
    """Shared by items that depend on each other: turns of one conversation, or the same question twice."""
    exchange_id: str | None = field(default=None, compare=False)
    """The recorded call that it comes from; None if it comes from none. It is not part of the canonical form."""
    expected_calls: str | None = None
    """The tool calls that are expected, as a JSON list: of a recorded turn, or of the file. None if unknown."""

    def canonical(self) -> bytes:
        """The item as a row of JSONL, which the dataset's hash is built from: the same in every file format."""
        row: dict[str, Any] = {"api": self.api, "request": self.request, "cluster": self.cluster}
        if self.reference is not None:
            row["reference"] = self.reference
        if self.expected_calls is not None:
            row[_EXPECTED] = self.expected_calls
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)

    def example(self) -> str | None:
        """The text of a request that is a single user message. None if the request has more than that."""
        messages = self.request.get("messages")
        if self.api != "chat" or set(self.request) != {"messages"} or not messages or len(messages) != 1:
            return None
        [message] = messages
        single = set(message) == {"role", "content"} and message["role"] == "user"
        content = message["content"] if single else None
        return content if isinstance(content, str) else None


@dataclass(frozen=True, slots=True)
class ParsedRow:
    item: DatasetItem
    ignored: frozenset[str] = frozenset()
    """Members of the row that have no meaning here."""


def item_of(row: Mapping[str, Any], number: int) -> ParsedRow:
    """A row in any of its forms. Raises ValueError that names what was expected.

    {"examples", "ground_truth"}: a question and its answer. {"messages", …}: a request, where a last message of the
    assistant is the reference, as in files for OpenAI's fine-tuning. {"request", "api"}: a request body.
    """
    forms = {"request": _body, "messages": _messages, "examples": _example}
    form = next((name for name in forms if row.get(name) is not None), None)
    if form is None:
        if "examples" in row:
            raise ValueError("examples is empty; expected a question")
        found = ", ".join(sorted(row)[:8]) or "nothing"
        raise ValueError(f"expected `examples`, `messages` or `request`, found {found}")
    api, request, reference, known = forms[form](row)
    recorded = row.get("id") if form == "request" else row.get("exchange_id")
    cluster = row.get("cluster")
    if cluster is not None and not isinstance(cluster, str | int):
        raise ValueError(f"cluster must be text, not {_kind(cluster)}")
    named = _request_digest(request) if cluster is None or cluster == "" else str(cluster)
    ignored = (
        frozenset(k for k, v in row.items() if v is not None)
        - known
        - {*REFERENCES, _EXPECTED, "cluster", "exchange_id"}
    )
    recorded = recorded if isinstance(recorded, str) else None
    item = DatasetItem(number, api, request, reference, named, recorded, _expected(row.get(_EXPECTED)))
    return ParsedRow(item, ignored)


def _expected(calls: Any) -> str | None:
    """A list of tool calls, or its JSON. Raises ValueError."""
    if calls is None or calls == "":
        return None
    text = calls if isinstance(calls, str) else orjson.dumps(calls).decode()
    if expected_calls(text) is None:
        raise ValueError(f'{_EXPECTED} must be a list of tool calls, each with "name" and "arguments"')
    return text


Parts = tuple[Api, dict[str, Any], str | None, frozenset[str]]


def _example(row: Mapping[str, Any]) -> Parts:
    question = row["examples"]
    if not isinstance(question, str):
        raise ValueError(f"examples must be text, not {_kind(question)}")
    if not question.strip():
        raise ValueError("examples is empty; expected a question")
    return "chat", {"messages": [{"role": "user", "content": question}]}, _reference(row), frozenset({"examples"})


def _messages(row: Mapping[str, Any]) -> Parts:
    messages = _turns(row["messages"])
    reference = _reference(row)
    if messages[-1]["role"] == "assistant" and len(messages) > 1 and not any(name in row for name in REFERENCES):
        last = messages.pop().get("content")
        reference = last if isinstance(last, str) else None
    request = {"messages": messages, **{k: v for k, v in row.items() if k in REQUEST_PARAMETERS and v is not None}}
    return "chat", request, reference, REQUEST_PARAMETERS | {"messages"}


def _body(row: Mapping[str, Any]) -> Parts:
    named, body = row.get("api") or "chat", row["request"]
    api = next((known for known in _QUESTION_MEMBERS if known == named), None)
    if api is None:
        raise ValueError(f"api {named!r} cannot be replayed; expected one of {', '.join(_QUESTION_MEMBERS)}")
    if not isinstance(body, Mapping):
        raise ValueError(f"request must be an object, not {_kind(body)}")
    request = bare(body)
    if not any(request.get(name) for name in _QUESTION_MEMBERS[api]):
        raise ValueError(f"request has no {' or '.join(_QUESTION_MEMBERS[api])}")
    if "messages" in request:
        request["messages"] = _turns(request["messages"])
    return api, request, _reference(row), frozenset({"request", "api", "id"})


def bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without the members about one call: the model, streaming, the caller's own metadata."""
    return {k: v for k, v in body.items() if k not in _CALL_MEMBERS}


def _turns(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages must be a non-empty list, not {_kind(messages)}")
    out = []
    for at, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise ValueError(f"messages[{at}] must be an object with a role")
        # Tables give every turn every column; `weight` is for fine-tuning.
        out.append({k: v for k, v in turn.items() if v is not None and k != "weight"})
        if "content" not in out[-1] and "content" in turn:
            out[-1]["content"] = None
    return out


def _reference(row: Mapping[str, Any]) -> str | None:
    given = {name: row[name] for name in REFERENCES if row.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, not {_kind(value)}")
    if len(set(given.values())) > 1:
        raise ValueError("reference and ground_truth differ; give one of them")
    return next(iter(given.values()), None) or None


def _request_digest(request: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


_MAX_ERRORS = 10
_DIGEST_BYTES = 8


class DatasetSource(Protocol):
    @property
    def path(self) -> Path:
        """The file; of another source, a name that files written next to it may have."""

    @property
    def columns(self) -> ColumnMap: ...

    def __str__(self) -> str: ...

    def rows(self) -> Iterator[DatasetRow]: ...


@dataclass(frozen=True, slots=True)
class DatasetFile:
    path: Path
    columns: ColumnMap = field(default_factory=ColumnMap)

    def __str__(self) -> str:
        return str(self.path)

    def rows(self) -> Iterator[DatasetRow]:
        return rows(self.path, self.columns)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows without errors."""

    source: DatasetSource
    hash: str
    """64 hex digits over its canonical rows, in order."""
    rows: int
    references: int
    """The number of rows with a right answer."""
    blank: int
    """The number of empty rows, which are skipped."""
    ignored: tuple[str, ...]
    """Names of columns or members that have no meaning here."""
    _digests: bytes = field(repr=False)
    notes: tuple[str, ...] = ()
    """One line for each row that is not as even as the others, and for each kind of row that is left out."""

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def name(self) -> str:
        return self.path.name

    def items(self) -> Iterator[DatasetItem]:
        """The items in order, one at a time. Raises CannotRun if the rows have changed since the scan."""
        number = 0
        for item in _items(self.source):
            at = number * _DIGEST_BYTES
            if _digest(item.canonical()) != self._digests[at : at + _DIGEST_BYTES]:
                break
            yield item
            number += 1
        if number != self.rows:
            raise CannotRun(f"{self.source} changed during the replay (row {number + 1}); start again")


def scan(source: Path | DatasetSource) -> Dataset:
    """Reads all rows without keeping them. Raises CannotRun with the first errors and their lines.

    A row with too many cells is left out with a note; any other error refuses the dataset.
    """
    if isinstance(source, Path):
        source = DatasetFile(source)
    found = _Scan()
    for row in source.rows():
        found.take(row, source.columns)
    return found.dataset(source)


@dataclass(slots=True)
class _Scan:
    digest: Any = field(default_factory=sha256)
    digests: bytearray = field(default_factory=bytearray)
    rows: int = 0
    references: int = 0
    blank: int = 0
    left_out: int = 0
    ignored: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    fatal: int = 0
    short: list[str] = field(default_factory=list)

    def take(self, row: DatasetRow, columns: ColumnMap) -> None:
        if row.values is None and row.error is None:
            self.blank += 1
            return
        try:
            if row.error is not None or row.values is None:
                raise ValueError(row.error)
            values = native(row.values, columns)
            if values is None:
                self.left_out += 1
                return
            read = item_of(values, self.rows + 1)
            canonical = read.item.canonical()
        except (ValueError, TypeError) as error:
            self.errors.append(f"{row.place}: {error}")
            self.fatal += not row.uneven or row.values is not None
            return
        if row.uneven:
            self.short.append(row.place)
        self.digest.update(canonical + b"\n")
        self.digests += _digest(canonical)
        self.ignored |= read.ignored
        self.rows += 1
        self.references += read.item.reference is not None

    def dataset(self, source: DatasetSource) -> Dataset:
        lines = [plain(f"{source}: {error}") for error in self.errors[:_MAX_ERRORS]]
        if len(self.errors) > _MAX_ERRORS:
            lines.append(f"{source}: and {len(self.errors) - _MAX_ERRORS} more")
        if self.fatal or (self.errors and not self.rows):
            raise CannotRun("\n".join(lines))
        if not self.rows:
            raise CannotRun(f"{source}: there are no rows; expected at least one question")
        notes = [f"left out: {line}" for line in lines]
        if self.short:
            places = f"{', '.join(self.short[:5])}{' and more' if len(self.short) > 5 else ''}"
            notes.append(f"{len(self.short)} rows have fewer cells than columns, and the last ones are empty: {places}")
        if self.left_out:
            notes.append(f"{self.left_out} rows of other arms (role is not served) left out")
        names = tuple(plain(name) for name in sorted(self.ignored))
        counts = (self.rows, self.references, self.blank)
        return Dataset(source, self.digest.hexdigest(), *counts, names, bytes(self.digests), tuple(notes))


def _items(source: DatasetSource) -> Iterator[DatasetItem]:
    number = 0
    for row in source.rows():
        if row.values is None and (row.error is None or row.uneven):
            continue
        try:
            if row.values is None:
                raise ValueError(row.error)
            values = native(row.values, source.columns)
            if values is not None:
                number += 1
                yield item_of(values, number).item
        except (ValueError, TypeError) as error:
            raise CannotRun(f"{source}: {row.place}: {error}") from error


def _digest(canonical: bytes) -> bytes:
    return sha256(canonical).digest()[:_DIGEST_BYTES]
