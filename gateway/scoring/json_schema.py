"""Compiles and applies JSON Schemas from untrusted clients within bounds. The only module that uses the validator.

Validation runs in Rust and holds the interpreter's lock, so no deadline can stop it, and `anyOf` over two references to
itself doubles the work at each level of the answer. The work is therefore bounded before the validator runs.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson

MAX_DEPTH = 64  # levels, of a schema and of an answer
MAX_WORK = 1_000_000  # visits of one keyword to one value, at up to about a microsecond
MAX_PATTERNS = 100
SMALL_PATTERN = 100  # visits that one match of a pattern counts for, when it is small and without look-around
LARGE_PATTERN = 3000  # any other
MULTIPLE_OF = 30  # visits for multipleOf, which is exact for numbers of any size
MAX_NESTED = 16  # references through references, at one position of an answer
MAX_STEPS = 50_000  # of the count itself

_ALL_HERE = ("allOf", "anyOf", "oneOf")
_ONE_HERE = ("not", "if", "then", "else")
_NAMED_HERE = ("dependentSchemas", "dependencies")
_ONE_BELOW = ("additionalProperties", "items", "additionalItems", "contains", "propertyNames")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


class UnboundedSchema(Exception):
    """A schema, or a schema with an answer, that exceeds the bounds."""

    need: str
    """Change that would make it usable."""

    def __init__(self, need: str) -> None:
        super().__init__(need)
        self.need = need


REMOTE = "a schema without remote references"
POINTERS = "a schema whose references are JSON pointers into itself, without ids inside"
DEPTH = f"a schema of at most {MAX_DEPTH} levels"
PATTERNS = f"a schema of at most {MAX_PATTERNS} patterns"
WORK = "a schema and an answer that take bounded work to compare"


def find_references(schema: Any) -> list[str]:
    """The references of a schema, each once.

    Raises UnboundedSchema for references that leave the schema, and for too many levels or patterns.
    """
    old = isinstance(schema, dict) and "draft-04" in str(schema.get("$schema"))
    found: dict[str, None] = {}
    patterns = 0
    for depth, at in _walk(schema):
        if depth > MAX_DEPTH:
            raise UnboundedSchema(DEPTH)
        if not isinstance(at, dict):
            continue
        patterns += isinstance(at.get("pattern"), str) + len(_inside(at.get("patternProperties")))
        _refuse_names(at, root=depth == 0, old=old)
        if isinstance(at.get("$ref"), str):
            found[at["$ref"]] = None
    if patterns > MAX_PATTERNS:
        raise UnboundedSchema(PATTERNS)
    return list(found)


def _refuse_names(at: Mapping[str, Any], *, root: bool, old: bool) -> None:
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(at.get(name), str) and not at[name].startswith("#"):
            raise UnboundedSchema(REMOTE)
    renamed = isinstance(at.get("$id"), str) or (old and isinstance(at.get("id"), str))
    moving = isinstance(at.get("$dynamicRef"), str) or isinstance(at.get("$recursiveRef"), str)
    if moving or (renamed and not root):
        raise UnboundedSchema(POINTERS)


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Every object and list inside, with its level; not recursive, since a client decides the depth."""
    waiting = [(0, value)]
    while waiting:
        depth, at = waiting.pop()
        yield depth, at
        inside = at.values() if isinstance(at, dict) else at if isinstance(at, list) else ()
        if depth <= MAX_DEPTH:
            waiting += [(depth + 1, v) for v in inside if isinstance(v, dict | list)]


def measure(answer: Any) -> tuple[int, int]:
    """Levels and size of an answer: its values, plus one per 16 characters of text. Raises UnboundedSchema."""
    levels, size = 0, 1
    for depth, at in _walk([answer]):
        levels = max(levels, depth)
        texts = (*at.keys(), *at.values()) if isinstance(at, dict) else at
        size += len(at) + sum(len(t) for t in texts if isinstance(t, str)) // 16
    if levels > MAX_DEPTH:
        raise UnboundedSchema(f"an answer of at most {MAX_DEPTH} levels")
    return levels, size


