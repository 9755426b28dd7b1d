"""Assigns calls to experiments: which experiment, which arm, and whether a shadow is drawn.

Pure: the same plan, unit and secret give the same arm in every process and after every restart. The running experiments
are those whose plans are in the stream server and in this gateway's config; experiments/plan_poller.py reads them.

The draws of arms and shadows are keyed with a secret of the deployment, so that no caller can compute them and invent
conversations for an arm of its choice. Plans of rules 1 keep the draws that they were started with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.config.config import Config
from gateway.config.derive import asked_refs, feedback_without_range, plans_of, target_of
from gateway.config.experiments import Experiment
from gateway.config.guard_candidates import GuardCandidate, guard_candidate
from gateway.core.exchange import Target
from gateway.core.plan import (
    AGAIN,
    CONTROL,
    PROMPT_RULES,
    REPEAT,
    UNITS_FIRST_RULES,
    Plan,
    PlanState,
    shipped_decisions,
)
from gateway.core.randomization import draw, keyed_draw
from gateway.core.segments import CallSegments, Segmenter, segment_name
from gateway.proxy.request.call import Call
from gateway.proxy.routing.learned_routes import RouteChoice, ServedRoute, request_facts
from gateway.proxy.routing.served_routes import ServedRoutes
from gateway.proxy.routing.variants import NOTHING_VARIED, VariedParts, variants_of, varied_parts
from gateway.proxy.types import Headers

if TYPE_CHECKING:
    from gateway.core.certificate import CertificateInForce
    from gateway.proxy.dialects.chat_decisions import ChatDecisions
    from gateway.proxy.routing.certified_questions import CertifiedQuestions

_NO_SHARES: Mapping[str, float] = MappingProxyType({})
_NOTHING_KEPT: Mapping[str, frozenset[str]] = MappingProxyType({})
KEYED_RULES = 2
"""The first rules of a plan whose draws need the deployment's secret."""
Draw = Callable[[str, str], float]
"""(domain, unit) → a number in [0, 1)."""


