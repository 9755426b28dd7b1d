"""`gateway follow`: writes new exchanges of the store into files for other systems, until it is stopped.

A file gets its name when it is complete, and the name says where it ends. A program that is killed loses the file that
it was writing, and writes its rows again; so every exchange is in exactly one file. Feedback that comes later than its
exchange has files of its own; after a restart, that of the last hour is written again.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote, unquote

import orjson

from gateway.core.backoff import Backoff
from gateway.core.errors import CannotRun
from gateway.features.calls.exports.export import ExportWriter, FeedbackWriter, writer
from gateway.features.calls.rows.export import FollowPlace, FollowSource
from gateway.store.engine import StoreUnavailable

FollowForm = Literal["jsonl", "parquet"]
FEEDBACK_LATE_S = 3600.0
"""Longest delay between giving feedback and its arrival in the store."""
_POLL_S = 2.0
_REST = 10  # pause between two polls, in durations of a poll: without an index on `stored`, each reads the whole table
_RETRY = Backoff(first_s=1.0, most_s=60.0)
_NAME = re.compile(r"exchanges-(\d{9})-(\d+)-([\d.]+)-([^/]+)\.(?:jsonl|parquet)")


@dataclass(frozen=True, slots=True)
class FileRotation:
    """A file is complete at this size or this age, whichever comes first."""

    most_bytes: int = 128_000_000
    most_s: float = 300.0


@dataclass(slots=True)
class FollowCursor:
    """The progress of the export. number: of the last file of exchanges; feedback: of the last file of feedback."""

    number: int = 0
    place: FollowPlace | None = None
    feedback: int = 0
    feedback_at: float = 0.0
    """The newest feedback that was written, in Unix seconds."""


class FollowDirectory:
    """A directory that one process writes to. Raises CannotRun."""

    def __init__(self, path: Path, form: FollowForm) -> None:
        self.path, self._form = path, form
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
        except OSError as error:
            raise CannotRun(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise CannotRun(f"another process exports to {path}; stop it, or give another directory") from None
        self.cursor = self._read()

    def _read(self) -> FollowCursor:
        """Reads the cursor's file, or a newer file of exchanges: the program may have been killed between the two."""
        cursor = FollowCursor()
        with suppress(FileNotFoundError):
            found = orjson.loads((self.path / "cursor.json").read_bytes())
            place = found.pop("place")
            cursor = FollowCursor(**found, place=FollowPlace(**place) if place else None)
        for name in sorted(os.listdir(self.path)):
            named = _NAME.fullmatch(name)
            if named and int(named[1]) > cursor.number:
                cursor.number = int(named[1])
                cursor.place = FollowPlace(float(named[3]), unquote(named[4]), int(named[2]))
            if name.endswith(".part"):
                (self.path / name).unlink()
        return cursor

    def begin(self, kind: str) -> IO[bytes]:
        part = self.path / f"{kind}.part"
        part.unlink(missing_ok=True)
        return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def finish(self, kind: str, name: str, file: IO[bytes]) -> Path:
        """Completes the file, and writes the cursor."""
        done = self._rename(kind, f"{name}.{self._form}", file)
        self.save()
        return done

    def save(self) -> None:
        with self.begin("cursor") as file:
            file.write(orjson.dumps(asdict(self.cursor)))
            self._rename("cursor", "cursor.json", file)

    def _rename(self, kind: str, name: str, file: IO[bytes]) -> Path:
        """Gives the file its name, once it is on the disk."""
        with file:
            file.flush()
            os.fsync(file.fileno())
        done = (self.path / f"{kind}.part").replace(self.path / name)
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return done

    def close(self) -> None:
        self._lock.close()


