"""The SQL of groups of failures: the scored calls of one scorer, with their features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from gateway.core.exchange import IMPORTED, floor_id
from gateway.features.calls.rows.calls import POOR
from gateway.store.query import Reading
from gateway.store.run_chunks import whole_request
from gateway.store.tables import TARGET, exchanges, score_cells, scores

MOST_CALLS = 5_000
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class CallChoice:
    """The calls that are looked at."""

    scorer: str
    since: float
    """Unix seconds."""
    alias: str | None = None
    imported: bool = False
    """Imported calls, instead of served ones."""
    plan: tuple[str, str] | None = None
    """A plan and an arm of it: its answers, served or not, instead of all served calls."""
    most: int = MOST_CALLS
    """Number of the newest calls that are read."""


@dataclass(frozen=True, slots=True)
class ScoredCall:
    id: str
    received: float
    cluster: str
    """Calls with the same one depend on each other."""
    alias: str
    target: str
    caller: str
    api: str
    stream: bool
    client_bytes: int | None
    request: bytes
    finish_reason: str | None
    answer_characters: int
    tool_calls: str
    """JSON."""
    value: float
    """The score in [0, 1], 1 best."""
    reason: str
    """Reason for the score; "" if the scorer gave none."""
    pi: float | None
    """The probability with which the call was recorded and scored; None if unknown."""


def scored_calls(connection: Reading, of: CallChoice) -> Iterator[ScoredCall]:
    """The newest calls with a score of the scorer's newest version, oldest first within pages of no particular size."""
    e, s = exchanges.c, scores.c
    mine = (s.scorer == of.scorer, s.repeat == 0, s.subject == "exchange", s.value01.is_not(None))
    chosen = [e.received >= of.since, e.bytes > 0, *mine]
    if of.plan is None:
        chosen.append(e.role == (IMPORTED if of.imported else "served"))
    else:
        chosen += [e.plan == of.plan[0], e.arm == of.plan[1]]
    if of.alias is not None:
        chosen.append(e.alias == of.alias)
    joined = exchanges.join(scores, s.exchange_id == e.id)
    newest = select(s.version, s.config_hash).select_from(joined).where(*chosen).order_by(e.received.desc()).limit(1)
    version = connection.execute(newest).first()
    if version is None:
        return
    dependent = func.coalesce(e.cluster, e.run_id, e.unit)
    columns = (
        *(e.id, e.received, dependent, e.alias, TARGET, e.caller, e.api, e.stream, e.client_bytes, whole_request()),
        *(e.finish_reason, func.length(e.text), e.tool_calls, s.value01, func.coalesce(s.explanation, ""), s.pi),
    )
    query = select(*columns).select_from(joined).where(*chosen)
    query = query.where(s.version == version[0], s.config_hash == version[1])
    rows = connection.execute(
        query.order_by(e.received.desc(), e.id.desc()).limit(of.most), execution_options={"yield_per": _AT_ONCE}
    )
    for row in rows:
        values: list[Any] = [bytes(value) if isinstance(value, memoryview) else value for value in row]
        yield ScoredCall(*values)


def scorers_with_failures(connection: Reading, since: float, cut: float) -> list[str]:
    """The scorers that gave a call since then less than the cut, by name."""
    s = scores.c
    names = connection.execute(select(score_cells.c.scorer).distinct()).scalars()
    # By the least value, which the index has in order: a join with all calls since then would read every score.
    recent = (*POOR, s.subject == "exchange", s.exchange_id >= floor_id(since))
    least = {name: select(func.min(s.value01)).where(s.scorer == name, *recent) for name in names}
    found = {name: connection.execute(query).scalar() for name, query in least.items()}
    return sorted(name for name, value in found.items() if value is not None and value < cut)
