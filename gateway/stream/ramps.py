"""Ramps on the stream server: the records in force, the events that wait for the audit, the newest evidence.

A record and its event are written by one script, so that no change is in force without its event, with any author.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.ramp import RampEvent, RampRecord, ramp_records, record_from_json
from gateway.stream.connect import Client, ask, is_cluster
from gateway.stream.scripts import run_script
from gateway.stream.types import text


@dataclass(frozen=True, slots=True)
class WaitingEvents:
    """Events that are not in the audit yet, oldest first."""

    events: tuple[RampEvent, ...]
    ids: tuple[str, ...]
    """The ids of all entries that were read, those without an event included."""


class RampStream:
    """The ramps on one stream server. Every method raises StreamDown."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        base = f"{{{prefix}:ramps}}" if is_cluster(client) else prefix
        self._records, self._events, self._evidence = (
            f"{base}:{name}" for name in ("ramps", "ramp-events", "ramp-evidence")
        )

    async def records(self) -> dict[str, RampRecord]:
        """The record of each experiment. Entries that cannot be read are left out."""
        return ramp_records(await ask(self._client.hgetall(self._records)))

    async def change(self, before: RampRecord | None, after: RampRecord, evidence: bytes) -> bool:
        """Puts a record in force and appends its event. False if the server holds another record by now.

        before: as it was read from the server; None if there was none. evidence: a JSON object.
        """
        known = b"" if before is None else before.raw
        arguments = (after.experiment, known, after.to_json(), evidence)
        return bool(await ask(run_script(self._client, "change_ramp", [self._records, self._events], *arguments)))

    async def waiting(self, most: int = 500) -> WaitingEvents:
        """The oldest events that have not been removed."""
        entries: Any = await ask(self._client.xrange(self._events, "-", "+", count=most))
        found = [_event(text(entry), fields) for entry, fields in entries]
        return WaitingEvents(tuple(e for e in found if e is not None), tuple(text(entry) for entry, _ in entries))

    async def remove(self, ids: Sequence[str]) -> None:
        """Removes events that the audit holds."""
        if ids:
            await ask(self._client.xdel(self._events, *ids))

    async def set_evidence(self, experiment: str, evidence: bytes) -> None:
        """Keeps the controller's newest evidence, for those who change a ramp by hand."""
        await ask(self._client.hset(self._evidence, experiment, evidence))

    async def evidence(self, experiment: str) -> bytes:
        """The newest evidence; b"{}" if there is none."""
        found: Any = await ask(self._client.hget(self._evidence, experiment))
        return bytes(found) if found else b"{}"


def _event(entry: str, fields: Any) -> RampEvent | None:
    """Returns None if the entry holds no event that this version understands."""
    try:
        after = record_from_json(fields[b"after"])
        before = record_from_json(fields[b"before"]) if fields[b"before"] else None
        evidence = orjson.loads(fields[b"evidence"])
    except (ValueError, KeyError, TypeError):
        return None
    known = None if before is None else (before.state, before.step)
    return RampEvent(entry, after, known, evidence if isinstance(evidence, dict) else {})
