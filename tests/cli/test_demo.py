"""`gateway demo --fast`: the verdict that CI reads, and its exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.demo import verbs


@dataclass(frozen=True)
class Verdict:
    verdict: str


@pytest.mark.parametrize(("verdict", "code"), [("ship", 0), ("ship_except", 0), ("hold", 1), (None, 1)])
def test_fast_fails_where_nothing_ships(monkeypatch: pytest.MonkeyPatch, verdict: str | None, code: int) -> None:
    seen: list[Any] = []

    async def played(options: Any, tell: Any) -> Verdict | None:
        seen.append(options)
        return None if verdict is None else Verdict(verdict)

    monkeypatch.setattr("gateway.demo.demo.demo", played)
    result = CliRunner().invoke(verbs, ["--fast", "--port", "8123"])
    assert (result.exit_code, seen[0].port, seen[0].fast) == (code, 8123, True)
    assert not seen[0].folder.exists(), "its folder is removed at the end"
