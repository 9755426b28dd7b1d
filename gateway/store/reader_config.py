"""The sections of gateway.yaml that read-only commands need: `store`, `stream`, `scorers`, and budgets.

Nothing else is read, so that `samples`, `report`, `status` and `dead` work in a shell without the upstreams' keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from gateway.config.environment import child_environment
from gateway.config.made_experiments import read_made
from gateway.config.scorers import ScorerConfig
from gateway.config.store import StoreConfig
from gateway.config.stream import StreamConfig
from gateway.config.yaml_text import parse_yaml, read_config_text
from gateway.core.errors import ConfigError
from gateway.core.json_values import as_object
from gateway.core.reasons import one_line
from gateway.runtime.embedded_socket import stream_url
from gateway.store.location import default_url

if TYPE_CHECKING:
    from gateway.config.config import Config
    from gateway.config.experiments import ExperimentBudget
    from gateway.core.prices import Prices


@dataclass(frozen=True, slots=True)
class StoreLocation:
    store: str
    scorers: dict[str, ScorerConfig] = field(default_factory=dict)
    keep_days: float | None = None
    config: Path | None = None
    """The config file, of which a reader may want more; None if there is none."""


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    store: str
    """URL of the store."""
    url: str
    """URL of the stream server."""
    stream: StreamConfig
    scorers: dict[str, ScorerConfig] = field(default_factory=dict)
    budgets: dict[str, ExperimentBudget] = field(default_factory=dict)
    """Sections by experiment."""
    target: str | None = None
    """Target of the section `predictor`; None if there is none."""
    guards: tuple[str, ...] = ()
    """Names of the section `guards`."""
    served: Config | None = None
    """The whole config; None if it was not read, or cannot be."""
    processes: tuple[str, ...] = ()
    """URLs of processes whose /health is asked while the stream server is away; none: the usual ones."""
    unreadable: str = ""
    """Reason why the config was not read, and defaults take its place; "" if it was."""


def where(config: Path | None, data: Path) -> StoreLocation:
    """URL of the store. config: None when there is no file; then it is in the data directory. Raises ConfigError."""
    if config is None:
        return StoreLocation(default_url(data))
    raw = _sections(config, "store", "scorers")
    try:
        store, scorers = _store(raw), _scorers(raw)
    except ValidationError as error:
        raise _mistaken(config) from error
    return StoreLocation(store.url or default_url(data), scorers, store.keep_days, config)


def read_prices(config: Path | None) -> Prices | None:
    """Prices of the whole config, also without the upstreams' keys. None without a file, or if it has a mistake."""
    # Imported here: the whole config takes longer to import than the sections that readers need.
    from gateway.config.derive import prices_of
    from gateway.config.loading import load_for_console

    try:
        return None if config is None else prices_of(load_for_console(config))
    except ConfigError:
        return None


def whole(config: Path | None, data: Path) -> ReaderConfig:
    """The sections as in `where`, with the stream server and the budgets. Raises ConfigError."""
    if config is None:
        return ReaderConfig(default_url(data), stream_url(None, data), StreamConfig())
    raw = _sections(config, "store", "stream", "scorers")
    try:
        store, scorers, stream = _store(raw), _scorers(raw), StreamConfig.model_validate(raw.get("stream") or {})
        budgets = _budgets(raw)
    except ValidationError as error:
        raise _mistaken(config) from error
    url, guards = store.url or default_url(data), tuple(as_object(raw.get("guards")))
    return ReaderConfig(url, stream_url(stream.address, data), stream, scorers, budgets, _target(raw), guards)


def whole_or_usual(config: Path | None, data: Path) -> ReaderConfig:
    """Reads what `whole` reads. Where the config cannot be read, these are the usual stream server and store of the
    data directory, with the reason in `unreadable`."""
    try:
        return whole(config, data)
    except ConfigError as error:
        return replace(whole(None, data), unreadable=one_line(error))


def _target(raw: dict[str, Any]) -> str | None:
    target = as_object(raw.get("predictor")).get("target")
    return target if isinstance(target, str) else None


def _sections(config: Path, *names: str) -> dict[str, Any]:
    raw, mistakes = parse_yaml(read_config_text(config), config.name, child_environment({}, ""))
    starts = tuple(f"{name}." for name in names)
    mistakes = [f"{config.name}: {m}" for m in mistakes if m.startswith(starts)]
    if mistakes:
        raise ConfigError(mistakes)
    return read_made(config).merged_into(raw)


def _store(raw: dict[str, Any]) -> StoreConfig:
    return StoreConfig.model_validate(raw.get("store") or {})


def _scorers(raw: dict[str, Any]) -> dict[str, ScorerConfig]:
    return TypeAdapter(dict[str, ScorerConfig]).validate_python(raw.get("scorers") or {})


def _budgets(raw: dict[str, Any]) -> dict[str, ExperimentBudget]:
    """The budget of each experiment, by name."""
    # Imported here: the section of experiments takes longer to import than all others that readers need.
    from gateway.config.experiments import ExperimentBudget

    sections = {
        name: section for name, section in as_object(raw.get("experiments")).items() if isinstance(section, dict)
    }
    return {name: ExperimentBudget.model_validate(section.get("budget") or {}) for name, section in sections.items()}


def _mistaken(config: Path) -> ConfigError:
    return ConfigError([f"{config.name}: `gateway check {config}` reports errors; fix them first"])
