"""The progress bar of long work."""

from __future__ import annotations

import io

from rich.console import Console

from gateway.reports.progress_bar import progress_bar


def test_the_bar_shows_counts_and_ignores_markup() -> None:
    drawn = io.StringIO()
    able = {"TERM": "xterm"}  # for any terminal that the tests run in
    console = Console(file=drawn, force_terminal=True, width=160, color_system=None, _environ=able)
    with progress_bar("calls", console) as show:
        show(25, 50, "[red]no[/red]")
    assert "calls" in drawn.getvalue()
    assert "25/50" in drawn.getvalue()
    assert "[red]no[/red]" in drawn.getvalue()
