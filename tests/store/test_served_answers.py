"""Feedback on an exchange, with its time; labels without a value are left out."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Feedback
from gateway.store.query import reading
from gateway.store.served_answers import feedback_given


def test_each_persons_value_is_found_by_name_and_exchange(store: Any, exchange: Any) -> None:
    one, two, other = exchange("1"), exchange("1"), exchange("1")
    store.write(
        one, two, other,
        Feedback(one.id, "a", "web", 5.0, "thumb", 1.0), Feedback(one.id, "b", "web", 6.0, "thumb", 0.0),
        Feedback(one.id, "c", "web", 7.0, "sale", 12.5), Feedback(two.id, "d", "web", 8.0, "thumb", None, "fine"),
        Feedback(other.id, "e", "web", 9.0, "thumb", 1.0),
    )  # fmt: skip
    with reading(store.url) as connection:
        found = feedback_given(connection, [one.id, two.id])
    assert sorted(found["feedback:thumb"].pop(one.id)) == [(5.0, 1.0), (6.0, 0.0)]
    assert found == {"feedback:thumb": {}, "feedback:sale": {one.id: [(7.0, 12.5)]}}
