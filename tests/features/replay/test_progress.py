"""The terminal shows the progress."""

from __future__ import annotations

import io

from rich.console import Console

from gateway.features.replay.progress import bar, every, line
from gateway.features.replay.sending.run import ReplayProgress


def test_a_log_has_one_line_for_each_tenth() -> None:
    notes: list[str] = []
    watch = every(notes.append)
    for done in range(1, 41):
        watch(ReplayProgress(total=50, before=10, done=done))
    assert notes[0] == "11 of 50 answers"
    assert notes[1:] == [f"{n} of 50 answers" for n in (15, 20, 25, 30, 35, 40, 45, 50)]


def test_the_line_names_failures_and_cost() -> None:
    assert line(ReplayProgress(10)) == ""
    state = ReplayProgress(10, failed=2, usd=0.5, last_error="one: HTTP 503: no")
    assert line(state) == "$0.5000  2 failed, the last: one: HTTP 503: no"


def test_the_bar_shows_counts_and_ignores_markup() -> None:
    drawn = io.StringIO()
    able = {"TERM": "xterm"}  # for any terminal that the tests run in
    console = Console(file=drawn, force_terminal=True, width=160, color_system=None, _environ=able)
    with bar(console) as watch:
        watch(ReplayProgress(total=50, before=10, done=15, failed=1, last_error="[red]no[/red]"))
    assert "25/50" in drawn.getvalue()
    assert "1 failed, the last: [red]no[/red]" in drawn.getvalue()
