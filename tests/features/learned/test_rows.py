"""The SQL of the predictor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Usage
from gateway.features.learned.rows import (
    DAY_S,
    aliases_predicted,
    call_outputs,
    load_state,
    newest_rows,
    rows_after,
    save_state,
    saved_states,
)
from gateway.store.predictions import Prediction

Make = Callable[..., Exchange]
T0 = 1_700_000_000.0


@pytest.fixture
def filled(store: Any, exchange: Make) -> Any:
    """Three exchanges of "chat", a second apart; the second was not judged, and the third does not apply."""
    sent = [exchange(text, received=T0 + i) for i, text in enumerate(("0.5", "1", "n/a"))]
    for each, judged in zip(sent, (True, False, True), strict=True):
        store.predictions[each.id] = Prediction("stated", "v1", 0.5, 0.1, 0.2, judged, "f1", b"\0" * 8)
    store.write(*reversed(sent))
    return store


def test_rows_come_in_order_with_the_value_where_there_is_one(filled: Any) -> None:
    rows = filled.run(lambda c: rows_after(c, "stated", "chat", T0 - 1, T0 + 2))
    assert [(r.received - T0, r.value, r.version) for r in rows] == [(0, 0.5, "1 c1"), (1, None, ""), (2, None, "")]
    assert {(r.pi, r.feature_set, r.features) for r in rows} == {(0.2, "f1", b"\0" * 8)}
    assert len(filled.run(lambda c: rows_after(c, "stated", "chat", T0, T0 + 1))) == 1


def test_the_newest_come_oldest_first_and_may_be_only_the_judged(filled: Any) -> None:
    newest = filled.run(lambda c: newest_rows(c, "stated", "chat", (0.0, T0 + 9), 2))
    judged = filled.run(lambda c: newest_rows(c, "stated", "chat", (0.0, T0 + 9), 2, judged=True))
    assert [r.received - T0 for r in newest] == [1, 2]
    assert [r.received - T0 for r in judged] == [0]


def test_names_of_the_last_day(filled: Any) -> None:
    assert filled.run(lambda c: aliases_predicted(c, "stated", T0 + 9)) == ["chat"]
    assert filled.run(lambda c: aliases_predicted(c, "stated", T0 + DAY_S + 9)) == []
    assert filled.run(lambda c: aliases_predicted(c, "other", T0 + 9)) == []


def test_a_state_replaces_the_previous_one(store: Any) -> None:
    assert store.run(lambda c: load_state(c, "stated", "chat")) is None
    for text in ("{}", '{"at": 1}'):
        store.run(lambda c, text=text: save_state(c, "stated", "chat", text, 1.0))
    assert store.run(lambda c: load_state(c, "stated", "chat")) == '{"at": 1}'
    assert store.run(lambda c: saved_states(c, "stated")) == {"chat": '{"at": 1}'}


def test_only_whole_answers_count_the_newest_first(store, exchange):
    """An answer counts with the upstream's count of tokens, for one answer, and with a request that is recorded."""
    answers = [exchange(received=at, pi=0.5, usage=Usage(3, 5)) for at in (10.0, 30.0, 20.0)]
    others = [
        exchange(received=40.0, outcome="cut"), exchange(received=40.0, role="shadow"), exchange(received=1.0),
        exchange(received=40.0, request=b"{}"),
        exchange(received=40.0, truncated=True),
    ]  # fmt: skip
    store.write(*answers, *others)
    found = store.run(lambda c: list(call_outputs(c, 5.0, 2)))
    assert [(f.alias, f.tokens, f.weight, f.stream) for f in found] == [("chat", 5.0, 2.0, False)] * 2
    assert len(store.run(lambda c: list(call_outputs(c, 5.0, 10)))) == 3
