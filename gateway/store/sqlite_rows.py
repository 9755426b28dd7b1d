"""Rows of `scores` as statements and parameters for SQLite. Pure.

One statement inserts all scores of an exchange. To bind a value takes longer than to store it, so only what differs
between exchanges is bound: who scored, with what outcome, and what is NULL stand in the statement. Exchanges whose
scores differ in nothing else share a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.score import ConfiguredScorer, Score, ScoreResult, ScorerInfo
from gateway.store.rows import (
    Row,
    ScoredExchange,
    ScoreIds,
    paid_values,
    plain_text,
    score_values,
    scorer_values,
    shared_values,
)
from gateway.store.tables import scores

NAN = float("nan")
"""The value to bind for None. SQLite stores NaN as NULL (its docs, "Floating point numbers"); Python's driver binds a
float at once, and for None first asks all adapters, which takes longer than to bind six texts."""
MAX_SCORES = 40  # in one statement: SQLite before 3.32 takes 999 parameters

_COLUMNS = (
    "exchange_id", "subject", "experiment", "plan", "arm", "repeat", "data_type", "stratum", "answered", "created",
    "pi", "score_id", "seconds", "scorer", "version", "config_hash", "kind", "direction", "status", "explanation",
    "cost_usd", "judge_model", "tokens", "value", "label", "value01", "detail", "standard_error", "distribution",
)  # fmt: skip
# Only parameters that rows share have numbers: the driver asks for the name of every parameter, and SQLite looks for
# it among all that have one. An anonymous one has the number after the highest before it, so ?11 comes first.
_SHARED = ", ".join([f"?{i}" for i in range(1, 11)])
_INSERT = f"INSERT INTO {scores.name} ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 - our own words
_UNPAID, _UNSCORED = (None,) * 3, (None,) * 6

_Made = tuple[str, Row, Score | None]
"""A row of a statement, the values of the last of its own parameters, and what must be held so that its id() is not
used again."""


class SqliteScores:
    """Builds statements, and rows of parameters for them. What was made of an equal outcome is made once."""

    def __init__(self, scorers: Mapping[str, ConfiguredScorer]) -> None:
        self._scorers = scorers
        self._ids = ScoreIds()
        self._made: dict[Row, _Made] = {}
        self._texts: dict[Row, str] = {}  # of rows, by what stands in them

    def statements(self, judged: Iterable[ScoredExchange], now: float) -> list[tuple[str, list[Row], int]]:
        """(SQL, rows of parameters, scores that each inserts), in any order."""
        found: dict[tuple[str, ...], list[Row]] = {}
        for each in judged:
            shared = [NAN if value is None else value for value in (*shared_values(each, now), each.exchange.pi)]
            ids = self._ids.of(each)
            for at in range(0, len(ids), MAX_SCORES):
                rows, values = self._rows(each.results[at : at + MAX_SCORES], ids[at : at + MAX_SCORES])
                found.setdefault(tuple(rows), []).append((*shared, *values))
        return [(f"{_INSERT}{', '.join(rows)} ON CONFLICT DO NOTHING", each, len(rows)) for rows, each in found.items()]

    def _rows(self, results: Iterable[ScoreResult], ids: Iterable[str]) -> tuple[list[str], list[Any]]:
        known, rows, values = self._made, list[str](), list[Any]()
        for r, score_id in zip(results, ids, strict=True):
            name, version, config_hash, status, score, why, seconds, seen, spent = r
            key = name, version, config_hash, status, why, seen == 1, id(score)
            made = known.get(key) if spent is None else self._row(r)
            if made is None:
                made = known[key] = self._row(r)
            row, own, _ = made
            rows.append(row)
            values += (score_id, seconds, *own) if seen == 1 else (seen, score_id, seconds, *own)
        return rows, values

    def _row(self, r: ScoreResult) -> _Made:
        scorer = self._scorers[r.scorer].scorer
        paid = _UNPAID if r.spent is None else paid_values(r.spent)
        scored = _UNSCORED if r.score is None else score_values(r.score, scorer)
        own = (plain_text(r.explanation), *paid, *scored)
        key = (*r[:4], r.pi == 1, *[value is None for value in own])
        row = self._texts.get(key) or self._texts.setdefault(key, _row_text(r, scorer, own))
        return row, tuple([value for value in own if value is not None]), r.score


def _row_text(r: ScoreResult, scorer: ScorerInfo, own: Row) -> str:
    pi = "?11" if r.pi == 1 else "?11 * ?"  # SQLite multiplies as Python does
    stated = [_quoted(value) for value in (*scorer_values(scorer, *r[:3]), r.status)]
    return f"({', '.join([_SHARED, pi, '?, ?', *stated, *('NULL' if value is None else '?' for value in own)])})"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