def visits_by_depth(schema: Any, references: list[str], pattern: int) -> list[int]:
    """Counts, at index d, how often keywords can visit one position of an answer, summed over a path of d levels.

    The list ends where it stops growing (the last entry then holds for every deeper answer) or exceeds MAX_WORK (then
    no deeper answer may be compared). Multiplied by the size of an answer it bounds the work. pattern: visits per match
    of a pattern. Raises UnboundedSchema.
    """
    counter = _Counter(schema, {r: _resolve(schema, r) for r in references}, pattern)
    table: list[int] = []
    while len(table) <= MAX_DEPTH + 1:
        before = dict(counter.below)
        table.append(counter.level())
        if table[-1] > MAX_WORK or (len(table) > 1 and counter.below == before and table[-1] == table[-2]):
            break
    return table


def _resolve(schema: Any, reference: str) -> Any:
    """The target of a JSON pointer (RFC 6901, in a URI fragment). Raises UnboundedSchema."""
    pointer = unquote(reference[1:])
    if pointer and not pointer.startswith("/"):
        raise UnboundedSchema(POINTERS)
    at = schema
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            at = at[int(key)] if isinstance(at, list) else at[key]
        except (KeyError, TypeError, ValueError, IndexError):
            raise UnboundedSchema(f"a schema that holds what it refers to ({reference[:80]})") from None
    return at


@dataclass(slots=True)
class _Counter:
    """Counts level by level, from the deepest up, so that a schema that refers to itself needs no recursion."""

    schema: Any
    targets: Mapping[str, Any]
    pattern: int
    below: dict[str, int] = field(default_factory=dict)  # visits of each target, for answers one level shallower
    here: dict[str, int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    steps: int = 0

    def level(self) -> int:
        self.here = {}
        for reference in self.targets:
            self._refer(reference)
        total = self._count(self.schema, here=True)
        self.below = self.here
        return total

    def _refer(self, reference: str) -> int:
        if reference in self.here:
            return self.here[reference]
        if reference in self.open or len(self.open) >= MAX_NESTED:
            raise UnboundedSchema(WORK)  # refers to itself at the same position, or through too many others
        self.open.add(reference)
        self.here[reference] = self._count(self.targets[reference], here=True)
        self.open.discard(reference)
        return self.here[reference]

    def _count(self, at: Any, *, here: bool) -> int:
        """The visits of one subschema.

        here: a reference is followed at this level, otherwise one level down; from two levels down that overestimates.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise UnboundedSchema(WORK)
        if not isinstance(at, dict):
            return 1
        total = sum(self._count(s, here=here) for s in _in_place(at))
        if isinstance(at.get("$ref"), str):
            total += self._refer(at["$ref"]) if here else self.below.get(at["$ref"], 0)
        if any(k in at for k in _UNEVALUATED):
            total *= 2  # finding what was evaluated visits everything again
        # Properties, and positions of a list, exclude each other; all else may visit the same value.
        items = at.get("items")
        for apart in (at.get("properties"), at.get("prefixItems"), items if isinstance(items, list) else None):
            total += max((self._count(s, here=False) for s in _inside(apart)), default=0)
        total += sum(self._count(s, here=False) for s in _below(at))
        return min(total + _weight(at, self.pattern), MAX_WORK + 1)


def _in_place(at: Mapping[str, Any]) -> list[Any]:
    found = [s for k in _ALL_HERE for s in _inside(at.get(k))]
    found += [at[k] for k in _ONE_HERE if k in at]
    return found + [s for k in _NAMED_HERE for s in _inside(at.get(k))]


def _below(at: Mapping[str, Any]) -> list[Any]:
    found = [at[k] for k in (*_ONE_BELOW, *_UNEVALUATED) if k in at and not isinstance(at[k], list)]
    return found + _inside(at.get("patternProperties"))


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _weight(at: Mapping[str, Any], pattern: int) -> int:
    """The visits of one schema's own keywords: patterns, and long lists to search."""
    patterns = ("pattern" in at) + len(_inside(at.get("patternProperties")))
    lists = sum(len(v) for v in at.values() if isinstance(v, dict | list)) // 8
    return 1 + pattern * patterns + MULTIPLE_OF * ("multipleOf" in at) + lists


MAX_BYTES = 256 * 1024
CHEAP = 100_000  # visits times an answer's characters: about a millisecond for ordinary schemas
CHEAP_TO_EXPLAIN = 5_000  # the same, when the mistake must be located as well

# The linear engine with small programs is tried first; patterns that need more count for more visits, and are stopped.
_SMALL = jsonschema_rs.RegexOptions(size_limit=1 << 15, dfa_size_limit=1 << 18)
_LARGE = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20, dfa_size_limit=1 << 18)
_GAVE_UP = ("BacktrackLimitExceeded", "RegexEngineFailure")


