"""Derives from checked sections: the plans of experiments, the prices in force, how much content is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.config.config import Config, Model
from gateway.config.egress import Egress
from gateway.config.experiments import Experiment
from gateway.config.limits import LimitsConfig
from gateway.config.privacy import Content, RedactionConfig
from gateway.config.scorers import scores_runs
from gateway.config.upstreams import TargetRef
from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.keys import Directory, KeyRecord, OrganizationRecord, PersonRecord, TeamRecord
from gateway.core.learned_route import ROUTE
from gateway.core.plan import (
    DEFAULT_WINDOW_S,
    FEEDBACK,
    RULES,
    UNITS_FIRST_RULES,
    Guardrail,
    Plan,
)
from gateway.core.plan_horizon import horizon_of
from gateway.core.prices import Price, Prices
from gateway.core.ramp import RampPace
from gateway.core.variant_text import variant_text


def target_of(ref: TargetRef) -> Target:
    """The target of a reference; of a learned route or a guard, the one that stands for it."""
    decides = ref.as_ == "decision"
    text = variant_text(ref.set, ref.system, ref.headers, as_decision=decides, reading=ref.reading)
    return Target(ref.upstream, ref.model, ref.digest or text)


def asked_refs(config: Config, refs: Iterable[TargetRef]) -> list[TargetRef]:
    """Replaces a learned route among these references by its two targets, and leaves guards out."""
    found: list[TargetRef] = []
    for ref in (ref for ref in refs if ref.guard is None):
        route = None if ref.route is None else config.routes.get(ref.route)
        found += [ref] if ref.route is None else [] if route is None else [route.control, route.moved]
    return found


def refs_of_model(config: Config, model: Model) -> list[TargetRef]:
    """The targets and fallbacks that calls of a model name can be sent to."""
    return asked_refs(config, (*model.targets, *model.fallback))


def asked_targets(config: Config, target: Target) -> tuple[Target, ...]:
    """The targets behind a target of a plan: itself, or the control and the moved target of a learned route; none
    behind a guard."""
    if target.upstream != ROUTE:
        return () if target.upstream == GUARD else (target,)
    route = config.routes.get(target.model)
    return () if route is None else (route.route.control.target, route.route.moved.target)


def target_refs(config: Config) -> Iterator[TargetRef]:
    """Every target that the config names: of models, and of experiments."""
    for model in config.models.values():
        yield from refs_of_model(config, model)
    for experiment in config.experiments.values():
        yield from asked_refs(config, (experiment.control, *experiment.arms.values()))


def model_names(config: Config) -> frozenset[str]:
    """The upstream and the model of every target, as labels of metrics have them."""
    return frozenset(str(target_of(ref)) for ref in target_refs(config))


def variant_lines(config: Config) -> list[str]:
    """Changes that each target with a variant makes in requests, one line each. Values of headers are left out."""
    lines = {}
    for ref in target_refs(config):
        changes = [f"{name} {orjson.dumps(v).decode() if v is not None else 'removed'}" for name, v in ref.set.items()]
        changes += [f"system {orjson.dumps(ref.system).decode()}"] if ref.system is not None else []
        changes += [f"headers {', '.join(ref.headers)}"] if ref.headers else []
        changes += ["as a decision" + (f" read by {ref.reading}" if ref.reading else "")] if ref.as_ else []
        if changes:
            lines[str(target_of(ref))] = "; ".join(changes)
    return [f"variant {name}: {changes}" for name, changes in lines.items()]


def plan_of(name: str, experiment: Experiment, total_s: float | None = None) -> Plan:
    """Freezes an experiment. The plan leaves out the settings that only pace it (budget, gate) or turn it on and off
    (enabled, manual).

    total_s: of the model's timeouts; the deadline of an experiment that sets none.
    """
    plan = Plan(
        name=name,
        model=experiment.model,
        control=target_of(experiment.control),
        candidates=tuple((arm, target_of(ref)) for arm, ref in sorted(experiment.arms.items())),
        mode=experiment.chosen_mode,
        shadow=experiment.shadow_share,
        split=experiment.split_share,
        repeat_control=experiment.repeat_share,
        unit=experiment.chosen_unit,
        primary=experiment.chosen_primary,
        margin=experiment.margin,
        alpha=experiment.alpha,
        guardrails=tuple(Guardrail(metric, margin) for metric, margin in sorted(experiment.guardrails.items())),
        strata=experiment.strata,
        keys=None if experiment.allow.keys is None else tuple(sorted(set(experiment.allow.keys))),
        apis=_apis(experiment),
        deadline_s=experiment.deadline_s or total_s,
        start=experiment.start if isinstance(experiment.start, float) else None,
        stop=experiment.stop,
        aa=experiment.aa,
        compare="repeat" if experiment.likelihood else experiment.compare,
        adjust=experiment.adjust and experiment.chosen_mode in ("shadow", "split"),
        after_verdict=experiment.after_verdict if experiment.only_shadows else "continue",
        family=experiment.family if len(experiment.arms) > 1 and experiment.only_shadows else "even",
        ramp=experiment.ramp.design if experiment.ramp else None,
        scored_twice=experiment.scored_twice_share,
        rules=RULES,
        min_hours=experiment.min_hours,
        empty=experiment.empty,
        headers=experiment.headers,
        independent=experiment.declares_independence,
        segments=experiment.segments.design(experiment.margin) if experiment.segments else None,
        population=experiment.population,
        unproved=any(ref.facade == "unproved" for ref in experiment.arms.values()),
        blocks_min=experiment.dependence.blocks_min,
        accept=tuple((arm, ref.certificates) for arm, ref in sorted(experiment.arms.items()) if ref.certificates),
    )
    return _with_horizon(_with_feedback(plan, experiment), experiment)


def _apis(experiment: Experiment) -> tuple[str, ...]:
    """The APIs whose calls take part: a prompt has no place for the instructions of an arm, and only a chat can be
    continued at the answer that was served."""
    if experiment.likelihood:
        return ("chat",)
    instructed = any(ref.system is not None for ref in (experiment.control, *experiment.arms.values()))
    return tuple(sorted(api for api in set(experiment.allow.apis) if not (instructed and api == "completions")))


def _with_feedback(plan: Plan, experiment: Experiment) -> Plan:
    """The plan with its terms for feedback, if some decides."""
    if not any(metric.startswith(FEEDBACK) for metric in plan.decides):
        return plan
    window_s = experiment.feedback_window_s or DEFAULT_WINDOW_S
    return replace(plan, feedback_window_s=window_s, feedback_missing=experiment.feedback_missing)


def _with_horizon(plan: Plan, experiment: Experiment) -> Plan:
    """The plan with its method. A hybrid one needs a number of pairs; without one, no end can be planned."""
    auto = experiment.max_pairs == "auto"
    pairs = horizon_of(plan) if experiment.max_pairs == "auto" else experiment.max_pairs
    if experiment.chosen_method == "anytime" and plan.finds_best:
        return replace(plan, method="anytime", max_pairs=pairs, auto_horizon=auto and pairs is not None)
    if experiment.chosen_method != "hybrid":
        return replace(plan, method=experiment.chosen_method)
    if pairs is None or not plan.only_shadows:
        return replace(plan, method="anytime")
    return replace(plan, method="hybrid", max_pairs=pairs, auto_horizon=auto)


def cautions(plan: Plan) -> list[str]:
    """Cautions for someone who starts this plan, in sentences."""
    found = []
    for arm, target in plan.candidates:
        if target == plan.control:
            found.append(f"experiment {plan.name}: {arm} is the control itself ({target}); only noise is compared")
    needed = horizon_of(plan)
    if plan.max_pairs is not None and needed is not None and needed > plan.max_pairs:
        found.append(
            f"experiment {plan.name}: max_pairs {plan.max_pairs} is unlikely to decide a margin of {plan.margin:g}; "
            f"that needs about {needed} pairs at the variance that is assumed; leave max_pairs out, or widen the margin"
        )
    return [*found, *_incident_cautions(plan)]


_INCIDENTS = 0.01
"""Margin of additional failures from which served answers show it in about a day, also where they fail in incidents."""


def _incident_cautions(plan: Plan) -> Iterator[str]:
    """Caution about a ramp that may wait for weeks: failures that come in incidents take long to prove."""
    if plan.ramp is None or plan.guarded or plan.rules < UNITS_FIRST_RULES:
        return
    margin = next((rail.margin for rail in plan.guardrails if rail.metric == "error_rate"), None)
    if margin is not None and margin >= _INCIDENTS:
        return
    within = "half a point, or half of the control's rate," if margin is None else f"{100 * margin:.3g} points"
    yield (
        f"experiment {plan.name}: the ramp's step to all traffic needs served answers to fail at most {within} more; "
        "where failures come in incidents, that takes days to weeks (docs/ramp.md: 306 hours where all calls fail for "
        "three minutes, 1 % of the time): `guardrails: {error_rate: 0.02}` takes a sixteenth of that"
    )


def directory_of(config: Config) -> Directory:
    """The keys, people, teams and organizations of the file. Keys with one name are one key with several digests."""
    keys: dict[str, KeyRecord] = {}
    for key in config.keys:
        same = keys.get(key.name)
        digests = (*(same.digests if same else ()), (key.sha256, None))
        keys[key.name] = KeyRecord(
            id=key.name,
            name=key.name,
            digests=digests,
            limits=limit_settings(key.limits),
            team=key.team,
            models=key.models,
            allow=key.allow,
            sample=key.sample,
            content=key.content,
            tags=key.tags,
            expires=None if key.expires is None else key.expires.timestamp(),
            disabled=key.disabled,
            networks=key.networks,
            traffic_class=key.traffic_class,
            paths=key.paths,
            person=key.person,
        )
    people = {name: PersonRecord(name, limit_settings(person.limits)) for name, person in config.people.items()}
    teams = {
        name: TeamRecord(name, limit_settings(t.limits), t.organization, t.models, t.tags, t.disabled, t.networks)
        for name, t in config.teams.items()
    }
    organizations = {
        name: OrganizationRecord(name, limit_settings(o.limits), o.disabled) for name, o in config.organizations.items()
    }
    return Directory(0, organizations, teams, keys, limit_settings(config.budgets.default_limits), people)


def console_address(config: Config) -> str:
    """URL at which people reach the console, without its path; "" if the config does not say."""
    oidc = config.admin.oidc if config.admin else None
    named = config.notify.console_url if config.notify else None
    return named or (oidc.url if oidc else "")


def limit_settings(limits: LimitsConfig) -> dict[str, Any]:
    """Limits as records hold them: what is not set is left out."""
    return limits.model_dump(exclude_defaults=True)


def scorer_keys(config: Config) -> frozenset[str]:
    """The names of the keys with which the scorers call models: those of `evals.api_key`."""
    if config.evals.api_key is None:
        return frozenset()
    digest = sha256(config.evals.api_key.encode()).hexdigest()
    return frozenset(key.name for key in config.keys if key.sha256 == digest)


def outside_egress(config: Config) -> Egress | None:
    """The proxy for a program's outbound calls; judges reach the gateway itself without it."""
    own = urlsplit(config.evals.base_url or "").hostname
    egress = config.egress
    return egress if egress is None or own is None else egress.model_copy(update={"direct": (*egress.direct, own)})


