"""The lists and the single calls that the console shows: paged by key, each list by a constant number of queries.

A list reads the index `exchanges_found` for the ids of one page, then those rows; the worst answers come from the index
`scores_worst`. Texts are read for the page that is shown only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Integer, Select, case, cast, func, literal, or_, select, text, union_all

from gateway.core.exchange import floor_id
from gateway.features.calls.excerpts.questions import END_BYTES, BodyEnds, question_of
from gateway.store.predictions import predictions_of
from gateway.store.query import Found, Reading, condition, full_exchange, rows_of, scores_of
from gateway.store.run_chunks import WHOLE_EXCHANGE, request_size, whole_request
from gateway.store.tables import exchanges, labels, pair_scores, score_cells, scores
from gateway.store.where import Node

PREVIEW_CHARACTERS = 240
TOOL_CHARACTERS = 2000
_TOOL_NAME = re.compile(r'(?<!\\)"name":\s*("(?:[^"\\]|\\.)*")')
# Written as in the index, without parameters: SQLite uses a partial index only then.
POOR = (text("scores.value01 < 1"), text("scores.repeat = 0"))
_SUMMARY = (
    "id received alias upstream model variant caller role pair experiment arm outcome status finish_reason tokens "
    "input_tokens output_tokens cost_usd first_token_s total_s pi stream bytes run_id"
)


@dataclass(frozen=True, slots=True)
class CallFilter:
    """The calls to list. None or "" sets no condition."""

    where: Node | None = None
    since: float | None = None
    """Unix seconds."""
    until: float | None = None
    worst_by: str = ""
    """A scorer, by which the worst answers come first; "" means that the newest come first."""
    after: tuple[float, str] | None = None
    """The last call of the previous page: the time, or the value of the score, and the id."""
    limit: int = 50
    texts: bool = False
    """List the question and the beginning of each answer, too."""


@dataclass(frozen=True, slots=True)
class CallPage:
    calls: Sequence[Found]
    """Calls with their `scores`, and `placed`, the time or the value that they are sorted by; without texts but a
    `question`, a `preview` of the answer and the names of its `tools`, if asked for."""
    next: tuple[float, str] | None
    """The `after` of the next page; None if this is the last."""


@dataclass(frozen=True, slots=True)
class FullCall:
    """A call with everything that belongs to it."""

    call: Found
    """The row that query.full_exchange returns."""
    served: Found | None = None
    """The call whose answer was served, for a shadow or a repeat."""
    arms: Sequence[Found] = ()
    """The answers of the shadow arms of a served call, in order."""
    verdicts: Sequence[Found] = ()
    """Pair scores of these arms, or of this arm."""
    labels: Sequence[Found] = ()
    others: Mapping[str, Sequence[Found]] = field(default_factory=dict)
    """The scores of `served` and `arms`, by id."""
    predictions: Sequence[Found] = ()
    """The prediction before the draw, by scorer."""


def list_calls(connection: Reading, filter: CallFilter) -> CallPage:
    """Raises QueryError."""
    wanted = filter.limit + 1
    rows = _worst(connection, filter, wanted) if filter.worst_by else _newest(connection, filter, wanted)
    shown = rows[: filter.limit]
    at = [row[1] for row in shown]
    columns: list[Any] = [exchanges.c[name] for name in _SUMMARY.split()]
    if filter.texts:
        columns += _text_columns()
    found = {row["id"]: row for row in rows_of(connection, select(*columns).where(exchanges.c.id.in_(at)))}
    scored = scores_of(connection, at)
    calls = [
        {**_with_question(found[id]), "scores": scored.get(id, []), "placed": place}
        for place, id in shown
        if id in found
    ]
    return CallPage(calls, (shown[-1][0], shown[-1][1]) if len(rows) > len(shown) else None)


def _text_columns() -> list[Any]:
    """The beginning of the answer, and both ends of the request's body."""
    e = exchanges.c
    request, length = whole_request(), request_size()
    # PostgreSQL has substr(bytea, integer) alone, and lengths are of type bigint.
    from_end = cast(case((length > END_BYTES, length - END_BYTES + 1), else_=1), Integer)
    return [
        func.substr(e.text, 1, PREVIEW_CHARACTERS).label("preview"),
        func.substr(e.tool_calls, 1, TOOL_CHARACTERS).label("tools"),
        func.substr(request, 1, END_BYTES).label("first"),
        func.substr(request, from_end).label("last"),
        length.label("length"),
    ]


