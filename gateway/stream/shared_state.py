"""What gateways and consumers tell each other beside the stream: small texts, counters, who lives."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import orjson

from gateway.core.plan import PlanState, plan_states
from gateway.stream.connect import Client, ask
from gateway.stream.types import text

# Sets a field of a hash to ARGV[3] if it is ARGV[2] ("": if there is none); 1 when it did.
_SWAP = """
local there = redis.call('HGET', KEYS[1], ARGV[1])
if (there or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class SharedState:
    """Verbs on small keys, each below one prefix. Every verb raises StreamDown."""

    prefix: str
    _redis: Client

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        """Shares a small text with every other gateway on this server, for keep_s seconds."""
        await self._do(self._redis.set(f"{self.prefix}:{name}", value, ex=keep_s))

    async def recall(self, name: str) -> str | None:
        value = await self._do(self._redis.get(f"{self.prefix}:{name}"))
        return None if value is None else text(value)

    async def plans(self) -> dict[str, PlanState]:
        """What is known of each experiment, by name; what cannot be read is left out."""
        return plan_states(await self._do(self._redis.hgetall(f"{self.prefix}:plans")))

    async def set_plan(self, state: PlanState, instead_of: PlanState | None = None) -> bool:
        """Puts it in force for every gateway on this server. False, and nothing is changed, when what lies there is no
        longer `instead_of` (None: nothing)."""
        before = b"" if instead_of is None else instead_of.raw
        name, after = state.plan.name, state.to_json()
        return bool(await self._do(self._redis.eval(_SWAP, 1, f"{self.prefix}:plans", name, before, after)))

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        """Adds to sums that all gateways on this server share, and gives each as it then stands. keep_s: how long they
        are kept from now; None: for ever."""
        key = f"{self.prefix}:{name}"
        pipe = self._redis.pipeline(transaction=False)
        for field, amount in amounts.items():
            pipe.hincrbyfloat(key, field, amount)
        if keep_s is not None:
            pipe.expire(key, keep_s)
        totals: Any = await self._do(pipe.execute()) if amounts else []
        return {field: float(total) for field, total in zip(amounts, totals, strict=False)}

    async def sums(self, name: str) -> dict[str, float]:
        """Those sums."""
        reply: Any = await self._do(self._redis.hgetall(f"{self.prefix}:{name}"))
        return {text(field): float(total) for field, total in reply.items()}

    async def heartbeat(self, consumer: str, now: float) -> None:
        """Notes that this consumer lives."""
        await self._do(self._redis.hset(self.alive_key, consumer, repr(now)))

    async def consumers(self) -> dict[str, float]:
        """Each consumer that ever gave a heartbeat, and has not left, and the Unix time of its last."""
        reply: Any = await self._do(self._redis.hgetall(self.alive_key))
        return {text(name): float(at) for name, at in reply.items()}

    async def gateway_lives(self, incarnation: str, says: dict[str, Any]) -> None:
        """Notes that this gateway process lives, with what it says of itself: at, host, pid, rates."""
        await self._do(self._redis.hset(self.gateways_key, incarnation, orjson.dumps(says)))

    async def gateway_leaves(self, incarnation: str) -> None:
        await self._do(self._redis.hdel(self.gateways_key, incarnation))

    async def gateways(self) -> dict[str, dict[str, Any]]:
        """Each gateway process that lives, or was killed, by incarnation, and what it said last."""
        reply: Any = await self._do(self._redis.hgetall(self.gateways_key))
        return {text(name): orjson.loads(says) for name, says in reply.items()}

    @property
    def alive_key(self) -> str:
        return f"{self.prefix}:consumers"

    @property
    def gateways_key(self) -> str:
        return f"{self.prefix}:gateways"

    async def _do(self, command: Awaitable[Any]) -> Any:
        return await ask(command)
