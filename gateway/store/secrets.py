"""Random secrets of the deployment: made once, and kept in the store."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.store.engine import insert
from gateway.store.tables import deployment_secrets

DRAWS = "draws"
"""The name of the secret that keys the draws of experiments."""


def deployment_secret(connection: Connection, name: str, new: bytes) -> bytes:
    """The secret of this name. new: becomes it where there is none yet; of two at the same time, the first does."""
    t = deployment_secrets
    made = {"name": name, "value": new.hex()}
    connection.execute(insert(connection.dialect, t).values(made).on_conflict_do_nothing())
    return bytes.fromhex(connection.execute(select(t.c.value).where(t.c.name == name)).scalar_one())
