"""JSON Schemas that strangers wrote, compiled and applied within bounds. The only module that knows the validator."""

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
MULTIPLE = 30  # multipleOf, which is exact however far the two numbers are apart
MAX_NESTED = 16  # references through references, at one place of an answer
STEPS = 50_000  # of this module's own counting

_ALL_HERE = ("allOf", "anyOf", "oneOf")
_ONE_HERE = ("not", "if", "then", "else")
_NAMED_HERE = ("dependentSchemas", "dependencies")
_ONE_BELOW = ("additionalProperties", "items", "additionalItems", "contains", "propertyNames")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


class UnboundedSchema(Exception):
    """need: what would have made the schema one that may be used."""

    def __init__(self, need: str) -> None:
        super().__init__(need)
        self.need = need


REMOTE = "a schema without remote references"
POINTERS = "a schema whose references are JSON pointers into itself, without ids inside"
DEPTH = f"a schema of at most {MAX_DEPTH} levels"
PATTERNS = f"a schema of at most {MAX_PATTERNS} patterns"
WORK = "a schema and an answer that take bounded work to compare"


def find_references(schema: Any) -> list[str]:
    """The references of a schema, each once. Raises Unbounded for any that leave it, too many levels or patterns."""
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
    """Every object and list inside, with its level; without recursion, as a client decides how deep it goes."""
    waiting = [(0, value)]
    while waiting:
        depth, at = waiting.pop()
        yield depth, at
        inside = at.values() if isinstance(at, dict) else at if isinstance(at, list) else ()
        if depth <= MAX_DEPTH:
            waiting += [(depth + 1, v) for v in inside if isinstance(v, dict | list)]


def measure(answer: Any) -> tuple[int, int]:
    """Levels and size of an answer; size: values, and one for every 16 characters of text. Raises Unbounded."""
    levels, size = 0, 1
    for depth, at in _walk([answer]):
        levels = max(levels, depth)
        texts = (*at.keys(), *at.values()) if isinstance(at, dict) else at
        size += len(at) + sum(len(t) for t in texts if isinstance(t, str)) // 16
    if levels > MAX_DEPTH:
        raise UnboundedSchema(f"an answer of at most {MAX_DEPTH} levels")
    return levels, size


def visits_by_depth(schema: Any, references: list[str], pattern: int = SMALL_PATTERN) -> list[int]:
    """At index d: how often keywords can look at one place of an answer, summed over a path of d levels down.

    Ends where it no longer grows (the last entry then holds for every deeper answer), or where it passes MAX_WORK (then
    nothing deeper may be compared). Times the size of an answer it bounds the work. pattern: visits that one match of
    a pattern counts for. Raises Unbounded.
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
    """What a JSON pointer (RFC 6901, in a URI fragment) points at. Raises Unbounded."""
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
    below: dict[str, int] = field(default_factory=dict)  # of each target, for answers one level shallower
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
            raise UnboundedSchema(WORK)  # refers to itself at the same place, or through too many others
        self.open.add(reference)
        self.here[reference] = self._count(self.targets[reference], here=True)
        self.open.discard(reference)
        return self.here[reference]

    def _count(self, at: Any, *, here: bool) -> int:
        """here: a reference is followed at this level; else one level down, also from two levels down, which is more
        than there is and never less."""
        self.steps += 1
        if self.steps > STEPS:
            raise UnboundedSchema(WORK)
        if not isinstance(at, dict):
            return 1
        total = sum(self._count(s, here=here) for s in _in_place(at))
        if isinstance(at.get("$ref"), str):
            total += self._refer(at["$ref"]) if here else self.below.get(at["$ref"], 0)
        if any(k in at for k in _UNEVALUATED):
            total *= 2  # what was evaluated is found by looking again
        # Properties, and places of a list, exclude each other; all else may look at the same value.
        total += sum(max((self._count(s, here=False) for s in apart), default=0) for apart in _apart(at))
        total += sum(self._count(s, here=False) for s in _below(at))
        return min(total + _weight(at, self.pattern), MAX_WORK + 1)


def _in_place(at: Mapping[str, Any]) -> list[Any]:
    found = [s for k in _ALL_HERE for s in _inside(at.get(k))]
    found += [at[k] for k in _ONE_HERE if k in at]
    return found + [s for k in _NAMED_HERE for s in _inside(at.get(k))]


def _apart(at: Mapping[str, Any]) -> list[list[Any]]:
    items = at.get("items")
    return [_inside(at.get("properties")), _inside(at.get("prefixItems")), _inside(items if _is_list(items) else None)]


def _below(at: Mapping[str, Any]) -> list[Any]:
    found = [at[k] for k in (*_ONE_BELOW, *_UNEVALUATED) if k in at and not _is_list(at[k])]
    return found + _inside(at.get("patternProperties"))


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _weight(at: Mapping[str, Any], pattern: int) -> int:
    """What the keywords of one schema cost by themselves: patterns, and long lists to go through."""
    patterns = ("pattern" in at) + len(_inside(at.get("patternProperties")))
    lists = sum(len(v) for v in at.values() if isinstance(v, dict | list)) // 8
    return 1 + pattern * patterns + MULTIPLE * ("multipleOf" in at) + lists


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

    def mistake(self, answer: Any, size: int, *, immediate: bool = False) -> str | None:
        """What a parsed answer has that the schema does not allow; None: it is valid.

        size: of the answer's text, in characters. Raises Unbounded when comparing would leave the bounds, and Slow when
        it has to be done at once and would take longer than about a millisecond.
        """
        if immediate and self.visits[-1] * size > CHEAP:
            raise SchemaTooSlow
        self._allow(answer, size)
        try:
            if self.validator.is_valid(answer):
                return None
            if immediate and self.visits[-1] * size > EXPLAINED:
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
        levels, size = measure(answer)
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
        references = find_references(schema)
        counted = visits_by_depth(schema, references, SMALL_PATTERN)
        try:
            return CompiledSchema(_validator(schema, _SMALL), counted)
        except jsonschema_rs.ValidationError:  # also what a pattern is that the linear engine does not know
            return CompiledSchema(_validator(schema, _LARGE), visits_by_depth(schema, references, LARGE_PATTERN))
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
