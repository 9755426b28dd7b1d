"""What an experiment or a replay found, as the terminal, the JSON and the HTML page show it. Words only: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ship", "reject", "hold"]
Direction = Literal["better", "worse", "unclear"]
Margin = Literal["equivalent", "non_inferior", "inferior", "unclear"]
Role = Literal["primary", "guardrail", "other"]
State = Literal[-1, 0, 1]  # red, unknown, green


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval. None: no value, or no bound, yet."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric in both arms. difference: turned so that positive is better for the candidate, in the metric's units.

    noise: the same difference between the control and itself asked again. pairs: what the difference is made of (units
    in a split). pairs_needed: about how many more until the margin is decided; None: decided, or unknown. corrected:
    the difference as people's labels correct it. role: primary, guardrail, or other (shown, not tested).
    """

    metric: str
    unit: str  # "", "s", "USD per 1k", "tokens"
    role: Role
    a: Estimate
    b: Estimate
    difference: Estimate
    noise: Estimate | None
    pairs: int
    effective_n: float
    margin: float | None
    direction_found: Direction
    margin_found: Margin
    pairs_needed: int | None = None
    log_evalue: float | None = None
    corrected: Estimate | None = None
    method: str = ""  # of the interval, in words


@dataclass(frozen=True, slots=True)
class GateResult:
    """A condition of any verdict. says: why it stands so, in one sentence."""

    name: str
    state: State
    says: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class IntervalTrail:
    """A difference and its interval as pairs came: (pairs, value, low, high) each, in order."""

    metric: str
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Wins:
    """Of pairwise verdicts in both orders; or of scores, item by item, without the two rates. flip_rate: how often the
    winner changed with the order, which is a tie."""

    wins: int
    ties: int
    losses: int
    flip_rate: float | None
    first_slot_rate: float | None


@dataclass(frozen=True, slots=True)
class ArmLatency:
    """Of one arm, whole answers only. curve: (seconds, share of answers at most so late). comparable: asked by the
    same path as the arm it is compared with."""

    arm: str
    measure: Literal["total_s", "first_token_s"]
    n: int
    p50: Estimate
    p95: Estimate
    curve: tuple[tuple[float, float], ...]
    comparable: bool


@dataclass(frozen=True, slots=True)
class Arm:
    """served: of what the arm answered, how much a client got. cost_per_1k: USD for a thousand requests."""

    arm: str
    target: str  # "upstream/model"
    asked: int
    failed: int
    served: int
    cost_per_1k: Estimate | None
    input_tokens: float | None
    output_tokens: float | None


@dataclass(frozen=True, slots=True)
class StratumDifference:
    """The primary difference in one part of the traffic."""

    name: str
    pairs: int
    difference: Estimate


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """A pair worth reading. why: what makes it so. scores: metric → (control, candidate)."""

    exchange: str
    beside: str
    why: str
    question: str
    control: str
    candidate: str
    scores: tuple[tuple[str, float | None, float | None], ...]
    distance: float | None


@dataclass(frozen=True, slots=True)
class SimilarityTest:
    """The test "is the candidate like the control?" by one distance: how much farther the served answer is from the
    candidate's than from the control's own next one. farther: the mean of that; p: valid at any time. A large p proves
    nothing: another distance may see what this one does not."""

    metric: str
    pairs: int
    farther: float
    p: float


@dataclass(frozen=True, slots=True)
class ArmStrength:
    """Of three or more arms, by pairwise verdicts: log odds against the control (Bradley–Terry)."""

    arm: str
    log_odds: float
    se: float


@dataclass(frozen=True, slots=True)
class Report:
    """withheld: pairs without a verdict, by reason (not offered, lost, judge failed). limits: sentences. design: of the
    plan, in words. command: what makes this page again."""

    experiment: str
    plan: str
    candidate: str
    verdict: Verdict
    direction: Direction
    margin: Margin
    sentence: str
    reasons: tuple[str, ...]
    primary: Comparison | None
    guardrails: tuple[Comparison, ...]
    metrics: tuple[Comparison, ...]
    gates: tuple[GateResult, ...]
    arms: tuple[Arm, ...]
    pairs: int
    withheld: tuple[tuple[str, int], ...]
    trails: tuple[IntervalTrail, ...]
    wins: Wins | None
    latency: tuple[ArmLatency, ...]
    strata: tuple[StratumDifference, ...]
    examples: tuple[ExamplePair, ...]
    limits: tuple[str, ...]
    design: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    first: float | None  # Unix seconds of the first and the last pair
    last: float | None
    created: float
    command: str
    likeness: tuple[SimilarityTest, ...] = ()
    strengths: tuple[ArmStrength, ...] = ()
    first_place: float | None = None  # the advantage of being shown first, in the same log odds
