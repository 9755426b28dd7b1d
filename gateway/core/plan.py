"""The plan of an experiment: its arms, its metrics, and its error rate. Both programs read it; neither owns it.

A plan is frozen when it starts. Everything that decides its result is in its hash; a change makes a new plan, with
confidence sequences of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, get_args

import orjson

from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.horizon import BURN_IN
from gateway.core.ramp import VERDICT_PART, RampDesign
from gateway.core.segments import SegmentDesign

Mode = Literal["shadow", "split", "both", "likelihood"]
Unit = Literal["request", "conversation", "user", "key", "run"]
Method = Literal["hybrid", "anytime", "guaranteed", "stationary"]
Audit = Literal["alarm", "proof"]
Comparand = Literal["served", "repeat"]
AfterVerdict = Literal["stop", "continue"]
Sharing = Literal["holm", "even", "best"]
Missing = Literal["omit", "zero"]
Empty = Literal["failed", "allowed"]
ArmHeaders = Literal["all", "target"]
Population = Literal["others", "these"]
RULES = 3  # of the plans that this version makes
PROMPT_RULES = 3  # from which pairs of one prompt are a unit of dependence
UNITS_FIRST_RULES = 3  # from which the interval counts units from the first pair on, not from an alarm on
CONTROL = "control"  # A1: the served answer of the control target
REPEAT = "repeat"  # A2: a second request to the control, by the same path as a candidate's
AGAIN = "repeat_again"  # in `mode: likelihood`: the repeat a second time, for the noise floor
CANDIDATE = "candidate"  # the arm of the only candidate

# Metrics that come from the record itself. A primary metric or a guardrail is one of these, or a scorer.
BUILT_IN_METRICS = (
    *("error_rate", "completion", "total_s", "latency_p95", "first_token_s"),
    *("cost_per_1k", "output_tokens"),
)
NATS_PER_TOKEN, TOP1_AGREEMENT = "nats_per_token", "top1_agreement"
LIKELIHOOD_METRICS = (NATS_PER_TOKEN, TOP1_AGREEMENT)  # of `mode: likelihood`
RUN_METRICS = ("calls_per_run", "tokens_per_run", "cost_per_run")  # of a split by run
FAILURE_METRICS = ("error_rate", "completion")
UNBOUNDED_METRICS = ("total_s", "latency_p95", "first_token_s", "cost_per_1k", "output_tokens", *RUN_METRICS)
FEEDBACK = "feedback:"  # of the metrics that are people's feedback: its name follows
CONVERSATION_QUIET_S = 1800.0  # after its last pair, a conversation counts no further one (rules 2)
CONVERSATION_PAIRS = 20  # of one conversation, at most
DEFAULT_WINDOW_S = 86_400.0  # in which feedback on an answer counts
DEFAULT_BLOCKS_MIN = 15.0  # a quarter of an hour
FEWEST_TIME_BLOCKS = 10  # of longer ones, within the hours that a plan waits for
HARMED = "stopped: harm"
HARM_DIVISOR = 20.0  # of the share of shadows, while a candidate is stopped for harm
_FOLLOWED_S = 2.0  # until every gateway follows a plan that was resumed
BEST_PATIENCE = 2  # times the planned pairs, after which no candidate is found to be the best
STRATA = ("caller", "api", "stream")  # fields of an exchange that are known before its arm is drawn


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not become worse by more than its margin."""

    metric: str
    margin: float  # in the metric's own units


