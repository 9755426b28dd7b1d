"""One step of a plan in one transaction: the next pairs get their index, and the plan's sequences take them.

With each step, a few stored answers of the control are scored again, as if a candidate had given them. Both arms of a
pair are scored by the same code, so the score must be the same; the deterministic scorers among those that decide are
checked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.core.exchange import Exchange
from gateway.core.likelihood import likelihood_from_json
from gateway.core.plan import UNITS_FIRST_RULES, Plan, StoredPlan
from gateway.core.plan_evidence import SegmentRow
from gateway.core.randomization import draw
from gateway.core.segments import segment_name, segments_from_json
from gateway.core.sequence import SequenceChanges, SequenceName
from gateway.features.experiments.rows.queries import increments_after
from gateway.features.task import Rescore
from gateway.statistics.past_adjustment import WAITING
from gateway.statistics.weak_spots import BLOCK, MOST_FITTED
from gateway.store import sequences as kept
from gateway.store.engine import Transaction
from gateway.store.pairs import (
    ArmRecord,
    ArmScore,
    SettledPair,
    UnpairedExchange,
    all_open,
    arm_records,
    arm_scores,
    assign_indexes,
    next_index,
    scores_beside,
    unlike_requests,
    unpaired_exchanges,
)
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import hold_lease
from gateway.store.ramp_events import newest_ramp_records
from gateway.store.served_answers import assigned_units
from gateway.verdict.gates.completeness import has_failed
from gateway.verdict.metrics import (
    ANSWERED,
    TIED_BUT,
    WEAK_SPOTS,
    ArmObservation,
    JoinedPair,
    Key,
    PairOrigin,
    StoredScore,
    UnpairedRequest,
)
from gateway.verdict.segments.weak_spots import of_one_each, searched, searches
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.sequences.segment_cells import CELLS
from gateway.verdict.split.ratio import peaks_at, planned_shares, ratio_name, ratio_peaks
from gateway.verdict.states import SequenceStates

SHARE = 0.1  # of the pairs


@dataclass(frozen=True, slots=True)
class Rescored:
    """Result of scoring again. example: id of an exchange whose score changed."""

    n: int = 0
    disagreed: int = 0
    example: str | None = None


def rescored_name(plan: str) -> SequenceName:
    """Name under which the counts are stored, with the plan's sequences."""
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
    kept.save(connection, SequenceChanges({name: (total.n, state)}, [], {}, []), now)


class LiveSequences:
    """The sequences of one plan. Not for several threads at a time."""

    def __init__(self) -> None:
        self._known: dict[SequenceName, tuple[str, DifferenceSequence]] = {}

    def take(self, texts: Mapping[SequenceName, str]) -> dict[SequenceName, DifferenceSequence]:
        """The sequences of these stored states. The caller moves them, so none is known until `keep`."""
        known, self._known = self._known, {}
        found = {}
        for name, text in texts.items():
            stored, sequence = known.get(name, ("", None))
            same = sequence is not None and stored == text
            found[name] = sequence if same and sequence else DifferenceSequence.from_state(orjson.loads(text))
        return found

    def keep(self, texts: Mapping[SequenceName, str], sequences: Mapping[SequenceName, DifferenceSequence]) -> None:
        """Remembers these sequences, which nobody moves any more. texts: their states, as they are stored."""
        self._known = {name: (texts[name], sequence) for name, sequence in sequences.items() if name in texts}


