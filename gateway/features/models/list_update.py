"""`gateway models update`: lists of prices and retirements from a file or a URL that the user names, compared with the
lists in use, and written next to gateway.yaml. Nothing is fetched by itself.

Read are the form of the lists that ship (`{"date", "prices"}`, `{"date", "retirements"}`, or both in one), and that of
LiteLLM's model_prices_and_context_window.json.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.derive import outside_egress, refs_of_model
from gateway.config.model_lists import PARTS, list_path
from gateway.core.errors import CannotRun
from gateway.core.json_values import as_text, parse_object
from gateway.core.prices import Price, PriceTable, price_table, shipped_prices
from gateway.core.retirements import Retirement, RetirementTable, retirement_table, shipped_retirements
from gateway.scoring.http_client import HttpConnections, Unreachable

DEADLINE_S = 60.0
MOST_LINES = 40
_LITELLM = MappingProxyType({"together_ai": "together", "fireworks_ai": "fireworks"})
"""Names of providers in its file where they differ from the kinds of upstreams."""
Rows = Mapping[tuple[str, str], Price | Retirement]
"""Rows of a list, by kind of upstream and model."""


@dataclass(frozen=True, slots=True)
class NewLists:
    """The lists of a source."""

    prices: PriceTable | None
    retirements: RetirementTable | None
    texts: Mapping[str, bytes]
    """The files to write, by their part of the name."""


def fetched(source: str, config: Config) -> bytes:
    """The content of a file or a URL. Raises CannotRun."""
    if not source.startswith(("http://", "https://")):
        try:
            return Path(source).read_bytes()
        except OSError as error:
            raise CannotRun(f"{source}: cannot be read: {error.strerror or error}") from error
    try:
        return asyncio.run(_downloaded(source, config))
    except Unreachable as error:
        raise CannotRun(str(error)) from error


async def _downloaded(url: str, config: Config) -> bytes:
    async with HttpConnections(egress=outside_egress(config)) as connections:
        reply = await connections.send("GET", url, deadline_s=DEADLINE_S, headers={"accept": "application/json"})
    if reply.status != 200:
        raise CannotRun(f"{url.partition('?')[0]} answered with HTTP {reply.status}; expected a list as JSON")
    return reply.body


def new_lists(data: bytes, source: str, config: Config, today: date) -> NewLists:
    """Raises CannotRun that names the first mistake; then nothing is written."""
    raw = parse_object(data)
    if raw is None:
        raise CannotRun(f"{source}: not a JSON object; {_EXPECTED}")
    try:
        parts = {part: raw for part in PARTS if part in raw} or _of_litellm(raw, config, today)
        if not parts:
            raise ValueError(f"neither `prices` nor `retirements`, and no model of LiteLLM's; {_EXPECTED}")
        prices, retirements = parts.get("prices"), parts.get("retirements")
        texts = {part: _text(part, of) for part, of in parts.items()}
        return NewLists(
            None if prices is None else price_table(prices),
            None if retirements is None else retirement_table(retirements),
            texts,
        )
    except ValueError as error:
        raise CannotRun(f"{source}: {error}") from error


_EXPECTED = "expected the form of docs/operations.md, or LiteLLM's model_prices_and_context_window.json"


def _text(part: str, raw: Mapping[str, Any]) -> bytes:
    kept = {name: raw[name] for name in ("source", "sources", "evidence", "date", part) if name in raw}
    return orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _of_litellm(raw: Mapping[str, Any], config: Config, today: date) -> dict[str, dict[str, Any]]:
    """LiteLLM's file has no date, so it is of today. Its retirements name no successors; those that are known stay."""
    prices: dict[str, dict[str, Any]] = {}
    ends: dict[str, dict[str, Any]] = {}
    kinds = set(shipped_prices().prices)
    for name, row in raw.items():
        provider = as_text(row.get("litellm_provider")) if isinstance(row, Mapping) else ""
        kind = _LITELLM.get(provider, provider)
        if kind not in kinds:
            continue
        model = name.removeprefix(f"{provider}/")
        if "input_cost_per_token" in row:
            prices.setdefault(kind, {})[model] = [
                _per_million(row.get(f"{what}_cost_per_token"))
                for what in ("input", "output")
            ] + [_cached_per_million(row.get("cache_read_input_token_cost"))]  # fmt: skip
        if row.get("deprecation_date"):
            known = config.lists.retirements_of(kind).get(model)
            ends.setdefault(kind, {})[model] = [row["deprecation_date"], None if known is None else known.successor]
    dated = {"date": today.isoformat()}
    found = {"prices": {**dated, "source": "LiteLLM", "prices": prices}} if prices else {}
    if ends:
        found["retirements"] = {**dated, "sources": dict.fromkeys(ends, "LiteLLM"), "retirements": ends}
    return found


