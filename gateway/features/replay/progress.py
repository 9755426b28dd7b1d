"""Progress of a replay on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from gateway.features.replay.sending.run import ReplayProgress as State
from gateway.reports.progress_bar import progress_bar


@contextmanager
def bar(console: Console) -> Iterator[Callable[[State], None]]:
    """A progress bar while the context is open, and the function that updates it. The console must be a terminal."""
    with progress_bar("replay", console) as show:
        yield lambda state: show(state.before + state.done, state.total, line(state))


def line(state: State) -> str:
    """The cost and the failures so far; "" if there are none."""
    failed = f"{state.failed} failed, the last: {state.last_error[:80]}" if state.failed else ""
    spent = f"${state.usd:.4f}" if state.usd else ""
    return "  ".join(part for part in (spent, failed) if part)


def every(say: Callable[[str], None]) -> Callable[[State], None]:
    """Says one line for each tenth of the answers, for output that is not a terminal."""
    reported = 0

    def show(state: State) -> None:
        nonlocal reported
        tenth = 10 * (state.before + state.done) // max(1, state.total)
        if tenth > reported:
            reported = tenth
            say(f"{state.before + state.done} of {state.total} answers{('; ' + line(state)) if line(state) else ''}")

    return show