@dataclass(frozen=True)  # without slots: the hash is computed once
class Plan:
    """One frozen version of an experiment."""

    name: str
    model: str
    control: Target
    candidates: tuple[tuple[str, Target], ...]  # by the name of their arm
    mode: Mode = "shadow"
    shadow: float = 0.1  # share of eligible requests that are also sent to the candidates
    split: float = 0.0  # share of units that a candidate serves
    repeat_control: float = 0.0  # share of shadowed requests that are sent to the control a second time
    unit: Unit = "request"  # what keeps its arm in a split, and counts as one observation
    primary: str | None = None
    margin: float = 0.02  # of the primary metric, in its units
    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = ()
    strata: tuple[str, ...] = ()  # fields of the exchange by which the report breaks down
    keys: tuple[str, ...] | None = None  # the API keys whose prompts may go to a candidate; None: all
    apis: tuple[str, ...] = ("chat", "completions")
    deadline_s: float | None = None
    start: float | None = None  # Unix seconds; None: at once
    stop: float | None = None  # Unix seconds; None: never
    # The defaults from here on are those of a plan that was stored before these fields existed.
    method: Method = "guaranteed"
    """hybrid: intervals for a planned end, at max_pairs; anytime: asymptotic, without an end; guaranteed: for every
    distribution and any drift; stationary: the conditional mean is taken as constant."""
    max_pairs: int | None = None  # values of the primary at which a hybrid plan closes; see ends_at for the best of k
    auto_horizon: bool = False  # max_pairs was computed from the margin
    aa: Audit = "proof"  # alarm: the A/A control must not fail; proof: it must be shown to be alike
    compare: Comparand = "served"  # the control's answer that scores are compared with
    adjust: bool = False  # differences are adjusted for what was known of the request (CUPED)
    after_verdict: AfterVerdict = "continue"  # stop: no shadow is paid for once every candidate has its verdict
    family: Sharing = "even"  # how several candidates share alpha; best: they are compared with each other as well
    feedback_window_s: float | None = None  # after it, feedback on an answer no longer counts; None if none decides
    feedback_missing: Missing = "omit"  # what an answer without feedback is: in no mean, or a 0
    ramp: RampDesign | None = None  # how the candidate's share of served units rises; None: `split` is fixed
    scored_twice: float = 0.0  # in `mode: likelihood`: share of pairs for which the control is scored a second time
    rules: int = 1
    """Version of the rules by which draws are made and evidence is weighed. 1: draws that everybody can compute, pairs
    taken as independent, the horizon as it was guessed, no gate on completeness. 2: keyed draws, dependence within
    units and blocks of time checked, a horizon that follows the variance, the completeness gate, steps of a ramp proved
    on served answers. 3: intervals by unit from the first pair on, excess of missing scores, an early stop for harm,
    served hours of the day before a ramp's last step. Plans keep the rules that they were started with."""
    min_hours: float = 0.0  # of traffic before `ship`; see verdict/decision.py for `reject`
    empty: Empty = "allowed"  # failed: an empty text with HTTP 200 counts as a failure of its arm
    headers: ArmHeaders = "all"  # all: clients are told their arm; target: only which target answered
    independent: bool = False  # somebody declared that calls are independent of each other (`unit: request`)
    shadow_asked: float | None = None
    """The share of shadows that the settings ask for, where `shadow` was lowered to spread the pairs over min_hours."""
    segments: SegmentDesign | None = None  # parts of the traffic that decide, each with a margin of its own
    of_runs: tuple[str, ...] = ()  # of a ramp by run: the guardrails that are scorers of runs, which shadows have not
    population: Population | None = None
    """The population that the verdict is about. others: users or conversations like those seen; these: the keys or
    users seen, as they use it now. None: others where calls name users or conversations, else these (rules 3)."""
    unproved: bool = False
    """Whether the owner lets decisions answer clients that no experiment has shipped (`facade: unproved`)."""
    blocks_min: float = DEFAULT_BLOCKS_MIN
    """Minutes of the blocks of time within which values may depend on each other (rules 3). 15: failures only; longer
    blocks are those of every metric that decides."""
    accept: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The certificates that the decisions of an arm obey, for each arm with `accept`. What they do not cover is
    answered by the control, in shadows as for clients."""

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the sha256 of everything above but after_verdict, which changes no result."""
        fields = replace(self, after_verdict="continue").fields()
        return sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def fields(self) -> dict[str, Any]:
        """JSON-able. A plan that could have been written before methods existed has the same form as then, so that its
        hash, and with it the evidence of an experiment in progress, stays."""
        fields = {name: value for name, value in asdict(self).items() if value != _WITHOUT.get(name, _NEVER)}
        if self.ramp is not None:
            fields["ramp"] = self.ramp.fields()
        if self.segments is not None:
            fields["segments"] = self.segments.fields()
        fields["control"] = self.control.fields()
        fields["candidates"] = [[arm, target.fields()] for arm, target in self.candidates]
        fields["stationary"] = self.method == "stationary"
        if self.method == "stationary":
            del fields["method"]
        return fields

    def same_design(self, other: Plan) -> bool:
        """Whether both follow from the same settings: a horizon and a pace that were computed may differ, and
        after_verdict."""
        return self._design() == other._design()

    def follows_from(self, wanted: Plan) -> bool:
        """Whether this stored plan is what the settings of the wanted one say: started by them, or by an older version
        from the same settings."""
        return self.same_design(wanted) or wanted.continues(self)

    def changed_settings(self, wanted: Plan) -> tuple[str, ...]:
        """Names of the settings of the wanted plan that this stored one does not follow."""
        if self.follows_from(wanted):
            return ()
        mine, others = self._design(), wanted._design()
        return tuple(f.name for f in fields(Plan) if getattr(mine, f.name) != getattr(others, f.name))

    def same_segments(self, other: Plan) -> bool:
        """Whether the segments of both distinguish the same values, which recent traffic completes before a start."""
        if self.segments is None or other.segments is None:
            return self.segments is other.segments
        return self.segments.alike(other.segments)

    def continues(self, stored: Plan) -> bool:
        """Whether a stored plan of an older version is this one, except for what that version did not know.

        It then continues as it was frozen, until somebody starts the new one.
        """
        second, first = self._with_second_rules(), self._with_first_rules()
        oldest = replace(first, adjust=False, after_verdict="continue", family="even")
        older = (second, first, oldest)
        unknown = any(plan != self and plan.same_design(stored) for plan in older)
        return unknown or any(plan._continues(stored) for plan in (self, *older))

    def _with_second_rules(self) -> Plan:
        """The plan as versions before rules 3 would have made it of the same settings."""
        return replace(self, rules=2, population=None, blocks_min=DEFAULT_BLOCKS_MIN)

    def _with_first_rules(self) -> Plan:
        """The plan as versions before rules 2 would have made it of the same settings."""
        ramp = self.ramp.with_first_rules() if self.ramp else None
        second = self._with_second_rules()
        return replace(second, rules=1, min_hours=0.0, empty="allowed", headers="all", independent=False, ramp=ramp)

    def _continues(self, stored: Plan) -> bool:
        """Whether a plan from before there were methods has the same settings."""
        before = replace(self, max_pairs=None, auto_horizon=False, aa="proof", method=stored.method)
        stationary = (self.method == "stationary") == (stored.method == "stationary")
        default = self.aa == "alarm" and (self.auto_horizon or self.method in ("anytime", "stationary"))
        return before == stored and stored.method in ("guaranteed", "stationary") and stationary and default

    @property
    def has_pace(self) -> bool:
        """A lower share of shadows can spread its pairs over min_hours. Pairs of guards cost nothing, and hits come in
        bursts, which more pairs show."""
        return self.rules >= 2 and not self.guarded and bool(self.min_hours and self.max_pairs and self.shadow)

    @property
    def harmed_shadow(self) -> float:
        """The share of shadows while the candidate is stopped for harm: known, and never 0."""
        return self.shadow / HARM_DIVISOR

    @property
    def reads_traffic(self) -> bool:
        """Whether recent traffic completes the plan before it starts: its pace, or its segments."""
        return self.has_pace or bool(self.segments and self.segments.by)

    def competes(self, other: Plan) -> bool:
        """Whether a call could be in either of two different experiments; it can only be in one."""
        if self.name == other.name or self.model != other.model:
            return False
        return self.keys is None or other.keys is None or bool(set(self.keys) & set(other.keys))

    def _design(self) -> Plan:
        shadow = self.shadow if self.shadow_asked is None else self.shadow_asked
        pairs = None if self.auto_horizon else self.max_pairs
        segments = self.segments.as_stated if self.segments else None
        same = replace(self, max_pairs=pairs, shadow=shadow, segments=segments)
        return replace(same, after_verdict="continue", shadow_asked=None)

    @property
    def arms(self) -> tuple[str, ...]:
        repeats = (*((REPEAT,) if self.repeat_control else ()), *((AGAIN,) if self.scored_twice else ()))
        return (CONTROL, *(name for name, _ in self.candidates), *repeats)

    def obeyed_by(self, arm: str) -> tuple[str, ...]:
        """The certificates that the decisions of an arm obey; () if all of them are accepted."""
        return next((names for name, names in self.accept if name == arm), ())

    @property
    def likelihood(self) -> bool:
        """Candidates write no answers: they are asked how likely the served ones are."""
        return self.mode == "likelihood"

    @property
    def guarded(self) -> bool:
        """Candidates are guards: no request is sent for them. Their answers are the served ones, or refusals."""
        return all(guard_of(target) is not None for _, target in self.candidates)

    @property
    def finds_best(self) -> bool:
        """Candidates are compared with each other, and dropped once they cannot be the best."""
        return self.family == "best"

    @property
    def ends_at(self) -> int | None:
        """Settled pairs at which the experiment ends without a verdict, as planned; None if it does not. What is
        computed from the margin follows the variance, so it may take more.
        """
        patient = self.finds_best and self.method == "anytime" and self.auto_horizon
        return self.max_pairs * BEST_PATIENCE if self.max_pairs is not None and patient else self.max_pairs

    @property
    def only_shadows(self) -> bool:
        """Clients get the control's answers alone."""
        return self.mode in ("shadow", "likelihood")

    @property
    def paid_repeats(self) -> float:
        """Requests to the control for each pair, besides the served one."""
        return self.repeat_control + self.scored_twice

    @property
    def verdict_alpha(self) -> float:
        """The part of alpha that the verdict has: all of it, unless alarms of a ramp have the rest."""
        return self.alpha * (VERDICT_PART if self.ramp else 1.0)

    @property
    def adjusts_splits(self) -> bool:
        """Whether its splits are adjusted. Plans of the first rules had no switch: theirs are, by fewer covariates."""
        return self.adjust or self.rules < 2

    @property
    def decides(self) -> tuple[str, ...]:
        """The metrics that the verdict depends on."""
        return (*((self.primary,) if self.primary else ()), *(g.metric for g in self.guardrails))

    def target(self, arm: str) -> Target:
        """Raises KeyError for an arm that the plan does not have."""
        repeats = (CONTROL, REPEAT, AGAIN) if self.likelihood else (CONTROL, REPEAT)
        return self.control if arm in repeats else dict(self.candidates)[arm]

    def to_json(self) -> bytes:
        return orjson.dumps(self.fields())


