"""`gateway demo` from the command line: a verdict, its ramp, and an end by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from fixtures.program_command import gateway_command
from servers import free_ports

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_the_demo_ships_except_code_and_takes_over(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = gateway_command("demo", "--port", str(port), "--folder", str(tmp_path / "demo"))
    lines = []
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as program:
        assert program.stderr is not None
        for line in program.stderr:
            lines.append(line)
            if "until Ctrl-C" in line:
                program.send_signal(signal.SIGINT)
    text = "".join(lines)
    assert program.returncode == 0, text
    order = [
        r"watch it in the browser: http://\S+/console/login\?link=",
        "first answer: ",
        r"verdict after [\d\u202f ]+ pairs: small: right in .* Ship, but keep metadata\.kind=code\.",
        r"ship, except code: saves \d+\u202f% of the cost, \$[\d.]+ instead of \$[\d.]+ for 1 000 calls",
        "hours are not covered",
        "the demo agrees: gateway ab promote cheaper --except metadata.kind=code",
        r"small serves 100\u202f% of them, step 3 of 3",
        "gateway up",
        "gateway ab draft UPSTREAM/MODEL --successor CHEAPER --write",
        "gateway ab start NAME",
        "small serves; traffic goes on",
        "stopped",
    ]
    assert re.search("(?s)" + ".*".join(order), text), text
    assert "a call failed" not in text
