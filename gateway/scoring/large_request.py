"""A request as scorers read it: of a large one, only the members that a scorer asks for are decoded.

Coding agents send 100 KB and more, nearly all of it in `messages`, which most scorers do not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import orjson

from gateway.core.json_values import parse_object

LARGE_BYTES = 8192
"""Size below which requests are decoded as a whole, which takes a few microseconds."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class LargeRequest(Mapping[str, Any]):
    """The members of a request, each decoded when it is read first. A value that turns out not to be JSON is None: the
    first pass does not see bytes that are not UTF-8, nor numbers that are too large."""

    __slots__ = ("_decoded", "_members")

    def __init__(self, members: dict[str, msgspec.Raw]) -> None:
        self._members = members
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._decoded:
            self._decoded[name] = _decoded(self._members[name])
        return self._decoded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        """Pickled, it is a dict: isolated scorers get one."""
        return dict, (dict(self),)


def request_of(body: bytes) -> Mapping[str, Any]:
    """The members of a request's JSON object; {} for other bodies."""
    if len(body) < LARGE_BYTES:
        return parse_object(body) or {}
    try:
        return LargeRequest(_MEMBERS.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return {}


def reader_for(scorers: Iterable[object]) -> Callable[[bytes], Mapping[str, Any]]:
    """The function by which these scorers get requests: a plug-in may need the request to be a dict."""
    ours = all(type(scorer).__module__.startswith("gateway.") for scorer in scorers)
    return request_of if ours else _whole


def _whole(body: bytes) -> dict[str, Any]:
    return parse_object(body) or {}


def _decoded(value: msgspec.Raw) -> Any:
    try:
        return orjson.loads(memoryview(value))
    except orjson.JSONDecodeError:
        return None
