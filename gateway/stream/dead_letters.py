"""Dead letters: entries that were given up, kept with the reason, for people to look at, put back or throw away."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.chunked import chunked
from gateway.core.exchange import Fields
from gateway.stream.shard import Shard
from gateway.stream.types import GROUP, StreamEntry, order, shard_of, text

_NOTES = (b"reason", b"error", b"entry")
_PAGE = 100

# KEYS: letters, their reasons, the stream. ARGV: an id, its reason, the entry's fields.
_REPLAY = """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return false end
redis.call('HINCRBY', KEYS[2], ARGV[2], -1)
return redis.call('XADD', KEYS[3], '*', unpack(ARGV, 3))
"""

# KEYS: letters, their reasons. ARGV: ids, each with its reason.
_PURGE = """
local gone = 0
for i = 1, #ARGV, 2 do
    if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
        redis.call('HINCRBY', KEYS[2], ARGV[i + 1], -1)
        gone = gone + 1
    end
end
return gone
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """id: of the letter. entry: the id that the entry had in the stream. fields: the entry's, as they were."""

    id: str
    reason: str
    error: str
    entry: str
    fields: Fields

    @property
    def buried(self) -> float:
        """When it was given up: Unix time in seconds."""
        return order(self.id)[0] / 1000


class DeadLetterQueue:
    """The verbs of a corridor on its dead letters. Every verb raises StreamDown."""

    shards: tuple[Shard, ...]

    def _shard(self, entry: str) -> Shard:
        """Raises StreamDown for an entry of more shards than the config gives."""
        raise NotImplementedError

    async def bury(self, entry: StreamEntry, reason: str, error: str) -> None:
        """Moves an entry to the dead-letter stream, with why, and acknowledges it; both or neither."""
        shard = self._shard(entry.id)
        note = {b"reason": reason.encode(), b"error": error.encode()[:4000], b"entry": entry.id.encode()}
        pipe = shard._redis.pipeline(transaction=True)
        pipe.xadd(shard.dead_key, {**entry.fields, **note})
        pipe.hincrby(shard.reasons_key, reason, 1)
        pipe.xack(shard.key, GROUP, _bare(entry.id))
        await shard._do(pipe.execute())

    async def dead(self, count: int = 100) -> list[StreamEntry]:
        """The dead letters as they lie there, oldest first."""
        found: list[StreamEntry] = []
        for shard in self.shards:
            reply: Any = await shard._do(shard._redis.xrange(shard.dead_key, count=count))
            found += [StreamEntry(text(i) + shard.mark, fields) for i, fields in reply]
        return sorted(found, key=lambda entry: order(entry.id))[:count]

    async def letters(self, page: int = _PAGE) -> AsyncIterator[DeadLetter]:
        """All dead letters, shard by shard, each oldest first; read a page at a time."""
        for shard in self.shards:
            start = "-"
            while True:
                reply: Any = await shard._do(shard._redis.xrange(shard.dead_key, min=start, count=page))
                for i, fields in reply:
                    yield _letter(text(i) + shard.mark, fields)
                if len(reply) < page:
                    break
                start = f"({text(reply[-1][0])}"

    async def letter(self, letter_id: str) -> DeadLetter | None:
        shard = self._shard(letter_id)
        at = _bare(letter_id)
        reply: Any = await shard._do(shard._redis.xrange(shard.dead_key, min=at, max=at, count=1))
        return _letter(letter_id, reply[0][1]) if reply else None

    async def count_letters(self) -> int:
        return sum([int(await shard._do(shard._redis.xlen(shard.dead_key))) for shard in self.shards])

    async def letters_by_reason(self) -> dict[str, int]:
        """How many lie there, by reason."""
        found: Counter[str] = Counter()
        for shard in self.shards:
            reply: Any = await shard._do(shard._redis.hgetall(shard.reasons_key))
            found.update({text(reason): int(n) for reason, n in reply.items()})
        return {reason: n for reason, n in found.items() if n > 0}

    async def replay(self, letter: DeadLetter) -> str | None:
        """Puts an entry back at the stream's end and removes its letter; both or neither. Returns its new id; None when
        the letter is no longer there: somebody else has put it back, or thrown it away."""
        shard = self._shard(letter.id)
        keys = shard.dead_key, shard.reasons_key, shard.key
        words = [word for pair in letter.fields.items() for word in pair]
        reply: Any = await shard._do(shard._redis.eval(_REPLAY, 3, *keys, _bare(letter.id), letter.reason, *words))
        return None if reply is None else text(reply) + shard.mark

    async def purge(self, letters: Sequence[DeadLetter]) -> int:
        """Throws letters away; returns how many were still there."""
        gone = 0
        for shard in self.shards:
            its = [each for each in letters if self._shard(each.id) is shard]
            for chunk in chunked(its, _PAGE):
                words = [word for each in chunk for word in (_bare(each.id), each.reason)]
                reply: Any = await shard._do(shard._redis.eval(_PURGE, 2, shard.dead_key, shard.reasons_key, *words))
                gone += int(reply)
        return gone


def _bare(letter_id: str) -> str:
    return letter_id.partition("@")[0]


def shard_at(shards: Sequence[Shard], entry: str) -> Shard | None:
    place = shard_of(entry)
    return shards[place] if place < len(shards) else None


def _letter(letter_id: str, fields: Fields) -> DeadLetter:
    reason, error, entry = (text(fields.get(name, b"")) for name in _NOTES)
    return DeadLetter(letter_id, reason, error, entry, {k: v for k, v in fields.items() if k not in _NOTES})
