"""What is known of which of two answers to a request is better: corrections, labels, pairwise verdicts, scores.

Read-only, page by page, so that an export of any length holds few exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from gateway.store.query import Found, scores_of
from gateway.store.tables import exchanges, labels, pair_scores

CORRECTION, LABEL, JUDGES = "correction", "label", "judges"
DEFAULT = (CORRECTION, LABEL, JUDGES)


@dataclass(frozen=True, slots=True)
class PreferenceRule:
    """What decides. by: in order: correction, label, judges (every pairwise judge), or the names of scorers."""

    by: tuple[str, ...] = DEFAULT
    gap: float = 0.0
    """The smallest difference of the two answers' values; 0: any. A pairwise verdict v gives them 1 - v and v."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to the request of a served exchange, with the values that decided; None for a correction."""

    served: Found
    chosen: str
    rejected: str
    by: str
    chosen_value: float | None = None
    rejected_value: float | None = None


@dataclass(frozen=True, slots=True)
class _Arms:
    """A page of served exchanges, with their arms and what was said of each."""

    served: Sequence[Found]
    arms: dict[str, list[Found]] = field(default_factory=dict)  # by served exchange
    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)  # by exchange and scorer's identity
    verdicts: dict[str, list[tuple[str, float]]] = field(default_factory=dict)  # by arm: pairwise scorer, value
    pair_labels: dict[str, list[float]] = field(default_factory=dict)  # by arm
    own_labels: dict[str, list[float]] = field(default_factory=dict)  # by exchange


def preferences(connection: Connection, served: Sequence[Found], rule: PreferenceRule) -> Iterator[Preference]:
    """At most one for each arm of these exchanges, and one for a correction. served: as ExportSource gives them."""
    page = _read(connection, [each for each in served if each["role"] == "served"])
    for each in page.served:
        if CORRECTION in rule.by and each["correction"]:
            yield Preference(each, each["correction"], each["text"], CORRECTION)
        for arm in page.arms.get(each["id"], ()):
            found = next((p for by in rule.by for p in _by(by, page, each, arm, rule.gap)), None)
            if found is not None:
                yield found


def _by(by: str, page: _Arms, served: Found, arm: Found, gap: float) -> Iterator[Preference]:
    if by == CORRECTION:
        return
    if by == LABEL:
        for value in page.pair_labels.get(arm["id"], ()):
            yield from _preferred(served, arm, 1 - value, value, LABEL, gap)
        ours, theirs = (page.own_labels.get(each["id"]) for each in (served, arm))
        if ours and theirs:
            yield from _preferred(served, arm, sum(ours) / len(ours), sum(theirs) / len(theirs), LABEL, gap)
        return
    for scorer, value in page.verdicts.get(arm["id"], ()):
        if by in (JUDGES, scorer):
            yield from _preferred(served, arm, 1 - value, value, scorer, gap)
    ours_, theirs_ = (page.values.get(each["id"], {}) for each in (served, arm))
    for identity in sorted(ours_.keys() & theirs_.keys()):
        if identity[0] == by:
            yield from _preferred(served, arm, ours_[identity], theirs_[identity], by, gap)


def _preferred(
    served: Found, arm: Found, ours: float, theirs: float, by: str, gap: float
) -> Iterator[Preference]:  # fmt: skip
    """Nothing for a tie."""
    if theirs > ours and theirs - ours >= gap:
        yield Preference(served, arm["text"], served["text"], by, theirs, ours)
    elif ours > theirs and ours - theirs >= gap:
        yield Preference(served, served["text"], arm["text"], by, ours, theirs)


def _read(connection: Connection, served: Sequence[Found]) -> _Arms:
    page, ids = _Arms(served), [each["id"] for each in served]
    e, p, x = exchanges.c, pair_scores.c, labels.c
    query = select(e.id, e.pair, e.text, e.tool_calls, e.outcome, e.status).where(e.pair.in_(ids)).order_by(e.id)
    for row in connection.execute(query).mappings():
        if row["outcome"] == "ok" and row["status"] < 400 and row["tool_calls"] == "[]":
            page.arms.setdefault(row["pair"], []).append(dict(row))
    arms = [arm["id"] for each in page.arms.values() for arm in each]
    for exchange_id, found in scores_of(connection, [*ids, *arms]).items():
        for score in found:
            if (value := _turned(score)) is not None:
                identity = (score["scorer"], score["version"], score["config_hash"])
                page.values.setdefault(exchange_id, {})[identity] = value
    judged = select(p.exchange_id, p.scorer, p.value).where(p.exchange_id.in_(arms), p.value.is_not(None))
    for arm, scorer, value in connection.execute(judged.where(p.direction == "maximise").order_by(p.scorer)):
        page.verdicts.setdefault(arm, []).append((scorer, value))
    given = select(x.subject, x.subject_id, x.value).where(x.subject_id.in_([*ids, *arms]), x.value.is_not(None))
    for subject, subject_id, value in connection.execute(given.order_by(x.at)):
        by = page.pair_labels if subject == "pair" else page.own_labels
        by.setdefault(subject_id, []).append(value)
    return page


def _turned(score: Found) -> float | None:
    """The value so that more is better; None for a score that says nothing of that."""
    if score["value01"] is not None:
        return float(score["value01"]) if score["direction"] != "neutral" else None
    if score["value"] is None or score["direction"] == "neutral":
        return None
    return float(score["value"]) * (-1.0 if score["direction"] == "minimise" else 1.0)
