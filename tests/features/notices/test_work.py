"""Each cause gives people one message, repeated after failures, and combined with others above a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config.notify import NotifyTarget
from gateway.core.errors import StreamDown
from gateway.core.notice import Notice, Severity, Subject
from gateway.features.notices.receivers import receiver_of
from gateway.features.notices.rows import count_deliveries, held_back, receivers_in_trouble
from gateway.features.notices.sender import GATHER_S, HOUR_S, RETRY_S
from gateway.features.notices.work import DOWN_S, FIND_S, KEEP_S, NoticeSender, NotifyReceiver
from gateway.features.task import TaskWorker
from gateway.scoring.http_client import HttpConnections
from gateway.store.store import Store, StoreDown
from gateway.stream import Corridor


def a_notice(n: int = 0, subject: Subject = "budget", severity: Severity = "warning") -> Notice:
    return Notice(f"cause-{n}", subject, f"title {n}", f"text {n}", 1000.0, "/console", severity)


@dataclass
class Source:
    """Finds what a test says."""

    notices: list[Notice] = field(default_factory=list)
    everywhere: bool = False
    down: bool = False
    looks: int = 0

    async def look(self, now: float) -> Sequence[Notice]:
        self.looks += 1
        if self.down:
            raise StreamDown("the stream server is away")
        return self.notices


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class BrokenStore:
    """A store that cannot be reached."""

    async def run(self, work: Any) -> Any:
        raise StoreDown("store: OperationalError: connection refused")

    look = run


class FullStore:
    """A store whose disk is full until a test frees it."""

    def __init__(self, store: Store) -> None:
        self._store, self.full = store, True

    async def run(self, work: Any) -> Any:
        if self.full:
            raise StoreDown("store: OperationalError: database or disk is full")
        return await self._store.run(work)

    look = run


Sending = Callable[..., NoticeSender]


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def source() -> Source:
    """A source of notices, empty at first."""
    return Source()


@pytest.fixture
async def told(place_store: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    async with Store(place_store(tmp_path / "gateway.db")) as store:
        yield store


@pytest.fixture
async def sending(
    told: Store, receiver: Any, clock: Clock, source: Source, stream_url: str, stream_name: str
) -> AsyncIterator[Sending]:
    """Makes senders to one receiver of Slack's form."""
    corridor = Corridor(stream_url, stream_name)
    async with HttpConnections() as connections:

        def make(name: str = "c1", store: Any = told, more: Sequence[Source] = (), **fields: Any) -> NoticeSender:
            target = NotifyTarget(**{"kind": "slack", "url": receiver.url, **fields})
            receivers = {"ops": NotifyReceiver(target, receiver_of(target, connections, ""))}
            return NoticeSender(TaskWorker(store, name, clock), corridor.state, [*more, source], receivers)

        yield make
    await corridor.aclose()


def texts(receiver: Any) -> list[str]:
    return [each.body["text"] for each in receiver.got]


