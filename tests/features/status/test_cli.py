"""`gateway status` and `gateway dead`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from fixtures.json_outputs import conforms

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_problem_is_listed_first_and_sets_the_exit_code(gateway: Run) -> None:
    result = gateway("status")
    assert (result.returncode, result.stderr) == (2, "")
    assert result.stdout.splitlines()[1].startswith("! stream server: ")


def test_the_status_is_printed_as_json(gateway: Run) -> None:
    gateway("migrate")
    result = gateway("status", "--json")
    assert result.returncode == 2
    status = conforms("status", result.stdout)
    assert status["stream"] is None
    assert status["delivery"]["seen"] == 0


@pytest.mark.parametrize("verb", ["replay", "purge"])
@pytest.mark.parametrize("selection", [[], ["1-0", "--all"], ["--reason", "refused", "--all"]])
def test_dead_letters_are_selected_in_exactly_one_way(gateway: Run, verb: str, selection: list[str]) -> None:
    result = gateway("dead", verb, *selection)
    assert (result.returncode, result.stdout) == (2, "")
    assert "give ids, or --reason, or --all" in result.stderr


def test_without_a_stream_server_the_verb_fails_with_its_address(gateway: Run) -> None:
    result = gateway("dead", "list")
    assert (result.returncode, result.stdout) == (1, "")
    assert "stream.sock" in result.stderr
    assert "dead letters are in the stream server" in result.stderr
