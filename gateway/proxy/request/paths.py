"""One spelling for each path, before anything is matched: the authorised path is the one that an upstream resolves.
Pure. `path_allowed` matches the paths outside the routed endpoints that a key may use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

_SLASHES = re.compile(rb"/{2,}")
_SEGMENT_END = re.compile(rb"[;?#\x00]")
_ROUNDS = 4  # of percent-decoding; what is still encoded then is in no path of ours


def single_slashes(path: bytes) -> bytes:
    """The path without doubled slashes, and without one at the end."""
    return _SLASHES.sub(b"/", path).rstrip(b"/") or b"/"


def segments(path: bytes) -> list[bytes]:
    """The segments that the most lenient server would read: percent-encodings undone however often, backslashes as
    slashes, without parameters (`;…`), an encoded query, blanks around a segment, and empty segments. Dot segments are
    left in."""
    for _ in range(_ROUNDS):
        if b"%" not in path:
            break
        path = unquote_to_bytes(path)
    found = [_SEGMENT_END.split(segment, 1)[0].strip() for segment in path.replace(b"\\", b"/").split(b"/")]
    return [segment for segment in found if segment]


def resolved(path: bytes) -> bytes:
    """The path that the most lenient server would serve: its `segments`, dot segments applied."""
    out: list[bytes] = []
    for segment in segments(path):
        if segment == b"..":
            del out[-1:]
        elif segment != b".":
            out.append(segment)
    return b"/" + b"/".join(out)


def path_allowed(patterns: Iterable[str], method: str, path: str) -> bool:
    """Whether one of the patterns fits: a method (else all of them), and a path, or its beginning before a star."""
    return any(_fits(pattern, method, path) for pattern in patterns)


def _fits(pattern: str, method: str, path: str) -> bool:
    named, _, meant = pattern.rpartition(" ")
    if named and named != method and not (named == "GET" and method == "HEAD"):
        return False
    return path.startswith(meant[:-1]) if meant.endswith("*") else path == meant
