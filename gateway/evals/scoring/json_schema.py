"""JSON Schemas that strangers wrote, compiled and applied within bounds. The only module that knows the validator."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson

from gateway.evals.scoring.schema_cost import (
    DEPTH,
    LARGE_PATTERN,
    MAX_WORK,
    SMALL_PATTERN,
    WORK,
    UnboundedSchema,
    inspect,
    size_of,
    visits,
)

MAX_BYTES = 256 * 1024
CHEAP = 100_000  # visits, with an answer's size in characters: a millisecond for schemas that nobody bends
EXPLAINED = 5_000  # the same, where finding the mistake comes on top

# The linear engine and small programs first. What needs more gets it, counts for more, and gives up in the end.
_SMALL = jsonschema_rs.RegexOptions(size_limit=1 << 15, dfa_size_limit=1 << 18)
_LARGE = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20, dfa_size_limit=1 << 18)
_GAVE_UP = ("BacktrackLimitExceeded", "RegexEngineFailure")


class SchemaTooSlow(Exception):
    """Not now: it would hold up the event loop."""


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A schema that may be used. visits: see schema_work.py."""

    validator: Any
    visits: list[int]

    def mistake(self, answer: Any, size: int, *, at_once: bool = False) -> str | None:
        """What a parsed answer has that the schema does not allow; None: it is valid.

        size: of the answer's text, in characters. Raises Unbounded when comparing would leave the bounds, and Slow when
        it has to be done at once and would take longer than about a millisecond.
        """
        if at_once and self.visits[-1] * size > CHEAP:
            raise SchemaTooSlow
        self._allow(answer, size)
        try:
            if self.validator.is_valid(answer):
                return None
            if at_once and self.visits[-1] * size > EXPLAINED:
                raise SchemaTooSlow
            self.validator.validate(answer)
        except jsonschema_rs.ValidationError as error:
            if type(error.kind).__name__.split("_")[-1] in _GAVE_UP:
                raise UnboundedSchema(WORK) from None
            return _where(error)
        except ValueError as error:
            raise UnboundedSchema(f"an answer that can be compared ({_short(str(error))})") from None
        return "not valid against the schema"

    def _allow(self, answer: Any, size: int) -> None:
        if self.visits[-1] * size <= MAX_WORK:  # the size in values is no more than in characters
            return
        levels, size = size_of(answer)
        if self.visits[min(levels, len(self.visits) - 1)] * size > MAX_WORK:
            raise UnboundedSchema(WORK)


class SchemaCache:
    """Compiled schemas by the hash of their text, the latest used kept. May be used from several threads.

    Both ways to get one raise Unbounded, with the reason, for what is no schema or leaves the bounds.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, CompiledSchema | UnboundedSchema] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, schema: Any) -> CompiledSchema | None:
        """None: it has to be compiled first."""
        key, _ = _key(schema)
        return self._find(key)

    def compile(self, schema: Any) -> CompiledSchema:
        key, text = _key(schema)
        found = self._find(key)
        if found is not None:
            return found
        made = _compile(schema, len(text))
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return _usable(made)

    def _find(self, key: bytes) -> CompiledSchema | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
        return _usable(found)


def _usable(found: CompiledSchema | UnboundedSchema) -> CompiledSchema:
    if isinstance(found, UnboundedSchema):
        raise UnboundedSchema(found.need)
    return found


def _key(schema: Any) -> tuple[bytes, bytes]:
    if not isinstance(schema, dict | bool):
        raise UnboundedSchema("a schema that is an object")
    try:
        text = orjson.dumps(schema)
    except TypeError:
        raise UnboundedSchema(DEPTH) from None
    return hashlib.sha256(text).digest(), text


def _compile(schema: Any, size: int) -> CompiledSchema | UnboundedSchema:
    try:
        if size > MAX_BYTES:
            raise UnboundedSchema(f"a schema of at most {MAX_BYTES // 1024} KB")
        references = inspect(schema)
        counted = visits(schema, references, SMALL_PATTERN)
        try:
            return CompiledSchema(_validator(schema, _SMALL), counted)
        except jsonschema_rs.ValidationError:  # also what a pattern is that the linear engine does not know
            return CompiledSchema(_validator(schema, _LARGE), visits(schema, references, LARGE_PATTERN))
    except UnboundedSchema as unbounded:
        return unbounded
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return UnboundedSchema(f"a schema that compiles ({_short(str(error))})")


def _validator(schema: Any, patterns: Any) -> Any:
    return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=patterns, validate_formats=True)


def _refuse(uri: str) -> Any:
    """By default the validator would fetch http:// and open file:// for whoever wrote the schema."""
    raise ValueError("remote references are refused")


def _where(error: Any) -> str:
    path = "".join(f"/{p}" for p in error.instance_path)
    return f"at {_short(path) or '/'}: {_short(error.message)}"


def _short(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
