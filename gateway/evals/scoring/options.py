"""A scorer's own options, checked against what its class takes before it is made. All mistakes at once."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from gateway.core.did_you_mean import did_you_mean
from gateway.evals.scoring.types import Scorer

_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class InvalidOptions(Exception):
    """lines: each begins with the rest of the path, as in ".share: …" or ": …"."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


def construct(
    kind: Any, name: str, options: Mapping[str, Any], given: Mapping[str, Any] = MappingProxyType({})
) -> Scorer:
    """Makes the scorer. kind: a class, or a function that returns one; its parameters, but for `name` and those given
    here, are its options.

    Raises Mistaken for unknown options, missing ones, wrong types, and whatever the class itself refuses.
    """
    if not callable(kind):
        raise InvalidOptions([f".use: {kind!r} is no class"])
    try:
        takes = inspect.signature(kind).parameters
    except ValueError:
        raise InvalidOptions([f".use: {kind!r} does not say what it takes"]) from None
    open_to = {n: p for n, p in takes.items() if n not in given}
    chosen, lines = _checked(open_to, _hints(kind), options)
    if lines:
        raise InvalidOptions(lines)
    if "name" in takes:
        chosen["name"] = name
    try:
        scorer: Scorer = kind(**chosen, **given)
    except InvalidOptions:
        raise
    except Exception as error:  # a stranger's constructor may raise anything; it is a mistake of this scorer
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise InvalidOptions([f": {said}"]) from error
    return scorer


def _checked(
    takes: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    known = {n: p for n, p in takes.items() if n != "name" and p.kind not in _VARIADIC}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    given: dict[str, Any] = {}
    lines: list[str] = []
    for option, value in options.items():
        if option in known:
            try:
                given[option] = _typed(hints.get(option, Any), value)
            except ValidationError as error:
                lines += [_line(option, e, value) for e in error.errors(include_url=False)]
        elif open_ended and option != "name":
            given[option] = value
        else:
            lines.append(f".{option}: unknown option{did_you_mean(option, [*known, *COMMON]) or _takes(known)}")
    missing = [n for n, p in known.items() if p.default is _EMPTY and n not in options]
    return given, lines + [f".{n}: missing; it must be given" for n in missing]


# What every scorer's section may also say.
COMMON = (
    "use", "share", "deadline_s", "concurrency", "budget_usd", "budget_tokens", "isolate", "memory_mb",
)  # fmt: skip


def _hints(kind: Any) -> dict[str, Any]:
    """The types of the parameters; none where they cannot be found, and then any value will do."""
    try:
        return get_type_hints(kind.__init__ if inspect.isclass(kind) else kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(hint: Any, value: Any) -> Any:
    """Strictly, but as JSON: a list will do for a tuple and 3 for a float; "3" will not."""
    adapter = TypeAdapter[Any](hint)
    return adapter.validate_json(orjson.dumps(value, default=str), strict=True)


def _line(option: str, error: Any, value: Any) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list) else f", got {value!r}"
    return f".{option}{path}: {message[0].lower()}{message[1:]}{shown}"


def _takes(known: Iterable[str]) -> str:
    options = ", ".join(known)
    return f"; it takes {options}" if options else "; it takes none"
