"""The data model of a report: the findings of an experiment or a replay. Reads nothing and renders nothing.

The terminal, the JSON and the HTML page show these values; verdict/findings.py, verdict/split/ and features/replay/
fill them in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["ship", "ship_except", "reject", "hold"]
"""ship_except: some declared segments stay with the control; only plans with segments have it."""
SegmentState = Literal["kept", "worse", "undecided", "rare"]
"""kept: shown to be not worse. worse: shown to be worse. rare: with too few of the pairs to be waited for."""
Direction = Literal["better", "worse", "unclear"]
Margin = Literal["equivalent", "non_inferior", "inferior", "unclear"]
Role = Literal["primary", "guardrail", "other"]
Better = Literal["higher", "lower"]
State = Literal[-1, 0, 1]  # red, unknown, green
Independence = Literal["checked", "declared", "assumed", "alarm", "units"]
"""Whether the pairs of a plan are independent. checked: the pairs of a user or key were compared and are not
correlated. declared: the plan says so. assumed: there are too few users and keys to check it. alarm: they depend on
each other, so that the wider interval, by units, applies. units: the interval counts units, so they need not be."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, in which it lies.

    An interval that leaves the number out, since both come from other values, is widened up to it. It then covers at
    least as often, so that whatever is decided by it errs no more often.
    """

    value: float | None  # None: no data yet
    low: float | None = None  # None: no bound on this side yet
    high: float | None = None

    def __post_init__(self) -> None:
        if self.value is None:
            return
        if self.low is not None and self.low > self.value:
            object.__setattr__(self, "low", self.value)
        if self.high is not None and self.high < self.value:
            object.__setattr__(self, "high", self.value)


def negated(e: Estimate) -> Estimate:
    """The same difference with the other sign."""
    value, low, high = (None if v is None else -v for v in (e.value, e.low, e.high))
    return Estimate(value, high, low)


def direction_finding(difference: Estimate) -> Direction:
    """Direction in which the interval excludes 0. difference: positive is better for the candidate."""
    if difference.low is not None and difference.low > 0:
        return "better"
    if difference.high is not None and difference.high < 0:
        return "worse"
    return "unclear"


def margin_finding(difference: Estimate, margin: float) -> Margin:
    """Position of the interval relative to -margin and margin. margin: >= 0, in the unit of the difference.

    A margin of 0 asks for "not worse at all", which an interval that begins at 0 satisfies.
    """
    low, high = difference.low, difference.high
    if high is not None and high < -margin:
        return "inferior"
    if low is None or not (low > -margin or low == margin == 0):
        return "unclear"
    return "equivalent" if high is not None and high < margin else "non_inferior"


@dataclass(frozen=True, slots=True)
class ArmResponse:
    """The answers of one arm on which people could give feedback."""

    closed: int  # whose window has closed
    answered: int  # of these, with feedback in time
    share: float  # answered, weighted as the means are


@dataclass(frozen=True, slots=True)
class Responses:
    """Number of answers behind a metric of feedback, by arm."""

    a: ArmResponse  # of the control
    b: ArmResponse  # of the candidate
    waiting: int  # answers of both arms whose window is open
    difference: Estimate  # of the shares, candidate minus control
    missing: Literal["omit", "zero"]  # what an answer without feedback is

    @property
    def selective(self) -> bool:
        """The shares are shown to differ, so the means of `omit` are of different people."""
        return self.missing == "omit" and direction_finding(self.difference) != "unclear"


@dataclass(frozen=True, slots=True)
class CorrectedBasis:
    """Basis of a difference as people judge."""

    source: Literal["pairs", "arms", "error_rates"]
    """pairs: the judge's scores and the labels of pairs, with the common part of both answers to a request. arms: the
    means of each arm, corrected on their own. error_rates: the judge's difference over sensitivity + specificity − 1,
    from labels of any answers, as if the judge erred alike on both arms."""
    looks: Literal["every", "one"]
    """Looks at which the interval is valid."""
    labels: tuple[int, int]
    """Labelled answers of the control and of the candidate that it rests on."""
    both: int = 0
    """Pairs of which both answers are labelled."""
    elsewhere: int = 0
    """Labelled answers of any traffic that the error rates are from; 0 means that it does not use them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric in both arms."""

    metric: str
    unit: str  # "", "s", "USD per 1k", "tokens"
    role: Role  # other: shown, but the verdict does not depend on it
    a: Estimate  # of the control
    b: Estimate  # of the candidate
    difference: Estimate  # in the metric's unit, with its sign set so that positive is better for the candidate
    noise: Estimate | None  # the same difference between the control and its repeat
    pairs: int  # behind the difference; units in a split
    effective_n: float
    margin: float | None
    direction_found: Direction
    margin_found: Margin
    pairs_needed: int | None = None  # about how many more until the margin is decided; None if decided, or unknown
    log_evalue: float | None = None  # ln of the evidence against "no difference"
    corrected: Estimate | None = None  # the difference, corrected by people's labels
    method: str = ""  # name of the interval's method, for readers
    better: Better = "higher"  # of a and b, which are shown as measured
    horizon: int | None = None  # pairs at which the sequence closes; None if it does not
    chance: float | None = None  # that the margin is decided by the horizon; None if it is decided, or unknown
    saved: float | None = None  # share of the pairs that adjusting saves; None if it is not adjusted, or not known yet
    adjusted: int | None = None  # pairs that could be adjusted; None if none ever is
    unadjusted: float | None = None  # the difference as measured; None: `difference` is
    responses: Responses | None = None  # of feedback; None if it is none
    at_worst: Estimate | None = None
    """The difference with each score that one arm alone lacks counted as the worst for the candidate; None if none is
    missing on one arm only."""
    raw: Estimate | None = None  # the difference as measured, with its interval; None: `difference` is that
    corrected_basis: CorrectedBasis | None = None  # what `corrected` rests on; None if there is none
    shift: Estimate | None = (
        None  # what adjusting took out of it, measured − adjusted: 0 but for chance; None if unknown
    )
    binary: bool = False  # each value of a and b is 0 or 1, so that they are shares of the answers
    hours_share: float = 1.0
    """The share of `min_hours` that its values cover; 1 if all of them, or the plan asks for none."""

    counts: str = "pair"
    """The word for one of `pairs`: of a split, answer, run or unit. Not in JSON."""
    stopped: bool = field(default=False, compare=False)
    """Whether its plan is stopped, so that no further pair comes. Not in JSON."""

    @property
    def closed(self) -> bool:
        return self.horizon is not None and self.pairs >= self.horizon


@dataclass(frozen=True, slots=True)
class GateResult:
    """A condition that must hold before any verdict."""

    name: str
    state: State
    says: str  # the reason for the state, in one sentence
    value: float | None = None
    doubts_reject: bool = False  # while open, it withholds a `reject` that rests on the primary alone


@dataclass(frozen=True, slots=True)
class IntervalTrail:
    """A difference and its interval over the course of the experiment."""

    metric: str
    points: tuple[tuple[int, float, float, float], ...]  # (pairs so far, value, low, high), in order

    def __post_init__(self) -> None:
        points = tuple((n, value, min(low, value), max(high, value)) for n, value, low, high in self.points)
        object.__setattr__(self, "points", points)  # as Estimate does


@dataclass(frozen=True, slots=True)
class Wins:
    """Counts of a candidate's wins: by pairwise verdicts in both orders, or by comparing scores item by item."""

    wins: int
    ties: int
    losses: int
    flip_rate: float | None  # share of verdicts in which the winner changed with the order; these are ties
    first_slot_rate: float | None  # how often the answer shown first won; None, like flip_rate, for scores
    win_share: Estimate | None = (
        None  # of all comparisons, with an interval; as the metrics', at every look or at the end
    )
    tie_share: Estimate | None = None
    loss_share: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ArmLatency:
    """The latency of one arm's complete answers."""

    arm: str
    measure: Literal["total_s", "first_token_s"]
    n: int
    p50: Estimate
    p95: Estimate
    curve: tuple[tuple[float, float], ...]  # (seconds, share of answers that took at most this long)
    comparable: bool  # measured on the same path as the arm that it is compared with


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's requests."""

    arm: str
    target: str  # "upstream/model"
    asked: int  # requests to this arm
    failed: int
    served: int  # answers that a client received
    cost_per_1k: Estimate | None  # USD per thousand requests; None if no price is known
    input_tokens: float | None  # means over the requests
    output_tokens: float | None