@dataclass(slots=True)
class KnownSecret:
    """The deployment's secret as this process last read it. It outlives configs, so that a reload moves no unit."""

    value: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class RunningExperiment:
    """An experiment in force: its plan, with everything that calls need computed beforehand."""

    plan: Plan
    hash: str
    settings: Experiment
    """The experiment's section of this gateway's config: pace and budget, which are not part of the plan."""
    keys: frozenset[str] | None
    """The callers whose calls are in the experiment; None: all."""
    allowed: frozenset[str] | None
    """The callers whose prompts the current config allows a candidate to see; None: all."""
    apis: frozenset[str]
    splits: bool
    shadows: bool
    headers: Mapping[str, Headers]
    """Response headers by arm; none where a plan tells clients only which target answered."""
    draw: Draw = field(default=draw, repr=False)  # it may hold the secret
    """Draws arms and shadows."""
    prompt_key: bytes | None = field(default=None, repr=False)
    """The secret under which prompts are digested. None if they are not, by the plan's rules."""
    varied: VariedParts = NOTHING_VARIED
    """The parts of requests that the variants of its arms change."""
    share: float | None = None
    """Share of the units that the candidate of a ramp serves; None if it has no ramp."""
    routes: Mapping[str, ServedRoute] = field(default_factory=dict)
    """The learned routes among its arms."""
    guards: Mapping[str, GuardCandidate] = field(default_factory=dict)
    """The guards among its arms, for which nothing is sent."""
    dropped: tuple[str, ...] = ()
    """Candidates that get no more shadows, since they cannot be the best."""
    shadow_arms: tuple[str, ...] = ()
    """The candidates that get shadows."""
    begun: object = field(default_factory=object)
    """Identity that stays while candidates are dropped."""
    segmenter: Segmenter | None = None
    """Determines a call's segments; None if the plan declares none."""
    kept: frozenset[str] = frozenset()
    """Names of the segments that a ramp leaves with the control."""
    thinned: float | None = None
    """The share of shadows while the candidate is stopped for harm; None if it is not."""
    decisions: tuple[ChatDecisions, ...] = ()
    """Read the calls of arms that are asked for decisions, of which every call in the experiment must be one."""
    certified: tuple[CertifiedQuestions, ...] = ()
    """The certificates that arms obey, which must be in force for every call in the experiment."""
    withdrawn: bool = False
    """The candidate of a split is stopped for harm: every call that would be split is for the control."""

    def stopped(self, harmed: bool) -> RunningExperiment:
        """The same experiment with the candidate stopped for harm, which then serves nobody, or resumed."""
        if harmed == (self.thinned is not None):
            return self
        serves = not self.plan.only_shadows and self.plan.ramp is None
        thinned = self.plan.harmed_shadow if harmed else None
        return replace(self, thinned=thinned, splits=serves and not harmed, withdrawn=serves and harmed)

    def answering(self, may: bool) -> RunningExperiment:
        """The same experiment, in whose split decisions answer clients or do not."""
        splits = may and not self.plan.only_shadows and self.plan.ramp is None and self.thinned is None
        if splits == self.splits or self.plan.ramp is not None:
            return self
        return replace(self, splits=splits, withdrawn=not splits and not self.plan.only_shadows)

    def at(self, share: float, kept: frozenset[str] = frozenset()) -> RunningExperiment:
        """The same ramp at another share. At 0 it only has shadows. kept: as the field."""
        if self.share == share and self.kept == kept:
            return self
        return replace(self, share=share, splits=share > 0, kept=kept, begun=object())

    def without(self, dropped: tuple[str, ...]) -> RunningExperiment:
        """The same experiment without the shadows of these candidates."""
        if self.dropped == dropped:
            return self
        left = tuple(name for name, _ in self.plan.candidates if name not in dropped)
        return replace(self, dropped=dropped, shadow_arms=left)

    def takes(self, call: Call) -> bool:
        caller = call.caller  # a caller that opted out of evaluation is in no experiment
        return caller.sampled and call.api in self.apis and (self.keys is None or caller.name in self.keys)

    def why_ineligible(self, call: Call) -> str | None:
        """Reason why an arm cannot be asked this call; None if it can."""
        why = next((why for decisions in self.decisions if (why := decisions.why_not(call))), None)
        if why is None and self.certified:
            schema = self.decisions[0].decision(call).schema
            return None if all(certified.cover(schema) for certified in self.certified) else "uncertified"
        return why

    def allows(self, call: Call) -> bool:
        return self.allowed is None or call.caller.name in self.allowed


@dataclass(slots=True)  # one for each call: freezing it would cost more than filling it
class Assignment:
    """The assignment of one call in an experiment."""

    running: RunningExperiment
    arm: str
    """The arm of the served answer."""
    target: Target
    """The arm's target."""
    unit: str | None
    """The unit that was randomised; None if the experiment does not split."""
    shadowed: bool
    """A shadow was drawn."""
    record: float
    """The rate at which a split's calls are recorded."""
    choice: RouteChoice | None = None
    """Decision of the arm's learned route; None if the arm is one target."""
    segments: CallSegments | None = None
    """The call's declared segments; None if the plan declares none."""
    shadow: float | None = None
    """The probability of its shadow, where its segments have another one than the plan."""
    stays: bool = False
    """The control answers, whichever arm the unit has: a segment stays with it, or the candidate is stopped."""

    @property
    def headers(self) -> Headers:
        return self.running.headers[self.arm]

    def inclusion(self, own_pi: float, stratum: str, comparable: bool) -> tuple[float, float, str]:
        """(rate below which u records the served answer, π including the shadow's draw, stratum).

        comparable: the answer may have a shadow. A split's rate acts like one more sampling rule: the larger rate
        applies and names the stratum (`split:NAME`), so that π is constant within it. A shadow's draw is independent
        of u; the answer is recorded if either draw says so, and π is that of the union, in a stratum of its own
        (`…+NAME`).
        """
        name = self.running.plan.name
        rate = own_pi
        if self.unit is not None and self.record >= own_pi:
            rate, stratum = self.record, f"split:{name}"
        drawable = comparable and self.running.shadows and self.arm == CONTROL
        if not drawable or (self.unit is not None and rate == 1.0):
            return rate, rate, stratum
        if self.shadow is not None:  # within a stratum, π is constant
            return rate, 1 - (1 - rate) * (1 - self.shadow), f"{stratum}+{name}@{self.shadow:.3g}"
        return rate, 1 - (1 - rate) * (1 - self.running.plan.shadow), f"{stratum}+{name}"


