"""One process of a user does not read what another has in its memory and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

PROGRAM = """
import os, subprocess
from gateway.runtime.confinement import hide_memory
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may read everything
    __import__("ctypes").CDLL(None).prctl(4, 1, 0, 0, 0)  # a process that changes its user is hidden already
for hide in (lambda: None, hide_memory):
    hide()
    child = subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True)
    print(b"SECRET=sk-1" in child.stdout)
"""


def test_a_child_does_not_read_the_environment_of_a_hidden_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "SECRET": "sk-1"},
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


ROOT_WITHOUT = """
import os, pathlib, subprocess
from gateway.runtime.confinement import drop_capabilities
folder = pathlib.Path(os.environ["FOLDER"])
print(drop_capabilities(), (folder / "others").read_text())
for what in ("Eff", "Prm", "Bnd"):
    found = next(l for l in open("/proc/self/status") if l.startswith(f"Cap{what}"))
    print(int(found.split()[1], 16))
print(subprocess.run(["sh", "-c", "grep CapEff /proc/self/status"], capture_output=True, text=True).stdout.split()[1])
"""


def test_root_without_capabilities_reads_files_and_no_more(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities to drop")
    others = tmp_path / "others"
    others.write_text("text")
    others.chmod(0o600)
    os.chown(others, 65534, 65534)
    done = subprocess.run(
        [sys.executable, "-c", ROOT_WITHOUT],
        capture_output=True,
        text=True,
        env={**os.environ, "FOLDER": str(tmp_path)},
        check=True,
    )
    may_read = 1 << 2
    assert done.stdout.split() == ["True", "text", *[str(may_read)] * 3, f"{may_read:016x}"]