def guard_of(target: Target) -> str | None:
    """The name of the guard that a candidate is; None means that it is a target."""
    return target.model if target.upstream == GUARD else None


_NEVER = object()
_WITHOUT: dict[str, Any] = {
    "method": "guaranteed", "max_pairs": None, "auto_horizon": False, "aa": "proof", "compare": "served",
    "adjust": False, "after_verdict": "continue", "family": "even", "feedback_window_s": None,
    "feedback_missing": "omit", "ramp": None, "scored_twice": 0.0, "rules": 1, "min_hours": 0.0, "empty": "allowed",
    "headers": "all", "independent": False, "shadow_asked": None, "segments": None, "of_runs": (),
    "population": None, "unproved": False, "blocks_min": DEFAULT_BLOCKS_MIN,
    "accept": (),
}  # fmt: skip


def plan_from_json(text: bytes | str) -> Plan:
    """Raises ValueError, KeyError or TypeError if the text does not hold a plan."""
    raw: dict[str, Any] = orjson.loads(text)
    raw["control"] = Target(**raw["control"])
    raw["candidates"] = tuple((name, Target(**target)) for name, target in raw["candidates"])
    raw["guardrails"] = tuple(Guardrail(**g) for g in raw["guardrails"])
    for name in ("strata", "apis"):
        raw[name] = tuple(raw[name])
    raw["of_runs"] = tuple(raw.get("of_runs", ()))
    raw["accept"] = tuple((arm, tuple(names)) for arm, names in raw.get("accept", ()))
    raw["keys"] = None if raw["keys"] is None else tuple(raw["keys"])
    if raw.get("ramp") is not None:
        raw["ramp"] = RampDesign.from_fields(raw["ramp"])
    if raw.get("segments") is not None:
        raw["segments"] = SegmentDesign.from_fields(raw["segments"])
    if raw.pop("stationary"):
        raw["method"] = "stationary"
    return Plan(**raw)


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A stored plan. state: running or stopped; since: the start of that state, in Unix seconds."""

    plan: Plan
    hash: str
    state: str
    since: float


def current_plan(plans: Sequence[StoredPlan]) -> StoredPlan | None:
    """The running plan, else the newest; None without plans. plans: oldest first."""
    running = [plan for plan in plans if plan.state == "running"]
    return next(reversed(running or list(plans)), None)


@dataclass(frozen=True, slots=True)
class HarmStop:
    """A stop of what a harmful candidate costs; the plan goes on at a twentieth of its shadows, or serves the control.

    A stop that somebody has cleared stays with its plan, which is not stopped again.
    """

    at: float
    """Unix seconds."""
    pairs: int
    """Pairs behind it; units of a split."""
    high: float
    """Upper end of the difference's interval at that time."""
    hours: float
    """Further hours of traffic until a reject, as estimated then."""
    cleared: float | None = None
    """Unix seconds at which somebody resumed the plan; None if nobody has."""

    @property
    def until(self) -> float:
        """Unix seconds from which on every gateway draws arms again."""
        return math.inf if self.cleared is None else self.cleared + _FOLLOWED_S


