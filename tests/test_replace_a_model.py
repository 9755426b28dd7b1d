"""docs/replace-a-model.md, from top to bottom: its files are written, and its commands run and say what they should."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.randomization import draw
from gateway.fake import FakeUpstream, Received
from gateway.store.location import default_url
from gateway.store.query import reading
from gateway.up.ports import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "replace-a-model.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


def answer(asked: Received) -> str:
    """Right in 95 % of the questions, and at a high temperature in 70 %; the judge errs in 10 %."""
    body = asked.json
    prompt = str(body["messages"][-1]["content"])
    found = re.search(r"What is (\d+) \+ (\d+)\?", prompt)
    total = sum(map(int, found.groups())) if found else 0
    if body["model"] == "large":
        right = f"It is {total}." in prompt
        errs = draw("judge", prompt[-400:]) < 0.1
        return json.dumps({"reason": "as added", "score": 5 if right != errs else 1})
    share = 0.7 if body.get("temperature") else 0.95
    return f"It is {total if draw('answer', prompt) < share else total + 1}."


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """A reader's directory, the model server of the page, and what is put in place of its addresses."""
    async with FakeUpstream() as models:
        models.replies(answer)
        port = free_port("127.0.0.1", 0)
        yield {
            "path": tmp_path, "port": port, "key": "sk-assay-…",
            "places": {"http://127.0.0.1:8001/v1": models.base_url, "http://127.0.0.1:8000": f"http://127.0.0.1:{port}"},
        }  # fmt: skip


def here(of: dict[str, Any], text: str) -> str:
    for place, instead in of["places"].items():
        text = text.replace(place, instead)
    return text.replace("sk-assay-…", of["key"])


def environ() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "COLUMNS": "200", "PYTHONPATH": modules}


async def ran(of: dict[str, Any], *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=of["path"], env=environ(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode() + err.decode()


async def started(of: dict[str, Any]) -> asyncio.subprocess.Process:
    """`gateway up`, once it has printed its key."""
    command = (sys.executable, "-m", "gateway", "up", "--port", str(of["port"]))
    up = await asyncio.create_subprocess_exec(
        *command, cwd=of["path"], env=environ(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert up.stdout is not None
    async for line in up.stdout:
        if found := re.match(rb"  key +(\S+)", line):
            of["key"] = found[1].decode()
        if b"Ctrl-C stops everything" in line:
            return up
    raise AssertionError("gateway up ended")


async def stored(of: dict[str, Any], n: int) -> None:
    """A reader would take a moment as well: calls are stored behind the answers."""
    async with asyncio.timeout(60):
        while True:
            with reading(default_url(of["path"] / ".gateway")) as connection:
                if connection.exec_driver_sql("SELECT count(*) FROM exchanges").scalar() == n:
                    return
            await asyncio.sleep(0.05)


def filled(path: Path) -> None:
    """The file as a person who can add would fill it in."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        a, b = map(int, re.findall(r"(\d+) \+ (\d+)", row["question"])[-1])
        row["verdict"] = "good" if f"{a + b}." in row["answer"] else "bad"
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


async def test_the_page_leads_from_a_dataset_to_a_corrected_verdict(folder: dict[str, Any]) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed (extra pandas)")
    shown: list[str] = []
    up = None
    try:
        for language, text in BLOCKS:
            if language == "yaml":
                (folder["path"] / "gateway.yaml").write_text(here(folder, text))
                continue
            if "127.0.0.1:8000" in text:
                up = await started(folder)
            if "label import" in text:
                filled(folder["path"] / "sheet.csv")
            program = ("bash", "-euo", "pipefail", "-c") if language == "sh" else (sys.executable, "-c")
            shown.append(await ran(folder, *program, here(folder, text)))
            if "127.0.0.1:8000" in text:
                await stored(folder, 40)
    finally:
        if up is not None:
            up.terminate()
            await up.wait()
    said = dict(zip(("write", "replay", "send", "again", "score", "calibrate", "pandas"), shown, strict=True))
    assert "Reject." in said["replay"]
    assert "On 100 rows of questions.csv, from chat to chat[temperature=1.5]: " in said["replay"]
    assert (folder["path"] / "replay.html").exists()
    assert said["send"].count("chat") >= 3
    assert "40 answers of chat were taken from recorded calls by this run" in said["again"]
    assert "solved: 40 scored" in said["score"] or "0 of 0 calls" in said["score"]
    assert "kappa" in said["calibrate"].lower() or "κ" in said["calibrate"]
    assert "30 labels" in said["calibrate"]
    assert re.search(r"score_number +0\.\d+", said["pandas"])
    assert re.search(r"score_solved +0\.\d+", said["pandas"])
