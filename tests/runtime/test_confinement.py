"""One process of a user does not read what another has in its memory and environment."""

from __future__ import annotations

import os
import subprocess
import sys

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