_LOST = ArmObservation("lost")
MOST_BEFORE = WAITING  # requests without a pair that are read for one pair
UNLIKE = 0.02  # share of requests that may be left out because of what they are
LEASE = "experiments"


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The process that asks for the lease. keep_s: length of the lease from now."""

    holder: str
    keep_s: float


class LeaseLost(Exception):
    """The lease belongs to another consumer: nothing of this step is stored."""


def advance(
    connection: Transaction,
    leader: LeaseHolder,
    plan: StoredPlan,
    found: Sequence[SettledPair],
    now: float,
    rescored: Rescored | None = None,
    live: LiveSequences | None = None,
) -> None:
    """Moves the plan's sequences over these pairs, which are the next in order. Raises LeaseLost.

    rescored: what scoring some of these pairs again has found. live: the plan's sequences after the step before.

    The lease is renewed in the same transaction, so that a consumer that lost it while it was suspended stores nothing.
    """
    if not hold_lease(connection, LEASE, leader.holder, now, leader.keep_s):
        raise LeaseLost
    if not all_open(connection, [pair.id for pair in found]):
        raise LeaseLost
    clusters = [pair.cluster for pair in found if pair.cluster is not None]
    taken = kept.clusters_taken(connection, plan.hash, clusters) if clusters else set()
    live = live or LiveSequences()
    stored = kept.state_texts(connection, plan.hash)
    texts = {name: text for name, text in stored.items() if name.candidate}
    cells = {name: orjson.loads(text) for name, text in stored.items() if name.metric.startswith(CELLS)}
    progress = PlanProgress(plan.plan, plan.hash, {**live.take(texts), **cells}, taken)
    first = next_index(connection, plan.hash)
    joined = joined_pairs(connection, plan.plan, found)
    between = _unpaired_before(connection, plan, found, first) if plan.plan.adjust and plan.plan.shadow < 1 else {}
    for place, pair in enumerate(joined, first):
        for unpaired in between.get(pair.id, ()):
            progress.see(unpaired)
        progress.take(place, pair)
    live.keep(texts | kept.save(connection, progress.changes(), now), progress.sequences)
    if rescored is not None:
        keep_rescored(connection, plan.hash, rescored, now)
    states = [{arm: seen.state for arm, seen in pair.arms.items()} for pair in joined]
    assign_indexes(connection, first, list(zip(found, states, strict=True)))


def _unpaired_before(
    connection: Transaction, plan: StoredPlan, found: Sequence[SettledPair], first: int
) -> dict[str, list[UnpairedRequest]]:
    """pair → the requests between it and the pair before it that were not drawn; the newest few of them.

    There are none where many requests are never drawn because of their kind: they would not be comparable to the pairs.
    """
    before: dict[str, list[UnpairedExchange]] = {}
    places = [pair.position for pair in found]
    unlike = unlike_requests(connection, plan.hash, places[-1])
    alike = {p.id for i, p in enumerate(found, first) if bisect_left(unlike, p.position) <= UNLIKE * i}
    for each in unpaired_exchanges(connection, plan.hash, found[-1].position):
        before.setdefault(found[bisect_left(places, each.position)].id, []).append(each)
    kept_before = {pair: rows[-MOST_BEFORE:] for pair, rows in before.items() if pair in alike}
    ids = [each.id for rows in kept_before.values() for each in rows]
    observed = _observations(connection, plan.plan, ids, ())
    return {
        pair: [_unpaired(plan.plan, each, observed[each.id]) for each in rows if each.id in observed]
        for pair, rows in kept_before.items()
    }


def _unpaired(plan: Plan, of: UnpairedExchange, control: ArmObservation) -> UnpairedRequest:
    """A request without a pair. Its π is that of the union of the sampling's draw and the shadow's, which it did not
    have.
    """
    return UnpairedRequest(control, unpaired_rate(plan, of.pi), draw(f"unpaired:{plan.name}", of.id))


def unpaired_rate(plan: Plan, pi: float) -> float:
    """The probability with which a request was recorded, given that the draw of all pairs left it out."""
    rate = 1.0 - (1.0 - pi) / (1.0 - plan.shadow) if plan.shadow < 1 else 1.0
    return min(max(round(rate, 9), 1e-9), 1.0)


def joined_pairs(connection: Transaction, plan: Plan, found: Sequence[SettledPair]) -> list[JoinedPair]:
    """Reads the observations of the pairs' arms. The order stays."""
    ids = [i for pair in found for i in (pair.id, *pair.arms.values()) if i is not None]
    records = arm_records(connection, ids)
    observed = _observed(connection, plan, records, [pair.id for pair in found])
    served = {each.id: each for each in records}
    for pair in found:
        for i in (i for i in pair.arms.values() if i in served and served[i].tied and pair.id in observed):
            own = {name: getattr(observed[i], name) for name in (*TIED_BUT, "pair_scores")}
            observed[i] = replace(observed[pair.id], exchange=i, tied=True, **own)
    return [
        JoinedPair(
            pair.id,
            observed.get(pair.id, _LOST),
            {arm: _LOST if i is None else observed.get(i, _LOST) for arm, i in pair.arms.items()},
            pair.cluster,
            _origin(pair, served.get(pair.id)),
            **_segments(plan, served.get(pair.id)),
        )
        for pair in found
    ]


def _segments(plan: Plan, served: ArmRecord | None) -> dict[str, Any]:
    """The fields of a pair that are about its segments."""
    known = segments_from_json(served.segments) if served is not None else None
    if plan.segments is None or served is None or known is None:
        return {}
    return {"segments": known.values, "draw": known.draw, "rate": unpaired_rate(plan, served.pi)}