def _per_million(usd: Any) -> Any:
    """An unknown price of the output is 0: models of embeddings have none."""
    return round(usd * 1e6, 9) if isinstance(usd, int | float) else 0.0 if usd is None else usd


def _cached_per_million(usd: Any) -> Any:
    return None if usd is None else _per_million(usd)


def differences(found: NewLists, config: Config) -> Iterator[str]:
    """Lines that say what changes for the lists in use: first models of the config, at most MOST_LINES of each list."""
    used = {
        (config.upstreams[ref.upstream].kind, ref.model)
        for model in config.models.values()
        for ref in refs_of_model(config, model)
    }
    old = config.lists
    if found.prices is not None:
        known = (old.own_prices or shipped_prices()).date
        before = {kind: old.prices_of(kind) for kind in found.prices.prices}
        yield from _part("prices", known, found.prices.date, _flat(before), _flat(found.prices.prices), used)
    if found.retirements is not None:
        known = (old.own_retirements or shipped_retirements()).date
        days = {kind: old.retirements_of(kind) for kind in found.retirements.retirements}
        new = _flat(found.retirements.retirements)
        yield from _part("retirements", known, found.retirements.date, _flat(days), new, used)


def _flat(table: Mapping[str, Mapping[str, Price]] | Mapping[str, Mapping[str, Retirement]]) -> Rows:
    return {(kind, model): row for kind, of in table.items() for model, row in of.items()}


def _part(name: str, known: date, day: date, old: Rows, new: Rows, used: set[tuple[str, str]]) -> Iterator[str]:
    yield f"{name}: the list in use is of {known}, the new one of {day}" + (", which is older" if day < known else "")
    keys = [key for key in new if _shown(old.get(key)) != _shown(new[key])]
    for key in sorted(keys, key=lambda key: (key not in used, key))[:MOST_LINES]:
        mark = "*" if key in used else " "
        yield f"{mark} {'/'.join(key)}: {_shown(old.get(key))} → {_shown(new[key])}"
    if len(keys) > MOST_LINES:
        yield f"  and {len(keys) - MOST_LINES} more"
    yield f"  {len(keys)} of {len(new)} models differ" + ("; * is in gateway.yaml" if keys else "")


def _shown(row: Price | Retirement | None) -> str:
    if row is None:
        return "not listed"
    if isinstance(row, Retirement):
        return f"retires {row.day}" + (f", then {row.successor}" if row.successor else "")
    cached = "" if row.cached_input is None else f", cached {row.cached_input:g}"
    return f"{row.input:g} in, {row.output:g} out{cached}"


def write(found: NewLists, config_path: Path) -> list[Path]:
    """Replaces the files next to gateway.yaml, each at once. Raises CannotRun."""
    written = []
    for part, text in found.texts.items():
        path = list_path(config_path, part)
        own = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            own.write_bytes(text)
            own.replace(path)
        except OSError as error:
            raise CannotRun(f"{path}: cannot be written: {error.strerror or error}") from error
        written.append(path)
    return written
