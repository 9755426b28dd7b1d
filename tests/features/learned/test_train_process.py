"""The process that trains takes its job from stdin, where no other user of the machine can read it.

test_upkeep.py has what becomes of one that fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson

from gateway.features.learned.trainer import TrainingJob


def run(job: TrainingJob) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "gateway.features.learned.train_process"]
    return subprocess.run(argv, input=job.to_json(), capture_output=True, check=False, env={})


def job(store: str) -> TrainingJob:
    return TrainingJob(store, "judge", "judge", 0.05, 0.4, 60, 1000, "1", "c", None, None)


def test_the_outcome_comes_back_as_json(tmp_path: Path) -> None:
    done = run(job(f"sqlite:///{tmp_path / 'gateway.db'}"))
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout) == {"rows": 0, "version": "", "seconds": 0.0}
