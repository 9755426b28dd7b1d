"""The language of `--where`: conditions on the columns of exchanges and of scores, read into a tree. Pure.

    scorer=valid_json value<1                     one score with both: neighbours without a word mean `and`
    outcome!=ok or (total_s>5 and not stream=true)
    caller=web text~"refund" received>=2026-11-01

Compares with = != < <= > >=, and ~ !~ for "contains". null stands for "not there". Conditions on scores that are
joined by `and` hold when some one score of the exchange meets them all; `not` alone, when no score does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.core.did_you_mean import did_you_mean

Kind = Literal["text", "number", "truth", "time", "bytes"]
Value = str | float | bool | None

_EXCHANGE: Mapping[Kind, str] = {
    "text": "id alias upstream model variant caller team api role pair experiment plan arm outcome finish_reason error "
    "stratum tags tier run run_source run_id text reasoning refusal tool_calls upstream_id client_id unit form",
    "number": "status tokens input_tokens output_tokens cached_input_tokens reasoning_tokens first_token_s total_s "
    "cost_usd gpu_seconds pi u mean_logprob",
    "truth": "stream truncated spliced empty",
    "time": "received",
    "bytes": "request",
}
_SCORE: Mapping[Kind, str] = {
    "text": "scorer label version kind explanation judge_model score_status",
    "number": "value value01",
}
EXCHANGE: Mapping[str, Kind] = {name: kind for kind, names in _EXCHANGE.items() for name in names.split()}
SCORE: Mapping[str, Kind] = {name: kind for kind, names in _SCORE.items() for name in names.split()}
_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<sign>!=|<=|>=|!~|=|<|>|~)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s()"']+)"""
    r"""|(?P<word>and|or|not)(?![A-Za-z0-9_])|(?P<bracket>[()]))""",
    re.IGNORECASE,
)
_LONGEST = 4_000
_MOST_TERMS = 50
_DEEPEST = 20


class QueryError(ValueError):
    """A mistake in a query: where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Term:
    """A comparison. of_score: of a score's column, else of the exchange's."""

    field: str
    sign: str
    value: Value
    kind: Kind
    of_score: bool


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


Node = Term | And | Or | Not


def parse(text: str) -> Node:
    """Raises QueryError."""
    if "\0" in text:
        raise QueryError(f"at {text.index(chr(0)) + 1}: a NUL character, which no text of the store holds")
    if len(text) > _LONGEST:
        raise QueryError(f"{len(text)} characters; at most {_LONGEST} are read")
    return _Reader(text).whole()


def terms(node: Node) -> tuple[Term, ...]:
    """Lists all comparisons of an expression."""
    if isinstance(node, Term):
        return (node,)
    parts = (node.part,) if isinstance(node, Not) else node.parts
    return tuple(term for part in parts for term in terms(part))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: re.Match[str] | None = None
        self._terms = 0
        self._next()

    def whole(self) -> Node:
        node = self._any(0)
        if self._found is not None:
            raise QueryError(f"{self._here()}: a bracket too many")
        return node

    def _next(self) -> None:
        rest = self._text[self._at :]
        if not rest.strip():
            self._found = None
            return
        self._found = _TOKEN.match(self._text, self._at)
        if self._found is None:
            shown = rest.strip()[:40]
            raise QueryError(f"at {self._at + 1}, {shown!r}: expected a comparison, as in scorer=valid_json or value<1")
        self._at = self._found.end()

    def _here(self) -> str:
        found = self._found
        return f"at {self._at + 1}" if found is None else f"at {found.start() + 1}, {found[0].strip()[:40]!r}"

    def _is(self, group: str, *values: str) -> bool:
        return self._found is not None and (self._found[group] or "").lower() in values

    def _any(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise QueryError(f"{self._here()}: brackets are nested more than {_DEEPEST} deep")
        parts = [self._all(depth)]
        while self._is("word", "or"):
            self._next()
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while self._found is not None and not self._is("word", "or") and not self._is("bracket", ")"):
            if self._is("word", "and"):
                self._next()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Node:
        if self._is("word", "not"):
            self._next()
            return Not(self._one(depth + 1) if depth < _DEEPEST else self._any(depth + 1))
        if self._is("bracket", "("):
            self._next()
            inside = self._any(depth + 1)
            if not self._is("bracket", ")"):
                raise QueryError(f"{self._here()}: a bracket is not closed")
            self._next()
            return inside
        if self._found is None or not self._found["name"]:
            raise QueryError(f"{self._here()}: expected a comparison, as in scorer=valid_json or value<1")
        self._terms += 1
        if self._terms > _MOST_TERMS:
            raise QueryError(f"more than {_MOST_TERMS} comparisons")
        term = _term(self._found)
        self._next()
        return term


def _term(found: re.Match[str]) -> Term:
    name, sign, given = found["name"].lower(), found["sign"], found["value"]
    kind = EXCHANGE.get(name) or SCORE.get(name)
    if kind is None:
        known = [*EXCHANGE, *SCORE]
        hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
        raise QueryError(f'at {found.start("name") + 1}: no field "{name}"{hint}')
    value = _value(name, kind, given)
    _check_sign(name, kind, sign, value)
    return Term(name, sign, value, kind, name in SCORE)


def _value(name: str, kind: Kind, given: str) -> Value:
    if given[0] in "\"'":
        text = re.sub(r"\\(.)", r"\1", given[1:-1])
    elif given.lower() == "null":
        return None
    else:
        text = given
    if kind in ("text", "bytes"):
        return text
    if kind == "truth":
        if text.lower() not in ("true", "false"):
            raise QueryError(f"{name}: expected true or false, got {text!r}")
        return text.lower() == "true"
    return _time(name, text) if kind == "time" else _number(name, text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or abs(value) == float("inf"):
        raise QueryError(f"{name}: expected a number, got {text!r}")
    return value


def _time(name: str, text: str) -> float:
    """Unix seconds; a date without a zone is this machine's."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return _number(name, text)
    except QueryError:
        raise QueryError(f"{name}: expected a date, as in 2026-11-01 or 2026-11-01T10:00, got {text!r}") from None


def _check_sign(name: str, kind: Kind, sign: str, value: Value) -> None:
    allowed = {
        "text": ("=", "!=", "~", "!~", "<", "<=", ">", ">="),
        "number": ("=", "!=", "<", "<=", ">", ">="),
        "time": ("=", "!=", "<", "<=", ">", ">="),
        "truth": ("=", "!="),
        "bytes": ("~", "!~"),
    }[kind]
    if value is None:
        allowed = ("=", "!=")
    if sign not in allowed:
        what = "null" if value is None else f"{name} ({kind})"
        raise QueryError(f"{name}{sign}: {what} is compared with {' '.join(allowed)}")