async def test_one_cause_is_one_message_whoever_finds_it(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    source.notices, source.everywhere = [a_notice()], True
    one, other = sending("c1"), sending("c2")
    for _ in range(3):
        await asyncio.gather(one.look(), other.look())
        clock.now += FIND_S
    assert len(receiver.got) == 1
    clock.now += 100  # the first one is dead
    source.notices.append(a_notice(1))
    await other.look()
    assert len(receiver.got) == 2


async def test_a_receiver_gets_the_subjects_it_wants(sending: Sending, source: Source, receiver: Any) -> None:
    source.notices = [a_notice(0, "budget"), a_notice(1, "ramp"), a_notice(2, "verdict")]
    await sending(on=("ramp", "verdict")).look()
    assert sorted(text.split("\n")[1] for text in texts(receiver)) == ["text 1", "text 2"]


async def test_failures_are_repeated_within_a_bound_and_then_visible(
    sending: Sending, source: Source, receiver: Any, clock: Clock, told: Store
) -> None:
    """A target that is down, slow or redirects: a dead letter in the end, which `gateway status` reports."""
    source.notices = [a_notice()]
    receiver.answers = [500, 301, 404] + [503] * 99
    sender = sending()
    for n, wait_s in enumerate((*RETRY_S, 1e6)):
        await sender.look()
        (trouble,) = await told.look(lambda c: receivers_in_trouble(c, 0.0))
        assert (trouble.dead, trouble.failing) == ((0, 1) if n < len(RETRY_S) else (1, 0))
        clock.now += wait_s
    await sender.look()
    assert len(receiver.got) == len(RETRY_S) + 1
    (trouble,) = await told.look(lambda c: receivers_in_trouble(c, 0.0))
    assert (trouble.webhook, trouble.error) == ("notify ops", "HTTP 503")


async def test_notices_above_the_rate_are_gathered_and_not_lost(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    source.notices = [a_notice(n) for n in range(100)]
    sender = sending(per_hour=4)
    for _ in range(10):
        await sender.look()
        clock.now += FIND_S
    assert len(receiver.got) == 4
    gathered = max(texts(receiver), key=len)
    assert gathered.count("title") == 20
    assert gathered.endswith("and 77 more")
    source.notices = [a_notice(n) for n in range(100, 103)]
    await sender.look()
    assert len(receiver.got) == 4, "the hour is not over"
    clock.now += 3600
    await sender.look()
    assert len(receiver.got) == 7


async def test_messages_are_kept_longer_than_a_window(
    sending: Sending, source: Source, receiver: Any, clock: Clock, told: Store
) -> None:
    source.notices = [a_notice()]
    sender = sending()
    await sender.look()
    clock.now += 31 * 86_400
    await sender.look()
    assert len(receiver.got) == 1, "the same cause a month later is not said again"
    source.notices = []
    clock.now += KEEP_S
    await sender.look()
    assert await told.look(count_deliveries) == {}


async def test_an_unreachable_store_is_told_once_by_one_consumer(sending: Sending, receiver: Any, clock: Clock) -> None:
    consumers = [sending(f"c{n}", BrokenStore()) for n in range(3)]
    for _ in range(4):
        for each in consumers:
            with pytest.raises(StoreDown):
                await each.look()
        clock.now += DOWN_S / 2
    (text,) = texts(receiver)
    assert "the store is unreachable" in text
    assert "connection refused" in text


async def test_an_unreachable_stream_server_is_told_once(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    source.down = True
    sender = sending()
    for _ in range(5):
        await sender.look()
        clock.now += FIND_S
    (text,) = texts(receiver)
    assert "the stream server is unreachable" in text
    source.down = False
    await sender.look()
    clock.now += FIND_S
    source.down = True
    for _ in range(3):
        await sender.look()
        clock.now += FIND_S
    assert len(receiver.got) == 2, "another outage is another cause"


async def test_sources_that_work_are_heard_while_others_fail(receiver: Any, sending: Sending, source: Source) -> None:
    source.notices = [a_notice(subject="config")]
    await sending(more=[Source(down=True)]).look()
    assert len(receiver.got) == 1


INFORMATION = [a_notice(n, severity="info") for n in range(80)]


async def test_outages_do_not_wait_behind_notices_of_budgets(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    """Twenty warnings have used up `per_hour`; an outage and what is critical are sent all the same."""
    source.notices = [a_notice(n) for n in range(20)]
    sender = sending()
    await sender.look()
    assert len(receiver.got) == 20
    urgent = [a_notice(100, "config"), a_notice(101, "upstream", "critical"), a_notice(102, severity="critical")]
    source.notices = [*INFORMATION, a_notice(50), *urgent]
    clock.now += FIND_S
    await sender.look()
    assert sorted(text.partition("title ")[2][:3] for text in texts(receiver)[20:]) == ["100", "101", "102"]


async def test_the_order_is_outages_warnings_then_information(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    source.notices = [*INFORMATION, a_notice(200), a_notice(300, "store", "critical"), a_notice(201)]
    sender = sending()
    for _ in range(9):
        await sender.look()
        clock.now += FIND_S
    assert [text[:20].count("title 300") for text in texts(receiver)[:1]] == [1]
    assert sorted(text.partition("title ")[2][:3] for text in texts(receiver)[1:3]) == ["200", "201"]
    assert len(receiver.got) == 4, "information is one message"


async def test_information_is_one_digest_an_hour(sending: Sending, source: Source, receiver: Any, clock: Clock) -> None:
    sender = sending()
    for n in range(80):  # one more at each look
        source.notices = INFORMATION[: n + 1]
        await sender.look()
        clock.now += HOUR_S / 80
    assert len(receiver.got) == 1
    clock.now += 2 * GATHER_S
    await sender.look()
    assert len(receiver.got) == 2
    shown = [text.count("\n\n") for text in texts(receiver)]
    assert shown[1] == 20, "twenty written out, and the number of the others"


async def test_information_waits_while_a_source_cannot_be_read(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    """A stream server that is away hides causes of more importance; information waits for them an hour at most."""
    source.notices, away = INFORMATION, Source(down=True)
    sender = sending(more=[away])
    for _ in range(20):
        await sender.look()
        clock.now += FIND_S
    assert [("unreachable" in text) for text in texts(receiver)] == [True]
    away.down = False
    await sender.look()
    assert len(receiver.got) == 2
    source.notices, away.down = [a_notice(n, severity="info") for n in range(500, 503)], True
    clock.now += HOUR_S
    for _ in range(3):
        await sender.look()
        clock.now += HOUR_S / 2
    assert "title 500" in texts(receiver)[-1]


async def test_information_waits_for_a_warning_that_is_repeated(
    sending: Sending, source: Source, receiver: Any, clock: Clock
) -> None:
    receiver.answers = [503, 503]
    source.notices = [*INFORMATION, a_notice(300, "store", "critical")]
    sender = sending()
    for _ in range(4):
        await sender.look()
        clock.now += GATHER_S
    assert [text.count("title 300") for text in texts(receiver)][:3] == [1, 1, 1]
    assert "title 0" in texts(receiver)[3]


async def test_messages_that_wait_are_counted_by_receiver(
    sending: Sending, source: Source, clock: Clock, told: Store
) -> None:
    source.notices = [a_notice(n) for n in range(3)]
    sender = sending(per_hour=3)
    await sender.look()
    source.notices = [*(a_notice(n) for n in range(10, 17)), *(a_notice(n, severity="info") for n in range(20, 22))]
    clock.now += FIND_S
    await sender.look()
    assert await told.look(lambda c: held_back(c, "notify ", clock.now - GATHER_S)) == []
    clock.now += GATHER_S + 1
    (waiting,) = await told.look(lambda c: held_back(c, "notify ", clock.now - GATHER_S))
    assert waiting.text == "held back: 9 for notify ops (7 above per_hour, 2 of the next digest)"


async def test_outages_are_sent_while_the_store_takes_no_writes(
    sending: Sending, source: Source, receiver: Any, clock: Clock, told: Store
) -> None:
    """Notices come from memory, once, in several attempts; information follows when the store is back."""
    full = FullStore(told)
    source.notices = [*INFORMATION, a_notice(150), a_notice(101, "upstream", "critical")]
    consumers = [sending(f"c{n}", full, more=[Source(down=True)]) for n in range(2)]
    receiver.answers = [503]
    for _ in range(12):
        for sender in consumers:
            with pytest.raises(StoreDown):
                await sender.look()
        clock.now += FIND_S
    sent = sorted(texts(receiver)[1:])  # the first was not accepted
    causes = ("because of its disk", "stream server", "title 101")
    assert [sum(words in text for text in sent) for words in causes] == [1, 1, 1]
    assert len(sent) == 3
    full.full = False
    for _ in range(8):
        for sender in consumers:
            await sender.look()
        clock.now += FIND_S
    assert "title 150" in texts(receiver)[4]
    assert len(receiver.got) == 5, "a source still cannot be read, so information waits"


async def test_a_source_that_fails_stops_no_other(
    sending: Sending, source: Source, receiver: Any, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    class Failing(Source):
        async def look(self, now: float) -> Sequence[Notice]:
            raise ValueError("a plan's work fails")

    source.notices = [a_notice()]
    sender = sending(more=[Failing()])
    for _ in range(3):
        await sender.look()
        clock.now += FIND_S
    assert len(receiver.got) == 1
    assert [r.message for r in caplog.records if "Failing" in r.message] == [
        "notices of Failing: a step failed; retrying"
    ]
