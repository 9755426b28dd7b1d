"""Any interleaving, duplication and delay of deliveries gives the same store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from gateway.core.exchange import Exchange, Feedback, Tally
from gateway.store import ledger, loss_accounting, score_sums
from gateway.store import write as writing
from gateway.store.ledger import position
from gateway.store.tables import metadata
from gateway.store.write import ScoredBatch
from gateway.stream.types import ShardSnapshot, TrimmedEntries, order, shard_of

# When something was stored is not what was stored; and which exchanges close their weights together depends on when one
# looks (cells.close_weights): their sums over all time do not.
WHEN = {"stored", "created", "weighted_sum", "weight", "spent", "spent_scored", "spent_not_applicable",
        "spent_samples", "spent_total", "spent_population", "open_sizes", "open_products", "open_squares",
        "closed_sizes", "closed_products", "closed_squares"}  # fmt: skip
APART = {"counters", "stream_nodes"}  # how often something came again, and what was looked at last


@dataclass(frozen=True)
class Delivered:
    """A record with its place in the stream."""

    id: str
    record: Exchange | Tally | Feedback


class Stream:
    """Entries that two gateways appended to two shards. Some of them are lost: they never come."""

    def __init__(self, exchange, tally) -> None:
        self.entries: list[Delivered] = []
        for shard, gateway in enumerate(("g1", "g2")):
            sent = [exchange(("0", "0.5", "1", "n/a", "error")[i % 5], incarnation=gateway) for i in range(9)]
            sent[7] = replace(sent[7], experiment="swap", plan="p", arm="control", asked=("candidate",))
            sent[8] = replace(sent[8], experiment="swap", plan="p", arm="candidate", role="shadow", pair=sent[7].id)
            feedback = [Feedback(sent[2].id, f"{gateway}-f", "web", at, "thumb", value=at) for at in (1.0, 2.0)]
            lost = {sent[4].id, sent[5].id} if shard else {sent[1].id}
            records: list[Any] = [
                sent[0],
                tally(sent[:1]),
                *sent[1:3],
                feedback[1],
                tally(sent[:3]),
                *sent[3:6],
                feedback[0],
            ]
            records += [tally(sent[:6]), sent[6], sent[7], sent[8], tally(sent, final=True)]
            for at, record in enumerate(records, start=1):
                if not (isinstance(record, Exchange) and record.id in lost):
                    self.entries.append(Delivered(f"{at * 10 + shard}-0@{shard}", record))

    def settled(self, came: set[str]) -> dict[int, ShardSnapshot]:
        """State of each shard when these have been stored and acknowledged. The first one was trimmed once."""
        looks = {}
        for shard, trimmed in ((0, TrimmedEntries(1, "30-0")), (1, TrimmedEntries())):
            open_ = [e.id for e in self.entries if shard_of(e.id) == shard and e.id not in came]
            mark = min(open_, key=order, default="900-0").partition("@")[0]
            looks[shard] = ShardSnapshot(mark, "a", 1000, 1000, trimmed)
        return looks


class Reader:
    """A consumer without its program: stores what it is given, and ticks."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.came: set[str] = set()

    def empty(self) -> None:
        def every(connection: Any) -> None:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

        self.store.run(every)

    def write(self, entries: list[Delivered]) -> None:
        judged = [
            replace(self.store.judged(e.record), position=position(e.id))
            for e in entries
            if isinstance(e.record, Exchange)
        ]
        tallies = [(e.id, e.record) for e in entries if isinstance(e.record, Tally)]
        feedback = [e.record for e in entries if isinstance(e.record, Feedback)]
        self.store.run(lambda c: writing.write(c, ScoredBatch(self.store.scorers, judged, tallies, feedback), 1.0))
        self.came |= {e.id for e in entries}

    def tick(self, stream: Stream) -> int:
        looks = stream.settled(self.came)

        def closing(connection: Any) -> int:
            loss_accounting.add_incidents(connection, looks)
            unaccounted = ledger.close_marks(connection, {shard: look.settled for shard, look in looks.items()})
            score_sums.close_weights(connection)
            return unaccounted

        return self.store.run(closing)

    def dump(self) -> dict[str, Any]:
        def read(connection: Any) -> dict[str, Any]:
            found = {}
            for table in metadata.sorted_tables:
                columns = [c for c in table.columns if c.name not in WHEN]
                if table.name not in APART:
                    found[table.name] = sorted(map(repr, connection.execute(select(*columns)).all()))
            return found

        return self.store.run(read)


@pytest.fixture
def reader(file_store) -> Reader:
    """A reader on a store that waits for no disk: some ten thousand transactions."""
    raw = file_store.engine.raw_connection()
    raw.cursor().execute("PRAGMA synchronous=OFF")
    raw.close()
    return Reader(file_store)


@pytest.fixture
def expected(reader, stream) -> dict[str, Any]:
    """Everything that the store reads after each entry was delivered once, in order."""
    return in_order(reader, stream)


@pytest.fixture
def stream(exchange, tally) -> Stream:
    """The entries of several gateway processes."""
    return Stream(exchange, tally)


N = 27  # entries that come


def in_order(reader: Reader, stream: Stream) -> dict[str, Any]:
    reader.empty()
    reader.came = set()
    for entry in stream.entries:
        reader.write([entry])
        reader.tick(stream)
    reader.tick(stream)
    return reader.dump()


def test_the_undisturbed_store_holds_what_it_should(reader, stream):
    assert len(stream.entries) == N
    found = in_order(reader, stream)
    assert len(found["exchanges"]) == 15
    assert reader.store.run(loss_accounting.lost_by_reason)["trimmed"] == 1
    assert reader.store.run(loss_accounting.unaccounted) == 2, "what the other shard lost has no cause"
    assert len(found["pairs"]) == 2
    assert found["marks"] == []


batches = st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=5), max_size=12)


@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(batches=batches, rest=st.permutations(range(N)), at_once=st.integers(1, N), ticks=st.integers(1, 4))
def test_any_order_of_deliveries_gives_the_same_store(reader, stream, expected, batches, rest, at_once, ticks):
    """batches: what comes first, some of it again; rest: all of it, in any order, this number at once."""
    reader.empty()
    reader.came = set()
    order_of = [*batches, *(rest[i : i + at_once] for i in range(0, N, at_once))]
    for n, batch in enumerate(order_of):
        reader.write([stream.entries[i] for i in batch])
        if n % ticks == 0:
            assert reader.tick(stream) <= 2, "what is under way is never taken for lost"
    reader.tick(stream)
    assert reader.dump() == expected
