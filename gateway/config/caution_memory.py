"""Remembers in the data directory which cautions were printed, so that one need not be printed more than once a day."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

FILE = "cautioned"  # in the data directory: {digest of a caution: Unix seconds}
DAY_S = 86_400.0


def is_due(caution: str, data: Path, now: float | None = None) -> bool:
    """Whether a caution is to be printed, which is then remembered: this text was not printed within a day.

    Where nothing can be remembered, it is always due: a data directory is not made for it. now: Unix seconds.
    """
    path, now = data / FILE, time.time() if now is None else now
    digest = sha256(caution.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    printed = {name: at for name, at in _read(path).items() if 0 <= now - at < DAY_S}
    if digest in printed:
        return False
    own = path.with_name(f"{FILE}.{os.getpid()}")
    try:
        own.write_bytes(orjson.dumps({**printed, digest: now}))
        own.replace(path)
    except OSError:
        with suppress(OSError):
            own.unlink()
    return True


def _read(path: Path) -> dict[str, float]:
    try:
        found: Any = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: float(at) for name, at in entries if isinstance(at, int | float)}
