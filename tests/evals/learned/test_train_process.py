"""The process that trains takes its job from stdin, where no other user of the machine can read it."""

from __future__ import annotations

import subprocess
import sys

import orjson

from gateway.evals.learned.trainer import TrainingJob


def run(job: TrainingJob) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "gateway.evals.learned.train_process"]
    return subprocess.run(argv, input=job.to_json(), capture_output=True, check=False, env={})


def job(store: str) -> TrainingJob:
    return TrainingJob(store, "judge", "judge", 0.05, 0.4, 60, 1000, "1", "c", None, None)


def test_the_outcome_comes_back_as_json(store_url: str) -> None:
    done = run(job(store_url))
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout) == {"rows": 0, "version": "", "seconds": 0.0}


def test_what_cannot_run_is_one_line_for_people() -> None:
    done = run(job("mysql://me@127.0.0.1/x"))
    assert done.returncode == 1
    assert done.stdout == b""
    [line] = done.stderr.splitlines()
    assert b"mysql is not supported" in line
