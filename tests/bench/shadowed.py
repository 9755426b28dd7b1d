"""The same gateway with shadows to a target in each state that a target can be in, and load that saturates nobody."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import systems
from load import HOST
from stage import Running, Spot, Stage, System

from gateway import __version__

OFF, HEALTHY, HANGS, FAILS, DOWN = "shadow off", "healthy", "hangs", "500", "down"
CONNECTIONS, PAUSE_MS = 16, (20, 60)  # on average 400 requests a second, less what the answers take
SHARE = 0.2
_DEADLINE_S = 1.0  # a target that hangs is asked again and again, not four times in all


def start(stage: Stage, holds: ExitStack) -> list[Running]:
    """A gateway for each state. holds: closes the ports of the targets that hang or are down."""
    served = stage.start(systems.upstream("plain"))
    ports = {
        OFF: served.port,
        HEALTHY: stage.start(systems.upstream("plain")).port,
        HANGS: _port(holds, listens=True),
        FAILS: stage.start(systems.upstream("failing")).port,
        DOWN: _port(holds, listens=False),
    }
    return [stage.start(_gateway(name, port), served) for name, port in ports.items()]


def _port(holds: ExitStack, *, listens: bool) -> int:
    """Listening, the kernel accepts and nobody answers; bound alone, it refuses, and no other program takes it."""
    sock = holds.enter_context(socket.socket())
    sock.bind((HOST, 0))
    if listens:
        sock.listen(4096)
    return int(sock.getsockname()[1])


def _gateway(name: str, port: int) -> System:
    return replace(systems.gateway(name), version=__version__, argv=partial(_argv, name, port))


def _argv(name: str, port: int, spot: Spot) -> list[str]:
    """Shadows that nothing pauses: no comparison of latencies, and no budget of tokens."""
    config = systems.gateway_config(spot, 0.1)
    control = {"upstream": "up", "model": f"{systems.MODEL}-a"}
    config["models"][systems.MODEL] = {"targets": [control], "timeouts": {"total_s": _DEADLINE_S}}
    config["upstreams"]["shadowed"] = {"kind": "openai", "base_url": f"http://{HOST}:{port}/v1", "api_key": "no"}
    config["experiments"] = {
        "swap": {
            "model": systems.MODEL, "control": control, "candidate": {"upstream": "shadowed", "model": "better"},
            "shadow": SHARE, "repeat_control": 0, "deadline_s": _DEADLINE_S, "budget": {"concurrency": 32},
            "gate": {"latency": False}, "enabled": name != OFF,
        }
    }  # fmt: skip
    shown = config | {"keys": [config["keys"][0], f"… and {systems.KEYS - 1} more"]}
    path = spot.write("gateway.yaml", json.dumps(config), json.dumps(shown, ensure_ascii=False))
    return systems.gateway_argv("serve", "--config", path, "--host", HOST, "--port", str(spot.port))