class ExperimentAssignments:
    """The experiments of one config. None runs until the stream server has been read."""

    def __init__(self, config: Config, learned: ServedRoutes | None = None) -> None:
        """learned: the routes of this config, which the router shares; None: its own."""
        self._config = config
        self.learned = learned or ServedRoutes(config)
        self.variants = variants_of(config)
        self._control_targets = {
            alias: frozenset(map(target_of, asked_refs(config, model.targets)))
            for alias, model in config.models.items()
        }
        self.plans = plans_of(config)
        self.decides = any(variant.decisions is not None for variant in self.variants.values())
        """Whether a target is asked for decisions."""
        self._certified = tuple([variant.certified for variant in self.variants.values() if variant.certified])
        claims = (*self.learned.claims, *(claim for certified in self._certified for claim in certified.claims))
        self.claims: tuple[str, ...] = tuple(dict.fromkeys(claims))
        """The digests of certificates that routes and targets obey."""
        self.on_ineligible: Callable[[RunningExperiment, str], object] | None = None
        """Called with the reason for each call of an experiment that an arm cannot be asked."""
        self._secret: bytes | None = None
        self.without_secret: frozenset[str] = frozenset()
        """Experiments that are not in force because the deployment's secret has not been read."""
        self.in_force: dict[str, RunningExperiment] = {}
        self.by_alias: dict[str, tuple[RunningExperiment, ...]] = {}
        """Experiments in force, by the alias whose calls they may take. Without a key, no experiment names the
        alias."""

    def certify(self, known: Mapping[str, CertificateInForce], now: float) -> None:
        """known: certificates in force, by the digests of their claims. now: Unix seconds."""
        self.learned.certify(known, now)
        for certified in self._certified:
            certified.certify(known, now)

    def keep(self, before: ExperimentAssignments) -> None:
        """Keeps the decisions of unchanged routes, and the certificates in force, under the previous config."""
        self.learned.keep(before.learned)
        for target, variant in self.variants.items():
            old = before.variants.get(target)
            if variant.certified is not None and old is not None and old.certified is not None:
                variant.certified.keep(old.certified)

    def follow(
        self,
        states: Mapping[str, PlanState],
        now: float,
        shares: Mapping[str, float] = _NO_SHARES,
        secret: bytes | None = None,
        kept: Mapping[str, frozenset[str]] = _NOTHING_KEPT,
    ) -> None:
        """Applies the plans' states in the stream server, as of `now` (Unix seconds).

        shares: of the units that candidates of ramps serve, by the plan's hash; a ramp that is not in it is at 0.
        secret: of the deployment, for keyed draws. None if it has not been read; plans that need it are not in force,
        so that clients get the control. An experiment whose plan, share and secret have not changed keeps its
        RunningExperiment. kept: names of the segments that stay with the control, by the plan's hash.
        """
        if secret != self._secret:
            self._secret, self.in_force = secret, {}
        self.without_secret = frozenset()
        if self.decides:
            self._follow_shipped(states)
        in_force: dict[str, RunningExperiment] = {}
        for name, settings in sorted(self._config.experiments.items()):
            state = states.get(name)
            if state is None or not state.running or not settings.enabled or not self.knows(state.plan):
                continue
            if secret is None and state.plan.rules >= KEYED_RULES:
                self.without_secret |= {name}
            elif (state.plan.start or 0.0) <= now < (state.plan.stop or 1e18):
                before = self.in_force.get(name)
                goes_on = before is not None and before.plan == state.plan
                found = before if goes_on and before is not None else self._running(state.plan, settings)
                found = found.without(state.dropped if state.plan.finds_best else ()).stopped(state.harmed)
                if found.decisions:
                    found = found.answering(self._may_answer(state.plan))
                in_force[name] = found
                if state.plan.ramp is not None:
                    share = 0.0 if state.harmed else shares.get(found.hash, 0.0)
                    in_force[name] = found.at(share, kept.get(found.hash, frozenset()))
        by_alias: dict[str, tuple[RunningExperiment, ...]] = {}
        for each in in_force.values():
            by_alias[each.plan.model] = (*by_alias.get(each.plan.model, ()), each)
        self.in_force, self.by_alias = in_force, by_alias

    def _follow_shipped(self, states: Mapping[str, PlanState]) -> None:
        for target, variant in self.variants.items():
            variant.shipped = shipped_decisions(states.values(), target, variant.obeyed)

    def still(self, running: RunningExperiment) -> RunningExperiment | None:
        """The experiment as it is in force now; None if it has ended, or another plan, config or step has replaced
        it.
        """
        now = self.in_force.get(running.plan.name)
        return now if now is not None and now.begun is running.begun else None

    def withdraw(self, target: Target) -> None:
        """Sends nobody to a candidate of a ramp, until the shares are applied the next time."""
        for each in list(self.in_force.values()):
            ramped = each.plan.ramp is not None and each.plan.rules >= 2
            targets = {candidate for _, candidate in each.plan.candidates}
            if ramped and each.share and target in targets | {route.moved for route in each.routes.values()}:
                self._replace(each, each.at(0.0))

    def _may_answer(self, plan: Plan) -> bool:
        """Whether all arms of a plan that are asked for decisions may answer clients."""
        variants = [self.variants.get(target) for _, target in plan.candidates if target.decides]
        return all(variant is not None and variant.may_answer(plan.model) for variant in variants)

    def _replace(self, before: RunningExperiment, after: RunningExperiment) -> None:
        name, model = before.plan.name, before.plan.model
        self.in_force = {**self.in_force, name: after}
        here = (after if each is before else each for each in self.by_alias[model])
        self.by_alias = {**self.by_alias, model: tuple(here)}

    def _running(self, plan: Plan, settings: Experiment) -> RunningExperiment:
        found = {arm: self.learned.of(target) for arm, target in plan.candidates}
        routes = {arm: route for arm, route in found.items() if route is not None}
        guards = {arm: guard_candidate(self._config, target) for arm, target in plan.candidates}
        guarded = {arm: guard for arm, guard in guards.items() if guard is not None}
        asked = [route.moved for route in routes.values()]
        asked += [plan.target(arm) for arm in plan.arms if arm not in routes]
        varied = varied_parts(map(self.variants.get, asked))
        deciding = [self.variants[target] for _, target in plan.candidates if target in self.variants]
        decisions = tuple([variant.decisions for variant in deciding if variant.decisions is not None])
        plain = running(plan, settings, varied, self._secret)
        certified = tuple([variant.certified for variant in deciding if variant.certified is not None])
        return replace(plain, routes=routes, guards=guarded, decisions=decisions, certified=certified)

    def starts_itself(self, name: str) -> bool:
        """Whether the experiment starts without a command."""
        settings = self._config.experiments[name]
        return settings.enabled and settings.start != "manual"

    def refusal(self, plan: Plan) -> str | None:
        """Reason why the plan does not start by itself; None if it does."""
        return feedback_without_range(self._config, plan)

    def enabled(self, name: str) -> bool:
        return self._config.experiments[name].enabled

    def knows(self, plan: Plan) -> bool:
        """Whether this config has everything that the plan names."""
        if plan.control not in self._control_targets.get(plan.model, ()):
            return False
        return all(
            self.learned.of(target) is not None
            or guard_candidate(self._config, target) is not None
            or (target.upstream in self._config.upstreams and (not target.variant or target in self.variants))
            for _, target in plan.candidates
        ) and all(
            target not in self.variants or self.variants[target].obeyed == plan.obeyed_by(arm)
            for arm, target in plan.candidates
        )

    def of(self, call: Call, free: bool) -> Assignment | None:
        """free: the call names no target. Otherwise its arm cannot be drawn, and it is in no split."""
        for each in self.by_alias.get(call.alias, ()):
            if each.takes(call):
                if each.decisions and (why := each.why_ineligible(call)) is not None:
                    if self.on_ineligible is not None:
                        self.on_ineligible(each, why)
                    return None
                return assign(each, call, free)
        return None


