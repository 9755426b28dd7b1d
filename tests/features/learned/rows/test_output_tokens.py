"""The calls that reservations are learned from."""

from __future__ import annotations

from gateway.core.exchange import Usage
from gateway.features.learned.rows.output_tokens import call_outputs


def test_only_whole_answers_count_the_newest_first(store, exchange):
    """With the upstream's count of tokens, for one answer, and with a request that is recorded."""
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