@dataclass(frozen=True, slots=True)
class StratumDifference:
    """The primary metric's difference in one stratum of the traffic."""

    name: str
    pairs: int
    difference: Estimate


@dataclass(frozen=True, slots=True)
class SegmentDifference:
    """The primary metric's difference where a request has some property. Exploratory: it decides nothing."""

    property: str  # caller, alias, api, stream, prompt, language, tools, metadata.KEY
    value: str
    pairs: int
    difference: Estimate  # with an interval that holds for all segments together, at every look
    found: Direction  # whether that interval excludes 0


@dataclass(frozen=True, slots=True)
class DeclaredSegment:
    """The primary metric's difference in one segment that the plan declares. It decides."""

    name: str  # "tools=yes"
    property: str
    value: str
    pairs: int  # with a value, those that were drawn for the segment alone included
    share: float  # of the pairs that were drawn from all calls
    difference: Estimate  # at the plan's alpha: what `ship` asks of every segment
    margin: float
    found: Margin
    state: SegmentState  # with the error shared over the segments by Holm's procedure
    closed: bool = False  # it takes no further pair
    pairs_needed: int | None = None  # about how many more decide it; None if decided, or not known


@dataclass(frozen=True, slots=True)
class KeptTraffic:
    """The traffic without the segments that stay with the control."""

    excepted: tuple[str, ...]  # names of segments
    share: float  # of the pairs
    metrics: tuple[Comparison, ...]  # the primary and the guardrails, on this traffic alone
    holds: bool  # all of them are shown to be not worse


