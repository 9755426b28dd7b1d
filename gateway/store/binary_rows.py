"""Rows in the format of PostgreSQL's COPY (its docs, "COPY", section "Binary Format"). Pure.

A value is its size as a 32-bit number and its bytes; a row is the number of its values and the values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, Table, Text

from gateway.core.score import ConfiguredScorer, Score
from gateway.store.rows import (
    OWN,
    SHARED,
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

START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
Encode = Callable[[Any], bytes]

_size, _double, _bigint, _integer = (struct.Struct(f"!i{of}").pack for of in ("", "d", "q", "i"))
_two_doubles = struct.Struct("!idid").pack
_count = struct.Struct("!h").pack


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _size(len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    return _size(len(value)) + value


_ENCODERS: Mapping[type, Encode] = {
    Text: _text,
    LargeBinary: _bytes,
    Double: lambda value: _double(8, value),
    BigInteger: lambda value: _bigint(8, value),
    Integer: lambda value: _integer(4, value),
    Boolean: lambda value: b"\0\0\0\1\1" if value else b"\0\0\0\1\0",
}


class RowEncoder:
    """Encodes rows of some columns of a table."""

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        self._encoders = tuple([_ENCODERS[type(c.type)] for c in columns])

    def values(self, row: Row) -> bytes:
        """Without the number of values. Raises OverflowError, TypeError and UnicodeError for a value that its column
        cannot hold."""
        try:
            return b"".join(
                [NULL if value is None else encode(value) for encode, value in zip(self._encoders, row, strict=True)]
            )
        except struct.error as error:
            raise OverflowError(f"a number is not of its column's type: {error}") from error
        except AttributeError as error:
            raise TypeError(f"a value is not text: {error}") from error


def encoded_rows(table: Table, rows: Iterable[Row]) -> bytes:
    """Whole rows of a table."""
    encoder, count = RowEncoder(list(table.columns)), _count(len(table.columns))
    return b"".join([part for row in rows for part in (count, encoder.values(row))])


def _columns(*names: str) -> RowEncoder:
    return RowEncoder([scores.columns[name] for name in names])


_COUNT = _count(len((*SHARED, *OWN)))
_PLACE = _columns("subject", "experiment", "plan", "arm", "repeat", "data_type", "stratum")
_SCORER = _columns("scorer", "version", "config_hash", "kind", "direction")
_OUTCOME = _columns("status", "explanation")
_PAID = _columns("cost_usd", "judge_model", "tokens")
_SCORE = _columns("value", "label", "value01", "detail", "standard_error", "distribution")
_UNPAID, _UNSCORED = 3 * NULL, 6 * NULL
_ID = _size(36)


class BinaryScores:
    """Builds rows of `scores`, with the columns of SHARED and OWN in order. What rows of several exchanges or of one
    scorer share, and what was made of an equal Score or outcome, is encoded once."""

    def __init__(self, scorers: Mapping[str, ConfiguredScorer]) -> None:
        self._scorers = scorers
        self._ids = ScoreIds()
        self._places: dict[Row, bytes] = {}
        self._of_scorer: dict[tuple[str, ...], bytes] = {}
        self._outcomes: dict[tuple[str, str | None], bytes] = {}
        self._scores: dict[tuple[str, int], tuple[Score, bytes]] = {}  # by scorer and id(); holding it keeps the id

    def rows(self, judged: ScoredExchange, now: float) -> bytes:
        """All scores of an exchange. Raises as RowEncoder.values()."""
        start, pi = self._start(shared_values(judged, now)), judged.exchange.pi
        known, outcomes, parts = self._of_scorer, self._outcomes, list[bytes]()
        for r, score_id in zip(judged.results, self._ids.of(judged), strict=True):
            name, version, config_hash, status, score, why, seconds, seen, spent = r
            scorer, outcome = (name, version, config_hash), (status, why)
            parts += (
                start, score_id.encode(), known.get(scorer) or self._scorer(scorer),
                outcomes.get(outcome) or self._outcome(outcome), _two_doubles(8, pi * seen, 8, seconds),
                _UNPAID if spent is None else _PAID.values(paid_values(spent)),
                _UNSCORED if score is None else self._score(name, score),
            )  # fmt: skip
        return b"".join(parts)

    def _start(self, shared: Row) -> bytes:
        """What every row of an exchange begins with, up to the size of its score's id."""
        exchange_id, *of_place, received, now = shared
        place = tuple(of_place)
        made = self._places.get(place) or self._places.setdefault(place, _PLACE.values(place))
        return b"".join((_COUNT, _text(exchange_id), made, _two_doubles(8, received, 8, now), _ID))

    def _scorer(self, key: tuple[str, str, str]) -> bytes:
        made = self._of_scorer[key] = _SCORER.values(scorer_values(self._scorers[key[0]].scorer, *key))
        return made

    def _outcome(self, outcome: tuple[str, str | None]) -> bytes:
        made = self._outcomes[outcome] = _OUTCOME.values((outcome[0], plain_text(outcome[1])))
        return made

    def _score(self, scorer: str, score: Score) -> bytes:
        key = scorer, id(score)
        known = self._scores.get(key)
        if known is None:
            known = self._scores[key] = score, _SCORE.values(score_values(score, self._scorers[scorer].scorer))
        return known[1]
