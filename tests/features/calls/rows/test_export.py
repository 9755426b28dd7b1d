"""All of it, once, in order, batch by batch; on both databases."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Feedback
from gateway.features.calls.rows.export import ExportSource
from gateway.store.engine import StoreUnavailable
from gateway.store.predictions import Prediction, StoredModel, save_model
from gateway.store.query import ExchangeFilter
from gateway.store.where import QueryError, parse


def test_batches_are_in_order_and_hold_no_more_than_fits(store, exchange):
    """Some came at the same moment; one is larger than a batch may be, and comes alone."""
    sent = [exchange("1", received=float(n // 3), request=b"x" * (60_000 if n == 7 else 9_000)) for n in range(12)]
    store.write(*sent)
    source = ExportSource(store.url, ExchangeFilter(), 100.0, most=4, most_bytes=25_000)
    batches = [[e["id"] for e in batch] for batch in source.batches()]
    source.close()
    assert source.count == 12
    assert [i for batch in batches for i in batch] == [e.id for e in sorted(sent, key=lambda e: (e.received, e.id))]
    assert max(map(len, batches)) == 2
    assert [sent[7].id] in batches


def test_exchanges_that_arrive_later_are_left_out(store, exchange):
    store.write(*(exchange("1", received=float(n)) for n in range(6)))
    source = ExportSource(store.url, ExchangeFilter(), 50.0, most=4)
    got = []
    for batch in source.batches():
        store.write(exchange("1", received=99.0))
        got += batch
    source.close()
    assert len(got) == source.count == 6


def test_each_exchange_has_its_scores_and_the_newest_correction(store, exchange):
    one, two = exchange("0.5", received=1.0), exchange("1", received=2.0)
    feedback = [Feedback(one.id, f"f{n}", "web", float(n), f"n{n}", 1.0, correction=f"c{n}") for n in range(2)]
    store.write(one, two, *feedback)
    source = ExportSource(store.url, ExchangeFilter(), 50.0)
    ((first, second),) = source.batches()
    source.close()
    assert (first["correction"], second["correction"]) == ("c1", None)
    assert {s["scorer"]: s["value"] for s in first["scores"]} == {"stated": 0.5, "feedback:n0": 1.0, "feedback:n1": 1.0}
    assert source.scorers == ["feedback:n0", "feedback:n1", "stated"]


def test_each_exchange_has_what_was_predicted_for_it(store, exchange):
    one, two, plain = exchange("0.5", received=1.0), exchange("1", received=2.0), exchange("1", received=3.0)
    store.predictions = {
        one.id: Prediction("stated", "v1", 0.75, 0.04, 0.5, True, "f1", b"1234"),
        two.id: Prediction("stated", "", None, None, 0.25, False, "f1", b"1234"),
    }
    store.write(one, two, plain)
    model = StoredModel("v1", "labels:stated", 1.0, 1.0, 2.0, 50, "{}", {}, ("a",))
    store.run(lambda c: save_model(c, model))
    source = ExportSource(store.url, ExchangeFilter(), 50.0)
    found = [e["predictions"] for batch in source.batches() for e in batch]
    source.close()
    guided = {"scorer": "stated", "target": "labels:stated", "version": "v1", "predicted": 0.75, "pi": 0.5}
    assert found == [
        [{**guided, "judged": True}],
        [{"scorer": "stated", "target": None, "version": "", "predicted": None, "pi": 0.25, "judged": False}],
        [],
    ]


def test_a_filter_narrows_the_export(store, exchange):
    store.write(*(exchange(text, received=float(n)) for n, text in enumerate(("0", "1", "0.5"))))
    source = ExportSource(store.url, ExchangeFilter(since=1.0, where=parse("scorer=stated value<1")), 50.0)
    assert [e["text"] for batch in source.batches() for e in batch] == ["0.5"]
    source.close()


def test_an_invalid_filter_fails_at_once(store, exchange, tmp_path):
    store.write(exchange())
    with pytest.raises(QueryError, match="did you mean"):
        ExportSource(store.url, ExchangeFilter(where=parse("scorer=statd")), 50.0)
    with pytest.raises(StoreUnavailable):
        ExportSource(f"sqlite:///{tmp_path / 'none.db'}", ExchangeFilter(), 50.0)