def running(
    plan: Plan, settings: Experiment, varied: VariedParts = NOTHING_VARIED, secret: bytes | None = None
) -> RunningExperiment:
    """Raises ValueError for a plan with keyed draws and no secret."""
    keyed = plan.rules >= KEYED_RULES
    if keyed and secret is None:
        raise ValueError(f"{plan.name}: its draws are keyed, and the secret of the deployment is not known")
    name, shown = plan.name.encode(), plan.headers == "all"
    return RunningExperiment(
        plan=plan,
        hash=plan.hash,
        settings=settings,
        keys=None if plan.keys is None else frozenset(plan.keys),
        allowed=None if settings.allow.keys is None else frozenset(settings.allow.keys),
        apis=frozenset(plan.apis),
        splits=not plan.only_shadows and plan.ramp is None,
        shadows=plan.mode != "split",
        headers={
            a: [(b"x-gateway-experiment", name), (b"x-gateway-arm", a.encode())] if shown else [] for a in plan.arms
        },
        draw=partial(keyed_draw, secret) if keyed and secret is not None else draw,
        prompt_key=secret if plan.rules >= PROMPT_RULES else None,
        varied=varied,
        segmenter=Segmenter(plan.segments) if plan.segments is not None else None,
        shadow_arms=tuple(name for name, _ in plan.candidates),
    )


