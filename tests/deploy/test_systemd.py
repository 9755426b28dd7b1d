"""The units of deploy/systemd, by systemd's own verifier and by its measure of exposure."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

UNITS = {
    "gateway": 2.0,
    "gateway-consumer": 2.0,
    "gateway-console": 2.0,
    "vllm": 5.0,
}  # the most that systemd may call exposed, of 10

verified = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")


def settings(unit: str, deploy: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (deploy / "systemd" / f"{unit}.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def here(unit: str, deploy: Path, tmp_path: Path) -> Path:
    """The unit with programs that are on this machine: the verifier looks for them."""
    text = (deploy / "systemd" / f"{unit}.service").read_text()
    text = re.sub(r"/opt/\w+/bin/\w+", str(Path(sys.executable).with_name("gateway")), text)
    path = tmp_path / f"{unit}.service"
    path.write_text(re.sub(r"(?m)^EnvironmentFile=.*$", "EnvironmentFile=/dev/null", text))
    return path


@verified
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_the_unit(unit: str, deploy: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(here(unit, deploy, tmp_path))]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


@verified
@pytest.mark.parametrize(("unit", "most"), UNITS.items())
def test_it_exposes_little(unit: str, most: float, deploy: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(here(unit, deploy, tmp_path))]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    level = re.search(r"exposure level for \S+: ([\d.]+)", finished.stdout)
    assert level
    assert float(level[1]) <= most


@pytest.mark.parametrize(
    ("unit", "verb"), [("gateway", "serve"), ("gateway-consumer", "evaluate"), ("gateway-console", "console")]
)
def test_the_units_run_our_commands(unit: str, verb: str, deploy: Path, parsed: Callable[[Any], Any]) -> None:
    options = settings(unit, deploy)
    [program, *words] = shlex.split(options["ExecStart"][0])
    assert program == "/opt/gateway/bin/gateway"
    assert words[0] == verb
    assert parsed(words)
    [environment] = options["EnvironmentFile"]
    if verb == "serve":
        assert options["ExecStartPre"] == ["/opt/gateway/bin/gateway check /etc/gateway/gateway.yaml"]
        assert environment == "/etc/gateway/environment"
    else:  # it has not the upstreams' secrets, which `check` demands, and checks the file itself when it starts
        assert "ExecStartPre" not in options
        assert environment == f"-/etc/gateway/{unit.removeprefix('gateway-')}-environment"


def test_the_gateway_may_drain_before_it_is_killed(deploy: Path) -> None:
    from gateway.config.config import Limits

    assert int(settings("gateway", deploy)["TimeoutStopSec"][0]) > Limits().drain_s + 5


def test_vllm_is_told_what_gateway_up_would_tell_it(deploy: Path) -> None:
    [command] = settings("vllm", deploy)["ExecStart"]
    assert shlex.split(command)[1:4] == ["serve", "$MODEL", "--served-model-name"]
    assert "--port 8001" in command, "where the kind vllm is looked for"
