"""Notices without the store: claimed by one consumer on the stream server, and sent by each where that is away too."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.notice import Notice, Severity, Subject
from gateway.features.notices.without_store import UnstoredNotices
from gateway.stream import Corridor


class Kept:
    """A receiver that keeps the ids of what it accepts. answers: what goes wrong at the next attempts."""

    def __init__(self, *on: Subject) -> None:
        self.on: Sequence[Subject] = on
        self.ids: list[str] = []
        self.answers: list[str | None] = []

    async def send_notices(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        error = self.answers.pop(0) if self.answers else None
        self.ids += [] if error else [notice.id for notice in notices]
        return error


def a_notice(id: str, subject: Subject, severity: Severity = "critical") -> Notice:
    return Notice(id, subject, "title", "text", 5.0, "/console", severity)


FOUND = [
    a_notice("store:store:1", "store"),
    a_notice("upstream:openai:key_refused:7", "upstream"),
    a_notice("budget:team:50%", "budget", "info"),
    a_notice("config:abc:7", "config", "warning"),
]


async def test_one_consumer_claims_each_notice_and_repeats_it(stream_url: str, stream_name: str) -> None:
    corridor, receiver = Corridor(stream_url, stream_name), Kept("store", "upstream", "budget")
    receiver.answers = ["HTTP 503"]
    one, other = (UnstoredNotices(corridor.state, {"ops": receiver}) for _ in range(2))
    for _ in range(3):
        await one.send(FOUND, 5.0)
        await other.send([a_notice("store:store:2", "store"), *FOUND[1:]], 5.0)
    assert sorted(receiver.ids) == ["store:store:1", "upstream:openai:key_refused:7"]
    assert sorted(notice.id for _, notice in await one.end()) == sorted(receiver.ids)
    assert await other.end() == []
    await other.send(FOUND[:1], 5.0)
    assert receiver.ids.count("store:store:1") == 2, "another outage is another cause"
    await corridor.aclose()


async def test_each_consumer_sends_without_the_stream_server_too() -> None:
    corridor, receiver = Corridor("redis://127.0.0.1:1/0", "s"), Kept("store")
    one, other = (UnstoredNotices(corridor.state, {"ops": receiver}) for _ in range(2))
    for _ in range(2):
        await one.send(FOUND, 5.0)
        await other.send(FOUND, 5.0)
    assert receiver.ids == ["store:store:1"] * 2, "the same id, once by each"
    assert len(await one.end()) == 1
    await corridor.aclose()
