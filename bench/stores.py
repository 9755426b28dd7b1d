"""A PostgreSQL server of the benchmark's own, as the tests start theirs, with what a server in production syncs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stage import ROOT, Failed

sys.path.append(f"{ROOT}/tests")  # where servers.py is

from servers import Postgres, postgres_programs


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Raises Failed where PostgreSQL is not installed."""
    programs = postgres_programs()
    if programs is None:
        raise Failed("PostgreSQL: not installed (Debian: apt-get install postgresql)")
    server = Postgres(programs)
    try:
        yield server.start()
    finally:
        server.kill()