def _with_question(row: Found) -> Found:
    """The row with its `question` instead of the ends of its body, if it has them."""
    if "length" not in row:
        return row
    ends = BodyEnds(bytes(row["first"] or b""), bytes(row["last"] or b""), row["length"] or 0)
    kept = {name: value for name, value in row.items() if name not in ("first", "last", "length")}
    return {**kept, "question": question_of(ends), "tools": called_tools(row["tools"])}


def called_tools(text: str) -> tuple[str, ...]:
    """The names of the tools at the beginning of a call's tool calls, each once. text: their JSON, perhaps cut off."""
    return tuple(dict.fromkeys(orjson.loads(name) for name in _TOOL_NAME.findall(text or "")))


def _newest(connection: Reading, filter: CallFilter, wanted: int) -> Sequence[Any]:
    """The times and ids of the newest."""
    e = exchanges.c
    query = select(e.received, e.id).where(*_conditions(connection, filter))
    if filter.after is not None:
        received, id = filter.after
        query = query.where(e.received <= received, or_(e.received < received, e.id < id))
    return connection.execute(query.order_by(e.received.desc(), e.id.desc()).limit(wanted)).all()


def _worst(connection: Reading, filter: CallFilter, wanted: int) -> Sequence[Any]:
    """The values and ids of the worst: by value, and the newest of one value first, as ids are ordered by time.

    A rule gives thousands of answers the same value. These are read separately, in the order of the index; sorting them
    with the others would read all of them for every page.
    """
    s = scores.c
    query = _poor(connection, filter)
    if filter.after is None:
        lowest = connection.execute(select(func.min(s.value01)).where(s.scorer == filter.worst_by, *POOR)).scalar()
        same = query
    else:
        lowest, id = filter.after
        same = query.where(s.exchange_id < id)
    if lowest is None:
        return ()
    same = same.where(s.value01 == lowest).order_by(s.exchange_id.desc())
    found = [*connection.execute(same.limit(wanted)).all()]
    if len(found) < wanted:
        rest = query.where(s.value01 > lowest).order_by(s.value01, s.exchange_id.desc())
        found += connection.execute(rest.limit(wanted - len(found))).all()
    return found


def _poor(connection: Reading, filter: CallFilter) -> Select[Any]:
    s = scores.c
    query = select(s.value01, s.exchange_id).where(s.scorer == filter.worst_by, *POOR)
    if filter.since is not None:
        query = query.where(s.exchange_id >= floor_id(filter.since))
    if filter.until is not None:
        query = query.where(s.exchange_id < floor_id(filter.until))
    if filter.where is not None:
        query = query.join(exchanges, exchanges.c.id == s.exchange_id).where(condition(connection, filter.where))
    return query


def _conditions(connection: Reading, filter: CallFilter) -> list[ColumnElement[bool]]:
    e, found = exchanges.c, list[ColumnElement[bool]]()
    if filter.since is not None:
        found.append(e.received >= filter.since)
    if filter.until is not None:
        found.append(e.received < filter.until)
    if filter.where is not None:
        found.append(condition(connection, filter.where))
    return found


def scorers_with_poor_scores(connection: Reading) -> list[str]:
    """The scorers by which answers can be listed, the worst first."""
    names = connection.execute(select(score_cells.c.scorer).distinct()).scalars()
    # By the least value, which only the index has in order. With EXISTS, PostgreSQL expects a poor score in the first
    # rows of the table, and reads all of them where a scorer has none.
    s = scores.c
    lowest = {name: select(func.min(s.value01)).where(s.scorer == name, *POOR).scalar_subquery() for name in names}
    least = [select(literal(name), value) for name, value in lowest.items()]
    found = connection.execute(union_all(*least)).all() if least else []
    return sorted(name for name, value in found if value is not None)


def full_call(connection: Reading, id: str) -> FullCall | None:
    """The call with everything about it; None if it is not stored."""
    call = full_exchange(connection, id)
    if call is None:
        return None
    pair = call["pair"]
    query = select(*WHOLE_EXCHANGE).where(exchanges.c.id == pair if pair else exchanges.c.pair == id)
    others = rows_of(connection, query.order_by(exchanges.c.id))
    compared = pair_scores.c.exchange_id == id if pair else pair_scores.c.pair == id
    given = or_(labels.c.subject_id == id, labels.c.subject_id.in_([each["id"] for each in others]))
    return FullCall(
        call=call,
        served=others[0] if pair and others else None,
        arms=() if pair else others,
        verdicts=rows_of(connection, select(pair_scores).where(compared).order_by(pair_scores.c.scorer)),
        labels=rows_of(connection, select(labels).where(given).order_by(labels.c.at)),
        others=scores_of(connection, [each["id"] for each in others]),
        predictions=predictions_of(connection, [id]).get(id, ()),
    )
