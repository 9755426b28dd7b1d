"""Findings of `gateway check` on the section `watch`: whether the probes can be asked, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from gateway.config.config import ApiKey, Config
from gateway.config.watch import SAMPLED
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.features.manifest import ConfigFindings
from gateway.features.models.probes.asking import NAME
from gateway.features.models.probes.model import MODES, MOST_TOKENS, ProbeRequest, request_key
from gateway.features.models.probes.requests import fixed_requests
from gateway.features.models.probes.sampled import MOST_REQUESTS
from gateway.features.models.probes.targets import probed_aliases
from gateway.features.models.probes.work import Probes, probes_of
from gateway.reports import number_format as say
from gateway.scoring.registry import BuiltScorers
from gateway.store.query import Reading

MONTH_S = 30.4375 * 86_400.0
_TYPICAL_BYTES = 6_000  # of a recorded request, before any is known


@dataclass(frozen=True, slots=True)
class ProbeEstimate:
    """Upper estimate of the price of all probes."""

    targets: int
    calls_a_round: int
    """Calls to one target."""
    usd_a_month: float
    unpriced: tuple[str, ...]
    """Targets without a price."""

    def sentence(self, probes: Probes) -> str:
        watch = probes.watch
        over = self.usd_a_month > watch.usd_per_month
        stop = "; rounds stop there, so set `every` or `usd_per_month` higher" if over else ""
        return (
            f"watch: probes ask {say.counted(self.targets, 'target')} every {watch.every}, "
            f"{say.counted(self.calls_a_round, 'call')} each: at most {say.dollars(self.usd_a_month)} a month, of "
            f"{say.dollars(watch.usd_per_month)} that usd_per_month allows{stop}"
        )


def estimate(probes: Probes, connection: Reading | None = None) -> ProbeEstimate:
    """connection: of the store, whose recorded requests are priced; None: requests of a typical size in their place.
    Raises CannotRun for a file that cannot be used."""
    typical = typical_requests(probes)
    asked = [typical if connection is None else probes.requests(connection, of) for of in probes.targets]
    rounds, requests = MONTH_S / probes.watch.every_s, max(asked, key=len, default=typical)
    prices = [of.most_usd(of_target, probes.watch.repeats) for of, of_target in zip(probes.targets, asked, strict=True)]
    return ProbeEstimate(
        len(probes.targets),
        probes.watch.repeats * len(MODES) * len(requests),
        rounds * sum(price for price in prices if price is not None),
        tuple(str(of.target) for of in probes.targets if of.price is None),
    )


def typical_requests(probes: Probes) -> list[ProbeRequest]:
    if probes.watch.probes != SAMPLED:
        return fixed_requests(probes.watch, probes.config.directory)
    body = {"messages": [{"role": "user", "content": "x" * _TYPICAL_BYTES}], "max_tokens": MOST_TOKENS}
    return [ProbeRequest(request_key("chat", body), "chat", body)] * MOST_REQUESTS


def findings(config: Config, built: BuiltScorers, store: str) -> ConfigFindings:
    probes = probes_of(config)
    if probes is None:
        return ConfigFindings(cautions=tuple(_unused(config)))
    try:
        price = estimate(probes)
    except CannotRun as error:
        return ConfigFindings(refusals=tuple(f"watch.probes: {line}" for line in str(error).splitlines()))
    refusals = [*_unknown_names(config), *_key_mistakes(config, probes)]
    refusals += [
        f"watch: {target} has no price, so usd_per_month cannot be kept; set `prices`, or name other `models`"
        for target in price.unpriced
    ]
    return ConfigFindings(refusals=tuple(refusals), cautions=(price.sentence(probes), *_cautions(config)))


def _unused(config: Config) -> Iterator[str]:
    if config.watch is not None and config.watch.model_fields_set:
        yield "watch: nothing is asked: set `probes: packaged`, `probes: sampled` or `probes: FILE.jsonl`"


def _unknown_names(config: Config) -> Iterator[str]:
    for name in (config.watch.models or ()) if config.watch else ():
        if name not in probed_aliases(config):
            hint = did_you_mean(name, list(config.models))
            yield f'watch.models: "{name}" is not a model without a star{hint}'


def _key_mistakes(config: Config, probes: Probes) -> Iterator[str]:
    """The rights that the key of `evals` lacks."""
    key = _key(config)
    if key is None:
        return
    for of in probes.targets:
        if key.models is not None and of.alias not in key.models:
            yield f'watch: key "{key.name}" of evals.api_key may not use {of.alias}; add it to the key\'s `models`'
    if "target" not in key.allow and not all(of.alone for of in probes.targets):
        yield (
            f'watch: key "{key.name}" of evals.api_key may not choose a target; give it `allow: [target]`, since a '
            "model has several"
        )


def _key(config: Config) -> ApiKey | None:
    if config.evals.api_key is None:
        return None
    digest = sha256(config.evals.api_key.encode()).hexdigest()
    return next((key for key in config.keys if key.sha256 == digest), None)


def _cautions(config: Config) -> Iterator[str]:
    if config.evals.base_url is None:
        yield (
            f"watch: {NAME} call through the gateway, whose address is unknown: set `evals: {{base_url: …, "
            "api_key: …}`, with a key that has `sample: never` (`gateway up` sets both)"
        )