@dataclass(frozen=True, slots=True)
class WeakSpot:
    """The search for a part of the traffic that nobody declared and in which the candidate is worse."""

    pairs: int  # searched so far
    needed: int  # before a ramp's larger steps
    p: float  # of "the candidate is worse by the margin nowhere", at any look
    alarm: bool
    where: str = ""  # the part that the alarm is about: "prompt = over 16 KB and tools = yes"; "": none
    share: float | None = None  # of the pairs
    difference: float | None = None  # in that part, over the pairs that the bet was on


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """A pair worth reading."""

    exchange: str  # id of the served exchange
    beside: str  # id of the candidate's exchange
    why: str  # why the pair was selected
    question: str
    control: str  # the answers
    candidate: str
    scores: tuple[tuple[str, float | None, float | None], ...]  # (scorer, control, candidate)
    distance: float | None  # between the two answers
    reference: str = ""  # the right answer; "" if none is known
    regression: bool = False  # the candidate is worse on the primary
    group: str = ""  # what went wrong: "refusal", "cut off", …


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """Segments that decide, the traffic without the excepted ones, and the search for further ones."""

    segments: tuple[DeclaredSegment, ...]  # worst first
    kept: KeptTraffic | None = None  # None: no segment is excepted
    weak_spot: WeakSpot | None = None  # None: the plan asks for no search
    examples: tuple[ExamplePair, ...] = ()  # losses in segments that do not hold; the segment is the group


@dataclass(frozen=True, slots=True)
class SimilarityTest:
    """The test "is the candidate like the control?" by one distance between answers.

    A large p proves nothing: another distance may find a difference that this one misses.
    """

    metric: str
    pairs: int
    farther: float  # mean of d(served, candidate) - d(served, repeat of the control)
    p: float  # valid at any time


