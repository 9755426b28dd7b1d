"""Keeps the secret of draws on the stream server: made once in the store, put back whenever the server has lost it."""

from __future__ import annotations

import logging
import secrets
from typing import Protocol

from gateway.core.randomization import SECRET_BYTES
from gateway.store.secrets import DRAWS, deployment_secret
from gateway.store.store import Store

log = logging.getLogger(__name__)


class SecretOnStream(Protocol):
    """gateway.stream.shared_state.SharedState."""

    async def draw_secret(self) -> bytes | None: ...
    async def set_draw_secret(self, secret: bytes) -> None: ...


class DrawSecret:
    """The secret of one deployment, as a consumer knows it."""

    def __init__(self, store: Store, state: SecretOnStream) -> None:
        self._store, self._state = store, state
        self._secret: bytes | None = None

    async def keep(self) -> None:
        """Puts the store's secret on the server if another one, or none, is there. Raises StreamDown and StoreDown.

        A store that has none yet takes over the server's, so that a store that was lost moves no unit.
        """
        there = await self._state.draw_secret()
        if self._secret is None:
            new = there or secrets.token_bytes(SECRET_BYTES)
            self._secret = await self._store.run(lambda connection: deployment_secret(connection, DRAWS, new))
        if there == self._secret:
            return
        await self._state.set_draw_secret(self._secret)
        if there is None:
            log.info("the secret of draws was put on the stream server")
        else:
            log.warning(
                "the stream server had the secret of another store; this store's replaces it, so units of running "
                "experiments may change their arm"
            )
