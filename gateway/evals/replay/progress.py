"""How far a replay is, on a terminal: answers, rate, time left, failures, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.evals.replay.run import ReplayProgress as State


@contextmanager
def bar(console: Console) -> Iterator[Callable[[State], None]]:
    """Draws while the context is open. Only for a console that is a terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[spent]}", markup=False),  # an upstream's words
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task("replay", total=None, rate="", spent="")

        def show(state: State) -> None:
            speed = drawn.tasks[0].speed
            drawn.update(
                task, total=state.total, completed=state.before + state.done,
                rate=f"{speed:.1f}/s" if speed else "", spent=line(state),
            )  # fmt: skip

        yield show


def line(state: State) -> str:
    """Failures and money, where there are any."""
    failed = f"{state.failed} failed, the last: {state.last_error[:80]}" if state.failed else ""
    spent = f"${state.usd:.4f}" if state.usd else ""
    return "  ".join(part for part in (spent, failed) if part)


def every(say: Callable[[str], None]) -> Callable[[State], None]:
    """For a log instead of a terminal: one line for each tenth."""
    told = 0

    def show(state: State) -> None:
        nonlocal told
        tenth = 10 * (state.before + state.done) // max(1, state.total)
        if tenth > told:
            told = tenth
            say(f"{state.before + state.done} of {state.total} answers{('; ' + line(state)) if line(state) else ''}")

    return show