class SchemaTooSlow(Exception):
    """The comparison would take too long on the event loop."""


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A schema within the bounds."""

    validator: Any
    visits: list[int]
    """Visits, from visits_by_depth."""

    def mistake(self, answer: Any, size: int, *, immediate: bool = False) -> str | None:
        """Place and kind of a parsed answer's violation of the schema; None if it is valid.

        size: of the answer's text, in characters. immediate: raise SchemaTooSlow when the comparison would take more
        than about a millisecond. Raises UnboundedSchema when it would exceed the bounds.
        """
        if immediate and self.visits[-1] * size > CHEAP:
            raise SchemaTooSlow
        self._allow(answer, size)
        try:
            if self.validator.is_valid(answer):
                return None
            if immediate and self.visits[-1] * size > CHEAP_TO_EXPLAIN:
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
        if self.visits[-1] * size <= MAX_WORK:  # an answer has at most as many values as characters
            return
        levels, size = measure(answer)
        if self.visits[min(levels, len(self.visits) - 1)] * size > MAX_WORK:
            raise UnboundedSchema(WORK)


class SchemaCache:
    """The most recently used schemas, compiled, by the hash of their text. Safe for use from several threads.

    find and compile raise UnboundedSchema for anything that is not a schema or exceeds the bounds.
    """

    def __init__(self, max_size: int = 256) -> None:
        self._max_size = max_size
        self._kept: OrderedDict[bytes, CompiledSchema | UnboundedSchema] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, schema: Any) -> CompiledSchema | None:
        """The compiled schema; None means that it must be compiled first."""
        key, _ = _key(schema)
        return self._find(key)

    def compile(self, schema: Any) -> CompiledSchema:
        key, text = _key(schema)
        found = self._find(key)
        if found is not None:
            return found
        compiled = _compile(schema, len(text))
        with self._lock:
            self._kept[key] = compiled
            while len(self._kept) > self._max_size:
                self._kept.popitem(last=False)
        return _usable(compiled)

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
        references = find_references(schema)
        counted = visits_by_depth(schema, references, SMALL_PATTERN)
        try:
            return CompiledSchema(offline_validator(schema, _SMALL), counted)
        except jsonschema_rs.ValidationError:  # also raised for a pattern that the linear engine does not support
            return CompiledSchema(offline_validator(schema, _LARGE), visits_by_depth(schema, references, LARGE_PATTERN))
    except UnboundedSchema as unbounded:
        return unbounded
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return UnboundedSchema(f"a schema that compiles ({_short(str(error))})")


def offline_validator(schema: Any, patterns: Any = _SMALL) -> Any:
    """A validator that neither connects to a host nor opens a file, also for references that find_references misses."""
    return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=patterns, validate_formats=True)


def _refuse(uri: str) -> Any:
    """Called for each remote reference; by default the validator would fetch http:// and open file:// URLs."""
    raise ValueError("remote references are refused")


def _where(error: Any) -> str:
    path = "".join(f"/{p}" for p in error.instance_path)
    return f"at {_short(path) or '/'}: {_short(error.message)}"


def _short(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
