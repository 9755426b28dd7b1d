"""What follows from checked sections: the plans of experiments, the prices in force, how much content is recorded."""

from __future__ import annotations

from gateway.config.experiments import Experiment
from gateway.config.models import Config
from gateway.config.privacy import Content, RedactionConfig
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.price_list import listed
from gateway.core.prices import Price, Prices


def target_of(ref: TargetRef) -> Target:
    return Target(ref.upstream, ref.model)


def plan_of(name: str, experiment: Experiment, total_s: float | None = None) -> Plan:
    """Freezes an experiment. Left out is what only paces it (budget, gate) or turns it on and off (enabled, manual).

    total_s: of the model's timeouts; the deadline of an experiment that sets none.
    """
    return Plan(
        name=name,
        model=experiment.model,
        control=target_of(experiment.control),
        candidates=tuple((arm, target_of(ref)) for arm, ref in sorted(experiment.arms.items())),
        mode=experiment.mode,
        shadow=experiment.shadow_share,
        split=experiment.split_share,
        repeat_control=experiment.repeat_share,
        unit=experiment.unit,
        primary=experiment.primary,
        margin=experiment.margin,
        alpha=experiment.alpha,
        guardrails=tuple(Guardrail(metric, margin) for metric, margin in sorted(experiment.guardrails.items())),
        strata=experiment.strata,
        stationary=experiment.stationary,
        keys=None if experiment.allow.keys is None else tuple(sorted(set(experiment.allow.keys))),
        apis=tuple(sorted(set(experiment.allow.apis))),
        deadline_s=experiment.deadline_s or total_s,
        start=experiment.start if isinstance(experiment.start, float) else None,
        stop=experiment.stop,
    )


def plans_of(config: Config) -> dict[str, Plan]:
    """The plan of each experiment, by the experiment's name."""
    models = config.models
    return {n: plan_of(n, e, models[e.model].timeouts.total_s) for n, e in config.experiments.items()}


def prices_of(config: Config) -> Prices:
    """The file's own prices first; then, for upstreams at their provider's own address, the prices that ship."""
    own = config.prices.models if config.prices else {}
    shipped = {
        name: listed(upstream.kind)
        for name, upstream in config.upstreams.items()
        if upstream.vendor.base_url and upstream.url == upstream.vendor.base_url and not upstream.vendor.local
    }
    return Prices(
        {name: Price(p.input, p.output, p.cached_input, p.reasoning) for name, p in own.items()},
        {name: prices for name, prices in shipped.items() if prices},
    )


def content_of(own: Content | None, redaction: RedactionConfig | None) -> Content:
    """How much of a caller's content is recorded. own: the key's `content`; None: the key does not set it."""
    return own or (redaction.default if redaction else "full")
