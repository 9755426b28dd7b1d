"""A proof on served answers by blocks of time, which no caller alone can give or take away. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.ramps.blocks import ServedBlocks
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.served_proof import ProofTerms, ServedProof, prove
from gateway.verdict.metrics import NEGLIGIBLE
from gateway.verdict.sequences.difference import BURN_IN


@dataclass(frozen=True, slots=True)
class BlockProofTerms:
    """Terms of the proofs of one ramp."""

    alpha: float
    """Two-sided; the proof is one-sided, with half of it."""
    margin_of: Callable[[ServedBlocks], float]
    """The margin by the control's values, which differ where a caller is left out."""
    hours: tuple[int, ...] | None = None
    """Hours of the day that have to be served; None: as in ProofTerms."""

    def proof(self, of: ServedBlocks, margin: float) -> ServedProof:
        return prove(of.blocks, ProofTerms(of.sign, margin, self.alpha, of.bounded, of.inflation, self.hours))


def block_proof(of: ServedBlocks, terms: BlockProofTerms) -> ServedFinding:
    """The proof of one metric. It stays open where it rests on one caller, or on answers without a score."""
    margin = terms.margin_of(of)
    found = terms.proof(of, margin)
    made = ServedFinding(of.metric, None, found.difference, margin, found.found, found.units, needed=found.needed)
    made = replace(made, hours=found.hours, so_far=found.so_far)
    if found.found == "inferior":
        return _without_foe(made, of, terms)
    return _without_doubt(made, of, terms) if found.found == "non_inferior" else made


def _without_foe(made: ServedFinding, of: ServedBlocks, terms: BlockProofTerms) -> ServedFinding:
    """The finding that the candidate is worse; open where it rests on the caller who speaks most against it."""
    if of.without_foe is None or terms.proof(of.without_foe, made.margin).found == "inferior":
        return made
    return replace(made, found="unclear", rests_on=of.foe)


def _without_doubt(made: ServedFinding, of: ServedBlocks, terms: BlockProofTerms) -> ServedFinding:
    """The finding that the candidate is not worse; open where a caller, or what has no score, could change it."""
    if of.without is not None:
        margin = min(made.margin, terms.margin_of(of.without))
        if terms.proof(of.without, margin).found != "non_inferior":
            return replace(made, found="unclear", rests_on=of.friend)
    if of.others is not None and _looks_worse(of.others, terms):
        return replace(made, found="unclear", rests_on=of.majority)
    none = of.missing
    if none is not None and none.share > NEGLIGIBLE * made.margin:
        worst = terms.proof(none.worst, made.margin)
        if worst.found != "non_inferior":
            return replace(made, found="unclear", cut=none.cut, unscored=none.unscored, needed=worst.needed)
    return made


def _looks_worse(of: ServedBlocks, terms: BlockProofTerms) -> bool:
    """Whether the difference so far is worse than the margin for the callers without a majority. They may be too few
    for a proof of their own, which is why nothing more is asked."""
    margin = terms.margin_of(of)
    found = terms.proof(of, margin)
    return min(found.units) >= BURN_IN and (found.difference.value or 0.0) < -margin
