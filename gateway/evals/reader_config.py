"""What a reader of the store or the stream needs of gateway.yaml: where they are, which scorers there are, what is
budgeted.

Only these sections are read, so that `samples`, `report`, `status` and `dead` work in a shell that has none of the
upstreams' keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.config.environment import environment
from gateway.config.experiments import Budget
from gateway.config.privacy import Store
from gateway.config.scorers import Scorer
from gateway.config.stream import Stream
from gateway.config.yaml_text import contents, read
from gateway.core.errors import ConfigError
from gateway.evals.store.engine import default_url
from gateway.runtime.embedded_socket import stream_url


@dataclass(frozen=True, slots=True)
class Where:
    store: str
    scorers: dict[str, Scorer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """store, url: of the store and of the stream server. budgets: of experiments, by name."""

    store: str
    url: str
    stream: Stream
    scorers: dict[str, Scorer] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)


def where(config: Path | None, data: Path) -> Where:
    """config: None when there is no file; then the store is the data directory's. Raises ConfigError."""
    if config is None:
        return Where(default_url(data))
    raw = _sections(config, "store", "scorers")
    try:
        store, scorers = _store(raw), _scorers(raw)
    except ValidationError as error:
        raise _mistaken(config) from error
    return Where(store.url or default_url(data), scorers)


def whole(config: Path | None, data: Path) -> Whole:
    """The same with the stream server. Raises ConfigError."""
    if config is None:
        return Whole(default_url(data), stream_url(None, data), Stream())
    raw = _sections(config, "store", "stream", "scorers")
    try:
        store, scorers, stream = _store(raw), _scorers(raw), Stream.model_validate(raw.get("stream") or {})
        budgets = {name: Budget.model_validate(each.get("budget") or {}) for name, each in _experiments(raw)}
    except ValidationError as error:
        raise _mistaken(config) from error
    return Whole(store.url or default_url(data), stream_url(stream.address, data), stream, scorers, budgets)


def _sections(config: Path, *names: str) -> dict[str, Any]:
    raw, mistakes = read(contents(config), config.name, environment({}, ""))
    starts = tuple(f"{name}." for name in names)
    mistakes = [f"{config.name}: {m}" for m in mistakes if m.startswith(starts)]
    if mistakes:
        raise ConfigError(mistakes)
    return raw


def _store(raw: dict[str, Any]) -> Store:
    return Store.model_validate(raw.get("store") or {})


def _scorers(raw: dict[str, Any]) -> dict[str, Scorer]:
    return TypeAdapter(dict[str, Scorer]).validate_python(raw.get("scorers") or {})


def _experiments(raw: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = raw.get("experiments")
    return [(n, e) for n, e in found.items() if isinstance(e, dict)] if isinstance(found, dict) else []


def _mistaken(config: Path) -> ConfigError:
    return ConfigError([f"{config.name}: `gateway check {config}` finds mistakes; mend them first"])
