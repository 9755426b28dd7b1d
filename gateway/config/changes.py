"""Describes the differences of two configs, in one line for the log: names only, never a value. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.config.config import Config

_MAX_NAMED = 5


def changes(before: Config, after: Config) -> str:
    """Names of what was added (+), removed (-) and changed (~), by section; "nothing" if the configs are equal."""
    found = list(_changes(before, after))
    return "; ".join(found) if found else "nothing"


def _changes(before: Config, after: Config) -> Iterator[str]:
    yield from _of_mapping("keys", _keys(before), _keys(after))
    for section in Config.model_fields:
        one, other = getattr(before, section), getattr(after, section)
        if section == "keys" or one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _of_mapping(section, one, other)
        else:
            yield section


def _keys(config: Config) -> dict[str, Any]:
    """Keys by name and the beginning of the digest, since a key and its successor may share a name."""
    return {f"{key.name} ({key.sha256[:6]})": key for key in config.keys}


def _of_mapping(section: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    marks = [
        *(_marked("+", (name for name in after if name not in before))),
        *(_marked("-", (name for name in before if name not in after))),
        *(_marked("~", (name for name in after if name in before and before[name] != after[name]))),
    ]
    if marks:
        yield f"{section} {', '.join(marks)}"


def _marked(mark: str, names: Iterable[str]) -> list[str]:
    found = list(names)
    more = [f"{mark}{len(found) - _MAX_NAMED} more"] if len(found) > _MAX_NAMED else []
    return [*(mark + name for name in found[:_MAX_NAMED]), *more]
