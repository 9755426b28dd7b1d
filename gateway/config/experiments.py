"""The section `experiments` of gateway.yaml. derive.plan_of freezes an experiment to a plan; checks/ checks it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from gateway.config.freeze_windows import FreezeText, freeze_window
from gateway.config.types import Name, Positive, Section, Share, number
from gateway.config.upstreams import TargetRef
from gateway.core.horizon import BURN_IN
from gateway.core.plan import (
    CANDIDATE,
    DEFAULT_BLOCKS_MIN,
    NATS_PER_TOKEN,
    AfterVerdict,
    ArmHeaders,
    Audit,
    Comparand,
    Empty,
    Method,
    Missing,
    Mode,
    Population,
    Sharing,
    Unit,
)
from gateway.core.ramp import RampDesign, RampMode, RampPace
from gateway.core.segments import CALLER, KEY, SegmentDesign

STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    RampDesign(steps, 0.0, 1)
    return steps


class LargestExposure(Section):
    """Limit of what the candidate serves before the experiment has its first verdict."""

    requests: Annotated[int, Field(gt=0)] | None = None
    """Calls that the candidate serves. Default: unlimited."""
    usd: Positive | None = None
    """USD that these calls cost. Default: unlimited."""


class RampConfig(Section):
    """Steps by which the candidate takes over the traffic, as long as nothing speaks against it."""

    steps: Annotated[tuple[float, ...], AfterValidator(_rising)] = STEPS
    """Shares of the units that the candidate serves, rising to 1."""
    soak_s: Annotated[float, Field(ge=0)] = 3600.0
    """Shortest duration of a step, in seconds."""
    min_units: Annotated[int, Field(gt=0)] = 100
    """Fewest units that the candidate serves before the next step."""
    mode: RampMode = "advise"
    """`advise`: a step waits for `gateway ab promote`. `auto`: it is taken once all conditions hold. A rollback never
    waits."""
    cooldown_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds after a rollback in which no step is taken."""
    stale_s: Positive = 300.0
    """Greatest age in seconds of the candidate's newest answer with which a step is taken."""
    freeze: tuple[FreezeText, ...] = ()
    """Times in UTC in which no step is taken: weekly, as `Fri 16:00 - Mon 08:00`, or from one time to another, as
    `2026-12-20T00:00Z - 2027-01-03T00:00Z`. A rollback never waits."""
    largest_exposure: LargestExposure = LargestExposure()
    """Limit of what the candidate serves before the first verdict; at it, the ramp stops. Needed where feedback is the
    primary, since only served answers get any."""

    holdout: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of the units that the control still serves after the promotion, so that both stay comparable. 0: none."""
    holdout_days: Positive = 28.0
    """Days after the promotion in which the holdout ends by itself."""

    @property
    def design(self) -> RampDesign:
        most, days = self.largest_exposure, self.holdout_days if self.holdout else 0.0
        return RampDesign(
            self.steps, self.soak_s, self.min_units, most.requests, most.usd, holdout=self.holdout, holdout_days=days
        )

    @property
    def pace(self) -> RampPace:
        windows = tuple(freeze_window(text) for text in self.freeze)
        return RampPace(self.mode, self.cooldown_s, self.stale_s, windows)


class SegmentsConfig(Section):
    """Parts of the traffic that decide, each with a margin of its own, and the search for parts that nobody named."""

    by: tuple[str, ...] = ()
    """Properties of a request whose values are segments: `prompt` (its length), `tools`, `language` (a guess), `key`,
    `api`, `stream`, `metadata.NAME`. All of them are known before a request is answered, so they can be routed."""
    margin: Annotated[float, BeforeValidator(number), Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """The largest acceptable loss in the primary metric within one segment. Default: twice the experiment's margin."""
    least_share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Share of the traffic below which a value does not become a segment of its own, and a segment is not waited for.
    """
    values: dict[str, tuple[str, ...]] = Field({})
    """Values of a property that are segments; the others are one segment together. Default: those of the last day's
    traffic when the experiment starts."""
    weak_spots: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """Probability of a false alarm of the search for weak spots, over all looks. 0 means that none is made."""

    def design(self, margin: float) -> SegmentDesign:
        """margin: of the experiment."""
        by = tuple(dict.fromkeys(_property(prop) for prop in self.by))
        values = tuple((_property(prop), tuple(dict.fromkeys(of))) for prop, of in sorted(self.values.items()))
        own = 2 * margin if self.margin is None else self.margin
        return SegmentDesign(by, own, self.least_share, self.weak_spots, values)


def _property(name: str) -> str:
    return CALLER if name == KEY else name


_SPLIT, _SHADOW, _REPEAT_CONTROL = 0.5, 0.1, 0.25  # defaults that apply only in the modes that use them


def _unix_seconds(value: Any) -> float:
    """A time of the file as Unix seconds; a time without an offset is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected a time such as 2026-12-01T09:00:00Z, got {value!r}") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"expected a time such as 2026-12-01T09:00:00Z, got {value!r}")
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _start(value: Any) -> Any:
    return value if value in ("auto", "manual") else _unix_seconds(value)


