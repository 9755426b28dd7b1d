"""Dead letters: entries that could not be processed, kept with the reason until they are replayed or purged."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.chunked import chunked
from gateway.core.exchange import Fields
from gateway.stream.scripts import run_script
from gateway.stream.shard import Shard, find_shard
from gateway.stream.types import GROUP, StreamEntry, order, text

_NOTES = (b"reason", b"error", b"entry")
_PAGE = 100


@dataclass(frozen=True, slots=True)
class DeadLetter:
    id: str  # of the dead letter itself
    reason: str  # one of a small set: unreadable, refused, too_many_deliveries, …
    error: str  # for people; at most 4000 bytes
    entry: str  # the id that the entry had in the stream
    fields: Fields  # the entry's own, unchanged

    @property
    def added_at(self) -> float:
        """Unix time in seconds at which the entry became a dead letter."""
        return order(self.id)[0] / 1000


class DeadLetterQueue:
    """The dead letters of all shards. Every method raises StreamDown."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    async def add(self, entry: StreamEntry, reason: str, error: str) -> None:
        """Moves an entry to the dead-letter stream and acknowledges it, atomically."""
        shard = find_shard(self._shards, entry.id)
        note = {b"reason": reason.encode(), b"error": error.encode()[:4000], b"entry": entry.id.encode()}
        pipe = shard.client.pipeline(transaction=True)
        pipe.xadd(shard.dead_key, {**entry.fields, **note})
        pipe.hincrby(shard.reasons_key, reason, 1)
        pipe.xack(shard.key, GROUP, _bare(entry.id))
        await shard.ask(pipe.execute())

    async def all(self, page: int = _PAGE) -> AsyncIterator[DeadLetter]:
        """Yields all dead letters, shard by shard, oldest first in each; read a page at a time."""
        for shard in self._shards:
            start = "-"
            while True:
                reply: Any = await shard.ask(shard.client.xrange(shard.dead_key, min=start, count=page))
                for i, fields in reply:
                    yield _dead_letter(text(i) + shard.mark, fields)
                if len(reply) < page:
                    break
                start = f"({text(reply[-1][0])}"

    async def get(self, letter_id: str) -> DeadLetter | None:
        shard = find_shard(self._shards, letter_id)
        at = _bare(letter_id)
        reply: Any = await shard.ask(shard.client.xrange(shard.dead_key, min=at, max=at, count=1))
        return _dead_letter(letter_id, reply[0][1]) if reply else None

    async def count(self) -> int:
        return sum([int(await shard.ask(shard.client.xlen(shard.dead_key))) for shard in self._shards])

    async def by_reason(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for shard in self._shards:
            reply: Any = await shard.ask(shard.client.hgetall(shard.reasons_key))
            found.update({text(reason): int(n) for reason, n in reply.items()})
        return {reason: n for reason, n in found.items() if n > 0}

    async def replay(self, letter: DeadLetter) -> str | None:
        """Appends the entry to the stream again and removes its dead letter, atomically.

        Returns the new entry id; None if the dead letter was already replayed or purged.
        """
        shard = find_shard(self._shards, letter.id)
        keys = shard.dead_key, shard.reasons_key, shard.key
        arguments = [value for pair in letter.fields.items() for value in pair]
        replay = run_script(shard.client, "replay_dead_letter", keys, _bare(letter.id), letter.reason, *arguments)
        reply: Any = await shard.ask(replay)
        return None if reply is None else text(reply) + shard.mark

    async def purge(self, letters: Sequence[DeadLetter]) -> int:
        """Deletes dead letters; returns how many of them still existed."""
        gone = 0
        for shard in self._shards:
            own = [each for each in letters if find_shard(self._shards, each.id) is shard]
            for chunk in chunked(own, _PAGE):
                pairs = [value for each in chunk for value in (_bare(each.id), each.reason)]
                keys = shard.dead_key, shard.reasons_key
                gone += int(await shard.ask(run_script(shard.client, "purge_dead_letters", keys, *pairs)))
        return gone

    async def expire(self, before: float) -> int:
        """Deletes the dead letters from before this Unix time; returns their number."""
        old: list[DeadLetter] = []
        for shard in self._shards:
            async for letter in DeadLetterQueue([shard]).all():
                if letter.added_at >= before:
                    break
                old.append(letter)
        return await self.purge(old)


def _bare(letter_id: str) -> str:
    return letter_id.partition("@")[0]


def _dead_letter(letter_id: str, fields: Fields) -> DeadLetter:
    reason, error, entry = (text(fields.get(name, b"")) for name in _NOTES)
    return DeadLetter(letter_id, reason, error, entry, {k: v for k, v in fields.items() if k not in _NOTES})