def _origin(pair: SettledPair, served: ArmRecord | None) -> PairOrigin:
    """Origin of a pair. Its time is that of the stream, in whose order pairs are taken: ids there begin with
    milliseconds.
    """
    ms = pair.position.partition("-")[0]
    at = int(ms) / 1000 if ms.isdigit() else None
    if served is None:
        return PairOrigin(at, conversation=pair.cluster)
    return PairOrigin(at, served.caller, served.user_digest, pair.cluster, prompt=served.prompt_digest)


def _observations(
    connection: Transaction, plan: Plan, ids: Sequence[str], pairs: Sequence[str]
) -> dict[str, ArmObservation]:
    """Values by exchange id."""
    return _observed(connection, plan, arm_records(connection, ids), pairs)


def _observed(
    connection: Transaction, plan: Plan, records: Sequence[ArmRecord], pairs: Sequence[str]
) -> dict[str, ArmObservation]:
    """Values by exchange id."""
    scores = _by_exchange(arm_scores(connection, [each.id for each in records]))
    beside = _by_exchange(scores_beside(connection, pairs))
    return {
        each.id: ArmObservation(
            state="failed" if has_failed(plan, each) else "ok",
            exchange=each.id,
            outcome=each.outcome,
            total_s=each.total_s,
            first_token_s=each.first_token_s,
            output_tokens=each.output_tokens,
            cost_usd=each.cost_usd,
            request_bytes=each.request_bytes,
            predicted=each.predicted,
            truncated=each.truncated,
            likelihood=likelihood_from_json(each.likelihood),
            scores=scores.get(each.id, {}),
            pair_scores=beside.get(each.id, {}),
        )
        for each in records
    }


def _by_exchange(scores: Iterable[ArmScore]) -> dict[str, dict[Key, StoredScore]]:
    found: dict[str, dict[Key, StoredScore]] = {}
    for s in scores:
        key = s.scorer, f"{s.version} {s.config_hash}"
        found.setdefault(s.exchange_id, {})[key] = StoredScore(s.status, s.value01, s.value, s.direction)
    return found


def advance_search(connection: Transaction, plan: StoredPlan, now: float) -> None:
    """Takes the whole blocks of pairs that have come since the last time, for every candidate. now: Unix seconds.

    The state follows from the pairs in their order alone, so a block that two consumers take gives the same result.
    Segments that a ramp leaves with the control are left out of it: once somebody has agreed to that, the search begins
    again without their pairs.
    """
    if not searches(plan.plan):
        return
    stays = _stays(connection, plan)
    evidence = StoredEvidence(connection, plan)
    look = SequenceStates(evidence)
    for candidate, _ in plan.plan.candidates:
        sequence, name = look.primary(candidate), look.names.get((candidate, plan.plan.primary or ""))
        if sequence is None or name is None or not sequence.bounded:
            continue
        state = look.weak_spot_state(candidate)
        state = state if stays == state.get("stays", []) else {}
        place = int(state.get("place", 0))
        new = increments_after(connection, name.values, place)
        if new < BLOCK:
            continue
        rows = of_one_each(evidence.segment_rows(name, MOST_FITTED + new)[::-1])
        after = searched(plan.plan, state, [row for row in rows if not _is_in(row, stays)])
        if after is not None:
            after |= {"stays": stays} if stays else {}
            stored = SequenceName(plan.hash, "", f"{WEAK_SPOTS}{candidate}", name.identity)
            kept.save(connection, SequenceChanges({stored: (after["place"], after)}, [], {}, []), now)


def _stays(connection: Transaction, plan: StoredPlan) -> list[str]:
    """Names of segments that the plan's ramp leaves with the control. Ramps of earlier rules search in all of them."""
    if plan.plan.ramp is None or plan.plan.rules < UNITS_FIRST_RULES:
        return []
    return next((sorted(record.kept) for record in newest_ramp_records(connection) if record.plan == plan.hash), [])


def _is_in(row: SegmentRow, segments: Collection[str]) -> bool:
    return any(segment_name(prop, value) in segments for prop, value in row.segments.items())


def keep_ratio(connection: Transaction, plan: StoredPlan, now: float) -> None:
    """Notes the largest evidence for and against the planned shares so far, so that an alarm persists."""
    name = ratio_name(plan)
    before = ratio_peaks(plan, kept.state_texts(connection, plan.hash))
    counts = assigned_units(connection, plan.hash, plan.plan)
    n = sum(counts.values())
    if n and len([share for share in planned_shares(plan.plan).values() if share > 0]) > 1:
        after = peaks_at(plan.plan, counts, before)
        if after != before:
            kept.save(connection, SequenceChanges({name: (n, after.state())}, [], {}, []), now)
