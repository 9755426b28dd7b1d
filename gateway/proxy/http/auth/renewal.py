"""A value that expires, such as a token, fetched again in a thread before it does. No request waits for a renewal."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.core.backoff import Backoff
from gateway.core.errors import ConnectFailed, ConnectTimeout

log = logging.getLogger("gateway")

T = TypeVar("T")
_RETRY = Backoff(first_s=1.0, most_s=30.0)
_LOOK_S = 0.5
_WAIT_S = 15.0  # for a first token: clouds take a second or two
_FORCED_EVERY_S = 10.0  # a server that refuses every token must not cause a storm of renewals


@dataclass(frozen=True, slots=True)
class Issued(Generic[T]):
    """A value and its life, in Unix seconds."""

    value: T
    expires: float = math.inf
    renew_at: float = math.inf
    """The time from which a newer one is fetched, while this one is still used."""


def issued_until(value: T, expires: float, now: float, ahead_s: float = 300.0) -> Issued[T]:
    """Time until which a value is used: ahead_s before it expires, or half of a short lifetime."""
    return Issued(value, expires, max(expires - ahead_s, now + (expires - now) / 2))


class Renewal(Generic[T]):
    """Holds the newest value. `fetch` blocks, and runs in a thread; one at a time."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Issued[T]],
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        forget: Callable[[], object] = lambda: None,
    ) -> None:
        """name: for messages. secrets: never written. clock: Unix seconds. forget: makes the next fetch start from
        nothing: the value that a library holds may have been revoked or replaced."""
        self.fetched = 0
        """The number of values fetched."""
        self._name = name
        self._fetch = fetch
        self._secrets = tuple(secrets)
        self._clock = clock
        self._forget = forget
        self.values: list[T] = []
        """The newest value, and the previous one that differed from it."""
        self._issued: Issued[T] | None = None
        self._fetching: asyncio.Future[Issued[T]] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._forced_at = -math.inf
        self._why = ""

    def tend(self) -> None:
        """Starts to fetch a value if there is none, or if it is time to renew it. Never waits."""
        issued, now = self._issued, self._clock()
        if (issued is None or now >= issued.renew_at) and now >= self._retry_at:
            self._start()

    async def get(self, wait_s: float = _WAIT_S) -> T:
        """The value; waits only where none is valid. Raises ConnectFailed if none can be obtained, and ConnectTimeout
        if that takes too long."""
        issued, now = self._issued, self._clock()
        if issued is not None and now < issued.renew_at:
            return issued.value
        self.tend()
        if issued is not None and now < issued.expires:
            return issued.value
        return await self._wait(wait_s)

    async def renewed(self, refused: T, wait_s: float = _WAIT_S) -> T | None:
        """A newer value than the one that a server has refused; None if there is none."""
        issued, now = self._issued, self._clock()
        if issued is None or issued.value == refused:
            if now - self._forced_at < _FORCED_EVERY_S and self._fetching is None:
                return None
            self._forced_at = now
            if self._fetching is None:
                self._forget()
            self._start()
            try:
                await self._wait(wait_s)
            except (ConnectFailed, ConnectTimeout):
                return None
            issued = self._issued
        return None if issued is None or issued.value == refused else issued.value

    async def _wait(self, wait_s: float) -> T:
        fetching = self._fetching
        if fetching is None:
            raise ConnectFailed(f"no credential of {self._name}: {self._why}")
        try:
            async with asyncio.timeout(wait_s):
                return (await asyncio.shield(fetching)).value
        except TimeoutError:
            raise ConnectTimeout(f"no credential of {self._name} within {wait_s:g} s") from None
        except Exception as error:
            raise ConnectFailed(f"no credential of {self._name}: {type(error).__name__}") from None

    def _start(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().run_in_executor(None, self._fetch)
            self._fetching.add_done_callback(self._ended)

    def _ended(self, fetching: asyncio.Future[Issued[T]]) -> None:
        self._fetching = None
        if fetching.cancelled():
            return
        error = fetching.exception()
        if error is None:
            self._issued, self._failures, self._retry_at = fetching.result(), 0, 0.0
            value = fetching.result().value
            if self.values[:1] != [value]:
                self.values = [value, *self.values[:1]]
            self.fetched += 1
            return
        self._forget()
        self._failures += 1
        wait_s = _RETRY.wait_s(self._failures)
        self._retry_at, self._why = self._clock() + wait_s, type(error).__name__
        left = 0.0 if self._issued is None else self._issued.expires - self._clock()
        present = "calls to it fail"
        if left > 0:
            present = (
                f"the present one is valid for {left:.0f} s" if left < math.inf else "the present one stays in use"
            )
        log.warning(
            "no new credential of %s: %s; %s; tried again in %.0f s",
            self._name,
            self._described(error),
            present,
            wait_s,
        )

    def _described(self, error: BaseException) -> str:
        text = " ".join(str(error).split())[:300]
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def keep_fresh(renewals: Iterable[Renewal[Any]]) -> None:
    """Renews each ahead of time, also without traffic, until cancelled."""
    tended = list(renewals)
    while tended:
        for renewal in tended:
            renewal.tend()
        await asyncio.sleep(_LOOK_S)
