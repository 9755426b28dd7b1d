"""What a certificate promises, on what it rests, and what people's labels say of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.statistics.calibration import BrierParts, CalibrationError, MeanBias, ReliabilityBin
from gateway.statistics.calibration_drift import DriftEvidence
from gateway.statistics.recalibration import MapTry, PlattMap
from gateway.statistics.risk_control import RiskClaim

Guarantee = Literal["threshold", "average"]
CertificateState = Literal["open", "certified", "lapsed"]
STATES: tuple[CertificateState, ...] = ("open", "certified", "lapsed")
Lapse = Literal["question", "promise", "map", "drift", "labels"]
LAPSES: Mapping[Lapse, str] = {
    "question": "the scorer or its question has changed",
    "promise": "the promise in gateway.yaml has changed",
    "map": "a new map of the probability is in force",
    "drift": "the drift alarm rings: the probability is no longer true",
    "labels": "labels that came later show more errors than promised",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """A certificate as gateway.yaml has it, with the defaults of the section."""

    name: str
    labelled_as: str
    """The scorer, or `guard NAME`."""
    wrong: float
    confidence: float
    guarantee: Guarantee
    alias: str = ""
    """The model name that the scorer asks; "" if it asks none."""
    reading: str = ""
    """The way in which the scorer gets its probability."""

    @property
    def claim(self) -> RiskClaim:
        return RiskClaim(self.wrong, round(1.0 - self.confidence, 12))


@dataclass(frozen=True, slots=True)
class Zone:
    """A threshold that may be certified."""

    threshold: float
    """Calibrated probability from which on the answer is acted upon."""
    share: float
    """The share of the traffic at or above it, when it was chosen."""
    predicted_error: float


@dataclass(frozen=True, slots=True)
class CertificateAttempt:
    """Thresholds that were fixed before the labels that test them, and the certificate that they got."""

    promise: Promise
    question: str
    """Digest of the scorer's version and config: of its question."""
    map: PlattMap
    map_labels: int
    """Labels that the map rests on; 0 if the probability is used as it is."""
    zones: tuple[Zone, ...]
    """The wide one first."""
    began: float
    """Unix seconds."""
    after: float
    """The time of the newest label that chose the thresholds; later ones test them. Unix seconds."""
    labels: int
    """Labels up to there."""
    given: float | None = None
    certified: Zone | None = None
    zone_labels: int = 0
    """Labels in the certified zone when it was given."""
    horizon: float | None = None
    """The time of the newest of these labels."""
    lapsed: float | None = None
    reason: Lapse | None = None

    @property
    def state(self) -> CertificateState:
        if self.lapsed is not None:
            return "lapsed"
        return "open" if self.given is None else "certified"

    def to_json(self) -> dict[str, Any]:
        """The members that stay as they are; given, lapsed and reason have columns."""
        made = asdict(self)
        return {name: value for name, value in made.items() if name not in ("given", "lapsed", "reason")}


def attempt_from_json(stored: Mapping[str, Any], **columns: Any) -> CertificateAttempt:
    """columns: given, lapsed and reason."""
    made = dict(stored) | {
        "promise": Promise(**stored["promise"]),
        "map": PlattMap(**stored["map"]),
        "zones": tuple(Zone(**zone) for zone in stored["zones"]),
        "certified": Zone(**stored["certified"]) if stored["certified"] else None,
    }
    return CertificateAttempt(**made, **columns)


@dataclass(frozen=True, slots=True)
class StoredTry:
    """A try of a map, with the time of the newest label in it."""

    tried: MapTry
    horizon: float


@dataclass(frozen=True, slots=True)
class MapInForce:
    map: PlattMap
    labels: int
    """Labels that it was tried with; 0: no map was accepted."""
    horizon: float
    """Time of the newest of them, Unix seconds; 0.0: no map was accepted."""


@dataclass(frozen=True, slots=True)
class ZoneFinding:
    """The labels in a zone so far, and their evidence."""

    zone: Zone
    labels: int
    wrong: float
    """Number of wrong ones; labels that disagree count in part."""
    log_evidence: float
    """The largest so far."""
    log_limit: float
    more: int | None
    """Further labels that would probably suffice; 0 if it is certified. None: more than anybody labels."""

    @property
    def certified(self) -> bool:
        return self.log_evidence >= self.log_limit


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How often people disagree about the same answer, and what that says of a single label."""

    twice: int
    """Answers with the labels of two people."""
    differ: int
    error: float
    """The share of labels that are wrong, if both people err alike."""
    low: float
    """Lower end of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class ProbabilityTruth:
    """Labels about one probability. Only the bias is valid at any look."""

    n: int
    said: float
    """The weighted mean of the probability."""
    rate: float
    """The weighted mean of people's verdicts."""
    bias: MeanBias
    brier: BrierParts
    error: CalibrationError
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class SegmentTruth:
    """The bias of a probability in one part of the traffic, at any look; all that are shown share one error."""

    kind: Literal["model name", "target"]
    name: str
    said: float
    rate: float
    bias: MeanBias


@dataclass(frozen=True, slots=True)
class Reliability:
    raw: ProbabilityTruth | None
    """The probability as the scorer gives it, on all labels; None below 30."""
    mapped: ProbabilityTruth | None
    """The probability by the map in force, on labels that it has not seen; None below 30 of them, or without a map."""
    segments: tuple[SegmentTruth, ...] = ()
    """Model names and targets with 30 labels at least, where there are two of a kind; as the scorer gives it."""


@dataclass(frozen=True, slots=True)
class CertificateFinding:
    """One certificate of the config, as it is now."""

    promise: Promise
    question: str
    labels: int
    in_force: MapInForce
    tries: tuple[StoredTry, ...]
    drift: DriftEvidence
    attempt: CertificateAttempt | None
    """The newest, with what has just been found; None if there are too few labels, or no zone."""
    zones: tuple[ZoneFinding, ...]
    people: Disagreement | None
    """Disagreement about answers that were labelled twice; None if none was, so people's error is unknown."""
    reached: float | None
    """The share of the newest traffic at or above the certified threshold; None unless a certificate is in force."""
    truth: Reliability
    refused: str
    """The reason why no certificate can be given, whatever the labels say; "" if one can."""

    @property
    def state(self) -> CertificateState:
        return "open" if self.attempt is None else self.attempt.state

    @property
    def certified(self) -> Zone | None:
        """The zone in which one may act; None unless a certificate is in force."""
        return self.attempt.certified if self.attempt is not None and self.state == "certified" else None
