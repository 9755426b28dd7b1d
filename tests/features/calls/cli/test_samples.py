from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "yesterday"], "Invalid value for --since: 'yesterday'"),
        (["--where", "("], "Invalid value for --where: at 2: expected a comparison"),
    ],
)
def test_an_unreadable_filter_is_a_usage_error(gateway: Run, options: list[str], expected: str) -> None:
    gateway("migrate")
    result = gateway("samples", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in " ".join(result.stderr.split())


def test_an_empty_store_has_no_samples(gateway: Run) -> None:
    gateway("migrate")
    assert json.loads(gateway("samples", "--json").stdout) == []
    missing = gateway("samples", "--id", "nope")
    assert missing.returncode == 1
    assert "no exchange nope in the store" in missing.stderr
