"""The benchmark works: it starts its systems, measures, reports, and leaves nothing behind. No number is judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("run_bench.py")
PLACES = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin"  # no peer is there
LACKS = [name for name in ("wrk", "nginx") if not shutil.which(name, path=PLACES)]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc"),
    pytest.mark.skipif(bool(LACKS), reason=f"the benchmark needs {' and '.join(LACKS)}: not installed"),
]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The folder in which a benchmark makes its directories. It is not tmp_path, which is too long for a socket's
    path."""
    path = Path(tempfile.mkdtemp(prefix="b"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start(temporary: Path, *options: str, only: str = "plain") -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), "--seconds", "1", "--rounds", "1", "--only", only, *options]
    environ = os.environ | {"PATH": PLACES, "TMPDIR": str(temporary)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


def left(temporary: Path) -> list[str]:
    """Programs that still run in it, and its files."""
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            at = str((process / "cwd").readlink())
        except OSError:  # it has ended, or is not ours
            continue
        if at.startswith(str(temporary)):
            running.append(process.name)
    return running + [path.name for path in temporary.iterdir()]


def test_a_short_run_measures_reports_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    files = {form: tmp_path / f"run.{form}" for form in ("json", "svg", "markdown")}
    with start(temporary, *(word for form, path in files.items() for word in (f"--{form}", str(path)))) as bench:
        out, notes = bench.communicate()

    assert bench.returncode == 0, out + notes
    found: dict[str, Any] = json.loads(files["json"].read_text())
    assert all(found["rows"][0]["medians"][name] > 0 for name in ("gateway", "nginx"))
    assert "target: ≤ 3.8 × nginx" in out
    assert "| plain request | ≤ 3.8 × nginx | " in out
    assert "| memory, idle | ≤ 58 | – | not run |" in out, "the unit is that of the row, which was not measured"
    assert "| plain request, 64 in flight, µs CPU |" in files["markdown"].read_text()
    assert "<svg" in files["svg"].read_text()
    assert not any(str(temporary) in path.read_text() for path in files.values())
    assert left(temporary) == []


def test_shadows_are_asked_of_targets_in_every_state(tmp_path: Path, temporary: Path) -> None:
    file = tmp_path / "run.json"
    with start(temporary, "--json", str(file), only="shadow") as bench:
        out, notes = bench.communicate()

    assert bench.returncode == 0, out + notes
    found: dict[str, Any] = json.loads(file.read_text())
    asked = next(row["medians"] for row in found["rows"] if row["key"] == "shadow_asked")
    assert asked.pop("off again") == 0
    assert sorted(asked) == ["1 in 3 fails", "1 in 3 hangs", "500", "down", "hangs", "healthy"]
    assert all(n > 0 for n in asked.values())
    assert "target: hangs ≤ 1.25 × shadow off" in out
    assert left(temporary) == []


def test_the_phases_of_a_request_are_distinguished(tmp_path: Path, temporary: Path) -> None:
    file = tmp_path / "run.json"
    with start(temporary, "--json", str(file), only="phases") as bench:
        out, notes = bench.communicate()

    assert bench.returncode == 0, out + notes
    rows = {row["label"]: row["medians"] for row in json.loads(file.read_text())["rows"]}
    whole = rows.pop("all phases, without sockets")
    assert {"parse", "route", "upstream", "relay", "record", "settle"} < set(rows)
    assert sum(row["plain"] for row in rows.values()) == pytest.approx(whole["plain"])
    assert rows["parse"]["plain"] > 0


def test_the_requests_of_coding_agents_are_measured(tmp_path: Path, temporary: Path) -> None:
    """Measured at every size and in the mix, plain and streamed, with the delay of other callers, memory and the
    record."""
    file, page = tmp_path / "run.json", tmp_path / "bench.md"
    with start(temporary, "--json", str(file), "--markdown", str(page), only="agent") as bench:
        out, notes = bench.communicate()

    assert bench.returncode in (0, 1), out + notes  # 1: a call was refused, and asked again: the stream server was late
    rows = {row["key"]: row["medians"] for row in json.loads(file.read_text())["rows"]}
    for size in ("103", "570", "5.9", "mix"):
        for kind in ("plain", "stream"):
            assert min(rows[f"agent_{kind}_{size}"][name] for name in ("gateway", "nginx")) > 0
            assert rows[f"agent_{kind}_{size}_redacted"]["gateway"] > 0
    assert rows["agent_beside_p99"]["gateway"] > 0
    assert rows["agent_rss_peak"]["gateway"] >= rows["agent_rss_idle"]["gateway"]
    assert rows["agent_consumer_103"]["gateway"] > 0
    assert rows["agent_rate_50"]["nginx"] > 0
    assert "## Requests of coding agents" in page.read_text()
    assert left(temporary) == []


def test_ctrl_c_ends_all_that_was_started(temporary: Path) -> None:
    with start(temporary) as bench:
        assert bench.stderr is not None
        assert any("warming up" in line for line in bench.stderr)
        bench.send_signal(signal.SIGINT)
        bench.communicate()

    assert bench.returncode == 130
    assert left(temporary) == []
