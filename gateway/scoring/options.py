"""Checks a scorer's options against the parameters of its class or function before it is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from gateway.core.did_you_mean import did_you_mean
from gateway.core.secret_patterns import is_secret_name
from gateway.scoring.types import Scorer

# Keys that every scorer's section may have besides its own options.
COMMON_KEYS = ("use", "share", "deadline_s", "concurrency", "budget_usd", "budget_tokens", "isolate", "memory_mb")
_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class InvalidOptions(Exception):
    """A scorer's section is wrong."""

    lines: tuple[str, ...]
    """Lines, one per mistake; each begins with the rest of its path, as in ".share: …", or with ": …"."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


@dataclass(frozen=True, slots=True)
class ScorerOptions:
    """Base of option dataclasses: a factory's parameter of such a type stands for one option per field."""


def parameters(factory: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a scorer's class or function; those of a ScorerOptions type are replaced by its fields.

    Raises InvalidOptions for an object without a readable signature.
    """
    if not callable(factory):
        raise InvalidOptions([f".use: {factory!r} is not a class"])
    try:
        takes = dict(inspect.signature(factory).parameters)
    except ValueError:
        raise InvalidOptions([f".use: the parameters of {factory!r} cannot be read"]) from None
    for name, options in _option_classes(factory).items():
        del takes[name]
        takes |= inspect.signature(options).parameters
    return takes


def construct(
    factory: Any, name: str, options: Mapping[str, Any], given: Mapping[str, Any] = MappingProxyType({})
) -> Scorer:
    """Builds the scorer.

    factory: a class, or a function that returns a scorer; its parameters except `name` and those in `given` are its
    options. Raises InvalidOptions for unknown options, missing ones, wrong types, and anything the factory rejects.
    """
    takes = parameters(factory)
    arguments, lines = _checked({n: p for n, p in takes.items() if n not in given}, _hints(factory), options)
    if lines:
        raise InvalidOptions(lines)
    if "name" in takes:
        arguments["name"] = name
    try:
        scorer: Scorer = factory(**_grouped(factory, arguments), **given)
    except InvalidOptions:
        raise
    except Exception as error:  # a foreign constructor may raise anything; it is a mistake of this section
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise InvalidOptions([f": {reason}"]) from error
    return scorer


def _option_classes(factory: Any) -> dict[str, type[ScorerOptions]]:
    """The parameters of a ScorerOptions type."""
    classes = {name: hint for name, hint in _own_hints(factory).items() if isinstance(hint, type)}
    return {n: hint for n, hint in classes.items() if hint is not ScorerOptions and issubclass(hint, ScorerOptions)}


def _grouped(factory: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with those that are fields of a ScorerOptions parameter put into it."""
    grouped = dict(arguments)
    for name, options in _option_classes(factory).items():
        fields = {field: grouped.pop(field) for field in inspect.signature(options).parameters if field in grouped}
        grouped[name] = options(**fields)
    return grouped


def _checked(
    takes: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The options as arguments, and one line per mistake."""
    known = {n: p for n, p in takes.items() if n != "name" and p.kind not in _VARIADIC}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    arguments: dict[str, Any] = {}
    lines: list[str] = []
    for option, value in options.items():
        if option in known:
            try:
                arguments[option] = _typed(hints.get(option, Any), value)
            except ValidationError as error:
                lines += [_line(option, e, value) for e in error.errors(include_url=False)]
        elif takes_any and option != "name":
            arguments[option] = value
        else:
            hint = did_you_mean(option, [*known, *COMMON_KEYS]) or f"; it takes {', '.join(known) or 'none'}"
            lines.append(f".{option}: unknown option{hint}")
    missing = [n for n, p in known.items() if p.default is _EMPTY and n not in options]
    return arguments, lines + [f".{n}: missing; it must be given" for n in missing]


def _hints(factory: Any) -> dict[str, Any]:
    hints = _own_hints(factory)
    for options in _option_classes(factory).values():
        hints |= _own_hints(options)
    return hints


def _own_hints(factory: Any) -> dict[str, Any]:
    """The types of the parameters; {} where they cannot be resolved, and then any value is accepted."""
    of = factory.__init__ if inspect.isclass(factory) else factory
    if is_dataclass(factory):  # whose fields may come from a class of another module, which has their types' names
        of = factory
    try:
        return get_type_hints(of, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(hint: Any, value: Any) -> Any:
    """Strict, as JSON: a list is accepted for a tuple and 3 for a float; "3" is not."""
    adapter = TypeAdapter[Any](hint)
    return adapter.validate_json(orjson.dumps(value, default=str), strict=True)


def _line(option: str, error: Any, value: Any) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    secret = any(is_secret_name(str(name)) for name in (option, *error["loc"]))
    shown = "" if secret or isinstance(value, dict | list) else f", got {value!r}"
    return f".{option}{path}: {message[0].lower()}{message[1:]}{shown}"
