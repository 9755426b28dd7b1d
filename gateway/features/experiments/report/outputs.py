"""The schemas of the output of `gateway ab list` and `gateway ab status` with `--json`."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from gateway.features.ramp.gate import RampGateOutput
from gateway.reports.model import (
    BestOfK,
    CorrectedBasis,
    Estimate,
    Family,
    Progress,
    Responses,
    SegmentDifference,
    Verdict,
)
from gateway.reports.output_schema import Schema, schema_of
from gateway.verdict.report.as_json import SCHEMA_ID, report_schema

_DECLARED = Meta(extra_json_schema={"$ref": f"{SCHEMA_ID}#/properties/declared"})


class _NamedExperiment(TypedDict):
    experiment: str
    state: str
    """State: running, stopped, "not started", or "disabled in the config"."""
    since: str
    """Time at which it got this state; "" if it was not started."""
    plan: str
    """The hash of the plan in force; of one that was not started, of the config's."""
    mode: str
    config: str
    """Whether gateway.yaml has the same plan: "the same", "changed: HASH", "not in it"."""


class ListedExperimentOutput(_NamedExperiment):
    """An experiment of the config or of the stream server."""


class PeoplesDifferenceOutput(TypedDict):
    """A difference as the judge sees it, and as people do."""

    difference: Estimate
    corrected: Estimate
    basis: CorrectedBasis | None


class CandidateStatusOutput(TypedDict):
    """One candidate: its verdict, or the conditions that are missing for one."""

    candidate: str
    verdict: Verdict
    sentence: str
    pairs: int
    family: Family | None
    segments: list[SegmentDifference]
    """Segments whose difference is not 0."""
    saved: float | None
    """The share of the pairs that adjusting saves."""
    as_people_judge: dict[str, PeoplesDifferenceOutput]
    """Differences by metric."""
    responses: dict[str, Responses]
    """Responses to requests for feedback, by metric."""
    progress: Progress | None
    cautions: NotRequired[tuple[str, ...]]
    """Sentences that limit what the findings say, as in the report; absent from plans of older rules."""
    declared: NotRequired[Annotated[Any, _DECLARED]]
    """Results of declared segments, as in `gateway report --json`; only of plans with segments."""


class ExperimentStatusOutput(_NamedExperiment):
    """The state of an experiment, and what it has found so far."""

    targets: NotRequired[dict[str, str]]
    """The target of each arm."""
    shadows: dict[str, float]
    """Results of its shadow requests."""
    used_today: dict[str, float]
    """Tokens and dollars of its shadow requests."""
    ramp: RampGateOutput | None
    verdict: str | None
    """The sentence of the first candidate, or of the best of several; None if there is no evidence yet."""
    candidates: list[CandidateStatusOutput]
    best: NotRequired[BestOfK]
    """Comparison of the candidates; only of plans that find the best of several."""
    dropped: NotRequired[list[str]]
    """Candidates that get no more requests."""
    harm: NotRequired[str]
    """The stop for harm; left out if there is none."""
    ends: str
    """Time at which it stops paying for shadow requests."""


def status_schema() -> Schema:
    """The schema of ExperimentStatusOutput, with that of reports, which it refers to."""
    return schema_of(ExperimentStatusOutput, Report=report_schema())
