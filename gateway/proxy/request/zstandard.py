"""zstd: the module of the standard library from Python 3.14 on, and its backport before."""

from __future__ import annotations

import sys
from typing import Any


def zstd() -> Any:
    """The module. It is imported at the first use, since few processes read or send a body that is compressed so."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
