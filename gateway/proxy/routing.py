"""alias → Route: who is asked, in which order, under which limits; in which experiment; sampled or not. Once a call."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from gateway.config import Config, Model, OnCut, Retries, Timeouts
from gateway.errors import BadRequest, ModelNotFound, NotAllowed
from gateway.exchange import Target
from gateway.proxy.balance import Weighted, order
from gateway.proxy.call import Call, Caller
from gateway.proxy.experiments import Experiments, Part
from gateway.proxy.places import Breaker, Clock, Place, UpstreamState
from gateway.proxy.sampling import Draw, Sampler

_ON_TARGETS = frozenset({"error", "timeout", "rate_limit"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that may be asked. on: the causes of the failure before it for which it is."""

    place: Place
    on: frozenset[str]


@dataclass(slots=True)  # one a call: freezing it would cost more than filling it; nobody assigns to it
class Route:
    """What was decided for one call. part: its part in an experiment; None: it is in none. kept: its answer may be
    recorded, and is held until it is known whether it is."""

    candidates: tuple[Candidate, ...]
    timeouts: Timeouts
    retries: Retries
    on_cut: OnCut
    drawn: Draw
    part: Part | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request asks for by header, where its key allows it. timeout_s needs no leave: it only shortens."""

    target: str | None = None
    sample: str | None = None
    timeout_s: float | None = None


class Router:
    """The routing of one config; built once. rng: for weighted choices; clock: monotonic seconds."""

    def __init__(
        self, config: Config, upstreams: Mapping[str, UpstreamState], sampler: Sampler, clock: Clock, rng: random.Random
    ) -> None:
        self._models = config.models
        self._sampler = sampler
        self._rng = rng
        self._places: dict[Target, Place] = {}
        self._upstreams = upstreams
        self._clock = clock
        self.experiments = Experiments(config)
        self._targets = {
            a: tuple(Weighted(self.place(Target(t.upstream, t.model)), t.weight) for t in m.targets)
            for a, m in self._models.items()
        }
        self._fallbacks = {
            a: tuple(Candidate(self.place(Target(f.upstream, f.model)), frozenset(f.on)) for f in m.fallback)
            for a, m in self._models.items()
        }
        for plan in self.experiments.plans.values():
            for _, target in plan.candidates:
                self.place(target)  # so that its load is read before it is asked
        self._only = {a: (Candidate(t[0].place, _ON_TARGETS), *self._fallbacks[a]) for a, t in self._targets.items()}

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(self._places.values())

    def place(self, target: Target) -> Place:
        """The one place of a target, shared by every alias that names it: what one learns of it, all know."""
        known = self._places.get(target)
        if known is None:
            upstream = self._upstreams[target.upstream]
            known = self._places[target] = Place(target, upstream, Breaker(self._clock), self._clock)
        return known

    def unready(self) -> list[str]:
        """The aliases none of whose targets may be asked now."""
        return [alias for alias in self._models if not any(p.ready for p in self._of_alias(alias))]

    def aliases(self, caller: Caller) -> list[str]:
        """The names this caller may use, in the config's order."""
        return [a for a in self._models if caller.models is None or a in caller.models]

    def upstreams(self, caller: Caller) -> list[UpstreamState]:
        """The upstreams behind the names this caller may use."""
        places = (p for a in self.aliases(caller) for p in self._of_alias(a))
        return list({p.upstream.name: p.upstream for p in places}.values())

    def _of_alias(self, alias: str) -> list[Place]:
        return [*(t.place for t in self._targets[alias]), *(f.place for f in self._fallbacks[alias])]

    def check(self, alias: str, caller: Caller) -> Model:
        """Raises ModelNotFound for a name that does not exist, or that this caller may not use."""
        model = self._models.get(alias)
        if model is None or not (caller.models is None or alias in caller.models):
            near = get_close_matches(alias, self.aliases(caller), 1, 0.6)
            hint = f' Did you mean "{near[0]}"?' if near else " GET /v1/models lists what this key may use."
            raise ModelNotFound(f'The model "{alias[:100]}" does not exist here.{hint}', param="model")
        return model

    def decide(self, call: Call, wishes: Wishes, home: str | None = None) -> Route:
        """home: the upstream that holds what this call continues; None: any may answer."""
        model = self.check(call.alias, call.caller)
        part = self.experiments.of(call, free=wishes.target is None and wishes.sample != "never" and home is None)
        candidates = self._candidates(call, model, wishes)
        drawn = self._sampler.head(call, wishes.sample)
        kept = drawn.possible
        if part is not None:
            kept = kept or part.shadowed or (part.unit is not None and drawn.u < part.record)
            candidates = candidates if part.unit is None else self._arm_first(part, candidates)
        return Route(
            candidates=candidates if home is None else _at_home(candidates, home),
            timeouts=model.timeouts if wishes.timeout_s is None else _shortened(model.timeouts, wishes.timeout_s),
            retries=model.retries,
            on_cut=model.cut,
            drawn=drawn,
            part=part,
            kept=kept,
        )

    def _arm_first(self, part: Part, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """A split asks the arm's target, and then whom it would have asked without."""
        place = self.place(part.target)
        return (Candidate(place, _ON_TARGETS), *(c for c in candidates if c.place is not place))

    def _candidates(self, call: Call, model: Model, wishes: Wishes) -> tuple[Candidate, ...]:
        targets, fallbacks = self._targets[call.alias], self._fallbacks[call.alias]
        if wishes.target is None and len(targets) == 1:
            return self._only[call.alias]
        if wishes.target is not None:
            return (self._wished(call, wishes.target, targets, fallbacks),)
        first = order(targets, model.strategy, call, self._rng)
        return (*(Candidate(place, _ON_TARGETS) for place in first), *fallbacks)

    def _wished(
        self, call: Call, wish: str, targets: tuple[Weighted, ...], fallbacks: tuple[Candidate, ...]
    ) -> Candidate:
        if "target" not in call.caller.allow:
            raise NotAllowed("this key may not choose a target: keys[].allow does not name `target`", retry=False)
        known = [*(t.place for t in targets), *(f.place for f in fallbacks)]
        for place in known:
            if place.name == wish:
                return Candidate(place, _ON_TARGETS)
        names = ", ".join(p.name for p in known)
        raise BadRequest(f'x-gateway-target: "{wish[:100]}" is no target of "{call.alias}"; it has {names}')


def _at_home(candidates: tuple[Candidate, ...], home: str) -> tuple[Candidate, ...]:
    return tuple(c for c in candidates if c.place.target.upstream == home) or candidates


def _shortened(timeouts: Timeouts, wish_s: float) -> Timeouts:
    return timeouts.model_copy(update={"total_s": min(wish_s, timeouts.total_s)})
