"""`gateway … --help --json`: the verbs with their arguments and options, for programs."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints

import typer
from typer.main import get_command
from typer.models import ParameterInfo

_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "path"}
_HELP = ("--help", "-h")


class ParameterOutput(TypedDict):
    """An argument, or an option, which has `names`."""

    name: str
    help: str
    type: Literal["boolean", "integer", "number", "string", "path"]
    multiple: NotRequired[Literal[True]]
    """The option may be given several times."""
    names: NotRequired[list[str]]
    required: bool
    min: NotRequired[float]
    max: NotRequired[float]
    default: NotRequired[bool | float | str | list[str]]


class VerbOutput(TypedDict):
    verb: str
    """The words of the verb, as in "ab status"."""
    help: str
    example: str
    arguments: list[ParameterOutput]
    options: list[ParameterOutput]
    output_schema: NotRequired[str]
    """The command that prints the JSON Schema of what the verb prints with --json; only of verbs that have it."""


class HelpOutput(TypedDict):
    """The verbs, for programs."""

    program: Literal["gateway"]
    version: str
    verbs: list[VerbOutput]


class UnknownVerb(Exception):
    """The message names the verbs that there are."""


def words_before(arguments: Sequence[str]) -> list[str] | None:
    """Returns the words of the verb whose help is requested as JSON; None if the command line requests none."""
    asks = "--json" in arguments and not {*_HELP}.isdisjoint(arguments)
    return [each for each in arguments if not each.startswith("-")] if asks else None


def described(app: typer.Typer, words: Sequence[str]) -> dict[str, Any]:
    """Lists all verbs below the one that `words` lead to, which may be the program itself.

    Raises UnknownVerb.
    """
    from gateway import __version__

    command, path = get_command(app), list[str]()
    for word in words:
        verbs = _below(command)
        if word not in verbs:
            if not verbs:
                break  # an argument of the verb
            known = ", ".join(verbs)
            raise UnknownVerb(f"no verb {word!r} below {' '.join(['gateway', *path])}; there are: {known}")
        command = verbs[word]
        path.append(word)
    return {"program": "gateway", "version": __version__, "verbs": list(_verbs(command, path))}


def _below(command: Any) -> dict[str, Any]:
    """The verbs of a group by name, without hidden ones; empty: the command is a verb."""
    found = {name: command.commands[name] for name in getattr(command, "commands", ())}
    return {name: verb for name, verb in found.items() if not verb.hidden}


def _verbs(command: Any, path: list[str]) -> Iterator[dict[str, Any]]:
    below = _below(command)
    for name, verb in below.items():
        yield from _verbs(verb, [*path, name])
    if not below or (path and command.invoke_without_command):
        hints = get_type_hints(command.callback, include_extras=True)
        given = [_parameter(each, hints.get(each.name)) for each in command.params if not each.hidden]
        found = {
            "verb": " ".join(path),
            "help": command.help or "",
            "example": (command.epilog or "").removeprefix("Example: "),
            "arguments": [each for each in given if "names" not in each],
            "options": [each for each in given if "names" in each],
        }
        if any("--json" in each.opts for each in command.params):
            found["output_schema"] = f'gateway schema --output "{found["verb"]}"'
        yield found


def _parameter(parameter: Any, hint: Any) -> dict[str, Any]:
    """An argument, or an option, which has `names`. hint: its annotation in the verb's signature."""
    kind, info = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    found: dict[str, Any] = {"name": parameter.name, "help": parameter.help or "", **_type(kind)}
    if parameter.param_type_name == "option":
        found["names"] = [*parameter.opts, *parameter.secondary_opts]
    found["required"] = parameter.required
    if isinstance(info, ParameterInfo):
        found |= {name: value for name in ("min", "max") if (value := getattr(info, name)) is not None}
    if isinstance(parameter.default, str | int | float | list | Path) and parameter.default != []:
        found["default"] = str(parameter.default) if isinstance(parameter.default, Path) else parameter.default
    return found


def _type(kind: Any) -> dict[str, Any]:
    options = [each for each in get_args(kind) if each is not types.NoneType]
    if get_origin(kind) in (Union, types.UnionType):
        return _type(options[0])
    if get_origin(kind) is list:
        return {**_type(options[0]), "multiple": True}
    return {"type": _TYPES.get(kind, "string")}
