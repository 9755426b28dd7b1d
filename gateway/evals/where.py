"""What a reader of the store needs of gateway.yaml: where the store is and which scorers there are.

Only these sections are read, so that `samples` and `report` work in a shell that has none of the upstreams' keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gateway.config_environ import environment
from gateway.config_evals import Scorer
from gateway.config_privacy import Store
from gateway.config_text import contents, read
from gateway.errors import ConfigError
from gateway.evals.store.engine import default_url


@dataclass(frozen=True, slots=True)
class Where:
    store: str
    scorers: dict[str, Scorer] = field(default_factory=dict)


def where(config: Path | None, data: Path) -> Where:
    """config: None when there is no file; then the store is the data directory's. Raises ConfigError."""
    if config is None:
        return Where(default_url(data))
    raw, mistakes = read(contents(config), config.name, environment({}, ""))
    mistakes = [f"{config.name}: {m}" for m in mistakes if m.startswith(("store.", "scorers."))]
    if mistakes:
        raise ConfigError(mistakes)
    try:
        store = Store.model_validate(raw.get("store") or {})
        scorers = TypeAdapter(dict[str, Scorer]).validate_python(raw.get("scorers") or {})
    except ValidationError as error:
        raise ConfigError([f"{config.name}: `gateway check {config}` finds mistakes; mend them first"]) from error
    return Where(store.url or default_url(data), scorers)