def assign(running: RunningExperiment, call: Call, free: bool) -> Assignment | None:
    """Returns None if the experiment splits, and this call cannot be split."""
    plan = running.plan
    if running.segmenter is not None:
        return _assign_by_segment(running, running.segmenter, call, free)
    if not running.splits:
        drawn = running.shadows and shadowed(running, call.id)
        stays = running.withdrawn and free and running.allows(call)
        return Assignment(running, CONTROL, plan.control, None, drawn, 0.0, shadow=running.thinned, stays=stays)
    if not free or not running.allows(call):
        return None
    unit = unit_of(plan, call)
    arm = arm_of(running, unit) if running.share is None else ramp_arm(running, unit)
    drawn = running.shadows and arm == CONTROL and shadowed(running, call.id)
    record = running.settings.record
    if running.routes and arm in running.routes:
        choice = running.routes[arm].choose(call)
        return Assignment(running, arm, choice.target, unit, drawn, record, choice)
    return Assignment(running, arm, plan.target(arm), unit, drawn, record)


def _assign_by_segment(running: RunningExperiment, of: Segmenter, call: Call, free: bool) -> Assignment | None:
    """Assigns a call of a plan with segments. Some of them are shadowed more often, and some may stay with the
    control."""
    plan = running.plan
    values = of.values(request_facts(call, of.reads_tail))
    base = plan.shadow if running.thinned is None else running.thinned
    rate = of.rate(values, base)
    u = running.draw(f"shadow:{running.hash}", call.id) if running.shadows else 1.0
    segments = CallSegments(values, u / base if base <= u < rate else 0.0)
    shadow = None if rate == plan.shadow else rate
    kept = bool(running.kept) and any(segment_name(*each) in running.kept for each in values.items())
    kept = kept or (running.withdrawn and running.allows(call))
    if not running.splits or kept:
        return Assignment(running, CONTROL, plan.control, None, u < rate, 0.0, None, segments, shadow, kept and free)
    if not free or not running.allows(call):
        return None
    unit = unit_of(plan, call)
    arm = arm_of(running, unit) if running.share is None else ramp_arm(running, unit)
    drawn, record = arm == CONTROL and u < rate, running.settings.record
    choice = running.routes[arm].choose(call) if arm in running.routes else None
    target = plan.target(arm) if choice is None else choice.target
    return Assignment(running, arm, target, unit, drawn, record, choice, segments, shadow)


