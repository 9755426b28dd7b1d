from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
scorers: {size: {use: length}}
"""


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (["--scorers", ","], 2, "give at least one scorer"),
        (["--scorers", "siez"], 1, 'no scorer "siez" in the config; did you mean "size"?'),
        (["--scorers", "size", "--since", "soon"], 2, "'soon' is not a time span"),
        (["--scorers", "size", "--where", "valeu<1"], 2, "valeu"),
        (["--scorers", "size"], 1, "no store at"),
    ],
)
def test_scorers_that_cannot_run_are_named(
    gateway: Run, tmp_path: Path, options: list[str], code: int, expected: str
) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    result = gateway("score", *options)
    assert (result.returncode, result.stdout) == (code, "")
    assert expected in " ".join(result.stderr.split())
    assert not (tmp_path / ".gateway" / "gateway.db").exists()
