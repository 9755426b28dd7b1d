"""What a verdict asks of the evidence on a plan. gateway/store/plan_evidence.py reads it; nothing here does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.plan import StoredPlan
from gateway.core.plan_evidence import PairCounts, RequestChecks, ScorerFacts, SegmentRow
from gateway.core.sequence import SequenceName
from gateway.core.served_answer import SplitEvidence


class PlanEvidence(Protocol):
    """The evidence on one plan at one moment. A part may be expensive to read, so ask only for what decides."""

    @property
    def plan(self) -> StoredPlan: ...

    @property
    def now(self) -> float:
        """Unix seconds, which decide what feedback counts."""

    @property
    def states(self) -> Mapping[SequenceName, str]:
        """The states of the plan's sequences, as JSON."""

    @property
    def newest(self) -> Mapping[tuple[str, str], str]:
        """(arm, metric) → the identity of the scorer whose sequence moved last."""

    @property
    def pairs(self) -> PairCounts: ...

    @property
    def withheld(self) -> Mapping[tuple[SequenceName, str, str], int]:
        """(sequence, reason, arm) → pairs without a value."""

    @property
    def lost_by_arm(self) -> Mapping[str, tuple[int, int]]:
        """arm → (asked, lost). The control's: shadows whose served exchange never came."""

    @property
    def paid_calls(self) -> Mapping[str, int]:
        """arm → recorded requests to it."""

    @property
    def request_checks(self) -> RequestChecks: ...

    def values(self, name: SequenceName) -> tuple[Sequence[float], Sequence[float]]:
        """The values of a sequence's pairs, of the control and of the arm, in order."""

    def split(self, candidate: str) -> SplitEvidence:
        """The answers that the control and this candidate served."""

    def scorer(self, metric: str, identity: str | None) -> ScorerFacts | None:
        """Facts about a scorer; None if it has no score in the plan. identity: "version config_hash"; None: any."""

    def segment_rows(self, name: SequenceName, most: int) -> Sequence[SegmentRow]:
        """The newest pairs of a sequence, the newest first."""
