"""Lists of prices and retirements that `gateway models update` wrote next to gateway.yaml: read and watched with it.

Each is a dated file in the form of the list that ships (core/list_prices.json, core/list_retirements.json). Its models
win; others are as in that list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.core import prices, retirements
from gateway.core.errors import ConfigError
from gateway.core.json_values import parse_object
from gateway.core.prices import Price, PriceTable, price_table
from gateway.core.retirements import Retirement, RetirementTable, retirement_table

PARTS = ("prices", "retirements")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelLists:
    """The lists in force."""

    own_prices: PriceTable | None = None
    own_retirements: RetirementTable | None = None
    paths: tuple[Path, ...] = ()
    """Files of both, which may not exist."""
    text: str = ""

    def prices_of(self, kind: str) -> Mapping[str, Price]:
        own = {} if self.own_prices is None else self.own_prices.prices
        return {**prices.listed(kind), **own.get(kind, {})}

    def retirements_of(self, kind: str) -> Mapping[str, Retirement]:
        own = {} if self.own_retirements is None else self.own_retirements.retirements
        return {**retirements.listed(kind), **own.get(kind, {})}


def list_path(config: Path, part: str) -> Path:
    """gateway.prices.json for gateway.yaml."""
    return config.with_name(f"{config.stem}.{part}.json")


def read_model_lists(config: Path) -> ModelLists:
    """config: the path of gateway.yaml. Raises ConfigError."""
    paths = [list_path(config, part) for part in PARTS]
    price_text, retirement_text = (_text(path) for path in paths)
    return ModelLists(
        _read(paths[0], price_text, price_table),
        _read(paths[1], retirement_text, retirement_table),
        tuple(paths),
        price_text + retirement_text,
    )


def _read(path: Path, text: str, read: Callable[[Mapping[str, Any]], T]) -> T | None:
    if not text:
        return None
    try:
        return read(_object(text))
    except ValueError as error:
        raise ConfigError([f"{path.name}: {error}; repair it with `gateway models update`, or delete it"]) from error


def _object(text: str) -> Mapping[str, Any]:
    found = parse_object(text)
    if found is None:
        raise ValueError("not a JSON object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
