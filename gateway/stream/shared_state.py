"""The state that gateways and consumers share outside the stream: small texts, sums, plans, and heartbeats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

import orjson

from gateway.core.errors import StreamDown
from gateway.core.plan import PlanState, plan_states
from gateway.stream.connect import Client, ask
from gateway.stream.scripts import run_script
from gateway.stream.types import text

SHADOW_COUNTS = "shadows"
"""The sums of the results of shadow requests, by "<plan hash>:<result>". They are never deleted."""
SPENDING_DAY_S = 86_400
"""Shadows spend by UTC day: the sums "spent:<number of the day>"."""

_FORBIDDEN = re.compile(r"\bNOPERM\b|\bno permission", re.IGNORECASE)


class SharedState:
    """Small keys on the stream server, each under one prefix. Every method raises StreamDown."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self.prefix = prefix

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        """Shares a small text with every process on this server, for keep_s seconds."""
        await ask(self._client.set(f"{self.prefix}:{name}", value, ex=keep_s))

    async def remember_all(self, values: Mapping[str, str], keep_s: int) -> None:
        """Shares several small texts in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for name, value in values.items():
            pipe.set(f"{self.prefix}:{name}", value, ex=keep_s)
        if values:
            await ask(pipe.execute())

    async def swap(self, name: str, before: str, after: str, keep_s: int) -> bool:
        """Shares a text if it is still the one that the caller has read. False if not. before: "" if there was none."""
        return bool(await ask(run_script(self._client, "swap_text", [f"{self.prefix}:{name}"], before, after, keep_s)))

    async def recall(self, name: str) -> str | None:
        value = await ask(self._client.get(f"{self.prefix}:{name}"))
        return None if value is None else text(value)

    async def claim(self, name: str, keep_s: int) -> bool:
        """Whether this is the first process to ask for a name within keep_s seconds."""
        return bool(await ask(self._client.set(f"{self.prefix}:{name}", "1", ex=keep_s, nx=True)))

    async def release_claim(self, name: str) -> None:
        await ask(self._client.delete(f"{self.prefix}:{name}"))

    async def recall_all(self, names: Sequence[str]) -> list[str | None]:
        """Reads several texts in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.get(f"{self.prefix}:{name}")
        values: Any = await ask(pipe.execute()) if names else []
        return [None if value is None else text(value) for value in values]

    async def refusal(self) -> str | None:
        """Returns the reason why the server takes no writes now: it is full, read-only, or cannot save. None if it
        takes them, or does not let this client try. Nothing is written: an empty range of no key.
        """
        try:
            await ask(self._client.setrange(f"{self.prefix}:writable", 0, b""))
        except StreamDown as error:
            return None if _FORBIDDEN.search(str(error)) else str(error)
        return None

    async def secret(self) -> bytes:
        """A random secret that every process on this server shares; made by the first process that needs it."""
        key = f"{self.prefix}:secret"
        await ask(self._client.set(key, token_hex(32), nx=True))
        value = await ask(self._client.get(key))
        if value is None:  # removed in between
            raise StreamDown("the shared secret was removed")
        return bytes.fromhex(text(value))

    async def draw_secret(self) -> bytes | None:
        """The secret that keys the draws of experiments; None if the server does not hold it. Consumers put it
        there.
        """
        value = await ask(self._client.get(f"{self.prefix}:draw-secret"))
        try:
            return None if value is None else bytes.fromhex(text(value)) or None
        except ValueError:
            return None

    async def set_draw_secret(self, secret: bytes) -> None:
        await ask(self._client.set(f"{self.prefix}:draw-secret", secret.hex()))

    async def plans(self) -> dict[str, PlanState]:
        """The state of each experiment, by name. Entries that cannot be read are left out."""
        return plan_states(await ask(self._client.hgetall(f"{self.prefix}:plans")))

    async def set_plan(self, state: PlanState, instead_of: PlanState | None = None) -> bool:
        """Puts a plan into force for every gateway on this server.

        instead_of: the state that the caller has read; None if there was none. If the server holds another one by now,
        nothing changes and the result is False.
        """
        before = b"" if instead_of is None else instead_of.raw
        name, after = state.plan.name, state.to_json()
        return bool(await ask(run_script(self._client, "swap_field", [f"{self.prefix}:plans"], name, before, after)))

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        """Adds to sums that all processes on this server share; returns their new values.

        keep_s: seconds until the sums expire, counted from now; None: never.
        """
        key = f"{self.prefix}:{name}"
        pipe = self._client.pipeline(transaction=False)
        for field, amount in amounts.items():
            pipe.hincrbyfloat(key, field, amount)
        if keep_s is not None:
            pipe.expire(key, keep_s)
        totals: Any = await ask(pipe.execute()) if amounts else []
        return {field: float(total) for field, total in zip(amounts, totals, strict=False)}

    async def sums(self, name: str) -> dict[str, float]:
        """The sums that `add` has stored under this name; {} if there are none."""
        reply: Any = await ask(self._client.hgetall(f"{self.prefix}:{name}"))
        return {text(field): float(total) for field, total in reply.items()}

    async def heartbeat(self, consumer: str, now: float) -> None:
        """Records that this consumer is alive. now: Unix seconds."""
        await ask(self._client.hset(self.alive_key, consumer, repr(now)))

    async def consumers(self) -> dict[str, float]:
        """The Unix time of the last heartbeat of each consumer that has not left."""
        reply: Any = await ask(self._client.hgetall(self.alive_key))
        return {text(name): float(at) for name, at in reply.items()}

    async def forget_consumer(self, consumer: str) -> None:
        await ask(self._client.hdel(self.alive_key, consumer))

    async def set_gateway_heartbeat(self, incarnation: str, report: dict[str, Any]) -> None:
        """Records that this gateway process is alive. report: any JSON, such as at, host, pid and rates."""
        await ask(self._client.hset(self.gateways_key, incarnation, orjson.dumps(report)))

    async def forget_gateway(self, incarnation: str) -> None:
        await ask(self._client.hdel(self.gateways_key, incarnation))

    async def gateways(self) -> dict[str, dict[str, Any]]:
        """The last report of each gateway process by incarnation, including processes that were killed."""
        reply: Any = await ask(self._client.hgetall(self.gateways_key))
        return {text(name): orjson.loads(report) for name, report in reply.items()}

    @property
    def alive_key(self) -> str:
        return f"{self.prefix}:consumers"

    @property
    def gateways_key(self) -> str:
        return f"{self.prefix}:gateways"
