from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_without_a_store_nothing_is_calibrated(gateway: Run) -> None:
    result = gateway("judge", "calibrate", "helpful")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no store at" in result.stderr


def test_a_threshold_outside_0_to_1_is_a_usage_error(gateway: Run) -> None:
    assert gateway("judge", "calibrate", "helpful", "--cut", "2").returncode == 2
