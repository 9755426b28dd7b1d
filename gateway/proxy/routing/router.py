"""alias → Route: who is asked, in which order, under which limits; in which experiment; sampled or not. Once a call."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from gateway.config.models import Config, Model, OnCut, Retries, Timeouts
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import BadRequest, ModelNotFound, NotAllowed
from gateway.core.exchange import Target
from gateway.proxy.request.call import Call, Caller, RequestOptions
from gateway.proxy.routing.assignment import Assignment, ExperimentAssignments
from gateway.proxy.routing.sampling import SampleDraw, Sampler
from gateway.proxy.routing.strategies import WeightedTargetState, order
from gateway.proxy.routing.target_state import CircuitBreaker, Clock, TargetState, UpstreamState

_ON_TARGETS = frozenset({"error", "timeout", "rate_limit"})


@dataclass(frozen=True, slots=True)
class RouteOption:
    """A place that may be asked. on: the causes of the failure before it for which it is."""

    target_state: TargetState
    on: frozenset[str]


@dataclass(frozen=True, slots=True)
class AliasRoutes:
    """One alias, with all of its routing that does not change from call to call.

    at: where each target's share of the weights ends, of `weight` in all. first: the candidates when the target of that
    place was drawn and all are ready; the first of one that is alone.
    """

    model: Model
    targets: tuple[WeightedTargetState, ...]
    fallbacks: tuple[RouteOption, ...]
    at: tuple[float, ...]
    first: tuple[tuple[RouteOption, ...], ...]
    weighted: bool
    on_cut: OnCut

    @property
    def all_healthy(self) -> bool:
        """All targets are ready, and nothing of late gives a reason to look closer."""
        for target in self.targets:
            target_state = target.target_state
            if target_state.upstream.down or not target_state.breaker.closed:
                return False
        return True


def routes_of(
    model: Model, targets: tuple[WeightedTargetState, ...], fallbacks: tuple[RouteOption, ...]
) -> AliasRoutes:
    first = []
    for drawn in targets:
        rest = sorted((t for t in targets if t is not drawn), key=lambda t: -t.weight)
        first.append((*(RouteOption(t.target_state, _ON_TARGETS) for t in (drawn, *rest)), *fallbacks))
    at = tuple(accumulate(t.weight for t in targets))
    return AliasRoutes(model, targets, fallbacks, at, tuple(first), model.strategy == "weighted", model.cut_policy)


@dataclass(slots=True)  # one a call: freezing it would cost more than filling it; nobody assigns to it
class Route:
    """What was decided for one call. part: its part in an experiment; None: it is in none. kept: its answer may be
    recorded, and is held until it is known whether it is."""

    candidates: tuple[RouteOption, ...]
    timeouts: Timeouts
    retries: Retries
    on_cut: OnCut
    drawn: SampleDraw
    assignment: Assignment | None = None
    kept: bool = False


class Router:
    """The routing of one config; built once. rng: for weighted choices; clock: monotonic seconds."""

    def __init__(
        self, config: Config, upstreams: Mapping[str, UpstreamState], sampler: Sampler, clock: Clock, rng: random.Random
    ) -> None:
        self._models = config.models
        self._sampler = sampler
        self._rng = rng
        self._target_states: dict[Target, TargetState] = {}
        self._upstreams = upstreams
        self._clock = clock
        self.experiments = ExperimentAssignments(config)
        self._routes = {alias: self._routes_for(model) for alias, model in config.models.items()}
        for plan in self.experiments.plans.values():
            for _, target in plan.candidates:
                self.target_state(target)  # so that its load is read before it is asked

    def _routes_for(self, model: Model) -> AliasRoutes:
        targets = tuple(
            WeightedTargetState(self.target_state(Target(t.upstream, t.model)), t.weight) for t in model.targets
        )
        after = tuple(
            RouteOption(self.target_state(Target(f.upstream, f.model)), frozenset(f.on)) for f in model.fallback
        )
        return routes_of(model, targets, after)

    @property
    def target_states(self) -> tuple[TargetState, ...]:
        return tuple(self._target_states.values())

    def target_state(self, target: Target) -> TargetState:
        """The one place of a target, shared by every alias that names it: what one learns of it, all know."""
        known = self._target_states.get(target)
        if known is None:
            upstream = self._upstreams[target.upstream]
            known = self._target_states[target] = TargetState(
                target, upstream, CircuitBreaker(self._clock), self._clock
            )
        return known

    def unready(self) -> list[str]:
        """The aliases none of whose targets may be asked now."""
        return [alias for alias in self._models if not any(p.ready for p in self._of_alias(alias))]

    def aliases(self, caller: Caller) -> list[str]:
        """The names this caller may use, in the config's order."""
        return [a for a in self._models if caller.models is None or a in caller.models]

    def upstreams(self, caller: Caller) -> list[UpstreamState]:
        """The upstreams behind the names this caller may use."""
        target_states = (p for a in self.aliases(caller) for p in self._of_alias(a))
        return list({p.upstream.name: p.upstream for p in target_states}.values())

    def _of_alias(self, alias: str) -> list[TargetState]:
        routes = self._routes[alias]
        return [*(t.target_state for t in routes.targets), *(f.target_state for f in routes.fallbacks)]

    def check(self, alias: str, caller: Caller) -> AliasRoutes:
        """Raises ModelNotFound for a name that does not exist, or that this caller may not use."""
        routes = self._routes.get(alias)
        if routes is None or not (caller.models is None or alias in caller.models):
            hint = did_you_mean(alias, self.aliases(caller)) or "; GET /v1/models lists the models this key may use"
            raise ModelNotFound(f'The model "{alias[:100]}" does not exist here{hint}', param="model")
        return routes

    def decide(self, call: Call, options: RequestOptions, home: str | None = None) -> Route:
        """home: the upstream that holds what this call continues; None: any may answer."""
        routes = self.check(call.alias, call.caller)
        model = routes.model
        assignment = self.experiments.of(
            call, free=options.target is None and options.sample != "never" and home is None
        )
        candidates = self._candidates(call, routes, options)
        drawn = self._sampler.head(call, options.sample)
        kept = drawn.possible
        if assignment is not None:
            kept = kept or assignment.shadowed or (assignment.unit is not None and drawn.u < assignment.record)
            candidates = candidates if assignment.unit is None else self._arm_first(assignment, candidates)
        if home is not None:
            candidates = _at_home(candidates, home)
        timeouts = model.timeouts if options.timeout_s is None else _shortened(model.timeouts, options.timeout_s)
        return Route(candidates, timeouts, model.retries, routes.on_cut, drawn, assignment, kept)

    def _arm_first(self, assignment: Assignment, candidates: tuple[RouteOption, ...]) -> tuple[RouteOption, ...]:
        """A split asks the arm's target, and then whom it would have asked without."""
        target_state = self.target_state(assignment.target)
        return (RouteOption(target_state, _ON_TARGETS), *(c for c in candidates if c.target_state is not target_state))

    def _candidates(self, call: Call, routes: AliasRoutes, options: RequestOptions) -> tuple[RouteOption, ...]:
        if options.target is not None:
            return (self._wished(call, options.target, routes.targets, routes.fallbacks),)
        if len(routes.first) == 1:
            return routes.first[0]
        if routes.weighted and routes.all_healthy:
            return routes.first[bisect_right(routes.at, self._rng.random() * routes.at[-1], 0, len(routes.at) - 1)]
        first = order(routes.targets, routes.model.strategy, call, self._rng)
        return (*(RouteOption(target_state, _ON_TARGETS) for target_state in first), *routes.fallbacks)

    def _wished(
        self, call: Call, wish: str, targets: tuple[WeightedTargetState, ...], fallbacks: tuple[RouteOption, ...]
    ) -> RouteOption:
        if "target" not in call.caller.allow:
            raise NotAllowed("this key may not choose a target: keys[].allow does not name `target`", retry=False)
        known = [*(t.target_state for t in targets), *(f.target_state for f in fallbacks)]
        for target_state in known:
            if target_state.name == wish:
                return RouteOption(target_state, _ON_TARGETS)
        names = ", ".join(p.name for p in known)
        raise BadRequest(f'x-gateway-target: "{wish[:100]}" is no target of "{call.alias}"; it has {names}')


def _at_home(candidates: tuple[RouteOption, ...], home: str) -> tuple[RouteOption, ...]:
    return tuple(c for c in candidates if c.target_state.target.upstream == home) or candidates


def _shortened(timeouts: Timeouts, wish_s: float) -> Timeouts:
    return timeouts.model_copy(update={"total_s": min(wish_s, timeouts.total_s)})
