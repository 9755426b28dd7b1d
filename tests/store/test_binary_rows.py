"""Rows in COPY's binary format: what PostgreSQL makes of them, test_bulk_insert.py shows."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, Text

from gateway.store.binary_rows import BinaryScores, RowEncoder

COLUMNS = [Column(str(i), of) for i, of in enumerate((Text, LargeBinary, Double, BigInteger, Integer, Boolean))]


def test_a_value_is_its_size_and_its_bytes() -> None:
    encoded = RowEncoder(COLUMNS).values(("é", b"\0", 1.0, -2, 3, True))
    text, data, double = b"\0\0\0\2\xc3\xa9", b"\0\0\0\1\0", b"\0\0\0\x08\x3f\xf0\0\0\0\0\0\0"
    numbers = b"\0\0\0\x08" + 7 * b"\xff" + b"\xfe" + b"\0\0\0\4\0\0\0\3"
    assert encoded == text + data + double + numbers + b"\0\0\0\1\1"


def test_nothing_has_a_size_below_zero() -> None:
    assert RowEncoder(COLUMNS[:2]).values((None, None)) == 8 * b"\xff"


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [(3, 2**63, OverflowError), (4, 2**31, OverflowError), (0, 1, TypeError), (1, "x", TypeError),
     (2, "x", OverflowError), (0, "\ud800", UnicodeError)],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(column: int, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        RowEncoder([COLUMNS[column]]).values((value,))


def test_what_scores_share_is_encoded_once_and_the_same(store, exchange, stated_scorer) -> None:
    store.scorers = {name: stated_scorer(name=name) for name in ("stated", "other")}
    several = [store.judged(exchange(text)) for text in ("0.5", "n/a", "0.5", "1")]
    together = BinaryScores(store.scorers)
    assert [together.rows(j, 1.0) for j in several] == [BinaryScores(store.scorers).rows(j, 1.0) for j in several]
