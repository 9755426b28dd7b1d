"""The process that trains: reads a TrainingJob from stdin, writes its outcome to stdout, both as JSON.

The job has the store's URL, and with it perhaps a password: arguments and the environment would show it to others.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import orjson

from gateway.core.errors import CannotRun
from gateway.features.learned.trainer import TrainingJob, train_from_store

NICENESS = 10  # scoring comes first


def main() -> int:
    """0: done. 1: it cannot run, and stderr says why in one line."""
    os.nice(NICENESS)
    job = TrainingJob(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = train_from_store(job)
    except CannotRun as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
