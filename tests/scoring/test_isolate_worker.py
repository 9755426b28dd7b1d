"""The child of isolate.py, spoken to as its parent does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from gateway.scoring.isolate import ARGV, HEAD


def frame(data):
    return HEAD.pack(len(data)) + data


def spec(use, **options):
    request = {"name": "s", "use": use, "options": options, "memory_mb": 512, "path": sys.path}
    return frame(orjson.dumps(request))


def frames(data):
    while data:
        (size,) = HEAD.unpack(data[: HEAD.size])
        yield orjson.loads(data[HEAD.size : HEAD.size + size])
        data = data[HEAD.size + size :]


def run(*sent):
    done = subprocess.run(ARGV, input=b"".join(sent), stdout=subprocess.PIPE, timeout=60, env={}, check=False)
    return done.returncode, list(frames(done.stdout))


def test_the_worker_describes_its_scorer_first():
    code, (first,) = run(spec("length"))
    assert (code, first["attributes"]["kind"], first["attributes"]["pairs"]) == (0, "code", False)


def test_the_worker_reports_a_mistake_and_ends():
    code, (first,) = run(spec("lenght"), frame(b"never read"))
    assert code == 0
    assert first["mistakes"][0].startswith('.use: no scorer "lenght"')


def test_without_a_spec_it_ends():
    code, replies = run()
    assert (code != 0, replies) == (True, [])


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux ends a child with its parent")
def test_it_ends_with_its_parent():
    """The parent is killed and can tell it nothing; the child reads, and would wait forever."""
    program = (
        "import subprocess, sys\n"
        "from gateway.scoring.isolate import ARGV\n"
        f"child = subprocess.Popen(ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={{}})\n"
        f"child.stdin.write({spec('length')!r}); child.stdin.flush(); child.stdout.read(4)\n"
        "print(child.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, pass_fds=())
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    ends = time.monotonic() + 10
    while alive(pid) and time.monotonic() < ends:
        time.sleep(0.01)
    assert not alive(pid)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_our_own_pid_is_seen_as_alive():
    assert alive(os.getpid())


def test_processes_that_score_single_answers_load_no_arrays():
    """One starts for each worker of a gateway with guards, and for each isolated scorer."""
    program = "import sys, gateway.scoring.isolate_worker, gateway.features.guards.process; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"numpy", "gateway.config.config", "gateway.config.experiments", "gateway.config.upstreams", "sqlalchemy"}
    assert heavy & set(done.stdout.split()) == set()
