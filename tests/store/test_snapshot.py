from __future__ import annotations

from gateway.store.snapshot import StoreSnapshot


def test_an_empty_store_has_empty_sums(store):
    assert store.snapshot() == StoreSnapshot((), {}, 0, 0, lost={"stream_lost": 0, "trimmed": 0, "gateway_lost": 0})


def test_all_sums_are_there(store, exchange, tally):
    sent = [exchange("1"), exchange("0")]
    store.write(*sent, sent[0], tally([*sent, exchange()]))
    store.dead_letter(None, "unreadable")
    store.close()
    found = store.snapshot()
    assert (found.duplicates, found.unaccounted, dict(found.dead_letters)) == (1, 1, {"unreadable": 1})
    (cell,) = found.cells
    assert (cell.key.scorer, cell.key.stratum, cell.population, cell.weight) == ("stated", "default", 3, 3.0)
    assert [at for at, weight in enumerate(cell.bucket_weights) if weight] == [0, 10]
