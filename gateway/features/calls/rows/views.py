"""The views `answers` and `pairs_wide`, and their queries for notebooks. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, TableClause, column, select, table, text

from gateway.core.chunked import chunked
from gateway.store.query import ExchangeFilter, Found, conditions, rows_of
from gateway.store.run_chunks import whole_request
from gateway.store.tables import exchanges, plans, scores

_CHUNK = 500


def _view(name: str, columns: str) -> TableClause:
    return table(name, *(column(each) for each in columns.split()))


answers = _view(
    "answers",
    "id served_id received alias upstream model variant target caller api role experiment plan arm cluster outcome "
    "status finish_reason text reasoning tool_calls reference input_tokens output_tokens cached_input_tokens "
    "reasoning_tokens cost_usd first_token_s total_s stratum pi weight",
)
pairs_wide = _view(
    "pairs_wide",
    "pair experiment plan arm role received cluster place state control_id arm_id control_text arm_text reference "
    "control_outcome arm_outcome control_total_s arm_total_s control_cost_usd arm_cost_usd control_output_tokens "
    "arm_output_tokens pi scorer version config_hash control_status arm_status control_value arm_value preference "
    "compares",
)
_OF_SCORE = (
    "exchange_id scorer version config_hash kind direction status value value01 label explanation standard_error "
    "cost_usd judge_model tokens pi created"
)


def answer_rows(connection: Connection, filter: ExchangeFilter) -> list[Found]:
    """Rows of `answers` and the bytes of `request`, oldest first. filter.limit: 0: all. Raises QueryError."""
    query = (
        select(answers, whole_request())
        .join(exchanges, exchanges.c.id == answers.c.id)
        .where(*conditions(connection, filter))
        .order_by(exchanges.c.received, exchanges.c.id)
    )
    return rows_of(connection, query.limit(filter.limit) if filter.limit else query)


def score_rows(connection: Connection, ids: Sequence[str] | None, scorers: Sequence[str] = ()) -> list[Found]:
    """Every score of these exchanges, oldest first; None: of all that are stored. scorers: only these; (): all."""
    columns = [scores.c[name] for name in _OF_SCORE.split()]
    of = [scores.c.scorer.in_(scorers)] if scorers else []
    query = select(*columns).where(*of).order_by(scores.c.created, scores.c.exchange_id, scores.c.scorer)
    if ids is None:
        return rows_of(connection, query.where(scores.c.exchange_id.in_(select(exchanges.c.id))))
    chunks = (rows_of(connection, query.where(scores.c.exchange_id.in_(chunk))) for chunk in chunked(ids, _CHUNK))
    return [row for rows in chunks for row in rows]


def pair_rows(connection: Connection, experiment: str, plan: str | None) -> list[Found]:
    """Rows of `pairs_wide`, in order of arrival: one for each pair, arm and scorer. plan: None: of every plan."""
    p = pairs_wide.c
    of = [p.experiment == experiment, *([p.plan == plan] if plan is not None else [])]
    return rows_of(connection, select(pairs_wide).where(*of).order_by(p.received, p.pair, p.arm, p.scorer))


def plans_of(connection: Connection, experiment: str) -> list[str]:
    """The hashes of the experiment's plans, the newest first."""
    query = select(plans.c.plan).where(plans.c.experiment == experiment).order_by(plans.c.first_seen.desc())
    return [str(plan) for plan in connection.execute(query).scalars()]


def requests_of(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yields the ids and bodies of these exchanges."""
    e = exchanges.c
    for chunk in chunked(ids, _CHUNK):
        for found, body in connection.execute(select(e.id, whole_request()).where(e.id.in_(chunk))):
            yield found, bytes(body)


def own_rows(
    connection: Connection, query: str, parameters: Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Runs a query of the reader's own, with :name for parameters. Returns (columns, rows)."""
    found = connection.execute(text(query), dict(parameters))
    return list(found.keys()), [tuple(row) for row in found]
