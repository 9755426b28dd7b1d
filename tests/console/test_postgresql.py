"""Every page on PostgreSQL: the same queries as on SQLite, in a dialect that takes less for granted."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx2
import pytest
from fixtures.console_world import TOKEN, ConsoleWorld, console_world

pytestmark = [pytest.mark.dialect, pytest.mark.timeout(240)]


def further_paths(world: ConsoleWorld) -> list[str]:
    """Pages that the frame does not link to, and lists in their other orders."""
    return [
        f"/console/calls/{world.exchange}", "/console/calls?worst=valid_json", "/console/calls?words=plain&since=24h",
        "/console/calls?where=total_s>0.1+tokens>1&alias=chat&outcome=ok", "/console/runs?worst=valid_json&since=7d",
        "/console/failures/today", "/console/experiments/of/swap", "/console/experiments/new",
        "/console/label/queue?scorer=valid_json", f"/console/keys/key/{world.key}", "/console/system/config",
        "/console/system/dead", f"/console/system/dead/{world.letter}", "/console/system/audit",
    ]  # fmt: skip


def test_every_page_answers(postgres_url: str, tmp_path: Path) -> None:
    with (
        console_world(tmp_path, postgres_url) as world,
        httpx2.Client(base_url=world.url, timeout=60, trust_env=False) as client,
    ):
        assert client.post("/console/login", data={"token": TOKEN}).status_code == 303
        linked = re.findall(r'<li><a href="(/console[^"]*)"', client.get("/console").text)
        assert len(linked) >= 11, linked
        for path in (*linked, *further_paths(world)):
            answer = client.get(path)
            while "refresh" in answer.headers:
                time.sleep(0.01)
                answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text[-2000:])