Moment = Annotated[float, PlainValidator(_unix_seconds, json_schema_input_type=str)]
Margin = Annotated[float, BeforeValidator(number), Field(ge=0, le=1e9, allow_inf_nan=False)]


class ExperimentBudget(Section):
    """Limits of the shadow requests of one experiment."""

    usd_per_day: Positive | None = None
    """USD per UTC day, over all gateways, for input and output of every arm. Default: unlimited."""
    tokens_per_day: Annotated[int, Field(gt=0)] | None = None
    """Tokens per UTC day, over all gateways, input and output of every arm. Default: unlimited."""
    concurrency: Annotated[int, Field(gt=0)] = 4
    """Shadow requests in flight at once, per gateway process. Where it is not written: at least the requests of one
    shadow (each candidate, and the control again)."""


class AllowList(Section):
    """The calls that an experiment may use."""

    keys: tuple[str, ...] | None = None
    """Names of the keys whose prompts may go to a candidate. Default: all keys."""
    apis: Annotated[tuple[Literal["chat", "completions", "responses", "messages"], ...], Field(min_length=1)] = (
        "chat",
        "completions",
    )
    """The APIs whose calls take part. Coding agents call `responses` (Codex, also over WebSocket) and `messages`
    (Claude Code)."""


class DependenceConfig(Section):
    """Dependence of calls over time."""

    blocks_min: Annotated[float, Field(ge=DEFAULT_BLOCKS_MIN, le=1440)] = DEFAULT_BLOCKS_MIN
    """Minutes of a block of time within which values may depend on each other. `15`: failures only. More: every metric
    that decides, for quality that drifts over hours."""


class ShadowGate(Section):
    """Conditions that pause shadow requests, so that they do not slow down served answers."""

    latency: bool = True
    """Pause while the p99 latency of served answers is higher than without shadow requests."""
    load: Annotated[float, Field(ge=0)] | None = 2.0
    """Pause while a target reports more waiting requests than this. `null`: never for this reason."""


