"""The views `answers` and `pairs_wide`, and what a notebook reads of them. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, TableClause, column, select, table, text

from gateway.core.chunked import chunked
from gateway.store.query import ExchangeFilter, conditions
from gateway.store.tables import exchanges, plans, scores

Row = dict[str, Any]
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
    "exchange_id", "scorer", "version", "config_hash", "kind", "direction", "status", "value", "value01", "label",
    "explanation", "standard_error", "cost_usd", "judge_model", "tokens", "pi", "created",
)  # fmt: skip


def answer_rows(connection: Connection, filter: ExchangeFilter) -> list[Row]:
    """Rows of `answers` and the bytes of `request`, oldest first. filter.limit: 0: all. Raises QueryError."""
    query = (
        select(answers, exchanges.c.request)
        .join(exchanges, exchanges.c.id == answers.c.id)
        .where(*conditions(connection, filter))
        .order_by(exchanges.c.received, exchanges.c.id)
    )
    query = query.limit(filter.limit) if filter.limit else query
    return _plain(connection, query)


def score_rows(connection: Connection, ids: Sequence[str] | None, scorers: Sequence[str] = ()) -> list[Row]:
    """Every score of these exchanges, oldest first; None: of all that are stored. scorers: only these; (): all."""
    columns = [scores.c[name] for name in _OF_SCORE]
    of = [scores.c.scorer.in_(scorers)] if scorers else []
    query = select(*columns).where(*of).order_by(scores.c.created, scores.c.exchange_id, scores.c.scorer)
    if ids is None:
        return _plain(connection, query.where(scores.c.exchange_id.in_(select(exchanges.c.id))))
    return [
        row
        for chunk in chunked(ids, _CHUNK)
        for row in _plain(connection, query.where(scores.c.exchange_id.in_(chunk)))
    ]


def pair_rows(connection: Connection, experiment: str, plan: str | None) -> list[Row]:
    """Rows of `pairs_wide`, in order of arrival: one for each pair, arm and scorer. plan: None: of every plan."""
    p = pairs_wide.c
    of = [p.experiment == experiment, *([p.plan == plan] if plan is not None else [])]
    return _plain(connection, select(pairs_wide).where(*of).order_by(p.received, p.pair, p.arm, p.scorer))


def plans_of(connection: Connection, experiment: str) -> list[str]:
    """The hashes of the experiment's plans, the newest first."""
    query = select(plans.c.plan).where(plans.c.experiment == experiment).order_by(plans.c.first_seen.desc())
    return [str(plan) for plan in connection.execute(query).scalars()]


def experiments_of(connection: Connection) -> list[str]:
    return [str(name) for name in connection.execute(select(plans.c.experiment).distinct()).scalars()]


def requests_of(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(id, body) of these exchanges."""
    e = exchanges.c
    for chunk in chunked(ids, _CHUNK):
        for found, body in connection.execute(select(e.id, e.request).where(e.id.in_(chunk))):
            yield found, bytes(body)


def own_rows(
    connection: Connection, query: str, parameters: Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(columns, rows) of a query of the reader's own, with :name for parameters. The connection only reads."""
    found = connection.execute(text(query), dict(parameters))
    return list(found.keys()), [tuple(row) for row in found]


def _plain(connection: Connection, query: Any) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in connection.execute(query).mappings()]
