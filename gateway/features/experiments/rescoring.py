"""Scores a few stored answers of the control again, as if a candidate had given them: the score must be the same.

Both arms of a pair are scored by the same code. This checks it on the answers themselves, for the deterministic scorers
among those that decide: the primary and the guardrails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.exchange import Exchange
from gateway.core.plan import Plan
from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.features.experiments.metrics import ANSWERED
from gateway.features.experiments.rows import sequences as kept
from gateway.features.experiments.rows.sequences import SequenceName
from gateway.store.engine import Transaction
from gateway.store.pairs import ArmScore, SettledPair

SHARE = 0.1  # of the pairs
Rescore = Callable[[Exchange, Collection[str]], Awaitable[Sequence[ScoreResult]]]
"""Scores an exchange by the deterministic ones of the named scorers."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """What scoring again has found. example: id of an exchange whose score changed."""

    n: int = 0
    disagreed: int = 0
    example: str | None = None


def rescored_name(plan: str) -> SequenceName:
    """Where the counts are stored, beside the plan's sequences."""
    return SequenceName(plan, "", "scored again", "-")


def drawn(found: Sequence[SettledPair]) -> list[str]:
    """The ids of the pairs whose served answer is scored again."""
    return [pair.id for pair in found if draw("rescore", pair.id) < SHARE]


def deciding(plan: Plan) -> list[str]:
    """The metrics that decide, of which some are scorers."""
    return [*([plan.primary] if plan.primary else []), *(guardrail.metric for guardrail in plan.guardrails)]


async def scored_again(
    plan: Plan, exchanges: Mapping[str, Exchange], scores: Sequence[ArmScore], rescore: Rescore
) -> Rescored:
    """exchanges: the control's, by id. scores: the stored ones of these exchanges."""
    stored = {(s.exchange_id, s.scorer, s.version, s.config_hash): (s.status, s.value) for s in scores}
    n, disagreed = 0, []
    for exchange in exchanges.values():
        if not exchange.response:
            continue  # retention has removed it since, or the caller's content is not recorded
        as_candidate = replace(exchange, role="shadow", arm=plan.candidates[0][0], pair=exchange.id)
        pairs = [
            (before, (r.status, None if r.score is None else float(r.score.value)))
            for r in await rescore(as_candidate, deciding(plan))
            if (before := stored.get((exchange.id, r.scorer, r.version, r.config_hash))) is not None
        ]
        pairs = [(a, b) for a, b in pairs if a[0] in ANSWERED and b[0] in ANSWERED]
        n += bool(pairs)
        disagreed += [exchange.id] if any(a != b for a, b in pairs) else []
    return Rescored(n, len(disagreed), disagreed[0] if disagreed else None)


def keep_rescored(connection: Transaction, plan: str, found: Rescored, now: float) -> None:
    """Adds to what is stored, in the transaction that gives the pairs their indexes."""
    if not found.n:
        return
    name = rescored_name(plan)
    before = Rescored(**kept.states(connection, plan).get(name, {}))
    total = Rescored(before.n + found.n, before.disagreed + found.disagreed, before.example or found.example)
    state = {"n": total.n, "disagreed": total.disagreed, "example": total.example}
    kept.save(connection, kept.SequenceChanges({name: (total.n, state)}, [], {}, []), now)