class Experiment(Section):
    """A comparison of one target of a model, the control, with one or more candidates."""

    model: str
    """A name of the section `models`."""
    control: TargetRef
    """A target of that model, with which candidates are compared."""
    candidate: TargetRef | None = None
    """The target that might replace the control, or a guard that might be enforced."""
    candidates: dict[Name, TargetRef] = Field({})
    """Candidates by the name of their arm, where there are several; used instead of `candidate`."""
    mode: Mode = "shadow"
    """`shadow`: a request also goes to the candidate, whose answer is not served. `split`: the candidate serves a share
    of the calls. `both`: both. `likelihood`: the candidate writes nothing; it is asked for the log-probabilities of the
    served answer's tokens (vLLM's `prompt_logprobs`), one prefill a call."""
    shadow: Share | None = None
    """Share of the model's eligible requests that are also sent to the candidates. Default: 0.1; 1 with a guard as the
    candidate, for which nothing is sent."""
    split: Share | None = None
    """Share of the units that candidates serve, in equal parts. Default: 0.5."""
    repeat_control: Share | None = None
    """Share of shadowed requests that are also sent to the control again, as an A/A comparison. Default: 0.25; 1 with
    `compare: repeat`. In `mode: likelihood` the control always scores its own answer; this is the share for which it
    does so twice, as the noise floor."""
    record: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate at which answers of a split are recorded, where `sampling` gives no higher one."""
    unit: Unit = "request"
    """The unit that keeps its arm in a split, and that counts as one independent observation. `run`: the calls of one
    task of an agent (`x-gateway-run`, `metadata.run_id`, a coding agent's session, or a conversation). Default with
    `ramp`: `conversation`."""
    primary: str | None = None
    """The metric that decides: a scorer, a built-in metric, or in a split people's feedback (`feedback:NAME`).
    Default: none; then nothing is decided. In
    `mode: likelihood`: `nats_per_token`, the negative log-likelihood of the served answer per token."""
    margin: Margin = 0.02
    """The largest acceptable loss in the primary metric, in the metric's units."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Accepted probability of a wrong verdict."""
    guardrails: dict[str, Margin] = Field({})
    """Metrics that must not get worse, each with its margin."""
    feedback_window_s: Positive | None = None
    """Seconds in which feedback on an answer counts. An answer counts once they are over: with the feedback that it
    got, or as nonresponse. Default: 86400, if feedback decides."""
    feedback_missing: Missing = "omit"
    """Value of an answer without feedback. `omit`: none, so the means are of the answers that people rated. `zero`: 0,
    as for conversions, so the means are of all answers."""
    strata: tuple[str, ...] = ()
    """Fields by which the report breaks results down: `caller`, `api`, `stream`."""
    segments: SegmentsConfig | None = None
    """Parts of the traffic in which the candidate must not be worse either. Default: only the average decides."""
    method: Method | None = None
    """`hybrid`: any look before `max_pairs` is valid, and the last one is a textbook interval. `anytime`: valid at any
    look, without an end. Both are asymptotic. `guaranteed`: for every distribution and any drift, at 2 to 3 times the
    pairs. `stationary`: exact if traffic does not drift. Default: `hybrid`; with `family: best` `anytime`, which is
    cheaper there, since most comparisons end early; with a guard as the candidate `guaranteed`, since few of its pairs
    differ and none costs anything."""
    max_pairs: Literal["auto"] | Annotated[int, Field(ge=BURN_IN)] = "auto"
    """Pairs with a value of the primary at which a `hybrid` experiment closes and stops. `auto`: as many as decide the
    margin, for a candidate that is as good as the control, with a probability of 0.8. With `family: best` and
    `method: anytime`: pairs at which the experiment ends without a best candidate; `auto`: twice as many as the margin
    needs at the variance of its pairs."""
    aa: Audit = "alarm"
    """`alarm`: no verdict once the control differs from itself on the candidate's path. `proof`: `ship` only after it
    is shown to differ by less than the margin, which takes several times the pairs."""
    compare: Comparand = "served"
    """The control's answer that a candidate's answer is compared with: the one that was served,
    or the `repeat`, which every shadow then includes and which took the same path."""
    adjust: bool = True
    """Variance reduction (CUPED): facts about a request that are known before its pair is judged (the control's score,
    the lengths of prompt and answer) remove part of the noise from the primary's difference, so that fewer pairs are
    needed. It uses the recorded requests that are not shadowed, and does nothing where they do not help. In `split`:
    the length of the first request as its client sent it, and the unit's past before the experiment. Nothing that an
    arm influences is used."""
    min_hours: Annotated[float, Field(ge=0, le=8760)] = 24.0
    """Hours of traffic before a verdict, so that it does not rest on one time of the day. `reject` comes earlier where
    the candidate is worse by more than the margin even if it equals the control in all the hours left. 0: no minimum,
    which the report says."""
    population: Population | None = None
    """The population that the verdict is about. `others`: users or conversations like those seen, so the interval
    counts these. `these`: the keys or users seen, as they use it now; the interval counts calls. Default: `others`
    where calls name users or conversations, `these` where there are only keys."""
    dependence: DependenceConfig = DependenceConfig()
    """Dependence of calls over time."""
    empty: Empty = "failed"
    """Meaning of an empty answer with HTTP 200. `failed`: a failure, in `error_rate` too. `allowed`: an answer."""
    headers: ArmHeaders = "target"
    """`target`: responses say which target answered. `all`: they also name the experiment and the arm, which lets a
    caller choose among its units."""
    after_verdict: AfterVerdict = "stop"
    """`stop`: once every candidate has a verdict, the experiment stops, and no more shadow requests are paid for.
    `continue`: it continues to its horizon, for narrower intervals."""
    family: Sharing = "holm"
    """Division of `alpha` among several candidates. `holm`: evenly at first; a decided candidate leaves its part to the
    others. `even`: evenly. `best`: evenly, and the candidates are compared with each other as well: one that is shown
    to be worse than another, or than the control by more than the margin, gets no more requests, and the experiment
    ends with the best one. Needs `mode: shadow`."""
    stationary: bool | None = None
    """An older way to write `method: stationary`."""
    deadline_s: Positive | None = None
    """Seconds that a pair waits for its other half. Default: the model's `timeouts.total_s`."""
    budget: ExperimentBudget = ExperimentBudget()
    """Limits of the shadow requests."""
    allow: AllowList = AllowList()
    """The calls that take part."""
    gate: ShadowGate = ShadowGate()
    """Conditions that pause shadow requests."""
    ramp: RampConfig | None = None
    """The candidate takes over the traffic step by step: shadows first, then a rising share of the units. Default: the
    shares stay as they are."""
    start: Annotated[Literal["auto", "manual"] | float, PlainValidator(_start, json_schema_input_type=str)] = "auto"
    """`auto`: when a gateway first reads it; `manual`: by `gateway ab start`; or a time."""
    stop: Moment | None = None
    """A time, UTC unless it has an offset. Default: none; it runs until it is stopped."""
    enabled: bool = True
    """`false` turns the experiment off at once, on every gateway that reads this file."""

    @property
    def arms(self) -> dict[str, TargetRef]:
        return {CANDIDATE: self.candidate} if self.candidate else self.candidates

    @property
    def chosen_mode(self) -> Mode:
        """A ramp has both: units that get the control are still shadowed."""
        return "both" if self.ramp else self.mode

    @property
    def chosen_unit(self) -> Unit:
        return "conversation" if self.ramp and "unit" not in self.model_fields_set else self.unit

    @property
    def declares_independence(self) -> bool:
        """Whether `unit: request` is written down: somebody vouches that calls do not depend on each other."""
        return "unit" in self.model_fields_set and self.unit == "request"

    @property
    def shadows(self) -> bool:
        return self.chosen_mode != "split"

    @property
    def splits(self) -> bool:
        return self.chosen_mode in ("split", "both")

    @property
    def likelihood(self) -> bool:
        return self.chosen_mode == "likelihood"

    @property
    def guarded(self) -> bool:
        """Whether its candidates are guards."""
        return bool(self.arms) and all(ref.guard is not None for ref in self.arms.values())

    @property
    def requests_of_shadow(self) -> int:
        """The most requests of one shadow: each candidate, and the control again, for a repeat and a second scoring."""
        return len(self.arms) + (self.repeat_share > 0) + (self.scored_twice_share > 0)

    @property
    def shadow_concurrency(self) -> int:
        """Shadow requests in flight at once, per gateway process. A default is never below those of one shadow."""
        written = "concurrency" in self.budget.model_fields_set
        return self.budget.concurrency if written else max(self.budget.concurrency, self.requests_of_shadow)

    @property
    def only_shadows(self) -> bool:
        return not self.splits

    @property
    def shadow_share(self) -> float:
        if not self.shadows:
            return 0.0
        default = 1.0 if self.guarded else _SHADOW
        return default if self.shadow is None else self.shadow

    @property
    def split_share(self) -> float:
        """The share of a fixed split; a ramp's share is in its record."""
        if not self.splits or self.ramp:
            return 0.0
        return _SPLIT if self.split is None else self.split

    @property
    def repeat_share(self) -> float:
        if not self.shadows or self.guarded:
            return 0.0
        if self.likelihood:
            return 1.0
        default = 1.0 if self.compare == "repeat" else _REPEAT_CONTROL
        return default if self.repeat_control is None else self.repeat_control

    @property
    def scored_twice_share(self) -> float:
        """The share of pairs of a likelihood experiment for which the control is scored a second time."""
        if not self.likelihood:
            return 0.0
        return _REPEAT_CONTROL if self.repeat_control is None else self.repeat_control

    @property
    def chosen_primary(self) -> str | None:
        return NATS_PER_TOKEN if self.likelihood and self.primary is None else self.primary

    @property
    def chosen_method(self) -> Method:
        if self.method or self.stationary:
            return self.method or "stationary"
        return "guaranteed" if self.guarded else "anytime" if self.family == "best" else "hybrid"

    def summary(self) -> str:
        """A few words for people: "shadow on 20%, split 50%", or "off"."""
        kind = "likelihood" if self.likelihood else "shadow"
        shares = [f"{kind} on {self.shadow_share:.0%}"] if self.shadows else []
        if self.ramp:
            shares.append(f"ramp {' '.join(f'{step:.3g}' for step in self.ramp.steps)}")
        elif self.splits:
            shares.append(f"split {self.split_share:.0%}")
        return ", ".join(shares) if self.enabled else "off"
