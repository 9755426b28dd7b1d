"""`gateway compare` on files that inspect and lm-eval wrote themselves about SmolLM2, at two temperatures."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from gateway.up import engines

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(engines.missing_packages()), reason="; ".join(engines.missing_packages())),
]
TEMPERATURES = (0.0, 1.5)


@pytest.fixture(scope="module")
def environment(stages: Any) -> Path:
    """The folder of a Python with inspect_ai, lm_eval and this package."""
    place = Path(stages.REAL / "scores")
    if not (place / "installed").exists():
        pytest.skip("inspect and lm-eval are not installed: run `make test-real`")
    return place / "bin"


@pytest.fixture(scope="module")
def model(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A gateway with SmolLM2 behind it: its base URL and its key."""
    folder = tmp_path_factory.mktemp("up")
    command = [sys.executable, "-m", "gateway", "up", "--port", str(stages.free_port())]
    up = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert up.stdout is not None
    printed = ""
    for line in up.stdout:
        printed += line
        if "Ctrl-C stops everything" in line:
            break
    values = dict(re.findall(r"^  (base_url|key) +(\S+)$", printed, re.MULTILINE))
    yield values["base_url"], values["key"]
    up.send_signal(signal.SIGINT)
    up.wait(60)
    up.stdout.close()


def evaluated(environment: Path, model: tuple[str, str], tool: str, folder: Path) -> list[Path]:
    """The files of a tool about both temperatures."""
    base_url, key = model
    found = []
    for temperature in TEMPERATURES:
        place = folder / str(temperature)
        place.mkdir()
        script = str(Path(__file__).with_name("score_tools.py"))
        environ = {**os.environ, "GW_API_KEY": key, "GW_BASE_URL": base_url}
        subprocess.run(
            [str(environment / "python"), script, tool, base_url, str(temperature), str(place)], env=environ, check=True
        )
        found += [path for path in place.rglob("*") if path.suffix == ".eval" or path.name.startswith("results_")]
    assert len(found) == 2
    return found


def compared(environment: Path, files: list[Path], *options: str) -> dict[str, Any]:
    command = [str(environment / "gateway"), "compare", *map(str, files), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == {"ship": 0, "reject": 1, "hold": 2}[found["verdict"]]
    return found


def by_hand(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The paired interval of one look: Tango's for yes or no, Agresti & Min's where half are ties, else t."""
    d = b - a
    n = d.size
    if np.isin(np.abs(d), (0, 1)).all():
        return tango(int((d > 0).sum()), int((d < 0).sum()), n)
    if np.ptp(d) > 0 and 2 * np.count_nonzero(d) > n:
        low, high = stats.ttest_1samp(d, 0.0).confidence_interval(0.95)
        return float(low), float(high)
    total, m = d.sum(), n + 2
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((d**2).sum() + 1 - total**2 / m) / m
    return min(max(-1.0, total / m - half), d.mean()), max(min(1.0, total / m + half), d.mean())


def tango(better: int, worse: int, n: int) -> tuple[float, float]:
    """The ends of the differences that the score test of Tango 1998 (equations 24 to 26) allows."""
    z, value = float(stats.t.ppf(0.975, n - 1) if n < 10 else stats.norm.ppf(0.975)), (better - worse) / n

    def excess(d: float) -> float:
        b = (2 * n - better + worse) * d - better - worse
        q = (math.sqrt(max(0.0, b * b + 8 * n * worse * d * (1 - d))) - b) / (4 * n)
        return (better - worse - n * d) ** 2 - z * z * n * (2 * q + d * (1 - d))

    low = -1.0 if worse == n else optimize.brentq(excess, -1.0, value - 1e-9)
    return low, 1.0 if better == n else optimize.brentq(excess, value + 1e-9, 1.0)


def test_inspects_logs_are_read_by_its_own_reader(environment: Path, model: tuple[str, str], tmp_path: Path) -> None:
    logs = evaluated(environment, model, "inspect", tmp_path)
    found = compared(environment, logs)
    own = []
    for log in logs:
        program = (
            "import json, sys\nfrom inspect_ai.log import read_eval_log\nlog = read_eval_log(sys.argv[1])\n"
            "runs = {}\n"
            "for s in log.samples: runs.setdefault(str(s.id), []).append(float(s.scores['includes'].value == 'C'))\n"
            "print(json.dumps([log.results.scores[0].metrics['accuracy'].value, runs]))\n"
        )
        printed = subprocess.run(
            [str(environment / "python"), "-c", program, str(log)], capture_output=True, check=True
        )
        own.append(json.loads(printed.stdout.splitlines()[-1]))
    assert [m["mean"]["value"] for m in found["models"]] == pytest.approx([accuracy for accuracy, _ in own])
    means = [np.array([np.mean(runs[item]) for item in own[0][1]]) for _, runs in own]
    difference = found["comparisons"][0]["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx(by_hand(*means))
    assert (found["score"], found["items"], found["models"][0]["rows"]) == ("includes", 8, 16)
    assert compared(environment, logs, "--cluster", "metadata.letters")["clusters"] == 4


def test_lm_evals_results_are_read_with_their_samples(
    environment: Path, model: tuple[str, str], tmp_path: Path
) -> None:
    results = evaluated(environment, model, "lm-eval", tmp_path)
    found = compared(environment, results)
    stated = [json.loads(path.read_text())["results"]["capitals"]["exact_match,name"] for path in results]
    assert [m["mean"]["value"] for m in found["models"]] == pytest.approx(stated)
    samples = [next(path.parent.glob("samples_capitals_*.jsonl")).read_text().splitlines() for path in results]
    scores = [{line["doc_id"]: line["exact_match"] for line in map(json.loads, lines)} for lines in samples]
    a, b = (np.array([each[doc] for doc in sorted(scores[0])]) for each in scores)
    difference = found["comparisons"][0]["difference"]
    assert (difference["low"], difference["high"]) == pytest.approx(by_hand(a, b))
    assert found["items"] == 8
    assert compared(environment, results, "--score", "exact_match,name")["models"] == found["models"]