@dataclass(frozen=True, slots=True)
class ArmStrength:
    """The strength of one of three or more arms, from pairwise verdicts (Bradley–Terry)."""

    arm: str
    log_odds: float  # of beating the control
    se: float


@dataclass(frozen=True, slots=True)
class Family:
    """Shares of several candidates in the plan's error."""

    sharing: Literal["holm", "even", "best"]
    alpha: float  # of the plan
    ship: float  # the part of it that this candidate's `ship` may use
    reject: float  # the same for its `reject`
    verdicts: tuple[tuple[str, Verdict], ...]  # of every candidate, in the order of the plan


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One of several candidates that are compared with each other."""

    candidate: str
    target: str  # "upstream/model"
    state: Literal["best", "compared", "dropped"]
    says: str  # why it is in this state, in a sentence
    difference: Estimate  # of the primary from the control; positive is better for the candidate
    pairs: int  # behind that difference
    lead: Estimate | None = (
        None  # of the leading candidate over this one; None if it leads, or they were never compared
    )
    lead_pairs: int = 0  # behind that
    lead_needed: int | None = None  # about how many more until the lead is above -margin; None if it is, or unknown
    lead_closed: bool = False  # no further pair changes the lead
    paid_calls: int | None = None  # requests to it; None if not counted yet
    cost_per_1k: Estimate | None = None  # USD per thousand requests; None if no price is known
    on_front: bool = (
        False  # neither the control nor a candidate is cheaper and at least as good, or as cheap and better
    )


@dataclass(frozen=True, slots=True)
class BestOfK:
    """Comparison of several candidates: the best of them, or the leading one."""

    verdict: Literal["best", "none", "open"]  # none: every candidate is dropped, so the control stays
    best: str | None  # its arm, once it is decided
    leader: str | None  # the best so far, of those that are compared; None if there is none
    sentence: str
    alpha: float  # one-sided error of each comparison
    margin: float
    candidates: tuple[RankedCandidate, ...]  # the leader first, then those that are compared, then the dropped
    control: str = ""  # "upstream/model"
    control_cost: Estimate | None = None  # USD per thousand requests
    control_on_front: bool = False
    repeats: int | None = None  # further requests to the control, for the A/A comparison


@dataclass(frozen=True, slots=True)
class TriedPlans:
    """Plans of the same swap that have taken evidence, this one included; more than one."""

    number: int
    alpha: float  # of this plan
    shared: float  # of each, if one alpha is shared evenly over all of them
    verdict: Verdict  # at that


@dataclass(frozen=True, slots=True)
class OpenCondition:
    """A condition of a verdict that is neither met nor broken yet."""

    kind: Literal["primary", "guardrail", "segment", "gate", "duel"]  # duel: the leading candidate and another one
    name: str  # of the metric, the segment or the gate; of a duel, both candidates
    estimate: Estimate  # what is known; of the gate aa: the control against itself
    margin: float | None
    values: int  # pairs that have a value of it so far
    pairs: int | None  # settled pairs until it is closed, from now; None if unknown, or out of reach
    requests: int | None  # eligible requests until then
    days: float | None  # at the pace so far
    failed: bool  # more pairs do not close it: a red gate, or a metric at its horizon
    at_most: bool = False  # the numbers above are those to its horizon, since it is not expected to close earlier
    chance: float | None = None  # that its horizon decides it; None if it has none, or too little is known
    hours: float | None = (
        None  # of traffic until it is closed, however many pairs come in them; None means that pairs close it
    )


@dataclass(frozen=True, slots=True)
class NextStep:
    """A setting that would bring the verdict earlier."""

    setting: str  # its path in gateway.yaml, within the experiment
    now: float
    to: float
    requests: int  # eligible requests until the verdict, with the new value
    new_plan: bool  # it changes the plan, so evidence starts from zero; `requests` counts that in


@dataclass(frozen=True, slots=True)
class Progress:
    """Work left until a verdict, if nothing changes."""

    sentence: str
    standing: str  # state of the primary: "worse by 0.055 so far, likely"
    open: tuple[OpenCondition, ...]
    waits_for: str | None  # the name of the open condition that takes longest
    pairs: int | None  # settled pairs until the verdict, from now; None if unknown
    requests: int | None  # eligible requests until then
    days: float | None
    steps: tuple[NextStep, ...]  # the largest saving first
    until: Literal["ship", "reject"] = "ship"  # what the numbers are until, if nothing changes
    next_step: str | None = field(default=None, metadata={"left_out": True})
    """Next step of an undecided plan, with its price. None if there is none, or the plan has older rules."""


@dataclass(frozen=True, slots=True)
class RampChangeShown:
    at: float  # Unix seconds
    kind: str  # what happened, in one word
    share: float  # of units that the candidate served from then on
    by: str
    reason: str
    plan: str  # hash


@dataclass(frozen=True, slots=True)
class RampHistory:
    """Share of the traffic that the candidate has taken over, and the steps to it."""

    state: str  # shadow, ramp, promoted, rolled_back, stopped
    step: int  # from 1; 0 if none was reached
    steps: tuple[float, ...]  # shares of units
    share: float  # that the candidate serves
    paused: bool
    changes: tuple[RampChangeShown, ...]  # of this plan, oldest first
    overrides: tuple[RampChangeShown, ...]  # of every plan of the experiment: steps taken without the evidence


@dataclass(frozen=True, slots=True)
class TokenLikelihood:
    """One token of a served answer. control, candidate: its log-probability under each, in nats."""

    text: str
    control: float
    candidate: float
    instead: str  # the candidate's most likely token at this place

    @property
    def difference(self) -> float:
        """The difference; below 0: less likely under the candidate."""
        return self.candidate - self.control


@dataclass(frozen=True, slots=True)
class UnlikelyToken:
    """A token that is much less likely under the candidate, with the text before it."""

    before: str
    token: TokenLikelihood


@dataclass(frozen=True, slots=True)
class LikelihoodCall:
    """A served answer on which the two engines differ most."""

    exchange: str  # id of the served exchange
    difference: float  # candidate minus control, nats per token
    tokens: tuple[TokenLikelihood, ...]  # (): they are not recorded
    left_out: int  # tokens after those
    worst: tuple[UnlikelyToken, ...]


@dataclass(frozen=True, slots=True)
class LikelihoodBin:
    """Calls whose difference is in [low, high), nats per token."""

    low: float
    high: float
    calls: int
    noise: int  # of the control against itself


@dataclass(frozen=True, slots=True)
class LikelihoodFinding:
    """Likelihoods of served answers under both engines. Differences: candidate minus control, in nats per token."""

    calls: int
    tokens: int  # of the served answers, as far as they were read
    control: Estimate  # nats per token of the served answers
    candidate: Estimate
    divergence: Estimate  # mean difference
    noise: Estimate | None  # the same of the control against itself
    noise_calls: int
    agreement: Estimate  # share of places with the same most likely token
    noise_agreement: Estimate | None
    perplexity_ratio: Estimate  # exp(divergence)
    sampled: tuple[tuple[str, int], ...]  # how the served answers were drawn: (setting, calls)
    estimates: str  # what the mean difference estimates, in a sentence
    distribution: tuple[LikelihoodBin, ...]
    refused: tuple[tuple[str, int], ...]  # (reason, pairs)
    widest: tuple[LikelihoodCall, ...]  # the calls that differ most, the widest first


@dataclass(frozen=True, slots=True)
class GroupDependence:
    """Dependence of the primary's (or a failure metric's) values within groups of one kind."""

    metric: str
    group: Literal["user", "key", "conversation", "prompt", "block"]  # block: of time
    groups: float  # as many equally large ones would say as much
    repeated: int  # with two pairs or more; of those that are counted one by one
    correlation: float | None  # of two values of one group; None if not known yet
    factor: float | None  # of the variance of the mean, if the dependence counts; None if not known yet
    alarm: bool  # it counts


@dataclass(frozen=True, slots=True)
class DayDifference:
    """The primary's difference on one day (UTC)."""

    day: int  # days since 1970-01-01
    pairs: int
    difference: float


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """Facts about the users and times of a verdict's pairs, or of the answers of a split. Of the primary,
    unless a metric is named."""

    independence: Independence
    groups: tuple[GroupDependence, ...]
    hours: float  # of traffic that the pairs cover, or the answers of both arms
    min_hours: float  # before `ship`
    estimand: str  # what the difference is an average over, in words
    by_calls: float | None = None  # the difference that counts every call alike; None: `estimand` does
    days: tuple[DayDifference, ...] = ()
    slope: float | None = None  # of the difference, per day; None if there are too few days
    slope_p: float | None = None  # of one look
    source: Literal["pairs", "served"] = "pairs"  # served: the primary is compared between the answers of a split
    population: Literal["others", "these"] | None = None
    """others: the interval counts units, for users like those seen. these: it counts calls, for the units seen. None:
    the plan's rules do not tell the populations apart, or it declares that calls are independent."""
    unit: Literal["conversation", "user", "key"] | None = None  # that most values name; None if they name none
    units: int = 0  # users or keys that were counted, 200 at most
    prompts: int = 0  # that the verdict is about, since they are few; 0: others like them, or they hardly come again
    blocks_min: float = 15.0  # minutes of a block of time
    drift_p: float | None = None  # of one look at whether values close in time are alike; None if too few, or declared


