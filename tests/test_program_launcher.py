"""What stands for Python in the tests of a run: forks that look like the program that was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fixtures.program_command import ADDRESS, forked_python, gateway_command, module_command, program_pid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server of verbs needs Linux")


@pytest.fixture(autouse=True)
def address(verb_server_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are started as those of a whole run."""
    monkeypatch.setenv(ADDRESS, verb_server_address)


def ran(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **more)


def test_a_fork_has_the_arguments_environment_and_directory(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.argv, dict(os.environ), os.getcwd(), sys.stdin.read()); sys.exit(3)"
    done = ran(forked_python(program, "a", "b c"), input="said", env={"X": "é"}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("['-c', 'a', 'b c'] {'X': 'é'")
    assert done.stdout.endswith(f"}} {tmp_path} said\n")


def test_a_fork_has_the_modules_of_the_package_already() -> None:
    program = "import sys; print(*('gateway.proxy.serve' in sys.modules, 'gateway.consumer.serve' in sys.modules))"
    assert ran(forked_python(program)).stdout == "True True\n"
    assert ran([forked_python("")[0], "-c", program]).stdout == "False False\n", "Python itself runs it"


def test_a_fork_inherits_open_files_under_their_numbers() -> None:
    ends = [os.pipe() for _ in range(3)]
    numbers = [write for _, write in ends]
    program = "import os, sys; [os.write(int(n), n.encode()) for n in sys.argv[1:]]"
    done = ran(forked_python(program, *map(str, numbers)), pass_fds=numbers)
    for read, write in ends:
        os.close(write)
        with os.fdopen(read) as file:
            assert file.read() == str(write), done.stderr


def test_a_fork_ends_with_its_launcher_and_gets_its_signals() -> None:
    program = "import time; print('begun', flush=True); time.sleep(600)"
    for number in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(forked_python(program), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            pid = program_pid(process.pid)
            assert pid != process.pid
            process.send_signal(number)
            assert process.wait(60) == -number
        ends = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and time.monotonic() < ends:
            time.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()


def test_a_child_of_a_fork_is_a_fork_too(tmp_path: Path) -> None:
    """sys.executable is the launcher in there; in what Python itself runs, it is Python."""
    words = "import subprocess, sys; out = subprocess.run([sys.executable, *{}], capture_output=True, text=True).stdout"
    forked = ran(forked_python(f"{words.format(['-P', '-m', 'gateway', 'version'])}; print(sys.executable, out)"))
    launcher, version = forked.stdout.strip().split(maxsplit=1)
    assert launcher == gateway_command()[0]
    assert version == ran([sys.executable, "-m", "gateway", "version"]).stdout.strip()
    plain = ran(forked_python(words.format(["-c", "import sys; print(sys.executable)"]) + "; print(out)"))
    assert Path(plain.stdout.strip()).samefile(sys.executable)
    assert ran(module_command("gateway.scoring.isolate_worker"), input="").returncode == 1, "there is no spec"


WORKERS = """
import multiprocessing, os, signal
read, _ = os.pipe()
looks = f'''
import os, signal, sys
left = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{name}}")
        and os.stat(f"/proc/self/fd/{{name}}").st_ino == {os.fstat(read).st_ino}]
print("gateway.proxy.serve" in sys.modules, left, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
'''
signal.signal(signal.SIGTERM, lambda *_: None)
worker = multiprocessing.get_context("spawn").Process(target=exec, args=(looks,))
worker.start()
worker.join()
print(worker.exitcode)
"""


def test_a_worker_of_multiprocessing_is_a_fork_with_its_own_files() -> None:
    done = ran(forked_python(WORKERS))
    assert (done.stdout, done.stderr) == ("True [] True\n0\n", "")