class Follower:
    """Reads the source and writes the directory's files. say: one line for each file."""

    def __init__(
        self,
        source: FollowSource,
        directory: FollowDirectory,
        form: FollowForm,
        rotation: FileRotation,
        say: Callable[[str], None],
    ) -> None:
        self._source, self._directory, self._form = source, directory, form
        self._rotation, self._say = rotation, say
        self._place = directory.cursor.place
        self._file: IO[bytes] | None = None
        self._writer: ExportWriter | None = None
        self._begun = self._feedback_looked = time.monotonic()
        self._rows = 0
        self._given: dict[tuple[str, float], float] = {}

    def run(self, stop: threading.Event) -> None:
        """Exports until stop is set; then completes the file that is being written. Survives outages of the store.

        Raises CannotRun where a file cannot be written.
        """
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                more = self._step()
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                more = False
                self._say(f"{error}; retrying in {_RETRY.wait_s(failures):.0f} s")
                stop.wait(_RETRY.wait_s(failures))
            if not more:
                stop.wait(max(_POLL_S, _REST * (time.monotonic() - began)) if not failures else 0)
        with suppress(StoreUnavailable):
            self._rotate()

    def _step(self) -> bool:
        """Writes one batch, and completes what is due. False if nothing was waiting."""
        found, place = self._source.next(self._place)
        try:
            if found:
                self._write(found)
            self._place = place
            if self._is_due():
                self._rotate()
        except OSError as error:
            raise CannotRun(f"{self._directory.path} cannot be written: {error.strerror}") from error
        return bool(found)

    def _write(self, found: list[dict[str, Any]]) -> None:
        if self._writer is None:
            self._file = self._directory.begin("exchanges")
            self._writer = writer(self._form, self._file, self._source.scorers())
            self._begun, self._rows = time.monotonic(), 0
        for each in found:
            self._writer.add(each)
        self._rows += len(found)

    def _is_due(self) -> bool:
        now, limit = time.monotonic(), self._rotation
        if self._file is None:
            return now - self._feedback_looked >= limit.most_s
        return self._file.tell() >= limit.most_bytes or now - self._begun >= limit.most_s

    def _rotate(self) -> None:
        cursor = self._directory.cursor
        if self._writer is not None and self._file is not None and self._place is not None:
            self._writer.close()
            place, cursor.number, cursor.place = self._place, cursor.number + 1, self._place
            name = f"exchanges-{cursor.number:09d}-{place.row}-{place.stored!r}-{quote(place.id, safe='')}"
            done = self._directory.finish("exchanges", name, self._file)
            self._say(f"{self._rows} exchanges in {done.name}")
            self._writer = self._file = None
        self._feedback()

    def _feedback(self) -> None:
        """Feedback that is not in the last files: of each, its newest form."""
        self._feedback_looked = time.monotonic()
        cursor = self._directory.cursor
        since = cursor.feedback_at - FEEDBACK_LATE_S
        found = {(each["feedback_id"], each["at"]): each for each in self._source.feedback(since)}
        new = [each for key, each in found.items() if key not in self._given]
        self._given = {key: at for key, at in {**self._given, **{k: k[1] for k in found}}.items() if at >= since}
        if not new:
            return
        file = self._directory.begin("feedback")
        out = FeedbackWriter(self._form, file)
        for each in new:
            out.add(each)
        out.close()
        cursor.feedback += 1
        cursor.feedback_at = max(cursor.feedback_at, *(each["at"] for each in new))
        done = self._directory.finish("feedback", f"feedback-{cursor.feedback:09d}", file)
        self._say(f"{len(new)} ratings in {done.name}")


def follow(
    source: FollowSource,
    to: Path,
    form: FollowForm,
    rotation: FileRotation,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Raises CannotRun."""
    directory = FollowDirectory(to, form)
    try:
        at: Mapping[str, Any] = asdict(directory.cursor.place) if directory.cursor.place else {}
        say(f"continues after {at['id']}" if at else f"begins with the oldest exchange; files in {to}")
        Follower(source, directory, form, rotation, say).run(stop)
    finally:
        directory.close()
