"""The counts of a process when it was killed: four numbers in a mapped file, which the kernel keeps after the process.

A killed process reports nothing, and its last tally is up to a second old. So it keeps its counts where the next
process on the same data directory finds them: that process appends the number of records, from which the consumer
counts the missing ones, and logs the losses. A crash of the machine leaves no such numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.core.errors import StreamDown
from gateway.core.exchange import Tally
from gateway.proxy.recording.recorder import CountsOfProcess, Recorder, RecordStream
from gateway.runtime.kept_file import KeptFile, files_of_killed, new_kept_file

log = logging.getLogger(__name__)

_FOLDER = "counts"
_NUMBERS = len(CountsOfProcess._fields)
_BYTES = 8 * _NUMBERS
_RETRY_S = 2.0


@contextlib.contextmanager
def kept_counts(data: Path, recorder: Recorder) -> Iterator[None]:
    """Keeps the recorder's counts in a file of the data directory, which is removed when the process has appended all
    of its records and ends. Where the directory cannot be written, they are kept nowhere."""
    try:
        kept, mapped = new_kept_file(data / _FOLDER, recorder.incarnation, _BYTES)
    except OSError as error:
        log.info("counts are not kept for the case that this process is killed: %s", error)
        yield
        return
    view = memoryview(mapped).cast("Q")
    recorder.kept = view
    try:
        yield
    finally:
        recorder.kept = [*view]
        view.release()
        if recorder.waiting == 0:
            kept.forget()


async def report_killed(data: Path, stream: RecordStream) -> None:
    """Reports each process that was killed and left its counts here, once."""
    for kept in files_of_killed(data / _FOLDER):
        if counts := _counts_in(kept):
            await _append(stream, kept.name, counts)
        kept.forget()


async def _append(stream: RecordStream, incarnation: str, counts: CountsOfProcess) -> None:
    log.warning(
        "gateway process %s was killed, or could not append its last records: up to %d records of %d, and the usage of "
        "up to %d calls of %d, are lost; the records that never arrive are counted as gateway_lost",
        incarnation,
        counts.taken - counts.appended,
        counts.taken,
        counts.seen - counts.reported,
        counts.seen,
    )
    tally = Tally(incarnation=incarnation, at=time.time(), last_seq=0, taken=counts.taken)
    while True:
        try:
            await stream.append([tally.to_fields()])
            return
        except StreamDown:
            await asyncio.sleep(_RETRY_S)


def _counts_in(kept: KeptFile) -> CountsOfProcess | None:
    with contextlib.suppress(ValueError, TypeError):
        return CountsOfProcess(*memoryview(kept.read()).cast("Q").tolist()[:_NUMBERS])
    return None
