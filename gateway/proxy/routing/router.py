"""Decides the route of a call: its targets in order, its timeouts, its experiment arm and its sampling draw."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from gateway.config.config import Config, Model, OnCut, Retries, Timeouts
from gateway.config.derive import asked_targets, target_of
from gateway.config.upstreams import TargetRef
from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import BadRequest, ModelNotFound, NotAllowed
from gateway.core.exchange import Target
from gateway.core.prices import Prices
from gateway.core.providers import DialectName
from gateway.core.wildcards import STAR, filled, is_pattern, names_for, pattern_of
from gateway.proxy.request.call import Call, Caller, RequestOptions
from gateway.proxy.routing.assignment import Assignment, ExperimentAssignments
from gateway.proxy.routing.circuit_breaker import CircuitBreaker, Clock
from gateway.proxy.routing.learned_routes import RouteChoice, ServedRoute
from gateway.proxy.routing.sampling import SampleDraw, Sampler
from gateway.proxy.routing.served_routes import ServedRoutes
from gateway.proxy.routing.strategies import WeightedTargetState, order
from gateway.proxy.routing.target_state import TargetState, UpstreamState

if TYPE_CHECKING:
    from gateway.core.decision_reads import ReadSettings

_COMPARED_CHARACTERS = 200
_COMPARED_ALIASES = 100
_MOST_UNPRICED = 100
_MOST_PRICED = 1000
"""Models behind patterns that have a state, and so a label, of their own; the others share that of their pattern."""
_ON_TARGETS = frozenset({"error", "timeout", "rate_limit"})


@dataclass(frozen=True, slots=True)
class RouteOption:
    """A target that may be attempted."""

    target_state: TargetState
    on: frozenset[str]
    """The causes of the previous failure after which this target may follow."""


@dataclass(frozen=True, slots=True)
class AliasRoutes:
    """The routing of one alias, as far as it does not change from call to call."""

    model: Model
    targets: tuple[WeightedTargetState, ...]
    fallbacks: tuple[RouteOption, ...]
    cumulative_weights: tuple[float, ...]
    orders: tuple[tuple[RouteOption, ...], ...]
    """The candidates, in order, for each target that may be drawn while all targets are healthy."""
    weighted: bool
    on_cut: OnCut
    single: bool
    """Whether there is one target to draw from."""
    last: int
    """The index of the last target."""
    tier: tuple[RouteOption, ...]
    """The fallbacks for a budget that is nearly used up."""
    learned: ServedRoute | None = None
    """The learned route that chooses the target: with `orders[0]` the control, with `orders[1]` the moved one and
    then the control. None means that the strategy chooses."""
    reads: ReadSettings | None = None
    """The way in which decisions are read from chats; None: they go to the upstream's API of decisions."""

    @property
    def all_healthy(self) -> bool:
        """Whether every upstream is up and every breaker closed, so that the weighted draw needs no further check."""
        for target in self.targets:
            target_state = target.target_state
            if target_state.upstream.down or not target_state.breaker.closed:
                return False
        return True


def routes_of(
    model: Model, targets: tuple[WeightedTargetState, ...], fallbacks: tuple[RouteOption, ...]
) -> AliasRoutes:
    orders = []
    for drawn in targets:
        rest = sorted((t for t in targets if t is not drawn), key=lambda t: -t.weight)
        orders.append((*(RouteOption(t.target_state, _ON_TARGETS) for t in (drawn, *rest)), *fallbacks))
    cumulative = tuple(accumulate(t.weight for t in targets))
    return AliasRoutes(
        model,
        targets,
        fallbacks,
        cumulative,
        tuple(orders),
        model.strategy == "weighted",
        model.cut_policy,
        len(orders) == 1,
        len(orders) - 1,
        tuple(option for option in fallbacks if "budget" in option.on),
        reads=_reads_of(model),
    )


def _reads_of(model: Model) -> ReadSettings | None:
    asked = model.decisions
    if asked is None or asked.reading == "native":
        return None
    from gateway.core.decision_reads import ReadSettings  # only where an alias emulates decisions

    return ReadSettings(asked.reading, asked.min_label_mass, asked.allow_one_hot, asked.both_orders)