@dataclass(frozen=True, slots=True)
class PlanState:
    """An experiment's plan and state, as the stream server holds them."""

    plan: Plan
    state: Literal["running", "stopped"]
    since: float  # when this plan got this state: Unix seconds
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The stored bytes; b"" for a state that was not read from the server."""
    unpaced: bool = False
    """A gateway has started the plan, and no consumer has spread its pairs over the hours of traffic yet."""
    dropped: tuple[str, ...] = ()
    """The candidates of a plan with `family: best` that get no more requests, in the order of their names."""
    more: int = 0
    """Pairs for which a plan goes on after its last look, with the early sequence alone; 0: it does not."""
    harm: HarmStop | None = None
    """The stop for harm; None if there has been none."""
    shipped: tuple[str, ...] = ()
    """The candidates with `as: decision` whose verdict was `ship`: their decisions may answer clients."""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def harmed(self) -> bool:
        """Whether the candidate is stopped for harm now."""
        return self.harm is not None and self.harm.cleared is None

    @property
    def shown(self) -> str:
        """The state in words: a running plan may be stopped for harm."""
        return HARMED if self.running and self.harmed else self.state

    def to_json(self) -> bytes:
        fields: dict[str, Any] = {"plan": self.plan.fields(), "state": self.state, "since": self.since}
        fields |= {"unpaced": True} if self.unpaced else {}
        fields |= {"more": self.more} if self.more else {}
        fields |= {"harm": asdict(self.harm)} if self.harm else {}
        fields |= {"shipped": self.shipped} if self.shipped else {}
        return orjson.dumps({**fields, "dropped": self.dropped} if self.dropped else fields)


def still_shipped(known: PlanState | None, plan: Plan) -> tuple[str, ...]:
    """The candidates of a new plan whose decisions the state before it had shipped for the same model."""
    if known is None or known.plan.model != plan.model:
        return ()
    return tuple(
        [
            arm
            for arm, target in known.plan.candidates
            if arm in known.shipped
            and (arm, target) in plan.candidates
            and known.plan.obeyed_by(arm) in ((), plan.obeyed_by(arm))
        ]
    )


def shipped_decisions(states: Iterable[PlanState], target: Target, obeyed: Sequence[str] = ()) -> frozenset[str]:
    """The models for which experiments have shipped a target with `as: decision`.

    obeyed: the certificates that its decisions obey. An experiment in which they obeyed others shows nothing about
    them; one in which all were accepted does.
    """
    return frozenset(
        state.plan.model
        for state in states
        for arm, shipped in state.plan.candidates
        if arm in state.shipped and shipped == target and state.plan.obeyed_by(arm) in ((), tuple(obeyed))
    )


def plan_states(fields: Mapping[bytes, bytes]) -> dict[str, PlanState]:
    """The states by experiment.

    Entries that are not plans, or that have fields unknown to this version, are left out: a plan that this version
    does not understand must not run.
    """
    out: dict[str, PlanState] = {}
    for name, raw in fields.items():
        try:
            stored = orjson.loads(raw)
            plan, unpaced = plan_from_json(orjson.dumps(stored["plan"])), stored.get("unpaced") is True
            dropped = tuple(map(str, stored.get("dropped", ())))
            more = max(0, int(stored.get("more", 0)))
            harm = HarmStop(**stored["harm"]) if stored.get("harm") else None
            shipped = tuple(map(str, stored.get("shipped", ())))
            state = PlanState(plan, stored["state"], float(stored["since"]), raw, unpaced, dropped, more, harm, shipped)
            valid = _valid(state.plan)
        except (ValueError, KeyError, TypeError):
            continue
        if valid and state.state in ("running", "stopped"):
            out[name.decode("utf-8", "replace")] = state
    return out


def running_rival(plan: Plan, states: Mapping[str, PlanState], known: Iterable[str]) -> str | None:
    """An experiment that runs and competes for the calls of this one. known: the experiments of the config; others have
    no effect."""
    names = set(known)
    found = (s.plan.name for s in states.values() if s.running and s.plan.name in names and s.plan.competes(plan))
    return next(found, None)


def _valid(plan: Plan) -> bool:
    """Whether its shares and times are in range. Raises TypeError if one is not a number."""
    shares = all(0 <= share <= 1 for share in (plan.shadow, plan.split, plan.repeat_control, plan.scored_twice))
    times = sum(at or 0.0 for at in (plan.start, plan.stop, plan.deadline_s))
    known = all(
        value in get_args(kind)
        for value, kind in (
            (plan.method, Method), (plan.aa, Audit), (plan.compare, Comparand), (plan.family, Sharing),
            (plan.after_verdict, AfterVerdict), (plan.feedback_missing, Missing),
            (plan.population or "others", Population),
        )
    )  # fmt: skip
    known = known and (plan.feedback_window_s or 1.0) > 0
    return shares and times >= 0 and bool(plan.candidates) and known and (plan.max_pairs or BURN_IN) >= BURN_IN
