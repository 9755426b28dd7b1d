"""Which experiments run here, and which part a call has in one: its arm, and whether its shadow is asked.

Pure: the same plan and unit give the same arm in every process and after every restart. What runs is what the stream
server says and this gateway's config knows; plans.py brings it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config.derive import plans_of
from gateway.config.experiments import Experiment
from gateway.config.models import Config
from gateway.core.exchange import Target
from gateway.core.plan import CONTROL, REPEAT, Plan, PlanState
from gateway.core.randomization import draw
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers


@dataclass(frozen=True, slots=True, eq=False)
class RunningExperiment:
    """An experiment in force: its plan, with what every call asks of it worked out beforehand.

    settings: this gateway's section, for what only paces. keys: whose calls are in it, allowed: whose prompts the
    config of today lets go to a candidate; None: everyone's. heads: what an answer's headers say, by arm.
    """

    plan: Plan
    hash: str
    settings: Experiment
    keys: frozenset[str] | None
    allowed: frozenset[str] | None
    apis: frozenset[str]
    splits: bool
    shadows: bool
    headers: Mapping[str, Headers]

    def takes(self, call: Call) -> bool:
        caller = call.caller  # who opted out of evaluation is in no experiment
        return caller.sampled and call.api in self.apis and (self.keys is None or caller.name in self.keys)

    def allows(self, call: Call) -> bool:
        return self.allowed is None or call.caller.name in self.allowed


@dataclass(slots=True)  # one a call: freezing it would cost more than filling it; nobody assigns to it
class Assignment:
    """A call's part in an experiment. arm: of the served answer; target: who must give it. unit: what was drawn for
    the arm; None: it is not split. shadowed: the shadow was drawn. record: the rate at which a split is recorded."""

    running: RunningExperiment
    arm: str
    target: Target
    unit: str | None
    shadowed: bool
    record: float

    @property
    def headers(self) -> Headers:
        return self.running.headers[self.arm]

    def inclusion(self, own_pi: float, stratum: str, whole: bool) -> tuple[float, float, str]:
        """The rate below which u records the served answer, π with the shadow's own draw, and the stratum. whole: it
        may have a shadow.

        A split's rate is one more rule of sampling: the larger of both counts, and names the stratum, so that π is
        constant in it (`split:NAME`, where `record` is 1). A shadow's draw is independent of u; the answer is recorded
        when either says so, and π is that of the union, in a stratum of its own (`…+NAME`).
        """
        name = self.running.plan.name
        rate = own_pi
        if self.unit is not None and self.record >= own_pi:
            rate, stratum = self.record, f"split:{name}"
        drawable = whole and self.running.shadows and self.arm == CONTROL
        if not drawable or (self.unit is not None and rate == 1.0):
            return rate, rate, stratum
        return rate, 1 - (1 - rate) * (1 - self.running.plan.shadow), f"{stratum}+{name}"


class ExperimentAssignments:
    """The experiments of one config. Empty until the stream server has been read."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.plans = plans_of(config)
        self.in_force: dict[str, RunningExperiment] = {}
        self._by_alias: dict[str, tuple[RunningExperiment, ...]] = {}

    def follow(self, states: Mapping[str, PlanState], now: float) -> None:
        """What the stream server says, at `now` (Unix seconds). A plan that goes on keeps its Running."""
        in_force: dict[str, RunningExperiment] = {}
        for name, settings in sorted(self._config.experiments.items()):
            state = states.get(name)
            if state is None or not state.running or not settings.enabled or not self.knows(state.plan):
                continue
            if (state.plan.start or 0.0) <= now < (state.plan.stop or 1e18):
                before = self.in_force.get(name)
                goes_on = before is not None and before.plan == state.plan
                in_force[name] = before if goes_on and before is not None else running(state.plan, settings)
        by_alias: dict[str, tuple[RunningExperiment, ...]] = {}
        for each in in_force.values():
            by_alias[each.plan.model] = (*by_alias.get(each.plan.model, ()), each)
        self.in_force, self._by_alias = in_force, by_alias

    def starts_itself(self, name: str) -> bool:
        """Without a command."""
        settings = self._config.experiments[name]
        return settings.enabled and settings.start != "manual"

    def enabled(self, name: str) -> bool:
        return self._config.experiments[name].enabled

    def knows(self, plan: Plan) -> bool:
        """Everything that the plan names stands in this config."""
        model = self._config.models.get(plan.model)
        if model is None or not any(Target(t.upstream, t.model) == plan.control for t in model.targets):
            return False
        return all(target.upstream in self._config.upstreams for _, target in plan.candidates)

    def of(self, call: Call, free: bool) -> Assignment | None:
        """free: nothing in the call says where it must go; otherwise its arm cannot be drawn, and it is in no split."""
        candidates = self._by_alias.get(call.alias)
        if candidates is None:
            return None
        for each in candidates:
            if each.takes(call):
                return assign(each, call, free)
        return None


def running(plan: Plan, settings: Experiment) -> RunningExperiment:
    name = plan.name.encode()
    return RunningExperiment(
        plan=plan,
        hash=plan.hash,
        settings=settings,
        keys=None if plan.keys is None else frozenset(plan.keys),
        allowed=None if settings.allow.keys is None else frozenset(settings.allow.keys),
        apis=frozenset(plan.apis),
        splits=plan.mode != "shadow",
        shadows=plan.mode != "split",
        headers={a: [(b"x-gateway-experiment", name), (b"x-gateway-arm", a.encode())] for a in plan.arms},
    )


def assign(running: RunningExperiment, call: Call, free: bool) -> Assignment | None:
    """None: the experiment is a split, and the call cannot be in it."""
    plan = running.plan
    if not running.splits:
        return Assignment(running, CONTROL, plan.control, None, shadowed(running, call.id), 0.0)
    if not free or not running.allows(call):
        return None
    unit = unit_of(plan, call)
    arm = arm_of(plan, running.hash, unit)
    drawn = running.shadows and arm == CONTROL and shadowed(running, call.id)
    return Assignment(running, arm, plan.target(arm), unit, drawn, running.settings.record)


def unit_of(plan: Plan, call: Call) -> str:
    """What keeps its arm. A call that names no conversation or user is a unit of its own."""
    if plan.unit == "key":
        return call.caller.name
    if plan.unit == "conversation":
        return call.conversation or call.id
    if plan.unit == "user":
        named = call.user or call.fields.get("user")
        return named if isinstance(named, str) and named else call.id
    return call.id


def arm_of(plan: Plan, plan_hash: str, unit: str) -> str:
    """The control, or one of the candidates, which share `split` in equal parts."""
    u = draw(f"arm:{plan_hash}", unit)
    if u >= plan.split:
        return CONTROL
    return plan.candidates[min(int(u / plan.split * len(plan.candidates)), len(plan.candidates) - 1)][0]


def shadowed(running: RunningExperiment, call_id: str) -> bool:
    """Whether this call's shadow is drawn: a domain of its own for each plan, so that draws are independent."""
    return draw(f"shadow:{running.hash}", call_id) < running.plan.shadow


def repeated(running: RunningExperiment, call_id: str) -> bool:
    """Whether the control is asked again beside this call's shadow."""
    return draw(f"repeat:{running.hash}", call_id) < running.plan.repeat_control


def arms_asked(running: RunningExperiment, call_id: str) -> tuple[str, ...]:
    """The arms of a call's shadow."""
    candidates = tuple(name for name, _ in running.plan.candidates)
    return (*candidates, REPEAT) if repeated(running, call_id) else candidates