@dataclass(slots=True)  # one for each call: freezing it would cost more than filling it
class Route:
    """The decision for one call."""

    candidates: tuple[RouteOption, ...]
    timeouts: Timeouts
    retries: Retries
    on_cut: OnCut
    drawn: SampleDraw
    assignment: Assignment | None = None
    """The assignment to an arm; None if the call is in no experiment."""
    recordable: bool = False
    """The answer may be recorded, so it is held until the call ends."""
    total_shortened: bool = False
    """Whether `timeouts.total_s` is less than the config's, because the caller or an experiment allows less."""
    shadow_of: str = ""
    """The experiment for which a shadow request is sent; "" if a client waits for the answer."""
    obeys: bool = True
    """Whether the answer must be one that the certificates of its target accept."""
    scorer: str = ""
    """The scorer that says it made the call; "" if it names none."""
    choice: RouteChoice | None = None
    """The decision of a learned route; None if none was asked."""
    tier: tuple[RouteOption, ...] = ()
    """The fallbacks for a budget that is nearly used up, as far as they may answer it."""
    tiered_down: bool = False
    """Whether the caller's budget is nearly used up, so that its calls go to cheaper targets."""
    reads: ReadSettings | None = None
    """The way in which decisions are read from chats; None: they go to the upstream's API of decisions."""

    def leave_to_control(self, target: Target) -> None:
        """Notes that an arm's target has left the call to the control, which then answers for the arm."""
        assignment = self.assignment
        if assignment is not None and assignment.target == target:
            self.assignment = replace(assignment, target=assignment.running.plan.control)

    refusal_fails: bool = False
    """Whether a refused question is an error, for clients in whose format it has no answer."""

    def settle_on(self, choice: RouteChoice) -> None:
        """Notes the decision of a cascade, which came after its first target had answered."""
        before, self.choice = self.choice, choice
        assignment = self.assignment
        if assignment is not None and assignment.choice is not None and assignment.choice is before:
            self.assignment = replace(assignment, choice=choice, target=choice.target)