@dataclass(frozen=True, slots=True)
class Report:
    """The contents of a report on one experiment and one candidate."""

    experiment: str
    plan: str  # hash
    candidate: str
    verdict: Verdict
    direction: Direction
    margin: Margin
    sentence: str  # the verdict with its numbers
    reasons: tuple[str, ...]
    primary: Comparison | None
    guardrails: tuple[Comparison, ...]
    metrics: tuple[Comparison, ...]
    gates: tuple[GateResult, ...]
    arms: tuple[Arm, ...]
    pairs: int
    withheld: tuple[tuple[str, int], ...]  # pairs without a value: (reason, count)
    trails: tuple[IntervalTrail, ...]
    wins: Wins | None
    latency: tuple[ArmLatency, ...]
    strata: tuple[StratumDifference, ...]
    examples: tuple[ExamplePair, ...]
    limits: tuple[str, ...]  # what the numbers do not show, in sentences
    design: tuple[tuple[str, str], ...]  # the plan: (label, value), for readers
    versions: tuple[tuple[str, str], ...]
    first: float | None  # Unix seconds of the first and the last pair
    last: float | None
    created: float
    command: str  # repeats this report
    likeness: tuple[SimilarityTest, ...] = ()
    strengths: tuple[ArmStrength, ...] = ()
    first_place: float | None = None  # the advantage of being shown first, in log odds
    progress: Progress | None = None  # None: there is no plan
    regressions: tuple[tuple[str, int], ...] = ()  # (what went wrong, count) among the widest losses on the primary
    segments: tuple[SegmentDifference, ...] = ()  # shown to be worse first
    family: Family | None = None  # None: there is one candidate
    cautions: tuple[str, ...] = ()  # why the verdict may deserve less trust, in sentences
    ramp: RampHistory | None = None  # None: the plan has none, or it has not begun
    likelihood: LikelihoodFinding | None = None  # None: the experiment compares answers
    traffic: TrafficFacts | None = None  # None: the plan's rules do not ask for it
    tried: TriedPlans | None = None  # None: this is the only plan of its swap
    best: BestOfK | None = None  # None: the candidates are not compared with each other
    declared: SegmentReport | None = None  # None: the plan declares no segments
