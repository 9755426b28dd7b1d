from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_problem_is_listed_first_and_sets_the_exit_code(gateway: Run) -> None:
    result = gateway("status")
    assert (result.returncode, result.stderr) == (2, "")
    assert result.stdout.splitlines()[1].startswith("! stream server: ")


def test_the_status_is_printed_as_json(gateway: Run) -> None:
    gateway("migrate")
    result = gateway("status", "--json")
    assert result.returncode == 2
    status = json.loads(result.stdout)
    assert status["stream"] is None
    assert status["delivery"]["seen"] == 0