class Router:
    """The routing of one config. Built once."""

    def __init__(
        self,
        config: Config,
        upstreams: Mapping[str, UpstreamState],
        sampler: Sampler,
        clock: Clock,
        rng: random.Random,
        before: Sequence[TargetState] = (),
        prices: Prices | None = None,
    ) -> None:
        """before: targets of the previous config; those of unchanged upstreams keep their breaker and latency. prices:
        the known models, for patterns."""
        self.on_target: Callable[[TargetState], object] | None = None
        """Called with each target that is first seen behind a pattern."""
        self._prices = prices or Prices()
        self._found = {True: 0, False: 0}  # targets behind patterns, priced and unpriced
        self._named: dict[str, AliasRoutes] = {}  # by the name that a client sent
        self._before = {t.target: t for t in before if upstreams.get(t.target.upstream) is t.upstream}
        self._models = config.models
        self._refusal_fails = config.decisions.refusal == "error"
        self._sampler = sampler
        self._rng = rng
        self._target_states: dict[Target, TargetState] = {}
        self._upstreams = upstreams
        self._clock = clock
        self.learned = ServedRoutes(config)
        """The learned routes of models and of experiments."""
        self.experiments = ExperimentAssignments(config, self.learned)
        built = {alias: self._routes_for(model) for alias, model in config.models.items()}
        self.exact = self._routes = {alias: routes for alias, routes in built.items() if not is_pattern(alias)}
        """The routes of aliases that are not patterns."""
        self._patterns = {alias: routes for alias, routes in built.items() if is_pattern(alias)}
        self._behind = {pattern: self._known_behind(pattern) for pattern in self._patterns}
        for plan in self.experiments.plans.values():
            for target in (each for _, t in plan.candidates for each in asked_targets(config, t)):
                self.target_state(target)  # so that its load is scraped before its first call

    def _routes_for(self, model: Model) -> AliasRoutes:
        route = model.targets[0].route
        if route is not None:
            return self._learned_routes(model, self.learned.by_name[route])
        targets = tuple(WeightedTargetState(self.target_state(target_of(t)), t.weight) for t in model.targets)
        after = tuple(RouteOption(self.target_state(target_of(f)), frozenset(f.on)) for f in model.fallback)
        return routes_of(model, targets, after)

    def _learned_routes(self, model: Model, route: ServedRoute) -> AliasRoutes:
        control, moved = (WeightedTargetState(self.target_state(t), 1.0) for t in (route.control, route.moved))
        after = tuple(RouteOption(self.target_state(target_of(f)), frozenset(f.on)) for f in model.fallback)
        first = (RouteOption(control.target_state, _ON_TARGETS), *after)
        alone = control.target_state is moved.target_state  # a cascade with a person in the second place
        orders = (first, first if alone else (RouteOption(moved.target_state, _ON_TARGETS), *first))
        routes = routes_of(model, (control, moved), after)
        return replace(routes, orders=orders, single=False, weighted=False, learned=route)

    def _known_behind(self, pattern: str) -> list[str]:
        """The names of this pattern whose models have a price."""
        found: list[str] = []
        for ref in self._models[pattern].targets:
            found += names_for(pattern, ref.model, self._prices.models(ref.upstream))
        return list(dict.fromkeys(found))

    @property
    def target_states(self) -> tuple[TargetState, ...]:
        return tuple(self._target_states.values())

    def target_state(self, target: Target) -> TargetState:
        """The live state of a target, shared by every alias and experiment that names it."""
        known = self._target_states.get(target)
        if known is None and target in self._before:
            known = self._target_states[target] = self._before[target]
            known.variant = self.experiments.variants.get(target)  # this config's, which follows what ships
        elif known is None:
            upstream = self._upstreams[target.upstream]
            known = self._target_states[target] = TargetState(
                target,
                upstream,
                CircuitBreaker(self._clock, upstream.config.breaker),
                self._clock,
                variant=self.experiments.variants.get(target),
            )
        return known

    def unready(self) -> list[str]:
        """The aliases without a target that may be attempted now."""
        return [alias for alias in self._models if not any(p.ready for p in self._of_alias(alias))]

    @property
    def has_patterns(self) -> bool:
        """Whether models have names with a `*`."""
        return bool(self._patterns)

    def aliases(self, caller: Caller) -> list[str]:
        """The names this caller may use, in the config's order."""
        return [a for a in self._routes if caller.models is None or a in caller.models]

    def patterns(self, caller: Caller) -> list[str]:
        """The patterns that this caller may use, in the config's order."""
        return [p for p in self._patterns if caller.models is None or p in caller.models]

    def listed(self, caller: Caller) -> list[str]:
        """The names that this caller can be offered: aliases, and known models behind patterns."""
        behind = (name for names in self._behind.values() for name in names)
        known = [name for name in behind if self.pattern_for(name, caller) is not None]
        stated = [] if caller.models is None else [m for m in sorted(caller.models) if self.pattern_for(m, caller)]
        return list(dict.fromkeys([*self.aliases(caller), *stated, *known]))

    def pattern_for(self, name: str, caller: Caller) -> str | None:
        """The pattern by which this caller may use this name; None: none, or the name is an alias of its own."""
        if name in self._routes or (pattern := pattern_of(name, self._patterns)) is None:
            return None
        allowed = caller.models is None or pattern in caller.models or name in caller.models
        return pattern if allowed else None

    def matched(self, call: Call) -> Call:
        """The call as one of the pattern that its model matches; without one, as it is."""
        pattern = self.pattern_for(call.alias, call.caller)
        return call if pattern is None else replace(call, alias=pattern, named=call.alias)

    def upstreams(self, caller: Caller) -> list[UpstreamState]:
        """The upstreams behind the names this caller may use."""
        target_states = (p for a in [*self.aliases(caller), *self.patterns(caller)] for p in self._of_alias(a))
        return list({p.upstream.name: p.upstream for p in target_states}.values())

    def speaks(self, name: str, dialect: DialectName) -> bool:
        """Whether a target behind a name that exists speaks this dialect."""
        alias = name if name in self._routes else pattern_of(name, self._patterns) or name
        return any(state.upstream.config.provider.dialect == dialect for state in self._of_alias(alias))

    def _of_alias(self, alias: str) -> list[TargetState]:
        return _states(self._routes.get(alias) or self._patterns[alias])

    def _behind_pattern(self, pattern: str, name: str) -> AliasRoutes:
        """The routes of a name that matches the pattern."""
        routes = self._named.get(name)
        if routes is not None:
            return routes
        model = self._models[pattern]
        refs = [*model.targets, *model.fallback]
        states = {(r.upstream, r.model): self._filled(r, pattern, name) for r in refs}
        targets = tuple(WeightedTargetState(states[t.upstream, t.model], t.weight) for t in model.targets)
        after = tuple(RouteOption(states[f.upstream, f.model], frozenset(f.on)) for f in model.fallback)
        routes = routes_of(model, targets, after)
        if all(state.model == state.target.model for state in states.values()) and len(self._named) < _MOST_PRICED:
            self._named[name] = routes
        return routes

    def _filled(self, ref: TargetRef, pattern: str, name: str) -> TargetState:
        """The state of the target for this name: its own while there are few, or one of the pattern's."""
        shared = self.target_state(target_of(ref))
        if STAR not in ref.model:
            return shared
        target = replace(shared.target, model=filled(ref.model, pattern, name))
        known = self._target_states.get(target)
        if known is not None:
            return known
        priced = self._prices.has(target)
        if self._found[priced] >= (_MOST_PRICED if priced else _MOST_UNPRICED):
            return TargetState(
                shared.target, shared.upstream, shared.breaker, self._clock, variant=shared.variant, model=target.model
            )
        self._found[priced] += 1
        state = self.target_state(target)
        state.variant = shared.variant
        if self.on_target is not None:
            self.on_target(state)
        return state

    def check(self, alias: str, caller: Caller) -> AliasRoutes:
        """Raises ModelNotFound for a name that does not exist, or that this caller may not use."""
        if alias not in self._routes or not (caller.models is None or alias in caller.models):
            hint = self._similar(alias, caller) or "; GET /v1/models lists the models this key may use"
            raise ModelNotFound(f'The model "{alias[:100]}" does not exist here{hint}', param="model")
        return self._routes[alias]

    def _similar(self, alias: str, caller: Caller) -> str:
        """A suggestion. None for a name that would take long to compare, since no other call is served meanwhile."""
        known = self.aliases(caller)
        comparable = len(alias) <= _COMPARED_CHARACTERS and len(known) <= _COMPARED_ALIASES
        return did_you_mean(alias, known) if comparable else ""

    def decide(self, call: Call, options: RequestOptions, home: str | None = None) -> Route:
        """home: the upstream that keeps the response which this call continues; None means that any upstream may
        answer.
        """
        named = call.named
        routes = self._behind_pattern(call.alias, named) if named else self.check(call.alias, call.caller)
        model = routes.model
        assignment: Assignment | None = None
        if call.alias in self.experiments.by_alias:
            free = options.target is None and options.sample != "never" and home is None
            assignment = self.experiments.of(call, free)
        choice: RouteChoice | None = None
        if routes.learned is None or options.target is not None:
            candidates = self._candidates(call, routes, options)
        else:
            choice = routes.learned.choose(call)
            candidates = routes.orders[choice.moved]
        drawn = self._sampler.head(call, options.sample)
        recordable = drawn.reason is None and drawn.u < drawn.max_rate
        if assignment is not None:
            split = assignment.unit is not None
            recordable = recordable or assignment.shadowed or (split and drawn.u < assignment.record)
            if split or assignment.stays:
                candidates, choice = self._arm_first(assignment, candidates), assignment.choice
        if home is not None:
            candidates = _at_home(candidates, home)
        if options.timeout_s is None:
            route = Route(candidates, model.timeouts, model.retries, routes.on_cut, drawn, assignment, recordable)
        else:
            timeouts = _shortened(model.timeouts, options.timeout_s)
            shortened = timeouts.total_s < model.timeouts.total_s
            route = Route(candidates, timeouts, model.retries, routes.on_cut, drawn, assignment, recordable, shortened)
        if options.scorer is not None:
            route.scorer = options.scorer
        if choice is not None:
            route.choice = choice
        if routes.tier and options.target is None and home is None:
            route.tier = routes.tier
        if routes.reads is not None:
            route.reads = routes.reads
        if self._refusal_fails:
            route.refusal_fails = True
        return route

    def _arm_first(self, assignment: Assignment, candidates: tuple[RouteOption, ...]) -> tuple[RouteOption, ...]:
        """Puts the arm's target of a split first, and after the first target of a cascade its control; the usual
        candidates follow."""
        cascade = None if assignment.choice is None else assignment.choice.cascade
        targets = (assignment.target,) if cascade is None else (assignment.target, cascade.control)
        if assignment.target.decides:  # the control answers what it refuses
            targets = (assignment.target, assignment.running.plan.control)
        first = [self.target_state(target) for target in targets]
        own = (RouteOption(target_state, _ON_TARGETS) for target_state in first)
        return (*own, *(c for c in candidates if c.target_state not in first))

    def _candidates(self, call: Call, routes: AliasRoutes, options: RequestOptions) -> tuple[RouteOption, ...]:
        if options.target is not None:
            return (self._requested(call, options.target, routes),)
        if routes.single:
            return routes.orders[0]
        if routes.weighted and routes.all_healthy:
            weights = routes.cumulative_weights
            return routes.orders[bisect_right(weights, self._rng.random() * weights[-1], 0, routes.last)]
        first = order(routes.targets, routes.model.strategy, call, self._rng)
        return (*(RouteOption(target_state, _ON_TARGETS) for target_state in first), *routes.fallbacks)

    def _requested(self, call: Call, name: str, routes: AliasRoutes) -> RouteOption:
        """The target that the request names in x-gateway-target."""
        if "target" not in call.caller.allow:
            raise NotAllowed("this key may not choose a target: keys[].allow does not name `target`", retry=False)
        known = _states(routes)
        for target_state in known:
            if target_state.name == name:
                return RouteOption(target_state, _ON_TARGETS)
        names = ", ".join(p.name for p in known)
        raise BadRequest(
            f'x-gateway-target: "{name[:100]}" is not a target of "{call.named or call.alias}"; it has {names}'
        )


def _states(routes: AliasRoutes) -> list[TargetState]:
    return [*(t.target_state for t in routes.targets), *(f.target_state for f in routes.fallbacks)]


def _at_home(candidates: tuple[RouteOption, ...], home: str) -> tuple[RouteOption, ...]:
    return tuple(c for c in candidates if c.target_state.target.upstream == home) or candidates


def _shortened(timeouts: Timeouts, total_s: float) -> Timeouts:
    return timeouts.model_copy(update={"total_s": min(total_s, timeouts.total_s)})
