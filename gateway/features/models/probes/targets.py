"""The targets that probes ask: each once, through the first model name that has it. Pure."""

from __future__ import annotations

from hashlib import sha256

import orjson

from gateway.config.config import Config
from gateway.config.derive import asked_refs, prices_of, refs_of_model, target_of
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.prices import Price, Prices
from gateway.core.wildcards import is_pattern
from gateway.features.models.probes.model import ProbedTarget

_FREE = Price(0.0, 0.0)


def probed_aliases(config: Config) -> list[str]:
    """The model names of the section, or all; a pattern names no model."""
    named = config.watch.models if config.watch else None
    return [alias for alias in config.models if not is_pattern(alias) and (named is None or alias in named)]


def probed_targets(config: Config) -> list[ProbedTarget]:
    prices = prices_of(config)
    found: dict[Target, ProbedTarget] = {}
    for alias in probed_aliases(config):
        model = config.models[alias]
        alone = len({target_of(ref) for ref in refs_of_model(config, model)}) == 1
        for ref in asked_refs(config, model.targets):
            target = target_of(ref)
            price = _price(prices, target)
            found.setdefault(target, ProbedTarget(alias, target, _definition(config, ref), alone, price))
    return list(found.values())


def _price(prices: Prices, target: Target) -> Price | None:
    """The price of a target; an engine of the user's own has none, and costs no dollars."""
    return prices.of(target) or (_FREE if target.upstream in prices.engines else None)


def _definition(config: Config, ref: TargetRef) -> str:
    """The digest leaves out headers, which may hold secrets, and the address of a managed engine."""
    upstream = config.upstreams[ref.upstream]
    parts = [ref.upstream, ref.model, upstream.kind, None if upstream.run else upstream.base_url, ref.set, ref.system]
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
