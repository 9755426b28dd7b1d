"""The progress bar of long work on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ShowProgress(Protocol):
    def __call__(self, done: int, of: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(name: str, console: Console) -> Iterator[ShowProgress]:
    """A bar while the context is open, and the function that updates it. The console must be a terminal."""
    note = TextColumn("{task.fields[note]}", markup=False)  # text of an upstream
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), note)
    with Progress(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task(name, total=None, rate="", note="")

        def show(done: int, of: int, note: str = "") -> None:
            speed = drawn.tasks[0].speed
            drawn.update(task, completed=done, total=of, rate=f"{speed:.1f}/s" if speed else "", note=note)

        yield show
