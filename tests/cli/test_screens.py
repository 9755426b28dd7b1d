"""The first screen and `gateway help all`, as functions of the table of verbs."""

from __future__ import annotations

from gateway.cli.screens import lines
from gateway.cli.verb_table import VerbTable


def test_a_narrow_terminal_cuts_summaries_not_names() -> None:
    narrow = list(lines(60, first_screen=False))
    assert all(len(line) <= 60 for line in narrow)
    shown = {line.split()[0] for line in narrow if line.startswith("  ")}
    assert shown == set(VerbTable()) - {"engine"}


def test_every_group_has_verbs_on_both_screens() -> None:
    table = VerbTable()
    for first_screen in (True, False):
        assert all(table.in_groups(first_screen=first_screen).values())