def unit_of(plan: Plan, call: Call) -> str:
    """The unit that keeps its arm. A call that names no conversation, run or user is a unit of its own. In a ramp,
    which must not move it back and forth, one without a conversation or run belongs to its key."""
    if plan.unit == "key":
        return call.caller.name
    if plan.unit == "conversation":
        return call.conversation or (call.id if plan.ramp is None else call.caller.name)
    if plan.unit == "run":
        alone = call.id if plan.ramp is None else call.caller.name
        return alone if call.run is None else call.run.key
    if plan.unit == "user":
        named = call.user or call.fields.get("user")
        return named if isinstance(named, str) and named else call.id
    return call.id


def cluster_name(call: Call, assignment: Assignment) -> str | None:
    """The name of the cluster of dependent calls: the split's unit, or the run or conversation; None: neither.

    A user's calls are one cluster, with those of segments that stay with the control: counted one by one, these would
    outnumber the others, which count once a user.
    Of a ramp by key, only the conversation: its verdict takes one pair of a cluster, and there are few keys.
    """
    plan, unit = assignment.running.plan, assignment.unit
    if plan.unit == "run" and (unit is None or plan.ramp is not None):
        return None if call.run is None else call.run.key
    if assignment.stays and plan.unit == "user" and plan.rules >= UNITS_FIRST_RULES:
        return unit_of(plan, call)
    if unit is None or (plan.ramp is not None and plan.unit in ("conversation", "key")):
        return call.conversation
    return unit


def arm_of(running: RunningExperiment, unit: str) -> str:
    """The control, or one of the candidates, which share `split` equally."""
    plan, u = running.plan, running.draw(f"arm:{running.hash}", unit)
    if u >= plan.split:
        return CONTROL
    return plan.candidates[min(int(u / plan.split * len(plan.candidates)), len(plan.candidates) - 1)][0]


def ramp_arm(running: RunningExperiment, unit: str) -> str:
    """The candidate for units below the share: a larger share adds units and moves none back."""
    share = running.share or 0.0
    return running.plan.candidates[0][0] if running.draw(f"ramp:{running.hash}", unit) < share else CONTROL


def shadowed(running: RunningExperiment, call_id: str) -> bool:
    """Whether a shadow is drawn. Each plan has its own hash domain, so that draws are independent."""
    rate = running.plan.shadow if running.thinned is None else running.thinned
    return running.draw(f"shadow:{running.hash}", call_id) < rate


def repeated(running: RunningExperiment, call_id: str) -> bool:
    """Whether the control is repeated together with this call's shadow (A/A)."""
    return draw(f"repeat:{running.hash}", call_id) < running.plan.repeat_control


def scored_twice(running: RunningExperiment, call_id: str) -> bool:
    """Whether the control is asked for the likelihood of its answer a second time."""
    return draw(f"again:{running.hash}", call_id) < running.plan.scored_twice


def arms_asked(running: RunningExperiment, call_id: str) -> tuple[str, ...]:
    """The arms to which a call's shadow is sent."""
    candidates = running.shadow_arms
    if not candidates:
        return ()
    arms = (*candidates, REPEAT) if repeated(running, call_id) else candidates
    return (*arms, AGAIN) if running.plan.scored_twice and scored_twice(running, call_id) else arms