def plans_of(config: Config) -> dict[str, Plan]:
    """The plan of each experiment, by the experiment's name."""
    models = config.models
    plans = {n: plan_of(n, e, models[e.model].timeouts.total_s) for n, e in config.experiments.items()}
    return {name: _with_run_guardrails(config, plan) for name, plan in plans.items()}


def _with_run_guardrails(config: Config, plan: Plan) -> Plan:
    """The plan of a ramp by run, which names the guardrails that served runs alone have."""
    if plan.ramp is None or plan.unit != "run":
        return plan
    found = (g.metric for g in plan.guardrails if g.metric in config.scorers)
    return replace(plan, of_runs=tuple(name for name in found if scores_runs(name, config.scorers[name])))


def feedback_without_range(config: Config, plan: Plan) -> str | None:
    """Reason why a plan does not start: feedback decides it, and may be any number. None if it has a range.

    Six votes of -1e15 by one key among 266 made a loss of 4e15 %. A fence around the other callers' votes holds
    against one key, and not against six keys with a vote each; a range bounds every vote.
    """
    names = [metric.removeprefix(FEEDBACK) for metric in plan.decides if metric.startswith(FEEDBACK)]
    open_ = sorted({name for name in names if name not in config.feedback.range})
    if not open_:
        return None
    ranges = ", ".join(f"{name}: [0, 1]" for name in open_)
    return (
        f"experiment {plan.name}: feedback {', '.join(open_)} has no range, so that a few votes of -1e15 would decide "
        f"it; state the lowest and the highest value, such as `feedback: {{range: {{{ranges}}}}}`"
    )


