"""The config in force with the source of each value, for people: what is secret is never in it. Pure but for the files.

A value's source is the file, an environment variable, a secret's file, the console's experiments, or the default. A
value that comes from a variable or a file is shown as its name: it may be a secret wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from gateway.config.config import Config
from gateway.config.made_experiments import SECTION, MadeExperiments
from gateway.config.yaml_text import yaml_sections
from gateway.core.errors import ConfigError

HIDDEN = "(hidden)"
MOST_VALUES = 200
"""Of one section; the rest is counted."""
_SECRET_NAME = re.compile(r"api_key|sha256|password|secret|authorization|cookie|token$|key_id$", re.IGNORECASE)
_SECRET_PARENTS = ("headers", "environ", "args")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_LISTS = ("keys", "upstreams", "models", "scorers", "experiments", "teams", "organizations", "prices")
"""Sections whose entries are named by people: of them, defaults are not shown."""


@dataclass(frozen=True, slots=True)
class ConfigValue:
    path: str
    """As in messages about mistakes: `models.chat.targets[0].upstream`."""
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ConfigSection:
    name: str
    values: tuple[ConfigValue, ...]
    more: int = 0
    """Values that are left out, because there are many."""


def live_config(text: str, name: str, made: MadeExperiments, config: Config) -> list[ConfigSection]:
    """The sections in the order of the documentation. text: of the file; name: the file's. config: the one in force,
    which may be older than the text if that was refused. A text that cannot be read has no values of its own."""
    raw = _read(text, name)
    experiments = _made(made)
    found = []
    for section in Config.model_fields:
        values = list(_given(section, raw.get(section), name)) if section in raw else []
        if section == SECTION:
            own = raw.get(SECTION) or {}
            others = {each: value for each, value in experiments.items() if each not in own}
            values += _given(SECTION, others, made.path.name) if others else []
        known = {value.path for value in values}
        values += [each for each in _defaults(section, getattr(config, section)) if each.path not in known]
        if values:
            found.append(ConfigSection(section, tuple(values[:MOST_VALUES]), max(0, len(values) - MOST_VALUES)))
    return found


def _read(text: str, name: str) -> Mapping[str, Any]:
    try:
        return yaml_sections(text, name)
    except ConfigError:
        return {}


def _made(made: MadeExperiments) -> dict[str, Any]:
    try:
        return made.sections()
    except ConfigError:
        return {}


def _given(path: str, value: Any, source: str, *, hidden: bool = False) -> Iterator[ConfigValue]:
    """The leaves of what a file says."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            below = hidden or name in _SECRET_PARENTS or bool(_SECRET_NAME.search(str(name)))
            yield from _given(f"{path}.{name}", each, source, hidden=below)
    elif isinstance(value, list) and value:
        for i, each in enumerate(value):
            yield from _given(f"{path}[{i}]", each, source, hidden=hidden)
    else:
        yield _leaf(path, value, source, hidden)


def _leaf(path: str, value: Any, source: str, hidden: bool) -> ConfigValue:
    references = _REFERENCE.findall(value) if isinstance(value, str) else []
    if references:
        named = [r.removeprefix("file:") if r.startswith("file:") else f"${r}" for r in references]
        kind = "file" if references[0].startswith("file:") else "environment"
        return ConfigValue(path, ", ".join(named), f"{kind}, by {source}")
    return ConfigValue(path, HIDDEN if hidden and value not in (None, "") else shown(value), source)


def shown(value: Any) -> str:
    """As YAML would have it; a URL without its user and password."""
    if isinstance(value, str):
        return _without_password(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(shown(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_password(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return HIDDEN
    return parts._replace(netloc=f"…@{host}").geturl()


def _defaults(path: str, value: Any) -> Iterator[ConfigValue]:
    """The leaves of a section that nobody has set."""
    if path.partition(".")[0] in _LISTS or isinstance(value, dict):
        return
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner, is_set = getattr(value, name), name in value.model_fields_set
            if isinstance(inner, BaseModel) if is_set else not _SECRET_NAME.search(name):
                yield from _defaults(f"{path}.{name}", inner)
    elif value is not None and value != ():
        yield ConfigValue(path, shown(value), "default")


def read_text(path: Path) -> str:
    """The text of the file; "" where it cannot be read: the config in force is still shown."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
