"""`gateway groups` as a user runs it, on served and on imported calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import IMPORTED

AS_JSON = b'{"messages":[{"role":"user","content":"a number?"}],"response_format":{"type":"json_object"}}'


@pytest.fixture
def groups(keep: Callable[..., str], exchange: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the verb on a store in which requests for JSON fail, half of them; of others, a thirtieth."""
    now = time.time()
    made = [
        exchange(
            "0" if i % 2 and (i % 4 == 1 or i % 30 == 3) else "1",
            received=now - i,
            **({"request": AS_JSON} if i % 4 < 2 else {}),
        )
        for i in range(600)
    ]
    made += [exchange("1", received=now - i, role=IMPORTED, pi=None, stratum="imported") for i in range(20)]
    (tmp_path / "gateway.yaml").write_text(f"store: {{url: '{keep(made)}'}}\n")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["groups", *words, "--config", str(tmp_path / "gateway.yaml")])

    return run


def test_a_group_is_shown_with_its_figures(groups: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "groups.html"
    done = groups("stated", "--html", str(page))
    assert done.exit_code == 0, done.output
    for said in ("stated: failures in groups", "JSON asked for", "gateway samples --id"):
        assert said in done.stdout
        assert said in page.read_text()
    [found] = conforms("groups", groups("--json").stdout)
    assert (found["scorer"], found["calls"], found["too_few"]) == ("stated", 600, "")
    [group] = found["groups"]
    assert group["rule"] == "JSON asked for"
    assert group["rate"]["low"] < 0.5 < group["rate"]["high"]
    assert group["others"]["high"] < group["rate"]["low"]
    assert len(group["examples"]) == 3


def test_imported_calls_are_looked_at_apart(groups: Callable[..., Any]) -> None:
    done = groups("stated", "--imported")
    assert "Too few to say: 20 calls with 0 failures" in done.stdout
    assert "no scorer gave a call" in groups("--since", "1s", "--cut", "0").stderr


def test_a_span_that_is_none_is_refused(groups: Callable[..., Any]) -> None:
    done = groups("stated", "--since", "soon")
    assert done.exit_code == 2
    assert "is not a time span" in done.stderr