def has_control(config: Config, plan: Plan) -> bool:
    """Whether the plan's control is still a target of its model."""
    model = config.models.get(plan.model)
    return model is not None and plan.control in {target_of(ref) for ref in asked_refs(config, model.targets)}


def paces_of(config: Config) -> dict[str, RampPace]:
    """The pace of each ramp, by the experiment's name."""
    return {name: each.ramp.pace for name, each in config.experiments.items() if each.ramp}


def prices_of(config: Config) -> Prices:
    """The file's own prices first; then, for upstreams at their provider's own address, the prices that ship."""
    own = config.prices.models if config.prices else {}
    at_list_prices = {name: upstream for name, upstream in config.upstreams.items() if upstream.at_provider}
    shipped = {name: config.lists.prices_of(u.provider.priced_as or u.kind) for name, u in at_list_prices.items()}
    return Prices(
        {name: Price(p.input, p.output, p.cached_input, p.reasoning) for name, p in own.items()},
        {name: prices for name, prices in shipped.items() if prices},
        gpu={name: Price(p.input, p.output) for name, p in config.prices.gpu_seconds.items()} if config.prices else {},
        engines=frozenset(name for name, upstream in config.upstreams.items() if upstream.provider.local),
    )


def content_of(own: Content | None, redaction: RedactionConfig | None) -> Content:
    """The part of a caller's content that is recorded. own: the key's `content`; None if the key does not set it."""
    return own or (redaction.default if redaction else "full")
