"""A dataset: files of rows, rows as questions, and the whole file checked before any of it is asked.

A file is read once to find every error and its hash, and again, row by row, while it is replayed.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import orjson

from gateway.core.errors import CannotRun, NotInstalled
from gateway.core.sanitize import plain

COLUMNS = ("examples", "ground_truth", "cluster")
_FIELD_CHARACTERS = 1 << 27
_BATCH_ROWS = 1024


class DatasetError(CannotRun):
    """A dataset cannot be used; one line for each mistake, with its place."""


@dataclass(frozen=True, slots=True)
class Row:
    """place: "line 7". values: None: a blank line. mistake: why there are no values; None: there are."""

    place: str
    values: Mapping[str, Any] | None
    mistake: str | None = None


def rows(path: Path) -> Iterator[Row]:
    """Raises DatasetError for a file that is none of these, or cannot be opened, or has no usable header."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        instead = "; one JSON object a line is .jsonl" if path.suffix.lower() == ".json" else ""
        raise DatasetError(f"{path}: no dataset; expected {', '.join(READERS)}{instead}")
    try:
        yield from read(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    with path.open(encoding=_encoding(path), newline="") as file:
        lines = _Lines(path, iter(file))
        first = _header_line(path, lines)
        reader = csv.reader(itertools.chain(first, lines), delimiter=_delimiter(first[0]), strict=True)
        names = _header(path, reader)
        before = reader.line_num
        while True:
            place = f"line {before + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(place, None, f"not CSV: {error}; a quote within a quoted cell is doubled")
                return
            if cells is None:
                return
            before = reader.line_num
            yield _of_cells(place, names, cells)


class _Lines:
    """The lines of a text, with the place of bytes that are none."""

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._path, self._lines = path, lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except UnicodeDecodeError as error:
            place = f"{self._path}: line {_bad_line(self._path)}"
            raise DatasetError(f"{place}: not UTF-8 text; save it as UTF-8") from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _bad_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _header_line(path: Path, lines: Iterator[str]) -> list[str]:
    for line in lines:
        if line.strip():
            return [line]
    raise DatasetError(f"{path}: empty; expected a first line with the columns examples,ground_truth")


def _delimiter(header: str) -> str:
    """Spreadsheets of half the world write semicolons."""
    return max(",;\t", key=header.count)


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise DatasetError(f"{path}: line 1: not CSV: {error}") from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: line 1: column {', '.join(twice)} stands twice; one of each is expected")
    if "examples" not in names:
        found = ", ".join(names[:8])
        raise DatasetError(f"{path}: line 1: no column examples; expected examples,ground_truth, found {found}")
    return names


def _of_cells(place: str, names: list[str], cells: list[str]) -> Row:
    if not any(cell.strip() for cell in cells):
        return Row(place, None)
    if len(cells) != len(names):
        return Row(place, None, f"{len(cells)} cells, and {len(names)} columns; quote cells that hold the delimiter")
    return Row(place, {n: v if n == "examples" else v or None for n, v in zip(names, cells, strict=True) if n})


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield _of_line(f"line {number}", line.strip())


def _of_line(place: str, line: bytes) -> Row:
    if not line:
        return Row(place, None)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Row(place, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return Row(place, None, f"expected a JSON object, got {type(value).__name__}")
    return Row(place, value)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise NotInstalled(f'{path}: Parquet needs pyarrow: pip install "assay-gateway[parquet]"') from error
    arrow: Any = import_module("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise DatasetError(f"{path}: not Parquet: {error}") from error


READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = MappingProxyType(
    {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
)


Api = Literal["chat", "completions", "responses", "messages"]
PATHS: Mapping[Api, str] = MappingProxyType(
    {"chat": "/chat/completions", "completions": "/completions", "responses": "/responses", "messages": "/messages"}
)
_ASKED_WITH: Mapping[Api, tuple[str, ...]] = MappingProxyType(
    {"chat": ("messages",), "completions": ("prompt",), "responses": ("input", "prompt"), "messages": ("messages",)}
)
REFERENCES = ("reference", "ground_truth")
# What of a row with `messages` is part of the request; everything else there is somebody's own note.
_PARAMETERS = frozenset({
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "n", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "parallel_tool_calls", "functions", "function_call", "reasoning_effort", "verbosity",
})  # fmt: skip
# Of one sending, or of one place, and so no part of a question.
_NOT_ASKED = frozenset({
    "model", "stream", "stream_options", "store", "metadata", "user", "safety_identifier", "prompt_cache_key",
    "service_tier", "background",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """A question that is asked of every target.

    number: its place among the dataset's questions, from 1. request: the body, without a model. reference: the right
    answer; None: none is known. cluster: items that depend on each other (turns of one conversation, the same question
    twice) share it.
    """

    number: int
    api: Api
    request: Mapping[str, Any]
    reference: str | None
    cluster: str

    def canonical(self) -> bytes:
        """A row of JSONL, and what the dataset's hash is made of: the same for the same row, however it was written."""
        row: dict[str, Any] = {"api": self.api, "request": self.request, "cluster": self.cluster}
        if self.reference is not None:
            row["reference"] = self.reference
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)

    def example(self) -> str | None:
        """The one thing a single user says, as a row with `examples` has it; None: the request is more than that."""
        messages = self.request.get("messages")
        if self.api != "chat" or set(self.request) != {"messages"} or not messages or len(messages) != 1:
            return None
        [said] = messages
        plain = set(said) == {"role", "content"} and said["role"] == "user" and isinstance(said["content"], str)
        return str(said["content"]) if plain else None


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row as it was read. ignored: names in it that mean nothing here."""

    item: DatasetItem
    ignored: frozenset[str] = frozenset()


def item_of(row: Mapping[str, Any], number: int) -> ParsedRow:
    """A row in any of its forms. Raises ValueError, with what was expected.

    {"examples", "ground_truth"}: a question and its answer. {"messages", …}: a request, where a last message of the
    assistant is the reference, as in files for OpenAI's fine-tuning. {"request", "api"}: a body as it is.
    """
    forms = {"request": _whole, "messages": _messages, "examples": _example}
    form = next((name for name in forms if row.get(name) is not None), None)
    if form is None:
        if "examples" in row:
            raise ValueError("examples is empty; expected a question")
        found = ", ".join(sorted(row)[:8]) or "nothing"
        raise ValueError(f"expected `examples`, `messages` or `request`, found {found}")
    api, request, reference, known = forms[form](row)
    cluster = row.get("cluster")
    if cluster is not None and not isinstance(cluster, str | int):
        raise ValueError(f"cluster must be text, not {_kind(cluster)}")
    named = _request_digest(request) if cluster is None or cluster == "" else str(cluster)
    ignored = frozenset(k for k, v in row.items() if v is not None) - known - {*REFERENCES, "cluster"}
    return ParsedRow(DatasetItem(number, api, request, reference, named), ignored)


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
    request = {"messages": messages, **{k: v for k, v in row.items() if k in _PARAMETERS and v is not None}}
    return "chat", request, reference, _PARAMETERS | {"messages"}


def _whole(row: Mapping[str, Any]) -> Parts:
    named, body = row.get("api") or "chat", row["request"]
    api = next((known for known in _ASKED_WITH if known == named), None)
    if api is None:
        raise ValueError(f"api {named!r} cannot be replayed; expected one of {', '.join(_ASKED_WITH)}")
    if not isinstance(body, Mapping):
        raise ValueError(f"request must be an object, not {_kind(body)}")
    request = bare(body)
    if not any(request.get(name) for name in _ASKED_WITH[api]):
        raise ValueError(f"request has no {' or '.join(_ASKED_WITH[api])}")
    if "messages" in request:
        request["messages"] = _turns(request["messages"])
    return api, request, _reference(row), frozenset({"request", "api", "id"})


def bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what belongs to one sending: the model, the stream, the caller's own marks."""
    return {k: v for k, v in body.items() if k not in _NOT_ASKED}


def _turns(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages must be a list with something in it, not {_kind(messages)}")
    out = []
    for at, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise ValueError(f"messages[{at}] must be an object with a role")
        # Tables give every turn every column; `weight` is a word to a trainer.
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


_MISTAKES_SHOWN = 10
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file that can be asked. hash: 64 hex digits over its canonical rows, in order. rows: its questions;
    references: how many have one. blank: empty rows, which are passed over. ignored: names that mean nothing here.
    """

    path: Path
    hash: str
    rows: int
    references: int
    blank: int
    ignored: tuple[str, ...]
    _digests: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    def items(self) -> Iterator[DatasetItem]:
        """The rows in order, one at a time. Raises DatasetError when the file is not what it was."""
        number = 0
        for item in _items(self.path):
            at = number * _DIGEST_BYTES
            if _item_digest(item) != self._digests[at : at + _DIGEST_BYTES]:
                break
            yield item
            number += 1
        if number != self.rows:
            raise DatasetError(f"{self.path} was changed while it was replayed (row {number + 1}); start again")


def scan(path: Path) -> Dataset:
    """Reads the whole file and holds none of its rows. Raises DatasetError with the first mistakes, by their lines."""
    whole, digests, mistakes = sha256(), bytearray(), []
    counts = {"rows": 0, "references": 0, "blank": 0}
    ignored: set[str] = set()
    wrong = 0
    for row in rows(path):
        if row.values is None and row.mistake is None:
            counts["blank"] += 1
            continue
        try:
            if row.mistake is not None or row.values is None:
                raise ValueError(row.mistake)
            read = item_of(row.values, counts["rows"] + 1)
            canonical = read.item.canonical()
        except (ValueError, TypeError) as error:
            wrong += 1
            if wrong <= _MISTAKES_SHOWN:
                mistakes.append(plain(f"{path}: {row.place}: {error}"))
            continue
        whole.update(canonical + b"\n")
        digests += sha256(canonical).digest()[:_DIGEST_BYTES]
        ignored |= read.ignored
        counts["rows"] += 1
        counts["references"] += read.item.reference is not None
    if wrong > _MISTAKES_SHOWN:
        mistakes.append(f"{path}: and {wrong - _MISTAKES_SHOWN} more")
    if mistakes:
        raise DatasetError("\n".join(mistakes))
    if not counts["rows"]:
        raise DatasetError(f"{path}: no rows; expected at least one question")
    names = tuple(plain(name) for name in sorted(ignored))
    return Dataset(path, whole.hexdigest(), **counts, ignored=names, _digests=bytes(digests))


def _items(path: Path) -> Iterator[DatasetItem]:
    number = 0
    for row in rows(path):
        if row.mistake is not None:
            raise DatasetError(f"{path}: {row.place}: {row.mistake}")
        if row.values is None:
            continue
        number += 1
        try:
            yield item_of(row.values, number).item
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{path}: {row.place}: {error}") from error


def _item_digest(item: DatasetItem) -> bytes:
    return sha256(item.canonical()).digest()[:_DIGEST_BYTES]
