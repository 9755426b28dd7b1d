"""JSON Schemas that strangers wrote, compiled and applied within bounds. The only module that knows the validator."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson

from gateway.evals.scorers.schema_work import DEPTH, MAX_WORK, WORK, Unbounded, inspect, size_of, visits

MAX_BYTES = 256 * 1024
KEPT = 256  # compiled schemas

# Patterns without look-around and back-references run in linear time; the others give up after so many steps back.
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 18, dfa_size_limit=1 << 18)
_GAVE_UP = ("BacktrackLimitExceeded", "RegexEngineFailure")


@dataclass(frozen=True, slots=True)
class _Compiled:
    validator: Any
    visits: list[int]

    def allow(self, answer: Any, size: int) -> None:
        """size: no less than the answer's own. Raises Unbounded when comparing could take more than bounded work."""
        if self.visits[-1] * size <= MAX_WORK:
            return
        levels, size = size_of(answer)
        if self.visits[min(levels, len(self.visits) - 1)] * size > MAX_WORK:
            raise Unbounded(WORK)


class Schemas:
    """Compiled schemas by the hash of their text, the latest used kept. May be used from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, _Compiled | Unbounded] = OrderedDict()
        self._lock = threading.Lock()

    def mistake(self, schema: Any, answer: Any, size: int) -> str | None:
        """What an answer (parsed) has that its schema does not allow; None: it is valid.

        size: of the answer's text, in characters. Raises Unbounded, with the reason, for schemas that are none, or
        that leave the bounds.
        """
        compiled = self._compiled(schema)
        compiled.allow(answer, size)
        try:
            if compiled.validator.is_valid(answer):
                return None
            compiled.validator.validate(answer)
        except jsonschema_rs.ValidationError as error:
            if type(error.kind).__name__.split("_")[-1] in _GAVE_UP:
                raise Unbounded(WORK) from None
            return _where(error)
        except ValueError as error:
            raise Unbounded(f"an answer that can be compared ({_short(str(error))})") from None
        return "not valid against the schema"

    def _compiled(self, schema: Any) -> _Compiled:
        key, text = _key(schema)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is None:
            found = _compile(schema, len(text))
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        if isinstance(found, Unbounded):
            raise Unbounded(found.need)
        return found


def _key(schema: Any) -> tuple[bytes, bytes]:
    if not isinstance(schema, dict | bool):
        raise Unbounded("a schema that is an object")
    try:
        text = orjson.dumps(schema)
    except TypeError:
        raise Unbounded(DEPTH) from None
    return hashlib.sha256(text).digest(), text


def _compile(schema: Any, size: int) -> _Compiled | Unbounded:
    try:
        if size > MAX_BYTES:
            raise Unbounded(f"a schema of at most {MAX_BYTES // 1024} KB")
        counted = visits(schema, inspect(schema))
        validator = jsonschema_rs.validator_for(
            schema, retriever=_refuse, pattern_options=_PATTERNS, validate_formats=True
        )
    except Unbounded as unbounded:
        return unbounded
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return Unbounded(f"a schema that compiles ({_short(str(error))})")
    return _Compiled(validator, counted)


def _refuse(uri: str) -> Any:
    """By default the validator would fetch http:// and open file:// for whoever wrote the schema."""
    raise ValueError("remote references are refused")


def _where(error: Any) -> str:
    path = "".join(f"/{p}" for p in error.instance_path)
    return f"at {_short(path) or '/'}: {_short(error.message)}"


def _short(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
