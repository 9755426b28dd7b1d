"""Requests of probes from recorded traffic. Only the ids are kept with the rounds: a request whose record retention
deletes, or whose key no longer allows it, is replaced by another one, which has no past yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import orjson

from gateway.config.config import Config
from gateway.config.derive import content_of
from gateway.features.models.probes.model import ProbeRequest, ProbeRound
from gateway.features.models.rows import RecordedCall, recorded_calls
from gateway.features.replay.datasets.datasets import item_of
from gateway.store.directory import key_named
from gateway.store.query import Reading

MOST_REQUESTS = 16
MOST_BYTES = 16_384
"""Bytes of a request; longer ones would cost more than they show."""
_LOOKED_AT = 1_000
_REPLACED = re.compile(rb"sha256=[0-9a-f]{64};bytes=\d")  # the placeholder of an image or a file in the store
_OPEN = "open"  # the caller of a gateway without keys


def sampled_requests(connection: Reading, config: Config, alias: str, newest: ProbeRound | None) -> list[ProbeRequest]:
    """The requests of the newest round that are still there, and the newest others, one of each conversation."""
    allows = _Consent(connection, config)
    known = {answer.key for answer in newest.answers} if newest is not None else set()
    kept = recorded_calls(connection, alias, MOST_REQUESTS, sorted(known)) if known else []
    fresh = recorded_calls(connection, alias, _LOOKED_AT) if len(kept) < MOST_REQUESTS else []
    found: dict[str, ProbeRequest] = {}
    for call, request in _usable([*kept, *fresh], allows):
        session = call.session or call.id
        same = any(other.request == request.request for other in found.values())
        if len(found) < MOST_REQUESTS and session not in found and not same:
            found[session] = request
    return sorted(found.values(), key=lambda request: request.key)


def _usable(
    calls: Sequence[RecordedCall], allows: Callable[[str], bool]
) -> Iterator[tuple[RecordedCall, ProbeRequest]]:
    for call in calls:
        if len(call.body) > MOST_BYTES or _REPLACED.search(call.body) or not allows(call.caller):
            continue
        try:
            item = item_of({"api": call.api, "request": orjson.loads(call.body)}, 1).item
        except ValueError:  # an API that is not asked, or a body that is not whole
            continue
        yield call, ProbeRequest(call.id, item.api, item.request).bounded()


class _Consent:
    """Whether the requests of a caller may be asked again, by what its key says now."""

    def __init__(self, connection: Reading, config: Config) -> None:
        self._connection, self._config = connection, config
        self._known: dict[str, bool] = {}

    def __call__(self, caller: str) -> bool:
        if caller not in self._known:
            self._known[caller] = self._looked_up(caller)
        return self._known[caller]

    def _looked_up(self, caller: str) -> bool:
        redaction = self._config.redaction
        static = [key for key in self._config.keys if key.name == caller]
        if static:
            return all(
                key.sample != "never" and not key.disabled and content_of(key.content, redaction) != "metadata"
                for key in static
            )
        row = key_named(self._connection, caller)
        if row is not None:
            record = row.record
            return (
                getattr(record, "sample", "never") != "never"
                and not record.disabled
                and content_of(getattr(record, "content", None), redaction) != "metadata"
            )
        return caller == _OPEN and not self._config.keys and content_of(None, redaction) != "metadata"
