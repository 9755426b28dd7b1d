"""Files that only their owner can read, and that exist when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.core.errors import CannotRun, is_disk_error


def write_private(path: Path, text: str) -> None:
    """Writes a file with what people wrote. Raises CannotRun."""
    with complete_file(path) as file:
        file.write(text.encode())


@contextmanager
def complete_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that only its owner can read, and that gets its name when it is complete. Raises CannotRun."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        file = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        part.replace(path)
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise CannotRun(f"{path} cannot be written: {error.strerror}; the previous content is unchanged") from error
    finally:
        part.unlink(missing_ok=True)
