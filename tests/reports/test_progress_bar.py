"""The progress bar of long work."""

from __future__ import annotations

import io

import pytest
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()], ids=["terminal", "pipe"])
def test_a_bar_on_stderr_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> None:
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("calls") as show:
        show(3, 7)
    assert ("3/7" in stderr.getvalue()) == isinstance(stderr, Terminal)
